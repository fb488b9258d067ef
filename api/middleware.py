"""Pure ASGI layers around every request: the last resort, the limits, the request id, the security headers."""

import asyncio
import re
import secrets
import time
from collections.abc import Callable

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import ProblemError, render

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
}
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

log = structlog.get_logger("api")


async def answer_early(problem: ProblemError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answers a problem before any route is asked."""
    request_id = scope.get("state", {}).get("request_id", "-")
    await render(problem, scope["path"][:200], request_id)(scope, receive, send)


class LastResort:
    """Answers 500 for whatever nobody foresaw, keeps the connection, and logs the trace under the request's id.

    It must not re-raise: uvicorn would close the connection, and the client's next request would fail.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except ClientDisconnect:
            pass  # gone before all of its body was here: nobody is left to answer
        except Exception:
            request_id = scope.get("state", {}).get("request_id", "-")
            log.exception("unhandled error", request_id=request_id, path=scope["path"])
            if not started:
                problem = ProblemError(500, "The server failed. The log knows more under this request's id.")
                await answer_early(problem, scope, receive, send)


class RequestContext:
    """Gives every request an id and the security headers, and writes one line of log; no bodies, no tokens."""

    def __init__(self, app: ASGIApp, observe: Callable[[str, str, int, float], None]) -> None:
        self.app, self.observe = app, observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        started, status = time.perf_counter(), 0

        async def labelled(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self.app(scope, receive, labelled)
        finally:
            seconds = time.perf_counter() - started
            self.observe(scope["method"], getattr(scope.get("route"), "path", ""), status, seconds)
            log.info(
                "request",
                request_id=request_id,
                method=scope["method"],
                path=scope["path"][:200],
                status=status,
                ms=round(seconds * 1000, 2),
                peer=(scope.get("client") or ("-",))[0],
                user=scope["state"].get("user", "-"),
            )


class HostCheck:
    """Refuses a Host that is not ours: a page elsewhere could otherwise point its own name at this server."""

    def __init__(self, app: ASGIApp, allowed: list[str]) -> None:
        self.app, self.allowed = app, frozenset(name.lower() for name in allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            hosts = Headers(scope=scope).getlist("host")
            name = re.sub(r":[0-9]*$", "", hosts[0]).lower() if len(hosts) == 1 else ""
            if name not in self.allowed:
                await answer_early(ProblemError(400, "This server does not answer to that Host."), scope, receive, send)
                return
        await self.app(scope, receive, send)


class BodyLimit:
    """Refuses a body that is too large, compressed or too slow before it is parsed; counts bytes, trusts no header."""

    def __init__(self, app: ASGIApp, limit: Callable[[Scope], int], seconds: float) -> None:
        self.app, self.limit, self.seconds = app, limit, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers, limit = Headers(scope=scope), self.limit(scope)
        length = headers.get("content-length", "")
        refusal = None
        if headers.get("content-encoding", "identity") != "identity":
            refusal = ProblemError(415, "Send the body without a content encoding.")
        elif length.isdigit() and int(length) > limit:
            refusal = ProblemError(413, f"The body is larger than {limit:,} bytes.", headers={"Connection": "close"})
        if refusal:
            await answer_early(refusal, scope, receive, send)
            return
        await self.app(scope, self._counted(receive, limit), send)

    def _counted(self, receive: Receive, limit: int) -> Receive:
        seen, deadline, complete = 0, time.monotonic() + self.seconds, False

        async def counted() -> Message:
            nonlocal seen, complete
            if complete:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                raise ProblemError(408, "The body took too long.", headers={"Connection": "close"}) from None
            seen += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if seen > limit:
                raise ProblemError(413, f"The body is larger than {limit:,} bytes.", headers={"Connection": "close"})
            return message

        return counted

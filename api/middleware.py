"""Pure ASGI layers around every request: the last resort, the limits, the request id, the security headers."""

import asyncio
import re
import secrets
import time
from collections.abc import Callable

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import ProblemError, render

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
}
RAW_HEADERS = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
PORT = re.compile(rb":[0-9]*$")
HEALTH = frozenset(("/livez", "/readyz"))
REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")

log = structlog.get_logger("api")


def _values(scope: Scope, name: bytes) -> list[bytes]:
    """All values of a header of the request; a few times as fast as Starlette's `Headers`."""
    return [value for key, value in scope["headers"] if key == name]


async def answer_early(problem: ProblemError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answers a problem before any route is asked."""
    request_id = scope.get("state", {}).get("request_id", "-")
    await render(problem, scope["path"][:200], request_id)(scope, receive, send)


class RequestContext:
    """Around everything: gives a request its id, the answer its headers, the log its line; no bodies, no tokens.

    What nobody foresaw becomes a 500 whose trace is in the log under that id. It is not raised again: uvicorn would
    close the connection, and the client's next request would fail.
    """

    def __init__(self, app: ASGIApp, observe: Callable[[str, str, int, float], None]) -> None:
        self.app, self.observe = app, observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = _values(scope, b"x-request-id")
        request_id = given[0].decode() if given and REQUEST_ID.fullmatch(given[0]) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        started, status = time.perf_counter(), 0

        async def labelled(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message["headers"], (b"x-request-id", request_id.encode())]
                present = {name for name, _ in headers}
                message["headers"] = [*headers, *(item for item in RAW_HEADERS if item[0] not in present)]
            await send(message)

        try:
            await self.app(scope, receive, labelled)
        except ClientDisconnect:
            pass  # gone before all of its body was here: nobody is left to answer
        except Exception:
            log.exception("unhandled error", request_id=request_id, path=scope["path"])
            if not status:
                problem = ProblemError(500, "The server failed. The log knows more under this request's id.")
                await answer_early(problem, scope, receive, labelled)
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
    """Refuses a Host that is not ours: a page elsewhere could otherwise point its own name at this server.

    Balancers ask for health by a machine's address, which nobody can list; what they get says nothing about anyone.
    """

    def __init__(self, app: ASGIApp, allowed: list[str]) -> None:
        self.app, self.allowed = app, frozenset(name.lower().encode() for name in allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in HEALTH:
            hosts = _values(scope, b"host")
            if len(hosts) != 1 or PORT.sub(b"", hosts[0]).lower() not in self.allowed:
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
        limit, refusal = self.limit(scope), None
        length = b"".join(_values(scope, b"content-length"))  # the protocol lets one through
        if any(coding != b"identity" for coding in _values(scope, b"content-encoding")):
            refusal = ProblemError(415, "Send the body without a content encoding.")
        elif length.isdigit() and int(length) > limit:
            refusal = ProblemError(413, f"The body is larger than {limit:,} bytes.", headers={"Connection": "close"})
        if refusal:
            await answer_early(refusal, scope, receive, send)
            return
        await self.app(scope, self._counted(receive, limit), send)

    def _counted(self, receive: Receive, limit: int) -> Receive:
        seen, deadline, complete = 0, asyncio.get_running_loop().time() + self.seconds, False

        async def counted() -> Message:
            nonlocal seen, complete
            if complete:
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise ProblemError(408, "The body took too long.", headers={"Connection": "close"}) from None
            seen += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if seen > limit:
                raise ProblemError(413, f"The body is larger than {limit:,} bytes.", headers={"Connection": "close"})
            return message

        return counted

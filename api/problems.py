"""The one shape that every error leaves in: RFC 9457 `application/problem+json`, and the table of statuses."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.responses import Response

from mlops_core.errors import MLOpsError

MEDIA_TYPE = "application/problem+json"
MAX_ERRORS = 20
MAX_DETAIL = 200
RETRY_AFTER = 5  # seconds, where the error does not know better


@dataclass(frozen=True)
class FieldError:
    """Where in the body something is wrong (a JSON pointer), and what; never the submitted value."""

    pointer: str
    detail: str


class ProblemError(HTTPException):
    """An error on its way out, raised by routes and by the middleware.

    A Starlette exception, because FastAPI turns any other one that is raised while it reads a body into a 400.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        error: str = "",
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(status, detail, headers)
        self.errors, self.error, self.facts = errors, error, facts or {}


def render(problem: ProblemError, instance: str, request_id: str) -> Response:
    """The response of a problem: its type is the status, as RFC 9457 allows with `about:blank`."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(problem.status_code).phrase,
        "status": problem.status_code,
        "detail": problem.detail,
        "instance": instance,
        "request_id": request_id,
        **problem.facts,
    }
    if problem.error:
        body["error"] = problem.error  # what RFC 6749 calls it, for OAuth clients
    if problem.errors:
        shown = problem.errors[:MAX_ERRORS]
        body["errors"] = [
            {"pointer": error.pointer[:MAX_DETAIL], "detail": error.detail[:MAX_DETAIL]} for error in shown
        ]
        body["error_count"] = len(problem.errors)
    headers = {"Cache-Control": "no-store", **(problem.headers or {})}
    return Response(to_json(body), problem.status_code, headers, MEDIA_TYPE)


def answer(request: Request, problem: ProblemError) -> Response:
    return render(problem, request.url.path[:MAX_DETAIL], getattr(request.state, "request_id", "-"))


def pointer_of(location: Sequence[str | int]) -> str:
    """`("body", "instances", 3, "temp")` as `/instances/3/temp`."""
    parts = [str(part).replace("~", "~0").replace("/", "~1") for part in location if part != "body"]
    return "".join(f"/{part}" for part in parts)


def _on_http(request: Request, error: HTTPException, *, routes: Set[tuple[str, str]]) -> Response:
    if isinstance(error, ProblemError):
        return answer(request, error)
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        # Starlette names the methods of the first route with this path only.
        path = getattr(request.scope.get("route"), "path", "")
        headers["Allow"] = ", ".join(sorted(method for method, known in routes if known == path))
    return answer(request, ProblemError(error.status_code, str(error.detail), headers=headers))


def _on_validation(request: Request, error: RequestValidationError) -> Response:
    # `input` and `ctx` hold what was submitted, so only place and message leave.
    errors = [FieldError(pointer_of(item["loc"]), str(item["msg"])) for item in error.errors()]
    return answer(request, ProblemError(422, "The request does not have the declared form.", errors))


def _on_core(request: Request, error: MLOpsError, *, status: int, code: str) -> Response:
    wait = getattr(error, "retry_after", RETRY_AFTER) if status in (429, 503) else None
    headers = {"Retry-After": str(wait)} if wait is not None else {}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return answer(request, ProblemError(status, str(error), headers=headers, error=code))


def install_handlers(
    app: FastAPI, statuses: Mapping[type[MLOpsError], tuple[int, str]], routes: Set[tuple[str, str]]
) -> None:
    """Binds each error class to its status and OAuth code; Starlette finds subclasses by itself."""
    app.add_exception_handler(HTTPException, partial(_on_http, routes=routes))
    app.add_exception_handler(RequestValidationError, _on_validation)  # type: ignore[arg-type]
    for error, (status, code) in statuses.items():
        app.add_exception_handler(error, partial(_on_core, status=status, code=code))

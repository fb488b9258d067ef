"""What routes ask for by type: the caller, the database, the served model."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, TypeVar

from fastapi import Depends, Request, Security
from fastapi.security import SecurityScopes
from pydantic import BaseModel, ValidationError
from sqlalchemy import Engine

from api.admission import Admission
from api.bodies import parse_json
from api.callers import Caller, Callers
from api.metrics import Metrics
from api.openapi import Documents
from api.prediction_log import PredictionLog
from api.problems import FieldError, ProblemError, pointer_of
from api.serving import ModelSlot, Served
from api.sessions import UnauthenticatedError
from api.settings import ApiSettings
from api.tokens import InvalidTokenError, KeyRing

B = TypeVar("B", bound=BaseModel)

MAX_HEADER = 4096
ADMIN, PREDICT = "admin", "predict"
JSON = "application/json"
UTF8 = ("", "charset=utf-8", 'charset="utf-8"')


@dataclass(frozen=True)
class State:
    """Everything that lives as long as the app."""

    settings: ApiSettings
    ring: KeyRing
    engine: Engine
    callers: Callers
    slot: ModelSlot
    admission: Admission
    log: PredictionLog
    metrics: Metrics
    documents: Documents


def unauthorized(sent: bool) -> ProblemError:
    """RFC 6750: no error code when no token was sent, one and the same for every bad one."""
    challenge = 'Bearer error="invalid_token"' if sent else "Bearer"
    return ProblemError(401, "A valid access token is needed.", headers={"WWW-Authenticate": challenge})


async def get_state(request: Request) -> State:
    state: State = request.app.state.api
    return state


def bearer_token(request: Request) -> str:
    """The token of the one Authorization header. Raises ProblemError 401."""
    given = request.headers.getlist("authorization")
    if not given:
        raise unauthorized(sent=False)
    kind, _, token = given[0].partition(" ")
    if len(given) > 1 or kind.lower() != "bearer" or not token or len(given[0]) > MAX_HEADER:
        raise unauthorized(sent=True)
    return token


async def find_caller(request: Request, state: State, *wanted: str) -> Caller:
    """The caller, whose account still exists, is enabled and has the scopes. Raises ProblemError 401, 403."""
    token = bearer_token(request)
    try:
        caller = await state.callers.find(token)
    except (InvalidTokenError, UnauthenticatedError):
        raise unauthorized(sent=True) from None
    request.state.user = caller.user.id
    if any(scope not in caller.user.scopes for scope in wanted):
        scope = " ".join(wanted)
        challenge = f'Bearer error="insufficient_scope", scope="{scope}"'
        raise ProblemError(403, f"The scope '{scope}' is needed.", headers={"WWW-Authenticate": challenge})
    return caller


async def require_caller(
    request: Request, scopes: SecurityScopes, state: Annotated[State, Depends(get_state)]
) -> Caller:
    """`find_caller` for the scopes of a route."""
    return await find_caller(request, state, *scopes.scopes)


async def read_body(request: Request) -> bytes:
    """The body, said to be JSON. Raises ProblemError 415."""
    kind, _, options = request.headers.get("content-type", "").partition(";")
    if kind.strip().lower() != JSON or options.strip().lower() not in UTF8:
        raise ProblemError(415, f"Send the body as {JSON} in UTF-8.")
    return await request.body()


def json_body(model: type[B]) -> Callable[[Request], Awaitable[B]]:
    """A dependency that reads a strict JSON body; behind the caller, so that a stranger's body is never parsed."""

    async def read(request: Request) -> B:
        try:
            return model.model_validate(parse_json(await read_body(request)))
        except ValidationError as error:
            errors = [FieldError(pointer_of(item["loc"]), item["msg"]) for item in error.errors(include_input=False)]
            raise ProblemError(422, "The body does not have the declared form.", errors) from None

    return read


async def get_served(state: Annotated[State, Depends(get_state)]) -> Served:
    """The served model. Raises NoModelError, which becomes 503."""
    return state.slot.require()


StateDep = Annotated[State, Depends(get_state)]
ServedDep = Annotated[Served, Depends(get_served)]
AnyCaller = Annotated[Caller, Security(require_caller)]
PredictCaller = Annotated[Caller, Security(require_caller, scopes=[PREDICT])]
AdminCaller = Annotated[Caller, Security(require_caller, scopes=[ADMIN])]

"""The contract as an OpenAPI 3.1 document: every operation, every status it can answer, the served model's columns.

What it says of the operations stands in `operations.py`.
"""

from collections.abc import Set
from http import HTTPStatus
from typing import Any

from pydantic.json_schema import models_json_schema
from pydantic_core import to_json

from api import schemas
from api.forms import FIELD
from api.model_schemas import answer_schemas, closed, ref, request_schemas
from api.operations import ADMIN, MONITOR, OPEN, OPERATIONS, PARAMETERS, PREDICT, TEXT, Operation
from api.problems import MEDIA_TYPE
from api.samples import Sample, build_sample
from api.serving import Served
from api.uploads import FORM_MEDIA

Tree = dict[str, Any]

TITLE = "mlops"
SCOPES = {
    PREDICT: "ask for predictions",
    MONITOR: "read metrics",
    ADMIN: "manage accounts and models",
}
WHEN = {
    400: "Not a request that this server understands: a foreign Host, a body that cannot be parsed",
    401: "No access token, or one that is not valid",
    403: "The token is valid and not enough",
    404: "There is no such thing",
    408: "The body came too slowly",
    409: "Not in the state that things are in",
    413: "The body is too large, or has too many rows",
    415: "Another content type, or a content encoding",
    422: "The body or a parameter does not have the declared form; `errors` says where",
    429: "Too many attempts; `Retry-After` says when to come back",
    431: "The header is too large",
    500: "The server failed; the log knows more under `request_id`",
    503: "Not now: overloaded, no model yet, or the database or registry is away; see `Retry-After`",
}
TAGS = {
    "predictions": "What the model says, and why",
    "models": "Which model that is",
    "auth": "Tokens, and the caller's own account",
    "accounts": "Who may do what",
    "health": "For balancers and monitors",
}
RETRY = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}}
CHALLENGE = {
    "WWW-Authenticate": {
        "description": "RFC 6750; of `/auth/token` for programs RFC 7617.",
        "schema": {"type": "string"},
    }
}
HEADERS: dict[int, Tree] = {401: CHALLENGE, 403: CHALLENGE, 429: RETRY, 503: RETRY}
REQUESTS = (
    schemas.TokenForm,
    schemas.RevokeForm,
    schemas.NewUser,
    schemas.UserChange,
    schemas.PasswordChange,
    schemas.Rollback,
)
ANSWERS = (
    schemas.TokenAnswer,
    schemas.UserAnswer,
    schemas.UserPage,
    schemas.ModelFacts,
    schemas.ModelEvaluation,
    schemas.OutcomesAnswer,
    schemas.ModelsAnswer,
    schemas.ReloadAnswer,
    schemas.Liveness,
    schemas.Readiness,
    schemas.ProblemAnswer,
    schemas.NotReady,
)
FILES = {"TableFile": {"type": "string", "format": "binary"}, "ScoredFile": {"type": "string", "format": "binary"}}
DESCRIPTION = """Predictions of a registered model, with their reasons.

Log in with **Authorize** (or `POST /auth/token`) and send the access token as `Authorization: Bearer …`.
Every error is `application/problem+json` (RFC 9457); every answer carries an `X-Request-ID`, which the log knows too.
"""


def _problem(status: int) -> Tree:
    phrase = HTTPStatus(status).phrase
    example = {
        "type": "about:blank",
        "title": phrase,
        "status": status,
        "detail": f"{WHEN[status].partition(';')[0]}.",
        "instance": "/v1/predict",
        "request_id": "5f0c1d2e3a4b5c6d",
    }
    content = {MEDIA_TYPE: {"schema": ref("ProblemAnswer"), "example": example}}
    tree: Tree = {"description": f"{phrase}. {WHEN[status]}.", "content": content}
    return {**tree, "headers": HEADERS[status]} if status in HEADERS else tree


def _success(operation: Operation, sample: Sample) -> Tree:
    if not operation.answer:
        return {"description": "Done."}
    schema = {"type": "string"} if TEXT in operation.media else ref(operation.answer)
    content: Tree = {"schema": schema}
    if operation.answer in sample:
        content["example"] = sample[operation.answer]
    return {"description": operation.summary.rstrip("?") + ".", "content": dict.fromkeys(operation.media, content)}


def _body(operation: Operation, sample: Sample) -> Tree:
    content: Tree = {"schema": ref(operation.body)}
    if operation.body in sample:
        content["examples"] = {name: {"value": value} for name, value in sample[operation.body].items()}
    contents = dict.fromkeys(operation.sends, content)
    if FORM_MEDIA in contents:
        contents[FORM_MEDIA] = {"schema": closed({FIELD: ref(operation.body)})}
    return {"required": True, "content": contents}


def _operation(operation: Operation, sample: Sample) -> Tree:
    responses = {str(operation.status): _success(operation, sample)}
    responses |= {str(status): {"$ref": f"#/components/responses/{status}"} for status in operation.statuses}
    if operation.answer == "Readiness":
        content = {MEDIA_TYPE: {"schema": ref("NotReady")}}
        responses["503"] = {
            "description": "No model yet, or the process is ending.",
            "headers": RETRY,
            "content": content,
        }
    tree: Tree = {"operationId": operation.id, "tags": [operation.tag], "summary": operation.summary}
    if operation.text:
        tree["description"] = operation.text
    if operation.parameters:
        tree["parameters"] = [PARAMETERS[name] for name in operation.parameters]
    if operation.body:
        tree["requestBody"] = _body(operation, sample)
    scopes = [operation.scope] if operation.scope else []
    return {**tree, "responses": responses, "security": [] if operation.scope is OPEN else [{"OAuth2": scopes}]}


def _components(served: Served | None, limits: tuple[int, int, int]) -> Tree:
    kinds: list[Any] = [(model, "validation") for model in REQUESTS] + [(model, "serialization") for model in ANSWERS]
    _, fixed = models_json_schema(kinds, ref_template="#/components/schemas/{model}")
    schema = served.predictor.schema if served else None
    flow = {"tokenUrl": "/auth/token", "scopes": SCOPES}
    flows = {"password": {**flow, "refreshUrl": "/auth/token"}, "clientCredentials": flow}
    return {
        "schemas": {**fixed["$defs"], **FILES, **request_schemas(schema, *limits), **answer_schemas(schema)},
        "responses": {str(status): _problem(status) for status in WHEN},
        "securitySchemes": {"OAuth2": {"type": "oauth2", "flows": flows}},
    }


class Documents:
    """The document as bytes, made once per served version."""

    def __init__(self, routes: Set[tuple[str, str]], limits: tuple[int, int, int]) -> None:
        self.operations = {key: operation for key, operation in OPERATIONS.items() if key in routes}
        self.limits = limits
        self._kept: tuple[object, bytes] = None, b""

    def content(self, served: Served | None) -> bytes:
        key = (served.name, served.version, served.predictor.digest) if served else ()
        kept = self._kept
        if kept[0] != key:
            kept = self._kept = key, to_json(self.build(served))
        return kept[1]

    def build(self, served: Served | None) -> Tree:
        """The document as a tree."""
        sample, paths = build_sample(served), dict[str, Tree]()
        for (method, path), operation in self.operations.items():
            paths.setdefault(path, {})[method.lower()] = _operation(operation, sample)
        news = (
            f"\nServed now: version {served.version} of **{served.name}**." if served else "\nNo model is loaded yet."
        )
        return {
            "openapi": "3.1.0",
            "info": {"title": TITLE, "version": "1", "description": DESCRIPTION + news},
            "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
            "paths": paths,
            "components": _components(served, self.limits),
        }

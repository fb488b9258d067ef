"""The operations of the contract, one line each; tests hold the service to it (`test_matrix.py`, `test_fuzz.py`)."""

from dataclasses import dataclass
from typing import Any

from api.schemas import NAME_OR_NOTHING
from api.uploads import CSV_MEDIA, FORM_MEDIA, PARQUET_MEDIA

JSON, FORM, TEXT = "application/json", "application/x-www-form-urlencoded", "text/plain"
TABLES = CSV_MEDIA, PARQUET_MEDIA
OPEN, ANY, PREDICT, MONITOR, ADMIN = None, "", "predict", "monitor", "admin"
# The host, the body's size and encoding, and the header are looked at before any route is.
EVERYWHERE = (400, 413, 415, 431, 500)


@dataclass(frozen=True)
class Operation:
    """One line of the contract; statuses that follow from the rest are not repeated in `errors`."""

    id: str
    tag: str
    summary: str
    scope: str | None
    answer: str = ""  # name of a schema
    body: str = ""
    errors: tuple[int, ...] = ()
    status: int = 200
    media: tuple[str, ...] = (JSON,)
    sends: tuple[str, ...] = (JSON,)
    parameters: tuple[str, ...] = ()
    text: str = ""

    @property
    def statuses(self) -> list[int]:
        """All that can go wrong."""
        found = {*EVERYWHERE, *self.errors}
        found |= {408, 422} if self.body else set()
        found |= {401, 503} if self.scope is not OPEN else set()
        found |= {403} if self.scope else set()
        return sorted(found)


OPERATIONS = {
    ("GET", "/livez"): Operation("read_liveness", "health", "Is the process up?", OPEN, "Liveness"),
    ("GET", "/readyz"): Operation(
        "read_readiness", "health", "Is a verified model loaded?", OPEN, "Readiness", errors=(503,)
    ),
    ("GET", "/metrics"): Operation("read_metrics", "health", "Numbers for Prometheus", MONITOR, "Text", media=(TEXT,)),
    ("POST", "/auth/token"): Operation(
        "create_token",
        "auth",
        "Log in, as a person or a program, or trade a refresh token for a new pair",
        OPEN,
        "TokenAnswer",
        "TokenForm",
        (401, 429, 503),
        sends=(FORM,),
        text="RFC 6749; `error` in a problem is the OAuth code. A refresh token is good once: twice ends the session. "
        "A program sends its account's name and password as `client_credentials`: by HTTP Basic, each form-encoded, or "
        "as `client_id` and `client_secret`. It gets no refresh token.",
    ),
    ("POST", "/auth/revoke"): Operation(
        "revoke_token", "auth", "End a session", OPEN, body="RevokeForm", errors=(503,), sends=(FORM,), text="RFC 7009."
    ),
    ("GET", "/auth/me"): Operation("read_me", "auth", "The account of the token", ANY, "UserAnswer"),
    ("PUT", "/auth/me/password"): Operation(
        "change_password",
        "auth",
        "Change the password",
        ANY,
        body="PasswordChange",
        errors=(403, 429),
        status=204,
        text="Every session of the account ends. A wrong current password is 403.",
    ),
    ("GET", "/admin/users"): Operation(
        "list_users", "accounts", "Accounts by name", ADMIN, "UserPage", errors=(422,), parameters=("limit", "after")
    ),
    ("POST", "/admin/users"): Operation(
        "create_user", "accounts", "Create an account", ADMIN, "UserAnswer", "NewUser", (409,), status=201
    ),
    ("PATCH", "/admin/users/{user_id}"): Operation(
        "change_user",
        "accounts",
        "Enable, disable, give other scopes, or end all sessions",
        ADMIN,
        "UserAnswer",
        "UserChange",
        (404, 409),
        parameters=("user_id",),
        text="Acts on the account's next request. The last enabled admin stays one: 409.",
    ),
    ("DELETE", "/admin/users/{user_id}"): Operation(
        "delete_user",
        "accounts",
        "Delete an account and its sessions",
        ADMIN,
        errors=(404, 409),
        status=204,
        parameters=("user_id",),
    ),
    ("POST", "/v1/predict"): Operation(
        "predict",
        "predictions",
        "Predict",
        PREDICT,
        "PredictAnswer",
        "PredictBody",
        text="Keep an entry's `id` to tell the outcome later. `unusual` names columns whose value training never saw.",
    ),
    ("POST", "/v1/predict/file"): Operation(
        "predict_file",
        "predictions",
        "Predict for every row of a file",
        PREDICT,
        "ScoredFile",
        "TableFile",
        media=TABLES,
        sends=(FORM_MEDIA, *TABLES),
        text="A CSV file in UTF-8, or a Parquet file; the answer is one of the same kind, and has a row for each row, "
        "in the same order: `prediction_id` to tell the outcome later, the table's own id, the answer, `unusual` "
        "columns whose value training never saw, and in `reason` what is wrong with a row that has no answer. An empty "
        "cell is a missing value, columns that the model does not know are passed over. `X-Model` names the version. "
        "An answer that ends without its last chunk is not complete: send the file again.",
    ),
    ("POST", "/v1/explain"): Operation(
        "explain",
        "predictions",
        "Predict, with reasons",
        PREDICT,
        "ExplainAnswer",
        "ExplainBody",
        text="`base_value` plus all `contributions` is the explained answer: the probability of the last of two "
        "classes, of the likeliest of more, or the value.",
    ),
    ("POST", "/v1/outcomes"): Operation(
        "add_outcomes",
        "predictions",
        "Tell what came of predictions",
        PREDICT,
        "OutcomesAnswer",
        "OutcomesBody",
        (404,),
        text="All are stored or none; told again, an outcome replaces the one before. An id of somebody else is 404.",
    ),
    ("POST", "/invocations"): Operation(
        "invoke",
        "predictions",
        "Predict, as MLflow's clients ask",
        PREDICT,
        "InvocationsAnswer",
        "InvocationsBody",
        text="What `mlflow models serve` accepts.",
    ),
    ("GET", "/v1/model"): Operation(
        "read_model", "models", "What a form needs to know of the served model", PREDICT, "ModelFacts"
    ),
    ("GET", "/v1/model/evaluation"): Operation(
        "read_evaluation",
        "models",
        "How good the served model is",
        PREDICT,
        "ModelEvaluation",
        errors=(404,),
        text="Measured once, on rows that it had not seen, beside every baseline. 404 for a version without it.",
    ),
    ("GET", "/v1/models"): Operation("list_models", "models", "All registered versions", ADMIN, "ModelsAnswer"),
    ("POST", "/admin/model/reload"): Operation(
        "reload_model",
        "models",
        "Pick up the champion now",
        ADMIN,
        "ReloadAnswer",
        text="A version that was refused is tried again; `refused` says what is wrong with it.",
    ),
    ("POST", "/admin/model/rollback"): Operation(
        "roll_back_model",
        "models",
        "Go back to the champion before",
        ADMIN,
        "ReloadAnswer",
        "Rollback",
        (409,),
        text="The version that goes is marked as withdrawn. 409 when there is nothing to go back to.",
    ),
}
PARAMETERS: dict[str, dict[str, Any]] = {
    "limit": {
        "name": "limit",
        "in": "query",
        "description": "Accounts on a page.",
        "schema": {"type": "integer", "minimum": 1, "maximum": 100, "default": 100},
    },
    "after": {
        "name": "after",
        "in": "query",
        "description": "`next` of the page before.",
        "schema": {"type": "string", "maxLength": 64, "pattern": NAME_OR_NOTHING},
    },
    "user_id": {
        "name": "user_id",
        "in": "path",
        "required": True,
        "description": "`id` of an account.",
        "schema": {"type": "string"},
    },
}

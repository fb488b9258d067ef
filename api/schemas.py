"""HTTP bodies that are the same for every model; the model's own columns come from its bundle."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

GRANTS: Any = ["password", "client_credentials", "refresh_token"]
NO_NUL = "^[^\\u0000]*$"
NAME = "[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}"
NAME_OR_NOTHING = f"^({NAME})?$"


def _storable(text: str) -> str:
    if "\x00" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("holds a NUL or half of a surrogate pair")
    return text


Text = Annotated[str, AfterValidator(_storable), Field(max_length=2048, json_schema_extra={"pattern": NO_NUL})]
# What the document says of these two is checked by `accounts` and `passwords`.
Name = Annotated[Text, Field(json_schema_extra={"pattern": "^" + NAME + "$", "examples": ["ada"]})]
NewPassword = Annotated[Text, Field(json_schema_extra={"format": "password", "minLength": 15, "maxLength": 1024})]
Password = Annotated[Text, Field(json_schema_extra={"format": "password"})]
Scope = Literal["predict", "monitor", "admin"]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class TokenForm(BaseModel):
    """RFC 6749; fields that a grant does not need stay empty, unknown ones are ignored as the RFC wants."""

    model_config = ConfigDict(hide_input_in_errors=True, json_schema_extra={"required": ["grant_type"]})

    grant_type: Annotated[Text, Field(json_schema_extra={"enum": GRANTS})] = ""
    username: Text = ""
    password: Password = ""
    scope: Text = ""
    refresh_token: Text = ""
    client_id: Text = ""
    client_secret: Password = ""


class RevokeForm(BaseModel):
    """RFC 7009, section 2.1."""

    model_config = ConfigDict(hide_input_in_errors=True, json_schema_extra={"required": ["token"]})

    token: Annotated[Text, Field(json_schema_extra={"minLength": 1})] = ""
    token_type_hint: Text = ""


class TokenAnswer(Body):
    access_token: str
    token_type: Literal["bearer"]
    expires_in: int
    refresh_token: str | SkipJsonSchema[None] = None  # a program gets none: it asks anew
    scope: str


class UserAnswer(Body):
    id: str
    name: str
    scopes: list[str]
    enabled: bool
    created_at: datetime


class NewUser(Body):
    name: Name
    password: NewPassword
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=3)]


class UserChange(Body):
    enabled: bool | None = None
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=3)] | None = None
    end_sessions: bool = False


class PasswordChange(Body):
    current_password: Password
    new_password: NewPassword


class UserPage(Body):
    users: list[UserAnswer]
    next: str | None


class ModelName(Body):
    name: str
    version: int | None


class Rollback(Body):
    reason: Annotated[Text, Field(min_length=1, max_length=500)]


class ReloadAnswer(Body):
    changed: bool
    model: ModelName
    refused: dict[str, str]


class ModelVersion(BaseModel):
    version: int
    registered_at: str = ""
    metrics: dict[str, float | None] = {}
    digest: str = ""
    reason: str = ""
    promoted_at: str = ""
    withdrawn: str = ""


class ModelTarget(Body):
    """What is predicted."""

    name: str
    label: str
    unit: str


class ModelColumn(Body):
    """What a form needs to know of one column; `names` says what people call a category, where that is known."""

    name: str
    type: Literal["number", "integer", "category", "boolean", "datetime", "text"]
    required: bool
    categories: list[str]
    names: dict[str, str]
    low: float | None
    high: float | None
    seen_low: float | None
    seen_high: float | None
    derive: list[str]
    formats: list[str]
    unseen: Literal["flag", "refuse"]
    label: str
    unit: str
    help: str
    example: Any


class ModelFacts(Body):
    """The served model; `example` is one valid instance. A moment that nobody knows is an empty text."""

    name: str
    version: int
    alias: str
    registered_at: str
    promoted_at: str
    title: str
    question: str
    task: Literal["binary", "multiclass", "regression"]
    target: ModelTarget
    columns: list[ModelColumn]
    classes: list[str]
    threshold: float | None
    coverage: float
    metrics: dict[str, float | None]
    importance: dict[str, float]
    example: dict[str, Any]


class Coverage(Body):
    """How often a prediction set or interval is meant to hold the truth, and how often it did."""

    stated: float
    observed: float


class ReliabilityPoint(Body):
    """Rows to which a similar probability was given: its mean, and the share in which the event came."""

    stated: float
    observed: float
    rows: int


class SliceScore(Body):
    """The score on the rows that have this value."""

    slice: str
    value: str
    rows: int
    score: float


class ModelEvaluation(Body):
    """How good the served model was on test rows; each score has its 95 % interval as `_low` and `_high`.

    `card` is Markdown. `reliability` is empty for regression, and the days are null where rows have no time.
    """

    model: ModelName
    metric: Literal["log_loss", "rmse"]
    rows: int
    first_day: str | None
    last_day: str | None
    scores: dict[str, dict[str, float]]
    coverage: Coverage
    reliability: list[ReliabilityPoint]
    slices: list[SliceScore]
    limits: list[str]
    card: str


class OutcomesAnswer(Body):
    stored: int


class Liveness(Body):
    status: Literal["up"]


class ModelState(Body):
    """The served model, and what the service cannot reach; what stands in `refused` is not served.

    `degraded`: somebody should look. Without accounts nobody is let in; without the rest predictions go on. Moments are
    seconds since 1970.
    """

    model: ModelName
    degraded: bool
    refused: dict[str, str]
    alias_missing: bool
    registry_down_since: float | None
    prediction_log_down_since: float | None
    accounts_down_since: float | None


class Readiness(ModelState):
    status: Literal["ready"]


class ModelsAnswer(Body):
    name: str
    alias: str
    served: int | None
    versions: list[ModelVersion]


class FieldProblem(Body):
    pointer: str
    detail: str


class ProblemAnswer(Body):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
    errors: list[FieldProblem] | None = None
    error_count: int | None = None
    error: str | None = None


class NotReady(ProblemAnswer, ModelState):
    """A problem, with the same facts as when it is ready."""

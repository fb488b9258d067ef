"""HTTP bodies that are the same for every model; the model's own columns come from its bundle."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _storable(text: str) -> str:
    if "\x00" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("holds a NUL or half of a surrogate pair")
    return text


Text = Annotated[str, AfterValidator(_storable), Field(max_length=2048)]
Scope = Literal["predict", "monitor", "admin"]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class TokenForm(BaseModel):
    """RFC 6749; fields that a grant does not need stay empty, unknown ones are ignored as the RFC wants."""

    model_config = ConfigDict(hide_input_in_errors=True)

    grant_type: Text = ""
    username: Text = ""
    password: Text = ""
    scope: Text = ""
    refresh_token: Text = ""
    client_id: Text = ""
    client_secret: Text = ""


class TokenAnswer(Body):
    access_token: str
    token_type: Literal["bearer"]
    expires_in: int
    refresh_token: str
    scope: str


class UserAnswer(Body):
    id: str
    name: str
    scopes: list[str]
    enabled: bool
    created_at: datetime


class NewUser(Body):
    name: Text
    password: Text
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=3)]


class UserChange(Body):
    enabled: bool | None = None
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=3)] | None = None


class PasswordChange(Body):
    current_password: Text
    new_password: Text


class UserPage(Body):
    users: list[UserAnswer]
    next: str | None


class FieldProblem(BaseModel):
    pointer: str
    detail: str


class ProblemAnswer(BaseModel):
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

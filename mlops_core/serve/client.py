"""Asks the API over one kept connection, for lessons and tests: what is answered, and how long that takes."""

import base64
import http.client
import json
import select
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import numpy as np

from mlops_core.features import Values, is_missing

JSON, FORM = "application/json", "application/x-www-form-urlencoded"
HINTS = ("www-authenticate", "allow", "retry-after")
REQUEST_ID = "lesson-07"  # the same in every request, so that equal answers have equal bytes
TIMEOUT_SECONDS = 30.0
EARLY_SECONDS = 60.0


@dataclass(frozen=True)
class Answer:
    """One response, and the milliseconds from the first byte sent to the last one read."""

    method: str
    path: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    ms: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def facts(self) -> dict[str, Any]:
        """Status, body and the headers that say what to do next, for a table."""
        return {**self.json, "status": self.status, "header": self.hint}

    @property
    def hint(self) -> str:
        """What its headers tell the client to do."""
        return ", ".join(f"{name}: {self.headers[name]}" for name in HINTS if name in self.headers)


class Client:
    """One caller on one connection; `answers` collects what everybody got who was given the same list."""

    def __init__(self, port: int, answers: list[Answer] | None = None, token: str = "") -> None:
        self.answers: list[Answer] = [] if answers is None else answers
        self.token = token
        self._login, self._renew_at = ("", ""), float("inf")
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)

    def ask(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
        """Sends one request. Raises OSError or HTTPException when no answer comes back."""
        if time.monotonic() > self._renew_at:
            self.log_in(*self._login)
        bearer = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        self._leave_closed_connection()
        started = time.perf_counter()
        try:
            self._connection.request(
                method, path, body or None, {"X-Request-ID": REQUEST_ID, **bearer, **(headers or {})}
            )
            response = self._connection.getresponse()
            data = response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()  # or the next request would be refused here, as if this one still waited
            raise
        ms = (time.perf_counter() - started) * 1000
        found = {name.lower(): value for name, value in response.getheaders()}
        answer = Answer(method, path, response.status, found, data, ms)
        self.answers.append(answer)
        return answer

    def get(self, path: str) -> Answer:
        return self.ask("GET", path)

    def post(self, path: str, tree: Any) -> Answer:
        """Sends a tree as JSON."""
        return self.ask("POST", path, json.dumps(tree, allow_nan=False).encode(), {"Content-Type": JSON})

    def send_form(self, path: str, form: Mapping[str, str]) -> Answer:
        return self.ask("POST", path, urlencode(form).encode(), {"Content-Type": FORM})

    def log_in(self, name: str, password: str) -> Answer:
        """Asks for a token, shows it from now on, and gets a new one before it expires."""
        self._renew_at = float("inf")
        answer = self.send_form("/auth/token", {"grant_type": "password", "username": name, "password": password})
        if answer.status == http.client.OK:
            self.token, self._login = answer.json["access_token"], (name, password)
            self._renew_at = time.monotonic() + answer.json["expires_in"] - EARLY_SECONDS
        return answer

    def close(self) -> None:
        self._connection.close()

    def _leave_closed_connection(self) -> None:
        """A server ends idle connections. Seen before a request is sent, that is no failure of the request."""
        sock = self._connection.sock
        if sock is not None and select.select([sock], [], [], 0)[0]:
            self._connection.close()


def to_instances(columns: Mapping[str, Values]) -> list[dict[str, Any]]:
    """Columns as the rows of a request's body; what is missing becomes null."""
    lists = [[_to_json(value) for value in values] for values in columns.values()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*lists, strict=True)]


def _to_json(value: Any) -> Any:
    if is_missing(value):
        return None
    if isinstance(value, np.datetime64):
        return str(value)
    return value.item() if isinstance(value, np.generic) else value


def numbers_of(predictions: Sequence[Mapping[str, Any]]) -> list[list[float]]:
    """The numbers of an answer: probabilities in the order of the classes, or the value."""
    return [
        list(item["probabilities"].values()) if "probabilities" in item else [item["value"]] for item in predictions
    ]


def tamper(token: str, header: Mapping[str, Any] | None = None, claims: Mapping[str, Any] | None = None) -> str:
    """A token with other content under its old signature: what somebody tries who has no key."""
    parts = token.split(".")
    for place, changes in enumerate((header, claims)):
        tree = json.loads(base64.urlsafe_b64decode(parts[place] + "=="))
        text = json.dumps({**tree, **(changes or {})}, separators=(",", ":"))
        parts[place] = base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()
    return ".".join(parts)

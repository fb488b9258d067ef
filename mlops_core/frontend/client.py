"""Asks the API for the page: keeps the token in memory alone, renews it, and turns every failure into an ApiError."""

import asyncio
import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import httpx2

from mlops_core.errors import MLOpsError

API_URL = "http://127.0.0.1:8000"
TIMEOUT = httpx2.Timeout(10.0, connect=3.0)
FILE_TIMEOUT = httpx2.Timeout(120.0, connect=3.0)
EARLY_SECONDS = 30.0  # a token is renewed before it expires under somebody's hands

Kind = Literal[
    "missing", "down", "slow", "not ready", "signed out", "refused", "forbidden", "invalid", "busy", "broken"
]
KINDS: Mapping[int, Kind] = {
    400: "invalid",
    401: "signed out",
    403: "forbidden",
    404: "missing",
    413: "invalid",
    415: "invalid",
    422: "invalid",
    429: "busy",
    503: "not ready",
}
SIGN_IN_KINDS: Mapping[str, Kind] = {"invalid_grant": "refused", "invalid_scope": "forbidden"}  # RFC 6749


class ApiError(MLOpsError):
    """The API did not do what was asked; `kind` says what that means for a person."""

    def __init__(
        self,
        kind: Kind,
        detail: str = "",
        reference: str = "",
        wait_seconds: float = 0.0,
        fields: Mapping[str, str] | None = None,
        code: str = "",
    ) -> None:
        self.kind, self.detail, self.reference, self.wait_seconds = kind, detail, reference, wait_seconds
        self.fields, self.code = dict(fields or {}), code
        super().__init__(detail or kind)


@dataclass
class _Session:
    """What the API gave at sign-in. It is never shown, written or logged."""

    name: str
    access: str
    refresh: str
    renew_at: float


def api_url() -> str:
    """`MLOPS_API_URL`, or the address that `make serve` listens on."""
    return os.environ.get("MLOPS_API_URL", "").rstrip("/") or API_URL


def _problem(response: httpx2.Response) -> ApiError:
    try:
        tree = response.json()
    except ValueError:
        tree = {}
    if not isinstance(tree, dict):
        tree = {}
    fields = {
        str(item.get("pointer", "")): str(item.get("detail", ""))
        for item in tree.get("errors") or []
        if isinstance(item, dict)
    }
    wait = response.headers.get("retry-after", "")
    return ApiError(
        KINDS.get(response.status_code, "broken"),
        str(tree.get("detail", "")),
        str(tree.get("request_id", "") or response.headers.get("x-request-id", "")),
        float(wait) if wait.isdigit() else 0.0,
        fields,
        str(tree.get("error", "")),
    )


class Api:
    """One visitor's way to the API. Every method raises ApiError."""

    def __init__(self, url: str = "") -> None:
        self.url = url or api_url()
        # The environment's proxies are for the world outside; the API is a neighbour.
        self._http = httpx2.AsyncClient(base_url=self.url, timeout=TIMEOUT, trust_env=False)
        self._session: _Session | None = None
        self._renewing = asyncio.Lock()

    @property
    def user(self) -> str:
        """Who is signed in, or nothing."""
        return self._session.name if self._session else ""

    async def sign_in(self, name: str, password: str) -> None:
        """A wrong name or password is of the kind `refused`, an account that may not predict `forbidden`."""
        form = {"grant_type": "password", "username": name, "password": password, "scope": "predict"}
        try:
            answer = await self._send("POST", "/auth/token", data=form)
        except ApiError as error:
            if error.code in SIGN_IN_KINDS:
                error.kind = SIGN_IN_KINDS[error.code]
            raise
        self._keep(name, answer.json())

    async def sign_out(self) -> None:
        """Forgets the tokens at once, and tells the API to."""
        session, self._session = self._session, None
        if session:
            with contextlib.suppress(ApiError):
                await self._send("POST", "/auth/revoke", data={"token": session.refresh})

    async def is_ready(self) -> bool:
        """Whether a model can be asked. Never raises."""
        with contextlib.suppress(ApiError):
            await self._send("GET", "/readyz")
            return True
        return False

    async def model(self) -> dict[str, Any]:
        """What the form and the page need to know of the served model."""
        facts: dict[str, Any] = (await self._ask("GET", "/v1/model")).json()
        return facts

    async def evaluation(self) -> dict[str, Any]:
        """How good the served model is, for the page about it."""
        tree: dict[str, Any] = (await self._ask("GET", "/v1/model/evaluation")).json()
        return tree

    async def explain(self, instance: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to one row, with its reasons, and the version that gave it."""
        tree = (await self._ask("POST", "/v1/explain", json={"instances": [instance]})).json()
        return {**tree["predictions"][0], "version": tree["model"]["version"]}

    async def predict(self, instances: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """An answer for each row."""
        answers: list[dict[str, Any]] = (
            await self._ask("POST", "/v1/predict", json={"instances": list(instances)})
        ).json()["predictions"]
        return answers

    async def score_file(self, content: bytes, media: str) -> bytes:
        """A whole table, answered by one of the same kind."""
        headers = {"Content-Type": media}
        response = await self._ask("POST", "/v1/predict/file", content=content, headers=headers, timeout=FILE_TIMEOUT)
        return response.content

    async def close(self) -> None:
        await self._http.aclose()

    async def _ask(self, method: str, path: str, **what: Any) -> httpx2.Response:
        if self._session is None:
            raise ApiError("signed out")
        if time.monotonic() > self._session.renew_at:
            await self._renew(self._session)
        used = self._session
        try:
            return await self._send(method, path, token=used.access, **what)
        except ApiError as error:
            if error.kind != "signed out":
                raise
        await self._renew(used)
        return await self._send(method, path, token=self._session.access, **what)

    async def _renew(self, old: _Session) -> None:
        """A refresh token is good once: whoever comes second takes what the first one got."""
        async with self._renewing:
            if self._session is None:
                raise ApiError("signed out")
            if self._session is not old:
                return
            form = {"grant_type": "refresh_token", "refresh_token": old.refresh}
            try:
                answer = await self._send("POST", "/auth/token", data=form)
            except ApiError as error:
                if error.kind in ("signed out", "invalid"):
                    self._session = None
                    error.kind = "signed out"
                raise
            self._keep(old.name, answer.json())

    def _keep(self, name: str, tree: Mapping[str, Any]) -> None:
        renew_at = time.monotonic() + max(0.0, float(tree["expires_in"]) - EARLY_SECONDS)
        self._session = _Session(name, tree["access_token"], tree["refresh_token"], renew_at)

    async def _send(self, method: str, path: str, token: str = "", **what: Any) -> httpx2.Response:
        headers = dict(what.pop("headers", {}))
        if token:
            headers["Authorization"] = f"Bearer {token}"
        try:
            response = await self._http.request(method, path, headers=headers, **what)
        except httpx2.TimeoutException:
            raise ApiError("slow") from None
        except (httpx2.HTTPError, httpx2.InvalidURL):
            raise ApiError("down") from None
        if response.status_code >= 400:
            raise _problem(response)
        return response

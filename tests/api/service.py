"""The whole service inside the test's process: real database, real bundle, a folder for a registry."""

import asyncio
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient
from pwdlib.hashers.argon2 import Argon2Hasher
from pydantic import SecretStr
from tables import make_evaluation

from api.accounts import create_user
from api.app import create_app
from api.serving import ModelSlot
from api.settings import ApiSettings

PASSWORD = "seven horses walk home"
JSON = {"content-type": "application/json"}
# Production's parameters cost a third of a second a piece.
CHEAP = Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1)


@dataclass
class Folder:
    """A registry that is a folder per version; `alias` is the champion, None before the first."""

    bundles: dict[int, Path]
    alias: int | None = 1
    facts: dict[str, Any] = field(default_factory=lambda: {"evaluation": make_evaluation()})
    down: bool = False
    fetched: list[int] = field(default_factory=list)

    def champion(self, _name: str, _alias: str) -> int | None:
        if self.down:
            raise ConnectionError("registry")
        return self.alias

    def fetch(self, _name: str, version: int, target: Path) -> dict[str, Any]:
        self.fetched.append(version)
        shutil.copytree(self.bundles[version], target)
        return {"metrics": {"log_loss": version / 10}, **self.facts}

    def versions(self, _name: str) -> list[dict[str, Any]]:
        return [{"version": version} for version in sorted(self.bundles, reverse=True)]

    def roll_back(self, _name: str, _reason: str) -> int:
        self.alias = 1
        return 1

    def close(self) -> None:
        pass


@dataclass
class Service:
    """A running service with its parts at hand."""

    client: TestClient
    slot: ModelSlot
    registry: Folder

    @property
    def engine(self) -> Any:
        return self.client.app.state.api.engine  # type: ignore[attr-defined]

    def account(self, name: str, *scopes: str) -> str:
        return asyncio.run(create_user(self.engine, name, PASSWORD, scopes)).id

    def login(self, name: str, password: str = PASSWORD, **more: str) -> Any:
        form = {"grant_type": "password", "username": name, "password": password, **more}
        return self.client.post("/auth/token", data=form)

    def bearer(self, name: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.login(name).json()['access_token']}"}


@contextmanager
def starting(folder: Path, bundles: dict[str, Path]) -> Iterator[Callable[..., Service]]:
    """Starts a service on a bundle; all are stopped in the end."""
    opened = []

    def start(
        task: str = "binary", place: str = "serving", loaded: bool = True, settings: Any = None, **registry: Any
    ) -> Service:
        registry.setdefault("facts", {"evaluation": make_evaluation(task)})
        source = Folder({1: bundles[task], **registry.pop("bundles", {})}, **registry)
        slot = ModelSlot("small", "champion", folder / place, source)
        more = {"jwt_secret": SecretStr(secrets.token_urlsafe(48)), "allowed_hosts": ["testserver"], **(settings or {})}
        client = TestClient(create_app(ApiSettings(**more), folder, slot))
        client.__enter__()
        opened.append(client)
        if loaded:
            slot.refresh()
        return Service(client, slot, source)

    yield start
    for client in opened:
        client.__exit__(None, None, None)


def problem(response: Any, status: int) -> dict[str, Any]:
    """The problem that a response must be."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["status"] == status
    assert {"type", "title", "detail", "instance", "request_id"} <= set(body)
    assert body["request_id"] == response.headers["x-request-id"]
    return body


def example(service: Service, headers: dict[str, str]) -> dict[str, Any]:
    row: dict[str, Any] = service.client.get("/v1/model", headers=headers).json()["example"]
    return row

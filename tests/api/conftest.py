"""Databases for the accounts store: SQLite, and the real PostgreSQL of tests/conftest.py."""

import asyncio
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import argon2
import pytest
from pwdlib import PasswordHash
from server import PASSWORD, Running, make_root, running
from service import CHEAP, Service, starting
from sqlalchemy import Engine, create_engine, make_url

from api import passwords
from api.accounts import create_user
from api.migrations import migrate
from api.records import Record
from mlops_core.database import open_engine


@pytest.fixture
def make_database(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """Addresses of new, empty databases; the SQLite file does not exist yet."""

    def make(backend: str) -> str:
        name = f"db_{uuid.uuid4().hex}"
        if backend == "sqlite":
            return f"sqlite:///{tmp_path / name}.db"
        server = request.getfixturevalue("postgres")
        engine = create_engine(server, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
        engine.dispose()
        return make_url(server).set(database=name).render_as_string(hide_password=False)

    return make


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("migrated")
    migrate(f"sqlite:///{folder / 'accounts.db'}", folder)
    return folder / "accounts.db"


@pytest.fixture(scope="session")
def migrated_postgres(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    migrate(postgres, tmp_path_factory.mktemp("locks"))
    return postgres


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A migrated store without users, on each database in turn."""
    if request.param == "postgresql":
        url: str = request.getfixturevalue("migrated_postgres")
        engine = create_engine(url)
        with engine.begin() as connection:
            for table in reversed(Record.metadata.sorted_tables):
                connection.execute(table.delete())
        engine.dispose()
        return url
    shutil.copy(request.getfixturevalue("migrated_file"), tmp_path / "accounts.db")
    return f"sqlite:///{tmp_path / 'accounts.db'}"


@pytest.fixture
def engine(database_url: str, cheap_hashing: None) -> Iterator[Engine]:
    engine = open_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def cheap_hashing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "HASHER", PasswordHash((CHEAP,)))


@pytest.fixture
def argon2_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by one entry whenever argon2 really works."""
    calls: list[str] = []
    for name in ("hash", "verify"):
        original = getattr(argon2.PasswordHasher, name)

        def counted(*args: Any, name: str = name, original: Any = original, **kwargs: Any) -> Any:
            calls.append(name)
            return original(*args, **kwargs)

        monkeypatch.setattr(argon2.PasswordHasher, name, counted)
    return calls


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, bundles: dict[str, Path]) -> Path:
    """A project with a model, and the accounts ada (predict), eve (predict) and root (admin). Copy it."""
    root = make_root(tmp_path_factory.mktemp("projects") / "prepared", bundles["binary"])
    url = f"sqlite:///{root / '.mlops' / 'accounts.db'}"
    migrate(url, root / ".mlops")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "HASHER", PasswordHash((CHEAP,)))
        engine = open_engine(url)
        for name, scopes in {"ada": ["predict"], "eve": ["predict"], "root": ["admin", "predict"]}.items():
            asyncio.run(create_user(engine, name, PASSWORD, scopes))
        engine.dispose()
    return root


@pytest.fixture
def project(prepared: Path, tmp_path: Path) -> Path:
    """A copy of the prepared project."""
    return Path(shutil.copytree(prepared, tmp_path / "project"))


@pytest.fixture
def serve(tmp_path: Path, bundles: dict[str, Path], cheap_hashing: None) -> Iterator[Callable[..., Service]]:
    """Starts a service inside this process; all are stopped in the end."""
    with starting(tmp_path, bundles) as start:
        yield start


@pytest.fixture
def service(serve: Callable[..., Service]) -> Service:
    """A service with the accounts ada (predict) and root (admin, predict)."""
    started = serve()
    started.account("ada", "predict")
    started.account("root", "admin", "predict")
    return started


@pytest.fixture(scope="module")
def served(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server that the tests of a module share."""
    root = Path(shutil.copytree(prepared, tmp_path_factory.mktemp("served") / "project"))
    with running(root, "/readyz") as server:
        yield server

"""Outages of a real database: each takes an engine, and lasts as long as its block."""

import contextlib
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Engine, create_engine, event, make_url, text

from mlops_core.database import sqlite_file


@contextlib.contextmanager
def moved(engine: Engine) -> Iterator[None]:
    file = sqlite_file(str(engine.url))
    assert file
    aside = file.rename(file.with_suffix(".aside"))
    yield
    aside.rename(file)


LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.readline()
"""


@contextlib.contextmanager
def locked(engine: Engine) -> Iterator[None]:
    if engine.dialect.name == "postgresql":
        other = create_engine(engine.url)
        with other.begin() as connection:
            connection.execute(text("LOCK TABLE mlops_predictions IN ACCESS EXCLUSIVE MODE"))
            yield
        other.dispose()
        return
    command = [sys.executable, "-c", LOCK, str(sqlite_file(str(engine.url)))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "locked\n"
        yield
        process.communicate("\n")


@contextlib.contextmanager
def with_pragma(engine: Engine, pragma: str) -> Iterator[None]:
    """New connections get a pragma; those that are open are closed before and after."""

    def prepare(connection: sqlite3.Connection, record: Any) -> None:
        connection.execute(f"PRAGMA {pragma}").close()

    event.listen(engine, "connect", prepare)
    engine.dispose()
    yield
    event.remove(engine, "connect", prepare)
    engine.dispose()


def maintain(engine: Engine, server: str, *statements: str) -> None:
    """Runs statements about a database, and ends all connections to it."""
    name = engine.url.database
    admin = create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(f"ALTER DATABASE {name} {statement}")
        ends = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = :name"
        connection.execute(text(ends), {"name": name})
    admin.dispose()


@contextlib.contextmanager
def altered(engine: Engine, before: str, after: str) -> Iterator[None]:
    server = str(make_url(engine.url).set(database="postgres").render_as_string(hide_password=False))
    maintain(engine, server, before)
    yield
    maintain(engine, server, after)

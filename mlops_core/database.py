"""SQLite and SQLAlchemy plumbing that several stores share: addresses, engines, and making a store exactly once."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DisconnectionError

SQLITE = "sqlite:///"
LOCK_SECONDS = 120
BUSY_SECONDS = 5
CONNECT_SECONDS = 5
POOL_SECONDS = 5
# The waiting time first: without it the switch to WAL gives up at once when another process is writing.
PRAGMAS = (f"busy_timeout={BUSY_SECONDS * 1000}", "journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON")
BEGIN_OPTION = "sqlite_begin"


def sqlite_file(url: str) -> Path | None:
    """The file behind a SQLite address; None for any other database."""
    return Path(url.removeprefix(SQLITE)) if url.startswith(SQLITE) else None


@contextmanager
def store_lock(url: str, folder: Path) -> Iterator[None]:
    """Held while a store is made: four processes that migrate one fresh database at a time break it."""
    folder.mkdir(parents=True, exist_ok=True)
    file = sqlite_file(url)
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
    name = (file.stem if file else "store") + ".lock"
    with FileLock(folder / name, timeout=LOCK_SECONDS):
        yield


def create_once(url: str, folder: Path, create: Callable[[], None]) -> None:
    """Runs `create`, which must be harmless when the store exists, while no other process does."""
    with store_lock(url, folder):
        create()


def create_private_file(url: str) -> None:
    """Makes the empty file of a SQLite address, for its owner only; SQLite gives its side files the same mode."""
    file = sqlite_file(url)
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600, exist_ok=True)


def open_engine(url: str) -> Engine:
    """An engine that connects on first use, and whose errors never show the values of a statement.

    Every transaction on SQLite starts as a writer (BEGIN IMMEDIATE): one that reads first and then wants to write
    fails at once with "database is locked", whatever the busy timeout is. `reading` opts out of that.
    The file must exist (`create_private_file`).
    """
    file = sqlite_file(url)
    if file:
        return _open_sqlite(url, file.absolute())
    timeout = {"connect_timeout": CONNECT_SECONDS} if url.startswith("postgresql") else {}
    return create_engine(url, connect_args=timeout, hide_parameters=True, pool_pre_ping=True, pool_timeout=POOL_SECONDS)


def reading(engine: Engine) -> Engine:
    """The same engine and pool, for transactions that only read: on SQLite they need not wait for a writer."""
    return engine.execution_options(**{BEGIN_OPTION: "DEFERRED"})


def _open_sqlite(url: str, file: Path) -> Engine:
    def connect() -> sqlite3.Connection:
        # mode=rw: a file that was moved away is an outage, not the start of an empty store.
        # isolation_level=None: Python's module would begin transactions by itself, and deferred ones.
        address = f"{file.as_uri()}?mode=rw"
        return sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)

    def prepare(connection: sqlite3.Connection, record: Any) -> None:
        for pragma in PRAGMAS:
            connection.execute(f"PRAGMA {pragma}").close()
        record.info["inode"] = _inode(file)

    def check_file(connection: sqlite3.Connection, record: Any, proxy: Any) -> None:  # noqa: ARG001  an event's signature
        # An open connection follows a file that is renamed or replaced, and would answer from the old one for ever.
        if record.info["inode"] != _inode(file):
            raise DisconnectionError

    def begin(connection: Connection) -> None:
        mode = connection.get_execution_options().get(BEGIN_OPTION, "IMMEDIATE")
        connection.exec_driver_sql(f"BEGIN {mode}")

    engine = create_engine(url, creator=connect, hide_parameters=True, pool_timeout=POOL_SECONDS)
    event.listen(engine, "connect", prepare)
    event.listen(engine, "checkout", check_file)
    event.listen(engine, "begin", begin)
    return engine


def _inode(file: Path) -> int | None:
    try:
        return file.stat().st_ino
    except OSError:
        return None

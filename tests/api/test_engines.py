"""`open_engine` on both databases: how transactions start, and what an outage looks like."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.exc import IntegrityError, OperationalError

from api.records import AccountsUnavailableError, ThrottleRecord, reading, utc_now, writing
from mlops_core import database
from mlops_core.database import create_private_file, open_engine

THREADS = 8
TRANSACTIONS = 40


@pytest.fixture
def sqlite_engine(tmp_path: Path) -> Iterator[Engine]:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    create_private_file(url)
    engine = open_engine(url)
    yield engine
    engine.dispose()


@pytest.fixture
def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "PRAGMAS", ("busy_timeout=50", *database.PRAGMAS[1:]))


def in_threads(work: Callable[[int], None], count: int = THREADS) -> None:
    failures: list[BaseException] = []
    barrier = threading.Barrier(count)

    def guarded(number: int) -> None:
        barrier.wait()
        try:
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_320_transactions_that_read_before_they_write_lose_nothing(engine: Engine) -> None:
    with writing(engine) as session:
        session.add(ThrottleRecord(key="k", failures=0, first_at=utc_now()))

    def work(number: int) -> None:
        for _ in range(TRANSACTIONS):
            with writing(engine) as session:
                record = session.scalars(select(ThrottleRecord).with_for_update()).one()
                record.failures += 1

    in_threads(work)
    with reading(engine) as session:
        assert session.scalars(select(ThrottleRecord.failures)).one() == THREADS * TRANSACTIONS


def test_who_reads_need_not_wait_for_who_writes(engine: Engine, short_wait: None) -> None:
    with writing(engine) as writer:
        writer.add(ThrottleRecord(key="k", failures=0, first_at=utc_now()))
        writer.flush()
        with reading(engine) as reader:
            assert reader.scalars(select(ThrottleRecord)).all() == []
    with reading(engine) as reader:
        assert len(reader.scalars(select(ThrottleRecord)).all()) == 1


def test_a_failed_transaction_leaves_nothing(engine: Engine) -> None:
    def fail() -> None:
        with writing(engine) as session:
            session.add(ThrottleRecord(key="k", failures=0, first_at=utc_now()))
            session.flush()
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        fail()
    with reading(engine) as session:
        assert session.scalars(select(ThrottleRecord)).all() == []


@pytest.mark.parametrize(
    ("pragma", "value"), [("journal_mode", "wal"), ("synchronous", 1), ("busy_timeout", 5000), ("foreign_keys", 1)]
)
def test_each_sqlite_connection_has_its_settings(sqlite_engine: Engine, pragma: str, value: object) -> None:
    readers = database.reading(sqlite_engine)
    with readers.connect() as first, readers.connect() as second:
        for connection in (first, second):
            assert connection.exec_driver_sql(f"PRAGMA {pragma}").scalar() == value


def test_a_missing_sqlite_file_is_never_made_up(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'none.db'}")
    with pytest.raises(OperationalError), engine.connect():
        pass
    assert list(tmp_path.iterdir()) == []
    engine.dispose()


@pytest.mark.parametrize("replacement", [None, b"", b"no database, only text of some length" * 100])
def test_a_file_that_is_moved_away_is_an_outage_until_it_returns(
    sqlite_engine: Engine, tmp_path: Path, replacement: bytes | None
) -> None:
    with sqlite_engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (x)")
    sqlite_engine.dispose()  # moves the table from the write-ahead log into the file
    with reading(sqlite_engine) as session:
        session.connection()
    file, aside = tmp_path / "store.db", tmp_path / "aside.db"
    file.rename(aside)
    if replacement is not None:
        file.write_bytes(replacement)
    with pytest.raises(AccountsUnavailableError), reading(sqlite_engine) as session:
        session.connection().exec_driver_sql("SELECT * FROM t")
    assert file.exists() == (replacement is not None)
    aside.replace(file)
    with reading(sqlite_engine) as session:
        assert session.connection().exec_driver_sql("SELECT * FROM t").all() == []


def test_a_writer_waits_its_time_and_then_reports_an_outage(
    sqlite_engine: Engine, tmp_path: Path, short_wait: None
) -> None:
    other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    other.execute("PRAGMA journal_mode=WAL").close()
    other.execute("BEGIN IMMEDIATE").close()
    with pytest.raises(AccountsUnavailableError), writing(sqlite_engine) as session:
        session.connection()
    other.execute("COMMIT").close()
    other.close()
    with writing(sqlite_engine) as session:
        session.connection()


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_a_store_that_was_not_migrated_is_an_outage(backend: str, make_database: Callable[[str], str]) -> None:
    url = make_database(backend)
    create_private_file(url)
    engine = open_engine(url)
    with pytest.raises(AccountsUnavailableError), reading(engine) as session:
        session.scalars(select(ThrottleRecord)).all()
    engine.dispose()


def test_connections_that_the_server_ended_are_replaced(migrated_postgres: str) -> None:
    engine = open_engine(migrated_postgres)
    with reading(engine) as session:
        ours = session.connection().exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    admin = open_engine(migrated_postgres)
    with admin.begin() as connection:
        connection.exec_driver_sql(f"SELECT pg_terminate_backend({ours}, 5000)")
    admin.dispose()
    with reading(engine) as session:
        assert session.connection().exec_driver_sql("SELECT pg_backend_pid()").scalar_one() != ours
    engine.dispose()


def test_a_connection_that_dies_in_the_middle_is_an_outage(migrated_postgres: str) -> None:
    engine = open_engine(migrated_postgres)
    with pytest.raises(AccountsUnavailableError), writing(engine) as session:
        session.connection().exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")
    engine.dispose()


def test_a_pool_without_a_free_connection_is_an_outage(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.pool, "_timeout", 0.01)
    connections = [database.reading(engine).connect() for _ in range(15)]
    with pytest.raises(AccountsUnavailableError), reading(engine) as session:
        session.connection()
    for connection in connections:
        connection.close()


def test_errors_never_show_the_parameters_of_a_statement(engine: Engine) -> None:
    def add() -> None:
        with writing(engine) as session:
            session.add(ThrottleRecord(key="canary", failures=987654, first_at=utc_now()))

    add()
    with pytest.raises(IntegrityError, match="hidden due to hide_parameters") as caught:
        add()
    assert "987654" not in str(caught.value)

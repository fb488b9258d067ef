"""The log behind real databases that go away, fill up and come back, and processes that are killed."""

import contextlib
import json
import math
import resource
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from outages import altered, locked, moved, with_pragma
from sqlalchemy import Engine, text

from api.entries import Answered, decode, encode, moment_of, new_batch
from api.migrations import migrate
from api.outcomes import read_prediction
from api.prediction_log import FLUSH_SECONDS, LogFullError, PredictionLog
from api.spool import ASIDE, Spool, pack, unpack
from mlops_core import database
from mlops_core.database import open_engine

OpenLog = Callable[..., PredictionLog]


def answered(rows: int = 1, **changes: Any) -> Answered:
    columns = {"amount": [1.5] * rows, "kind": ["ü"] * rows, "count": [None] * rows}
    entry = Answered(new_batch(), "user", "small", 1, "predict", columns, np.full((rows, 2), 0.5), ["no"] * rows)
    return entry._replace(**changes)


def append(log: PredictionLog, count: int, rows: int = 1) -> list[str]:
    entries = [answered(rows) for _ in range(count)]
    for entry in entries:
        log.append(entry)
    return [entry.batch for entry in entries]


def stored(engine: Engine) -> list[str]:
    with database.reading(engine).connect() as connection:
        return list(connection.execute(text("SELECT batch FROM mlops_predictions ORDER BY batch")).scalars())


def wait_until(condition: Callable[[], Any], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def spool_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


@pytest.fixture
def open_log(tmp_path: Path) -> Iterator[OpenLog]:
    """Starts quick logs that share one spool folder; all are closed in the end."""
    opened = []

    def start(engine: Engine, folder: str = "spool", max_bytes: int = 1 << 20, **more: Any) -> PredictionLog:
        quick = {"flush_seconds": 0.01, "retry_seconds": 0.05, **more}
        log = PredictionLog(engine, Spool(tmp_path / folder, max_bytes), **quick)
        log.start()
        opened.append(log)
        return log

    yield start
    for log in opened:
        log.close()


@pytest.fixture
def log(engine: Engine, open_log: OpenLog) -> PredictionLog:
    return open_log(engine)


OUTAGES: dict[str, Callable[[Engine], AbstractContextManager[None]]] = {
    "sqlite moved": moved,
    "sqlite locked": locked,
    "sqlite read-only": lambda engine: with_pragma(engine, "query_only=1"),
    "sqlite full": lambda engine: with_pragma(engine, "max_page_count=1"),
    "postgresql down": lambda engine: altered(engine, "ALLOW_CONNECTIONS false", "ALLOW_CONNECTIONS true"),
    "postgresql locked": locked,
    "postgresql read-only": lambda engine: altered(
        engine, "SET default_transaction_read_only = on", "RESET default_transaction_read_only"
    ),
}


@pytest.fixture
def own_engine(
    request: pytest.FixtureRequest,
    make_database: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Engine]:
    """A database that a test may break, the kind named by the first word of its parameter."""
    monkeypatch.setattr(database, "PRAGMAS", ("busy_timeout=100", *database.PRAGMAS[1:]))
    url = make_database(getattr(request, "param", "sqlite").split()[0])
    migrate(url, tmp_path)
    engine = open_engine(url)
    yield engine
    engine.dispose()


with_outages = pytest.mark.parametrize(
    ("own_engine", "outage"), [(name, OUTAGES[name]) for name in OUTAGES], indirect=["own_engine"], ids=list(OUTAGES)
)


@with_outages
def test_every_answer_of_an_outage_is_in_the_log_exactly_once(
    own_engine: Engine, outage: Callable[[Engine], AbstractContextManager[None]], open_log: OpenLog, tmp_path: Path
) -> None:
    log = open_log(own_engine)
    batches = append(log, 5)
    assert log.flush(10)
    with outage(own_engine):
        for _ in range(3):
            batches += append(log, 10, rows=200)  # more than the free space of a full database's last page
            wait_until(lambda: log.waiting == 0)
        assert log.spooled == 30
        wait_until(lambda: log.database_down_since is not None)
        assert not log.flush(0.1)
    assert log.flush(20)
    assert stored(own_engine) == sorted(batches)
    assert (log.written, log.spooled, log.waiting, log.database_down_since) == (35, 0, 0, None)
    assert not any(name.endswith(".spool") for name in spool_files(tmp_path / "spool"))


def test_an_outage_is_two_lines_in_the_log_however_many_answers_it_lasts(own_engine: Engine, open_log: OpenLog) -> None:
    with structlog.testing.capture_logs() as lines:
        log = open_log(own_engine)
        with moved(own_engine):
            for _ in range(20):
                append(log, 1)
                time.sleep(0.02)
            wait_until(lambda: log.database_down_since is not None)
        assert log.flush(10)
    assert [line["event"] for line in lines] == ["prediction log database down", "prediction log database is back"]


def test_a_replay_of_what_is_stored_already_changes_nothing(
    engine: Engine, log: PredictionLog, open_log: OpenLog, tmp_path: Path
) -> None:
    entries = [answered() for _ in range(3)]
    for entry in entries[:2]:
        log.append(entry)
    assert log.flush(10)
    killed = Spool(tmp_path / "spool")  # as if the process had died between commit and deletion
    killed.write([encode(entry) for entry in entries])
    killed.close()
    assert open_log(engine).flush(10)
    assert stored(engine) == sorted(entry.batch for entry in entries)
    assert ASIDE not in spool_files(tmp_path / "spool")


@pytest.mark.parametrize("rows", [1, 1000])
def test_a_request_is_one_row_however_many_it_answers(engine: Engine, log: PredictionLog, rows: int) -> None:
    (batch,) = append(log, 1, rows)
    assert log.flush(10)
    with engine.connect() as connection:
        (row,) = connection.execute(text("SELECT * FROM mlops_predictions")).mappings().all()
    assert (row["batch"], row["rows"], row["kind"], row["user_id"]) == (batch, rows, "predict", "user")
    assert len(json.loads(row["inputs"])["amount"]) == rows
    assert len(json.loads(row["outputs"])["answers"]) == rows


def test_closing_stores_all_that_was_answered(engine: Engine, open_log: OpenLog, tmp_path: Path) -> None:
    log = open_log(engine, flush_seconds=60)
    batches = append(log, 500)
    log.close()
    assert stored(engine) == sorted(batches)
    assert spool_files(tmp_path / "spool") == []
    with pytest.raises(LogFullError):
        log.append(answered())


@with_outages
def test_closing_during_an_outage_is_quick_and_the_next_start_stores_all(
    own_engine: Engine, outage: Callable[[Engine], AbstractContextManager[None]], open_log: OpenLog
) -> None:
    first = open_log(own_engine)
    with outage(own_engine):
        batches = append(first, 20)
        started = time.monotonic()
        first.close(seconds=1)
        assert time.monotonic() - started < 3
    assert open_log(own_engine).flush(10)
    assert stored(own_engine) == sorted(batches)
    assert first.lost == 0


def test_a_full_spool_refuses_until_the_database_is_back(own_engine: Engine, open_log: OpenLog) -> None:
    log = open_log(own_engine, max_bytes=10_000)
    batches: list[str] = []

    def fill() -> None:
        for _ in range(5000):
            batches.extend(append(log, 1))
            time.sleep(0.001)

    with moved(own_engine):
        with pytest.raises(LogFullError):
            fill()
        assert 10_000 <= log.spool.bytes < 100_000
    assert log.flush(10)
    batches += append(log, 1)
    assert log.flush(10)
    assert stored(own_engine) == sorted(batches)


def test_a_full_queue_refuses(engine: Engine, open_log: OpenLog) -> None:
    log = open_log(engine, flush_seconds=60, max_rows=100)
    batches = append(log, 10, rows=10)
    with pytest.raises(LogFullError):
        log.append(answered())
    assert log.flush(10)
    batches += append(log, 1, rows=1000)
    assert log.flush(10)
    assert stored(engine) == sorted(batches)


def test_a_disk_that_takes_no_file_is_no_outage_while_the_database_is_there(
    own_engine: Engine, open_log: OpenLog, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    log = open_log(own_engine, folder="file/spool")
    batches = append(log, 10)
    assert log.flush(10)
    with moved(own_engine):
        batches += append(log, 10)
        wait_until(lambda: log.database_down_since is not None)
        with pytest.raises(LogFullError):
            log.append(answered())
    assert log.flush(10)
    assert stored(own_engine) == sorted(batches)


def kept(folder: Path, lines: bytes) -> None:
    """What a killed process leaves: a segment, and a lock that nobody holds."""
    folder.mkdir()
    (folder / "0abc-00000001.spool").write_bytes(lines)
    (folder / "0abc.lock").touch()


@pytest.mark.parametrize("cut", [1, 10, 100, -2])
def test_a_line_that_a_crash_cut_is_kept_aside_and_the_others_are_stored(
    engine: Engine, open_log: OpenLog, tmp_path: Path, cut: int
) -> None:
    whole, torn = answered(), encode(answered())
    kept(tmp_path / "spool", encode(whole) + torn[:cut])
    with structlog.testing.capture_logs() as lines:
        assert open_log(engine).flush(10)
    assert stored(engine) == [whole.batch]
    assert "prediction set aside" in [line["event"] for line in lines]
    assert spool_files(tmp_path / "spool") == [ASIDE]
    assert (tmp_path / "spool" / ASIDE).read_bytes() == torn[:cut] + b"\n"
    assert (tmp_path / "spool" / ASIDE).stat().st_mode & 0o777 == 0o600


def test_a_line_that_lacks_its_end_only_is_whole(engine: Engine, open_log: OpenLog, tmp_path: Path) -> None:
    entry = answered()
    kept(tmp_path / "spool", encode(entry)[:-1])
    assert open_log(engine).flush(10)
    assert stored(engine) == [entry.batch]


@pytest.mark.parametrize("line", [pack([b"[]", b"{}", b"{}"]), pack([b"{"]), pack([b"x", b"{}", b"{}"]), b"\x00" * 50])
def test_a_line_of_another_format_keeps_no_other_back(
    engine: Engine, open_log: OpenLog, tmp_path: Path, line: bytes
) -> None:
    entry = answered()
    kept(tmp_path / "spool", line.rstrip(b"\n") + b"\n" + encode(entry))
    assert open_log(engine).flush(10)
    assert stored(engine) == [entry.batch]
    assert (tmp_path / "spool" / ASIDE).is_file()


def test_a_row_that_the_database_never_takes_keeps_no_other_back(
    engine: Engine, open_log: OpenLog, tmp_path: Path
) -> None:
    bad = answered(kind="k" * 21) if engine.dialect.name == "postgresql" else answered(version=None)
    log = open_log(engine, flush_seconds=60)
    batches = append(log, 3)
    log.append(bad)
    batches += append(log, 3)
    assert log.flush(10)
    assert stored(engine) == sorted(batches)
    assert bad.batch.encode() in (tmp_path / "spool" / ASIDE).read_bytes()


def test_an_entry_that_json_cannot_say_keeps_no_other_back(engine: Engine, log: PredictionLog) -> None:
    log.append(answered(inputs={"kind": ["\ud800"]}))
    batches = append(log, 1)
    assert log.flush(10)
    assert (stored(engine), log.lost) == (batches, 1)


def test_spool_files_are_for_their_owner_only(own_engine: Engine, open_log: OpenLog, tmp_path: Path) -> None:
    with moved(own_engine):
        append(log := open_log(own_engine), 1)
        wait_until(lambda: log.spooled == 1)
        files = list((tmp_path / "spool").iterdir())
        assert {path.suffix for path in files} == {".spool", ".lock"}
        assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
        assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o700


def test_a_long_outage_makes_few_files(own_engine: Engine, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", segment_bytes=2000)
    line = encode(answered())
    for _ in range(100):
        spool.write([line])
    spool.close()
    assert len(spool_files(tmp_path / "spool")) == math.ceil(100 / math.ceil(2000 / len(line))) + 1


def test_a_write_that_the_disk_cuts_leaves_no_half_line(tmp_path: Path) -> None:
    spool, lines = Spool(tmp_path / "spool"), [encode(answered()) for _ in range(4)]
    spool.write(lines[:2])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(lines[0]) * 2 + 50, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            spool.write(lines[2:])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    spool.write(lines[3:])
    segment = spool.next()
    assert segment
    assert [pack(parts) for parts in spool.read(segment)] == [*lines[:2], lines[3]]
    assert (spool.lines, spool.bytes) == (3, segment.path.stat().st_size)
    spool.close()


def test_a_spool_file_that_somebody_deleted_keeps_nothing_back(own_engine: Engine, open_log: OpenLog) -> None:
    log = open_log(own_engine)
    with moved(own_engine):
        append(log, 2)
        wait_until(lambda: log.spooled == 2 and log.database_down_since is not None)
        for path in log.spool.folder.glob("*.spool"):
            path.unlink()
    batches = append(log, 1)
    assert log.flush(10)
    assert (stored(own_engine), log.lost) == (batches, 2)


CHILD = """
import os, sys, time
from pathlib import Path
import numpy as np
from api.entries import Answered, new_batch
from api.prediction_log import PredictionLog
from api.spool import Spool
from mlops_core.database import open_engine

log = PredictionLog(open_engine(sys.argv[1]), Spool(Path(sys.argv[2])))
log.start()
while True:
    rows = 50
    columns = {"amount": [1.5] * rows, "kind": ["text"] * rows}
    entry = Answered(new_batch(), "user", "small", 1, "predict", columns, np.full((rows, 2), 0.5), ["no"] * rows)
    log.append(entry)
    # In one piece: the log's own thread prints to the same file.
    os.write(1, f'appended {entry.batch} {time.time()}\\n'.encode())
    time.sleep(0.0005)
"""


@contextlib.contextmanager
def child(engine: Engine, folder: Path, output: Path) -> Iterator[subprocess.Popen[bytes]]:
    url = engine.url.render_as_string(hide_password=False)
    with output.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-W", "error", "-c", CHILD, url, str(folder)], stdout=out)
    try:
        wait_until(lambda: output.stat().st_size > 0 or process.poll() is not None)
        assert process.poll() is None
        yield process
    finally:
        process.kill()
        process.wait(20)


def printed(output: Path) -> dict[str, float]:
    """Batch and moment of what a child appended; its last line may be cut."""
    lines = output.read_text().rpartition("\n")[0].splitlines()
    entries = [line.split() for line in lines if line.startswith("appended ")]
    return {batch: float(at) for _, batch, at in entries}


@pytest.mark.parametrize("own_engine", ["sqlite", "postgresql"], indirect=True)
@pytest.mark.parametrize("seconds", [0.3, 1.0, 1.37])
@pytest.mark.parametrize("away", [False, True])
def test_a_killed_process_loses_the_last_moment_only(
    own_engine: Engine, open_log: OpenLog, tmp_path: Path, seconds: float, away: bool
) -> None:
    if away and own_engine.dialect.name == "postgresql":
        pytest.skip("the same code, slower")
    outage = moved(own_engine) if away else contextlib.nullcontext()
    with outage, child(own_engine, tmp_path / "spool", tmp_path / "printed") as process:
        time.sleep(seconds)
        process.kill()
        killed = time.time()
        process.wait(20)
    assert open_log(own_engine).flush(20)
    appended, found = printed(tmp_path / "printed"), stored(own_engine)
    # Besides the pause, the turn of a thread on a busy machine.
    safe = {batch for batch, at in appended.items() if at < killed - FLUSH_SECONDS - 0.25}
    assert safe <= set(found)
    assert len(found) == len(set(found))
    with own_engine.connect() as connection:
        for inputs, outputs, rows in connection.execute(text("SELECT inputs, outputs, rows FROM mlops_predictions")):
            assert rows == len(json.loads(inputs)["kind"]) == len(json.loads(outputs)["answers"]) == 50
    assert not any(name.endswith((".spool", ".lock")) for name in spool_files(tmp_path / "spool"))


def test_two_processes_share_a_folder_and_each_adopts_the_dead_only(
    own_engine: Engine, open_log: OpenLog, tmp_path: Path
) -> None:
    folder = tmp_path / "spool"
    with moved(own_engine), child(own_engine, folder, tmp_path / "printed") as process:
        wait_until(lambda: any(name.endswith(".spool") for name in spool_files(folder)))
        log = open_log(own_engine)
        batches = append(log, 5)
        assert not log.spool.has_adopted
        time.sleep(2 * FLUSH_SECONDS)
        process.kill()
        process.wait(20)
        assert log.spool.adopt() > 0
        assert Spool(folder).adopt() == 0, "what one process adopted was adopted again"
    assert log.flush(20)
    found = stored(own_engine)
    told = set(batches) | set(printed(tmp_path / "printed"))
    assert set(batches) < set(found)
    assert len(set(found) - told) <= 1, "only the entry that it was about to print may be untold"
    assert len(found) == len(set(found))


def test_an_id_sorts_by_time_and_is_a_uuid_of_version_7() -> None:
    first = new_batch()
    time.sleep(0.002)
    second = new_batch()
    assert first < second
    assert {(item.version, item.variant) for item in map(uuid.UUID, (first, second))} == {(7, uuid.RFC_4122)}
    assert abs(moment_of(second).timestamp() - time.time()) < 5


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=["Cs"]))


def round_trip(entry: Answered) -> dict[str, Any]:
    line = encode(entry)
    assert line.count(b"\n") == 1
    parts = unpack(line[:-1])
    assert parts
    return decode(parts)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.lists(VALUES)))
def test_every_value_survives_the_spool(columns: dict[str, list[Any]]) -> None:
    found = json.loads(round_trip(answered(inputs=columns))["inputs"])
    expected = {
        name: [None if isinstance(value, float) and not math.isfinite(value) else value for value in values]
        for name, values in columns.items()
    }
    assert found == expected


@given(st.lists(VALUES, min_size=1), st.binary())
def test_a_changed_byte_is_noticed(values: list[Any], noise: bytes) -> None:
    line = encode(answered(inputs={"x": values}))[:-1]
    for place in {0, 5, 9, len(line) // 2, len(line) - 1}:
        assert unpack(line[:place] + bytes([line[place] ^ 1]) + line[place + 1 :]) is None
    assert unpack(noise) is None


def test_arrays_of_a_file_are_kept_as_a_person_writes_them() -> None:
    moments = np.array(["2013-01-01T06:00", "NaT"], dtype="datetime64[ns]")
    columns = {
        "at": moments,
        "second": moments.astype("datetime64[s]"),
        "amount": np.array([1.5, np.nan]),
        "count": np.array([1, 2], dtype=np.int64),
        "kind": np.array(["ü", None], dtype=object),
        "mixed": [moments[0], np.float32(0.5)],
        "open": np.array([True, False]),
    }
    assert json.loads(round_trip(answered(inputs=columns))["inputs"]) == {
        "at": ["2013-01-01T06:00:00", None],
        "second": ["2013-01-01T06:00:00", None],
        "amount": [1.5, None],
        "count": [1, 2],
        "kind": ["ü", None],
        "mixed": ["2013-01-01T06:00:00", 0.5],
        "open": [True, False],
    }


def test_odd_texts_survive_the_database(engine: Engine, log: PredictionLog) -> None:
    texts = ["", "\x00", "\t\n\r\\", "日本 🛫", "\u2028", "'; DROP TABLE mlops_predictions; --"]
    entry = answered(len(texts), inputs={"kind": texts})
    log.append(entry)
    assert log.flush(10)
    found = [read_prediction(engine, f"{entry.batch}-{row}") for row in range(len(texts))]
    assert [item.inputs["kind"] for item in found if item] == texts

"""What was answered: one row per request, written behind the answers, through a spool that outlives an outage.

`append` costs the event loop a few microseconds. One thread turns what waits into lines and appends them to the spool
every FLUSH_SECONDS; another moves the spool's segments into the database, each in one transaction that ignores rows
that are there already, and deletes them. So neither a slow nor a missing database holds up an answer, a replay changes
nothing, and `kill -9` loses at most what was answered in the last FLUSH_SECONDS. When there is no room, `append`
refuses, and with it the route: nothing is answered that cannot be kept.
"""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import structlog
from pydantic_core import to_json
from sqlalchemy import Engine, Insert
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from api.entries import Answered, decode, encode
from api.records import PredictionRecord
from api.spool import Segment, Spool, pack, unpack
from mlops_core.database import BUSY_SECONDS
from mlops_core.errors import MLOpsError

FLUSH_SECONDS = 0.25
RETRY_SECONDS = 1.0
ADOPT_SECONDS = 60.0
CLOSE_SECONDS = 5.0
MAX_ROWS = 200_000
MAX_REQUESTS = 20_000
ENOUGH_ROWS = 20_000
SPOOL_ROWS = 4_000  # that wake the thread before its time: what waits takes memory, and then a long turn

log = structlog.get_logger("api.prediction_log")


class LogFullError(MLOpsError):
    """Neither the queue nor the spool has room, or the service is ending."""

    retry_after = 5

    def __init__(self) -> None:
        super().__init__("The prediction log has no room, so this prediction cannot be answered. Try again later.")


def _insert_new(engine: Engine) -> Insert:
    insert = postgresql.insert if engine.dialect.name == "postgresql" else sqlite.insert
    return insert(PredictionRecord).on_conflict_do_nothing()


@dataclass(frozen=True)
class Held:
    """Lines that the spool could not take, on their way to the database from memory."""

    lines: list[bytes]
    rows: int
    entries: int


class PredictionLog:
    """The queue and its two threads.

    `waiting`, `spooled` and `written` count requests in memory, in files and in the database since the start;
    `lost` counts those that could not be encoded or, at the very end, kept anywhere. `prepare` is what has to succeed
    before anything can be stored, where the database was away when its tables should have been looked at.
    """

    def __init__(
        self,
        engine: Engine,
        spool: Spool,
        flush_seconds: float = FLUSH_SECONDS,
        retry_seconds: float = RETRY_SECONDS,
        max_rows: int = MAX_ROWS,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        self.engine, self.spool = engine, spool
        self.flush_seconds, self.retry_seconds, self.max_rows = flush_seconds, retry_seconds, max_rows
        self.waiting = self.written = self.lost = 0
        self.database_down_since: float | None = time.time() if prepare else None
        self._queue: list[Answered] = []
        self._held: list[Held] = []
        self._rows = self._appended = self._done = 0
        self._lock, self._changed = threading.Lock(), threading.Condition()
        self._wake, self._ready, self._ending = threading.Event(), threading.Event(), threading.Event()
        self._drained, self._stopped = threading.Event(), threading.Event()
        self._insert, self._prepare = _insert_new(engine), prepare
        self._spooler = threading.Thread(target=self._run_spooler, name="log-spooler", daemon=True)
        self._writer = threading.Thread(target=self._run_writer, name="log-writer", daemon=True)

    @property
    def spooled(self) -> int:
        return self.spool.lines

    @property
    def crowded(self) -> bool:
        """Whether who can wait should, so that there is room for those who cannot."""
        return self._rows >= ENOUGH_ROWS or 2 * self.spool.bytes >= self.spool.max_bytes

    def start(self) -> None:
        """Adopts what killed processes left behind, and starts to write."""
        self._adopt()
        self._spooler.start()
        self._writer.start()

    def append(self, entry: Answered) -> None:
        """Takes an entry that nobody changes any more. Raises LogFullError.

        A single request may exceed the bound on rows: it was admitted as one piece, and is kept as one.
        """
        with self._lock:
            full = self._rows >= self.max_rows or len(self._queue) >= MAX_REQUESTS or self.spool.full
            if full or self._ending.is_set() or (self._held and self.database_down_since is not None):
                raise LogFullError
            self._queue.append(entry)
            self._rows += len(entry.answers)
            self._appended += 1
            self.waiting += 1
        if self._rows >= SPOOL_ROWS:
            self._wake.set()

    def flush(self, seconds: float) -> bool:
        """Waits until all that was appended or adopted before is in the database; False when that takes longer."""
        target = self._appended
        self._wake.set()
        with self._changed:
            return self._changed.wait_for(lambda: self._done >= target and not self.spool.has_adopted, seconds)

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Writes what waits; after `seconds`, or when the database fails, leaves it in the spool for the next start."""
        deadline = time.monotonic() + seconds
        with self._lock:
            self._ending.set()
        self._wake.set()
        self._spooler.join(seconds)
        self._ready.set()
        self._writer.join(max(0.0, deadline - time.monotonic()))
        self._stopped.set()
        for held in self._held:
            self._rescue(held)
        self.spool.close()

    def _rescue(self, held: Held) -> None:
        try:
            self.spool.write(held.lines)
        except OSError as error:
            self.lost += len(held.lines)
            log.error("predictions lost", requests=len(held.lines), reason=str(error))

    def _run_spooler(self) -> None:
        while not self._ending.is_set():
            self._wake.wait(self.flush_seconds)
            self._wake.clear()
            self._spool_waiting()
        self._spool_waiting()
        self._drained.set()
        self._ready.set()

    def _spool_waiting(self) -> None:
        with self._lock:
            entries, self._queue = self._queue, []
        if not entries:
            return
        rows = sum(len(entry.answers) for entry in entries)
        lines = [line for entry in entries if (line := self._encoded(entry))]
        try:
            self.spool.write(lines)
        except OSError as error:
            log.warning("spool not writable", reason=str(error))
            self._held.append(Held(lines, rows, len(entries)))
        else:
            self._free(rows, len(entries))
        self._ready.set()

    def _free(self, rows: int, entries: int) -> None:
        with self._lock:
            self._rows -= rows
            self.waiting -= entries

    def _encoded(self, entry: Answered) -> bytes:
        try:
            return encode(entry)
        except Exception:  # one entry must not end the thread that keeps all others
            log.exception("prediction not logged", batch=entry.batch)
            self.lost += 1
            self._count_done(1)
            return b""

    def _run_writer(self) -> None:
        look_at = time.monotonic() + ADOPT_SECONDS
        while not self._stopped.is_set():
            if time.monotonic() >= look_at:
                self._adopt()
                look_at = time.monotonic() + ADOPT_SECONDS
            if not self._is_prepared():
                if self._ending.wait(self.retry_seconds):
                    return
                continue
            self._ready.clear()
            parcel = self.spool.next() or next(iter(self._held), None)
            if parcel is None:
                if self._drained.is_set():
                    return
                self._ready.wait(ADOPT_SECONDS)
            elif not self._move(parcel) and self._ending.wait(self.retry_seconds):
                return

    def _is_prepared(self) -> bool:
        if self._prepare:
            try:
                self._prepare()
            except Exception as error:  # as below
                self._note_outage(error)
                return False
            self._prepare = None
            self._note_recovery()
        return True

    def _adopt(self) -> None:
        try:
            if found := self.spool.adopt():
                log.info("spool adopted", segments=found, requests=self.spool.lines)
        except OSError as error:
            log.warning("spool not readable", reason=str(error))

    def _move(self, parcel: Segment | Held) -> bool:
        """Whether the parcel is in the database now, and nowhere else."""
        try:
            rows = self._decoded(parcel)
            if rows and not self._store(rows):
                return False
        except Exception as error:  # the thread must outlive what nobody foresaw, and try again
            self._note_outage(error)
            return False
        if isinstance(parcel, Segment):
            own = parcel.lines if parcel.owner == self.spool.owner else 0
            self.spool.remove(parcel)
        else:
            own = len(parcel.lines)
            self._held.remove(parcel)
            self._free(parcel.rows, parcel.entries)
        self.written += len(rows)
        self._count_done(own)
        return True

    def _read(self, parcel: Segment | Held) -> Iterable[list[bytes] | None]:
        if isinstance(parcel, Held):
            return [unpack(line[:-1]) for line in parcel.lines]
        try:
            return self.spool.read(parcel)
        except FileNotFoundError:  # somebody deleted it; waiting for it would keep back all that follow
            self.lost += parcel.lines
            log.error("predictions lost", requests=parcel.lines, reason="a spool file is gone")
            return []

    def _decoded(self, parcel: Segment | Held) -> list[dict[str, Any]]:
        rows = []
        for parts in self._read(parcel):
            try:
                rows.append(decode(parts or []))
            except ValueError as error:  # of another version of this software
                self.spool.set_aside(pack(parts or []), str(error))
        return rows

    def _store(self, rows: list[dict[str, Any]]) -> bool:
        try:
            with self.engine.begin() as connection:
                if connection.dialect.name == "postgresql":
                    # SQLite's waiting time is the engine's; here a locked table would look like a slow one for ever.
                    connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{BUSY_SECONDS}s'")
                connection.execute(self._insert, rows)
        except (DataError, IntegrityError) as error:
            # One row that the database will never take must not keep back the others.
            if len(rows) > 1:
                return all(self._store([row]) for row in rows)
            self.spool.set_aside(to_json(rows[0]), type(error).__name__)
        except SQLAlchemyError as error:
            self._note_outage(error)
            return False
        self._note_recovery()
        return True

    def _note_outage(self, error: Exception) -> None:
        if self.database_down_since is None:
            self.database_down_since = time.time()
            reason = str(getattr(error, "orig", None) or error).partition("\n")[0]
            log.warning("prediction log database down", kind=type(error).__name__, reason=reason)

    def _note_recovery(self) -> None:
        if self.database_down_since is not None:
            seconds = round(time.time() - self.database_down_since, 1)
            self.database_down_since = None
            log.info("prediction log database is back", seconds=seconds, spooled=self.spooled)

    def _count_done(self, entries: int) -> None:
        with self._changed:
            self._done += entries
            self._changed.notify_all()

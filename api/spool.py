"""Lines that must outlive this process until a database has them: append-only files, one writer each, read once.

A segment is named after the process that writes it and is guarded by that process's lock, which the kernel releases
however the process ends. Whoever then gets the lock adopts the segments. Each line carries its checksum, so that one
that a crash cut short is recognised; it is kept aside. Nothing is synced to the disk: a killed process loses no line, a
power cut may lose the last seconds.
"""

import contextlib
import os
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4
from zlib import crc32

import structlog
from filelock import FileLock, Timeout

SUFFIX = ".spool"
ASIDE = "aside.lines"
MAX_BYTES = 256 << 20
SEGMENT_BYTES = 4 << 20

log = structlog.get_logger("api.spool")


def pack(parts: Sequence[bytes]) -> bytes:
    """One line. The parts are JSON, which holds no raw tab and no raw line end."""
    body = b"\t".join(parts)
    return b"%08x\t%b\n" % (crc32(body), body)


def unpack(line: bytes) -> list[bytes] | None:
    """The parts; None for a line that was cut or changed."""
    checksum, _, body = line.partition(b"\t")
    return body.split(b"\t") if checksum == b"%08x" % crc32(body) else None


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@dataclass(frozen=True)
class Segment:
    """A finished file."""

    path: Path
    size: int
    lines: int

    @property
    def owner(self) -> str:
        return self.path.name.partition("-")[0]


class Spool:
    """The segments of this process and those it adopted, for one writing and one reading thread."""

    def __init__(self, folder: Path, max_bytes: int = MAX_BYTES, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.folder, self.max_bytes, self.segment_bytes = folder, max_bytes, segment_bytes
        self.owner = uuid4().hex
        self.bytes = self.lines = 0
        self._locks: dict[str, FileLock] = {}
        self._sealed: deque[Segment] = deque()
        self._mutex = threading.Lock()
        self._file: int | None = None
        self._path = folder
        self._size = self._count = self._number = 0

    @property
    def full(self) -> bool:
        return self.bytes >= self.max_bytes

    @property
    def has_adopted(self) -> bool:
        return any(owner != self.owner for owner in list(self._locks))

    def write(self, lines: Sequence[bytes]) -> None:
        """Hands the lines to the operating system, all or none. Raises OSError."""
        data = b"".join(lines)
        with self._mutex:
            file = self._open()
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(file, view) :]
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(file, self._size)
                raise
            self._size += len(data)
            self._count += len(lines)
            self.bytes += len(data)
            self.lines += len(lines)
            if self._size >= self.segment_bytes:
                self._seal()

    def next(self) -> Segment | None:
        """The oldest segment, None when there is none; `remove` it when it was dealt with."""
        with self._mutex:
            if not self._sealed and self._size:
                self._seal()
            return self._sealed[0] if self._sealed else None

    def read(self, segment: Segment) -> list[list[bytes]]:
        """The parts of every whole line. Raises OSError."""
        lines = segment.path.read_bytes().split(b"\n")
        found = []
        for line in filter(None, lines):
            parts = unpack(line)
            if parts is None:
                self.set_aside(line, "cut or changed")
            else:
                found.append(parts)
        return found

    def set_aside(self, line: bytes, reason: str) -> None:
        """Keeps a line that cannot be used where a person finds it."""
        try:
            with open(self.folder / ASIDE, "ab", opener=_open_private) as file:
                file.write(line + b"\n")
        except OSError as error:
            log.error("prediction lost", bytes=len(line), reason=reason, error=str(error))
        else:
            log.error("prediction set aside", file=ASIDE, bytes=len(line), reason=reason)

    def remove(self, segment: Segment) -> None:
        """Forgets a segment; one that cannot be deleted is read again at the next start."""
        with self._mutex:
            self._sealed.remove(segment)
            self.bytes -= segment.size
            self.lines -= segment.lines
            with contextlib.suppress(OSError):
                segment.path.unlink(missing_ok=True)
            if segment.owner != self.owner and all(other.owner != segment.owner for other in self._sealed):
                self._release(segment.owner)

    def adopt(self) -> int:
        """Takes over the segments of processes that ended; says how many."""
        if not self.folder.is_dir():
            return 0
        names = (path.name for path in self.folder.iterdir() if path.suffix in (SUFFIX, ".lock"))
        owners = {name.partition(".")[0].partition("-")[0] for name in names} - {self.owner, *self._locks}
        return sum(self._adopt(owner) for owner in sorted(owners) if self._lock(owner))

    def close(self) -> None:
        """Lets another process adopt what is left."""
        with self._mutex:
            self._seal()
            for owner in list(self._locks):
                self._release(owner)

    def _open(self) -> int:
        if self._file is None:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if self.owner not in self._locks and not self._lock(self.owner):
                raise BlockingIOError(f"{self.owner} is locked")
            self._number += 1
            self._path = self.folder / f"{self.owner}-{self._number:08d}{SUFFIX}"
            self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        return self._file

    def _seal(self) -> None:
        if self._file is None:
            return
        os.close(self._file)
        if self._size:
            self._sealed.append(Segment(self._path, self._size, self._count))
        else:
            self._path.unlink(missing_ok=True)
        self._file, self._size, self._count = None, 0, 0

    def _adopt(self, owner: str) -> int:
        paths = sorted(self.folder.glob(f"{owner}-*{SUFFIX}"))
        try:
            segments = [Segment(path, path.stat().st_size, path.read_bytes().count(b"\n")) for path in paths]
        except OSError:
            self._release(owner)
            raise
        with self._mutex:
            self._sealed.extend(segments)
            self.bytes += sum(segment.size for segment in segments)
            self.lines += sum(segment.lines for segment in segments)
            if not segments:
                self._release(owner)
        return len(segments)

    def _lock(self, owner: str) -> bool:
        lock = FileLock(self.folder / f"{owner}.lock", mode=0o600, thread_local=False)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return False
        self._locks[owner] = lock
        return True

    def _release(self, owner: str) -> None:
        lock = self._locks.pop(owner)
        if not any(self.folder.glob(f"{owner}-*{SUFFIX}")):
            with contextlib.suppress(OSError):
                Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()

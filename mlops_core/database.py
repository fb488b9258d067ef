"""SQLite and SQLAlchemy plumbing that several stores share: addresses, and making a store exactly once."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

SQLITE = "sqlite:///"
LOCK_SECONDS = 120


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

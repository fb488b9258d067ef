"""One run at a time in a checkout, and what one that was killed left there."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from mlops_core.errors import MLOpsError
from mlops_core.paths import state_dir


class BusyError(MLOpsError):
    """Another run holds the lock."""

    def __init__(self, holder: str) -> None:
        self.holder = holder
        super().__init__(f"Another run is under way in this checkout (process {holder}): wait for it, or end it.")


@contextmanager
def run_lock(root: Path) -> Iterator[None]:
    """Held by the operating system and not by a file's presence: a killed run leaves nothing to clean up."""
    folder = state_dir(root)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "run.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise BusyError(file.read().strip() or "unknown") from None
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        yield


def left_progress(root: Path) -> list[Path]:
    """The progress files of stages that are gone: a stage that ends by itself removes its own."""
    files = sorted(state_dir(root).glob("progress-*"))
    return [path for path in files if not psutil.pid_exists(int(path.name.rpartition("-")[2]))]

"""The model registry as the service sees it: a child process that may be ended when it does not answer."""

import json
import os
import selectors
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlops_core.errors import MLOpsError
from mlops_core.paths import state_dir

SECONDS = 20.0
FETCH_SECONDS = 300.0
CHUNK = 1 << 16
# For MLflow, unless the machine says otherwise. A connection that stays open would go on reading a SQLite file that was
# moved away or replaced.
IMPATIENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool",
}


def copies_dir(root: Path) -> Path:
    """Where the service keeps the versions that it serves, so that a restart needs no registry."""
    return state_dir(root) / "serving"


class RegistryError(MLOpsError):
    """The registry did not answer, or refused."""

    def __init__(self, kind: str, detail: str) -> None:
        self.kind, self.detail = kind, detail
        super().__init__(f"The model registry: {detail}")


@dataclass
class RegistryProcess:
    """Asks `mlops_core.registry.agent`, one question at a time; a process that is late is ended and started anew."""

    root: Path
    _process: subprocess.Popen[bytes] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _closed: bool = False

    def start(self) -> None:
        """Begins MLflow's imports before the first question."""
        with self._lock:
            self._process = self._process or self._spawn()

    def champion(self, name: str, alias: str) -> int | None:
        found: int | None = self._ask("champion", name=name, alias=alias)
        return found

    def fetch(self, name: str, version: int, target: Path) -> dict[str, Any]:
        facts: dict[str, Any] = self._ask("fetch", FETCH_SECONDS, name=name, version=version, target=str(target))
        return facts

    def versions(self, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._ask("versions", name=name)
        return found

    def roll_back(self, name: str, reason: str) -> int:
        version: int = self._ask("roll_back", name=name, reason=reason)
        return version

    def close(self) -> None:
        """Ends the child for good; it would also end by itself when our end of its input closes."""
        self._closed = True
        if process := self._process:
            process.kill()
        with self._lock:  # who waits for a reply reads its end first: to close what is being read would not wake it
            self._discard()

    def _discard(self) -> None:
        if self._process:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _ask(self, what: str, seconds: float = SECONDS, **arguments: Any) -> Any:
        line = json.dumps({"do": what, "with": arguments}).encode() + b"\n"
        with self._lock:
            try:
                reply = json.loads(self._exchange(line, seconds))
            except (OSError, ValueError) as error:
                self._discard()
                late = isinstance(error, TimeoutError)
                raise RegistryError(
                    type(error).__name__, f"no answer in {seconds:g} s" if late else "its process ended"
                ) from error
        if "failed" in reply:
            raise RegistryError(reply["failed"], reply["detail"])
        return reply["done"]

    def _exchange(self, line: bytes, seconds: float) -> bytes:
        if self._process is not None and self._process.poll() is not None:
            self._discard()  # it died by itself; its pipes are still open
        if self._process is None:
            self._process = self._spawn()
        if self._closed:
            raise OSError("the service ends")
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(line)
        self._process.stdin.flush()
        return _read_line(self._process.stdout.fileno(), seconds)

    def _spawn(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "mlops_core.registry.agent", str(self.root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**IMPATIENT, **os.environ},
            start_new_session=True,  # a Ctrl-C is for the server, which ends this process when it is done
        )


def _read_line(descriptor: int, seconds: float) -> bytes:
    """One line of a pipe. Raises TimeoutError, or another OSError when the writer is gone."""
    deadline, found = time.monotonic() + seconds, b""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while not found.endswith(b"\n"):
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError
            chunk = os.read(descriptor, CHUNK)
            if not chunk:
                raise OSError("the registry's process ended")
            found += chunk
    return found

"""A HAProxy of our own with two places behind it, blue and green; its runtime socket moves traffic without a reload."""

import atexit
import csv
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mlops_core.errors import MLOpsError, RequestError
from mlops_core.processes import end_with_parent, open_socket

CONFIG = Path("deploy", "proxy", "haproxy.cfg")
BACKEND = "api"
BLUE, GREEN = "blue", "green"
FRONTEND = f"""frontend rehearsal
    bind "fd@${{PROXY_LISTENER}}"
    default_backend {BACKEND}
"""
PLACES = os.pathsep.join(["/usr/sbin", "/usr/local/sbin"])  # not on everybody's path
SOCKET_SECONDS = 5.0
POLL_SECONDS = 0.02


class ProxyMissingError(RequestError):
    def __init__(self) -> None:
        super().__init__(
            "There is no haproxy on this machine. Install it: apt-get install haproxy, or brew install haproxy"
        )


class ProxyError(MLOpsError):
    """The proxy ended, or refuses what it was told."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(f"The proxy {problem}")


def find_haproxy() -> str:
    """HAProxy's path, or nothing."""
    return shutil.which("haproxy") or shutil.which("haproxy", path=PLACES) or ""


def require_haproxy() -> str:
    """Raises ProxyMissingError."""
    program = find_haproxy()
    if not program:
        raise ProxyMissingError
    return program


@dataclass(frozen=True)
class Counts:
    """What the proxy knows of one of the two: totals since it started, and how it is now."""

    answers: int
    errors: int  # answers with 5xx, broken connections, requests that had to be asked again elsewhere
    ms: int  # from the request sent to the answer's first byte, mean of the last 1,024
    busy: int  # requests that it is working on
    weight: int
    status: str
    check: str  # what came of the last health check, in words: its code is gone while the next one is under way

    @property
    def up(self) -> bool:
        return self.status.startswith("UP")

    def since(self, before: "Counts") -> "Counts":
        """The same with what was counted after `before` alone."""
        more = self.answers - before.answers, self.errors - before.errors
        return Counts(*more, self.ms, self.busy, self.weight, self.status, self.check)


def _to_counts(line: dict[str, str]) -> Counts:
    def total(*names: str) -> int:
        return sum(int(line[name] or 0) for name in names)

    return Counts(
        answers=total("hrsp_1xx", "hrsp_2xx", "hrsp_3xx", "hrsp_4xx", "hrsp_5xx", "hrsp_other"),
        errors=total("hrsp_5xx", "econ", "eresp", "wretr"),
        ms=total("rtime"),
        busy=total("scur"),
        weight=total("weight"),
        status=line["status"],
        check=line["check_desc"],
    )


@dataclass
class Proxy:
    """The process. Its folder is its starter's, and so is its end."""

    folder: Path
    process: subprocess.Popen[bytes]
    port: int

    def tell(self, command: str) -> str:
        """Says something on the runtime socket. Raises ProxyError when there is an answer where none is due."""
        try:
            answer = self._ask(command)
        except OSError as error:
            raise ProxyError(
                f"does not answer ({error.strerror or type(error).__name__}): {self._complaint()}"
            ) from None
        if command.startswith("set ") and answer.strip() and "change" not in answer:  # or that there was no need to
            raise ProxyError(f"was told '{command}' and says: {answer.strip()}")
        return answer

    def counts(self, place: str) -> Counts:
        table = csv.DictReader(self.tell("show stat").removeprefix("# ").splitlines())
        return next(_to_counts(line) for line in table if (line["pxname"], line["svname"]) == (BACKEND, place))

    def open_place(self, place: str, port: int) -> None:
        """Points a place at a port of this machine, without any traffic, and waits until its health check passes."""
        self._set(place, f"addr 127.0.0.1 port {port}")
        self._set(place, "weight 0")
        self._set(place, "state ready")
        self._set(place, "health down")
        self._wait_until_healthy(place)

    def share(self, weights: dict[str, int]) -> None:
        """The larger ones first: between two commands somebody must be there to answer."""
        for place, weight in sorted(weights.items(), key=lambda item: -item[1]):
            self._set(place, f"weight {weight}")

    def drain(self, place: str, seconds: float) -> bool:
        """No new requests for a place; says whether those that it is working on were done in time."""
        self._set(place, "state drain")
        return self.waits_until(lambda: not self.counts(place).busy, seconds)

    def close_place(self, place: str) -> None:
        """Nobody is there any more, and nobody is looked for."""
        self._set(place, "state maint")

    def waits_until(self, condition: Callable[[], bool], seconds: float = SOCKET_SECONDS) -> bool:
        """False when the time is up before."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                return False
            time.sleep(POLL_SECONDS)
        return True

    def close(self) -> None:
        """Whatever the state."""
        atexit.unregister(self.close)
        self.process.kill()
        self.process.wait()

    def _wait_until_healthy(self, place: str) -> None:
        if not self.waits_until(lambda: self.counts(place).up):
            raise ProxyError(f"does not find {place} healthy: its check says {self.counts(place).check}")

    def _set(self, place: str, what: str) -> None:
        self.tell(f"set server {BACKEND}/{place} {what}")

    def _ask(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(SOCKET_SECONDS)
            connection.connect(str(self.folder / "proxy.sock"))
            connection.sendall(f"{command}\n".encode())
            return b"".join(iter(lambda: connection.recv(1 << 16), b"")).decode()

    def _is_up(self) -> bool:
        if self.process.poll() is not None:
            raise ProxyError(f"ended with {self.process.returncode}: {self._complaint()}")
        try:
            return bool(self._ask("show version"))
        except OSError:
            return False

    def _complaint(self) -> str:
        lines = (self.folder / "proxy.log").read_text(encoding="utf-8", errors="replace").splitlines()
        return next((line for line in lines if "[ALERT]" in line), "it said nothing")


def start_proxy(root: Path, folder: Path, blue: int) -> Proxy:
    """HAProxy on a free port with the project's configuration, all traffic to blue at this port.

    Raises ProxyMissingError and ProxyError.
    """
    (folder / "frontend.cfg").write_text(FRONTEND, encoding="ascii")
    with open_socket("127.0.0.1", 0) as listener, (folder / "proxy.log").open("wb") as log:
        listener.setblocking(False)
        process = subprocess.Popen(
            [require_haproxy(), "-db", "-f", str(root / CONFIG), "-f", str(folder / "frontend.cfg")],
            env={
                **os.environ,
                "PROXY_SOCKET": str(folder / "proxy.sock"),
                "PROXY_LISTENER": str(listener.fileno()),
                "PROXY_BLUE": f"127.0.0.1:{blue}",
            },
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=[listener.fileno()],
            preexec_fn=end_with_parent,
            start_new_session=sys.platform == "linux",
        )
        proxy = Proxy(folder, process, listener.getsockname()[1])
    atexit.register(proxy.close)
    if not proxy.waits_until(proxy._is_up):
        raise ProxyError(f"does not start: {proxy._complaint()}")
    proxy._wait_until_healthy(BLUE)
    return proxy

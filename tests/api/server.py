"""A real `mlops serve` in a temporary project: its process, raw sockets, answers, accounts and logs."""

import asyncio
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psutil
import uvicorn
from fastapi import FastAPI

from api.protocol import protocol_with
from api.server import Server
from mlops_core.processes import free_port, open_socket

PASSWORD = "seven horses walk home"
JSON = {"content-type": "application/json"}
FORM = {"content-type": "application/x-www-form-urlencoded"}
TOOLS = Path(sys.executable).parent
# A registry that refuses the connection at once, and is asked once.
MACHINE = {
    "MLOPS_MODEL": "small@champion",
    "MLOPS_TRACKING_URI": "http://127.0.0.1:9",
    "MLOPS_REFRESH_SECONDS": "600",
    "OMP_NUM_THREADS": "1",
}
INHERITED = ("MLOPS_", "MLFLOW_", "PYTHONWARNINGS", "PYTHONDONTWRITEBYTECODE", "PYTEST_")
ROW = {"at": "2013-05-06 07:08", "amount": 1.5, "count": 3, "kind": "u", "gate": "A", "open": True}


def environment(**more: str) -> dict[str, str]:
    """The caller's environment without what would change a server."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(INHERITED)}
    return {**kept, "PATH": f"{TOOLS}{os.pathsep}{kept.get('PATH', '')}", **MACHINE, **more}


def make_root(folder: Path, bundle: Path | None = None) -> Path:
    """A project as small as can be, and the copy of a model that a server before would have left.

    MLflow is shadowed in it by a package that cannot be imported: importing the real one costs two seconds of a core.
    """
    (folder / "stubs" / "mlflow").mkdir(parents=True)
    (folder / "stubs" / "mlflow" / "__init__.py").write_text("raise ImportError")
    for name in ("dvc.yaml", "params.yaml"):
        (folder / name).touch()
    if bundle:
        serving = folder / ".mlops" / "serving" / "small@champion"
        shutil.copytree(bundle, serving / "1")
        (serving / "current.json").write_text(json.dumps({"version": 1, "facts": {}}))
    return folder


@dataclass(frozen=True)
class Done:
    """What a command ended with."""

    code: int
    out: str
    err: str

    def one_line(self) -> str:
        """The one line that a failure may say."""
        assert "Traceback" not in self.err, self.err
        lines = self.err.strip().splitlines()
        assert len(lines) == 1, self.err
        return lines[0]


def mlops(root: Path, *arguments: str, typed: str = "", seconds: float = 30, **more: str) -> Done:
    """Runs a command to its end; `typed` comes through a pipe."""
    done = subprocess.run(
        ["mlops", *arguments],
        cwd=root,
        env=environment(**more),
        input=typed,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True)
class Answer:
    """One response."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def problem(self, *statuses: int) -> dict[str, Any]:
        """The problem that it must be."""
        assert self.status in statuses, (self.status, self.body[:500])
        assert self.headers["content-type"] == "application/problem+json", self.headers.items()
        found: dict[str, Any] = self.json
        assert found["status"] == self.status
        assert {"type", "title", "detail", "instance", "request_id"} <= set(found)
        return found


class Wire:
    """One connection: bytes out, responses in."""

    def __init__(self, port: int, seconds: float = 10, receive_buffer: int = 0) -> None:
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(seconds)
        try:
            self.socket.connect(("127.0.0.1", port))
        except OSError:
            self.socket.close()
            raise

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self, method: str = "POST") -> Answer:
        response = http.client.HTTPResponse(self.socket, method=method)
        try:
            response.begin()
            return Answer(response.status, response.headers, response.read())
        finally:
            response.close()

    def ask(self, data: bytes, method: str = "POST") -> Answer:
        self.send(data)
        return self.answer(method)

    def request(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        return self.ask(wire_request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()}), method)

    def rest(self) -> bytes:
        """Everything until the other side ends the connection."""
        found = b""
        while piece := self.socket.recv(1 << 16):
            found += piece
        return found

    def is_closed(self, seconds: float) -> bool:
        """Whether the other side ends the connection within this time; what it still sends is read and dropped."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                if not self.socket.recv(1 << 16):
                    return True
            except TimeoutError:
                return False
            except ConnectionError:
                return True
        return False


def wire_request(method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
    """The bytes of a well-formed request."""
    given = {"host": "localhost", **(headers or {})}
    if body and "transfer-encoding" not in given:
        given.setdefault("content-length", str(len(body)))
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items())]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


@dataclass
class Running:
    """A server process."""

    command: list[str]
    environment: dict[str, str]
    port: int
    root: Path
    logs: Path
    process: subprocess.Popen[bytes] = field(init=False)
    started: float = field(init=False)
    seconds_to_ready: float = 0.0
    _tokens: dict[str, str] = field(default_factory=dict)
    _read: dict[str, int] = field(default_factory=dict)

    def start(self) -> None:
        """Starts the process; after it has ended, again on the same port."""
        self.started = time.monotonic()
        with (self.logs / "stdout").open("ab") as out, (self.logs / "stderr").open("ab") as err:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.root,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def wire(self, seconds: float = 10, receive_buffer: int = 0) -> Wire:
        return Wire(self.port, seconds, receive_buffer)

    def request(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        """One request on a connection of its own."""
        with self.wire() as wire:
            return wire.request(method, path, body, **headers)

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, **headers)

    def login(self, name: str = "ada", password: str = PASSWORD, **more: str) -> Answer:
        form = {"grant_type": "password", "username": name, "password": password, **more}
        return self.request("POST", "/auth/token", urlencode(form).encode(), **FORM)

    def token(self, name: str = "ada") -> str:
        """An access token, asked for once."""
        if name not in self._tokens:
            self._tokens[name] = self.login(name).json["access_token"]
        return self._tokens[name]

    def bearer(self, name: str = "ada") -> dict[str, str]:
        return {"authorization": f"Bearer {self.token(name)}", **JSON}

    def predict(self, rows: list[dict[str, Any]] | None = None) -> Answer:
        return self.request("POST", "/v1/predict", instances(rows or [ROW]), **self.bearer())

    @property
    def out(self) -> str:
        return (self.logs / "stdout").read_text(encoding="utf-8")

    @property
    def err(self) -> str:
        return (self.logs / "stderr").read_text(encoding="utf-8")

    def said(self) -> str:
        """What it wrote since this was asked last."""
        text = ""
        for name in ("stdout", "stderr"):
            with (self.logs / name).open(encoding="utf-8") as file:
                file.seek(self._read.get(name, 0))
                text += file.read()
                self._read[name] = file.tell()
        return text

    def lines(self) -> list[dict[str, Any]]:
        """Every line of its log; each must be one JSON object."""
        found = [json.loads(line) for line in self.out.splitlines()]
        assert all(isinstance(line, dict) for line in found)
        return found

    def family(self) -> list[psutil.Process]:
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def holds(self, wire: Wire) -> bool:
        """Whether the server still has the other end of a connection."""
        port = wire.socket.getsockname()[1]
        found = psutil.Process(self.process.pid).net_connections()
        return any(item.raddr and item.raddr.port == port for item in found)

    def memory_mb(self) -> float:
        found: float = psutil.Process(self.process.pid).memory_info().rss / 2**20
        return found

    def wait_for(self, path: str, status: int, seconds: float = 20) -> float:
        """Waits for a status; the seconds since the start."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.process.poll() is None, self.err
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.get(path).status == status:
                    return time.monotonic() - self.started
            time.sleep(0.02)
        raise AssertionError(f"{path} is not {status} after {seconds:g} s: {self.err}")

    def end(self, how: int = signal.SIGKILL, seconds: float = 30) -> int:
        """Signals the server and waits for it; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(seconds)


def instances(rows: list[dict[str, Any]]) -> bytes:
    return json.dumps({"instances": rows}).encode()


@contextlib.contextmanager
def running(
    root: Path, wait: str = "/livez", status: int = 200, mlflow: bool = False, program: str = "", **more: str
) -> Iterator[Running]:
    """A server on a free port, killed in the end if it still runs; `program` is Python that starts it differently."""
    port, logs = free_port(), root / "logs"
    if not mlflow:
        more["PYTHONPATH"] = str(root / "stubs")
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir()
    command = [sys.executable, "-c", program, str(port)] if program else ["mlops", "serve", "--port", str(port)]
    server = Running(command, environment(**more), port, root, logs)
    server.start()
    try:
        if wait:
            server.seconds_to_ready = server.wait_for(wait, status)
        yield server
    finally:
        server.end()


@contextlib.contextmanager
def serving(app: FastAPI, stall_seconds: float = 5.0) -> Iterator[int]:
    """An app of the test's own, behind the product's server and protocol, in a thread; its port."""
    listener = open_socket("127.0.0.1", 0)
    config = uvicorn.Config(
        app, http=protocol_with(stall_seconds), ws="none", access_log=False, server_header=False, log_config=None
    )
    server = Server(config, app, 0.0)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(20)

"""A real `mlops serve` in a throwaway project: its own accounts, secret, registry and log; ends with its starter."""

import atexit
import contextlib
import http.client
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlops_core.errors import MLOpsError
from mlops_core.paths import state_dir
from mlops_core.processes import end_with_parent
from mlops_core.serve.client import Answer, Client

NEEDED = ("dvc.yaml", "params.yaml", "requirements/serve.txt")  # a project, and what a model version requires
ADDRESS = re.compile(r"^API on http://127\.0\.0\.1:(\d+)", re.MULTILINE)
# Its input ends with whoever holds the other end, however that ends; a second later nobody writes here any more.
SWEEPER = 'cat >/dev/null; sleep 1; rm -rf "$0"'
START_SECONDS, STOP_SECONDS = 60.0, 30.0
POLL_SECONDS = 0.02


class ServiceError(MLOpsError):
    """The rehearsed service ended, or does not do what is waited for."""

    def __init__(self, problem: str, log: Path) -> None:
        self.problem, self.log = problem, log
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        super().__init__(f"The service {problem}: {lines[-1] if lines else 'it said nothing'}")


@dataclass
class Service:
    """The process and its folder. `close` ends it and removes the folder; nothing of it is in the checkout."""

    root: Path
    environment: dict[str, str]
    process: subprocess.Popen[bytes]
    sweeper: subprocess.Popen[bytes]
    port: int = 0
    answers: list[Answer] = field(default_factory=list)
    clients: list[Client] = field(default_factory=list)

    @property
    def state(self) -> Path:
        return state_dir(self.root)

    @property
    def secret(self) -> str:
        """The key that it signs tokens with."""
        return (self.state / "jwt_secret").read_text(encoding="ascii").strip()

    def client(self, name: str = "", password: str = "", token: str = "") -> Client:
        """A caller with a connection of its own: logged in if a name is given, with this token, or a stranger."""
        client = Client(self.port, self.answers, token)
        self.clients.append(client)
        if name and client.log_in(name, password).status != http.client.OK:
            raise ServiceError(f"does not let {name} in", self.root / "stderr.log")
        return client

    def log_in_admin(self) -> Client:
        """The account that the first start made."""
        return self.client("admin", (self.state / "admin_password").read_text(encoding="ascii").strip())

    def add_account(self, admin: Client, name: str, *scopes: str) -> Client:
        """Makes an account with a random password, as an admin does, and logs in."""
        password = secrets.token_urlsafe(18)
        admin.post("/admin/users", {"name": name, "password": password, "scopes": scopes})
        return self.client(name, password)

    def wait_until_up(self) -> None:
        """From here on its port is known."""
        self.wait_until(self._find_port, "started")
        self.wait_until(lambda: self._answers("/livez"), "up")

    def wait_for_model(self) -> None:
        """Waits until it is ready; its questions are not among `answers`."""
        self.wait_until(lambda: self._answers("/readyz"), "ready")

    def wait_until(self, condition: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
        """Raises ServiceError when the process ends or the time is up."""
        end = time.monotonic() + seconds
        while not condition():
            if self.process.poll() is not None:
                raise ServiceError(f"ended with {self.process.returncode}", self.root / "stderr.log")
            if time.monotonic() > end:
                raise ServiceError(f"is not {what} after {seconds:g} s", self.root / "stderr.log")
            time.sleep(POLL_SECONDS)

    def log_lines(self, **facts: Any) -> list[dict[str, Any]]:
        """Lines of its log that state these facts, without their time."""
        text = (self.root / "stdout.log").read_text(encoding="utf-8")
        lines = [json.loads(line) for line in text.splitlines()]
        found = [line for line in lines if facts.items() <= line.items()]
        return [{key: value for key, value in line.items() if key != "timestamp"} for line in found]

    def stop(self) -> int:
        """Asks the process to end, as an operator would; its exit code."""
        self.process.terminate()
        return self.process.wait(STOP_SECONDS)

    def start_again(self) -> None:
        """After `stop`: the same accounts, secret and log, on the same port."""
        self.process = _spawn(self.root, self.environment, self.port)
        self.wait_until(lambda: self._answers("/livez"), "up")

    def close(self) -> None:
        """Whatever the state."""
        atexit.unregister(self.close)
        for client in self.clients:
            client.close()
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.root, ignore_errors=True)
        self.sweeper.kill()
        self.sweeper.communicate()

    def _find_port(self) -> bool:
        found = ADDRESS.search((self.root / "stderr.log").read_text(encoding="utf-8"))
        self.port = int(found[1]) if found else 0
        return bool(found)

    def _answers(self, path: str) -> bool:
        with contextlib.closing(Client(self.port)) as client:
            try:
                return client.get(path).status == http.client.OK
            except (OSError, http.client.HTTPException):
                return False


def start_service(source: Path, **settings: object) -> Service:
    """Starts the service with the choices of `source`, of `MLOPS_*` with these settings alone. Raises ServiceError."""
    service = launch_service(source, **settings)
    service.wait_until_up()
    return service


def launch_service(source: Path, **settings: object) -> Service:
    """The same for who has something to do before it is up."""
    root = Path(tempfile.mkdtemp(prefix="mlops-serve-"))
    sweeper = subprocess.Popen(["sh", "-c", SWEEPER, str(root)], stdin=subprocess.PIPE, start_new_session=True)
    for name in NEEDED:
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(source / name, root / name)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLOPS_")}
    environment |= {f"MLOPS_{name.upper()}": str(value) for name, value in settings.items()}
    service = Service(root, environment, _spawn(root, environment, port=0), sweeper)
    atexit.register(service.close)
    return service


def _spawn(root: Path, environment: dict[str, str], port: int) -> subprocess.Popen[bytes]:
    with (root / "stdout.log").open("ab") as out, (root / "stderr.log").open("ab") as err:
        return subprocess.Popen(
            [str(Path(sys.executable).with_name("mlops")), "serve", "--port", str(port)],
            cwd=root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            preexec_fn=end_with_parent,
            # Interrupting a cell signals the kernel's group. Where the kernel's end would leave us, we stay in it.
            start_new_session=sys.platform == "linux",
        )

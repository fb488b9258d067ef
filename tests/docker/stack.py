"""The compose stack under test: its own project name, ports, passwords and volumes; nothing of it stays."""

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from mlops_core.processes import free_port

CHECKOUT = Path(__file__).parents[2]
PROJECT, TAG = "mlops-test", "test"
SECONDS = 240.0
MEASURES = {"bill_length_mm": 46.1, "bill_depth_mm": 13.2, "flipper_length_mm": 211, "body_mass_g": 4500}
PENGUIN = {"island": "Biscoe", **MEASURES, "sex": "female", "year": 2007}


def run(*command: str, seconds: float = 600, check: bool = True, **more: Any) -> str:
    """What a command prints; what it complains of is part of the failure."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds, check=False, cwd=CHECKOUT, errors="replace", **more
    )
    assert not check or done.returncode == 0, (
        f"{command}: {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    )
    return done.stdout


def engine() -> str:
    """Its version, or nothing where no engine answers."""
    try:
        return run("docker", "version", "--format", "{{.Server.Version}}", check=False, seconds=20).strip()
    except OSError:
        return ""


def until(what: Callable[[], Any], seconds: float = SECONDS) -> Any:
    """The first true value; raises what was last wrong."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, f"still {found!r} after {seconds:g} s"
        time.sleep(0.2)
    return found


@dataclass
class Stack:
    environment: dict[str, str]
    token: str = ""
    answered: int = 0  # predictions that somebody got; each must be in the log

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.environment['API_PORT']}"

    @property
    def app(self) -> str:
        return f"http://127.0.0.1:{self.environment['APP_PORT']}/"

    def compose(self, *arguments: str, **more: Any) -> str:
        return run("docker", "compose", *arguments, env=self.environment, **more)

    def make(self, *arguments: str, **more: Any) -> str:
        return run("make", "-s", *arguments, env=self.environment, **more)

    def container(self, service: str) -> str:
        return self.compose("ps", "-a", "-q", service).strip()

    def inspect(self, service: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(run("docker", "inspect", self.container(service)))[0]
        return found

    def health(self, service: str) -> str:
        return str(self.inspect(service)["State"].get("Health", {}).get("Status", ""))

    def kill(self, service: str) -> None:
        run("docker", "kill", "-s", "KILL", self.container(service))

    def start(self, service: str) -> None:
        run("docker", "start", self.container(service))

    def ask(self, path: str, body: Any = None, form: dict[str, str] | None = None) -> tuple[int, Any]:
        """Status and answer; 0 where nobody answers."""
        data = urlencode(form).encode() if form else json.dumps(body).encode() if body is not None else None
        kind = "application/x-www-form-urlencoded" if form else "application/json"
        headers = {
            "Content-Type": kind,
            **({"Authorization": f"Bearer {self.token}"} if self.token and not form else {}),
        }
        try:
            with urllib.request.urlopen(urllib.request.Request(self.api + path, data, headers), timeout=20) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())
        except OSError:
            return 0, None

    def log_in(self) -> None:
        password = self.environment["MLOPS_ADMIN_PASSWORD"]
        status, answer = self.ask(
            "/auth/token", form={"grant_type": "password", "username": "admin", "password": password}
        )
        assert status == 200, answer
        self.token = answer["access_token"]

    def predict(self) -> tuple[int, Any]:
        status, answer = self.ask("/v1/predict", {"instances": [PENGUIN]})
        self.answered += status == 200
        return status, answer

    def query(self, database: str, sql: str) -> str:
        return self.compose("exec", "-T", "db", "psql", "-U", "postgres", "-d", database, "-Atc", sql).strip()

    def logged(self) -> int:
        """Rows that the prediction log holds; a request of several is one record."""
        return int(self.query("predictions", "SELECT coalesce(sum(rows), 0) FROM mlops_predictions"))

    def settled(self) -> int:
        """The same, once it has stood still for a second."""
        before = -1
        while (now := self.logged()) != before:
            before = now
            time.sleep(1)
        return now


@contextmanager
def stack(folder: Path) -> Iterator[Stack]:
    """Passwords of its own; the stack is down, volumes and all, when the block ends."""
    file = folder / ".env"
    run("python3", "deploy/compose/environment.py", str(file))
    made = dict(line.split("=", 1) for line in file.read_text(encoding="utf-8").splitlines())
    ports = {"API_PORT": str(free_port()), "APP_PORT": str(free_port())}
    environment = {
        **os.environ,
        **made,
        **ports,
        "COMPOSE_PROJECT_NAME": PROJECT,
        "TAG": TAG,
        "BACKUPS": str(folder / "backups"),
        "EDGE": "172.30.77",
        "MONITOR_FILE": str(folder / "deploy" / "compose" / "monitor" / "password"),
        "MLOPS_MODEL": "penguins@champion",
    }
    one = Stack(environment)
    try:
        yield one
    finally:
        print(one.compose("--profile", "*", "logs", "--no-color", "--tail", "40", check=False)[-20000:])
        one.compose("--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "5", check=False)

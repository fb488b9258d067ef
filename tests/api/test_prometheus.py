"""The real Prometheus logs in by itself, reads two real servers, and has an answer for every panel and alert."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import yaml
from server import PASSWORD, ROW, Running, instances, make_root, mlops, running

from mlops_core.processes import free_port

OBSERVE = Path(__file__).parents[2] / "deploy" / "observe"
SECRET = "kN4-v8RzT1yWq_6LfXcJ2mHpD9sUbE7gQo3iZkVe0AaBtYrM"
WRONG = "wrong horse walks home"
pytestmark = pytest.mark.skipif(which("prometheus") is None, reason="there is no Prometheus on this machine")


@dataclass
class Prometheus:
    """A process and its questions."""

    port: int

    def get(self, path: str, **query: str) -> Any:
        with urlopen(f"http://127.0.0.1:{self.port}/api/v1/{path}?{urlencode(query)}", timeout=10) as answer:
            return json.load(answer)["data"]

    def ask(self, expression: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return found

    def wait_for(self, condition: Callable[[], Any], seconds: float = 30) -> Any:
        end = time.monotonic() + seconds
        while True:
            try:
                if found := condition():
                    return found
            except OSError:
                pass  # it starts
            assert time.monotonic() < end, self.get("targets")["activeTargets"]
            time.sleep(0.1)

    def targets(self) -> list[dict[str, Any]]:
        return [item for item in self.get("targets")["activeTargets"] if item["scrapePool"] == "mlops-api"]


@contextmanager
def prometheus(folder: Path, password: str, token_port: int, *ports: int) -> Iterator[Prometheus]:
    """Runs the configuration of the compose stack with this machine's addresses, once a second."""
    tree, port = yaml.safe_load((OBSERVE / "prometheus.yml").read_bytes()), free_port()
    tree["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    api, own = tree["scrape_configs"]
    api["static_configs"] = [{"targets": [f"127.0.0.1:{each}" for each in ports]}]
    api["oauth2"] |= {
        "client_secret_file": str(folder / "password"),
        "token_url": f"http://127.0.0.1:{token_port}/auth/token",
    }
    own["static_configs"] = [{"targets": [f"127.0.0.1:{port}"]}]
    (folder / "password").write_text(password + "\n", encoding="utf-8")
    (folder / "prometheus.yml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    shutil.copy(OBSERVE / "alerts.yml", folder)
    checked = subprocess.run(
        ["promtool", "check", "config", str(folder / "prometheus.yml")], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        yield Prometheus(port)
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def servers(
    prepared: Path, bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Running]]:
    """Two instances with one database of accounts, as behind a proxy: one answers labels, the other numbers."""
    folder = tmp_path_factory.mktemp("instances")
    one = Path(shutil.copytree(prepared, folder / "labels"))
    two = make_root(folder / "numbers", bundles["regression"])
    for root in (one, two):
        pointer = {"version": 1, "facts": {"registered_at": "2013-07-01T12:00:00+00:00"}}
        (root / ".mlops" / "serving" / "small@champion" / "current.json").write_text(json.dumps(pointer))
    arguments = ("users", "add", "prometheus", "--scopes", "monitor", "--password-stdin")
    assert mlops(one, *arguments, typed=PASSWORD + "\n").code == 0
    shared = {
        "MLOPS_DATABASE_URL": f"sqlite:///{one / '.mlops' / 'accounts.db'}",
        "MLOPS_JWT_SECRET": SECRET,
        "MLOPS_WORKERS": "1",
        "MLOPS_WAITING": "0",
    }
    with running(one, "/readyz", **shared) as labels, running(two, "/readyz", **shared) as numbers:
        yield [labels, numbers]


def make_events(server: Running) -> None:
    """Something of everything that panels show: predictions, errors, refusals, logins good, bad and throttled."""
    assert server.predict([ROW] * 5).status == 200
    server.get("/nowhere", **server.bearer()).problem(404)
    server.get("/metrics", **server.bearer()).problem(403)
    server.get("/metrics").problem(401)
    body = instances([ROW] * 64)
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(server.request, "POST", "/v1/explain", body, **server.bearer()) for _ in range(32)]
    assert {future.result().status for future in asked} >= {200, 503}


@pytest.fixture(scope="module")
def watched(servers: list[Running], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus after it has read both instances several times, before and after the events."""
    ports = [server.port for server in servers]
    with prometheus(tmp_path_factory.mktemp("prometheus"), PASSWORD, ports[0], *ports) as found:
        found.wait_for(lambda: [item["health"] for item in found.targets()] == ["up", "up"])
        for _ in range(7):
            servers[0].login("eve", WRONG)
        for server in servers:
            make_events(server)
        later = time.time() + 2  # a rate needs two readings
        refused = 'mlops_http_requests_total{route="/v1/explain", status="503"}'
        found.wait_for(lambda: len(found.ask(f"timestamp({refused}) > {later}")) == len(servers))
        yield found


def dashboard() -> list[str]:
    board = json.loads((OBSERVE / "grafana" / "dashboards" / "mlops.json").read_bytes())
    asked = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    asked += [item["expr"] for item in board["annotations"]["list"]]
    return [text.replace("$__rate_interval", "1m").replace("$instance", ".*") for text in asked]


def test_every_panel_shows_something(watched: Prometheus) -> None:
    """The mark of a new version is an event, which may be over: it is only asked."""
    silent = [expression for expression in dashboard() if not watched.ask(expression)]
    assert [expression for expression in silent if not expression.startswith("changes(")] == []


def test_every_rule_is_evaluated(watched: Prometheus) -> None:
    rules = [rule for group in watched.get("rules")["groups"] for rule in group["rules"]]
    watched.wait_for(lambda: all(rule["health"] == "ok" for rule in watched.get("rules")["groups"][0]["rules"]))
    assert len(rules) >= 13
    firing = watched.wait_for(lambda: watched.ask('ALERTS{alertname="ModelOld", alertstate="firing"}'))
    assert len(firing) == 2


def test_every_metric_that_a_rule_reads_is_exported(watched: Prometheus) -> None:
    known = set(watched.get("label/__name__/values"))
    rules = yaml.safe_load((OBSERVE / "alerts.yml").read_bytes())["groups"][0]["rules"]
    for text in [rule["expr"] for rule in rules] + dashboard():
        read = set(re.findall(r"\b(?:mlops|process)_[a-z_]+\b", re.sub(r'"[^"]*"', "", text)))
        assert read <= known, read - known


def test_one_token_serves_many_readings(servers: list[Running], watched: Prometheus) -> None:
    """The events' own logins aside: it keeps its token for as long as it is good."""
    logins = [line for line in servers[0].lines() if line.get("path") == "/auth/token" and line["status"] == 200]
    readings = [line for line in servers[0].lines() if line.get("path") == "/metrics" and line["status"] == 200]
    assert len(readings) > 3
    assert len(logins) <= 3


def test_a_wrong_password_shows_as_an_instance_that_is_down(servers: list[Running], tmp_path: Path) -> None:
    port = servers[1].port
    with prometheus(tmp_path, WRONG, port, port) as found:
        (target,) = found.wait_for(lambda: [item for item in found.targets() if item["health"] == "down"])
        assert "401" in target["lastError"] or "429" in target["lastError"]
        assert [item["value"][1] for item in found.ask('up{job="mlops-api"}')] == ["0"]
        assert WRONG not in servers[1].out

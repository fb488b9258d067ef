"""The champion moves while others ask: nobody fails, and every answer is what the version it names answers."""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from server import Running, Wire, instances, mlops, running, wire_request
from versions import NAME, Known, forget_model, know, make_rows, make_versions, open_at, register

from mlops_core.registry.champions import promote
from mlops_core.registry.store import Store

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's own, of SQLAlchemy

SWAPS = 20
BY_COMMAND = (4, 11)  # these moves are made as an operator makes them; each costs seconds of a core
PER_SECOND = 50
CONNECTIONS = 5
MANY = 200  # rows of every tenth request: it is answered in a thread, beside the event loop
TOLERANCE = 1e-6  # the graph computes in float32, many rows otherwise than one


@dataclass
class Seen:
    """One answer, and when it was asked for."""

    asked: float
    ms: float
    connection: int
    version: int
    rows: list[int]
    answers: list[dict[str, float]]


@dataclass
class Callers:
    """Connections that are kept, and on each a request at its moment, whatever became of the one before."""

    server: Running
    rows: list[dict[str, Any]]
    seen: list[Seen] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def work(self, number: int) -> None:
        pause, turn = CONNECTIONS / PER_SECOND, 0
        start = time.monotonic() + number / PER_SECOND
        with self.server.wire() as wire:
            while not self.ended.wait(max(0.0, start + turn * pause - time.monotonic())):
                many = turn % 10 == number
                chosen = [(turn + step) % len(self.rows) for step in range(MANY if many else 1)]
                try:
                    self.ask(wire, number, chosen)
                except Exception as error:  # a connection that was dropped, an answer that was cut
                    self.failed.append(repr(error))
                    return
                turn += 1

    def ask(self, wire: Wire, number: int, chosen: list[int]) -> None:
        body = instances([self.rows[row] for row in chosen])
        asked = time.monotonic()
        answer = wire.ask(wire_request("POST", "/v1/predict", body, self.server.bearer()))
        ms = (time.monotonic() - asked) * 1000
        if answer.status != 200 or answer.headers["connection"] == "close":
            self.failed.append(f"{answer.status} {answer.headers['connection']}")
            return
        tree = json.loads(answer.body)
        answers = [item["probabilities"] for item in tree["predictions"]]
        self.seen.append(Seen(asked, ms, number, tree["model"]["version"], chosen, answers))

    def wait_for(self, version: int, seconds: float = 20) -> float:
        """Until a request that is sent from now on is answered by this version; the seconds that it took."""
        start = time.monotonic()
        while not any(item.version == version and item.asked >= start for item in self.seen[-PER_SECOND:]):
            assert time.monotonic() < start + seconds, f"version {version} does not serve: {self.server.said()[-2000:]}"
            assert not self.failed, self.failed
            time.sleep(0.01)
        return time.monotonic() - start


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Known]:
    return know(make_versions(tmp_path_factory.mktemp("versions")))


@pytest.fixture
def store(project: Path, known: dict[int, Known]) -> Store:
    """A registry of its own with all versions, the first one champion."""
    store = open_at(forget_model(project), f"sqlite:///{project / 'mlflow.db'}")
    assert [register(store, item.bundle) for item in known.values()] == list(known)
    promote(store, NAME, 1, "the first")
    return store


@pytest.fixture
def asked(project: Path, store: Store) -> Iterator[Callers]:
    """A server that follows that registry, and those who ask it."""
    settings = {"MLOPS_TRACKING_URI": store.uri, "MLOPS_REFRESH_SECONDS": "0.2"}
    with running(project, "/readyz", mlflow=True, **settings) as server:
        callers = Callers(server, make_rows(60))
        server.token()
        threads = [threading.Thread(target=callers.work, args=(number,)) for number in range(CONNECTIONS)]
        for thread in threads:
            thread.start()
        yield callers
        callers.ended.set()
        for thread in threads:
            thread.join(20)


@pytest.mark.slow
def test_20_swaps_at_50_requests_a_second_fail_nobody(
    asked: Callers, known: dict[int, Known], store: Store, project: Path
) -> None:
    order, took = [1], [asked.wait_for(1)]
    began, before = time.monotonic(), asked.server.memory_mb()
    for number in range(SWAPS):
        version = 1 + (order[-1] + number // 3 % 2) % 3  # so that each of the six moves is met
        if number in BY_COMMAND:
            done = mlops(
                project, "promote", str(version), "--model", NAME, "--reason", "x", MLOPS_TRACKING_URI=store.uri
            )
            assert done.code == 0, done
        else:
            promote(store, NAME, version, f"swap {number}")
        took.append(asked.wait_for(version))
        order.append(version)
    seconds = time.monotonic() - began
    asked.ended.set()
    assert asked.failed == []
    check_answers(asked, known)
    assert set(pairwise(order)) == {(a, b) for a in known for b in known if a != b}
    swapped = [line["version"] for line in asked.server.lines() if line["event"] == "model swapped"]
    assert swapped == order
    assert [path.name for path in (project / ".mlops" / "serving" / "small@champion").iterdir() if path.is_dir()] == [
        str(order[-1])
    ]
    sent = [item for item in asked.seen if item.asked >= began]
    late = sorted(item.ms for item in asked.seen)
    grown = asked.server.memory_mb() - before
    print(
        f"{SWAPS} swaps in {seconds:.0f} s at {len(sent) / seconds:.0f} requests/s, answers by version "
        f"{[sum(item.version == version for item in asked.seen) for version in known]}, "
        f"p50 {late[len(late) // 2]:.1f} ms, p99 {late[len(late) * 99 // 100]:.0f} ms, max {late[-1]:.0f} ms; "
        f"swap seen after {sorted(took)[len(took) // 2]:.2f} s (median), memory +{grown:.0f} MB"
    )
    assert len(sent) / seconds > 0.9 * PER_SECOND
    assert grown < 60


def check_answers(asked: Callers, known: dict[int, Known]) -> None:
    """Every answer is the one of the version that it names, for all its rows."""
    right = {version: [item.probabilities(row) for row in asked.rows] for version, item in known.items()}
    for seen in asked.seen:
        for row, answer in zip(seen.rows, seen.answers, strict=True):
            for label, expected in right[seen.version][row].items():
                assert abs(answer[label] - expected) < TOLERANCE, (seen.version, row, answer)
    for row in range(len(asked.rows)):
        low, middle, high = sorted(answers[row]["yes"] for answers in right.values())
        assert min(middle - low, high - middle) > 100 * TOLERANCE, "versions that answer alike prove nothing"


def test_a_reload_or_rollback_that_was_answered_holds_for_the_next_request(project: Path, store: Store) -> None:
    settings = {"MLOPS_TRACKING_URI": store.uri, "MLOPS_REFRESH_SECONDS": "600"}
    with running(project, "/readyz", mlflow=True, **settings) as server, server.wire() as wire:
        row, root = instances(make_rows(1)), server.bearer("root")

        def serving() -> int:
            version: int = wire.request("POST", "/v1/predict", row, **server.bearer()).json["model"]["version"]
            return version

        def move(path: str, body: bytes = b"") -> Any:
            return server.request("POST", f"/admin/model/{path}", body, **root).json

        promote(store, NAME, 2, "better")
        assert serving() == 1, "it looked by itself"
        with ThreadPoolExecutor(3) as pool:
            answers = list(pool.map(move, ["reload"] * 3))
        assert sorted(answer["changed"] for answer in answers) == [False, False, True]
        assert {answer["model"]["version"] for answer in answers} == {2} == {serving()}
        assert move("rollback", b'{"reason": "worse"}')["model"]["version"] == 1 == serving()
        versions = server.get("/v1/models", **root).json["versions"]
        assert [(item["version"], item["withdrawn"]) for item in versions] == [(3, ""), (2, "worse"), (1, "")]

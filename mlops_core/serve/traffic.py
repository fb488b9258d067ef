"""Callers who go on asking while something happens, and the times of requests taken in turns."""

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import numpy as np

from mlops_core.errors import MLOpsError
from mlops_core.serve.client import Answer, Client

PAUSE_SECONDS = 0.01
CALM_SECONDS = 0.4  # before and after, so that what happens between can be told apart
WAIT_SECONDS = 30.0
ENOUGH = 25
SERVED_BY = "x-served-by"  # the header in which a proxy says who answered
TURN = 10


class NoSwapError(MLOpsError):
    """Too few were answered by the version that should be served."""

    def __init__(self, version: int) -> None:
        self.version = version
        super().__init__(f"Version {version} gave fewer than {ENOUGH} answers within {WAIT_SECONDS:g} s.")


@dataclass(frozen=True)
class Seen:
    """One answer to a caller: when, how fast, by which version. Status 0 stands for none at all."""

    at: float  # seconds since the callers began
    ms: float
    status: int
    version: int
    prediction: dict[str, Any]
    server: str = ""  # what a proxy calls the one that answered


@dataclass
class Traffic:
    """What the callers have seen so far, and when versions were moved."""

    seen: list[Seen] = field(default_factory=list)
    moves: list[tuple[float, int]] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    @property
    def failed(self) -> list[Seen]:
        return [item for item in self.seen if item.status != http.client.OK]

    def move(self, version: int, action: Callable[[], object]) -> None:
        """Does what brings a version into service, and waits until it has answered for a while. Raises NoSwapError."""
        self.moves.append((time.monotonic() - self.started, version))
        before = len(self.seen)
        action()
        end = time.monotonic() + WAIT_SECONDS
        while sum(item.version == version for item in self.seen[before:]) < ENOUGH:
            if time.monotonic() > end:
                raise NoSwapError(version)
            time.sleep(PAUSE_SECONDS)

    def answers_by_version(self) -> dict[int, list[dict[str, Any]]]:
        """The different answers of each version."""
        found: dict[int, dict[str, dict[str, Any]]] = {}
        for item in self.seen:
            if item.status == http.client.OK:
                found.setdefault(item.version, {})[json.dumps(item.prediction)] = item.prediction
        return {version: list(answers.values()) for version, answers in sorted(found.items())}


def _seen(traffic: Traffic, ask: Callable[[], Answer]) -> Seen:
    at = time.monotonic() - traffic.started
    try:
        answer = ask()
    except (OSError, http.client.HTTPException):
        return Seen(at, 0.0, 0, 0, {})
    server = answer.headers.get(SERVED_BY, "")
    if answer.status != http.client.OK:
        return Seen(at, answer.ms, answer.status, 0, {}, server)
    tree = answer.json
    prediction = {key: value for key, value in tree["predictions"][0].items() if key != "id"}
    return Seen(at, answer.ms, answer.status, tree["model"]["version"], prediction, server)


@contextlib.contextmanager
def keep_asking(clients: Sequence[Client], instance: Mapping[str, Any]) -> Iterator[Traffic]:
    """Every client asks for the same prediction, again and again with a short pause, as long as the block lasts."""
    traffic, ended = Traffic(), threading.Event()

    def work(client: Client) -> None:
        while not ended.wait(PAUSE_SECONDS):
            traffic.seen.append(_seen(traffic, lambda: client.post("/v1/predict", {"instances": [instance]})))

    threads = [threading.Thread(target=work, args=(client,), name="caller", daemon=True) for client in clients]
    for thread in threads:
        thread.start()
    try:
        time.sleep(CALM_SECONDS)
        yield traffic
        time.sleep(CALM_SECONDS)
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def summarise(times: Mapping[str, Sequence[float]]) -> dict[str, dict[str, float]]:
    """Median, 99th percentile, and how many fit into a second one after the other."""
    return {
        name: {"p50_ms": float(np.median(ms)), "p99_ms": float(np.quantile(ms, 0.99)), "per_second": 1000 / fmean(ms)}
        for name, ms in times.items()
    }


def time_in_turns(cases: Mapping[str, Callable[[], Answer]], requests: int) -> dict[str, list[float]]:
    """Milliseconds of every request: a few of each case in turn, so that a busy second hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(-(-requests // TURN)):
        for name, ask in cases.items():
            times[name] += [ask().ms for _ in range(TURN)]
    return times

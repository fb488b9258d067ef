"""The rehearsal: releases acted out under constant load, one good and the others bad in ways that happen."""

import contextlib
import http.client
import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from mlops_core.deploy.gates import Limits, Login, read_golden
from mlops_core.deploy.proxy import Proxy, require_haproxy, start_proxy
from mlops_core.deploy.release import FAULT, Lane, Note
from mlops_core.errors import MLOpsError, RequestError
from mlops_core.params import Params
from mlops_core.paths import Paths
from mlops_core.pipeline import throwaway
from mlops_core.registry.champions import promote
from mlops_core.serve.client import Client
from mlops_core.serve.rehearsal import Service, launch_service, start_service
from mlops_core.serve.traffic import Seen, Traffic, keep_asking

CALLER = "caller"
TROUBLE_AT = 50
ENOUGH = 5  # answers that the new version has given with this share before it is troubled
SECRET_BYTES = 48


class NoBundleError(RequestError):
    def __init__(self, dataset: str) -> None:
        self.dataset = dataset
        super().__init__(f"There is no trained model of '{dataset}' to release. Train one first: mlops run")


class RehearsalError(MLOpsError):
    """A request failed, or a gate let the wrong one through."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__(f"The rehearsal went wrong: {'; '.join(problems)}")


@dataclass(frozen=True)
class Act:
    """A version that is released, what is the matter with it, and the gate that must notice."""

    name: str
    version: str
    gate: str  # the one that must refuse it; empty: none
    settings: Mapping[str, Any] = field(default_factory=dict)
    signal: int = 0  # sent to it once it has half of the traffic
    damage: bool = False  # of the registry's files, while it starts


ACTS = (
    Act("good", "nothing is the matter with it", ""),
    Act("damaged", "a byte of its model was changed in the registry", "ready", damage=True),
    Act("secret", "it was started with another secret", "smoke", {"jwt_secret": secrets.token_urlsafe(SECRET_BYTES)}),
    Act("killed", "it is killed while it has half of the traffic", f"{TROUBLE_AT} %", signal=signal.SIGKILL),
    Act("hanging", "it hangs while it has half of the traffic", f"{TROUBLE_AT} %", signal=signal.SIGSTOP),
)


@dataclass(frozen=True)
class Result:
    """What came of an act: its notes, and what the callers saw meanwhile."""

    act: Act
    released: bool
    place: str  # where the new version was
    notes: list[Note]
    seen: list[Seen]

    @property
    def decided(self) -> Note:
        """The note before the last: the gate that was shut, or the last one that was passed."""
        return self.notes[-2]

    @property
    def failed(self) -> int:
        return sum(item.status != http.client.OK for item in self.seen)

    @property
    def answered_by_new(self) -> int:
        return sum(item.server == self.place for item in self.seen)

    @property
    def seconds_to_recover(self) -> float:
        """From the fault until all traffic was back; 0 where there was none."""
        return sum(self.notes[-1].at - note.at for note in self.notes if note.what == FAULT)

    @property
    def stopped_by(self) -> str:
        return "" if self.released else self.decided.what


@dataclass(frozen=True)
class Record:
    """All acts, and all that the callers saw, before and after them too."""

    results: list[Result]
    traffic: Traffic

    @property
    def problems(self) -> list[str]:
        """Nothing, when no request failed, none got another answer, and the right gates decided."""
        wrong = [result for result in self.results if result.stopped_by != result.act.gate]
        found = [
            f"'{result.act.name}' was to be stopped by {result.act.gate or 'no gate'}, "
            f"and was by {result.stopped_by or 'none'} ({result.decided.said})"
            for result in wrong
        ]
        answers = max(map(len, self.traffic.answers_by_version().values()), default=0)
        found += [f"one question got {answers} different answers"] if answers > 1 else []
        return found + ([f"{len(self.traffic.failed)} requests failed"] if self.traffic.failed else [])


@dataclass
class Ground:
    """What all versions share, as in production: registry, accounts, prediction log, secret; and the first version."""

    first: Service
    shared: dict[str, object]
    login: Login

    def start(self, act: Act) -> Service:
        return start_service(self.first.root, **{**self.shared, **act.settings})

    def callers(self, port: int, count: int) -> list[Client]:
        """Each with a connection of its own, and a token of the first version."""
        token = self.first.client(self.login.name, self.login.password).token
        return [Client(port, token=token) for _ in range(count)]


def open_ground(paths: Paths) -> Ground:
    """Starts the first version, with a model and an account. Raises NoBundleError."""
    if not paths.bundle.is_dir():
        raise NoBundleError(paths.dataset)
    common = {"model": f"{paths.dataset}@champion", "drain_seconds": 0, "refresh_seconds": 0.5}
    common |= {"trusted_proxies": '["127.0.0.1"]'}
    first = launch_service(paths.root, **common)
    store = throwaway.open_registry(first.root)
    promote(store, paths.dataset, throwaway.register_copy(store, paths, paths.bundle), "the one that is released")
    first.wait_until_up()
    login = Login(CALLER, secrets.token_urlsafe(18))
    account = {"name": login.name, "password": login.password, "scopes": ["predict"]}
    first.log_in_admin().post("/admin/users", account)
    first.wait_for_model()
    shared = {
        "jwt_secret": first.secret,
        "tracking_uri": store.uri,
        "database_url": f"sqlite:///{first.state / 'accounts.db'}",
        "prediction_log_url": f"sqlite:///{first.state / 'predictions.db'}",
    }
    return Ground(first, {**common, **shared}, login)


@contextlib.contextmanager
def asking(ground: Ground, port: int, count: int) -> Iterator[Traffic]:
    """Callers who ask for the same prediction as long as the block lasts."""
    callers = ground.callers(port, count)
    example = callers[0].get("/v1/model").json["example"]
    try:
        with keep_asking(callers, example) as traffic:
            yield traffic
    finally:
        for caller in callers:
            caller.close()


def replace_in_place(ground: Ground, count: int) -> Traffic:
    """The wrong way: end the one that serves, start the new one. What callers without a proxy see of that."""
    with asking(ground, ground.first.port, count) as traffic:
        ground.first.stop()
        ground.first.start_again()
        ground.first.wait_for_model()
    return traffic


@contextlib.contextmanager
def open_lane(ground: Ground, paths: Paths, params: Params, told: Callable[[Note], None]) -> Iterator[Lane]:
    """The first version behind the proxy; in the end nothing is left of either, nor of what came after."""
    limits = Limits(params.deploy.answers, params.deploy.errors, params.deploy.ms)
    with contextlib.ExitStack() as stack:
        stack.callback(ground.first.close)
        proxy = start_proxy(paths.root, ground.first.root, ground.first.port)
        stack.callback(proxy.close)
        lane = Lane(proxy, ground.first, ground.login, read_golden(paths.bundle), limits, told=told)
        stack.callback(lambda: lane.serving.close())
        yield lane


def rehearse(paths: Paths, params: Params, ground: Ground | None = None, say: Callable[[str], None] = print) -> Record:
    """Plays all acts and tells them as they happen; the ground is used up.

    Raises RehearsalError when an act did not end as it must, ProxyMissingError, NoBundleError.
    """
    require_haproxy()
    begun, ground = time.monotonic(), ground or open_ground(paths)
    results: list[Result] = []
    with (
        open_lane(ground, paths, params, lambda note: say(_line(note, begun))) as lane,
        asking(ground, lane.proxy.port, params.deploy.callers) as traffic,
    ):
        for number, act in enumerate(ACTS, 1):
            say(f"\nAct {number}: {act.version}")
            results.append(_play(ground, lane, act, traffic))
            say(summarise(results[-1]))
    record = Record(results, traffic)
    if record.problems:
        raise RehearsalError(record.problems)
    return record


def _line(note: Note, begun: float) -> str:
    return f"{note.at - begun:7.1f} s  {note.what:<6} {note.said}"


def _play(ground: Ground, lane: Lane, act: Act, traffic: Traffic) -> Result:
    place, noted, seen = lane.spare, len(lane.notes), len(traffic.seen)
    with _damage(ground.first.root) if act.damage else contextlib.nullcontext():
        released = lane.release(partial(ground.start, act), partial(_trouble, act, lane.proxy, place))
    return Result(act, released, place, lane.notes[noted:], traffic.seen[seen:])


def _trouble(act: Act, proxy: Proxy, place: str, share: int, candidate: Service) -> str:
    if not act.signal or share != TROUBLE_AT:
        return ""
    before = proxy.counts(place)
    proxy.waits_until(lambda: proxy.counts(place).since(before).answers >= ENOUGH)
    os.kill(candidate.process.pid, act.signal)
    return f"{place} gets {signal.Signals(act.signal).name}"


@contextlib.contextmanager
def _damage(root: Path) -> Iterator[None]:
    """Changes the last byte of the registered graph, and changes it back."""
    file = next((root / "mlartifacts").rglob("model.onnx"))
    sound = file.read_bytes()
    file.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    try:
        yield
    finally:
        file.write_bytes(sound)


def summarise(result: Result) -> str:
    """The act in one line."""
    facts = facts_of(result)
    return (
        f"           {facts['requests']} requests meanwhile, {facts['failed']} failed, "
        f"{facts['by the new one']} answered by the new one, "
        f"half within {facts['half within, ms']} ms, all within {facts['all within, ms']} ms"
    )


def facts_of(result: Result) -> dict[str, str]:
    """The act as a line of a table."""
    times = sorted(item.ms for item in result.seen) or [0.0]
    return {
        "the new version": result.act.version,
        "decided at": result.decided.what,
        "because": result.decided.said,
        "outcome": "takes over" if result.released else "refused",
        "requests": f"{len(result.seen):,}",
        "failed": f"{result.failed:,}",
        "by the new one": f"{result.answered_by_new:,}",
        "half within, ms": f"{times[len(times) // 2]:.1f}",
        "all within, ms": f"{times[-1]:,.0f}",
    }


def describe_record(record: Record) -> str:
    """The rehearsal in one line."""
    over, failed = sum(result.released for result in record.results), len(record.traffic.failed)
    return (
        f"\n{len(record.results)} releases: {over} took over, {len(record.results) - over} were refused. "
        f"{len(record.traffic.seen):,} requests meanwhile, {failed or 'none'} failed."
    )

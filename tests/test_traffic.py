import itertools
import json
import threading

import pytest

from mlops_core.serve import traffic
from mlops_core.serve.client import Answer
from mlops_core.serve.traffic import NoSwapError, keep_asking, summarise, time_in_turns


class Caller:
    """Answers as a service would that serves `version`; a status of 0 breaks the connection."""

    def __init__(self) -> None:
        self.version, self.status, self.ids = 1, 200, itertools.count()

    def post(self, path: str, _tree: object) -> Answer:
        if not self.status:
            raise ConnectionResetError
        version = self.version
        entry = {"id": str(next(self.ids)), "label": f"by {version}"}
        body = {"model": {"name": "small", "version": version}, "predictions": [entry]}
        return Answer("POST", path, self.status, {}, json.dumps(body).encode(), 1.0)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(traffic, "PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(traffic, "CALM_SECONDS", 0.02)
    monkeypatch.setattr(traffic, "WAIT_SECONDS", 2.0)


def test_a_change_is_waited_for_and_every_answer_goes_to_its_version():
    caller = Caller()
    with keep_asking([caller], {}) as seen:
        seen.move(2, lambda: setattr(caller, "version", 2))
    assert seen.answers_by_version() == {1: [{"label": "by 1"}], 2: [{"label": "by 2"}]}
    assert [version for _, version in seen.moves] == [2]
    assert seen.failed == []
    assert sum(item.version == 2 for item in seen.seen) >= traffic.ENOUGH


def test_answers_that_differ_under_one_version_are_all_told():
    caller = Caller()
    with keep_asking([caller], {}) as seen:
        answered = caller.post("/", {})
    wrong = json.loads(answered.body)["predictions"][0] | {"label": "by 2"}
    seen.seen.append(traffic.Seen(0.0, 1.0, 200, 1, {"label": wrong["label"]}))
    assert seen.answers_by_version() == {1: [{"label": "by 1"}, {"label": "by 2"}]}


@pytest.mark.parametrize("status", [503, 0])
def test_a_refusal_and_a_broken_connection_are_failures(status):
    caller = Caller()
    with keep_asking([caller], {}) as seen:
        caller.status = status
    assert {item.status for item in seen.failed} == {status}
    assert set(seen.answers_by_version()) <= {1}


def test_a_version_that_never_answers_is_an_error_and_ends_the_callers(monkeypatch):
    monkeypatch.setattr(traffic, "WAIT_SECONDS", 0.05)
    with pytest.raises(NoSwapError, match="Version 2"), keep_asking([Caller()], {}) as seen:
        seen.move(2, lambda: None)
    assert not [thread for thread in threading.enumerate() if thread.name == "caller"]


def test_cases_take_turns():
    order = []

    def case(name):
        order.append(name)
        return Answer("GET", "/", 200, {}, b"", float(len(order)))

    times = time_in_turns({"a": lambda: case("a"), "b": lambda: case("b")}, 2 * traffic.TURN)
    assert [name for name, _ in itertools.groupby(order)] == ["a", "b", "a", "b"]
    assert {name: len(ms) for name, ms in times.items()} == {"a": 2 * traffic.TURN, "b": 2 * traffic.TURN}


def test_times_are_summed_up_by_median_tail_and_rate():
    found = summarise({"x": [1.0] * 98 + [51.0] * 2})["x"]
    assert found == {"p50_ms": 1.0, "p99_ms": pytest.approx(51.0), "per_second": pytest.approx(500)}

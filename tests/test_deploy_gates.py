from pathlib import Path

import numpy as np
import pytest
from places import open_place
from server import PASSWORD, running
from tables import TASKS
from visits import make_project

from mlops_core.deploy import gates
from mlops_core.deploy.gates import (
    Golden,
    Limits,
    Login,
    RefusedError,
    pass_proxy_gate,
    pass_smoke_gate,
    pass_traffic_gate,
    read_golden,
)
from mlops_core.deploy.proxy import BLUE, GREEN, find_haproxy, start_proxy
from mlops_core.serve.client import Client
from mlops_core.serve.traffic import keep_asking

ROOT = Path(__file__).parents[1]
GENEROUS = Limits(answers=10, errors=0.0, ms=5000)
pytestmark = pytest.mark.skipif(not find_haproxy(), reason="there is no haproxy on this machine")


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(gates, "HOLD_SECONDS", 0.1)


@pytest.fixture
def under_load(tmp_path):
    """Green has half of the traffic of two callers: the proxy, what stands there, and its counts before."""
    with open_place() as blue, open_place() as green:
        proxy = start_proxy(ROOT, tmp_path, blue.port)
        proxy.open_place(GREEN, green.port)
        before = proxy.counts(GREEN)
        callers = [Client(proxy.port) for _ in range(2)]
        with keep_asking(callers, {}):
            proxy.share({GREEN: 50, BLUE: 50})
            yield proxy, green, before
        for caller in callers:
            caller.close()
        proxy.close()


def refusal(*arguments):
    with pytest.raises(RefusedError) as refused:
        pass_traffic_gate(*arguments)
    assert refused.value.gate == "50 %"
    return refused.value.reason


def test_who_answers_many_without_an_error_and_in_time_is_let_on(under_load):
    proxy, _, before = under_load
    assert "0 errors" in pass_traffic_gate(proxy, GREEN, 50, before, GENEROUS)


def test_one_error_among_few_answers_is_one_too_many(under_load):
    proxy, green, before = under_load
    green.status = 503
    assert "failed there" in refusal(proxy, GREEN, 50, before, GENEROUS)


def test_errors_that_are_allowed_are_counted_and_let_on(under_load):
    proxy, green, before = under_load
    green.status = 500  # not among what is asked again
    proxy.waits_until(lambda: proxy.counts(GREEN).since(before).errors > 3)
    green.status = 200
    said = pass_traffic_gate(proxy, GREEN, 50, before, Limits(answers=40, errors=0.9, ms=5000))
    assert " 0 errors" not in said


def test_what_was_before_the_share_is_not_held_against_it(under_load):
    proxy, green, before = under_load
    green.status = 500
    proxy.waits_until(lambda: proxy.counts(GREEN).since(before).errors > 5)
    green.status = 200
    proxy.share({GREEN: 0, BLUE: 100})
    assert proxy.drain(GREEN, 5)
    proxy.open_place(GREEN, green.port)
    again = proxy.counts(GREEN)
    proxy.share({GREEN: 50, BLUE: 50})
    assert "0 errors" in pass_traffic_gate(proxy, GREEN, 50, again, GENEROUS)


def test_who_is_slower_than_allowed_is_refused(under_load):
    proxy, green, before = under_load
    green.seconds = 0.02
    assert "ms, 5 are allowed" in refusal(proxy, GREEN, 50, before, Limits(answers=10, errors=0.0, ms=5))


def test_who_fails_its_health_check_is_refused_though_it_answers(under_load):
    proxy, green, before = under_load
    green.healthy = False
    assert "the proxy finds it" in refusal(proxy, GREEN, 50, before, Limits(answers=10_000, errors=0.0, ms=5000))


def test_who_answers_too_few_in_time_is_refused(under_load, monkeypatch):
    monkeypatch.setattr(gates, "WAIT_SECONDS", 1.0)
    proxy, _, before = under_load
    assert "answers in 1 s" in refusal(proxy, GREEN, 50, before, Limits(answers=100_000, errors=0.0, ms=5000))


def test_who_is_not_healthy_from_where_the_proxy_stands_is_refused_there(under_load):
    proxy, green, _ = under_load
    proxy.close_place(GREEN)
    green.healthy = False
    with pytest.raises(RefusedError) as refused:
        pass_proxy_gate(proxy, GREEN, green.port)
    assert refused.value.gate == "proxy"
    assert "Layer7 wrong status" in refused.value.reason


@pytest.mark.parametrize("task", TASKS)
def test_a_version_of_any_task_passes_the_smoke_gate_by_the_recorded_answers_alone(bundles, tmp_path, task):
    golden = read_golden(bundles[task])
    others = Golden(golden.instances, (np.array(golden.answers) + 0.1).tolist())
    fewer = Golden(golden.instances, golden.answers[1:])
    with running(make_project(tmp_path / "project", bundles[task])) as server:

        def ask(expected):
            clients = [Client(server.port) for _ in range(2)]
            try:
                return pass_smoke_gate(*clients, Login("ada", PASSWORD), expected)
            finally:
                for client in clients:
                    client.close()

        assert ask(golden).startswith(f"{len(golden.answers)} golden rows as recorded")
        for wrong in (others, fewer):
            with pytest.raises(RefusedError, match="golden rows get other answers"):
                ask(wrong)

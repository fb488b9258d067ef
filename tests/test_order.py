"""A search is the same whichever worker ends first, and waits for nobody who is dead."""

import random
import threading
import time

import optuna
import pytest
from optuna.trial import TrialState

from mlops_core.tune import order, storage
from mlops_core.tune.order import InOrder
from mlops_core.tune.storage import open_storage

TRIALS = 18


def objective(trial: optuna.Trial, sleep: random.Random) -> float:
    height = trial.suggest_float("height", -5, 5)
    kind = trial.suggest_categorical("kind", ["round", "flat"])
    width = trial.suggest_int("width", 1, 9) if kind == "round" else 3
    for step in range(3):
        time.sleep(sleep.uniform(0, 0.02))
        trial.report(height**2 + width + trial.number * 7 % 11, step)
        if trial.should_prune():
            raise optuna.TrialPruned
    return height**2 + width + trial.number * 7 % 11


@pytest.fixture
def make(tmp_path):
    """Makes a study that others then work on, each at a storage of his own."""

    def make(name: str) -> str:
        url = f"sqlite:///{tmp_path / name}.db"
        optuna.create_study(study_name="s", storage=open_storage(url)).enqueue_trial({"height": 4.0, "kind": "flat"})
        return url

    return make


def open_study(url: str, seed: int = 7) -> optuna.Study:
    opened = open_storage(url)
    both = InOrder(seed, opened)
    return optuna.load_study(study_name="s", storage=opened, sampler=both, pruner=both)


def search(url: str, workers: int, disorder: int, seed: int = 7) -> list[object]:
    """What became of every trial, after so many workers each took as long as chance would have it."""

    def work(number: int) -> None:
        sleep = random.Random(100 * disorder + number)
        open_study(url, seed).optimize(lambda trial: objective(trial, sleep), n_trials=TRIALS // workers)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    trials = open_study(url).get_trials()
    assert [trial.number for trial in trials] == list(range(TRIALS))
    return [(trial.state, trial.params, trial.value, trial.intermediate_values) for trial in trials]


def test_trials_are_the_same_whichever_worker_ends_first(make):
    alone = search(make("alone"), 1, 0)
    assert {state for state, *_ in alone} == {TrialState.COMPLETE, TrialState.PRUNED}
    assert search(make("two"), 2, 0) == alone
    assert search(make("again"), 2, 1) == alone
    assert search(make("three"), 3, 0) == alone
    assert search(make("other"), 3, 0, seed=8) != alone


def test_a_trial_knows_what_those_long_before_it_have_shown(make):
    study = open_study(make("s"))
    study.sampler._sampler = None
    study.optimize(lambda trial: objective(trial, random.Random(0)), n_trials=TRIALS)
    known = study.sampler._known.get_trials()
    assert [trial.value for trial in known] == [trial.value for trial in study.get_trials()[: TRIALS - order.BEHIND]]


def test_a_trial_is_pruned_by_those_long_before_it_alone(make):
    study = open_study(make("s"))

    def constant(trial: optuna.Trial) -> float:
        value = [1, 1, 1, 9, 9, 9, 9, 9, 5][trial.number]
        trial.report(value, 0)
        if trial.should_prune():
            raise optuna.TrialPruned
        return value

    study.optimize(constant, n_trials=9)
    assert [trial.state.name for trial in study.get_trials()] == ["COMPLETE"] * 8 + ["PRUNED"]


@pytest.fixture
def impatient(monkeypatch):
    """Trials are taken for dead after two seconds of silence."""
    monkeypatch.setattr(storage, "HEARTBEAT_SECONDS", 1)
    monkeypatch.setattr(storage, "GRACE_SECONDS", 2)
    monkeypatch.setattr(order, "HEARTBEAT_SECONDS", 0.5)


def finish_the_next(url: str, count: int) -> None:
    study = open_study(url)
    for _ in range(count):
        study.tell(study.ask(), 1.0)


@pytest.mark.usefixtures("impatient")
@pytest.mark.filterwarnings("ignore:Heartbeat of storage:UserWarning")  # which these trials lack
class TestWhoWaits:
    def test_for_a_dead_worker_ends_its_trial_and_goes_on(self, make):
        url = make("s")
        dead = open_study(url).ask()
        finish_the_next(url, order.BEHIND - 1)
        open_study(url).optimize(lambda trial: objective(trial, random.Random(0)), n_trials=1)
        trials = open_study(url).get_trials()
        assert trials[dead.number].state == TrialState.FAIL
        assert trials[order.BEHIND].state == TrialState.COMPLETE
        assert trials[-1].state == TrialState.WAITING
        assert trials[-1].system_attrs["failed_trial"] == dead.number

    def test_for_a_slow_one_is_not_taken_for_dead(self, make):
        url, begun = make("s"), threading.Event()

        def slow(trial: optuna.Trial) -> float:
            begun.set()
            while len(trial.study.get_trials(deepcopy=False)) <= order.BEHIND:
                time.sleep(0.1)
            time.sleep(6)  # the database counts whole seconds
            return 1.0

        other = threading.Thread(target=lambda: open_study(url).optimize(slow, n_trials=1))
        other.start()
        begun.wait()
        finish_the_next(url, order.BEHIND - 1)
        open_study(url).optimize(lambda trial: objective(trial, random.Random(0)), n_trials=1)
        other.join()
        assert [trial.state for trial in open_study(url).get_trials()] == [TrialState.COMPLETE] * (order.BEHIND + 1)

"""What a trial knows of others: the same in every run, whichever worker ends first."""

import time
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, MedianPruner
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from mlops_core.tune.storage import HEARTBEAT_SECONDS, end_stale_trials

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
BEHIND = 4  # more would mean fewer waits, and trials that know less
STARTUP = 5  # of them known, so the first eight are drawn at random
LOOK_SECONDS = 0.05


def _mix(seed: int, number: int) -> int:
    return int(np.random.SeedSequence((seed, number)).generate_state(1)[0])


class InOrder(BaseSampler, BasePruner):
    """TPE and pruning by the median, for which trial n knows all up to n - `behind` as finished, and no later one.

    With random numbers of its own, too, a trial depends on its number and not on who works on it, or when. Waits
    where an earlier trial is still at work, and looks meanwhile whether somebody is at work on it.
    """

    def __init__(self, seed: int, storage: RDBStorage, behind: int = BEHIND) -> None:
        self.seed, self.storage, self.behind = seed, storage, behind
        self._pruner = MedianPruner(n_startup_trials=5, n_warmup_steps=0)
        self._number, self._known, self._sampler = -1, optuna.create_study(), TPESampler()

    def infer_relative_search_space(self, *_: Any) -> dict[str, BaseDistribution]:
        return {}  # each parameter is sampled alone

    def sample_relative(self, *_: Any) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        known = self._known_to(study, trial)
        return self._sampler.sample_independent(known, trial, param_name, param_distribution)

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        return self._pruner.prune(self._known_to(study, trial), trial)

    def _known_to(self, study: optuna.Study, trial: FrozenTrial) -> optuna.Study:
        if self._number != trial.number:
            self._wait_for_earlier(study, trial)
            earlier = [known for known in study.get_trials(states=FINISHED) if self._is_known(known, trial)]
            self._known = optuna.create_study(directions=study.directions)
            self._known.add_trials(earlier)
            self._sampler = TPESampler(n_startup_trials=STARTUP, seed=_mix(self.seed, trial.number))
            self._number = trial.number
        return self._known

    def _is_known(self, other: FrozenTrial, trial: FrozenTrial) -> bool:
        return other.number <= trial.number - self.behind

    def _wait_for_earlier(self, study: optuna.Study, trial: FrozenTrial) -> None:
        looked = time.monotonic()
        while any(self._is_known(other, trial) for other in study.get_trials(False, (TrialState.RUNNING,))):
            if time.monotonic() > looked + HEARTBEAT_SECONDS:
                looked = time.monotonic()
                end_stale_trials(study, self.storage)
            time.sleep(LOOK_SECONDS)

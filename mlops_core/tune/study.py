"""The study in its database: made once, read by many, counted by finished trials."""

import hashlib
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event, text

from mlops_core.database import create_once, sqlite_file
from mlops_core.errors import MLOpsError
from mlops_core.params import Params
from mlops_core.tune.objective import first_trials, settings_of

HEARTBEAT_SECONDS = 5
GRACE_SECONDS = 20
BUSY_SECONDS = 60
SPACE_VERSION = 2  # raise when the search space or the objective changes: old trials are no answer then
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


class NoTrialError(MLOpsError):
    """The budget ended before any trial was complete."""

    def __init__(self, study: str) -> None:
        self.study = study
        super().__init__(f"Study '{study}' has no complete trial yet: raise tune.seconds or lower tune.rows.")


@dataclass(frozen=True)
class Best:
    """The trial that training uses."""

    family: str
    settings: dict[str, Any]
    loss: float
    trial: int


def study_name(params: Params, data_digest: str) -> str:
    """One name per question: the same data, folds and space go on with the same study, whatever the budget."""
    asked = params.tune.model_dump(exclude={"trials", "seconds", "workers"})
    key = json.dumps([SPACE_VERSION, data_digest, params.seed, asked], sort_keys=True)
    return f"{params.dataset}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


def open_storage(url: str) -> RDBStorage:
    """With a heartbeat: a trial whose process died is put back into the queue.

    On SQLite every transaction starts as a writer. Python's module would begin one at the first write only, and two
    workers that had both read that a trial waits would both take it.
    """
    file = sqlite_file(url)
    engine: dict[str, Any] = {"connect_args": {"timeout": BUSY_SECONDS, "isolation_level": None}} if file else {}
    with warnings.catch_warnings():
        # Experimental since 2.8 in name only; the alternative is a trial that stays RUNNING for ever.
        warnings.simplefilter("ignore", ExperimentalWarning)
        storage = RDBStorage(
            url,
            engine_kwargs=engine,
            heartbeat_interval=HEARTBEAT_SECONDS,
            grace_period=GRACE_SECONDS,
            heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=3),
        )
    if file:
        event.listen(storage.engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return storage


def build_sampler(seed: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=8, constant_liar=True)


def build_pruner() -> optuna.pruners.BasePruner:
    return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=0)


def create_study(name: str, url: str, folder: Path, params: Params, rows: int) -> None:
    """Makes the database and the study under a lock, with its first trials for so many rows."""
    # What Optuna says at a lower level carries the time of day, which would land in the notebook.
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def create() -> None:
        study = optuna.create_study(
            study_name=name, storage=open_storage(url), direction="minimize", load_if_exists=True
        )
        if not study.trials:
            for trial in first_trials(params.tune.families, rows):
                study.enqueue_trial(trial)

    create_once(url, folder, create)


def load_study(name: str, url: str, seed: int) -> optuna.Study:
    return optuna.load_study(
        study_name=name, storage=open_storage(url), sampler=build_sampler(seed), pruner=build_pruner()
    )


# Optuna takes a trial for dead when its heartbeat is old, and never looks at one that was killed before its first.
WITHOUT_HEARTBEAT = """
    SELECT trial_id FROM trials JOIN studies USING (study_id)
    WHERE study_name = :study AND state = 'RUNNING' AND trial_id NOT IN (SELECT trial_id FROM trial_heartbeats)
"""


def end_stale_trials(study: optuna.Study, url: str) -> None:
    """Trials whose process died go back into the queue; nothing stays RUNNING for ever.

    A trial without a heartbeat gets one, and is ended by a later look unless it goes on.
    """
    storage = open_storage(url)
    with storage.engine.connect() as connection:
        silent = connection.execute(text(WITHOUT_HEARTBEAT), {"study": study.study_name}).scalars().all()
    for trial_id in silent:
        storage.record_heartbeat(trial_id)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # the same as in open_storage
        optuna.storages.fail_stale_trials(study)


def finished_trials(study: optuna.Study, limit: int | None = None) -> list[FrozenTrial]:
    """Complete and pruned trials in the order of their numbers, the first `limit` of them."""
    trials = study.get_trials(deepcopy=False, states=FINISHED)
    return sorted(trials, key=lambda trial: trial.number)[:limit]


def best_trial(study: optuna.Study, limit: int) -> Best:
    """The best of the first `limit` finished trials. Raises NoTrialError when none is complete."""
    complete = [trial for trial in finished_trials(study, limit) if trial.state == TrialState.COMPLETE]
    if not complete:
        raise NoTrialError(study.study_name)
    best = min(complete, key=lambda trial: (trial.value, trial.number))
    family, settings = settings_of(best.params)
    return Best(family, settings, float(best.value or 0.0), best.number)


def trials_table(study: optuna.Study, limit: int) -> pd.DataFrame:
    """One line per finished trial: number, state, loss (of the folds it saw), best so far, and its parameters."""
    lines = []
    for trial in finished_trials(study, limit):
        loss = (
            trial.value
            if trial.value is not None
            else trial.intermediate_values.get(max(trial.intermediate_values, default=0))
        )
        lines.append({"trial": trial.number, "state": trial.state.name.lower(), "loss": loss, **trial.params})
    table = pd.DataFrame(lines)
    table.insert(3, "best", table["loss"].where(table["state"] == "complete").cummin().ffill())
    return table

"""The study in its database: made once, read by many, counted by finished trials."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from mlops_core.database import create_once
from mlops_core.datasets import DatasetSpec
from mlops_core.errors import MLOpsError
from mlops_core.params import Params
from mlops_core.tune.objective import first_trials, settings_of
from mlops_core.tune.order import BEHIND, FINISHED, InOrder
from mlops_core.tune.storage import open_storage

ASKED_OF = ("train.parquet", "calibrate.parquet", "schema.json")  # a small table is searched on both
SPACE_VERSION = 3  # raise when the search space, the objective or the order changes: old trials are no answer then


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


def study_name(params: Params, spec: DatasetSpec, processed: Path) -> str:
    """One name per question: the same rows, features, folds and space have one study, whatever the budget."""
    asked = params.tune.model_dump(exclude={"trials", "seconds", "workers"})
    files = [hashlib.sha256((processed / name).read_bytes()).hexdigest() for name in ASKED_OF]
    key = json.dumps([SPACE_VERSION, *files, spec.time, spec.group, params.seed, asked], sort_keys=True)
    return f"{params.dataset}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


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


def load_study(name: str, storage: RDBStorage, params: Params) -> optuna.Study:
    """The study, for whoever works on it: as many workers as trials may know nothing of each other."""
    order = InOrder(params.seed, storage, max(BEHIND, params.tune.workers))
    return optuna.load_study(study_name=name, storage=storage, sampler=order, pruner=order)


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

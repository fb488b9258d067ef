"""What a trial is: settings drawn from a family's space, fitted and scored fold by fold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna
import pandas as pd

from mlops_core.datasets import DatasetSpec
from mlops_core.errors import MLOpsError
from mlops_core.estimators import fit_estimator
from mlops_core.evaluation import metric_of, score
from mlops_core.features import Floats, Schema
from mlops_core.params import Params
from mlops_core.preprocess import (
    FEW_TO_CALIBRATE,
    encode_table,
    encode_target,
    read_fitted,
    read_schema,
    summarise_target,
)
from mlops_core.splits import Ints, forward_folds, random_folds, sample_days, sample_rows
from mlops_core.train.export import raw_answer

# The first trials of a study: each family as a careful person would set it by hand.
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "logistic": {"C": 0.1},
    "boosting": {
        "learning_rate": 0.08,
        "max_iter": 150,
        "max_leaf_nodes": 31,
        "min_samples_leaf": 100,
        "l2_regularization": 1.0,
        "max_features": 0.5,
    },
}
# What scikit-learn chooses, as near as the space allows: no regularisation is not in it.
SKLEARN = {
    "learning_rate": 0.1,
    "max_iter": 100,
    "max_leaf_nodes": 31,
    "min_samples_leaf": 20,
    "l2_regularization": 0.01,
    "max_features": 1.0,
}
FEW_ROWS, FEW_PER_LEAF, FEW_FOLDS = 20_000, 20, 5  # of a small table, leaves of a hundred rows would be most of it


def first_settings(family: str, rows: int) -> dict[str, Any]:
    """The family's first trial for a table of so many training rows."""
    small = family == "boosting" and rows < FEW_ROWS
    return {**DEFAULTS[family], **({"min_samples_leaf": FEW_PER_LEAF} if small else {})}


def first_trials(families: Sequence[str], rows: int) -> list[dict[str, Any]]:
    """What a study begins with. On few rows the baseline is in the race: thirty trials may all be worse than it."""
    trials = [parameters_of(family, first_settings(family, rows)) for family in families]
    return [*trials, parameters_of("boosting", SKLEARN)] if "boosting" in families and rows < FEW_ROWS else trials


@dataclass(frozen=True)
class Fold:
    """One validation window: what is fitted and what is scored."""

    train: Floats
    train_target: npt.NDArray[np.generic]
    validate: Floats
    validate_target: npt.NDArray[np.generic]


def suggest(trial: optuna.Trial, families: list[str]) -> tuple[str, dict[str, Any]]:
    """A family and its settings, drawn from the search space."""
    family = trial.suggest_categorical("family", families)
    if family == "logistic":
        return family, {"C": trial.suggest_float("logistic.C", 1e-3, 10, log=True)}
    return family, {
        "learning_rate": trial.suggest_float("boosting.learning_rate", 0.02, 0.2, log=True),
        "max_iter": trial.suggest_int("boosting.max_iter", 60, 300, step=10),
        "max_leaf_nodes": trial.suggest_int("boosting.max_leaf_nodes", 8, 48, log=True),
        "min_samples_leaf": trial.suggest_int("boosting.min_samples_leaf", 20, 500, log=True),
        "l2_regularization": trial.suggest_float("boosting.l2_regularization", 1e-2, 100, log=True),
        "max_features": trial.suggest_float("boosting.max_features", 0.2, 1.0),
    }


def settings_of(parameters: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Family and settings from a stored trial's parameters."""
    family = str(parameters["family"])
    prefix = f"{family}."
    return family, {name.removeprefix(prefix): value for name, value in parameters.items() if name.startswith(prefix)}


def parameters_of(family: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `settings_of`."""
    return {"family": family, **{f"{family}.{name}": value for name, value in settings.items()}}


def count_folds(params: Params, spec: DatasetSpec, rows: int) -> int:
    """`tune.folds`; of few rows without a time five at least, so that families are told apart by more than chance."""
    few = not spec.time and rows < 5 * FEW_TO_CALIBRATE
    return max(params.tune.folds, FEW_FOLDS) if few else params.tune.folds


def fold_rows(params: Params, table: pd.DataFrame, spec: DatasetSpec) -> list[tuple[Ints, Ints]]:
    """Positions to fit and to validate: forward in time; of whole groups or of rows where the table has no time."""
    if spec.time:
        return forward_folds(table[spec.time], params.tune.folds)
    groups = table[spec.group] if spec.group else None
    return random_folds(table[spec.target], groups, count_folds(params, spec, len(table)), params.seed)


def folds_table(params: Params, table: pd.DataFrame, spec: DatasetSpec) -> pd.DataFrame:
    """One line per fold: rows, days where there are any, and what the target is like where it validates."""
    lines = []
    for fit, check in fold_rows(params, table, spec):
        fitted, checked = table.iloc[fit], table.iloc[check]
        line: dict[str, object] = {"rows fitted": len(fit), "rows validated": len(check)}
        if spec.time:
            line |= {"fit until": fitted[spec.time].max().date(), "validate until": checked[spec.time].max().date()}
        lines.append({**line, **summarise_target(spec, checked)})
    return pd.DataFrame(lines)


def build_folds(params: Params, schema: Schema, table: pd.DataFrame, spec: DatasetSpec) -> list[Fold]:
    """The folds as matrices; of what is fitted about `tune.rows`, whole days where there is time."""
    matrix, target = encode_table(schema, table), encode_target(schema, table)
    size, seed = params.tune.rows, params.seed
    pairs = [
        (sample_days(train, table[spec.time], size, seed) if spec.time else sample_rows(train, size, seed), validate)
        for train, validate in fold_rows(params, table, spec)
    ]
    return [Fold(matrix[train], target[train], matrix[validate], target[validate]) for train, validate in pairs]


def read_folds(params: Params, processed: Path, spec: DatasetSpec) -> tuple[Schema, list[Fold]]:
    schema = read_schema(processed)
    return schema, build_folds(params, schema, read_fitted(processed), spec)


def evaluate_trial(trial: optuna.Trial, schema: Schema, folds: list[Fold], params: Params) -> float:
    """Mean validation loss over the folds, reported after each so that a poor trial ends early."""
    family, settings = suggest(trial, list(params.tune.families))
    losses: list[float] = []
    for step, fold in enumerate(folds):
        model = fit_estimator(family, schema, settings, params.seed, fold.train, fold.train_target)
        answer = raw_answer(model, fold.validate, len(schema.classes))
        losses.append(score(schema.task, fold.validate_target, answer)[metric_of(schema.task)])
        if not np.isfinite(losses[-1]):
            raise MLOpsError(f"Trial {trial.number}: the loss is not a number with {settings}.")
        trial.report(float(np.mean(losses)), step)
        if trial.should_prune():
            raise optuna.TrialPruned
    return float(np.mean(losses))

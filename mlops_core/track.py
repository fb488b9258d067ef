"""Experiment 4: the baselines that every later number stands beside, and the score that must not be believed."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from mlops_core.datasets import DatasetSpec
from mlops_core.estimators import Model, fit_estimator
from mlops_core.evaluation import Floats, metric_label, score, spoken
from mlops_core.features import Floats as Matrix
from mlops_core.features import Schema
from mlops_core.preprocess import encode_table, encode_target
from mlops_core.splits import Ints, forward_folds, random_folds
from mlops_core.train.export import raw_answer
from mlops_core.tune.objective import DEFAULTS

FAMILIES = ("constant", "logistic", "boosting")
WRONG_WAY = "random split"


@dataclass(frozen=True)
class Baseline:
    """A fitted baseline with its settings and its scores on rows that it has not seen."""

    family: str
    settings: dict[str, object]
    model: Model
    scores: dict[str, float]


def baselines_of(task: str) -> dict[str, str]:
    """Name to family."""
    linear = "ridge regression" if task == "regression" else "logistic regression"
    return dict(zip(("base rate", linear, "default boosting"), FAMILIES, strict=True))


def _settings(family: str) -> dict[str, object]:
    return dict(DEFAULTS["logistic"]) if family == "logistic" else {}


def fit_baselines(schema: Schema, matrix: Matrix, target: npt.NDArray[np.generic], seed: int) -> dict[str, Model]:
    """Base rate, a linear model and scikit-learn's default boosting, fitted on the given rows."""
    return {
        name: fit_estimator(family, schema, _settings(family), seed, matrix, target)
        for name, family in baselines_of(schema.task).items()
    }


def baseline_answers(models: dict[str, Model], matrix: Matrix) -> dict[str, Floats]:
    return {name: raw_answer(model, matrix) for name, model in models.items()}


def honest_rows(spec: DatasetSpec, table: pd.DataFrame, folds: int, seed: int) -> tuple[Ints, Ints]:
    """Positions to fit and to score: the last forward fold, or where there is no time one of groups or rows."""
    if spec.time:
        return forward_folds(table[spec.time], folds)[-1]
    groups = table[spec.group] if spec.group else None
    most = groups.nunique(dropna=False) if groups is not None else len(table)
    return random_folds(table[spec.target], groups, max(folds, min(5, most)), seed)[-1]


def random_rows(rows: int, share: float, seed: int) -> tuple[Ints, Ints]:
    """The wrong way: rows drawn at random, so that both halves hold rows of the same bad day."""
    order = np.random.default_rng(seed).permutation(rows)
    cut = round(rows * (1 - share))
    return np.sort(order[:cut]), np.sort(order[cut:])


def run_baselines(
    spec: DatasetSpec, schema: Schema, table: pd.DataFrame, folds: int, bins: int, seed: int
) -> dict[str, Baseline]:
    """Every baseline fitted on the past and scored on the days after it; the wrong way is the last entry.

    The wrong way is the default boosting on as many rows drawn at random, with the day of the year as a feature:
    it recognises the days that it is asked about.
    """
    matrix, target = encode_table(schema, table), encode_target(schema, table)
    fit, check = honest_rows(spec, table, folds, seed)
    models, families = fit_baselines(schema, matrix[fit], target[fit], seed), baselines_of(schema.task)
    results = {
        name: Baseline(
            families[name],
            _settings(families[name]),
            model,
            score(schema.task, target[check], raw_answer(model, matrix[check], len(schema.classes)), bins),
        )
        for name, model in models.items()
    }
    if spec.time:
        day = table[spec.time].dt.day_of_year.to_numpy(dtype="float32")
        leaky = np.column_stack([matrix, day]).astype("float32")
        fit, check = random_rows(len(table), len(check) / len(table), seed)
        model = fit_estimator("boosting", _with_day(schema), {}, seed, leaky[fit], target[fit])
        scores = score(schema.task, target[check], raw_answer(model, leaky[check], len(schema.classes)), bins)
        results[WRONG_WAY] = Baseline("boosting", {"split": "random", "day_of_year": True}, model, scores)
    return results


def _with_day(schema: Schema) -> Schema:
    from mlops_core.features import Column

    day = Column("day_of_year", "number", required=True)
    return replace(schema, columns=[*schema.columns, day])


def flattery(scores: pd.DataFrame, task: str) -> str:
    """What the random split did to the same method's score, as the numbers say.

    By a score that compares on other rows: a loss is higher where the event is more common or the numbers spread more.
    """
    if WRONG_WAY not in scores.index:
        return "This table has no time column, so there are no days that a random split could give away."
    metric = ranked_by(task)
    wrong, honest = scores.loc[WRONG_WAY, metric], scores.loc["default boosting", metric]
    told = f"{metric_label(metric)} {spoken(wrong)} instead of {spoken(honest)} with the same method"
    if wrong > honest:
        return f"Here it looks better: {told}. That is the number that many notebooks report."
    return f"Here it looks no better: {told}. It is the wrong question all the same."


def ranked_by(task: str) -> str:
    """The score, higher for better, that people compare baselines by."""
    return "r2" if task == "regression" else "roc_auc"


def scores_table(results: dict[str, Baseline]) -> pd.DataFrame:
    """One line per baseline."""
    return pd.DataFrame({name: item.scores for name, item in results.items()}).T

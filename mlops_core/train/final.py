"""The final fit, and its scores on the test rows beside every baseline."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mlops_core.datasets import DatasetSpec
from mlops_core.estimators import Model, fit_estimator
from mlops_core.evaluation import (
    Floats,
    build_scorer,
    difference_with_interval,
    metric_of,
    resample_weights,
    score_with_intervals,
)
from mlops_core.features import Floats as Matrix
from mlops_core.features import Schema
from mlops_core.params import Params
from mlops_core.preprocess import encode_table, encode_target
from mlops_core.serve.answers import probability_columns
from mlops_core.splits import days_of, random_folds
from mlops_core.train.export import raw_answer

MAX_SLICES = 20
CROSSED_FOLDS = 5


def fit_final(
    schema: Schema, best: Mapping[str, Any], matrix: Matrix, target: npt.NDArray[np.generic], seed: int
) -> Model:
    """The tuned model on the given rows."""
    return fit_estimator(str(best["family"]), schema, best["settings"], seed, matrix, target)


def cross_answers(
    schema: Schema, spec: DatasetSpec, best: Mapping[str, Any], table: pd.DataFrame, seed: int
) -> tuple[npt.NDArray[np.generic], Floats]:
    """Truth and answer of each row, by a fit on the other folds: what judges a model that every row was fitted to.

    Thirty calibration rows say little about probabilities and are missed in the fit, so a small table spares none. The
    models that answer here know a fifth less than the final one: its sets and intervals come out a little too wide
    rather than too narrow (cross-fitting as in Platt 1999; CV+ of Barber 2021, without its correction for each row).
    A row whose class no other fold holds is left out.
    """
    matrix, target, groups = encode_table(schema, table), encode_target(schema, table), test_groups(table, spec)
    kept = pd.Series(groups) if spec.time or spec.group else None
    count = min(CROSSED_FOLDS, len(np.unique(groups)))
    truths, answers = [], []
    for fit, check in random_folds(table[spec.target], kept, count, seed):
        model = fit_final(schema, best, matrix[fit], target[fit], seed)
        known = check if schema.task == "regression" else check[np.isin(target[check], target[fit])]
        truths.append(target[known])
        answers.append(raw_answer(model, matrix[known], len(schema.classes)))
    return np.concatenate(truths), np.concatenate(answers)


def test_groups(table: pd.DataFrame, spec: DatasetSpec) -> npt.NDArray[np.int64]:
    """What a bootstrap resample keeps together: days, groups where there is no time, or else single rows."""
    if spec.time:
        return days_of(table[spec.time])
    return pd.factorize(table[spec.group], use_na_sentinel=False)[0] if spec.group else np.arange(len(table))


def score_all(
    task: str,
    truth: npt.NDArray[np.generic],
    answers: Mapping[str, Floats],
    groups: npt.NDArray[np.int64],
    params: Params,
) -> dict[str, dict[str, float]]:
    """Scores with intervals for every answer, on the same resamples."""
    weights = resample_weights(groups, params.train.bootstrap, params.seed)
    return {
        name: score_with_intervals(build_scorer(task, truth, answer, params.train.bins), weights)
        for name, answer in answers.items()
    }


def compare_with_best(
    task: str,
    truth: npt.NDArray[np.generic],
    answers: Mapping[str, Floats],
    groups: npt.NDArray[np.int64],
    params: Params,
) -> dict[str, Any]:
    """The best of all other answers, and how much lower or higher the first one's loss is, with its interval.

    The interval of classes is drawn from the rows and a mistake, see `with_a_mistake`.
    """
    metric, bins = metric_of(task), params.train.bins
    losses = {
        name: build_scorer(task, truth, answer, bins)(np.ones(len(truth)))[metric] for name, answer in answers.items()
    }
    ours, *others = answers
    best = min(others, key=lambda name: losses[name])
    pair = [(truth, answers[name]) for name in (ours, best)]
    if task != "regression":
        pair = [with_a_mistake(*item) for item in pair]
        groups = np.append(groups, groups.max() + 1)
    weights = resample_weights(groups, params.train.bootstrap, params.seed)
    scorers = [build_scorer(task, *item, bins) for item in pair]
    _, low, high = difference_with_interval(scorers[0], scorers[1], metric, weights)
    return {"baseline": best, "difference": losses[ours] - losses[best], "low": low, "high": high}


def with_a_mistake(truth: npt.NDArray[np.generic], answer: Floats) -> tuple[npt.NDArray[np.generic], Floats]:
    """The rows and one more, answered wrongly and as surely as they are on average.

    A bootstrap can't draw what no row holds. Of thirty rows without a mistake it makes a model certain that is never
    wrong, and of two such models the one certainly better that overstates more; but up to a tenth of the rows to come
    may be mistakes (the rule of three, Hanley 1983). One row among thousands changes nothing.
    """
    sure, classes = float(answer.max(axis=1).mean()), answer.shape[1]
    mistake = np.full(classes, (1 - sure) / (classes - 1))
    mistake[1] = sure
    return np.append(truth, 0), np.vstack([answer, mistake])


def slices_of(spec: DatasetSpec, table: pd.DataFrame, importance: Mapping[str, float]) -> pd.DataFrame:
    """What to look at one by one: months, categories of few values, flags; else quarters of the foremost number."""
    plain = [name for name in spec.with_role("feature") if spec.columns[name].type in ("category", "boolean")]
    by = table[[name for name in plain if 1 < table[name].nunique() <= MAX_SLICES]].copy()
    if spec.time:
        by.insert(0, "month", table[spec.time].dt.strftime("%Y-%m"))
    numbers = [name for name in importance if spec.columns[name].type in ("number", "integer")]
    if by.empty and numbers:
        by[numbers[0]] = pd.qcut(table[numbers[0]].astype("float64"), 4, duplicates="drop").astype("str")
    return by if len(by.columns) else pd.DataFrame({"rows": "all"}, index=table.index)


def predictions_table(schema: Schema, table: pd.DataFrame, answer: Floats) -> pd.DataFrame:
    """Row id, truth and the served answer: everything that a second opinion needs."""
    ids = table[schema.id] if schema.id else pd.Series(table.index, index=table.index).astype("str")
    frame = pd.DataFrame({"id": ids.to_numpy(), "truth": table[schema.target].to_numpy()})
    if schema.task == "regression":
        return frame.assign(value=answer)
    return frame.assign(**dict(zip(probability_columns(schema.classes), answer.T, strict=True)))

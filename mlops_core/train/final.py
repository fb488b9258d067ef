"""The final fit, and its scores on the test rows beside every baseline."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.pipeline import Pipeline

from mlops_core.estimators import build_estimator
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
from mlops_core.serve.answers import probability_columns
from mlops_core.splits import days_of


def fit_final(
    schema: Schema, best: Mapping[str, Any], matrix: Matrix, target: npt.NDArray[np.generic], seed: int
) -> Pipeline:
    """The tuned model on every training row."""
    return build_estimator(str(best["family"]), schema, best["settings"], seed).fit(matrix, target)


def test_groups(table: pd.DataFrame, time: str | None) -> npt.NDArray[np.int64]:
    """What a bootstrap resample keeps together: days, or single rows where there is no time."""
    return days_of(table[time]) if time else np.arange(len(table))


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
    """The best of all other answers, and how much lower or higher the first one's loss is, with its interval."""
    metric = metric_of(task)
    first, *others = (build_scorer(task, truth, answer, params.train.bins) for answer in answers.values())
    once = np.ones(len(truth))
    losses = [scorer(once)[metric] for scorer in others]
    best = int(np.argmin(losses))
    weights = resample_weights(groups, params.train.bootstrap, params.seed)
    difference, low, high = difference_with_interval(first, others[best], metric, weights)
    return {"baseline": list(answers)[best + 1], "difference": difference, "low": low, "high": high}


def predictions_table(schema: Schema, table: pd.DataFrame, answer: Floats) -> pd.DataFrame:
    """Row id, truth and the served answer: everything that a second opinion needs."""
    ids = table[schema.id] if schema.id else pd.Series(table.index, index=table.index).astype("str")
    frame = pd.DataFrame({"id": ids.to_numpy(), "truth": table[schema.target].to_numpy()})
    if schema.task == "regression":
        return frame.assign(value=answer)
    return frame.assign(**dict(zip(probability_columns(schema.classes), answer.T, strict=True)))

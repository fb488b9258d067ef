"""How good probabilities or values are: scores with intervals over whole days, on slices, beside baselines."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

TINY = 1e-15
LARGE = 100
INTERVAL = (2.5, 97.5)
SLICE_ROWS, SLICE_SHARE = 200, 0.1
ERRORS_OF_A_NUMBER = ("rmse", "mae")


def metric_of(task: str) -> str:
    """The loss that studies minimise and promotions compare."""
    return "rmse" if task == "regression" else "log_loss"


def metric_label(metric: str, unit: str = "") -> str:
    """As people read it: `log loss`, `rmse (kg)`, since the error of a number is in its unit, where one is declared."""
    return f"{metric} ({unit})" if unit and metric in ERRORS_OF_A_NUMBER else metric.replace("_", " ")


def verdict(rival: Mapping[str, Any]) -> str:
    """What a difference to the best baseline says, given with its interval: never more than the interval does."""
    difference, low, high = (spoken(rival[name]) for name in ("difference", "low", "high"))
    certain = "certainly better" if rival["high"] < 0 else "not certainly better"
    return f"{certain} than the best baseline, {rival['baseline']} (difference {difference}, {low} to {high})"


def spoken(value: float) -> str:
    """A score as text: four decimals of a small one, none of a large one, such as an error in dollars."""
    return f"{value:.4f}" if abs(value) < LARGE else f"{value:,.0f}"


def log_losses(truth: Ints, probabilities: Floats) -> Floats:
    """Minus the log of what each row gave to its true class."""
    return -np.log(np.clip(probabilities[np.arange(len(truth)), truth], TINY, 1))


def brier_scores(truth: Ints, probabilities: Floats) -> Floats:
    """Squared error of the last class for two classes, summed over classes for more (Brier 1950)."""
    if probabilities.shape[1] == 2:
        return (probabilities[:, 1] - truth) ** 2
    return ((probabilities - np.eye(probabilities.shape[1])[truth]) ** 2).sum(axis=1)


@dataclass(frozen=True)
class Reliability:
    """What calibration is computed from: per row the stated probability and whether the event came."""

    stated: Floats
    happened: Floats
    bin: Ints
    bins: int

    def error(self, weights: Floats) -> float:
        """Expected calibration error: |stated - happened| over equal-width bins, weighted by their rows."""
        stated = np.bincount(self.bin, weights * self.stated, self.bins)
        happened = np.bincount(self.bin, weights * self.happened, self.bins)
        return float(np.abs(stated - happened).sum() / weights.sum())


def reliability(truth: Ints, probabilities: Floats, bins: int) -> Reliability:
    """For two classes of the last class's probability, for more of the top label's confidence (Guo 2017)."""
    if probabilities.shape[1] == 2:
        stated, happened = probabilities[:, 1], truth.astype("float64")
    else:
        stated, happened = probabilities.max(axis=1), (probabilities.argmax(axis=1) == truth).astype("float64")
    return Reliability(stated, happened, np.minimum((stated * bins).astype("int64"), bins - 1), bins)


@dataclass(frozen=True)
class Ranking:
    """Rows sorted once by score, so that a weighted ROC-AUC costs one pass per resample."""

    order: Ints
    starts: Ints
    positive: Floats

    def area(self, weights: Floats) -> float:
        """Probability that a positive row outranks a negative one, ties counted half; 0.5 without both."""
        sorted_weights = weights[self.order]
        positive = np.add.reduceat(sorted_weights * self.positive, self.starts)
        negative = np.add.reduceat(sorted_weights * (1 - self.positive), self.starts)
        below = np.cumsum(negative) - negative
        pairs = positive.sum() * negative.sum()
        return float((positive * (below + negative / 2)).sum() / pairs) if pairs else 0.5


def ranking(positive: npt.NDArray[np.bool_], score: Floats) -> Ranking:
    order = np.argsort(score, kind="stable")
    ordered = score[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    return Ranking(order, starts, positive[order].astype("float64"))


Scorer = Callable[[Floats], dict[str, float]]


def classification_scorer(truth: Ints, probabilities: Floats, bins: int) -> Scorer:
    """A function from row weights to `log_loss`, `roc_auc` (one against rest, averaged), `brier`, `ece`."""
    losses, briers = log_losses(truth, probabilities), brier_scores(truth, probabilities)
    calibration = reliability(truth, probabilities, bins)
    events = [1] if probabilities.shape[1] == 2 else range(probabilities.shape[1])
    rankings = [ranking(truth == event, probabilities[:, event]) for event in events]

    def score(weights: Floats) -> dict[str, float]:
        total = weights.sum()
        return {
            "log_loss": float(weights @ losses / total),
            "roc_auc": float(np.mean([item.area(weights) for item in rankings])),
            "brier": float(weights @ briers / total),
            "ece": calibration.error(weights),
        }

    return score


def regression_scorer(truth: Floats, values: Floats) -> Scorer:
    """A function from row weights to `rmse`, `mae`, `r2`."""
    errors = values - truth

    def score(weights: Floats) -> dict[str, float]:
        total = weights.sum()
        spread = float(weights @ (truth - weights @ truth / total) ** 2)
        squared = float(weights @ errors**2)
        return {
            "rmse": float(np.sqrt(squared / total)),
            "mae": float(weights @ np.abs(errors) / total),
            "r2": 1 - squared / spread if spread else 0.0,
        }

    return score


def build_scorer(task: str, truth: npt.NDArray[np.generic], answer: Floats, bins: int) -> Scorer:
    """`answer` holds probabilities (rows × classes), or for regression one value a row."""
    if task == "regression":
        return regression_scorer(truth.astype("float64"), answer)
    return classification_scorer(truth.astype("int64"), answer, bins)


def score(task: str, truth: npt.NDArray[np.generic], answer: Floats, bins: int = 15) -> dict[str, float]:
    """Every score on all rows."""
    return build_scorer(task, truth, answer, bins)(np.ones(len(truth)))


def resample_weights(groups: Ints, count: int, seed: int) -> Floats:
    """`count` bootstrap resamples of whole groups, as row weights (count × rows).

    Rows of one day share its storm, so days are drawn and not rows: intervals over rows would be too narrow.
    """
    known, codes = np.unique(groups, return_inverse=True)
    generator = np.random.default_rng(seed)
    draws = generator.multinomial(len(known), np.full(len(known), 1 / len(known)), size=count)
    return draws[:, codes].astype("float64")


def score_with_intervals(scorer: Scorer, weights: Floats) -> dict[str, float]:
    """Every score on all rows, with `_low` and `_high`: its 95 % percentile bootstrap interval."""
    point = scorer(np.ones(weights.shape[1]))
    drawn = pd.DataFrame([scorer(draw) for draw in weights])
    result: dict[str, float] = {}
    for name, value in point.items():
        low, high = np.percentile(drawn[name], INTERVAL)
        result |= {name: value, f"{name}_low": float(low), f"{name}_high": float(high)}
    return result


def difference_with_interval(ours: Scorer, theirs: Scorer, metric: str, weights: Floats) -> tuple[float, float, float]:
    """How much higher `ours` scores than `theirs`, and its 95 % interval, both on the same resamples.

    Two intervals that overlap may still hide a certain difference: a hard day is hard for both.
    """
    once = np.ones(weights.shape[1])
    drawn = [ours(draw)[metric] - theirs(draw)[metric] for draw in weights]
    low, high = np.percentile(drawn, INTERVAL)
    return ours(once)[metric] - theirs(once)[metric], float(low), float(high)


def compare(answers: Mapping[str, Floats], task: str, truth: npt.NDArray[np.generic], bins: int) -> pd.DataFrame:
    """One line of scores per named answer."""
    return pd.DataFrame({name: score(task, truth, answer, bins) for name, answer in answers.items()}).T


def score_slices(
    task: str, table: pd.DataFrame, truth: npt.NDArray[np.generic], answer: Floats, bins: int
) -> pd.DataFrame:
    """Scores for every value of every column of `table`, largest slices first."""
    lines = []
    for name in table:
        for value, rows in table.groupby(name).indices.items():
            lines.append(
                {"slice": name, "value": str(value), "rows": len(rows), **score(task, truth[rows], answer[rows], bins)}
            )
    return pd.DataFrame(lines).sort_values(["slice", "rows"], ascending=[True, False], ignore_index=True)


def smallest_slice(rows: int) -> int:
    """How many of all `rows` a slice needs for its score to say something; of a small table, a tenth will do."""
    return min(SLICE_ROWS, math.ceil(rows * SLICE_SHARE))


def large_slices(slices: pd.DataFrame, rows: int) -> pd.DataFrame:
    """Those of them whose score says something, or the largest where all are small."""
    return slices[slices["rows"] >= min(smallest_slice(rows), slices["rows"].max())]


def reliability_table(truth: Ints, probabilities: Floats, bins: int) -> pd.DataFrame:
    """One line per bin that holds rows: stated and observed frequency."""
    item = reliability(truth, probabilities, bins)
    frame = pd.DataFrame({"bin": item.bin, "stated": item.stated, "observed": item.happened})
    return (
        frame.groupby("bin")
        .agg(stated=("stated", "mean"), observed=("observed", "mean"), rows=("stated", "size"))
        .reset_index()
    )

"""Constants fitted on the calibration days: honest probabilities, prediction sets, a decision threshold."""

import math
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import minimize

from mlops_core.errors import MLOpsError
from mlops_core.evaluation import log_losses
from mlops_core.serve.bundle import Constants
from mlops_core.serve.predictor import calibrate

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class TooFewRowsError(MLOpsError):
    """The calibration rows cannot vouch for the coverage."""

    def __init__(self, rows: int, coverage: float) -> None:
        self.rows, self.coverage = rows, coverage
        needed = math.ceil(round(coverage / (1 - coverage), 6))
        super().__init__(
            f"{rows} calibration rows cannot vouch for train.coverage = {coverage:g}: it takes {needed} rows. "
            "Lower it, or lower preprocess.calibrate_every."
        )


def fit_calibration(truth: Ints, raw: Floats) -> Constants:
    """Slope and offsets that minimise the log-loss: Platt's scaling, and its form for more classes (Guo 2017).

    The first class's offset stays 0, as only differences count. A standard normal prior around "as it is" weighs as
    much as one row: a few rows that the model tells apart without a fault would otherwise make it infinitely sure.
    """

    def unpack(values: Floats) -> Constants:
        return Constants(calibration_slope=float(values[0]), calibration_offset=[0.0, *map(float, values[1:])])

    def loss(values: Floats) -> float:
        prior = ((values - start) ** 2).sum() / 2 / len(truth)
        return float(log_losses(truth, calibrate(raw, unpack(values))).mean() + prior)

    start = np.zeros(raw.shape[1])
    start[0] = 1.0
    return unpack(minimize(loss, start, method="L-BFGS-B").x)


def conformal_level(scores: Floats, coverage: float) -> float:
    """The split-conformal quantile: a new score is at most this with at least `coverage` (Vovk 2005).

    Holds for rows that are exchangeable with the calibration rows; how far the test rows are is measured there.
    Raises TooFewRowsError where no finite level would do.
    """
    rank = math.ceil((len(scores) + 1) * coverage)
    if rank > len(scores):
        raise TooFewRowsError(len(scores), coverage)
    return float(np.sort(scores)[rank - 1])


def nonconformity(truth: npt.NDArray[np.generic], answer: Floats) -> Floats:
    """One minus the true class's probability; for regression the absolute error."""
    if answer.ndim == 1:
        return np.abs(answer - truth.astype("float64"))
    return 1 - answer[np.arange(len(answer)), truth.astype("int64")]


def coverage_slack(coverage: float, calibration_rows: int, test_rows: int) -> float:
    """How far below `coverage` the test rows may fall: five points, and three standard errors of both samples."""
    return 0.05 + 3 * math.sqrt(coverage * (1 - coverage) * (1 / calibration_rows + 1 / test_rows))


def decision_threshold(miss_cost: float) -> float:
    """Act when p · cost of a miss exceeds (1 - p) · cost of a false alarm, the unit (Elkan 2001)."""
    return 1 / (1 + miss_cost)


def cost_by_threshold(truth: Ints, probability: Floats, miss_cost: float, steps: int = 99) -> pd.DataFrame:
    """Mean cost per row of acting from each threshold on; never acting and always acting are its ends."""
    thresholds = np.linspace(0, 1, steps + 2)[1:-1]
    acted = probability[:, None] >= thresholds
    late = truth[:, None] == 1
    cost = (~acted & late).mean(axis=0) * miss_cost + (acted & ~late).mean(axis=0)
    return pd.DataFrame({"threshold": thresholds, "cost": cost})


def fitted_only(constants: Constants) -> dict[str, Any]:
    """Those that were fitted, by name: a number has no slope, and more than two classes no threshold."""
    known = {name: value for name, value in asdict(constants).items() if value is not None}
    if constants.calibration_offset is None:
        del known["calibration_slope"]
    return known


def fit_constants(
    task: str, truth: npt.NDArray[np.generic], raw: Floats, coverage: float, miss_cost: float
) -> Constants:
    """Everything that serving applies to the graph's answer, from answers of models that had not seen these rows."""
    if task == "regression":
        return Constants(conformal=conformal_level(nonconformity(truth, raw), coverage), coverage=coverage)
    constants = fit_calibration(truth.astype("int64"), raw)
    level = conformal_level(nonconformity(truth, calibrate(raw, constants)), coverage)
    threshold = decision_threshold(miss_cost) if task == "binary" else None
    return replace(constants, conformal=level, coverage=coverage, threshold=threshold)

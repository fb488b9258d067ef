import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_core.evaluation import log_losses
from mlops_core.serve.bundle import Constants
from mlops_core.serve.predictor import calibrate
from mlops_core.train.calibration import (
    TooFewRowsError,
    conformal_level,
    cost_by_threshold,
    decision_threshold,
    fit_calibration,
    fit_constants,
    fitted_only,
    nonconformity,
)


def honest(classes, rows, seed=0):
    """Probabilities, and outcomes that come as often as these say."""
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.ones(classes), rows)
    truth = (random.random((rows, 1)) > probabilities.cumsum(axis=1)).sum(axis=1)
    return truth, probabilities


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(("slope", "offset"), [(1.0, 0.0), (2.0, 0.0), (0.5, 1.0)])
def test_a_known_distortion_is_undone(classes, slope, offset):
    truth, probabilities = honest(classes, 20_000)
    distortion = Constants(calibration_slope=slope, calibration_offset=[0.0] * (classes - 1) + [offset])
    found = fit_calibration(truth, calibrate(probabilities, distortion))
    assert found.calibration_slope == pytest.approx(1 / slope, abs=0.05)
    assert found.calibration_offset == pytest.approx([0.0] * (classes - 1) + [-offset / slope], abs=0.1)


def test_calibration_never_raises_the_loss_of_the_rows_it_was_fitted_on():
    for seed in range(5):
        truth, probabilities = honest(3, 200, seed)
        raw = calibrate(probabilities, Constants(calibration_slope=3.0, calibration_offset=[0.0, 0.5, -1.0]))
        fitted = calibrate(raw, fit_calibration(truth, raw))
        assert log_losses(truth, fitted).mean() <= log_losses(truth, raw).mean() + 1e-9


def test_certain_answers_can_be_calibrated():
    raw = np.array([[1.0, 0.0]] * 50 + [[0.0, 1.0]] * 50)
    truth = np.array([0] * 45 + [1] * 5 + [0] * 5 + [1] * 45)
    fitted = calibrate(raw, fit_calibration(truth, raw))
    assert fitted[0, 1] == pytest.approx(0.1, abs=0.01)
    assert fitted[-1, 1] == pytest.approx(0.9, abs=0.01)


@pytest.mark.parametrize(
    ("scores", "coverage", "level"),
    [
        (9, 0.9, 9),  # rank ceil(10 × 0.9) = 9 of 9
        (10, 0.9, 10),  # ceil(11 × 0.9) = 10
        (19, 0.9, 18),
        (99, 0.9, 90),
        (100, 0.9, 91),
        (4, 0.5, 3),
        (1, 0.5, 1),
    ],
)
def test_the_level_is_the_score_of_the_finite_sample_rank(scores, coverage, level):
    shuffled = np.random.default_rng(0).permutation(np.arange(1.0, scores + 1))
    assert conformal_level(shuffled, coverage) == level


@pytest.mark.parametrize(("rows", "coverage", "needed"), [(8, 0.9, 9), (0, 0.5, 1), (98, 0.99, 99), (18, 0.95, 19)])
def test_too_few_rows_promise_no_coverage(rows, coverage, needed):
    with pytest.raises(TooFewRowsError, match=f"it takes {needed} rows"):
        conformal_level(np.zeros(rows), coverage)
    assert conformal_level(np.zeros(needed), coverage) == 0


@pytest.mark.parametrize(("rows", "coverage"), [(20, 0.9), (50, 0.8), (9, 0.9)])
def test_new_rows_are_covered_as_often_as_promised(rows, coverage):
    random = np.random.default_rng(0)
    levels = np.array([conformal_level(random.exponential(size=rows), coverage) for _ in range(4000)])
    covered = (random.exponential(size=4000) <= levels).mean()
    assert coverage - 0.02 <= covered <= coverage + 1 / (rows + 1) + 0.02


def test_a_row_is_strange_by_what_its_true_class_lacks():
    answer = np.array([[0.7, 0.3], [0.2, 0.8]])
    assert nonconformity(np.array([0, 0]), answer) == pytest.approx([0.3, 0.8])
    assert nonconformity(np.array([1.0, 5.0]), np.array([2.0, 2.5])) == pytest.approx([1.0, 2.5])


@pytest.mark.parametrize(("cost", "threshold"), [(1, 0.5), (3, 0.25), (0.25, 0.8), (99, 0.01)])
def test_the_threshold_is_where_both_mistakes_cost_the_same(cost, threshold):
    assert decision_threshold(cost) == pytest.approx(threshold)
    assert threshold * cost == pytest.approx(1 - threshold)


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 10).map(lambda tenths: tenths / 10)), min_size=1, max_size=15),
    st.sampled_from([0.5, 1.0, 3.0]),
)
def test_the_cost_table_counts_misses_and_false_alarms(rows, miss_cost):
    truth, probability = (np.array(column) for column in zip(*rows, strict=True))
    table = cost_by_threshold(truth.astype(int), probability, miss_cost, steps=7)
    assert table["threshold"].tolist() == pytest.approx([step / 8 for step in range(1, 8)])
    for line in table.itertuples():
        cost = 0.0
        for late, stated in rows:
            acted = stated >= line.threshold
            cost += miss_cost if late and not acted else float(acted and not late)
        assert line.cost == pytest.approx(cost / len(rows))


def test_on_honest_probabilities_theory_chooses_the_cheapest_threshold():
    truth, probabilities = honest(2, 50_000)
    table = cost_by_threshold(truth, probabilities[:, 1], 3.0)
    assert table.loc[table["cost"].idxmin(), "threshold"] == pytest.approx(decision_threshold(3.0), abs=0.06)


def test_constants_hold_what_the_task_needs_and_no_more():
    truth, probabilities = honest(2, 200)
    binary = fit_constants("binary", truth, probabilities, 0.9, 3.0)
    assert (binary.threshold, binary.coverage) == (0.25, 0.9)
    assert binary.calibration_offset is not None
    assert 0 <= binary.conformal <= 1
    more = fit_constants("multiclass", *honest(3, 200), 0.9, 3.0)
    assert more.threshold is None
    values = fit_constants("regression", np.arange(99.0), np.zeros(99), 0.9, 3.0)
    assert (values.conformal, values.calibration_offset, values.threshold) == (89.0, None, None)


def test_the_level_of_a_constants_file_is_finite():
    truth, probabilities = honest(2, 9)
    assert math.isfinite(fit_constants("binary", truth, probabilities, 0.9, 3.0).conformal)


@pytest.mark.parametrize(
    ("task", "names"),
    [
        ("binary", {"calibration_slope", "calibration_offset", "conformal", "coverage", "threshold"}),
        ("multiclass", {"calibration_slope", "calibration_offset", "conformal", "coverage"}),
        ("regression", {"conformal", "coverage"}),
    ],
)
def test_only_constants_that_were_fitted_are_shown(task, names):
    truth, answer = honest(3 if task == "multiclass" else 2, 200)
    constants = fit_constants(task, truth, answer[:, 1] if task == "regression" else answer, 0.9, 3.0)
    assert set(fitted_only(constants)) == names

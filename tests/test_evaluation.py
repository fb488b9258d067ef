import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from mlops_core.evaluation import (
    brier_scores,
    build_scorer,
    classification_scorer,
    compare,
    difference_with_interval,
    log_losses,
    metric_label,
    ranking,
    regression_scorer,
    reliability_table,
    resample_weights,
    score,
    score_slices,
    score_with_intervals,
    smallest_slice,
    verdict,
)

# Few distinct scores, so that ties are common.
TWO = st.lists(st.tuples(st.integers(0, 1), st.integers(1, 9), st.integers(0, 3)), min_size=2, max_size=40)
MORE = st.lists(
    st.tuples(st.integers(0, 2), st.tuples(*[st.integers(1, 9)] * 3), st.integers(0, 3)), min_size=3, max_size=40
)


def two_classes(rows):
    truth, tenths, weights = (np.array(values) for values in zip(*rows, strict=True))
    probabilities = np.column_stack([1 - tenths / 10, tenths / 10])
    return truth, probabilities, weights.astype(float)


def more_classes(rows):
    truth, parts, weights = zip(*rows, strict=True)
    probabilities = np.array(parts, dtype=float)
    return np.array(truth), probabilities / probabilities.sum(axis=1, keepdims=True), np.array(weights, dtype=float)


@given(TWO)
def test_binary_scores_are_scikit_learns(rows):
    truth, probabilities, _ = two_classes(rows)
    found = score("binary", truth, probabilities)
    assert found["log_loss"] == pytest.approx(metrics.log_loss(truth, probabilities, labels=[0, 1]))
    assert found["brier"] == pytest.approx(metrics.brier_score_loss(truth, probabilities[:, 1]))
    if len(set(truth)) == 2:
        assert found["roc_auc"] == pytest.approx(metrics.roc_auc_score(truth, probabilities[:, 1]))


@given(TWO)
def test_weighted_binary_scores_are_scikit_learns(rows):
    truth, probabilities, weights = two_classes(rows)
    if {0, 1} != set(truth[weights > 0]):
        return
    found = classification_scorer(truth, probabilities, 10)(weights)
    event = probabilities[:, 1]
    assert found["log_loss"] == pytest.approx(metrics.log_loss(truth, probabilities, sample_weight=weights))
    assert found["brier"] == pytest.approx(metrics.brier_score_loss(truth, event, sample_weight=weights))
    assert found["roc_auc"] == pytest.approx(metrics.roc_auc_score(truth, event, sample_weight=weights))


@given(MORE)
def test_scores_of_three_classes_are_scikit_learns(rows):
    truth, probabilities, _ = more_classes(rows)
    found = score("multiclass", truth, probabilities)
    assert found["log_loss"] == pytest.approx(metrics.log_loss(truth, probabilities, labels=[0, 1, 2]))
    assert found["brier"] == pytest.approx(((probabilities - np.eye(3)[truth]) ** 2).sum(axis=1).mean())
    if len(set(truth)) == 3:
        assert found["roc_auc"] == pytest.approx(metrics.roc_auc_score(truth, probabilities, multi_class="ovr"))


@given(TWO.filter(lambda rows: sum(row[2] for row in rows) > 0))
def test_a_row_of_weight_three_counts_as_three_rows(rows):
    truth, probabilities, weights = two_classes(rows)
    repeated = np.repeat(np.arange(len(truth)), weights.astype(int))
    weighted = classification_scorer(truth, probabilities, 10)(weights)
    assert weighted == pytest.approx(score("binary", truth[repeated], probabilities[repeated], 10))


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5), st.integers(0, 3)), min_size=2))
def test_regression_scores_are_scikit_learns(rows):
    truth, values, weights = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    if weights.sum() == 0 or len(set(truth[weights > 0])) < 2:
        return
    found = regression_scorer(truth, values)(weights)
    assert found["rmse"] == pytest.approx(metrics.root_mean_squared_error(truth, values, sample_weight=weights))
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(truth, values, sample_weight=weights))
    assert found["r2"] == pytest.approx(metrics.r2_score(truth, values, sample_weight=weights))


def test_a_certain_and_wrong_answer_costs_much_but_not_everything():
    losses = log_losses(np.array([0, 1]), np.array([[0.0, 1.0], [0.0, 1.0]]))
    assert losses == pytest.approx([-np.log(1e-15), 0])


def test_the_brier_score_of_two_classes_is_half_of_the_sum():
    truth, probabilities = np.array([1]), np.array([[0.4, 0.6]])
    assert brier_scores(truth, probabilities) == pytest.approx([0.16])


def test_a_ranking_without_both_outcomes_is_a_coin():
    assert ranking(np.array([True, True]), np.array([0.1, 0.9])).area(np.ones(2)) == 0.5


def test_ties_count_half():
    positive, scores = np.array([True, False, False]), np.array([0.5, 0.5, 0.1])
    assert ranking(positive, scores).area(np.ones(3)) == 0.75


def test_the_calibration_error_is_the_weighted_gap_of_bins():
    truth = np.array([0, 1, 1, 1])
    event = np.array([0.1, 0.15, 0.9, 1.0])
    probabilities = np.column_stack([1 - event, event])
    # Two rows in the lowest fifth: |0.25 - 1|; two in the highest: |1.9 - 2|.
    assert score("binary", truth, probabilities, 5)["ece"] == pytest.approx((0.75 + 0.1) / 4)


def test_the_calibration_error_of_more_classes_is_about_the_likeliest():
    truth = np.array([0, 1])
    probabilities = np.array([[0.8, 0.1, 0.1], [0.6, 0.2, 0.2]])
    assert score("multiclass", truth, probabilities, 2)["ece"] == pytest.approx(abs(1.4 - 1) / 2)


@pytest.mark.parametrize(("stated", "place"), [(0.0, 0), (0.0999, 0), (0.1, 1), (0.95, 9), (1.0, 9)])
def test_a_stated_probability_falls_into_the_bin_that_it_opens(stated, place):
    table = reliability_table(np.array([1]), np.array([[1 - stated, stated]]), 10)
    assert table.to_dict("list") == {"bin": [place], "stated": [stated], "observed": [1.0], "rows": [1]}


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.integers(0, 3))
def test_a_resample_takes_or_leaves_whole_groups(groups, seed):
    codes = np.array(groups)
    weights = resample_weights(codes, 20, seed)
    assert weights.shape == (20, len(groups))
    for group in set(groups):
        assert (weights[:, codes == group] == weights[:, codes == group][:, :1]).all()
    _, first = np.unique(codes, return_index=True)
    assert (weights[:, first].sum(axis=1) == len(first)).all()


def test_resamples_repeat_with_their_seed_only():
    groups = np.arange(50)
    assert (resample_weights(groups, 5, 1) == resample_weights(groups, 5, 1)).all()
    assert (resample_weights(groups, 5, 1) != resample_weights(groups, 5, 2)).any()


def sane(rows=600):
    random = np.random.default_rng(0)
    event = random.uniform(0.05, 0.95, rows)
    truth = (random.random(rows) < event).astype(int)
    return truth, np.column_stack([1 - event, event]), np.arange(rows) // 10


def test_every_point_lies_in_its_interval():
    truth, probabilities, groups = sane()
    found = score_with_intervals(classification_scorer(truth, probabilities, 10), resample_weights(groups, 200, 0))
    for name in ("log_loss", "roc_auc", "brier"):
        assert found[f"{name}_low"] < found[name] < found[f"{name}_high"]


def test_intervals_over_days_are_wider_than_over_rows_when_a_day_shares_its_weather():
    truth, probabilities, groups = sane()
    truth, probabilities = np.repeat(truth[::10], 10), np.repeat(probabilities[::10], 10, axis=0)
    widths = []
    for units in (groups, np.arange(len(truth))):
        scorer = classification_scorer(truth, probabilities, 10)
        found = score_with_intervals(scorer, resample_weights(units, 200, 0))
        widths.append(found["log_loss_high"] - found["log_loss_low"])
    assert widths[0] > 2 * widths[1]


def test_a_difference_on_the_same_resamples_is_surer_than_two_intervals():
    truth, probabilities, groups = sane()
    weights = resample_weights(groups, 200, 0)
    worse = 0.9 * probabilities + 0.05
    ours, theirs = (build_scorer("binary", truth, answer, 10) for answer in (worse, probabilities))
    point, low, high = difference_with_interval(ours, theirs, "log_loss", weights)
    assert point == pytest.approx(
        score("binary", truth, worse)["log_loss"] - score("binary", truth, probabilities)["log_loss"]
    )
    alone = score_with_intervals(ours, weights)
    assert low < point < high
    assert high - low < (alone["log_loss_high"] - alone["log_loss_low"]) / 2


def test_an_answer_compared_with_itself_does_not_differ():
    truth, probabilities, groups = sane(100)
    scorer = build_scorer("binary", truth, probabilities, 10)
    assert difference_with_interval(scorer, scorer, "brier", resample_weights(groups, 20, 0)) == (0, 0, 0)


def test_slices_hold_every_row_of_every_column_largest_first():
    truth, probabilities, _ = sane(100)
    table = pd.DataFrame({"a": ["x"] * 70 + ["y"] * 30, "b": [1] * 100})
    slices = score_slices("binary", table, truth, probabilities, 10)
    assert slices[["slice", "value", "rows"]].to_numpy().tolist() == [["a", "x", 70], ["a", "y", 30], ["b", "1", 100]]
    assert slices.loc[1, "log_loss"] == pytest.approx(score("binary", truth[70:], probabilities[70:], 10)["log_loss"])


def test_a_comparison_has_one_line_per_answer():
    truth, probabilities, _ = sane(100)
    table = compare({"ours": probabilities, "coin": np.full((100, 2), 0.5)}, "binary", truth, 10)
    assert table.index.tolist() == ["ours", "coin"]
    assert table.loc["coin", "log_loss"] == pytest.approx(np.log(2))


@pytest.mark.parametrize(
    ("rows", "least"), [(0, 0), (1, 1), (10, 1), (11, 2), (1000, 100), (1999, 200), (2000, 200), (10**6, 200)]
)
def test_a_slice_needs_200_rows_or_a_tenth_of_a_small_table(rows, least):
    assert smallest_slice(rows) == least


@pytest.mark.parametrize(
    ("metric", "unit", "label"),
    [
        ("rmse", "kg", "rmse (kg)"),
        ("mae", "kg", "mae (kg)"),
        ("rmse", "", "rmse"),
        ("r2", "kg", "r2"),
        ("log_loss", "kg", "log loss"),
    ],
)
def test_only_the_errors_of_a_number_have_its_unit(metric, unit, label):
    assert metric_label(metric, unit) == label


@pytest.mark.parametrize(
    ("high", "said"), [(-0.001, "certainly better"), (0.0, "not certainly better"), (0.02, "not certainly better")]
)
def test_a_difference_is_certain_only_when_its_whole_interval_is(high, said):
    rival = {"baseline": "default boosting", "difference": -0.0014, "low": -0.03, "high": high}
    assert verdict(rival).startswith(f"{said} than the best baseline, default boosting (difference -0.0014, -0.0300 to")

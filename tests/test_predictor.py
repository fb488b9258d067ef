import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import TASKS, make_table

from mlops_core.features import encode
from mlops_core.preprocess import columns_of, encode_table
from mlops_core.serve.bundle import Constants
from mlops_core.serve.predictor import answers_agree, calibrate, load_predictor
from mlops_core.train.calibration import conformal_level, nonconformity

NAMES = ["at", "amount", "count", "kind", "gate", "open"]


@pytest.fixture(scope="module")
def predictors(bundles):
    return {task: load_predictor(bundles[task]) for task in TASKS}


PROBABILITIES = st.lists(st.integers(1, 20), min_size=3, max_size=3).map(lambda parts: np.array([parts]) / sum(parts))


@given(PROBABILITIES, st.floats(0.1, 5), st.lists(st.floats(-3, 3), min_size=3, max_size=3))
def test_a_calibrated_answer_is_still_a_probability(raw, slope, offset):
    served = calibrate(raw, Constants(calibration_slope=slope, calibration_offset=offset))
    assert served.sum() == pytest.approx(1)
    assert (served > 0).all()


@given(PROBABILITIES, st.floats(0.1, 5))
def test_a_temperature_does_not_change_the_order(raw, slope):
    served = calibrate(raw, Constants(calibration_slope=slope, calibration_offset=[0.0, 0.0, 0.0]))
    assert (np.argsort(served, kind="stable") == np.argsort(raw, kind="stable")).all()


def test_two_classes_are_calibrated_as_platt_does():
    served = calibrate(np.array([[0.2, 0.8]]), Constants(calibration_slope=1.5, calibration_offset=[0.0, 0.5]))
    assert served[0, 1] == pytest.approx(1 / (1 + math.exp(-(1.5 * math.log(0.8 / 0.2) + 0.5))))


def test_without_constants_the_graphs_answer_is_served():
    raw = np.array([[0.2, 0.8]])
    assert calibrate(raw, Constants()) is raw


def test_certainty_can_be_calibrated():
    served = calibrate(np.array([[0.0, 1.0]]), Constants(calibration_slope=0.5, calibration_offset=[0.0, 0.0]))
    assert np.isfinite(served).all()


@pytest.mark.parametrize("task", TASKS)
def test_a_row_alone_gets_the_answer_that_it_gets_among_others(predictors, task):
    predictor, table = predictors[task], make_table(task, rows=30, seed=3)
    together = predictor.predict(encode_table(predictor.schema, table))
    alone = [predictor.predict(encode_table(predictor.schema, table[row : row + 1]))[0] for row in range(30)]
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("task", TASKS)
def test_no_rows_get_no_answers(predictors, task):
    predictor = predictors[task]
    answer, problems = predictor.predict_columns({}, 0)
    assert (len(answer), problems) == (0, [])
    assert answer.shape[1:] == (() if task == "regression" else (len(predictor.schema.classes),))


@pytest.mark.parametrize("task", TASKS)
def test_a_bad_row_does_not_touch_the_answers_of_the_others(predictors, task):
    predictor, table = predictors[task], make_table(task, rows=6)
    columns = {name: list(values) for name, values in columns_of(table, NAMES).items()}
    clean, _ = predictor.predict_columns(columns, 6)
    columns["count"][2], columns["gate"][4] = 99, "C"
    answer, problems = predictor.predict_columns(columns, 6)
    assert {(problem.row, problem.column) for problem in problems} == {(2, "count"), (4, "gate")}
    good = [0, 1, 3, 5]
    np.testing.assert_allclose(answer[good], clean[good], atol=1e-6)
    assert np.isnan(answer[[2, 4]]).all()


def test_only_bad_rows_get_no_answer_at_all(predictors):
    answer, problems = predictors["binary"].predict_columns({"gate": ["C", "C"]}, 2)
    assert np.isnan(answer).all()
    assert {problem.row for problem in problems} == {0, 1}


def test_a_column_that_the_model_does_not_know_changes_nothing(predictors):
    predictor, table = predictors["binary"], make_table(rows=4)
    columns = columns_of(table, NAMES)
    np.testing.assert_array_equal(
        predictor.predict_columns({**columns, "later": [1, 2, 3, 4]}, 4)[0], predictor.predict_columns(columns, 4)[0]
    )


@pytest.mark.parametrize(("event", "label"), [(0.24, 0), (0.25, 1), (0.9, 1), (0.0, 0)])
def test_the_event_is_called_from_the_threshold_on(predictors, event, label):
    assert predictors["binary"].constants.threshold == 0.25
    assert predictors["binary"].labels(np.array([[1 - event, event]])) == [label]


def test_of_more_classes_the_likeliest_is_called(predictors):
    assert predictors["multiclass"].labels(np.array([[0.3, 0.3, 0.4], [0.5, 0.4, 0.1]])).tolist() == [2, 0]


def with_level(predictor, level):
    return dataclasses.replace(predictor, constants=dataclasses.replace(predictor.constants, conformal=level))


@pytest.mark.parametrize(
    ("level", "expected"), [(0.5, [False, False, True]), (0.75, [False, True, True]), (1.0, [True, True, True])]
)
def test_a_set_holds_what_is_likely_enough(predictors, level, expected):
    predictor = with_level(predictors["multiclass"], level)
    assert predictor.prediction_sets(np.array([[0.125, 0.25, 0.625]])).tolist() == [expected]


def test_a_value_is_kept_within_the_range_of_the_target(predictors):
    free = predictors["regression"]
    matrix = encode_table(free.schema, make_table("regression", rows=200))
    values = free.predict(matrix)
    low, high = (float(end) for end in np.quantile(values, [0.3, 0.6]))
    bound = dataclasses.replace(free, schema=dataclasses.replace(free.schema, target_range=[low, high]))
    assert bound.predict(matrix).tolist() == np.clip(values, low, high).tolist()


def test_a_set_is_never_empty(predictors):
    sets = with_level(predictors["multiclass"], 0.0).prediction_sets(np.array([[0.3, 0.4, 0.3]]))
    assert sets.tolist() == [[False, True, False]]


@given(st.floats(0.001, 0.999))
def test_rows_that_are_exactly_as_strange_as_the_level_are_covered(event):
    from mlops_core.serve.predictor import Predictor

    answer = np.tile([1 - event, event], (20, 1))
    truth = np.array([0, 1] * 10)
    level = conformal_level(nonconformity(truth, answer), 0.9)
    predictor = Predictor(None, Constants(conformal=level), "", None)
    covered = predictor.prediction_sets(answer)[np.arange(20), truth]
    assert covered.mean() >= 0.9


def test_more_threads_do_not_change_the_answer(bundles, predictors):
    table = make_table(rows=200)
    matrix = encode_table(predictors["binary"].schema, table)
    other = load_predictor(bundles["binary"], threads=2)
    np.testing.assert_allclose(other.predict(matrix), predictors["binary"].predict(matrix), atol=1e-6)


def test_a_gap_is_answered_where_gaps_are_allowed(predictors):
    predictor = predictors["binary"]
    columns = {"at": ["2013-05-01T10:00"], "count": [3], "gate": ["A"]}
    answer, problems = predictor.predict_columns(columns, 1)
    assert problems == []
    np.testing.assert_array_equal(answer, predictor.predict(encode(predictor.schema, columns, 1)))
    assert answer.sum() == pytest.approx(1)


SAME = [
    ([[0.3, 0.7]], [[0.3 + 5e-7, 0.7 - 5e-7]]),
    ([157309.8125, 90000.0], [157310.09375, 90000.0]),
    ([[157309.8125], [90000.0]], [157309.8125, 90000.0]),
    ([1013.0, 1012.9], [1013.0000005, 1012.9]),
    ([5.0], [5.0]),
]
OTHER = [
    ([[0.3, 0.7]], [[0.30001, 0.69999]]),
    ([[0.3, 0.7], [0.5, 0.5]], [[0.3, 0.7]]),
    ([157309.8125, 90000.0], [157320.0, 90000.0]),
    ([1013.0, 1012.9], [1012.9, 1013.0]),
    ([3e-7, 1e-7], [1e-7, 3e-7]),
    ([5.0], [5.1]),
    ([float("nan")], [5.0]),
]


@pytest.mark.parametrize(("answers", "expected"), SAME)
def test_answers_that_differ_by_float32s_rounding_agree(answers, expected):
    assert answers_agree(answers, expected)


@pytest.mark.parametrize(("answers", "expected"), OTHER)
def test_answers_that_differ_by_more_do_not_agree(answers, expected):
    assert not answers_agree(answers, expected)

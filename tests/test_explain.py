from itertools import combinations
from math import comb

import numpy as np
import pytest
from tables import TASKS, make_table

from mlops_core.explain import build_background, explain, load_background
from mlops_core.preprocess import encode_table
from mlops_core.serve.predictor import load_predictor

NAMES = ["at", "amount", "count", "kind", "gate", "open"]


@pytest.fixture(scope="module")
def explained(bundles):
    """By task: predictor, background, encoded rows that were not trained on (with gaps), and their explanation."""
    found = {}
    for task in TASKS:
        predictor = load_predictor(bundles[task])
        background = load_background(bundles[task])
        matrix = encode_table(predictor.schema, make_table(task, rows=12, seed=5))
        found[task] = predictor, background, matrix, explain(predictor, background, matrix)
    return found


def brute_force(predictor, rows, row, output):
    """Shapley's formula over all subsets of the table's columns, one at a time."""
    inputs, columns = predictor.schema.inputs, len(predictor.schema.columns)

    def worth(coalition):
        mixed = np.array([[row[i] if at in coalition else b[i] for i, (_, at) in enumerate(inputs)] for b in rows])
        return predictor.predict(mixed).reshape(len(rows), -1)[:, output].mean()

    values = np.zeros(columns)
    for player in range(columns):
        others = [column for column in range(columns) if column != player]
        for size in range(columns):
            for coalition in combinations(others, size):
                gain = worth({*coalition, player}) - worth(set(coalition))
                values[player] += gain / (columns * comb(columns - 1, size))
    return values


@pytest.mark.parametrize("task", TASKS)
def test_contributions_are_shapleys_over_all_subsets(explained, task):
    predictor, background, matrix, explanation = explained[task]
    for i in range(2):
        output = int(explanation.answer[i].argmax()) if task == "multiclass" else -1
        expected = brute_force(predictor, background.rows, matrix[i], output)
        scale = max(1, np.abs(explanation.answer).max())
        np.testing.assert_allclose(explanation.contributions[i], expected, rtol=0, atol=1e-6 * scale)


@pytest.mark.parametrize("task", TASKS)
def test_base_and_contributions_add_up_to_what_is_served(explained, task):
    predictor, _, matrix, explanation = explained[task]
    sums = explanation.base_value + explanation.contributions.sum(axis=1)
    np.testing.assert_allclose(sums, explanation.explained, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(explanation.answer, predictor.predict(matrix))


def test_of_two_classes_the_last_is_explained(explained):
    explanation = explained["binary"][3]
    np.testing.assert_array_equal(explanation.explained, explanation.answer[:, 1])


def test_of_more_classes_the_predicted_one_is_explained(explained):
    predictor, background, _, explanation = explained["multiclass"]
    chosen = predictor.labels(explanation.answer)
    assert len(set(chosen)) > 1
    np.testing.assert_array_equal(explanation.explained, explanation.answer[np.arange(len(chosen)), chosen])
    means = predictor.predict(background.rows).mean(axis=0)
    np.testing.assert_allclose(explanation.base_value, means[chosen], rtol=0, atol=1e-12)


def test_of_a_regression_the_value_is_explained(explained):
    predictor, background, _, explanation = explained["regression"]
    np.testing.assert_array_equal(explanation.explained, explanation.answer)
    np.testing.assert_allclose(explanation.base_value, predictor.predict(background.rows).mean())


def test_in_a_linear_model_a_column_contributes_what_it_adds_to_the_mean(explained):
    predictor, background, matrix, explanation = explained["regression"]
    for position in range(len(NAMES)):
        parts = [i for i, (_, at) in enumerate(predictor.schema.inputs) if at == position]
        mixed = np.repeat(matrix[:1], len(background.rows), axis=0)
        mixed[:, parts] = background.rows[:, parts]
        expected = explanation.explained[0] - predictor.predict(mixed).mean()
        assert explanation.contributions[0, position] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("task", TASKS)
def test_the_parts_of_a_moment_are_one_column(explained, task):
    predictor, _, matrix, explanation = explained[task]
    assert [column.name for column in predictor.schema.columns] == NAMES
    assert matrix.shape[1] == len(NAMES) + 1
    assert explanation.contributions.shape == (len(matrix), len(NAMES))


@pytest.mark.parametrize("task", TASKS)
def test_a_missing_value_has_a_contribution_of_its_own(explained, task):
    predictor, background, matrix, _ = explained[task]
    names = [name for name, _ in predictor.schema.inputs]
    gap = matrix[:1].copy()
    gap[0, names.index("amount")] = np.nan
    gap[0, names.index("kind")] = 3  # the code after the last category
    explanation = explain(predictor, background, gap)
    assert np.isfinite(explanation.contributions).all()
    assert explanation.contributions[0, NAMES.index("amount")] != 0
    sums = explanation.base_value + explanation.contributions.sum(axis=1)
    np.testing.assert_allclose(sums, explanation.explained, rtol=0, atol=1e-9)


@pytest.mark.parametrize("task", TASKS)
def test_a_value_that_every_background_row_has_contributes_exactly_nothing(explained, task):
    predictor, background, matrix, _ = explained[task]
    rows = background.rows.copy()
    rows[:, -2:] = matrix[0, -2:]
    explanation = explain(predictor, build_background(predictor, rows), matrix[:1])
    assert (explanation.contributions[0, -2:] == 0).all()
    assert (explanation.contributions[0, :2] != 0).any()


@pytest.mark.parametrize("task", TASKS)
def test_a_row_has_the_same_reasons_alone_and_among_others(explained, task):
    predictor, background, matrix, explanation = explained[task]
    again = explain(predictor, background, matrix)
    np.testing.assert_array_equal(again.contributions, explanation.contributions)
    alone = explain(predictor, background, matrix[4:5])
    np.testing.assert_allclose(alone.contributions[0], explanation.contributions[4], rtol=0, atol=1e-5)


@pytest.mark.parametrize("task", TASKS)
def test_the_reasons_of_no_rows_are_none(explained, task):
    predictor, background, matrix, _ = explained[task]
    assert explain(predictor, background, matrix[:0]).contributions.shape == (0, len(NAMES))

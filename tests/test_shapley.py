from functools import cache
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_core import shapley
from mlops_core.shapley import contributions, prepare

POSITIONS = {columns: np.arange(columns) for columns in range(1, 13)}


def column(values):
    return np.asarray(values, dtype=np.float64).reshape(len(values), -1)


def tangled(matrix):
    """Interactions of up to four columns, the fifth ignored; two outputs."""
    x = np.nan_to_num(matrix.astype(np.float64), nan=0.5)
    first = x[:, 0] * x[:, 1] + np.sin(x[:, 2]) * x[:, -1] + np.exp(-x[:, 0] * x[:, 2] * x[:, 3])
    return np.column_stack([first, np.tanh(first) + x[:, 3]])


def smooth(matrix):
    """Interactions of up to four columns, within bounds as probabilities are."""
    x = np.nan_to_num(matrix.astype(np.float64), nan=0.5)
    return column(1 / (1 + np.exp(-x[:, 0] * x[:, 1] - x[:, 2] * x[:, 3] * x[:, 0] - x[:, 1])))


def multiplied(matrix):
    """Every column a factor, with a long tail as prices have."""
    return column(np.exp(0.6 * matrix[:, :4].astype(np.float64).sum(axis=1)))


def linear(matrix):
    return column(matrix.astype(np.float64) @ np.arange(1, matrix.shape[1] + 1) + 3)


def trees(matrix):
    """Steps, as boosted trees have, of up to three columns."""
    x = matrix > 0
    return column(1.0 * (x[:, 0] & x[:, 1]) + 2 * x[:, 2] + (x[:, 3] & ~x[:, 4] & x[:, 5]) - (x[:, 6] & x[:, 7]))


def normal(rows, columns, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)


def shapley_values(answer, rows, row, output=0, positions=None, plan=None):
    plan = plan or prepare(answer, rows, np.arange(rows.shape[1]) if positions is None else np.array(positions))
    return contributions(answer, plan, row, output, float(answer(row[None])[0, output] - plan.base[output]))


def brute_force(answer, rows, row, output=0, positions=None):
    """The definition: the mean over all orders and all background rows of what a column adds on its turn."""
    positions = np.arange(rows.shape[1]) if positions is None else np.array(positions)
    orders = list(permutations(range(positions.max() + 1)))
    found = np.zeros(positions.max() + 1)
    for order in orders:
        mixed = rows.copy()
        before = answer(mixed)[:, output].mean()
        for player in order:
            mixed[:, positions == player] = row[positions == player]
            after = answer(mixed)[:, output].mean()
            found[player] += (after - before) / len(orders)
            before = after
    return found


@pytest.fixture
def sampling(monkeypatch):
    """Walks instead of coalitions, however few the columns are."""
    monkeypatch.setattr(shapley, "EXACT_COLUMNS", 0)


@pytest.mark.parametrize("columns", [4, 5, 6])
@pytest.mark.parametrize("output", [0, 1])
def test_few_columns_get_the_mean_over_all_orders(columns, output):
    rows, row = normal(3, columns), normal(1, columns, seed=1)[0]
    np.testing.assert_allclose(
        shapley_values(tangled, rows, row, output), brute_force(tangled, rows, row, output), rtol=0, atol=1e-12
    )


def test_a_single_column_gets_everything():
    rows, row = normal(5, 1), np.float32([2])
    assert shapley_values(linear, rows, row)[0] == pytest.approx(2 - rows.mean(), abs=1e-6)


@pytest.mark.parametrize("columns", [2, 6, 7, 12])
def test_a_linear_answer_has_its_closed_form(columns):
    rows, row = normal(20, columns), normal(1, columns, seed=1)[0]
    expected = np.arange(1, columns + 1) * (row - rows.astype(np.float64).mean(axis=0))
    np.testing.assert_allclose(shapley_values(linear, rows, row), expected, rtol=0, atol=1e-9)


def test_walks_in_both_directions_are_exact_for_pairwise_interactions(sampling):
    def products(matrix):
        x = matrix.astype(np.float64)
        return column(x[:, 0] * x[:, 1] - 2 * x[:, 2] * x[:, 3] + x[:, 4])

    rows, row = normal(1, 5), normal(1, 5, seed=1)[0]
    expected = brute_force(products, rows, row)
    np.testing.assert_allclose(shapley_values(products, rows, row), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("answer", [trees, smooth, multiplied])
def test_sampled_walks_come_near_the_mean_over_all_coalitions(answer, monkeypatch):
    rows, explained = normal(100, 9), normal(20, 9, seed=1)
    sampled = prepare(answer, rows, POSITIONS[9])
    monkeypatch.setattr(shapley, "EXACT_COLUMNS", 9)
    exact = prepare(answer, rows, POSITIONS[9])
    errors = [
        shapley_values(answer, rows, row, plan=sampled) - shapley_values(answer, rows, row, plan=exact)
        for row in explained
    ]
    sizes = [shapley_values(answer, rows, row, plan=exact) for row in explained]
    assert np.linalg.norm(errors) < 0.06 * np.linalg.norm(sizes)


def test_trying_walks_out_beats_taking_the_first(monkeypatch):
    rows, explained = normal(100, 9), normal(20, 9, seed=1)
    monkeypatch.setattr(shapley, "BUDGET", 160)
    chosen = prepare(trees, rows, POSITIONS[9])
    with monkeypatch.context() as patch:
        patch.setattr(shapley, "_choose", lambda _, count: list(range(count)))
        first = prepare(trees, rows, POSITIONS[9])
    monkeypatch.setattr(shapley, "EXACT_COLUMNS", 9)
    exact = prepare(trees, rows, POSITIONS[9])

    def error(plan):
        pairs = [(shapley_values(trees, rows, row, plan=item) for item in (plan, exact)) for row in explained]
        return np.linalg.norm([found - expected for found, expected in pairs])

    assert error(chosen) < 0.8 * error(first)


@cache
def tangled_plan(columns):
    return prepare(tangled, normal(12, columns), POSITIONS[columns])


@given(st.sampled_from([5, 8]), st.integers(0, 2**32 - 1), st.sampled_from([0.1, 1, 5]))
def test_contributions_add_up_to_the_answer(columns, seed, size):
    plan, row = tangled_plan(columns), np.float32(size) * normal(1, columns, seed)[0]
    served = tangled(row[None])[0]
    mixed = tangled(np.where(plan.masks, row, plan.donors))
    unclosed = (mixed.T @ plan.weights + plan.constant.T).sum(axis=1) + plan.base
    tolerance = 1e-9 * max(1, np.abs(mixed).max())
    np.testing.assert_allclose(unclosed, served, rtol=0, atol=tolerance)
    for output in (0, 1):
        found = shapley_values(tangled, plan.rows, row, output, plan=plan)
        assert found.sum() + plan.base[output] == pytest.approx(served[output], abs=tolerance)


def test_the_base_is_the_mean_answer_of_all_background_rows():
    rows = normal(40, 9)
    np.testing.assert_allclose(prepare(trees, rows, POSITIONS[9]).base, trees(rows).mean(axis=0))


def test_columns_that_play_the_same_part_contribute_the_same():
    rows, row = normal(6, 4), normal(1, 4, seed=1)[0]
    rows[:, 1], row[1] = rows[:, 0], row[0]
    found = shapley_values(lambda x: column(np.exp(x[:, 0] + x[:, 1]) * x[:, 2]), rows, row)
    assert found[0] == pytest.approx(found[1], abs=1e-9)


@pytest.mark.parametrize("columns", [6, 9])
def test_an_ignored_column_contributes_nothing(columns):
    rows, row = normal(30, columns), normal(1, columns, seed=1)[0]
    found = shapley_values(lambda x: tangled(np.delete(x, 4, axis=1)), rows, row)
    assert found[4] == pytest.approx(0, abs=1e-12)
    assert np.abs(np.delete(found, 4)).max() > 0.01


@pytest.mark.parametrize("columns", [6, 9])
@pytest.mark.parametrize("value", [1.5, np.nan])
def test_a_value_that_every_background_row_has_contributes_exactly_nothing(columns, value):
    rows, row = normal(30, columns), normal(1, columns, seed=1)[0]
    rows[:, 2], row[2] = value, value

    def noisy(matrix):  # as a graph that rounds differently from place to place
        return tangled(matrix) + np.linspace(0, 1e-7, len(matrix))[:, None]

    plan = prepare(noisy, rows, POSITIONS[columns])
    found = contributions(noisy, plan, row, 0, 0.25)
    assert found[2] == 0
    assert found.sum() == pytest.approx(0.25, abs=1e-12)


def test_a_missing_value_differs_from_a_number():
    rows, row = normal(30, 4), normal(1, 4, seed=1)[0]
    row[1] = np.nan
    np.testing.assert_allclose(shapley_values(tangled, rows, row), brute_force(tangled, rows, row), atol=1e-12)
    assert shapley_values(tangled, rows, row)[1] != 0


def test_a_row_like_all_others_needs_no_reasons():
    rows = np.repeat(normal(1, 8), 5, axis=0)
    assert (shapley_values(tangled, rows, rows[0]) == 0).all()


def test_parts_of_one_column_move_together():
    rows, row, positions = normal(4, 5), normal(1, 5, seed=1)[0], [0, 1, 1, 2, 2]
    found = shapley_values(tangled, rows, row, positions=positions)
    assert found.shape == (3,)
    np.testing.assert_allclose(found, brute_force(tangled, rows, row, positions=positions), rtol=0, atol=1e-12)


def test_parts_of_one_column_move_together_on_sampled_walks(sampling):
    rows, row, positions = normal(50, 6), normal(1, 6, seed=1)[0], [0, 1, 1, 2, 3, 3]
    found = shapley_values(smooth, rows, row, positions=positions)
    expected = brute_force(smooth, rows, row, positions=positions)
    assert np.linalg.norm(found - expected) < 0.06 * np.linalg.norm(expected)


@pytest.mark.parametrize("rows", [1, 2, 30, 300])
def test_any_number_of_background_rows_will_do(rows):
    background, row = normal(rows, 8), normal(1, 8, seed=1)[0]
    found = shapley_values(trees, background, row)
    assert found.sum() == pytest.approx((trees(row[None]) - trees(background).mean()).item(), abs=1e-9)


def test_a_plan_is_the_same_every_time():
    plans = [prepare(trees, normal(30, 8), POSITIONS[8]) for _ in range(2)]
    assert all((getattr(plans[0], name) == getattr(plans[1], name)).all() for name in ("masks", "donors", "weights"))


@pytest.mark.parametrize("columns", [7, 23, 60])
def test_an_explanation_stays_within_its_budget(columns):
    plan = prepare(linear, normal(20, columns), np.arange(columns))
    walks = max(shapley.FEWEST_WALKS, shapley.BUDGET // (2 * columns - 2))
    assert len(plan.masks) == walks * (2 * columns - 2) + 1


def test_one_extreme_background_row_does_not_spoil_the_reasons_of_others(monkeypatch):
    rows, row = normal(100, 9), normal(1, 9, seed=1)[0]
    rows[7, [0, 2, 3]] = [-2.5, 2, 1]  # exp(5) where others have 1
    sampled = shapley_values(tangled, rows, row)
    monkeypatch.setattr(shapley, "EXACT_COLUMNS", 9)
    exact = shapley_values(tangled, rows, row)
    assert np.linalg.norm(sampled - exact) < 0.6 * np.linalg.norm(exact)


def test_candidates_whose_errors_cancel_are_chosen_together():
    errors = np.array([[3.0, 0.0], [1.0, 1.0], [2.0, 0.5], [-1.2, -1.0]])
    assert sorted(shapley._choose(errors, 2)) == [1, 3]

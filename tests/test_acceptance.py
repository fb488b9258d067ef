import numpy as np
import pytest
from tables import make_params

from mlops_core.train.acceptance import NotAcceptableError, check_acceptable, is_certainly_worse
from mlops_core.train.final import compare_with_best

FINE = {
    "test": {"log_loss": 0.40},
    "baselines": {"base rate": {"log_loss": 0.69}},
    "beats": {"baseline": "default boosting", "difference": -0.01, "low": -0.03, "high": 0.01, "one_mistake": 2.0},
    "coverage": 0.9,
}
WORSE = {**FINE["beats"], "difference": 0.05, "low": 0.02, "high": 0.08}


def check(**changes):
    check_acceptable({**FINE, **changes}, "binary", make_params(), calibration_rows=500, test_rows=500)


def test_a_model_that_is_as_good_as_the_baselines_is_acceptable():
    check()


@pytest.mark.parametrize(
    ("changes", "problem", "advice"),
    [
        ({"beats": WORSE}, "Default boosting is certainly better on the test rows", "--set tune.folds=5"),
        ({"test": {"log_loss": 0.7}}, r"does not beat the base rate .*0.7 against 0.69", "data/datasets/small.yaml"),
        ({"coverage": 0.6}, "hold the truth in 60.0% of the test rows instead of 90%", "data/datasets/small.yaml"),
    ],
)
def test_a_refusal_is_one_line_with_the_thing_and_the_fix(changes, problem, advice):
    with pytest.raises(NotAcceptableError, match=problem) as caught:
        check(**changes)
    assert advice in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 1


def compare(right, wrong, mistakes, rows):
    """Against a baseline that gives `right` to the truth, and `wrong` in its mistakes; ours gives 0.9 always."""
    stated = np.full(rows, right)
    stated[:mistakes] = wrong
    answers = [np.column_stack([1 - p, p]) for p in (np.full(rows, 0.9), stated)]
    named = dict(zip(("this run", "rival"), answers, strict=True))
    return compare_with_best("binary", np.ones(rows, dtype=int), named, np.arange(rows), make_params())


def test_a_baseline_without_a_mistake_on_few_rows_is_not_certainly_better():
    rival = compare(0.9999, 0.9999, mistakes=0, rows=36)
    assert rival["low"] > 0
    assert not is_certainly_worse(rival, 36)


def test_a_baseline_without_a_mistake_on_many_rows_is():
    assert is_certainly_worse(compare(0.9999, 0.9999, mistakes=0, rows=500), 500)


def test_a_few_rows_are_enough_for_a_large_difference():
    rival = compare(0.9, 0.9, mistakes=0, rows=36)
    assert is_certainly_worse({**rival, "difference": 0.3, "low": 0.1}, 36)

import pytest
from tables import make_params

from mlops_core.train.acceptance import NotAcceptableError, check_acceptable

FINE = {
    "test": {"log_loss": 0.40},
    "baselines": {"base rate": {"log_loss": 0.69}},
    "beats": {"baseline": "default boosting", "difference": -0.01, "low": -0.03, "high": 0.01},
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


def test_an_interval_that_reaches_zero_refuses_nothing():
    check(beats={**WORSE, "low": 0.0})
    with pytest.raises(NotAcceptableError):
        check(beats={**WORSE, "low": 1e-6})


@pytest.mark.parametrize(
    ("task", "metric", "word"), [("binary", "log_loss", "sets"), ("regression", "rmse", "intervals")]
)
def test_a_refusal_calls_sets_and_intervals_what_they_are(task, metric, word):
    scores = {"test": {metric: 0.4}, "baselines": {"base rate": {metric: 0.69}}, "coverage": 0.6}
    with pytest.raises(NotAcceptableError, match=f"The {word} hold the truth in 60.0%"):
        check_acceptable({**FINE, **scores}, task, make_params(), calibration_rows=500, test_rows=500)

import pytest

from mlops_core.errors import MLOpsError, RequestError, did_you_mean


def test_a_failure_ends_with_one_and_a_wrong_request_with_two():
    assert (MLOpsError.exit_code, RequestError.exit_code) == (1, 2)


def test_a_wrong_request_is_caught_with_all_our_errors():
    with pytest.raises(MLOpsError, match="no such thing"):
        raise RequestError("no such thing")


def test_a_misspelt_name_gets_the_nearest_one():
    assert did_you_mean("tune.trails", ["tune.trials", "tune.folds"]) == "Did you mean 'tune.trials'?"


def test_a_name_that_resembles_none_gets_them_all_in_order():
    assert did_you_mean("xyz", ["beta", "alpha"]) == "Known: alpha, beta."


def test_known_names_may_come_from_a_generator():
    assert did_you_mean("xyz", (name for name in ["beta", "alpha"])) == "Known: alpha, beta."

import pytest

from mlops_core.errors import MLOpsError, RequestError, did_you_mean, list_names


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


@pytest.mark.parametrize(("count", "end"), [(1, "c0"), (13, "c11, c12"), (14, "c11 and 2 more")])
def test_many_names_are_shortened_and_one_more_than_fits_is_not(count, end):
    assert list_names([f"c{i}" for i in range(count)]).endswith(end)


def test_a_name_that_resembles_none_of_many_does_not_get_them_all():
    assert did_you_mean("xyz", [f"c{i:03d}" for i in range(500)]).endswith("c011 and 488 more.")

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import make_params

from mlops_core.splits import (
    FoldsError,
    days_of,
    forward_folds,
    months_of,
    random_folds,
    sample_days,
    split_at_random,
    split_by_group,
    split_by_time,
)


def moments(days, start="2013-01-01"):
    """A time within each of `days`, counted from `start`."""
    hours = np.arange(len(days)) * 7 % 24
    return pd.Series(pd.Timestamp(start) + pd.to_timedelta(np.asarray(days) * 24 + hours, unit="h"))


def preprocess(**changes):
    return make_params(preprocess=changes).preprocess


SOME_DAYS = st.lists(st.integers(0, 500), min_size=20, max_size=200).filter(lambda days: len(set(days)) > 10)


@given(SOME_DAYS, st.integers(0, 3), st.integers(2, 6))
def test_no_day_lies_in_two_splits_and_the_test_comes_last(days, test_months, calibrate_every):
    time = moments(days)
    split = split_by_time(time, preprocess(test_months=test_months, calibrate_every=calibrate_every))
    assert pd.Series(split.to_numpy()).groupby(days_of(time)).nunique().max() == 1
    assert set(split) == {"train", "calibrate", "test"}
    assert time[split == "test"].min() > time[split != "test"].max()


def test_the_last_months_test_and_every_fifth_day_before_calibrates():
    time = moments(range(365))
    split = split_by_time(time, preprocess())
    assert set(months_of(time[split == "test"])) == {months_of(time)[-1], months_of(time)[-1] - 1}
    calibrating = np.flatnonzero(split == "calibrate")
    assert calibrating.tolist() == list(range(4, 304, 5))


@pytest.mark.parametrize(("start", "days", "by_month"), [("2013-01-01", 181, True), ("2013-01-01", 151, False)])
def test_fewer_than_six_months_are_split_by_share(start, days, by_month):
    time = moments(range(days), start)
    tested = int((split_by_time(time, preprocess()) == "test").sum())
    assert tested == (30 + 31 if by_month else 30)


def test_no_test_months_mean_a_share_and_never_an_empty_test():
    split = split_by_time(moments(range(300)), preprocess(test_months=0))
    assert (split == "test").sum() == 60


def test_a_year_shorter_than_the_months_to_test_is_split_by_share():
    split = split_by_time(moments(range(365)), preprocess(test_months=12))
    assert (split == "test").sum() == 73


def test_a_split_keeps_the_index_of_its_rows():
    time = moments(range(365))
    time.index = time.index[::-1] + 1000
    assert split_by_time(time, preprocess()).index.equals(time.index)


@given(st.lists(st.sampled_from(["a", "b", "c"]), min_size=50, max_size=300), st.integers(0, 5))
def test_a_random_split_has_every_class_in_its_share(values, seed):
    labels = pd.Series(values)
    split = split_at_random(labels, preprocess(), seed)
    for label, count in labels.value_counts().items():
        parts = split[labels == label].value_counts()
        assert parts.get("test", 0) == round(count * 0.2)
        left = count - round(count * 0.2)
        assert parts.get("calibrate", 0) == -(-(left - 1) // 5)
        assert parts.get("train", 0) > 0, "a class that nothing is learned of"


@given(st.lists(st.integers(0, 12) | st.none(), min_size=40, max_size=200), st.integers(0, 99))
def test_a_group_lies_in_one_part_and_the_test_part_is_about_as_large_as_asked(values, seed):
    groups = pd.Series(values, dtype="Int64")
    split = split_by_group(groups, preprocess(), seed)
    assert all(len(set(part)) == 1 for _, part in split.groupby(groups, dropna=False))
    largest = groups.value_counts(dropna=False).max()
    assert 0.2 * len(groups) <= (split == "test").sum() < 0.2 * len(groups) + largest


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("kind", ["text", "number"])
def test_random_folds_validate_every_row_once_and_keep_groups_together(kind, grouped):
    random = np.random.default_rng(0)
    target = pd.Series(random.choice(["a", "b"], 300) if kind == "text" else random.normal(size=300))
    groups = pd.Series(random.integers(0, 30, 300)) if grouped else None
    folds = random_folds(target, groups, 3, seed=1)
    assert sorted(np.concatenate([validate for _, validate in folds])) == list(range(300))
    for train, validate in folds:
        assert not set(train) & set(validate)
        if groups is not None:
            assert not set(groups[train]) & set(groups[validate])
        if kind == "text":
            assert abs((target[validate] == "a").mean() - (target == "a").mean()) < 0.1


def test_a_random_split_repeats_with_its_seed_only():
    labels = pd.Series(["a", "b"] * 200)
    first, again, other = (split_at_random(labels, preprocess(), seed) for seed in (1, 1, 2))
    assert first.equals(again)
    assert not first.equals(other)


@given(SOME_DAYS, st.integers(2, 5))
def test_a_fold_validates_only_on_days_after_all_it_was_fitted_on(days, count):
    time = moments(days)
    folds = forward_folds(time, count)
    assert len(folds) == count
    for train, validate in folds:
        assert len(train)
        assert len(validate)
        assert days_of(time)[train].max() < days_of(time)[validate].min()


@given(SOME_DAYS, st.integers(2, 5))
def test_the_folds_validate_every_later_row_once(days, count):
    time = moments(days)
    validated = np.concatenate([validate for _, validate in forward_folds(time, count)])
    later = np.unique(days_of(time))[len(np.unique(days_of(time))) // 3 :]
    assert sorted(validated) == np.flatnonzero(np.isin(days_of(time), later)).tolist()


@given(SOME_DAYS, st.integers(1, 150), st.integers(0, 3))
def test_a_sample_keeps_whole_days_in_their_order(days, size, seed):
    time = moments(days)
    rows = np.arange(0, len(days), 2)
    kept = sample_days(rows, time, size, seed)
    assert (np.diff(kept) > 0).all()
    assert set(kept) <= set(rows)
    kept_days = set(days_of(time)[kept])
    assert len(kept) == sum(day in kept_days for day in days_of(time)[rows])
    assert len(kept) >= 1


def test_a_sample_of_even_days_has_the_size_asked_for():
    time = moments(np.repeat(np.arange(100), 10))
    assert len(sample_days(np.arange(1000), time, 300, 0)) == 300


def test_a_sample_larger_than_the_table_is_the_table():
    rows = np.arange(10)
    assert sample_days(rows, moments(range(10)), 10, 0).tolist() == rows.tolist()


@pytest.mark.parametrize(
    ("text", "month", "day"), [("1970-01-01", 0, 0), ("1969-12-31T23:59", -1, -1), ("2013-02-01", 517, 15737)]
)
def test_months_and_days_are_counted_from_1970(text, month, day):
    time = pd.Series([pd.Timestamp(text)])
    assert (months_of(time)[0], days_of(time)[0]) == (month, day)


@pytest.mark.parametrize("days", [1, 2, 3])
def test_too_few_days_for_the_windows_are_said(days):
    with pytest.raises(
        FoldsError, match=f"{days} training days are too few for 3 validation windows. Lower tune.folds"
    ):
        forward_folds(moments(range(days)), 3)


def test_each_window_has_days_before_it_and_in_it_as_soon_as_there_are_enough():
    assert [(len(train), len(check)) for train, check in forward_folds(moments(range(5)), 3)] == [
        (1, 1),
        (2, 1),
        (3, 2),
    ]


def test_too_few_groups_for_the_folds_are_said():
    with pytest.raises(FoldsError, match="2 training groups are too few for 3"):
        random_folds(pd.Series(["a", "b"] * 5), pd.Series(["g", "h"] * 5), 3, 1)

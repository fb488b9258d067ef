"""Which row is for what: training, calibration, test, and the folds that tuning looks at."""

import warnings
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from mlops_core.errors import MLOpsError
from mlops_core.params import PreprocessParams

Ints = npt.NDArray[np.int64]
Split = Literal["train", "calibrate", "test"]
SPLITS: tuple[Split, ...] = ("train", "calibrate", "test")
MIN_MONTHS = 6


class FoldsError(MLOpsError):
    """Too little to validate on."""

    def __init__(self, units: int, kind: str, folds: int) -> None:
        self.units, self.kind, self.folds = units, kind, folds
        super().__init__(
            f"{units} training {kind} are too few for {folds} validation windows. Lower tune.folds, or declare no "
            f"{'time column' if kind == 'days' else 'group'}: rows are drawn at random then."
        )


def months_of(time: pd.Series) -> Ints:
    """Months since January 1970."""
    return time.to_numpy().astype("datetime64[M]").astype(np.int64)


def days_of(time: pd.Series) -> Ints:
    """Days since 1970-01-01: the unit that splits and intervals keep together, since a storm delays a whole day."""
    return time.to_numpy().astype("datetime64[D]").astype(np.int64)


def split_by_time(time: pd.Series, params: PreprocessParams) -> pd.Series:
    """`train`, `calibrate` or `test` for every row: the last months test, every n-th day before calibrates.

    Calibration days are drawn from every season on purpose: the month before the test would be the obvious
    choice and a bad one, when it does not look like the time to come.
    """
    months, days = months_of(time), days_of(time)
    if params.test_months and months.max() - months.min() + 1 >= max(MIN_MONTHS, params.test_months + 1):
        test = months > months.max() - params.test_months
    else:
        test = days > np.quantile(days, 1 - params.test_share)
    order = np.unique(days, return_inverse=True)[1]
    calibrate = order % params.calibrate_every == params.calibrate_every - 1
    return pd.Series(np.select([test, calibrate], ["test", "calibrate"], "train"), index=time.index)


def split_at_random(labels: pd.Series, params: PreprocessParams, seed: int) -> pd.Series:
    """The same three parts for a table without a time column, every class in its share."""
    generator = np.random.default_rng(seed)
    result = pd.Series("train", index=labels.index)
    for rows in labels.groupby(labels).indices.values():
        shuffled = generator.permutation(rows)
        test = round(len(rows) * params.test_share)
        result.iloc[shuffled[:test]] = "test"
        result.iloc[shuffled[test + 1 :: params.calibrate_every]] = "calibrate"  # a single row of a class trains
    return result


def split_by_group(groups: pd.Series, params: PreprocessParams, seed: int) -> pd.Series:
    """The same three parts of whole groups, drawn at random: no group lies on two sides."""
    codes, known = pd.factorize(groups, use_na_sentinel=False)
    order = np.random.default_rng(seed).permutation(len(known))
    before = np.concatenate([[0], np.bincount(codes)[order].cumsum()[:-1]])
    is_test = before < params.test_share * len(groups)
    calibrates = ~is_test & ((np.arange(len(known)) - is_test.sum()) % params.calibrate_every == 0)
    parts = np.empty(len(known), dtype=object)
    parts[order] = np.select([is_test, calibrates], ["test", "calibrate"], "train")
    return pd.Series(parts[codes], index=groups.index)


def random_folds(target: pd.Series, groups: pd.Series | None, count: int, seed: int) -> list[tuple[Ints, Ints]]:
    """`count` pairs of row positions (training, validation) for a table without a time: every row validates once.

    Classes keep their shares, and a group lies on one side, as far as there are enough rows of each.
    """
    # Here and not above: `mlops init` draws no folds, and scikit-learn takes a second to import.
    from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

    codes = None if groups is None else pd.factorize(groups, use_na_sentinel=False)[0]
    if (units := len(target) if codes is None else codes.max() + 1) < count:
        raise FoldsError(units, "rows" if codes is None else "groups", count)
    if pd.api.types.is_numeric_dtype(target.dtype):
        kind = KFold(count, shuffle=True, random_state=seed) if codes is None else GroupKFold(count)
    elif codes is None:
        kind = StratifiedKFold(count, shuffle=True, random_state=seed)
    else:
        kind = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        return list(kind.split(target, target, codes))


def sample_rows(rows: Ints, size: int, seed: int) -> Ints:
    """`size` of `rows` at random, in their order."""
    return rows if len(rows) <= size else np.sort(np.random.default_rng(seed).choice(rows, size, replace=False))


def forward_folds(time: pd.Series, count: int) -> list[tuple[Ints, Ints]]:
    """`count` pairs of row positions (training, validation): each validates on days after all that it trains on.

    The first third of the days only trains; the rest is cut into `count` windows of equal length, so that
    validation covers several seasons and not the quiet month before the test.
    """
    days = days_of(time)
    known = np.unique(days)
    if len(known) - len(known) // 3 < count or len(known) // 3 < 1:
        raise FoldsError(len(known), "days", count)
    edges = np.linspace(len(known) // 3, len(known), count + 1).astype(int)
    folds = []
    for start, stop in pairwise(edges):
        first, last = known[start], known[stop - 1]
        folds.append((np.flatnonzero(days < first), np.flatnonzero((days >= first) & (days <= last))))
    return folds


def sample_days(rows: Ints, time: pd.Series, size: int, seed: int) -> Ints:
    """About `size` of `rows`, whole days drawn at random, in their order."""
    if len(rows) <= size:
        return rows
    days = days_of(time.iloc[rows])
    known = np.unique(days)
    kept = np.random.default_rng(seed).permutation(known)[: max(1, round(len(known) * size / len(rows)))]
    return rows[np.isin(days, kept)]

"""Shapley values of the columns of a table for any function that answers encoded rows; asks it for answers only.

A coalition of columns is worth the mean answer for background rows that take those columns from the row explained
(Lundberg 2017). Few columns: every coalition with every background row, which is exact. More: walks from a background
row to the row explained that switch one column at a time, each walked in both directions, which is exact for pairwise
interactions. An explanation affords few walks, so `prepare` tries out many and keeps those that do best together.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import comb

import numpy as np
import numpy.typing as npt

from mlops_core.features import Floats

EXACT_COLUMNS = 6  # 62 coalitions with each background row
BUDGET = 900  # answers per explanation: 4 ms of a hundred trees
FEWEST_WALKS = 10
TRIAL_BUDGET, FEWEST_TRIALS = 120_000, 8
SEED = 20130101
TINY = 1e-100

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Masks = npt.NDArray[np.bool_]
Answer = Callable[[Floats], Doubles]  # encoded rows → rows × outputs


@dataclass(frozen=True)
class Background:
    """What all explanations share: contributions are answers(mixed rows) @ weights + constant.

    A mixed row has the matrix columns in `masks` from the row explained, the others from `donors`.
    """

    rows: Floats
    positions: Ints  # the table column of each matrix column
    base: Doubles  # mean answer of the rows, by output
    masks: Masks
    donors: Floats
    weights: Doubles  # mixed rows × table columns
    constant: Doubles  # table columns × outputs


def prepare(answer: Answer, rows: Floats, positions: Ints) -> Background:
    """Plans explanations relative to encoded rows; with many columns this takes TRIAL_BUDGET answers."""
    build = _build_exact if positions[-1] < EXACT_COLUMNS else _build_sampled
    return build(answer, rows, positions)


def contributions(answer: Answer, background: Background, row: Floats, output: int, total: float) -> Doubles:
    """By table column: its share in `total`, which is the row's answer minus the base."""
    mixed = answer(np.where(background.masks, row, background.donors))[:, output]
    found = (mixed @ background.weights + background.constant[:, output]) * _differs(background, row)
    # A graph rounds to float32, and differently in batches of different sizes.
    size = np.abs(found)
    return found + size * ((total - found.sum()) / size.sum()) if size.any() else found


def _differs(background: Background, row: Floats) -> Masks:
    """By table column: whether any background row has another value."""
    same = (background.rows == row) | (np.isnan(background.rows) & np.isnan(row))
    return np.bincount(background.positions, weights=~same.all(axis=0)) > 0


def _coalitions(columns: int) -> tuple[Masks, Doubles]:
    """Every coalition, and its weight in the Shapley value of every column."""
    members = (np.arange(2**columns)[:, None] >> np.arange(columns)) & 1 == 1
    ways = np.array([*(comb(columns - 1, size) for size in range(columns)), 1], dtype=np.float64)
    size = members.sum(axis=1, keepdims=True)
    return members, np.where(members, 1 / ways[size - 1], -1 / ways[size]) / columns


def _walks(rows: int, columns: int, count: int) -> tuple[Ints, Masks, Doubles]:
    """By walk: its background row; by walk and step: the coalition, and its weight in every column's contribution.

    Every background row starts equally many walks, and there are at least twice as many as `count`.
    """
    starts = np.tile(np.arange(rows), -(-2 * count // rows))
    rank = np.random.default_rng(SEED).permuted(np.tile(np.arange(columns), (len(starts), 1)), axis=1)
    rank = np.stack([rank, columns - 1 - rank], axis=1)[:, :, None]
    step = np.arange(columns + 1)[:, None]
    weights = ((rank == step - 1).astype(np.float64) - (rank == step)) / 2
    return starts, (rank < step).reshape(len(starts), -1, columns), weights.reshape(len(starts), -1, columns)


def _choose(errors: Doubles, count: int) -> list[int]:
    """The candidates whose errors (candidates × targets) cancel best: greedily, then each exchanged twice."""
    products = errors @ errors.T
    chosen: list[int] = []
    for turn in range(3 * count):
        kept = chosen if turn < count else chosen[1:]
        cost = 2 * products[:, kept].sum(axis=1) + products.diagonal()
        cost[kept] = np.inf
        chosen = [*kept, int(cost.argmin())]
    return chosen


def _build_exact(answer: Answer, rows: Floats, positions: Ints) -> Background:
    members, weights = _coalitions(int(positions[-1]) + 1)
    masks, donors = np.tile(members[:, positions], (len(rows), 1)), np.repeat(rows, len(members), axis=0)
    shares, base = np.tile(weights / len(rows), (len(rows), 1)), answer(rows).mean(axis=0)
    return _shorten(answer, Background(rows, positions, base, masks, donors, shares, np.zeros((1, 1))))


def _build_sampled(answer: Answer, rows: Floats, positions: Ints) -> Background:
    """The best walks and their offsets: what a walk's contributions lack on average over trial rows.

    Without interactions an offset makes one walk as good as all. Offsets add up to answer(start) - base,
    so that any choice of walks is additive, and its base value the mean of all background rows.
    """
    columns = int(positions[-1]) + 1
    count = max(FEWEST_WALKS, BUDGET // (2 * columns - 2))
    starts, members, weights = _walks(len(rows), columns, count)
    masks, donors = members[:, :, positions], np.repeat(rows[starts, None], members.shape[1], axis=1)
    trials = max(FEWEST_TRIALS, TRIAL_BUDGET // weights[:, :, 0].size)
    found = []
    for row in np.random.default_rng(SEED).permutation(rows)[:trials]:
        mixed = answer(np.where(masks, row, donors).reshape(-1, len(positions)))
        found.append(weights.swapaxes(1, 2) @ mixed.reshape(*masks.shape[:2], -1))
    lacking = np.mean(found, axis=1, keepdims=True) - found
    trust = _trust(lacking)
    offsets = (lacking * trust).sum(axis=0)
    best = _choose(((offsets - lacking) * trust**0.5).swapaxes(0, 1).reshape(len(starts), -1), count)
    plan = np.concatenate(masks[best]), np.concatenate(donors[best]), np.concatenate(weights[best] / count)
    base, constant = answer(rows).mean(axis=0), offsets[best].mean(axis=0)
    return _shorten(answer, Background(rows, positions, base, *plan, constant))


def _trust(lacking: Doubles) -> Doubles:
    """By trial row: its inverse variance, as one extreme row would spoil the offsets for all others."""
    variance = ((lacking - lacking.mean(axis=0)) ** 2).mean(axis=(1, 2, 3))
    trust = 1 / (variance + np.median(variance) / 10 + variance.max() / 1e9 + TINY)
    return np.asarray(trust[:, None, None, None] / trust.sum())


def _shorten(answer: Answer, plan: Background) -> Background:
    """Asks only once for the row explained, and beforehand for background rows."""
    none, full = ~plan.masks.any(axis=1), plan.masks.all(axis=1)
    kept = ~none & ~full
    return replace(
        plan,
        masks=np.vstack([plan.masks[kept], plan.masks[full][:1]]),
        donors=np.vstack([plan.donors[kept], plan.donors[full][:1]]),
        weights=np.vstack([plan.weights[kept], plan.weights[full].sum(axis=0)]),
        constant=plan.constant + plan.weights[none].T @ answer(plan.donors[none]),
    )

"""What-if questions: the same row with one column at other values."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from mlops_core.frontend.facts import NUMERIC, Column, Row

STEPS = 40
MAX_CATEGORIES = 30
HALF_HOURS = 48


@dataclass(frozen=True)
class Probe:
    """Values of one column, how a chart shows them, and which one the row has now."""

    column: Column
    values: Sequence[Any]
    shown: Sequence[Any]
    current: int | None

    def rows(self, row: Row) -> list[Row]:
        """One row for each value."""
        return [{**row, self.column.name: value} for value in self.values]


def build_probe(column: Column, row: Row) -> Probe | None:
    """None where there is nothing to vary."""
    now = row.get(column.name)
    if column.type in NUMERIC:
        return _numbers(column, now)
    if column.type == "datetime":
        return _moments(column, now)
    values: list[Any] = [False, True] if column.type == "boolean" else list(column.categories[:MAX_CATEGORIES])
    if now is not None and now not in values:
        values.append(now)
    if len(values) < 2:
        return None
    return Probe(column, values, [column.show(value) for value in values], values.index(now) if now in values else None)


def _numbers(column: Column, now: float | None) -> Probe | None:
    low, high = column.seen_low, column.seen_high
    if low is None or high is None or low == high:
        return None
    step = (high - low) / STEPS
    values = {low + step * place for place in range(STEPS + 1)}
    if column.type == "integer":
        values = {float(round(value)) for value in values}
    if now is not None:
        values.add(float(now))
    ordered = sorted(values)
    sent: list[float] = [int(value) for value in ordered] if column.type == "integer" else ordered
    return Probe(column, sent, ordered, None if now is None else ordered.index(float(now)))


def _moments(column: Column, now: str | None) -> Probe | None:
    """The same day, every half hour."""
    if now is None:
        return None
    moment = datetime.fromisoformat(now)
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    moments = sorted({moment, *(day + timedelta(minutes=30 * place) for place in range(HALF_HOURS))})
    texts = [value.isoformat(timespec="minutes") for value in moments]
    return Probe(column, texts, texts, moments.index(moment))

"""The truth about predictions, told later; and one prediction of the log, with whatever is known about it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic_core import from_json, to_json
from sqlalchemy import Connection, Engine, select
from sqlalchemy.dialects import postgresql, sqlite

from api.records import OutcomeRecord, PredictionRecord, database_errors, utc_now
from mlops_core.database import reading
from mlops_core.errors import MLOpsError

ID = re.compile(r"([0-9a-f]{32})-(0|[1-9][0-9]{0,8})")


class LogUnavailableError(MLOpsError):
    """The log's database is down, locked, full or still behind; nothing is known to be stored."""

    def __init__(self) -> None:
        super().__init__("The prediction log does not answer. Try again later.")


@dataclass(frozen=True)
class Outcome:
    """What came of row `row` of the request `batch`."""

    batch: str
    row: int
    value: Any


@dataclass(frozen=True)
class Prediction:
    """One row of the log. `answer` holds the probabilities, or the value for regression, whose `label` is None."""

    id: str
    at: datetime
    user_id: str
    model: str
    version: int
    kind: str
    inputs: dict[str, Any]
    answer: list[float] | float
    label: str | None
    outcome: Any
    outcome_at: datetime | None


def parse_id(text: Any) -> tuple[str, int] | None:
    """Batch and row; None for what is no id of a prediction."""
    match = ID.fullmatch(text) if isinstance(text, str) else None
    return (match[1], int(match[2])) if match else None


def store_outcomes(engine: Engine, user_id: str, outcomes: Sequence[Outcome], anyones: bool) -> list[int]:
    """Stores all, replacing what was told before, and returns nothing; or stores none and returns what is unknown.

    Another caller's predictions are unknown unless `anyones`. Raises LogUnavailableError.
    """
    with database_errors(LogUnavailableError), engine.begin() as connection:
        known = _find_batches(connection, {outcome.batch for outcome in outcomes})
        unknown = []
        for position, outcome in enumerate(outcomes):
            owner, rows = known.get(outcome.batch, ("", 0))
            if outcome.row >= rows or not (anyones or owner == user_id):
                unknown.append(position)
        if not unknown:
            _upsert(connection, user_id, outcomes)
        return unknown


def _find_batches(connection: Connection, batches: set[str]) -> dict[str, tuple[str, int]]:
    columns = select(PredictionRecord.batch, PredictionRecord.user_id, PredictionRecord.rows)
    found = connection.execute(columns.where(PredictionRecord.batch.in_(batches)))
    return {batch: (owner, rows) for batch, owner, rows in found}


def _upsert(connection: Connection, user_id: str, outcomes: Sequence[Outcome]) -> None:
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    insert = dialect.insert(OutcomeRecord)
    changed = {name: insert.excluded[name] for name in ("outcome", "at", "user_id")}
    at = utc_now()
    rows = [
        {"batch": item.batch, "row": item.row, "outcome": to_json(item.value).decode(), "at": at, "user_id": user_id}
        # In one order, or two callers who tell of the same predictions could wait for each other for ever.
        for item in sorted(outcomes, key=lambda item: (item.batch, item.row))
    ]
    connection.execute(insert.on_conflict_do_update(index_elements=["batch", "row"], set_=changed), rows)


def read_prediction(engine: Engine, prediction_id: str) -> Prediction | None:
    """None for an id that the log does not know (yet). Raises LogUnavailableError."""
    key = parse_id(prediction_id)
    if key is None:
        return None
    batch, row = key
    told = (OutcomeRecord.batch == PredictionRecord.batch) & (OutcomeRecord.row == row)
    query = select(PredictionRecord.__table__, OutcomeRecord.outcome, OutcomeRecord.at.label("outcome_at"))
    query = query.outerjoin(OutcomeRecord, told).where(PredictionRecord.batch == batch, PredictionRecord.rows > row)
    with database_errors(LogUnavailableError), reading(engine).begin() as connection:
        found = connection.execute(query).one_or_none()
    if found is None:
        return None
    outputs = from_json(found.outputs)
    return Prediction(
        id=prediction_id,
        at=found.at,
        user_id=found.user_id,
        model=found.model,
        version=found.version,
        kind=found.kind,
        inputs={name: values[row] for name, values in from_json(found.inputs).items()},
        answer=outputs["answers"][row],
        label=outputs["labels"][row] if outputs["labels"] else None,
        outcome=from_json(found.outcome) if found.outcome is not None else None,
        outcome_at=found.outcome_at,
    )

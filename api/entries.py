"""One entry of the prediction log: as a route hands it over, as a line of the spool, as a row of the database."""

import secrets
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
import orjson
from pydantic_core import to_json

from api.spool import pack
from mlops_core.features import Values
from mlops_core.serve.predictor import Doubles


class Answered(NamedTuple):
    """One request and its answers; a tuple, because the event loop makes one per request. Nobody may change the parts.

    `inputs` holds a value per row in each column, `answers` the probabilities (rows × classes) or values (rows).
    """

    batch: str
    user_id: str
    model: str
    version: int
    kind: str
    inputs: Mapping[str, Values]
    answers: Doubles
    labels: Sequence[str] | None


def new_batch() -> str:
    """The hex digits of a UUIDv7 (RFC 9562): sorts by time, and cannot be guessed."""
    millis, random = time.time_ns() // 1_000_000, secrets.randbits(74)
    return f"{millis << 80 | 7 << 76 | random >> 62 << 64 | 2 << 62 | random & (1 << 62) - 1:032x}"


def moment_of(batch: str) -> datetime:
    return datetime.fromtimestamp(int(batch[:12], 16) / 1000, UTC)


def _plain(value: Any) -> Any:
    """What numpy holds, as JSON can say it."""
    if isinstance(value, np.ndarray) and value.dtype.kind == "M":
        return value.astype("datetime64[us]").tolist()  # nanoseconds would become integers
    if isinstance(value, np.datetime64):
        return value.astype("datetime64[us]").item()
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else str(value)


def _json(value: Any) -> bytes:
    try:
        return orjson.dumps(value, default=_plain)
    except TypeError:  # an integer of more than 64 bits, for one
        return to_json(value, inf_nan_mode="null", fallback=_plain)


def encode(entry: Answered) -> bytes:
    """The spool's line. Raises ValueError for what JSON cannot say."""
    head = orjson.dumps([entry.batch, entry.user_id, entry.model, entry.version, entry.kind, len(entry.answers)])
    return pack([head, _json(entry.inputs), _json({"answers": entry.answers, "labels": entry.labels})])


def decode(parts: Sequence[bytes]) -> dict[str, Any]:
    """The database row."""
    head, inputs, outputs = parts
    batch, user_id, model, version, kind, rows = orjson.loads(head)
    facts = {"batch": batch, "at": moment_of(batch), "user_id": user_id, "model": model, "version": version}
    return facts | {"kind": kind, "rows": rows, "inputs": inputs.decode(), "outputs": outputs.decode()}

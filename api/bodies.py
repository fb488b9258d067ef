"""From the bytes of a request to columns: strict JSON, checked column by column and not row by row."""

import contextlib
import json
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from operator import itemgetter
from typing import Any

import numpy as np
import orjson

from api.problems import FieldError, ProblemError
from mlops_core.errors import list_names
from mlops_core.features import Problem, Schema, Values, iso_of

SPACES = b" \t\n\r"
QUOTE, COLON, SPACE = b'": '
LARGE = 16 << 10
MAX_FIELD = 60  # characters of an unknown key that an answer may repeat


class _RefusedError(ValueError):
    """Something that JSON allows and we do not; its text may be shown."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _RefusedError("A key stands twice in one object.")
    return found


def _no_constant(name: str) -> float:
    raise _RefusedError(f"{name} is not JSON.")


def _missing_or_refused(name: str) -> None:
    """MLflow's clients write a missing number of a frame as NaN, which is not JSON and cannot mean anything else."""
    if name != "NaN":
        _no_constant(name)


def _check_texts(tree: Any) -> None:
    """Refuses lone surrogates, which no encoding can carry, and NUL, which no database stores."""
    stack = [tree]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            if "\x00" in item or any("\ud800" <= letter <= "\udfff" for letter in item):
                raise _RefusedError("A text holds a NUL or half of a surrogate pair.")
        elif isinstance(item, dict):
            stack += [*item.keys(), *item.values()]
        elif isinstance(item, list):
            stack += item


def _parse_plain(body: bytes) -> Any:
    """The tree of `{"instances": [{…}, …]}`, three times as fast as `json`; None where only that can decide.

    This parser keeps the last of two equal keys. None was lost when as many keys were kept as there are `":` in the
    body without its spaces, since every key ends with one.
    """
    if b"\\u" in body:
        return None
    try:
        tree = orjson.loads(body)
    except ValueError:
        return None
    rows = tree.get("instances") if isinstance(tree, dict) else None
    if not isinstance(rows, list) or not {dict}.issuperset(map(type, rows)):
        return None
    return tree if _count_keys(body) == len(tree) + sum(map(len, rows)) else None


def _count_keys(body: bytes) -> int:
    """How often `":` stands in the body, however many spaces are between."""
    if len(body) >= LARGE:
        letters = np.frombuffer(body, np.uint8)
        quotes, after = letters[:-1] == QUOTE, letters[1:]
        if not (quotes & (after <= SPACE)).any():
            return int(np.count_nonzero(quotes & (after == COLON)))
    return body.translate(None, SPACES).count(b'":')


def parse_json(body: bytes, *, nan_is_missing: bool = False) -> Any:
    """The parsed body. Raises ProblemError 400 for what is not JSON, 422 for what JSON leaves open."""
    if plain := _parse_plain(body):
        return plain
    try:
        text = body.decode("utf-8")
        constant = _missing_or_refused if nan_is_missing else _no_constant
        tree = json.loads(text, object_pairs_hook=_unique, parse_constant=constant)
        if "\\u" in text or "\x00" in text:
            _check_texts(tree)
    except _RefusedError as error:
        raise ProblemError(422, str(error)) from None
    except (ValueError, RecursionError):
        raise ProblemError(400, "The body is not JSON in UTF-8.") from None
    return tree


def read_instances(tree: Any, max_rows: int) -> list[Any]:
    """The rows of `{"instances": [{…}, …]}`. Raises ProblemError."""
    if not isinstance(tree, dict) or set(tree) != {"instances"} or not isinstance(tree["instances"], list):
        raise ProblemError(422, 'The body must be {"instances": [{column: value, …}, …]} and nothing else.')
    rows = tree["instances"]
    if not rows:
        raise ProblemError(422, "There are no instances.", [FieldError("/instances", "must hold at least one row")])
    if len(rows) > max_rows:
        raise ProblemError(413, f"There are {len(rows):,} instances, at most {max_rows:,} are answered at a time.")
    return rows


def to_columns(schema: Schema, rows: Sequence[Any]) -> dict[str, Values]:
    """Columns of the given rows. Raises ProblemError for a row that is no object, or has a key nobody knows."""
    known = schema.names
    names = list(rows[0]) if isinstance(rows[0], dict) else []
    if len(names) > 1 and known.issuperset(names) and _are_alike(rows, len(names)):
        with contextlib.suppress(KeyError):  # as many keys, but others
            return _read_dates(
                schema, dict(zip(names, map(list, zip(*map(itemgetter(*names), rows), strict=True)), strict=True))
            )
    errors = []
    for position, row in enumerate(rows):
        if not isinstance(row, dict):
            errors.append(FieldError(f"/instances/{position}", "must be an object"))
        elif not known.issuperset(row):
            errors.append(FieldError(f"/instances/{position}", _unknown(row, known, first=not errors)))
    if errors:
        raise ProblemError(422, "Some instances do not have the declared form.", errors)
    return _read_dates(schema, {column.name: [row.get(column.name) for row in rows] for column in schema.columns})


def _unknown(row: Mapping[str, Any], known: Collection[str], *, first: bool) -> str:
    """What is said of the columns that nobody knows; what was meant once only, as a thousand rows err alike."""
    extra = [key[:MAX_FIELD] for key in row if key not in known]
    if len(extra) > 1:
        return f"has the unknown columns {list_names([repr(key) for key in extra])}; leave them out"
    near = get_close_matches(extra[0], known, n=1) if first else []
    advice = f"did you mean '{near[0]}'?" if near else "leave it out"
    return f"has the unknown column '{extra[0]}'; {advice}"


def _read_dates(schema: Schema, columns: dict[str, Values]) -> dict[str, Values]:
    """Dates may be written as in the dataset's tables, too."""
    for column in schema.columns:
        if column.formats and column.name in columns:
            values = columns[column.name]
            columns[column.name] = [
                iso_of(value, column.formats) if isinstance(value, str) else value for value in values
            ]
    return columns


def _are_alike(rows: Sequence[Any], width: int) -> bool:
    return {dict}.issuperset(map(type, rows)) and {width}.issuperset(map(len, rows))


def refuse(problems: Sequence[Problem]) -> ProblemError:
    """The 422 for values that the schema refuses."""
    errors = [FieldError(f"/instances/{item.row}/{item.column}", item.reason) for item in problems]
    return ProblemError(422, "Some values cannot be used.", errors)


def columns_of_frame(tree: Mapping[str, Any]) -> list[Any]:
    """Rows of MLflow's `dataframe_split`: `{"columns": […], "data": [[…], …]}`. Raises ProblemError."""
    columns, data = tree.get("columns"), tree.get("data")
    if not isinstance(columns, list) or not isinstance(data, list) or len(set(map(str, columns))) != len(columns):
        raise ProblemError(422, "`dataframe_split` must hold distinct `columns` and `data`.")
    if any(not isinstance(row, list) or len(row) != len(columns) for row in data):
        raise ProblemError(422, "Every row of `data` must have as many values as there are `columns`.")
    return [dict(zip(map(str, columns), row, strict=True)) for row in data]

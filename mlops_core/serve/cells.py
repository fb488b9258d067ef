"""Arrow's columns as `find_problems` and `encode` take them; texts are read by the column's type."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mlops_core.features import Column, Problem, Schema, Values, iso_of

TRUE_WORDS = {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}
TEXT_TYPES = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
PLAIN_TYPES = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_null)
OTHER = b""  # stands for a value of a type that no column has


def plain(array: pa.Array) -> pa.Array:
    """The array without a dictionary, and its texts in the one type that Arrow can compare and convert."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return array.cast(pa.string()) if pa.types.is_string_view(array.type) else array


def is_text(array: pa.Array) -> bool:
    return any(test(array.type) for test in TEXT_TYPES)


def read_columns(schema: Schema, batch: pa.RecordBatch) -> dict[str, Values]:
    """The values of the schema's columns, as far as the batch has them."""
    names = set(batch.schema.names)
    return {
        column.name: to_values(column, _without_marks(batch.column(column.name), schema.missing_marks))
        for column in schema.columns
        if column.name in names
    }


def _without_marks(array: pa.Array, marks: list[str]) -> pa.Array:
    array = plain(array)
    if not marks or not is_text(array):
        return array
    return pc.if_else(pc.is_in(array, pa.array(marks, array.type)), pa.scalar(None, array.type), array)


def find_nul(schema: Schema, batch: pa.RecordBatch) -> list[Problem]:
    """Texts with a NUL, which no database stores; JSON's are refused before they are columns."""
    names, found = set(batch.schema.names), []
    for column in schema.columns:
        if column.type in ("category", "text") and column.name in names and column.unseen != "refuse":
            array = plain(batch.column(column.name))
            if is_text(array) and pc.any(holds := pc.match_substring(array, "\x00")).as_py():
                rows = pc.indices_nonzero(holds).to_pylist()
                found += [Problem(row, column.name, "must not hold a NUL") for row in rows]
    return found


def to_values(column: Column, array: pa.Array) -> Values:
    """One column's values: an array where numpy can hold them, else a list."""
    array = plain(array)
    if column.type in ("number", "integer"):
        return _numbers(array)
    if column.type == "datetime" and _is_local(array.type):
        return array.cast(pa.timestamp("s"), safe=False).to_numpy(zero_copy_only=False)
    if column.formats and is_text(array):
        return [None if value is None else iso_of(value, column.formats) for value in array.to_pylist()]
    if column.type == "boolean" and is_text(array):
        return [value if value is None else TRUE_WORDS.get(value.strip().lower(), value) for value in array.to_pylist()]
    return _listed(array)


def _is_local(kind: pa.DataType) -> bool:
    return pa.types.is_date(kind) or (pa.types.is_timestamp(kind) and kind.tz is None)


def _listed(array: pa.Array) -> list[Any]:
    if is_text(array) or any(test(array.type) for test in PLAIN_TYPES):
        values: list[Any] = array.to_pylist()
        return values
    return [OTHER if there else None for there in array.is_valid().to_pylist()]


def _numbers(array: pa.Array) -> Values:
    if pa.types.is_floating(array.type) or pa.types.is_integer(array.type) or pa.types.is_decimal(array.type):
        return array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    if not is_text(array):
        return _listed(array)
    try:
        numbers = pc.cast(array, pa.float64())
    except pa.ArrowInvalid:
        return [_number_or_text(value) for value in array.to_pylist()]
    if pc.any(pc.is_nan(numbers)).as_py():
        return [_number_or_text(value) for value in array.to_pylist()]
    return numbers.to_numpy(zero_copy_only=False)


def _number_or_text(value: str | None) -> float | str | None:
    try:
        number = None if value is None else float(pc.cast(pa.scalar(value), pa.float64()).as_py())
    except pa.ArrowInvalid:
        return value
    # The word "nan" is a text, as it is to ingest; a missing number is an empty cell.
    return value if number != number else number  # noqa: PLR0124

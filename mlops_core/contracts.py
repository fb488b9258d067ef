"""What a table must look like: types and pandera checks, both generated from the dataset file."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pandas as pd

from mlops_core.datasets import FieldSpec, Kind

if TYPE_CHECKING:
    import pandera.pandas as pa  # half a second, which those who only convert need not wait

TRUE_WORDS = {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}
SPACED = r"^\s|\s$"  # pandas passes over it, nobody else does
EXACT_INTEGER = r"[+-]?[0-9]{1,18}"
FULL_DATE = r"[0-9]{4}-?[0-9]{2}-?[0-9]{2}"  # pandas also takes "now", and a year for its first of January

# What serving accepts, too: a model sees float32, and moments of these years.
LARGEST = float(np.finfo(np.float32).max)
YEARS = pd.Timestamp("1700-01-01"), pd.Timestamp("2201-01-01")

Failures: TypeAlias = pd.DataFrame  # columns: row (position), reason


def _as_text(raw: pd.Series) -> pd.Series:
    return raw.astype("str") if raw.dtype != "str" else raw


def _to_number(raw: pd.Series) -> pd.Series:
    if pd.api.types.is_bool_dtype(raw.dtype) or pd.api.types.is_datetime64_any_dtype(raw.dtype):
        return pd.Series(np.nan, index=raw.index)
    numbers = pd.to_numeric(raw, errors="coerce").astype("float64")
    if not pd.api.types.is_numeric_dtype(raw.dtype):
        numbers = numbers.where(~_as_text(raw).str.contains(SPACED).fillna(False).astype(bool))
    return numbers.where(np.isfinite(numbers))


def _to_integer(raw: pd.Series) -> pd.Series:
    if pd.api.types.is_signed_integer_dtype(raw.dtype):
        return raw.astype("Int64")
    if pd.api.types.is_float_dtype(raw.dtype):
        return _whole(raw)
    text = _as_text(raw)
    exact = text.str.fullmatch(EXACT_INTEGER).fillna(False).astype(bool)
    values = [int(value) if fits else pd.NA for value, fits in zip(text, exact, strict=True)]
    integers = pd.Series(pd.array(values, dtype="Int64"), index=raw.index)
    return integers.fillna(_whole(text.where(~exact))) if (~exact & raw.notna()).any() else integers


def _whole(raw: pd.Series) -> pd.Series:
    """Numbers such as 7.0, which is how an integer beside a gap is often written."""
    numbers = _to_number(raw)
    whole = (numbers % 1 == 0) & (numbers.abs() < 2**53)  # 2**53 may have been 2**53 + 1
    return numbers.where(whole).astype("Int64")


def _to_text(raw: pd.Series) -> pd.Series:
    text = _as_text(raw).where(raw.notna())
    return text.where(~text.str.contains("\x00", regex=False).fillna(False).astype(bool))


def _to_boolean(raw: pd.Series) -> pd.Series:
    return _as_text(raw).str.strip().str.lower().map(TRUE_WORDS).astype("boolean")


def to_datetime(raw: pd.Series, formats: Sequence[str] = ()) -> pd.Series:
    """ISO 8601, or else the first of `formats` that fits."""
    times = _to_iso_datetime(raw)
    for form in formats:
        if (rest := times.isna() & raw.notna()).any():
            others = pd.to_datetime(_as_text(raw[rest]), format=form, errors="coerce")
            times[rest] = others.astype("datetime64[s]")
    return times


def _to_iso_datetime(raw: pd.Series) -> pd.Series:
    if pd.api.types.is_numeric_dtype(raw.dtype):
        return pd.Series(pd.NaT, index=raw.index).astype("datetime64[s]")
    if not pd.api.types.is_datetime64_any_dtype(raw.dtype):
        raw = raw.where(_as_text(raw).str.match(FULL_DATE).fillna(False).astype(bool))
    times = pd.to_datetime(raw, format="ISO8601", errors="coerce", utc=True)
    return times.dt.tz_localize(None).astype("datetime64[s]")


CONVERTERS: Mapping[Kind, Callable[[pd.Series], pd.Series]] = {
    "number": _to_number,
    "integer": _to_integer,
    "category": _to_text,
    "text": _to_text,
    "boolean": _to_boolean,
    "datetime": to_datetime,
}


def coerce(raw: pd.DataFrame, fields: Mapping[str, FieldSpec]) -> tuple[pd.DataFrame, Failures]:
    """`raw` with every column in its declared type, and where a value does not have it.

    A value that cannot be converted exactly becomes missing and is reported; nothing is rounded or guessed.
    """
    typed, failures = {}, []
    for name, field in fields.items():
        convert = partial(to_datetime, formats=field.formats) if field.formats else CONVERTERS[field.type]
        typed[name] = convert(raw[name])
        lost = np.flatnonzero(typed[name].isna().to_numpy() & raw[name].notna().to_numpy())
        failures.append(pd.DataFrame({"row": lost, "reason": f"{name}: not a valid {field.type}"}))
    return pd.DataFrame(typed, index=raw.index), pd.concat(failures, ignore_index=True)


def build_contract(fields: Mapping[str, FieldSpec], key: list[str] | None = None) -> "pa.DataFrameSchema":
    """A pandera schema: exactly these columns, ranges, categories, missing values, and a unique key."""
    import pandera.pandas as pa

    columns = {}
    for name, field in fields.items():
        checks = []
        if field.type in ("number", "integer"):
            low, high = field.range or (-LARGEST, LARGEST)
            checks.append(pa.Check.in_range(low, high, error=f"outside {low:g} to {high:g}"))
        if field.type == "datetime":
            checks.append(pa.Check.in_range(*YEARS, include_max=False, error="outside the years 1700 to 2200"))
        if field.categories:
            checks.append(pa.Check.isin(field.categories, error=f"not one of {', '.join(field.categories)}"))
        columns[name] = pa.Column(None, checks, nullable=field.missing)
    return pa.DataFrameSchema(columns, strict=True, unique=key or None)


def find_violations(frame: pd.DataFrame, contract: "pa.DataFrameSchema") -> Failures:
    """Every row and reason that breaks `contract`; rows by position."""
    from pandera.errors import SchemaErrors

    checked = frame.reset_index(drop=True)
    try:
        contract.validate(checked, lazy=True)
    except SchemaErrors as error:
        cases = error.failure_cases
        rows = cases[cases["index"].notna()]
        reasons = [
            _reason(column, check, contract) for column, check in zip(rows["column"], rows["check"], strict=True)
        ]
        found = pd.DataFrame({"row": rows["index"].astype("int64").to_numpy(), "reason": reasons})
        return found.drop_duplicates(ignore_index=True)
    return pd.DataFrame({"row": np.array([], dtype="int64"), "reason": np.array([], dtype=object)})


def _reason(column: object, check: str, contract: "pa.DataFrameSchema") -> str:
    if check == "multiple_fields_uniqueness":
        return f"duplicate of another row by {', '.join(contract.unique or [])}"
    if check == "not_nullable":
        return f"{column}: missing"
    return f"{column}: {check}"

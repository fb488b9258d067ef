"""The one way from a table's columns to the matrix that a model sees; needs numpy only, so that serving shares it.

Training builds a Schema once; notebooks, batch scoring and the API all call `find_problems` and `encode` on it.
A category becomes its position in the schema, a missing one the position after the last, an unseen one the next.
Everything is float32, because ONNX compares in float32: a model fitted on other values would split differently.
"""

import contextlib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import date, datetime
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Values = Sequence[Any] | npt.NDArray[Any]
Block = npt.NDArray[np.float64]  # columns × rows

NUMERIC = frozenset(("number", "integer"))
PLAIN = frozenset((int, float, type(None)))
TEXTS = frozenset((str, type(None)))
# Local time: numpy also takes "now", bare years, and time zones, which it drops with a warning.
MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?)?")


@dataclass(frozen=True)
class Column:
    """What serving knows of one column: enough to check it, encode it, and build a form for it."""

    name: str
    type: str
    required: bool
    categories: list[str] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)  # category to what people call it, where that is known
    low: float | None = None
    high: float | None = None
    seen_low: float | None = None
    seen_high: float | None = None
    derive: list[str] = field(default_factory=list)
    formats: list[str] = field(default_factory=list)  # of dates, besides ISO 8601, as `strptime` spells them
    unseen: str = "flag"
    label: str = ""
    unit: str = ""
    help: str = ""
    example: Any = None


@dataclass(frozen=True)
class Problem:
    """One value that cannot be used."""

    row: int
    column: str
    reason: str


@dataclass(frozen=True)
class Schema:
    """What the model asks for and answers with."""

    dataset: str
    task: str
    target: str
    classes: list[str]
    id: str | None
    columns: list[Column]
    title: str = ""
    question: str = ""
    target_label: str = ""
    target_unit: str = ""
    missing_marks: list[str] = field(default_factory=list)  # texts in files that stand for nothing
    target_range: list[float] | None = None  # of a number that is predicted: no answer lies outside

    @cached_property
    def names(self) -> frozenset[str]:
        """Of the columns."""
        return frozenset(column.name for column in self.columns)

    @cached_property
    def inputs(self) -> list[tuple[str, int]]:
        """Name of each matrix column and the position of the table column that it comes from."""
        return [
            (f"{column.name}.{part}" if part else column.name, position)
            for position, column in enumerate(self.columns)
            for part in (column.derive or [""])
        ]

    @cached_property
    def categorical(self) -> list[int]:
        """Positions of the matrix columns that hold category codes."""
        return [i for i, (_, position) in enumerate(self.inputs) if self.columns[position].type == "category"]

    @cached_property
    def codes(self) -> dict[str, "Codes"]:
        """By column: category to code."""
        return {column.name: Codes(column.categories) for column in self.columns if column.type == "category"}

    @cached_property
    def bounds(self) -> dict[str, tuple[float, float]]:
        """By column of numbers: what it may hold."""
        return {column.name: _bounds(column) for column in self.columns if column.type in NUMERIC}

    @cached_property
    def blanks(self) -> dict[str, list[float]]:
        """By column: how a missing value is encoded."""
        return {
            column.name: [self.codes[column.name][None]] if column.type == "category" else [math.nan] * width
            for column in self.columns
            for width in [len(column.derive) or 1]
        }

    @cached_property
    def numbers(self) -> "Numbers":
        """All columns of numbers, to be looked at in one piece."""
        return Numbers([column for column in self.columns if column.type in NUMERIC], self.inputs)

    @cached_property
    def seen(self) -> tuple[Floats, Floats]:
        """Lowest and highest value of each matrix column that training saw; for a category the codes it knows."""
        low, high = np.full((2, len(self.inputs)), [[-np.inf], [np.inf]], dtype=np.float32)
        for i, (_, position) in enumerate(self.inputs):
            column = self.columns[position]
            if column.type == "category":
                high[i] = len(column.categories)
            elif column.seen_low is not None and column.seen_high is not None and not column.derive:
                low[i], high[i] = column.seen_low, column.seen_high
        return low, high

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any]) -> "Schema":
        known = {item.name for item in fields(Column)}
        columns = [
            Column(**{key: value for key, value in column.items() if key in known}) for column in tree["columns"]
        ]
        return cls(**{**tree, "columns": columns})


class Codes(dict[str | None, int]):
    """Category to code; None is the missing one, everything else the unseen one."""

    def __init__(self, categories: Sequence[str]) -> None:
        super().__init__({name: code for code, name in enumerate(categories)})
        self[None], self.unseen = len(categories), len(categories) + 1

    def __missing__(self, _: object) -> int:
        return self.unseen


class Numbers:
    """Columns of numbers as one block (columns × rows): one call of numpy for all of them, and not for each.

    A block is only made of lists that hold nothing but numbers and None; everything else is looked at value by value.
    """

    def __init__(self, columns: Sequence[Column], inputs: Sequence[tuple[str, int]]) -> None:
        self.names = [column.name for column in columns]
        self.places = [i for i, (name, _) in enumerate(inputs) if name in set(self.names)]
        bounds = np.array([_bounds(column) for column in columns]).reshape(-1, 2)
        self._low, self._high = bounds[:, :1], bounds[:, 1:]
        self._optional = np.array([not column.required for column in columns], dtype=bool).reshape(-1, 1)
        self._whole = [i for i, column in enumerate(columns) if column.type == "integer"]

    def block(self, columns: Mapping[str, Values], rows: int) -> Block | None:
        """The numbers, NaN for a missing one; None where they are not plain."""
        absent = [None] * rows
        lists = [columns.get(name, absent) for name in self.names]
        if not all(type(values) is list for values in lists) or not PLAIN.issuperset(map(type, chain(*lists))):
            return None
        try:
            return np.array(lists, dtype=np.float64).reshape(len(lists), rows)
        except OverflowError:  # an integer of more than 300 digits
            return None

    def accept(self, block: Block) -> bool:
        """Whether nothing is wrong with any value."""
        fine = (block >= self._low) & (block <= self._high) | np.isnan(block) & self._optional
        if not fine.all():
            return False
        whole = block[self._whole]
        return not self._whole or bool(((whole == np.floor(whole)) | np.isnan(whole)).all())


def is_missing(value: Any) -> bool:
    """None, NaN or NaT."""
    return value is None or value != value  # noqa: PLR0124  only NaN and NaT differ from themselves


def _numbers(values: Values) -> npt.NDArray[np.float64]:
    if isinstance(values, np.ndarray) and values.dtype.kind in "fiub":
        return values.astype(np.float64)
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def _moments(values: Values) -> npt.NDArray[np.datetime64]:
    if isinstance(values, np.ndarray) and values.dtype.kind == "M":
        return values.astype("datetime64[s]")
    if TEXTS.issuperset(map(type, values)):
        return np.array(values, dtype="datetime64[s]")  # None becomes NaT
    missing = np.datetime64("NaT", "s")
    return np.array([missing if is_missing(value) else value for value in values], dtype="datetime64[s]")


def _minute_of_day(moments: npt.NDArray[np.datetime64]) -> npt.NDArray[np.int64]:
    return moments.astype(np.int64) // 60 % 1440


def _day_of_week(moments: npt.NDArray[np.datetime64]) -> npt.NDArray[np.int64]:
    # 1970-01-01 was a Thursday; Monday is 0.
    return (moments.astype("datetime64[D]").astype(np.int64) + 3) % 7


def _month(moments: npt.NDArray[np.datetime64]) -> npt.NDArray[np.int64]:
    return moments.astype("datetime64[M]").astype(np.int64) % 12 + 1


EXAMPLE = datetime(2013, 12, 24, 18, 30)
OUTSIDE_YEARS = "must lie between the years 1700 and 2200"

PARTS: Mapping[str, Callable[[npt.NDArray[np.datetime64]], npt.NDArray[np.int64]]] = {
    "minute_of_day": _minute_of_day,
    "day_of_week": _day_of_week,
    "month": _month,
}


def _encode_column(schema: Schema, column: Column, values: Values) -> Iterable[npt.NDArray[Any]]:
    if column.type == "category":
        codes = schema.codes[column.name]
        plain = TEXTS.issuperset(map(type, values))
        return [np.array([codes[value if plain or not is_missing(value) else None] for value in values], np.float32)]
    if column.derive:
        moments = _moments(values)
        unknown = np.isnat(moments)
        parts = [PARTS[part](moments) for part in column.derive]
        return [np.where(unknown, np.nan, part) for part in parts] if unknown.any() else parts
    if column.type == "boolean":
        return [np.array([math.nan if is_missing(value) else float(value) for value in values], dtype=np.float32)]
    return [_numbers(values)]


def encode(schema: Schema, columns: Mapping[str, Values], rows: int) -> Floats:
    """The float32 matrix (rows × `len(schema.inputs)`) of values that `find_problems` found nothing wrong with.

    A column that is not given counts as missing in every row.
    """
    return _encode(schema, columns, rows, schema.numbers.block(columns, rows))


def find_problems(schema: Schema, columns: Mapping[str, Values], rows: int) -> list[Problem]:
    """Every value that has the wrong type, is out of its declared range, or is missing though required.

    A value that training never saw is no problem (see `find_unusual`), unless the column says `unseen: refuse`.
    """
    return _find_problems(schema, columns, rows, schema.numbers.block(columns, rows))


def check_and_encode(schema: Schema, columns: Mapping[str, Values], rows: int) -> tuple[list[Problem], Floats]:
    """Both in one: the problems, and the matrix when there are none."""
    if rows == 1 and (cells := _encode_plain_row(schema, columns)) is not None:
        return [], np.array([cells], dtype=np.float32)
    block = schema.numbers.block(columns, rows)
    problems = _find_problems(schema, columns, rows, block)
    return problems, _encode(schema, columns, rows, block) if not problems else np.empty((0, 0), dtype=np.float32)


def _encode_plain_row(schema: Schema, columns: Mapping[str, Values]) -> list[float] | None:
    """One row in a quarter of the time that numpy takes for it; None unless every value is plain and right."""
    cells: list[float] = []
    try:
        for column in schema.columns:
            values = columns.get(column.name)
            value = None if values is None else values[0]
            if value is None:
                if column.required:
                    return None
                cells += schema.blanks[column.name]
            else:
                cells += _PLAIN_CELLS[column.type](schema, column, value)
    except (KeyError, ValueError):
        return None
    return cells


def _plain_number(schema: Schema, column: Column, value: Any) -> tuple[float]:
    low, high = schema.bounds[column.name]
    if type(value) not in PLAIN or not low <= value <= high or (column.type == "integer" and value % 1):
        raise ValueError
    return (value,)


def _plain_category(schema: Schema, column: Column, value: Any) -> tuple[float]:
    if type(value) is not str:
        raise ValueError
    codes = schema.codes[column.name]
    code = codes[value]
    if code == codes.unseen and column.unseen == "refuse":
        raise ValueError
    return (code,)


def _plain_flag(_: Schema, __: Column, value: Any) -> tuple[float]:
    if type(value) is not bool:
        raise ValueError
    return (value,)


def _plain_moment(_: Schema, column: Column, value: Any) -> list[float]:
    # Python reads 24:00 as midnight, numpy not at all; fractions are rare enough for numpy.
    if type(value) is not str or len(value) > 19 or not MOMENT.fullmatch(value) or value[11:13] == "24":
        raise ValueError
    moment = datetime.fromisoformat(value)
    if not 1700 <= moment.year <= 2200:
        raise ValueError
    parts = {
        "minute_of_day": moment.hour * 60 + moment.minute,
        "day_of_week": moment.weekday(),
        "month": moment.month,
    }
    return [parts[part] for part in column.derive or [""]]


_PLAIN_CELLS: Mapping[str, Callable[[Schema, Column, Any], Iterable[float]]] = {
    "number": _plain_number,
    "integer": _plain_number,
    "category": _plain_category,
    "boolean": _plain_flag,
    "datetime": _plain_moment,
}


def _encode(schema: Schema, columns: Mapping[str, Values], rows: int, block: Block | None) -> Floats:
    matrix = np.empty((rows, len(schema.inputs)), dtype=np.float32)
    if block is not None:
        matrix[:, schema.numbers.places] = block.T
    position = 0
    for column in schema.columns:
        if block is not None and column.type in NUMERIC:
            position += 1
            continue
        given = columns.get(column.name)
        for part in _encode_column(schema, column, [None] * rows if given is None else given):
            matrix[:, position] = part
            position += 1
    return matrix


def _find_problems(schema: Schema, columns: Mapping[str, Values], rows: int, block: Block | None) -> list[Problem]:
    problems: list[Problem] = []
    fine = block is not None and schema.numbers.accept(block)
    for column in schema.columns:
        if fine and column.type in NUMERIC:
            continue
        values = columns.get(column.name)
        if values is None:
            values = [None] * rows
        problems += [Problem(row, column.name, reason) for row, reason in _column_problems(column, values)]
    return problems


def _column_problems(column: Column, values: Values) -> list[tuple[int, str]]:
    if isinstance(values, np.ndarray) and values.dtype.kind in "fiuM":
        return _array_problems(column, values)
    known = set(column.categories) if column.unseen == "refuse" else None
    if TEXTS.issuperset(map(type, values)) and not (column.required and None in values):
        if column.type in ("category", "text") and known is None:
            return []
        if column.type == "datetime" and _are_moments(values):
            return []
    found = []
    for row, value in enumerate(values):
        if is_missing(value):
            reason = "is required" if column.required else ""
        else:
            reason = _value_problem(column, value, known)
        if reason:
            found.append((row, reason))
    return found


def _array_problems(column: Column, values: npt.NDArray[Any]) -> list[tuple[int, str]]:
    moments = values.dtype.kind == "M"
    if moments != (column.type == "datetime") or column.type in ("category", "boolean", "text"):
        return [(row, f"must be a {column.type}") for row in range(len(values))]
    empty = np.isnat(values) if moments else np.isnan(values)
    found = [(int(row), "is required") for row in np.flatnonzero(empty)] if column.required else []
    if moments:
        found += [(int(row), OUTSIDE_YEARS) for row in np.flatnonzero(~empty & ~_in_years(values))]
    else:
        low, high = _bounds(column)
        outside = ~empty & ~((values >= low) & (values <= high))
        found += [(int(row), _outside(column, float(values[row]))) for row in np.flatnonzero(outside)]
        if column.type == "integer":
            broken = np.where(empty | outside, 0, values) % 1 != 0
            found += [(int(row), "must be a whole number") for row in np.flatnonzero(broken)]
    return found


def _bounds(column: Column) -> tuple[float, float]:
    largest = float(np.finfo(np.float32).max)
    return (-largest if column.low is None else column.low, largest if column.high is None else column.high)


def _outside(column: Column, value: float) -> str:
    if not math.isfinite(value):
        return "must be a finite number"
    low, high = _bounds(column)
    return f"must lie between {low:g} and {high:g}"


def _value_problem(column: Column, value: Any, known: set[str] | None) -> str:
    if column.type in ("number", "integer"):
        return _number_problem(column, value)
    if column.type in ("category", "text"):
        if not isinstance(value, str):
            return "must be a text"
        if known is not None and value not in known:
            return f"must be one of {', '.join(column.categories)}"[:200]
        return ""
    if column.type == "boolean":
        return "" if isinstance(value, (bool, np.bool_)) else "must be true or false"
    return _moment_problem(value, column.formats)


def _number_problem(column: Column, value: Any) -> str:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        return "must be a number"
    low, high = _bounds(column)
    try:
        number = float(value)
    except OverflowError:  # an integer of more than 300 digits
        number = math.inf
    if not low <= number <= high:
        return _outside(column, number)
    if column.type == "integer" and number % 1 != 0:
        return "must be a whole number"
    return ""


def iso_of(text: str, formats: Sequence[str]) -> str:
    """A date in one of the formats as everybody else writes it; any other text as it is."""
    for form in formats if not MOMENT.fullmatch(text) else []:
        with contextlib.suppress(ValueError):
            return datetime.strptime(text, form).isoformat()
    return text


def _moment_problem(value: Any, formats: Sequence[str]) -> str:
    text = isinstance(value, str) and MOMENT.fullmatch(value)
    clock = isinstance(value, (date, np.datetime64)) and getattr(value, "tzinfo", None) is None
    try:
        if not (text or clock):
            raise ValueError(value)
        moment = np.datetime64(value, "s")
    except ValueError:
        others = "".join(f" or {EXAMPLE.strftime(form)}" for form in formats)
        return f"must be a date and time such as {EXAMPLE:%Y-%m-%dT%H:%M}{others}"
    return "" if _in_years(moment) else OUTSIDE_YEARS


def _are_moments(texts: Values) -> bool:
    """Whether nothing is wrong with any of them; None is allowed."""
    if not all(text is None or MOMENT.fullmatch(text) for text in texts):
        return False
    try:
        moments = np.array(texts, dtype="datetime64[s]")
    except ValueError:
        return False
    return bool((_in_years(moments) | np.isnat(moments)).all())


def _in_years(moments: Any) -> Any:
    years = moments.astype("datetime64[Y]").astype(np.int64) + 1970
    return (years >= 1700) & (years <= 2200)


def find_unusual(schema: Schema, matrix: Floats) -> dict[str, npt.NDArray[np.bool_]]:
    """By column name: the rows whose value training never saw (another category, or outside its range)."""
    low, high = schema.seen
    unusual = (matrix < low) | (matrix > high)
    if not unusual.any():
        return {}
    return {
        schema.columns[schema.inputs[i][1]].name: unusual[:, i] for i in np.flatnonzero(unusual.any(axis=0)).tolist()
    }

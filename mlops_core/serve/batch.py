"""Scores a table by chunks in constant memory: CSV or Parquet in and out, bad rows kept apart with their reason."""

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from mlops_core.errors import RequestError
from mlops_core.features import Column, Problem, Schema, Values, encode, find_problems
from mlops_core.serve.answers import answer_columns
from mlops_core.serve.predictor import Predictor

CHUNK_ROWS = 65_536
CSV_BLOCK = 8 << 20
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\x00")
TRUE_WORDS = {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}


class ScoreError(RequestError):
    """A table that cannot be scored."""

    def __init__(self, path: Path, problem: str) -> None:
        self.path, self.problem = path, problem
        super().__init__(f"{path.name}: {problem}")


@dataclass(frozen=True)
class Scored:
    """How many rows were answered, and how many were set apart."""

    rows: int
    rejected: int


def escape_formula(text: str) -> str:
    """A leading apostrophe before what a spreadsheet would run as a formula (OWASP: CSV injection)."""
    return f"'{text}" if text.startswith(FORMULA) else text


def count_rows(path: Path) -> int | None:
    """Rows of a Parquet file; None where only reading would tell."""
    return pq.read_metadata(path).num_rows if path.suffix == ".parquet" else None


def read_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """The table by chunks; a CSV's columns come as text, so that nothing is guessed. Raises ScoreError."""
    if not path.is_file():
        raise ScoreError(path, "there is no such file")
    try:
        if path.suffix == ".parquet":
            yield from pq.ParquetFile(path).iter_batches(batch_size=CHUNK_ROWS)
        elif path.suffix == ".csv":
            yield from _read_csv(path)
        else:
            raise ScoreError(path, "is neither .csv nor .parquet")
    except (pa.ArrowInvalid, OSError) as error:
        raise ScoreError(path, f"cannot be read: {str(error).splitlines()[0]}") from None


def _read_csv(path: Path) -> Iterator[pa.RecordBatch]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            header = next(csv.reader(file), [])
        except UnicodeDecodeError:
            raise ScoreError(path, "is not UTF-8; convert it, for example: iconv -f latin1 -t utf8") from None
        except csv.Error as error:
            raise ScoreError(path, f"cannot be read: {error}") from None
    _check_twice(path, header)
    options = pa_csv.ConvertOptions(
        column_types={name: pa.string() for name in header},
        strings_can_be_null=True,
        null_values=[""],
        quoted_strings_can_be_null=True,
    )
    yield from pa_csv.open_csv(
        path,
        read_options=pa_csv.ReadOptions(block_size=CSV_BLOCK),
        parse_options=pa_csv.ParseOptions(newlines_in_values=True),
        convert_options=options,
    )


def _check_twice(path: Path, names: list[str]) -> None:
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ScoreError(path, f"has the column '{twice[0]}' twice; rename one")


def to_values(column: Column, array: pa.Array) -> Values:
    """An Arrow array as `find_problems` and `encode` take it; texts are read by the column's type."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if column.type in ("number", "integer"):
        return _numbers(array)
    if column.type == "datetime" and pa.types.is_timestamp(array.type):
        return array.cast(pa.timestamp("s"), safe=False).to_numpy(zero_copy_only=False)
    if column.type == "boolean" and _is_text(array):
        return [value if value is None else TRUE_WORDS.get(value.strip().lower(), value) for value in array.to_pylist()]
    values: list[Any] = array.to_pylist()
    return values


def _numbers(array: pa.Array) -> Values:
    if pa.types.is_floating(array.type) or pa.types.is_integer(array.type):
        return array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    if _is_text(array):
        try:
            numbers = pc.cast(array, pa.float64())
        except pa.ArrowInvalid:
            return [_number_or_text(value) for value in array.to_pylist()]
        if pc.any(pc.is_nan(numbers)).as_py():
            return [_number_or_text(value) for value in array.to_pylist()]
        return numbers.to_numpy(zero_copy_only=False)
    values: list[Any] = array.to_pylist()
    return values


def _is_text(array: pa.Array) -> bool:
    return pa.types.is_string(array.type) or pa.types.is_large_string(array.type)


def _number_or_text(value: str | None) -> float | str | None:
    try:
        number = None if value is None else float(pc.cast(pa.scalar(value), pa.float64()).as_py())
    except pa.ArrowInvalid:
        return value
    # The word "nan" is a text, as it is to ingest; a missing number is an empty cell.
    return value if number != number else number  # noqa: PLR0124


def _score_batch(predictor: Predictor, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    schema = predictor.schema
    columns = _columns(schema, batch)
    problems = find_problems(schema, columns, batch.num_rows)
    good = batch
    if problems:
        bad = np.zeros(batch.num_rows, dtype=bool)
        bad[[problem.row for problem in problems]] = True
        good = batch.filter(pa.array(~bad))
        columns = _columns(schema, good)
    answers = answer_columns(predictor, predictor.predict(encode(schema, columns, good.num_rows)))
    if schema.id and schema.id in batch.schema.names:
        answers = {schema.id: good.column(schema.id), **answers}
    return pa.RecordBatch.from_pydict({name: _answer_array(values) for name, values in answers.items()}), _rejected(
        batch, problems
    )


def _answer_array(values: Any) -> pa.Array:
    """Texts as texts even where there is no row, so that every chunk of a file has the same types."""
    texts = isinstance(values, np.ndarray) and values.dtype == object
    return pa.array(values, type=pa.string()) if texts else values


def _columns(schema: Schema, batch: pa.RecordBatch) -> dict[str, Values]:
    names = set(batch.schema.names)
    return {
        column.name: to_values(column, batch.column(column.name)) for column in schema.columns if column.name in names
    }


def _rejected(batch: pa.RecordBatch, problems: list[Problem]) -> pa.RecordBatch:
    reasons: dict[int, list[str]] = {}
    for problem in problems:
        reasons.setdefault(problem.row, []).append(f"{problem.column} {problem.reason}")
    rows = sorted(reasons)
    table = batch.take(pa.array(rows, type=pa.int64()))
    return table.append_column("reason", pa.array(["; ".join(reasons[row]) for row in rows], type=pa.string()))


class Writer:
    """Writes batches to a draft that takes its place when all is done; nothing is left of an interrupted one."""

    def __init__(self, path: Path) -> None:
        if path.suffix not in (".csv", ".parquet"):
            raise ScoreError(path, "is neither .csv nor .parquet")
        self.path, self.rows = path, 0
        self.draft = path.with_name(f".{path.name}.tmp")
        self._writer: pq.ParquetWriter | pa_csv.CSVWriter | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        if self.path.suffix == ".csv":
            batch = _escaped(batch)
        if self._writer is None:
            kind = pa_csv.CSVWriter if self.path.suffix == ".csv" else pq.ParquetWriter
            self._writer = kind(self.draft, batch.schema)
        self._writer.write_batch(batch)
        self.rows += batch.num_rows

    def commit(self) -> None:
        if self._writer:
            self._writer.close()
            self.draft.replace(self.path)

    def discard(self) -> None:
        if self._writer:
            self._writer.close()
        self.draft.unlink(missing_ok=True)


def _escaped(batch: pa.RecordBatch) -> pa.RecordBatch:
    arrays = []
    for array in batch.columns:
        plain = array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
        if _is_text(plain) and pc.any(pc.match_substring_regex(plain, "^[=+\\-@\t\r\x00]")).as_py():
            texts = [None if value is None else escape_formula(value) for value in plain.to_pylist()]
            plain = pa.array(texts)
        arrays.append(plain)
    return pa.RecordBatch.from_arrays(arrays, names=[escape_formula(name) for name in batch.schema.names])


def score_file(predictor: Predictor, source: Path, target: Path, tick: Callable[[int], None]) -> Scored:
    """Scores `source` into `target`; rows that cannot be answered go to `<target>.rejected.<ext>` with a reason.

    `tick` is told the rows of each chunk. Raises ScoreError; an interrupted run leaves neither file.
    """
    _check_target(source, target)
    apart = target.with_suffix(f".rejected{target.suffix}")
    answers, rejects = Writer(target), Writer(apart)
    try:
        for position, batch in enumerate(read_batches(source)):
            if position == 0:
                _check_header(predictor, source, batch.schema.names)
            answered, rejected = _score_batch(predictor, batch)
            answers.write(answered)
            if rejected.num_rows:
                rejects.write(rejected)
            tick(batch.num_rows)
        if not answers.rows + rejects.rows:
            raise ScoreError(source, "holds no rows")
    except BaseException:
        answers.discard()
        rejects.discard()
        raise
    apart.unlink(missing_ok=True)
    answers.commit()
    rejects.commit()
    return Scored(answers.rows, rejects.rows)


def _check_target(source: Path, target: Path) -> None:
    if target.suffix not in (".csv", ".parquet"):
        raise ScoreError(target, "is neither .csv nor .parquet")
    if target.exists() and source.exists() and target.samefile(source):
        raise ScoreError(target, "would be overwritten by its own answers; give them another name")
    if not target.parent.is_dir():
        raise ScoreError(target, f"there is no folder {target.parent}")


def _check_header(predictor: Predictor, path: Path, names: list[str]) -> None:
    _check_twice(path, names)
    missing = [column.name for column in predictor.schema.columns if column.required and column.name not in names]
    if missing:
        raise ScoreError(path, f"lacks the column '{missing[0]}', which the model needs")

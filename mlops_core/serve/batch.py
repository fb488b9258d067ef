"""Scores a table by chunks in constant memory: CSV or Parquet in and out, bad rows kept apart with their reason."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from mlops_core.errors import RequestError
from mlops_core.features import Floats, Problem, Schema, Values, check_and_encode, find_unusual
from mlops_core.separators import explain_separator
from mlops_core.serve.answers import answer_columns
from mlops_core.serve.cells import find_nul, is_text, plain, read_columns
from mlops_core.serve.predictor import Doubles, Predictor
from mlops_core.serve.tables import CSV, PARQUET, SCAN_BYTES, SeparatorError, TableError, check_required, open_table

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\x00")
# Numbers, and dashes that stand for a missing value: nothing to run, and to be read again as they are.
PLAIN = re.compile(r"-{1,3}|[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?", re.ASCII)
UNUSUAL = "unusual"
KINDS = {".csv": CSV, ".parquet": PARQUET}


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


@dataclass(frozen=True)
class Chunk:
    """Rows of a table and what came of them: `good` are the positions of those that were answered.

    `columns`, `matrix` and `answer` hold the good rows alone, in their order; `reasons` tells why of each other one.
    """

    batch: pa.RecordBatch
    good: npt.NDArray[np.int64]
    columns: dict[str, Values]
    matrix: Floats
    answer: Doubles
    reasons: dict[int, str]


def escape_formula(text: str) -> str:
    """A leading apostrophe before what a spreadsheet would run as a formula (OWASP: CSV injection)."""
    return f"'{text}" if text.startswith(FORMULA) and not PLAIN.fullmatch(text) else text


def score_batch(predictor: Predictor, batch: pa.RecordBatch) -> Chunk:
    """Answers the rows that can be answered."""
    schema, good, kept = predictor.schema, np.arange(batch.num_rows), batch
    columns = read_columns(schema, batch)
    problems, matrix = check_and_encode(schema, columns, batch.num_rows)
    if problems := problems + find_nul(schema, batch):
        good = np.setdiff1d(good, [problem.row for problem in problems])
        kept = batch.take(pa.array(good))
        columns = read_columns(schema, kept)
        _, matrix = check_and_encode(schema, columns, len(good))
    return Chunk(batch, good, columns, matrix, predictor.predict(matrix), _reasons(problems))


def _reasons(problems: list[Problem]) -> dict[int, str]:
    found: dict[int, list[str]] = {}
    for problem in problems:
        found.setdefault(problem.row, []).append(f"{problem.column} {problem.reason}")
    return {row: "; ".join(found[row]) for row in sorted(found)}


def answer_arrays(predictor: Predictor, answer: Doubles) -> dict[str, pa.Array]:
    """Texts as texts even where there is no row, so that every chunk of a file has the same types."""
    columns = answer_columns(predictor, answer)
    return {
        name: pa.array(values, type=pa.string() if values.dtype == object else None) for name, values in columns.items()
    }


def answered_columns(predictor: Predictor, chunk: Chunk) -> dict[str, pa.Array]:
    """The answers, and which columns of a row hold what training never saw."""
    return {**answer_arrays(predictor, chunk.answer), UNUSUAL: _unusual(predictor.schema, chunk.matrix)}


def _unusual(schema: Schema, matrix: Floats) -> pa.Array:
    names: list[list[str]] = [[] for _ in range(len(matrix))]
    for name, rows in find_unusual(schema, matrix).items():
        for row in np.flatnonzero(rows):
            names[row].append(name)
    return pa.array([" | ".join(found) or None for found in names], type=pa.string())


def _answered(predictor: Predictor, chunk: Chunk) -> pa.RecordBatch:
    columns, name = answered_columns(predictor, chunk), predictor.schema.id
    if name and name in chunk.batch.schema.names:
        columns = {name: chunk.batch.column(name).take(pa.array(chunk.good)), **columns}
    return pa.RecordBatch.from_pydict(columns)


def _rejected(chunk: Chunk) -> pa.RecordBatch:
    table = chunk.batch.take(pa.array(chunk.reasons, type=pa.int64()))
    return table.append_column("reason", pa.array(chunk.reasons.values(), type=pa.string()))


class Output:
    """Writes batches into an open file; in CSV nothing starts like a formula."""

    def __init__(self, sink: Path | RawIOBase, kind: str) -> None:
        self.sink, self.kind = sink, kind
        self._writer: pq.ParquetWriter | pa_csv.CSVWriter | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        if self.kind == CSV:
            batch = _escaped(batch)
        if self._writer is None:
            kind = pa_csv.CSVWriter if self.kind == CSV else pq.ParquetWriter
            self._writer = kind(self.sink, batch.schema)
        self._writer.write_batch(batch)

    @property
    def used(self) -> bool:
        return self._writer is not None

    def close(self) -> None:
        if self._writer:
            self._writer.close()


class Writer:
    """Writes batches to a draft that takes its place when all is done; nothing is left of an interrupted one."""

    def __init__(self, path: Path) -> None:
        self.path, self.rows = path, 0
        self.draft = path.with_name(f".{path.name}.tmp")
        self._output = Output(self.draft, _kind_of(path))

    def write(self, batch: pa.RecordBatch) -> None:
        self._output.write(batch)
        self.rows += batch.num_rows

    def commit(self) -> None:
        self._output.close()
        if self._output.used:
            self.draft.replace(self.path)

    def discard(self) -> None:
        self._output.close()
        self.draft.unlink(missing_ok=True)


def _escaped(batch: pa.RecordBatch) -> pa.RecordBatch:
    arrays = []
    for array in map(plain, batch.columns):
        texts = array
        if is_text(array) and pc.any(pc.match_substring_regex(array, "^[=+\\-@\t\r\x00]")).as_py():
            escaped = [None if value is None else escape_formula(value) for value in array.to_pylist()]
            texts = pa.array(escaped, type=array.type)
        arrays.append(texts)
    return pa.RecordBatch.from_arrays(arrays, names=[escape_formula(name) for name in batch.schema.names])


def score_file(predictor: Predictor, source: Path, target: Path, tick: Callable[[int], None]) -> Scored:
    """Scores `source` into `target`; rows that cannot be answered go to `<target>.rejected.<ext>` with a reason.

    `tick` is told the rows of each chunk. Raises ScoreError; an interrupted run leaves neither file.
    """
    _check_target(source, target)
    apart = target.with_suffix(f".rejected{target.suffix}")
    answers, rejects = Writer(target), Writer(apart)
    try:
        for batch in _read(predictor, source):
            chunk = score_batch(predictor, batch)
            answers.write(_answered(predictor, chunk))
            if chunk.reasons:
                rejects.write(_rejected(chunk))
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


def _read(predictor: Predictor, path: Path) -> Iterator[pa.RecordBatch]:
    if not path.is_file():
        raise ScoreError(path, "there is no such file")
    try:
        table = open_table(path, _kind_of(path))
        check_required(table.names, required_columns(predictor))
        yield from table.batches
    except SeparatorError as error:
        raise ScoreError(path, explain_separator(path, _start_of(path), error.separator)) from error
    except TableError as error:
        raise ScoreError(path, error.problem) from error


def _start_of(path: Path) -> bytes:
    """The first whole lines: enough to see decimal commas."""
    with path.open("rb") as file:
        start = file.read(SCAN_BYTES)
    return start if len(start) < SCAN_BYTES else start[: start.rfind(b"\n") + 1]


def required_columns(predictor: Predictor) -> list[str]:
    """What a table must have."""
    return [column.name for column in predictor.schema.columns if column.required]


def _kind_of(path: Path) -> str:
    if path.suffix not in KINDS:
        raise ScoreError(path, "is neither .csv nor .parquet")
    return KINDS[path.suffix]


def _check_target(source: Path, target: Path) -> None:
    _kind_of(target)
    if target.exists() and source.exists() and target.samefile(source):
        raise ScoreError(target, "would be overwritten by its own answers; give them another name")
    if not target.parent.is_dir():
        raise ScoreError(target, f"there is no folder {target.parent}")

"""Tables by chunks, CSV or Parquet, from a path or an open file: what they hold, or why they cannot be read."""

import csv
import re
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from mlops_core.errors import RequestError
from mlops_core.separators import NAMES, separates

CHUNK_ROWS = 65_536
CSV_BLOCK = 8 << 20
CSV, PARQUET = "csv", "parquet"
MAX_SHOWN = 60  # characters of a name that a sentence repeats
SCAN_BYTES = 1 << 20
NOT_UTF8 = "is not UTF-8; convert it, for example: iconv -f latin1 -t utf8"
TOO_LONG = "cannot be read: a row is longer than a block, or a quote is never closed"
WIDTH = r"Expected (\d+) columns, got (\d+)"
# Arrow's own sentences repeat the row, and a row is nobody else's business.
REASONS = {
    rf"Row #(\d+): {WIDTH}": r"cannot be read: row \1 has not as many cells (\3) as columns (\2)",
    WIDTH: r"cannot be read: a row has not as many cells (\2) as columns (\1)",
    r"straddling object|out of sync": TOO_LONG,
    r"(?i)invalid utf-?8": NOT_UTF8,
    r"Empty CSV": "cannot be read: it is empty",
    r"CSV": "cannot be read: its rows and cells cannot be told apart",
    r"magic bytes|file size is": "cannot be read: it is no Parquet file, or its end is missing",
}
MAGIC = {
    b"PAR1": "Parquet",
    b"\x1f\x8b": "compressed",
    b"\x28\xb5\x2f\xfd": "compressed",
    b"PK\x03\x04": "a zip archive or a workbook",
    b"\xd0\xcf\x11\xe0": "a workbook",
}


class TableError(RequestError):
    """A file that cannot be read as a table; `problem` goes on where a sentence has named the file."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(f"The file {problem}.")


class SeparatorError(TableError):
    """A file whose values are separated by something else than commas."""

    def __init__(self, separator: str) -> None:
        self.separator = separator
        super().__init__(f"is separated by {NAMES[separator]} instead of commas; write it with commas")


@dataclass(frozen=True)
class Table:
    """The names of all columns, and the rows of those that were asked for.

    `rows` and `size` (bytes of their cells) are what the file says of itself, 0 where only reading tells.
    """

    names: list[str]
    batches: Iterator[pa.RecordBatch]
    rows: int = 0
    size: int = 0


def open_table(
    source: Path | BinaryIO,
    kind: str,
    wanted: Collection[str] | None = None,
    chunk_rows: int | None = None,
    block_bytes: int | None = None,
) -> Table:
    """A CSV's columns come as text, so that nothing is guessed. Raises TableError, now or while it is read.

    Without `wanted` all columns are read. Parquet comes in chunks of so many rows, CSV in blocks of so many bytes.
    """
    if kind == PARQUET:
        return _open_parquet(source, wanted, chunk_rows or CHUNK_ROWS)
    if isinstance(source, Path):
        with _explained(), source.open("rb") as file:
            names = _read_header(file)
    else:
        names = _read_header(source)
    return Table(names, _csv_batches(source, names, wanted, block_bytes or CSV_BLOCK))


def count_rows(path: Path) -> int | None:
    """Rows of a Parquet file; None where only reading would tell."""
    return pq.read_metadata(path).num_rows if path.suffix == ".parquet" else None


def check_required(names: list[str], required: Collection[str]) -> None:
    """Raises TableError when a column is missing."""
    known = set(names)
    missing = [name for name in required if name not in known]
    if missing and any("\x00" in name for name in names):
        raise TableError("holds NUL bytes where its columns should be named; if it is UTF-16, convert it to UTF-8")
    if missing and len(names) == 1 and (separator := separates(names[0])):
        raise SeparatorError(separator)
    if missing:
        raise TableError(f"lacks the column '{missing[0]}', which the model needs")


def _check_twice(names: list[str]) -> None:
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise TableError(f"has the column '{twice[0][:MAX_SHOWN]}' twice; rename one")


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError, csv.Error) as error:
        raise TableError(_reason(error)) from error


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return NOT_UTF8
    text = str(error).partition("\n")[0]
    for pattern, sentence in REASONS.items():
        if found := re.search(pattern, text):
            return found.expand(sentence)
    return f"cannot be read: {text[:200]}"


def _open_parquet(source: Path | BinaryIO, wanted: Collection[str] | None, chunk_rows: int) -> Table:
    with _explained():
        file = pq.ParquetFile(source)
        names = file.schema_arrow.names
        _check_twice(names)
        columns = None if wanted is None else [name for name in names if name in wanted]
        size = sum(_claimed_bytes(file, name) for name in columns or ())
    return Table(names, _parquet_batches(file, columns, chunk_rows), file.metadata.num_rows, size)


def _claimed_bytes(file: pq.ParquetFile, name: str) -> int:
    """Raises TableError for a column whose values have parts of their own."""
    kind, metadata = file.schema_arrow.field(name).type, file.metadata
    if pa.types.is_nested(kind) or isinstance(kind, pa.BaseExtensionType):
        raise TableError(f"has the column '{name[:MAX_SHOWN]}' with values that are no plain ones")
    leaf = next(i for i in range(metadata.num_columns) if metadata.schema.column(i).path == name)
    groups = (metadata.row_group(i) for i in range(metadata.num_row_groups))
    return sum(group.column(leaf).total_uncompressed_size for group in groups)


def _parquet_batches(file: pq.ParquetFile, columns: list[str] | None, rows: int) -> Iterator[pa.RecordBatch]:
    with _explained():
        for batch in file.iter_batches(rows, columns=columns):
            found = batch if columns is None else batch.select(columns)
            found.validate(full=True)  # nothing else makes sure that a text is one
            yield found


def _read_header(file: BinaryIO) -> list[str]:
    start = file.read(4)
    for magic, what in MAGIC.items():
        if start.startswith(magic):
            raise TableError(f"is {what}, not CSV")
    file.seek(0)
    text = TextIOWrapper(file, encoding="utf-8-sig", newline="")
    try:
        with _explained():
            names = next(filter(None, csv.reader(text)), [])  # as Arrow, which passes over empty lines
    finally:
        text.detach()
        file.seek(0)
    if not names:
        raise TableError("cannot be read: it is empty")
    _check_twice(names)
    return names


def _csv_batches(
    source: Path | BinaryIO, names: list[str], wanted: Collection[str] | None, block_bytes: int
) -> Iterator[pa.RecordBatch]:
    options = pa_csv.ConvertOptions(
        column_types={name: pa.string() for name in names},
        include_columns=None if wanted is None else [name for name in names if name in wanted],
        strings_can_be_null=True,
        null_values=[""],
        quoted_strings_can_be_null=True,
    )
    with _explained():
        _check_quotes(source)
        yield from pa_csv.open_csv(
            source,
            read_options=pa_csv.ReadOptions(block_size=block_bytes),
            parse_options=pa_csv.ParseOptions(newlines_in_values=True),
            convert_options=options,
        )


def _check_quotes(source: Path | BinaryIO) -> None:
    """Refuses a quote that is never closed, which Arrow takes for one long cell up to the end of the file."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            _check_quotes(file)
        return
    quotes = sum(piece.count(b'"') for piece in iter(lambda: source.read(SCAN_BYTES), b""))
    source.seek(0)
    if quotes % 2:  # it may be one that stands for inches: look closer
        text = TextIOWrapper(source, encoding="utf-8-sig", newline="")
        try:
            for _ in csv.reader(text, strict=True):
                pass
        except csv.Error as error:
            if "end of data" in str(error) or "limit" in str(error):
                raise TableError("cannot be read: a quote is never closed") from None
        finally:
            text.detach()
            source.seek(0)

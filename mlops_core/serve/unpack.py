"""A process that reads a stranger's table with limited memory and time, and leaves plain batches or the reason why not.

`python -m mlops_core.serve.unpack` reads an Order as JSON from its input and answers with a Reply. A small file can
unpack to any size, and what a Parquet file says of itself need not be true: what it does to its reader ends with this
process. What is left is an Arrow stream of known columns of plain types, with few rows and few bytes a batch.
"""

import json
import os
import resource
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from mlops_core.processes import end_with_parent
from mlops_core.serve.cells import is_text, plain
from mlops_core.serve.tables import MAX_SHOWN, TableError, check_required, open_table

CHUNK_ROWS = 2_000
CHUNK_BYTES = 1 << 20
MAX_COLUMNS = 2_000
MAX_CELL_BYTES = 32 << 10
NICENESS = 10


@dataclass(frozen=True)
class Order:
    """What to read: descriptors of the open files, the columns that matter, and the limits."""

    upload: int
    unpacked: int
    kind: str
    columns: list[str]
    required: list[str]
    max_rows: int
    max_bytes: int
    memory_bytes: int
    cpu_seconds: int


@dataclass(frozen=True)
class Reply:
    """How many rows there are, or what is wrong with the file; `error` names what nobody foresaw."""

    rows: int = 0
    problem: str = ""
    too_large: bool = False
    error: str = ""


class TooLargeError(TableError):
    """More than is answered at a time."""


def unpack(order: Order, upload: BinaryIO, unpacked: BinaryIO) -> int:
    """Copies the rows, and says how many there are. Raises TableError."""
    table = open_table(upload, order.kind, frozenset(order.columns), CHUNK_ROWS, CHUNK_BYTES)
    if len(table.names) > MAX_COLUMNS:
        raise TooLargeError(f"has {len(table.names):,} columns, at most {MAX_COLUMNS:,} are read")
    check_required(table.names, order.required)
    if not set(order.columns) & set(table.names):
        raise TableError("has none of the columns that the model knows")
    _check_size(order, table.rows, table.size)
    rows = size = 0
    writer = None
    for chunk in in_chunks(map(_plain_batch, table.batches)):
        rows, size = rows + chunk.num_rows, size + chunk.nbytes
        _check_size(order, rows, size)
        writer = writer or pa.ipc.new_stream(unpacked, chunk.schema)
        writer.write_batch(chunk)
    if writer is None:
        raise TableError("holds no rows")
    writer.close()
    return rows


def _check_size(order: Order, rows: int, size: int) -> None:
    if rows > order.max_rows:
        raise TooLargeError(f"has more than {order.max_rows:,} rows, the most that are answered at a time")
    if size > order.max_bytes:
        raise TooLargeError(f"unpacks to more than {order.max_bytes >> 20:,} MiB")


def _plain_batch(batch: pa.RecordBatch) -> pa.RecordBatch:
    arrays = []
    for name, array in zip(batch.schema.names, batch.columns, strict=True):
        # A dictionary is looked at before its rows are spelt out: each may repeat the same long text.
        values = plain(array.dictionary if pa.types.is_dictionary(array.type) else array)
        if (is_text(values) or pa.types.is_binary(values.type)) and _longest(values) > MAX_CELL_BYTES:
            raise TooLargeError(
                f"has a cell of more than {MAX_CELL_BYTES >> 10} KiB in the column '{name[:MAX_SHOWN]}'"
            )
        arrays.append(plain(array))
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def _longest(values: pa.Array) -> int:
    return pc.max(pc.binary_length(values)).as_py() or 0


def in_chunks(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows in batches that are neither large nor tiny, however a file's author cut them."""
    held: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        for piece in _pieces(batch):
            rows, size = rows + piece.num_rows, size + piece.nbytes
            if held and (rows > CHUNK_ROWS or size > CHUNK_BYTES):
                yield pa.concat_batches(held)
                held, rows, size = [], piece.num_rows, piece.nbytes
            held.append(piece)
    if held:
        yield pa.concat_batches(held)


def _pieces(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    if batch.num_rows > 1 and (batch.num_rows > CHUNK_ROWS or batch.nbytes > CHUNK_BYTES):
        half = batch.num_rows // 2
        yield from _pieces(batch.slice(0, half))
        yield from _pieces(batch.slice(half))
    elif batch.num_rows:
        yield batch


def _limit(order: Order) -> None:
    end_with_parent()
    os.nice(NICENESS)  # predictions that somebody waits for come first
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    for limit, value in {
        resource.RLIMIT_DATA: order.memory_bytes,
        resource.RLIMIT_CPU: order.cpu_seconds,
        resource.RLIMIT_CORE: 0,
    }.items():
        hard = resource.getrlimit(limit)[1]
        allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (allowed, allowed))


def answer(order: Order) -> Reply:
    """What came of an order, whatever the file does to its reader."""
    try:
        with os.fdopen(order.upload, "rb") as upload, os.fdopen(order.unpacked, "wb") as unpacked:
            return Reply(rows=unpack(order, upload, unpacked))
    except TableError as error:
        return Reply(problem=error.problem, too_large=isinstance(error, TooLargeError))
    except MemoryError:
        return Reply(problem=f"needs more than {order.memory_bytes >> 20:,} MiB of memory to be read", too_large=True)
    except Exception as error:  # there is nothing here but the file to blame
        return Reply(problem="cannot be read: it is damaged", error=type(error).__name__)


def main() -> None:
    order = Order(**json.loads(sys.stdin.buffer.read()))
    _limit(order)
    sys.stdout.write(json.dumps(asdict(answer(order))))


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # Arrow may still read ahead in a thread of its own, and aborts when Python ends under it

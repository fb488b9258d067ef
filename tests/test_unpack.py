"""The process that reads uploads, against files that mean no good."""

import io
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_core.serve import unpack
from mlops_core.serve.unpack import CHUNK_BYTES, CHUNK_ROWS, MAX_CELL_BYTES, MAX_COLUMNS, Order, Reply, in_chunks

MEMORY = 256 << 20
PROGRAM = """import os, sys
from mlops_core.serve.unpack import main
main()
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")), file=sys.stderr)
sys.stdout.flush()
os._exit(0)
"""
FRUGAL = {"OPENBLAS_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "2"}


def order(**changes):
    limits = {"max_rows": 1_000_000, "max_bytes": MEMORY, "memory_bytes": MEMORY, "cpu_seconds": 20}
    return Order(
        **{"upload": -1, "unpacked": -1, "kind": "csv", "columns": ["a", "b"], "required": ["a"], **limits} | changes
    )


def read(data, kind="csv", **changes):
    """The reply and the rows, read in this process."""
    with tempfile.TemporaryFile() as upload, tempfile.TemporaryFile() as unpacked:
        upload.write(data)
        upload.seek(0)
        files = {"upload": os.dup(upload.fileno()), "unpacked": os.dup(unpacked.fileno())}
        reply = unpack.answer(order(kind=kind, **files, **changes))
        unpacked.seek(0)
        return reply, list(pa.ipc.open_stream(unpacked)) if reply.rows else []


def run(data, kind, **changes):
    """The reply of a process of its own, its exit code, and the most memory that it had, in MiB."""
    with tempfile.TemporaryFile() as upload, tempfile.TemporaryFile() as unpacked:
        upload.write(data)
        upload.seek(0)
        files = {"upload": upload.fileno(), "unpacked": unpacked.fileno()}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            input=json.dumps(asdict(order(kind=kind, **files, **changes))).encode(),
            env={**os.environ, **FRUGAL},
            pass_fds=tuple(files.values()),
            capture_output=True,
            check=False,
            timeout=60,
        )
    if done.returncode:
        return None, done.returncode, 0
    return Reply(**json.loads(done.stdout)), 0, int(done.stderr) >> 10


def parquet(table, **options):
    buffer = io.BytesIO()
    pq.write_table(table if isinstance(table, pa.Table) else pa.table(table), buffer, **options)
    return buffer.getvalue()


def varint(number):
    """A number as Thrift writes it: zigzag, seven bits a byte."""
    number, found = number << 1, b""
    while number > 127:
        found, number = found + bytes([number & 127 | 128]), number >> 7
    return found + bytes([number])


def with_a_lie(data):
    """The same file, whose footer says that nothing is in its column."""
    told = varint(pq.read_metadata(io.BytesIO(data)).row_group(0).column(0).total_uncompressed_size)
    start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    assert told in data[start:]
    return data[:start] + data[start:].replace(told, b"\x80" * (len(told) - 1) + b"\x00")


LONG = pa.array(["x" * 2_000_000])
REPEATED = pa.DictionaryArray.from_arrays(pa.array(np.zeros(1000, dtype=np.int32)), LONG)


def huge():
    return parquet({"a": ["x" * 300_000_000]}, compression="zstd", write_statistics=False, use_dictionary=False)


@pytest.mark.parametrize(
    ("make", "kind", "match"),
    [
        (lambda: parquet({"a": np.zeros(20_000_000)}), "parquet", "more than 1,000,000 rows"),
        (lambda: parquet({"a": REPEATED}), "parquet", "cell of more than 32 KiB in the column 'a'"),
        (lambda: parquet({"a": REPEATED}, store_schema=False), "parquet", "256 MiB of memory"),
        (huge, "parquet", "unpacks to more than 256 MiB"),
        (lambda: with_a_lie(huge()), "parquet", "256 MiB of memory"),
        (lambda: b"," * (32 << 20) + b"\n1\n", "csv", "256 MiB of memory"),
        (lambda: b"".join(b"c%d," % i for i in range(MAX_COLUMNS)) + b"a\n", "csv", "columns, at most 2,000"),
        (lambda: b"a\n" + b"x" * (32 << 20), "csv", "a row is longer than a block"),
    ],
    ids=["rows", "dictionary", "pages", "cell", "lie", "commas", "columns", "row"],
)
def test_no_file_takes_more_memory_than_allowed(make, kind, match):
    reply, code, peak = run(make(), kind)
    assert code == 0
    assert match in reply.problem
    assert reply.too_large or "longer" in match
    assert peak < (MEMORY >> 20) + 60
    assert not reply.error


def test_a_file_that_keeps_its_reader_busy_is_given_up(monkeypatch):
    spend = "import time\nwhile time.process_time() < 0.95: pass\n"  # on any machine the rest takes longer than is left
    monkeypatch.setattr(sys.modules[__name__], "PROGRAM", spend + PROGRAM)
    lines = b'1,"a ""b"" c"\n' * 4_000_000  # an odd quote in the end makes it look at every one
    reply, code, _ = run(b"a,b\n" + lines + b'1,5"\n', "csv", cpu_seconds=1, max_rows=10_000_000)
    assert reply is None
    assert code < 0


def test_a_long_file_is_read_in_little_memory():
    rows = b"".join(b"%d,some text of usual length that stands in a cell\n" % row for row in range(999_999))
    reply, code, peak = run(b"a,b\n" + rows, "csv")
    assert (code, reply) == (0, Reply(rows=999_999))
    assert peak < 250


@pytest.mark.parametrize(
    ("data", "kind", "match"),
    [
        (b"", "csv", "it is empty"),
        (b"\n\n", "csv", "it is empty"),
        (b"a,b\n", "csv", "holds no rows"),
        (b"a,b\n\n\n", "csv", "holds no rows"),
        (b"b\n1\n", "csv", "lacks the column 'a'"),
        (b"a;b\n1;2\n", "csv", "is separated by ';' instead of commas"),
        (b"a,a\n1,2\n", "csv", "has the column 'a' twice"),
        (b"a,b\n1,2,3\n", "csv", "a row has not as many cells (3) as columns (2)"),
        (b"a,b\n1\n", "csv", "not as many cells (1) as"),
        (b"a\n1,secret\n", "csv", "not as many cells (2) as"),
        (b'a,b\n1,"2\n3,4\n', "csv", "a quote is never closed"),
        (b'a,b\n1,"2', "csv", "a quote is never closed"),
        ("a,b\n1,é\n".encode("latin-1"), "csv", "not UTF-8"),
        ("é,a\n1,2\n".encode("latin-1"), "csv", "not UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), "csv", "not UTF-8"),
        ("a,b\n1,2\n".encode("utf-16-le"), "csv", "holds NUL bytes"),
        (b"a,b\n\xed\xa0\x80,2\n", "csv", "not UTF-8"),
        (b"\x1f\x8b\x08" + bytes(30), "csv", "is compressed, not CSV"),
        (b"PK\x03\x04" + bytes(30), "csv", "a zip archive or a workbook"),
        (parquet({"a": [1]}), "csv", "is Parquet, not CSV"),
        (b"a,b\n1,2\n", "parquet", "no Parquet file"),
        (b"", "parquet", "no Parquet file"),
        (b"PAR1" + bytes(99) + b"PAR1", "parquet", "cannot be read"),
        (parquet({"a": [1]})[:-1], "parquet", "no Parquet file"),
        (parquet({"b": [1]}), "parquet", "lacks the column 'a'"),
        (parquet({"a": pa.array([], pa.int64())}), "parquet", "holds no rows"),
        (parquet(pa.table([[1], [2]], names=["a", "a"])), "parquet", "has the column 'a' twice"),
        (parquet({"a": [[1, 2]]}), "parquet", "the column 'a' with values that are no plain ones"),
        (parquet({"a": [{"a": 1}]}), "parquet", "the column 'a' with values that are no plain ones"),
        (parquet({"a": pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff"]).buffers())}), "parquet", "not UTF-8"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(data, kind, match):
    reply, _ = read(data, kind)
    assert match in reply.problem
    assert "secret" not in reply.problem
    assert not reply.error


def test_a_table_without_any_known_column_is_refused():
    reply, _ = read(b"x,y\n1,2\n", required=[])
    assert "none of the columns" in reply.problem


@given(st.data())
def test_a_damaged_file_is_read_or_refused(data):
    whole = data.draw(st.sampled_from([parquet({"a": [1, 2], "b": ["x", None]}), b'a,b\n1,"x"\n2,\n']))
    place = data.draw(st.integers(0, len(whole) - 1))
    damaged = whole[:place] + data.draw(st.binary(max_size=3)) + whole[place + data.draw(st.integers(0, 4)) :]
    reply, code, _ = run(damaged, "parquet") if damaged.startswith(b"PAR1") else (read(damaged)[0], 0, 0)
    assert code == 0
    assert bool(reply.rows) != bool(reply.problem)


@pytest.mark.parametrize(
    "kind",
    [pa.float16(), pa.int8(), pa.uint64(), pa.bool_(), pa.large_string(), pa.string_view(), pa.date32(), pa.null()],
)
def test_every_plain_type_is_taken(kind):
    values = pa.array([None, None], kind)
    reply, (batch,) = read(parquet({"a": values}), "parquet")
    assert reply.rows == 2
    assert batch.column("a").null_count == 2


def test_only_the_columns_that_matter_are_kept():
    for data, kind in ((b"x,b,a\n1,2,3\n", "csv"), (parquet({"x": [[1]], "b": ["2"], "a": ["3"]}), "parquet")):
        _, (batch,) = read(data, kind)
        assert batch.to_pydict() == {"b": ["2"], "a": ["3"]}


def test_a_column_with_a_dot_in_its_name_is_a_column():
    data = parquet({"a.b": ["1"], "a": ["2"]})
    _, (batch,) = read(data, "parquet", columns=["a.b", "a"], required=["a.b"])
    assert batch.to_pydict() == {"a.b": ["1"], "a": ["2"]}
    _, (batch,) = read(data, "parquet")
    assert batch.to_pydict() == {"a": ["2"]}


@pytest.mark.parametrize("rows", [2, 3])
def test_a_file_may_have_as_many_rows_as_allowed(rows):
    for data, kind in ((b"a\n" + b"1\n" * rows, "csv"), (parquet({"a": ["1"] * rows}), "parquet")):
        reply, _ = read(data, kind, max_rows=2)
        assert reply.too_large == (rows > 2)
        assert reply.rows == (2 if rows == 2 else 0)


@pytest.mark.parametrize("size", [MAX_CELL_BYTES, MAX_CELL_BYTES + 1])
def test_a_cell_may_be_as_long_as_allowed(size):
    for data, kind in ((b"a\n" + b"x" * size + b"\n", "csv"), (parquet({"a": ["x" * size]}), "parquet")):
        reply, _ = read(data, kind)
        assert reply.too_large == (size > MAX_CELL_BYTES)


def test_a_quote_that_stands_for_inches_is_no_open_one():
    reply, (batch,) = read(b'a,b\n1,5" pipe\n2,x\n')
    assert reply.rows == 2
    assert batch.column("b").to_pylist() == ['5" pipe', "x"]


@given(st.lists(st.integers(0, 3 * CHUNK_ROWS), max_size=12), st.integers(1, 1500))
def test_chunks_hold_the_same_rows_and_are_neither_large_nor_tiny(sizes, width):
    row, batches = 0, []
    for size in sizes:
        batches.append(pa.RecordBatch.from_pydict({"a": pa.array(range(row, row + size)), "b": ["x" * width] * size}))
        row += size
    chunks = list(in_chunks(iter(batches)))
    assert [value for chunk in chunks for value in chunk.column("a").to_pylist()] == list(range(row))
    for chunk, following in zip(chunks, [*chunks[1:], None], strict=False):
        assert 1 <= chunk.num_rows <= CHUNK_ROWS
        assert chunk.nbytes <= CHUNK_BYTES or chunk.num_rows == 1
        if following is not None:
            together = chunk.num_rows + following.num_rows
            assert together > CHUNK_ROWS // 2 or chunk.nbytes + following.nbytes > CHUNK_BYTES // 2

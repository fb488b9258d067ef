import gzip
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tables import make_spec, make_table, read_bytes, sha256, table_spec

from mlops_core import ingest
from mlops_core.datasets import load_dataset
from mlops_core.draft.command import Wish, init_table
from mlops_core.errors import MLOpsError
from mlops_core.ingest import (
    Ingested,
    QuarantineError,
    check_quarantined,
    count_rows,
    enforce_contract,
    ingest_source,
    worst_reason,
    write_quarantine,
    write_tables,
)
from mlops_core.sources import SourceError

AB = {"a": {"type": "integer", "missing": True}, "b": {"type": "text", "missing": True}}


def split(folder, data, fields=AB, file="t.csv", **rest):
    raw = read_bytes(folder, data, fields, file)
    return enforce_contract(raw, table_spec(fields, data, file, **rest))


def refuse(folder, data, match, fields=AB, file="t.csv"):
    with pytest.raises(SourceError, match=match):
        read_bytes(folder, data, fields, file)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"a,b\n1,x\n2\n", "line 3 has 1 values for 2 columns"),
        (b"a,b\n1,x\n2,y,z\n", "line 3 has 3 values for 2 columns"),
        (b'a,b\n1,"two\nlines"\n2,y,z\n', "line 4 has 3 values"),
        (b"a,b\n1,x,\n", "line 2 has 3 values"),
        (b'a,b\n1,"x\n2,y\n', "line 3 cannot be parsed"),
        (b'a,b\n1,"x"y\n', "line 2 cannot be parsed"),
        ("a,b\n1,x\n2,é\n".encode("latin-1"), r"line 3 is not UTF-8.*iconv"),
        ("a,b\n1,x\n".encode("utf-16"), "line 1 is not UTF-8"),
        ("a,b\n1,x\n".encode("utf-16-le"), "column"),
        (gzip.compress(b"a,b\n1,x\n", mtime=0), "compressed"),
        (b"PK\x03\x04rest", "compressed"),
        (b"a,a\n1,x\n", "column 'a' twice"),
        (b"a;b\n1;x\n", "lacks the column 'a'"),
        (b"a,b,c\n1,x,y\n", "column 'c' that the dataset file does not declare"),
        (b"a\n1\n", "lacks the column 'b'"),
        (b"A,B\n1,x\n", "lacks the column 'a'"),
        (b"1,x\n2,y\n", "lacks the column 'a'"),
        (b"a,b\n", "holds no rows"),
        (b"a,b", "holds no rows"),
        (b"", "holds no columns"),
        (b"\xef\xbb\xbf", "holds no columns"),
    ],
)
def test_a_broken_csv_is_refused_with_its_line(tmp_path, data, match):
    refuse(tmp_path, data, match)


def test_a_line_of_spaces_does_not_vanish(tmp_path):
    refuse(tmp_path, b"b\nx\n \ny\n", "look for lines of spaces", {"b": AB["b"]})


def test_a_giant_value_is_refused(tmp_path):
    refuse(tmp_path, b"a,b\n1," + b"x" * 200_000 + b"\n", "line 2 cannot be parsed: field larger")


def test_a_csv_of_too_many_columns_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(ingest, "MAX_COLUMNS", 1)
    refuse(tmp_path, b"a,b\n1,x\n", "has 2 columns, more than 1")


@pytest.mark.parametrize(
    "data", [b"\xef\xbb\xbfa,b\n1,x\n", b"a,b\r\n1,x\r\n", b"a,b\n1,x", b"a,b\n\n1,x\n\n", b'"a","b"\n"1","x"\n']
)
def test_marks_line_ends_and_quotes_of_other_programs_are_read(tmp_path, data):
    accepted = split(tmp_path, data).accepted
    assert accepted.to_dict("list") == {"a": [1], "b": ["x"]}


def test_columns_come_in_the_declared_order(tmp_path):
    assert list(split(tmp_path, b"b,a\nx,1\n").accepted) == ["a", "b"]


@pytest.mark.parametrize("text", ["NA", "null", "None", "nan", "N/A", "0012", "1e5", " x ", "#N/A"])
def test_a_text_is_kept_as_it_stands(tmp_path, text):
    assert split(tmp_path, f"a,b\n1,{text}\n".encode()).accepted["b"].tolist() == [text]


def test_only_the_declared_marks_are_missing(tmp_path):
    (tmp_path / "t.csv").write_bytes(data := b"a,b\n-,x\n1,-\n2,\n")
    raw = ingest.read_table(tmp_path / "t.csv", table_spec(AB, data), ["-"])
    assert raw.isna().to_numpy().tolist() == [[True, False], [False, True], [False, False]]


def test_a_whole_number_beyond_floats_stays_exact_beside_a_blank(tmp_path):
    accepted = split(tmp_path, b"a,b\n9007199254740993,x\n,y\n").accepted
    assert accepted["a"][0] == 9007199254740993
    assert accepted["a"].isna().tolist() == [False, True]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("number", '"1,5"'),
        ("number", "inf"),
        ("number", "-Infinity"),
        ("number", "nan"),
        ("integer", "1.5"),
        ("integer", "12345678901234567890"),
        ("datetime", "2013-02-30"),
        ("datetime", "now"),
        ("datetime", "24/12/2013"),
        ("boolean", "maybe"),
        ("text", "a\x00b"),
    ],
)
def test_a_bad_value_is_quarantined_as_it_came(tmp_path, kind, text):
    fields = {"a": {"type": kind, "missing": True}, "b": {"type": "text"}}
    done = split(tmp_path, f"a,b\n{text},x\n,y\n".encode(), fields)
    assert done.quarantined["a"].tolist() == [text.strip('"')]
    assert done.quarantined["reason"].tolist() == [f"a: not a valid {kind}"]
    assert done.accepted["b"].tolist() == ["y"]


def test_a_moment_to_come_is_quarantined():
    fields = {"at": {"type": "datetime"}, "b": {"type": "text"}}
    tomorrow = pd.Timestamp.now() + pd.Timedelta(days=1)
    raw = pd.DataFrame({"at": ["2013-01-01", str(tomorrow.floor("s"))], "b": ["x", "y"]}, dtype="str")
    done = enforce_contract(raw, table_spec(fields), time="at")
    assert done.quarantined["reason"].tolist() == ["at: lies in the future"]
    assert done.accepted["b"].tolist() == ["x"]


def test_every_reason_of_a_row_is_told_once():
    fields = {"a": {"type": "integer", "range": (0, 9)}, "b": {"type": "category", "categories": ["x"]}}
    raw = pd.DataFrame({"a": ["1.5", "99"], "b": ["y", "x"]}, dtype="str")
    reasons = enforce_contract(raw, table_spec(fields)).quarantined["reason"].tolist()
    assert reasons == ["a: not a valid integer; b: not one of x", "a: outside 0 to 9"]


def parquet(table):
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


GOOD = parquet(pa.table({"a": pa.array([1, None]), "b": ["x", "y"]}))


def test_a_parquet_file_is_read_as_a_csv_file_is(tmp_path):
    pd.testing.assert_frame_equal(
        split(tmp_path, GOOD, file="t.parquet").accepted, split(tmp_path, b"a,b\n1,x\n,y\n").accepted
    )


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (GOOD[:-1], "not a readable Parquet file"),
        (GOOD[: len(GOOD) // 2], "not a readable Parquet file"),
        (b"", "not a readable Parquet file"),
        (b"PAR1", "not a readable Parquet file"),
        (b"a,b\n1,x\n", "not a readable Parquet file"),
        (parquet(pa.table({"a": [[1]], "b": ["x"]})), "column 'a' is nested"),
        (parquet(pa.table({"a": [{"c": 1}], "b": ["x"]})), "column 'a' is nested"),
        (parquet(pa.table([[1], [2], ["x"]], names=["a", "a", "b"])), "column 'a' twice"),
        (parquet(pa.table({"a": [1], "b": ["x"], "c": [2]})), "column 'c'"),
        (parquet(pa.table({"a": [1]})), "lacks the column 'b'"),
        (parquet(pa.table({"a": pa.array([], pa.int64()), "b": pa.array([], pa.string())})), "holds no rows"),
    ],
)
def test_a_broken_parquet_file_is_refused(tmp_path, data, match):
    refuse(tmp_path, data, match, file="t.parquet")


def test_a_parquet_file_of_too_many_cells_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(ingest, "MAX_CELLS", 3)
    refuse(tmp_path, GOOD, "holds 2 rows of 2 columns", file="t.parquet")


def test_a_whole_number_of_a_parquet_file_stays_exact_beside_a_gap(tmp_path):
    data = parquet(pa.table({"a": pa.array([9007199254740993, None]), "b": ["x", "y"]}))
    assert split(tmp_path, data, file="t.parquet").accepted["a"][0] == 9007199254740993


def test_an_index_that_pandas_wrote_is_a_column_like_any_other(tmp_path):
    buffer = io.BytesIO()
    pd.DataFrame({"a": [5, 2, 9], "b": ["x", "y", "z"]}).set_index("a").to_parquet(buffer)
    assert split(tmp_path, buffer.getvalue(), file="t.parquet").accepted["a"].tolist() == [5, 2, 9]


@pytest.mark.parametrize(
    "values",
    [
        pa.array([True, False]),
        pa.array([1.5, 2.5]),
        pa.array([2**63, 2**63 + 1], pa.uint64()),
        pa.array([0, 1], pa.timestamp("s")),
        pa.array([0, 1], pa.date32()),
        pa.array(["x", "y"]),
        pa.array([b"x", b"y"]),
        pa.array(["x", "y"]).dictionary_encode(),
    ],
)
def test_a_parquet_column_of_another_type_is_quarantined(tmp_path, values):
    done = split(tmp_path, parquet(pa.table({"a": values, "b": ["x", "y"]})), file="t.parquet")
    assert done.quarantined["reason"].tolist() == ["a: not a valid integer"] * 2


def test_another_kind_of_file_is_refused(tmp_path):
    refuse(tmp_path, b"{}", "neither .csv nor .parquet", file="t.json")


FIELDS = {
    "a": {"type": "integer", "range": (0, 5)},
    "n": {"type": "number", "missing": True},
    "c": {"type": "category", "categories": ["x", "y"], "missing": True},
    "t": {"type": "datetime", "missing": True},
    "b": {"type": "boolean", "missing": True},
}
CELLS = {
    "a": ["0", "5", "6", "-1", "1.0", "x", None],
    "n": ["1.5", "inf", "nan", "1,5", "", None],
    "c": ["x", "y", "z", "", None],
    "t": ["2013-01-01", "2013-02-30", "now", "2999-01-01", None],
    "b": ["true", "no", "2", None],
}


@settings(max_examples=30)
@given(
    st.lists(st.tuples(*[st.sampled_from(values) for values in CELLS.values()]), min_size=1, max_size=30),
    st.sampled_from([[], ["a"], ["a", "c"]]),
)
@example([("0", None, None, None, None)], [])
@example([("x", "inf", "z", "now", "2")] * 3, ["a"])
def test_every_row_read_is_accepted_or_quarantined_and_none_twice(rows, key):
    raw = pd.DataFrame(rows, columns=list(CELLS), dtype="str").assign(place=[str(i) for i in range(len(rows))])
    fields = {**FIELDS, "place": {"type": "text"}}
    done = enforce_contract(raw, table_spec(fields, key=key), time="t")
    assert done.read == len(raw)
    assert sorted([*done.accepted["place"], *done.quarantined["place"]]) == sorted(raw["place"])
    assert done.quarantined["reason"].str.len().gt(0).all()
    assert list(done.quarantined) == [*raw, "reason"]
    assert enforce_contract(done.accepted, table_spec(fields, key=key), time="t").quarantined.empty


@settings(max_examples=20)
@given(st.lists(st.tuples(*[st.sampled_from(values) for values in CELLS.values()]), min_size=1, max_size=20))
def test_quarantined_rows_are_as_they_came(rows):
    raw = pd.DataFrame(rows, columns=list(CELLS), dtype="str")
    quarantined = enforce_contract(raw, table_spec(FIELDS)).quarantined
    pd.testing.assert_frame_equal(quarantined.drop(columns="reason"), raw.loc[quarantined.index])


def outcome(read, quarantined):
    frame = pd.DataFrame({"a": np.arange(read)})
    return {"t": Ingested(read, frame.iloc[quarantined:], frame.iloc[:quarantined].assign(reason="a: too small"))}


@pytest.mark.parametrize(("quarantined", "passes"), [(0, True), (10, True), (11, False)])
def test_the_limit_itself_is_allowed(quarantined, passes):
    if passes:
        check_quarantined(outcome(100, quarantined), 0.1)
    else:
        with pytest.raises(QuarantineError, match=r"11\.0% of the rows.*more than ingest\.max_quarantined = 10\.0%"):
            check_quarantined(outcome(100, quarantined), 0.1)


def test_too_many_bad_rows_are_told_with_the_column_the_reason_and_where_they_lie(tmp_path):
    rows = [b"x,ok"] * 5 + [b"7.5,ok"] + [b",ok"] * 3 + [b"1,ok"] * 11
    fields = {"a": {"type": "integer"}, "b": {"type": "text"}}
    tables = {"t": split(tmp_path, b"a,b\n" + b"\n".join(rows), fields)}
    with pytest.raises(QuarantineError) as caught:
        check_quarantined(tables, 0.01)
    assert str(caught.value) == (
        "Table 't': 45.0% of the rows break the contract, more than ingest.max_quarantined = 1.0%; "
        "most often a: not a valid integer (6 rows). "
        "Look at data/quarantine/t.parquet, then mend the table, its contract "
        "(a text that stands for a missing value belongs into missing_marks) or the limit."
    )


def test_a_reason_counts_in_every_row_that_has_it_and_a_long_one_is_cut():
    assert worst_reason(pd.Series(["a: bad; b: missing", "b: missing", "a: bad; b: missing"])) == "b: missing (3 rows)"
    assert worst_reason(pd.Series(["b: missing; a: bad"])) == "b: missing (1 row)"
    shown = worst_reason(pd.Series([f"kind: not one of {', '.join(f'c{i}' for i in range(500))}"]))
    assert len(shown) < 140
    assert shown.endswith("… (1 row)")


def test_a_lost_row_is_noticed():
    frame = pd.DataFrame({"a": [1, 2]})
    with pytest.raises(MLOpsError, match="rows read are not rows accepted"):
        check_quarantined({"t": Ingested(3, frame, frame.iloc[:0])}, 1.0)


LACKS = "lacks the column '{}' that the dataset file declares."


@pytest.mark.parametrize(
    ("new", "problem"),
    [
        ("wieght_kg", f"{LACKS.format('wieght_kg')} Did you mean 'weight_kg'?"),
        ("x", f"{LACKS.format('x')} Known: weight_kg."),
        ("", "has the column 'weight_kg' that the dataset file does not declare."),
    ],
)
def test_a_misspelt_column_gets_the_nearest_one_and_init_mends_it(tmp_path, new, problem):
    (tmp_path / "params.yaml").write_bytes((Path(__file__).parents[1] / "params.yaml").read_bytes())
    (tmp_path / "data").mkdir()
    table = pd.DataFrame({"weight_kg": np.arange(90) * 7 % 31, "ward": ["a", "b", "b"] * 30, "y": ["u", "v"] * 45})
    table.to_csv(tmp_path / "data/months.csv", index=False)
    wish = Wish(str(tmp_path / "data/months.csv"), "y")
    init_table(tmp_path, wish)
    file = tmp_path / "data/datasets/months.yaml"
    good = load_dataset("months", tmp_path)
    lines = file.read_text().splitlines(keepends=True)
    here = next(place for place, line in enumerate(lines) if line.startswith("  weight_kg:"))
    lines[here] = lines[here].replace("weight_kg", new) if new else ""
    file.write_text("".join(lines))
    with pytest.raises(SourceError) as caught:
        ingest_source(load_dataset("months", tmp_path), tmp_path)
    mend = "Mend it in data/datasets/months.yaml, or run mlops init again"
    assert str(caught.value) == f"months.csv: {problem} {mend}"
    init_table(tmp_path, wish)
    assert set(load_dataset("months", tmp_path).columns) == set(good.columns)
    assert len(ingest_source(load_dataset("months", tmp_path), tmp_path)["months"].accepted) == 90


def test_the_whole_source_is_read_counted_and_written(tmp_path):
    table = make_table(rows=20).assign(count=pd.array([99, *range(19)], dtype="Int64"))
    data = table.to_csv(index=False).encode()
    (tmp_path / "data/source").mkdir(parents=True)
    (tmp_path / "data/source/small.csv").write_bytes(data)
    source = {"kind": "csv", "path": "data/source/small.csv", "sha256": sha256(data)}
    tables = ingest_source(make_spec(source=source), tmp_path)
    assert count_rows(tables).loc["small"].to_dict() == {"read": 20, "accepted": 19, "quarantined": 1}
    write_tables(tables, tmp_path / "raw")
    write_quarantine(tables, tmp_path / "quarantine")
    kept = pd.read_parquet(tmp_path / "raw/small.parquet").astype({"at": "datetime64[s]"})  # Parquet knows no seconds
    pd.testing.assert_frame_equal(kept, table[1:].reset_index(drop=True))
    assert pd.read_parquet(tmp_path / "quarantine/small.parquet")["count"].tolist() == ["99"]

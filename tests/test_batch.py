import csv
import gzip
import io
import re
import shlex
import subprocess
import sys

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tables import TASKS, make_table

from mlops_core.serve import tables
from mlops_core.serve.batch import Scored, ScoreError, escape_formula, score_file
from mlops_core.serve.predictor import load_predictor
from mlops_core.serve.tables import count_rows


@pytest.fixture(scope="module")
def predictors(bundles):
    return {task: load_predictor(bundles[task]) for task in TASKS}


@pytest.fixture
def predictor(predictors):
    return predictors["binary"]


def good_table(rows=30, task="binary"):
    return make_table(task, rows).drop(columns=["outcome", "later"])


def run(predictor, source, target):
    ticks = []
    done = score_file(predictor, source, target, ticks.append)
    assert sum(ticks) == done.rows + done.rejected
    return done


def write(table, path):
    if path.suffix == ".csv":
        table.to_csv(path, index=False, quoting=csv.QUOTE_ALL)
    else:
        table.to_parquet(path, index=False)
    return path


def read_text(path):
    """Every cell as text, and the header first."""
    return list(csv.reader(io.StringIO(path.read_bytes().decode(), newline="")))


def spoiled():
    """Rows 0, 3 and 4 cannot be answered."""
    table = good_table().astype({"count": "object", "at": "str"})
    table.loc[0, "count"] = 99
    table.loc[3, "gate"] = "C"
    table.loc[4, "at"] = "now"
    return table


@pytest.mark.parametrize("task", TASKS)
def test_csv_and_parquet_get_the_same_answers(predictors, tmp_path, task):
    answers = []
    for source in ("in.csv", "in.parquet"):
        for target in ("out.csv", "out.parquet"):
            done = run(predictors[task], write(good_table(task=task), tmp_path / source), tmp_path / target)
            assert (done.rows, done.rejected) == (30, 0)
            path = tmp_path / target
            answers.append(pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path))
    for other in answers[1:]:
        pd.testing.assert_frame_equal(other, answers[0], check_dtype=False, atol=1e-6)
    assert answers[0]["ticket"].tolist() == good_table()["ticket"].tolist()


@pytest.mark.parametrize("target", ["out.csv", "out.parquet"])
def test_bad_rows_are_kept_apart_with_their_reason(predictor, tmp_path, target):
    done = run(predictor, write(spoiled(), tmp_path / "in.csv"), tmp_path / target)
    assert (done.rows, done.rejected) == (27, 3)
    path = tmp_path / target
    apart = path.with_suffix(f".rejected{path.suffix}")
    found, rejected = (pd.read_csv(p) if p.suffix == ".csv" else pd.read_parquet(p) for p in (path, apart))
    assert rejected["ticket"].tolist() == ["t00000", "t00003", "t00004"]
    assert rejected["reason"].tolist() == [
        "count must lie between 0 and 50",
        "gate must be one of A, B",
        "at must be a date and time such as 2013-12-24T18:30",
    ]
    assert sorted([*found["ticket"], *rejected["ticket"]]) == sorted(good_table()["ticket"])


def test_all_reasons_of_a_row_are_told(predictor, tmp_path):
    table = good_table(2).astype({"count": "object"})
    table.loc[1, ["count", "gate"]] = ["1.5", "C"]
    run(predictor, write(table, tmp_path / "in.csv"), tmp_path / "out.csv")
    reason = read_text(tmp_path / "out.rejected.csv")[1][-1]
    assert reason == "count must be a whole number; gate must be one of A, B"


@pytest.mark.parametrize("chunk", [1, 2, 7, 30])
@pytest.mark.parametrize("target", ["out.csv", "out.parquet"])
def test_the_size_of_a_chunk_does_not_show_in_the_answers(predictor, tmp_path, monkeypatch, chunk, target):
    table = spoiled().astype({"count": "str"})
    write(table, tmp_path / "in.parquet")
    results = []
    for rows in (chunk, 1000):
        monkeypatch.setattr(tables, "CHUNK_ROWS", rows)
        done = run(predictor, tmp_path / "in.parquet", tmp_path / target)
        path = tmp_path / target
        apart = path.with_suffix(f".rejected{path.suffix}")
        results.append([done, *(pd.read_csv(p) if p.suffix == ".csv" else pd.read_parquet(p) for p in (path, apart))])
    assert results[0][0] == results[1][0]
    for found, expected in zip(results[0][1:], results[1][1:], strict=True):
        pd.testing.assert_frame_equal(found, expected, atol=1e-6)


@pytest.mark.parametrize("block", [200, 333, 450, 610, 777, 990])
def test_the_size_of_a_block_does_not_show_in_the_answers(predictor, tmp_path, monkeypatch, block):
    table = spoiled().assign(ticket=["a" * (i * 7 % 40) + "\n" + "b" * (i * 11 % 90) for i in range(30)])
    write(table, tmp_path / "in.csv")
    expected = run(predictor, tmp_path / "in.csv", tmp_path / "whole.csv")
    monkeypatch.setattr(tables, "CSV_BLOCK", block)
    assert run(predictor, tmp_path / "in.csv", tmp_path / "parts.csv") == expected
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "parts.csv"), pd.read_csv(tmp_path / "whole.csv"), atol=1e-6)
    for kind in ("parts", "whole"):
        assert len(read_text(tmp_path / f"{kind}.rejected.csv")) == 4


@pytest.mark.parametrize(("separator", "words"), [(";", "';'"), ("\t", "tabs"), ("|", "'|'")])
def test_a_table_that_is_separated_otherwise_is_told_so_with_the_command_that_converts_it(
    predictor, tmp_path, separator, words
):
    path = write(good_table(), tmp_path / "in.csv")
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table["amount"] = table["amount"].str.replace(".", ",")
    table.to_csv(path, sep=separator, index=False)
    with pytest.raises(
        ScoreError, match=rf"in\.csv: is separated by {re.escape(words)}.* and has decimal commas"
    ) as raised:
        run(predictor, path, tmp_path / "out.csv")
    command = shlex.split(str(raised.value).partition("convert it: ")[2])
    subprocess.run([sys.executable, *command[1:]], check=True)
    assert run(predictor, tmp_path / "in_comma.csv", tmp_path / "out.csv").rows == 30


def test_rows_that_were_set_apart_can_be_mended_and_scored_again(predictor, tmp_path):
    table = good_table().assign(amount=[-5.5] * 15 + [7.25] * 15, gate=["C"] * 30)
    run(predictor, write(table, tmp_path / "in.csv"), tmp_path / "out.csv")
    apart = (tmp_path / "out.rejected.csv").read_text()
    assert "'-5.5" not in apart
    (tmp_path / "mended.csv").write_text(apart.replace(",C,", ",A,").replace('"C"', '"A"'))
    assert run(predictor, tmp_path / "mended.csv", tmp_path / "again.csv") == Scored(30, 0)


def test_a_file_of_bad_rows_alone_gives_an_empty_answer(predictor, tmp_path):
    done = run(predictor, write(good_table(3).assign(gate="C"), tmp_path / "in.csv"), tmp_path / "out.csv")
    assert (done.rows, done.rejected) == (0, 3)
    assert len(read_text(tmp_path / "out.csv")) == 1


@pytest.mark.parametrize(
    "text", ["=1+1", "+1+1", "-1+1", "-A1", "-1\n=1", "-٣", "--1", "@SUM(A1)", "\tx", "\rx", "\x00x"]
)
def test_what_a_spreadsheet_would_run_is_written_as_text(text):
    assert escape_formula(text) == "'" + text


@pytest.mark.parametrize("text", ["", "a=1", "1-2", " =1", "'=1", "é", "-5.5", "+1", "-1,5", "-.5", "-1e-3", "-", "--"])
def test_other_texts_are_written_as_they_are(text):
    assert escape_formula(text) == text


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r"])
@pytest.mark.parametrize("source", ["in.csv", "in.parquet"])
def test_no_cell_of_a_written_csv_is_a_formula(predictor, tmp_path, sign, source):
    table = good_table(4).assign(
        ticket=[f"{sign}cmd()", "plain", f"{sign}cmd()", "x"], gate=["A", "A", f"{sign}C", "B"]
    )
    table[f"{sign}extra"] = pd.Series([f"{sign}x"] * 4, dtype="category")
    run(predictor, write(table, tmp_path / source), tmp_path / "out.csv")
    for name in ("out.csv", "out.rejected.csv"):
        cells = [cell for line in read_text(tmp_path / name) for cell in line]
        texts = [cell for cell in cells if not re.fullmatch(r"-[0-9.]+", cell)]  # a number runs nothing
        assert not [cell for cell in texts if cell.startswith(sign)]
        assert f"'{sign}cmd()" in cells


def test_a_formula_that_comes_late_does_not_change_the_file(predictor, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "CHUNK_ROWS", 1)
    table = good_table(3).assign(ticket=["a", "=b", "c"])
    run(predictor, write(table, tmp_path / "in.parquet"), tmp_path / "out.csv")
    assert [line[0] for line in read_text(tmp_path / "out.csv")] == ["ticket", "a", "'=b", "c"]


def test_parquet_keeps_texts_as_they_are(predictor, tmp_path):
    run(predictor, write(good_table(1).assign(ticket="=1"), tmp_path / "in.csv"), tmp_path / "out.parquet")
    assert pd.read_parquet(tmp_path / "out.parquet")["ticket"].tolist() == ["=1"]


class Stop(BaseException):
    pass


@pytest.mark.parametrize("target", ["out.csv", "out.parquet"])
def test_an_interrupted_run_leaves_no_file(predictor, tmp_path, monkeypatch, target):
    monkeypatch.setattr(tables, "CHUNK_ROWS", 5)
    write(spoiled().astype({"count": "str"}), tmp_path / "in.parquet")
    seen = []

    def stop_at_the_third(rows):
        seen.append(rows)
        if len(seen) == 3:
            raise Stop

    with pytest.raises(Stop):
        score_file(predictor, tmp_path / "in.parquet", tmp_path / target, stop_at_the_third)
    assert [path.name for path in tmp_path.iterdir()] == ["in.parquet"]


def test_an_interrupted_run_leaves_the_files_of_the_run_before(predictor, tmp_path):
    run(predictor, write(spoiled(), tmp_path / "in.csv"), tmp_path / "out.csv")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def stop(rows):
        raise Stop

    with pytest.raises(Stop):
        score_file(predictor, tmp_path / "in.csv", tmp_path / "out.csv", stop)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_clean_run_takes_the_old_rejects_away(predictor, tmp_path):
    run(predictor, write(spoiled(), tmp_path / "in.csv"), tmp_path / "out.csv")
    run(predictor, write(good_table(), tmp_path / "in.csv"), tmp_path / "out.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "out.csv"]


def refuse(predictor, source, match, target="out.csv"):
    with pytest.raises(ScoreError, match=match):
        score_file(predictor, source, source.parent / target, [].append)
    assert not (source.parent / target).exists()


GOOD = good_table(2).to_csv(index=False)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "cannot be read"),
        (GOOD.splitlines()[0].encode() + b"\n", "holds no rows"),
        (GOOD.replace("gate", "count").encode(), "has the column 'count' twice"),
        (GOOD.replace("gate", "door").encode(), "lacks the column 'gate'"),
        (GOOD.replace(",", ";").encode(), "is separated by ';' instead of commas"),
        (GOOD.replace("ticket", "tickét").encode("latin-1"), "not UTF-8"),
        (GOOD.replace("t00001", "té").encode("latin-1"), "not UTF-8"),
        (good_table(3000).to_csv(index=False).encode() + b"\xff", "cannot be read"),
        (GOOD.encode("utf-16"), "not UTF-8"),
        ((GOOD + "only,two\n").encode(), "cannot be read.*[Cc]olumn"),
        ((GOOD + 't3,"2013').encode(), "cannot be read"),
        ((GOOD + 't3,2013-01-01,1,2,u,A,"True\n').encode(), "a quote is never closed"),
        (gzip.compress(GOOD.encode()), "is compressed, not CSV"),
        (GOOD.encode("utf-16-le"), "holds NUL bytes"),
        (b'"' + b"x" * 200_000 + b'"\n', "cannot be read"),
    ],
)
def test_a_broken_csv_is_refused(predictor, tmp_path, data, match):
    (tmp_path / "in.csv").write_bytes(data)
    refuse(predictor, tmp_path / "in.csv", match)


def test_a_byte_order_mark_is_no_part_of_the_first_column(predictor, tmp_path):
    (tmp_path / "in.csv").write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    run(predictor, tmp_path / "in.csv", tmp_path / "out.csv")
    assert read_text(tmp_path / "out.csv")[0][0] == "ticket"


def parquet(**changes):
    buffer = io.BytesIO()
    good_table(2).assign(**changes).to_parquet(buffer, index=False)
    return buffer.getvalue()


@pytest.mark.parametrize("data", [b"", b"PAR1", parquet()[:-1], GOOD.encode()])
def test_a_broken_parquet_file_is_refused(predictor, tmp_path, data):
    (tmp_path / "in.parquet").write_bytes(data)
    refuse(predictor, tmp_path / "in.parquet", "cannot be read")


def test_a_parquet_file_with_a_column_twice_is_refused(predictor, tmp_path):
    table = pa.Table.from_pandas(good_table(2), preserve_index=False)
    pq.write_table(table.append_column("gate", table.column("gate")), tmp_path / "in.parquet")
    refuse(predictor, tmp_path / "in.parquet", "has the column 'gate' twice")


@pytest.mark.parametrize(
    ("source", "target", "match"),
    [
        ("in.txt", "out.csv", "in.txt: is neither"),
        ("in.csv", "out.xlsx", "out.xlsx: is neither"),
        ("in.csv", "nowhere/out.csv", "there is no folder"),
        ("missing.csv", "out.csv", "there is no such file"),
    ],
)
def test_a_file_that_cannot_be_read_or_written_is_named(predictor, tmp_path, source, target, match):
    if source != "missing.csv":
        (tmp_path / source).write_text(GOOD)
    refuse(predictor, tmp_path / source, match, target)


def test_a_missing_optional_column_counts_as_gaps(predictor, tmp_path):
    table = good_table(3)
    run(predictor, write(table.drop(columns="amount"), tmp_path / "in.csv"), tmp_path / "absent.parquet")
    run(predictor, write(table.assign(amount=None), tmp_path / "in.csv"), tmp_path / "empty.parquet")
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "absent.parquet"), pd.read_parquet(tmp_path / "empty.parquet")
    )


def test_what_training_never_saw_is_named_beside_the_answer(predictor, tmp_path):
    table = good_table(4)
    table.loc[1, "kind"] = "never seen"
    table.loc[2, ["kind", "amount"]] = ["nor this", 99.5]
    run(predictor, write(table, tmp_path / "in.csv"), tmp_path / "out.csv")
    found = pd.read_csv(tmp_path / "out.csv", keep_default_na=False)["unusual"].tolist()
    assert [set(filter(None, text.split(" | "))) for text in found] == [set(), {"kind"}, {"kind", "amount"}, set()]


def test_a_table_without_an_id_is_scored(predictor, tmp_path):
    run(predictor, write(good_table(3).drop(columns="ticket"), tmp_path / "in.csv"), tmp_path / "out.csv")
    assert read_text(tmp_path / "out.csv")[0][0] == "label"


@pytest.mark.parametrize(
    ("column", "text", "reason"),
    [
        ("amount", "nan", "amount must be a number"),
        ("amount", "inf", "amount must be a finite number"),
        ("amount", "1,5", "amount must be a number"),
        ("amount", "zwei", "amount must be a number"),
        ("amount", " 1", "amount must be a number"),
        ("open", "maybe", "open must be true or false"),
        ("at", "2013-05-01T10:00Z", "at must be a date"),
        ("gate", "", "gate is required"),
        ("count", "", "count is required"),
    ],
)
def test_a_text_is_never_guessed_at(predictor, tmp_path, column, text, reason):
    table = good_table(3).astype({column: "object"})
    table.loc[1, column] = text
    done = run(predictor, write(table, tmp_path / "in.csv"), tmp_path / "out.csv")
    assert done.rejected == 1
    assert read_text(tmp_path / "out.rejected.csv")[1][-1].startswith(reason)


@pytest.mark.parametrize(("text", "value"), [("true", True), ("No", False), ("1", True)])
@pytest.mark.parametrize("source", ["in.csv", "in.parquet"])
def test_the_usual_words_are_true_and_false_in_any_file(predictor, tmp_path, text, value, source):
    words = good_table(3).assign(open=pd.Series([text] * 3, dtype="str"))
    run(predictor, write(words, tmp_path / source), tmp_path / "words.parquet")
    run(predictor, write(good_table(3).assign(open=value), tmp_path / "in.parquet"), tmp_path / "flags.parquet")
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "words.parquet"), pd.read_parquet(tmp_path / "flags.parquet")
    )


@pytest.mark.parametrize("change", [{"gate": 1}, {"amount": True}, {"count": pd.Timestamp("2013-01-01")}, {"at": 5}])
def test_a_parquet_column_of_another_type_is_rejected_not_reinterpreted(predictor, tmp_path, change):
    (tmp_path / "in.parquet").write_bytes(parquet(**change))
    assert run(predictor, tmp_path / "in.parquet", tmp_path / "out.csv").rejected == 2


def test_a_text_with_a_nul_is_rejected(predictor, tmp_path):
    table = good_table(3).assign(kind=["u", "u\x00", None])
    for source in ("in.csv", "in.parquet"):
        assert run(predictor, write(table, tmp_path / source), tmp_path / "out.csv").rejected == 1
        assert read_text(tmp_path / "out.rejected.csv")[1][-1] == "kind must not hold a NUL"


SAME = {
    "at": (pa.date32(), pa.timestamp("s")),
    "amount": (pa.decimal128(12, 3), pa.float64()),
    "count": (pa.uint8(), pa.float32()),
    "kind": (pa.dictionary(pa.int8(), pa.string()), pa.string_view()),
    "gate": (pa.large_string(), pa.string()),
}


@pytest.mark.parametrize("column", SAME)
def test_types_that_say_the_same_get_the_same_answers(predictor, tmp_path, column):
    table = pa.Table.from_pandas(good_table(5).assign(at=pd.Timestamp("2013-05-06")), preserve_index=False)
    place, answers = table.schema.get_field_index(column), []
    for kind in SAME[column]:
        changed = table.set_column(place, column, table.column(column).cast(kind))
        pq.write_table(changed, tmp_path / "in.parquet")
        assert run(predictor, tmp_path / "in.parquet", tmp_path / "out.parquet").rejected == 0
        answers.append(pd.read_parquet(tmp_path / "out.parquet"))
    pd.testing.assert_frame_equal(*answers, atol=1e-6)


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ("at", pa.timestamp("ns", "Europe/Berlin")),
        ("at", pa.timestamp("s", "No/Where")),
        ("at", pa.time32("s")),
        ("amount", pa.duration("s")),
        ("amount", pa.list_(pa.int64())),
        ("kind", pa.binary()),
        ("kind", pa.timestamp("ns")),
        ("open", pa.date32()),
    ],
)
def test_a_type_that_no_value_has_is_rejected_and_gaps_are_gaps(predictor, tmp_path, column, kind):
    table = pa.Table.from_pandas(good_table(2), preserve_index=False)
    values = pa.array([{"binary": b"u", "list": [1]}.get(str(kind).partition("<")[0], 5), None], kind)
    changed = table.set_column(table.schema.get_field_index(column), column, values)
    pq.write_table(changed, tmp_path / "in.parquet")
    done = run(predictor, tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert done.rejected == (2 if column == "at" else 1)
    reasons = pq.read_table(tmp_path / "out.rejected.parquet").column("reason").to_pylist()
    assert reasons[0].startswith(f"{column} must be")


def test_rows_are_counted_where_a_file_tells_them(tmp_path):
    assert count_rows(write(good_table(3), tmp_path / "in.parquet")) == 3
    assert count_rows(tmp_path / "in.csv") is None

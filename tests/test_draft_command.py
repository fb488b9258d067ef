"""`mlops init` in a project: what it writes, says, keeps and refuses; files, addresses and a person's edits."""

import contextlib
import functools
import hashlib
import http.server
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from mlops_core.datasets import load_dataset
from mlops_core.draft.command import Wish, init_table
from mlops_core.errors import RequestError
from mlops_core.ingest import ingest_source

CHECKOUT = Path(__file__).parents[1]


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "project"
    (root / "data").mkdir(parents=True)
    (root / "dvc.yaml").touch()
    (root / "params.yaml").write_bytes((CHECKOUT / "params.yaml").read_bytes())
    return root


def make_frame(rows: int = 200, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    income = random.normal(100, 30, rows).round(1)
    return pd.DataFrame(
        {
            "customer_id": [f"c{i:04d}" for i in range(rows)],
            "opened": pd.date_range("2020-01-01", periods=rows, freq="D").strftime("%d.%m.%Y"),
            "income": np.where(random.random(rows) < 0.1, "?", income.astype(str)),
            "plan": random.choice(["basic", "plus", "pro"], rows),
            "active": random.choice(["yes", "no"], rows),
            "zip": random.choice(["01234", "99999", "10115"], rows),
            "churned": np.where(income + random.normal(0, 30, rows) < 90, "yes", "no"),
        }
    )


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "Customers 2020.csv"
    make_frame().to_csv(path, index=False)
    return path


def written(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()} - {
        "dvc.yaml",
        "params.yaml",
    }


def test_a_table_from_elsewhere_becomes_a_dataset_that_is_ingested_without_a_loss(root, table):
    said = init_table(root, Wish(str(table), "churned"))
    name = "customers_2020"
    assert written(root) == {f"data/datasets/{name}.yaml", f"data/source/{name}/{name}.csv"}
    spec = load_dataset(name, root)
    assert (spec.task, spec.classes, spec.time, spec.id) == ("binary", ["no", "yes"], "opened", "customer_id")
    types = {column: (item.type, item.missing) for column, item in spec.columns.items()}
    assert types["income"] == ("number", True)
    assert (types["active"], types["zip"]) == (("boolean", False), ("category", False))
    assert spec.columns["opened"].formats == ["%d.%m.%Y"]
    (ingested,) = ingest_source(spec, root).values()
    assert (ingested.read, len(ingested.quarantined)) == (200, 0)
    assert "rows are split by time (opened)" in said
    assert said.endswith(f"Next: mlops run --dataset {name}")


def test_every_line_of_the_file_says_what_it_is_for(root, table):
    init_table(root, Wish(str(table), "churned"))
    lines = (root / "data/datasets/customers_2020.yaml").read_text().splitlines()
    bare = [line for line in lines if line.strip() and "#" not in line and not line.endswith(":")]
    assert [line.strip().partition(":")[0] for line in bare] == ["kind", "sha256"]


def test_a_table_in_data_stays_where_it_is(root):
    path = root / "data" / "mine" / "t.parquet"
    path.parent.mkdir()
    make_frame().to_parquet(path)
    init_table(root, Wish(str(path), "churned", name="mine"))
    assert written(root) == {"data/mine/t.parquet", "data/datasets/mine.yaml"}
    assert load_dataset("mine", root).source.path == "data/mine/t.parquet"


def test_run_again_it_keeps_the_edits_and_says_the_difference(root, table):
    init_table(root, Wish(str(table), "churned", name="c"))
    file = root / "data/datasets/c.yaml"
    before = file.read_text()
    assert "nothing" in init_table(root, Wish(str(table), "churned", name="c"))
    assert file.read_text() == before

    edited = before.replace("zip: {type: category", "zip: {role: ignore, type: text").replace(
        "title: C ", "title: Ours "
    )
    file.write_text(edited)
    frame = make_frame(seed=1).drop(columns="plan").assign(region=["north", "south"] * 100)
    frame.to_csv(table, index=False)
    said = init_table(root, Wish(str(table), "churned", name="c"))
    spec = load_dataset("c", root)
    assert (spec.title, spec.columns["zip"].role) == ("Ours", "ignore")
    assert set(spec.columns) == set(frame.columns)
    assert "zip: role is ignore and would be not said, type is text and would be category; kept as it is" in said
    assert "plan: no longer in the table; removed" in said
    assert "region: new in the table" in said
    assert "source.sha256" in said
    assert len(ingest_source(spec, root)["c"].accepted) == 200
    assert "# what people read" in file.read_text()


def test_run_again_it_says_what_differs_from_lists_and_quoted_texts_that_a_person_wrote(root, table):
    init_table(root, Wish(str(table), "churned", name="c"))
    file = root / "data/datasets/c.yaml"
    text = file.read_text().replace("missing_marks: ['', '?']", """missing_marks: ["", '?', n/a]""")
    text = text.replace("formats: ['%d.%m.%Y']", 'formats: ["%d.%m.%Y", "%Y-%m-%d"]')
    file.write_text(text.replace("plan: {", "plan: {categories: [pro, plus, basic], "))
    said = init_table(root, Wish(str(table), "churned", name="c"))
    assert "source.missing_marks is ['', '?', n/a] and would be ['', '?']; kept as it is" in said
    assert "opened: formats is ['%d.%m.%Y', '%Y-%m-%d'] and would be ['%d.%m.%Y']; kept as it is" in said
    assert "plan: categories is [pro, plus, basic]" in said


def test_run_again_it_speaks_of_the_file_as_a_person_left_it(root, table):
    scores = np.random.default_rng(3).normal(5, 1, 200).round(1).astype(str)
    scores[::20] = "later"
    make_frame().assign(note="seen", score=scores).to_csv(table, index=False)
    said = init_table(root, Wish(str(table), "churned", name="c"))
    assert "score: 190 of 200 read as numbers, these do not: later" in said
    assert "note: ignore" in said
    assert "6 of 9 columns are features" in said
    file = root / "data/datasets/c.yaml"
    kept = file.read_text().replace("missing_marks: ['', '?']", "missing_marks: ['', '?', later]")
    kept = kept.replace("score: {type: category", "score: {type: number, missing: true")
    file.write_text(kept.replace("note: {role: ignore, ", "note: {"))
    said = init_table(root, Wish(str(table), "churned", name="c"))
    assert "  score: " not in said
    assert "note: ignore" not in said
    assert "note: role is not said and would be ignore; kept as it is" in said
    assert "7 of 9 columns are features" in said


def test_it_does_not_promise_to_keep_groups_together_where_time_splits(root, table):
    together = "rows of one group are never on both sides of a split"
    said = init_table(root, Wish(str(table), "churned", name="c", group="zip"))
    assert together in said
    said = init_table(root, Wish(str(table), "churned", name="d", group="zip", time="opened"))
    assert together not in said + (root / "data/datasets/d.yaml").read_text()
    assert "zip: the rows are split by time, so one group may be on both sides" in said


def test_a_name_that_another_table_has_is_not_taken(root, table):
    init_table(root, Wish(str(table), "churned", name="c"))
    before = (root / "data/datasets/c.yaml").read_text()
    for other in (Wish(str(table), "active", name="c"), Wish(str(table), "late", name="flights")):
        file = root / f"data/datasets/{other.name}.yaml"
        if not file.exists():
            file.write_bytes((CHECKOUT / "data/datasets/flights.yaml").read_bytes())
        with pytest.raises(RequestError, match=rf"{other.name}\.yaml is there, .* another name with --name"):
            init_table(root, Wish(str(table), "active", name=other.name))
    assert (root / "data/datasets/c.yaml").read_text() == before


def test_a_task_that_there_is_none_of_is_named(root, table):
    with pytest.raises(RequestError, match=r"no task 'regresion'\. Did you mean 'regression'"):
        init_table(root, Wish(str(table), "income", task="regresion"))


def test_a_new_column_is_added_whatever_it_is_called(root, table):
    init_table(root, Wish(str(table), "churned", name="c"))
    make_frame().assign(kept=["a", "b"] * 100).to_csv(table, index=False)
    init_table(root, Wish(str(table), "churned", name="c"))
    assert "kept" in load_dataset("c", root).columns


def test_a_leak_comes_first_and_is_left_out(root, table):
    frame = make_frame().assign(closed=lambda item: np.where(item["churned"] == "yes", "2021", "none"))
    frame.to_csv(table, index=False)
    said = init_table(root, Wish(str(table), "churned", name="c")).splitlines()
    assert said[2] == "Check:"
    assert said[3].startswith("  closed: alone it ranks the target with an AUC of 1.000")
    assert load_dataset("c", root).columns["closed"].role == "ignore"


def test_bad_cells_are_shown_and_what_is_said_of_them_mends_the_file(root, table):
    frame = make_frame()
    days = frame["opened"].where(frame.index >= 7, "2024/13/45")
    frame.assign(opened=days).to_csv(table, index=False)
    said = init_table(root, Wish(str(table), "churned", name="c")).splitlines()
    problem = "193 of 200 read as dates (%d.%m.%Y), these do not: 2024/13/45"
    assert said[2] == "Check:"
    assert f"  opened: {problem}; mend them, or list them in missing_marks and change type and missing" in said
    file = root / "data/datasets/c.yaml"
    assert problem in file.read_text()
    tree = yaml.safe_load(file.read_text())
    tree["source"]["missing_marks"].append("2024/13/45")
    tree["columns"]["opened"] = {"role": "ignore", "type": "datetime", "formats": ["%d.%m.%Y"], "missing": True}
    file.write_text(yaml.safe_dump(tree))
    ingested = ingest_source(load_dataset("c", root), root)["c"]
    assert (ingested.accepted["opened"].isna().sum(), len(ingested.quarantined)) == (7, 0)


def test_a_time_column_with_bad_cells_is_refused_with_them(root, table):
    frame = make_frame()
    frame.assign(opened=frame["opened"].where(frame.index >= 7, "soon")).to_csv(table, index=False)
    with pytest.raises(
        RequestError, match=r"holds no dates that can be read\. 193 of 200 read as .*do not: soon; mend"
    ):
        init_table(root, Wish(str(table), "churned", name="c", time="opened"))


def test_what_somebody_names_is_what_it_is(root, table):
    frame = make_frame().assign(shop=[f"s{i % 7}" for i in range(200)], code=list(range(200)))
    frame.to_csv(table, index=False)
    init_table(root, Wish(str(table), "income", name="c", id="code", group="shop", task="regression"))
    spec = load_dataset("c", root)
    assert (spec.task, spec.id, spec.group, spec.time) == ("regression", "code", "shop", None)
    assert spec.columns["customer_id"].role == "ignore"


CSV = b"a,y\n" + b"".join(b"%d,%s\n" % (i * 7 % 31, b"yes" if i % 3 else b"no") for i in range(100))


def nested(path: Path) -> None:
    pq.write_table(pa.table({"a": [[1, 2]] * 60, "y": ["u", "v"] * 30}), path)


def bomb(path: Path) -> None:
    nothing = pa.nulls(2_000_000, pa.int8())
    pq.write_table(pa.table({f"c{i}": nothing for i in range(300)}), path)


@pytest.mark.parametrize(
    ("name", "data", "wish", "words"),
    [
        ("t.csv", CSV, {"target": "z"}, "no column 'z'"),
        ("t.csv", CSV, {"target": "y", "time": "when"}, "no column 'when'"),
        ("t.csv", CSV, {"target": "y", "time": "a"}, "holds no dates"),
        ("t.csv", CSV, {"target": "y", "id": "y"}, "two things at once"),
        ("t.csv", CSV.replace(b"yes", b"no"), {"target": "y"}, "is 'no' in every row"),
        ("t.csv", CSV.replace(b"yes", b"").replace(b"no", b""), {"target": "y"}, "missing in every row"),
        ("t.csv", CSV[:60], {"target": "y"}, "at least 50 are needed"),
        ("t.csv", CSV.replace(b"a,y", b"y,y"), {"target": "y"}, "has the column 'y' twice"),
        ("t.csv", CSV.replace(b"no", b"\xff"), {"target": "y"}, "is not UTF-8"),
        ("t.csv", CSV.replace(b"28,", b"28,5,", 1), {"target": "y"}, "line 6 has 3 values for 2 columns"),
        ("t.csv", b"a,y\n", {"target": "y"}, "holds no rows"),
        ("t.csv", b"", {"target": "y"}, "holds no columns"),
        ("t.csv", b"\x1f\x8b" + CSV, {"target": "y"}, "is compressed"),
        ("t.xlsx", b"PK", {"target": "y"}, "neither .csv nor .parquet"),
        ("t.parquet", b"PAR1 nothing", {"target": "y"}, "not a readable Parquet file"),
        ("t.csv", CSV, {"target": "y", "name": "Mine!"}, "no name for a dataset"),
        ("t.csv", CSV, {"target": "y", "name": "../mine"}, "no name for a dataset"),
        ("t.csv", CSV, {"target": "y", "task": "regression"}, "no regression target"),
        ("t.csv", CSV.replace(b"a,y", b",y"), {"target": "y"}, "without a name"),
    ],
)
def test_a_bad_request_is_one_sentence_and_writes_nothing(root, tmp_path, name, data, wish, words):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(RequestError, match=words) as raised:
        init_table(root, Wish(str(tmp_path / name), **wish))
    assert raised.value.exit_code == 2
    assert "\n" not in str(raised.value)
    assert written(root) == set()


EUROPEAN = "nr;größe;ort;y\n" + "".join(
    f"{i % 9:03d};{i % 40},5;A, B;{'ja' if i % 3 else 'nein'}\n" for i in range(100)
)


@pytest.mark.parametrize(
    ("separator", "words"), [(";", "by ';' instead of commas"), ("\t", "by tabs"), ("|", "by '|'")]
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_table_that_is_not_separated_by_commas_is_known_by_its_first_lines(root, tmp_path, separator, words, mark):
    path = tmp_path / "german8.csv"
    path.write_text(mark + EUROPEAN.replace(";", separator), encoding="utf-8")
    with pytest.raises(RequestError, match=f"german8.csv: is separated {re.escape(words)}.*decimal commas") as raised:
        init_table(root, Wish(str(path), "y"))
    assert "\n" not in str(raised.value)
    assert written(root) == set()


@pytest.mark.parametrize("name", ["german8.csv", "it's 5 €.csv"])
def test_the_command_that_is_named_mends_the_separator_and_the_decimal_commas(root, tmp_path, name):
    path = tmp_path / name
    path.write_text(EUROPEAN, encoding="utf-8")
    with pytest.raises(RequestError) as raised:
        init_table(root, Wish(str(path), "y"))
    run_shell(str(raised.value).partition("convert it: ")[2])
    mended = path.with_stem(f"{path.stem}_comma")
    init_table(root, Wish(str(mended), "y", name="m"))
    spec = load_dataset("m", root)
    assert {column: item.type for column, item in spec.columns.items()} == {
        "nr": "category",
        "größe": "number",
        "ort": "category",
        "y": "category",
    }
    assert mended.read_text(encoding="utf-8").splitlines()[1] == '000,0.5,"A, B",nein'


def test_without_decimal_commas_the_command_leaves_commas_alone(root, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(EUROPEAN.replace(",5", ".5"), encoding="utf-8")
    with pytest.raises(RequestError) as raised:
        init_table(root, Wish(str(path), "y"))
    assert "instead of commas; convert it: " in str(raised.value)
    assert "has decimal commas" not in str(raised.value)
    assert ".replace(" not in str(raised.value)


@pytest.mark.parametrize("encoding", ["latin1", "utf16"])
def test_the_command_that_is_named_mends_the_encoding(root, tmp_path, encoding):
    path = tmp_path / "my visits.csv"
    path.write_bytes(CSV.replace(b"a,y", "größe,y".encode()).decode().encode(encoding))
    with pytest.raises(RequestError, match=r"line 1 is not UTF-8; convert it") as raised:
        init_table(root, Wish(str(path), "y"))
    run_shell(str(raised.value).partition("for example: ")[2])
    init_table(root, Wish(str(path.with_stem("my visits_utf8")), "y", name="m"))
    assert "größe" in load_dataset("m", root).columns


def run_shell(command: str) -> None:
    folder = str(Path(sys.executable).parent)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["sh", "-c", command], check=True, env={**os.environ, "PATH": path})


def test_without_a_target_the_columns_to_choose_from_are_named(root, table):
    with pytest.raises(RequestError) as raised:
        init_table(root, Wish(str(table), ""))
    columns = "customer_id, opened, income, plan, active, zip, churned"
    assert str(raised.value) == f"Name the target: --target COLUMN. The columns are {columns}."
    assert raised.value.exit_code == 2


def test_without_a_target_a_wide_table_does_not_fill_the_screen(root, tmp_path):
    pd.DataFrame({f"c{i}": range(60) for i in range(300)}).to_csv(tmp_path / "wide.csv", index=False)
    with pytest.raises(RequestError, match=r"c10, c11 and 288 more\.$"):
        init_table(root, Wish(str(tmp_path / "wide.csv"), ""))


@pytest.mark.parametrize(("make", "words"), [(nested, "column 'a' is nested"), (bomb, "more than fits")])
def test_a_parquet_file_that_does_not_fit_is_refused_before_it_is_read(root, tmp_path, make, words):
    make(tmp_path / "t.parquet")
    with pytest.raises(RequestError, match=words):
        init_table(root, Wish(str(tmp_path / "t.parquet"), "y"))
    assert written(root) == set()


def test_a_source_outside_the_project_is_refused(root, table):
    init_table(root, Wish(str(table), "churned", name="c"))
    file = root / "data/datasets/c.yaml"
    tree = yaml.safe_load(file.read_text())
    for path in ("/etc/passwd", "../../table.csv"):
        file.write_text(yaml.safe_dump({**tree, "source": {**tree["source"], "path": path}}))
        with pytest.raises(RequestError, match="must be a path inside the project"):
            load_dataset("c", root)


@contextlib.contextmanager
def web(folder: Path) -> Iterator[str]:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    handler.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_an_address_is_read_once_and_only_with_its_hash(root, tmp_path):
    (tmp_path / "t.csv").write_bytes(CSV)
    known = hashlib.sha256(CSV).hexdigest()
    with web(tmp_path) as address:
        for sha256, words in (("", "needs --sha256"), ("0" * 64, "is not the declared file")):
            with pytest.raises(RequestError, match=words):
                init_table(root, Wish(f"{address}/t.csv", "y", sha256=sha256))
        with pytest.raises(RequestError, match="answers 404"):
            init_table(root, Wish(f"{address}/other.csv", "y", sha256=known))
        assert written(root) == set()
        init_table(root, Wish(f"{address}/t.csv", "y", sha256=known))
    with pytest.raises(RequestError, match="cannot be read"):
        init_table(root, Wish(f"{address}/t.csv", "y", name="u", sha256=known))
    spec = load_dataset("t", root)
    assert (spec.origin, spec.source.path) == (f"{address}/t.csv", "data/source/t/t.csv")
    assert len(ingest_source(spec, root)["t"].accepted) == 100


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://127.0.0.1/t.csv", "s3://bucket/t.csv"])
def test_no_other_kind_of_address_is_opened(root, address):
    with pytest.raises(RequestError, match="must start with http"):
        init_table(root, Wish(address, "y", sha256="0" * 64))


@pytest.mark.parametrize("broken", ["missing_marks:", "missing_marks: 5"])
def test_run_again_on_marks_that_are_no_list_is_refused_in_a_sentence(root, table, broken):
    init_table(root, Wish(str(table), "churned", name="c"))
    file = root / "data/datasets/c.yaml"
    text = file.read_text().replace("missing_marks: ['', '?']", broken)
    file.write_text(text)
    with pytest.raises(RequestError, match="missing_marks"):
        init_table(root, Wish(str(table), "churned", name="c"))
    assert file.read_text() == text

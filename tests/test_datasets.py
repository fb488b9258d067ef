import math

import pytest
import yaml
from tables import NO_HASH, dataset_tree, make_spec, tree_with_names

from mlops_core.datasets import DatasetError, LeakError, build_dataset, load_dataset, minutes_from_event


@pytest.mark.parametrize(
    ("moment", "minutes"),
    [
        ("-2h", -120),
        ("2h", 120),
        ("+2h", 120),
        ("30m", 30),
        ("-7d", -10080),
        ("0h", 0),
        ("always", -math.inf),
        ("after", math.inf),
    ],
)
def test_a_moment_counts_minutes_from_the_event(moment, minutes):
    assert minutes_from_event(moment) == minutes


@pytest.mark.parametrize("moment", ["", "2", "h", "2w", "-2 h", "1.5h", "--2h", "before", "-2h "])
def test_what_is_no_moment_is_refused(moment):
    with pytest.raises(ValueError, match="is no moment"):
        minutes_from_event(moment)


def refuse(match, **changes):
    with pytest.raises(DatasetError, match=match):
        build_dataset("small", dataset_tree(**changes))


def with_column(name, **column):
    return {"columns": {**dataset_tree()["columns"], name: column}}


def with_table(**changes):
    return {"kind": "folder", "path": "data", "tables": {"t": {"file": "t.csv", "sha256": NO_HASH, **changes}}}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"target": "nothing"}, "target 'nothing'"),
        ({"target": "amount"}, "target 'amount'"),
        (with_column("second", type="category", role="target"), "must be the one column"),
        (with_column("second", type="datetime", role="time"), "role 'time'"),
        (with_column("second", type="text", role="id"), "role 'id'"),
        (with_column("extra", type="float"), r"columns\.extra\.type"),
        (with_column("extra", type="number", rnage=[0, 1]), r"columns\.extra\.rnage"),
        (with_column("extra", type="number", known_at="soon"), "is no moment"),
        (with_column("extra", type="number", range=[5, 1]), "from low to high"),
        (with_column("extra", type="category", range=[0, 1]), "belongs to a number"),
        (with_column("extra", type="text"), "a text is no feature"),
        (with_column("extra", type="datetime"), "a datetime is no feature"),
        (with_column("extra", type="number", derive=["month"]), "derive is for a datetime"),
        (with_column("extra", type="number", names="small"), "names is for a category"),
        (with_column("extra", type="category", names="small"), "exactly one key column"),
        ({"predict_at": "noon"}, "is no moment"),
        ({"source": {"kind": "folder", "path": "data"}}, "needs 'tables'"),
        ({"source": {"kind": "csv", "path": "t.csv"}}, "needs the 'sha256'"),
        ({"source": {"kind": "excel", "path": "t.xlsx"}}, r"source\.kind"),
        ({"typo": 1}, "typo"),
    ],
)
def test_a_mistake_in_a_dataset_file_is_named(change, match):
    refuse(match, **change)


@pytest.mark.parametrize(
    ("change", "where", "near"),
    [
        ({"titel": "x"}, "titel", "title"),
        (with_column("extra", type="number", rolle="ignore"), "columns.extra.rolle", "role"),
        ({"source": {"kind": "csv", "paht": "t.csv"}}, "source.paht", "path"),
        ({"source": with_table(fiel="t.csv")}, "source.tables.t.fiel", "file"),
        ({"source": with_table(columns={"a": {"tpye": "text"}})}, "source.tables.t.columns.a.tpye", "type"),
    ],
)
def test_an_unknown_key_gets_the_nearest_one_though_another_seems_to_be_missing(change, where, near):
    tree = dataset_tree(**change)
    tree.pop("title")
    with pytest.raises(DatasetError) as caught:
        build_dataset("small", tree)
    said = f"data/datasets/small.yaml has the unknown key '{where}'. Did you mean '{near}'?"
    assert str(caught.value) == f"Dataset 'small': {said}"


def test_a_missing_key_is_named_with_its_file():
    tree = dataset_tree()
    del tree["question"]
    with pytest.raises(DatasetError, match=r"^Dataset 'small': data/datasets/small\.yaml lacks the key 'question'$"):
        build_dataset("small", tree)


def test_a_key_must_name_columns():
    table = {"file": "t.csv", "sha256": NO_HASH, "key": ["nmae"], "columns": {"name": {"type": "text"}}}
    refuse("the key names 'nmae'", source={"kind": "folder", "path": "data", "tables": {"t": table}})


CODE = {"code": {"type": "text"}}


@pytest.mark.parametrize(
    ("kinds", "names", "problem"),
    [
        ({}, "kind", "the source has no table 'kind'. Did you mean 'kinds'?"),
        (
            {"key": []},
            "kinds",
            "the table 'kinds' must have exactly one key column, which holds the category; it has 0",
        ),
        (
            {"key": ["code", "name"]},
            "kinds",
            "the table 'kinds' must have exactly one key column, which holds the category; it has 2",
        ),
        ({"columns": CODE}, "kinds", "the table 'kinds' has no column 'name', which holds the readable name"),
    ],
)
def test_names_that_cannot_be_found_are_told_in_one_line(kinds, names, problem):
    tree = tree_with_names(**kinds)
    tree["columns"]["kind"]["names"] = names
    with pytest.raises(DatasetError) as caught:
        build_dataset("small", tree)
    assert str(caught.value) == f"Dataset 'small': the file: columns.kind.names: {problem}"


def test_names_may_come_from_a_table_with_one_key_and_a_name():
    assert build_dataset("small", tree_with_names()).columns["kind"].names == "kinds"


@pytest.mark.parametrize("sha256", ["", "abc", "G" * 64, "A" * 64])
def test_a_hash_that_is_none_is_refused(sha256):
    table = {"file": "t.csv", "sha256": sha256, "columns": {"name": {"type": "text"}}}
    refuse("sha256", source={"kind": "folder", "path": "data", "tables": {"t": table}})


def test_a_table_without_features_is_refused():
    refuse("no column has the role 'feature'", columns={"outcome": {"type": "number", "role": "target"}})


@pytest.mark.parametrize(("known_at", "predict_at"), [("after", "0h"), ("1m", "0h"), ("-1h", "-2h"), ("0h", "-1m")])
def test_a_feature_known_after_the_prediction_is_a_leak(known_at, predict_at):
    changes = with_column("delay", type="number", known_at=known_at)
    with pytest.raises(LeakError) as caught:
        build_dataset("small", dataset_tree(predict_at=predict_at, **changes))
    assert (caught.value.column, caught.value.known_at, caught.value.predict_at) == ("delay", known_at, predict_at)


@pytest.mark.parametrize(
    ("known_at", "predict_at"), [("0h", "0h"), ("-120m", "-2h"), ("-1d", "-2h"), ("always", "-9d")]
)
def test_a_feature_known_at_the_moment_of_prediction_is_none(known_at, predict_at):
    changes = with_column("delay", type="number", known_at=known_at)
    assert "delay" in build_dataset("small", dataset_tree(predict_at=predict_at, **changes)).features


def test_a_late_column_with_the_role_ignore_is_allowed():
    assert "later" not in make_spec().features


def test_parts_of_a_time_column_known_too_late_leak_as_well():
    changes = with_column("at", type="datetime", role="time", derive=["month"], known_at="after")
    with pytest.raises(LeakError, match="'at'"):
        build_dataset("small", dataset_tree(**changes))


def test_features_are_the_columns_that_a_model_sees_in_their_order():
    assert make_spec().features == ["at", "amount", "count", "kind", "gate", "open"]
    assert (make_spec().time, make_spec().id) == ("at", "ticket")


def test_the_event_is_the_last_class_as_declared():
    assert make_spec("binary").classes == ["no", "yes"]
    assert make_spec("regression").classes == []


def test_a_single_file_is_a_source_of_one_table_with_the_columns_contract():
    spec = make_spec()
    (table,) = spec.tables().values()
    assert (spec.folder(), table.file, list(table.columns)) == ("data/source", "small.csv", list(spec.columns))
    assert table.columns["amount"].range == (-100, 100)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "data/datasets").mkdir(parents=True)
    (tmp_path / "data/datasets/small.yaml").write_text(yaml.safe_dump(dataset_tree()), encoding="utf-8")
    return tmp_path


def test_a_dataset_file_loads(root):
    assert load_dataset("small", root) == make_spec()


def test_a_misspelt_dataset_gets_the_nearest_name(root):
    with pytest.raises(DatasetError, match="Did you mean 'small'"):
        load_dataset("smal", root)


@pytest.mark.parametrize("content", [b"name: [", b"\xff\xfe\x00", b"a: b: c"])
def test_a_file_that_is_no_yaml_is_told_so(root, content):
    (root / "data/datasets/bad.yaml").write_bytes(content)
    with pytest.raises(DatasetError, match="not valid YAML"):
        load_dataset("bad", root)


@pytest.mark.parametrize("content", ["", "- 1", "words"])
def test_a_file_without_keys_is_refused_in_a_sentence(root, content):
    (root / "data/datasets/bad.yaml").write_text(content, encoding="utf-8")
    with pytest.raises(DatasetError, match=r"data/datasets/bad\.yaml holds no dataset"):
        load_dataset("bad", root)


def test_name_and_file_name_must_agree(root):
    (root / "data/datasets/other.yaml").write_text(yaml.safe_dump(dataset_tree()), encoding="utf-8")
    with pytest.raises(DatasetError, match="must agree"):
        load_dataset("other", root)


def test_the_datasets_of_this_checkout_load():
    from mlops_core.paths import find_root

    root = find_root()
    names = [file.stem for file in (root / "data/datasets").glob("*.yaml")]
    assert "flights" in names
    for name in names:
        assert load_dataset(name, root).name == name


def test_an_ignored_column_is_too_late_only_when_it_is_known_after_the_prediction():
    columns = dataset_tree()["columns"]
    columns["count"] |= {"role": "ignore"}
    columns["open"] |= {"role": "ignore", "known_at": "-1h"}
    assert make_spec(columns=columns).too_late == ["later"]
    columns["gate"] |= {"known_at": "-3h"}
    columns["at"] |= {"known_at": "-3h"}
    assert make_spec(columns=columns, predict_at="-2h").too_late == ["open", "later"]

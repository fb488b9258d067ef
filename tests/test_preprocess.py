import numpy as np
import pandas as pd
import pytest
from tables import TASKS, dataset_tree, make_params, make_schema, make_spec, make_table, tree_with_names

from mlops_core.datasets import LeakError, build_dataset
from mlops_core.features import find_problems
from mlops_core.preprocess import (
    JoinError,
    SuspicionError,
    TableError,
    audit_leaks,
    build_schema,
    build_table,
    classes_of,
    columns_of,
    count_splits,
    encode_table,
    encode_target,
    keep_known_outcomes,
    read_schema,
    read_split,
    require_no_leaks,
    split_rows,
    write_splits,
)


def test_a_leak_is_refused_by_its_name():
    columns = dataset_tree()["columns"]
    with pytest.raises(LeakError, match="'later' is known at after, after the prediction at 0h"):
        make_spec(columns={**columns, "later": {**columns["later"], "role": "feature"}})


@pytest.mark.parametrize("task", TASKS)
def test_the_audit_catches_a_planted_leak(task):
    spec, table = make_spec(task), make_table(task)
    table["later"] = pd.factorize(table["outcome"], sort=True)[0].astype(float)
    ranking = audit_leaks(spec, table, limit=0.9)
    assert ranking.iloc[0]["column"] == "later"
    assert ranking[ranking["suspicious"]]["column"].tolist() == ["later"]


def test_the_audit_finds_nothing_in_noise():
    table = make_table(rows=2000)
    table["later"] = np.random.default_rng(1).normal(size=2000)
    ranking = audit_leaks(make_spec(), table, limit=0.9)
    assert not ranking["suspicious"].any()
    assert ranking.set_index("column").loc["later", "too_late"]


def test_a_row_number_is_no_leak_to_the_audit():
    table = make_table(rows=2000)
    table["gate"] = table["ticket"]
    ranking = audit_leaks(make_spec(), table, limit=0.9).set_index("column")
    assert ranking.loc["gate", "roc_auc"] == 0.5


def test_the_audit_survives_columns_that_say_nothing():
    table = make_table()
    table["later"], table["amount"] = np.nan, 1.0
    ranking = audit_leaks(make_spec(), table, limit=0.9).set_index("column")
    assert ranking.loc[["later", "amount"], "roc_auc"].tolist() == [0.5, 0.5]


def test_a_target_with_one_value_teaches_nothing():
    with pytest.raises(TableError, match="'outcome' has a single value, 'yes'"):
        keep_known_outcomes(make_spec(), make_table().assign(outcome="yes"))


def test_a_target_that_is_missing_everywhere_teaches_nothing():
    with pytest.raises(TableError, match="'outcome' is missing in every row"):
        keep_known_outcomes(make_spec(), make_table().assign(outcome=None))


def test_a_class_that_no_training_row_has_is_named_with_the_fix():
    table = make_table("multiclass")
    table.loc[table.index[-1], "outcome"] = "c"
    table = table[(table["outcome"] != "c") | (table.index == table.index[-1])].reset_index(drop=True)
    with pytest.raises(TableError, match=r"Class 'c' of 'outcome' is in 1 rows, none of which trains.*split by 'at'"):
        split_rows(make_spec("multiclass"), table, make_params())


def test_a_suspected_column_is_named_with_the_fix_unless_somebody_vouched_for_it():
    table = make_table().assign(amount=lambda rows: np.where(rows["outcome"] == "yes", 5.0, -5.0))
    audit = audit_leaks(make_spec(), table, limit=0.9)
    with pytest.raises(SuspicionError, match=r"Column 'amount' alone ranks .*trusted: true.*small.yaml"):
        require_no_leaks(make_spec(), audit)
    require_no_leaks(make_spec(), audit.assign(trusted=True))


def test_rows_without_an_outcome_are_left_out_and_the_rest_comes_in_order_of_time():
    table = make_table(rows=50)
    table.loc[[3, 4], "outcome"] = None
    known = keep_known_outcomes(make_spec(), table[::-1])
    pd.testing.assert_frame_equal(known, table.drop(index=[3, 4]).reset_index(drop=True))


def test_a_missing_join_is_named():
    with pytest.raises(JoinError, match=r"mlops_core/joins/nothing\.py"):
        build_table(make_spec(join="nothing"), {"small": make_table()})


def test_a_column_that_the_table_lacks_is_named():
    with pytest.raises(TableError, match="lacks the column 'gate'"):
        build_table(make_spec(), {"small": make_table().drop(columns="gate")})


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("count", 51, "row 7: count: outside 0 to 50"),
        ("gate", "C", "row 7: gate: not one of A, B"),
        ("count", None, "missing"),
    ],
)
def test_a_table_that_breaks_its_contract_is_told_with_the_row(column, value, reason):
    table = make_table()
    table.loc[7, column] = value
    with pytest.raises(TableError, match=reason):
        build_table(make_spec(), {"small": table})


def test_an_id_that_is_there_twice_is_refused():
    table = make_table()
    table.loc[1, "ticket"] = table.loc[0, "ticket"]
    with pytest.raises(TableError, match="duplicate of another row by ticket"):
        build_table(make_spec(), {"small": table})


def test_only_declared_columns_come_through_in_their_order():
    table = make_table().assign(extra=1)
    built = build_table(make_spec(), {"small": table[sorted(table)]})
    assert list(built) == list(make_spec().columns)


def test_the_schema_is_made_of_the_training_rows_only():
    table = make_table(rows=100)
    train = table[table["kind"] != "w"].copy()
    train["amount"] = train["amount"].clip(-1, 1)
    schema = build_schema(make_spec(), train)
    columns = {column.name: column for column in schema.columns}
    assert columns["kind"].categories == ["u", "v"]
    assert (columns["amount"].seen_low, columns["amount"].seen_high) == (-1, 1)
    assert (columns["amount"].low, columns["amount"].high) == (-100, 100)
    codes = encode_table(schema, table[table["kind"] == "w"])[:, schema.categorical[0]]
    assert set(codes) == {3}


def test_the_schema_knows_the_range_of_a_number_that_is_predicted():
    spec, table = make_spec("regression"), make_table("regression")
    assert build_schema(spec, table).target_range is None
    outcome = spec.columns["outcome"].model_copy(update={"range": (0.0, 90.0)})
    bound = spec.model_copy(update={"columns": {**spec.columns, "outcome": outcome}})
    assert build_schema(bound, table).target_range == [0.0, 90.0]


def test_categories_are_called_what_their_table_says():
    spec, table = build_dataset("small", tree_with_names()), make_table()
    kinds = pd.DataFrame({"code": ["w", "u", "v", "x"], "name": ["Whole", "Used", None, "Unknown to training"]})
    columns = {column.name: column for column in build_schema(spec, table, {"kinds": kinds}).columns}
    assert columns["kind"].categories == ["u", "v", "w"]
    assert columns["kind"].names == {"u": "Used", "w": "Whole"}
    assert all(column.names == {} for name, column in columns.items() if name != "kind")


def test_a_key_of_whole_numbers_names_the_categories_of_that_spelling():
    spec, table = build_dataset("small", tree_with_names()), make_table().replace({"kind": {"u": "1"}})
    kinds = pd.DataFrame({"code": pd.array([1, 2], dtype="Int64"), "name": ["One", "Two"]})
    names = {column.name: column.names for column in build_schema(spec, table, {"kinds": kinds}).columns}
    assert names["kind"] == {"1": "One"}


def test_the_schema_says_what_is_asked_and_of_what():
    schema = make_schema("regression")
    assert (schema.title, schema.question) == ("A small table", "What comes?")
    assert (schema.target, schema.target_label, schema.target_unit) == ("outcome", "outcome", "")


def test_the_target_has_its_declared_label_and_unit():
    target = {"type": "number", "role": "target", "missing": True, "label": "Delay", "unit": "min"}
    spec = make_spec("regression", columns={**dataset_tree("regression")["columns"], "outcome": target})
    schema = build_schema(spec, make_table("regression"))
    assert (schema.target_label, schema.target_unit) == ("Delay", "min")


def test_the_target_and_late_columns_are_not_among_the_inputs():
    names = [column.name for column in make_schema().columns]
    assert names == ["at", "amount", "count", "kind", "gate", "open"]


def test_every_example_in_the_schema_is_a_value_that_it_takes():
    schema = make_schema()
    assert all(column.example is not None for column in schema.columns)
    columns = {column.name: [column.example] for column in schema.columns}
    assert find_problems(schema, columns, 1) == []


@pytest.mark.parametrize("name", ["amount", "kind"])
def test_a_column_without_values_is_refused_by_name(name):
    empty = np.nan if name == "amount" else pd.Series([None] * 30, dtype="str")
    with pytest.raises(TableError, match=f"'{name}' is missing in every training row.*ignore"):
        build_schema(make_spec(), make_table(rows=30).assign(**{name: empty}))


def test_splits_that_leave_nothing_to_test_are_refused():
    table = make_table(rows=30)
    day = table.assign(**{make_spec().time: pd.Timestamp("2013-01-01")})
    with pytest.raises(TableError, match="too few days"):
        split_rows(make_spec(), day, make_params())


def test_gaps_become_none_in_texts_and_nan_in_numbers():
    table = pd.DataFrame(
        {
            "text": pd.Series(["a", None], dtype="str"),
            "whole": pd.array([1, None], dtype="Int64"),
            "flag": pd.array([True, None], dtype="boolean"),
            "at": pd.Series(["2013-01-01", None], dtype="datetime64[s]"),
        }
    )
    columns = columns_of(table, [*table, "absent"])
    assert (columns["text"], columns["flag"]) == (["a", None], [True, None])
    np.testing.assert_array_equal(columns["whole"], [1.0, np.nan])
    assert columns["at"].dtype == "datetime64[s]"
    assert np.isnat(columns["at"]).tolist() == [False, True]
    assert "absent" not in columns


def test_classes_have_their_declared_positions():
    schema = make_schema("multiclass")
    codes = encode_target(schema, pd.DataFrame({"outcome": ["high", "low", "middle"]}))
    assert codes.tolist() == [2, 0, 1]


def test_an_unknown_class_is_refused_and_not_taken_for_the_last():
    with pytest.raises(TableError, match="unknown class 'maybe'"):
        encode_target(make_schema(), pd.DataFrame({"outcome": ["no", "maybe"]}))


@pytest.mark.parametrize(
    ("kind", "values", "classes"),
    [
        ("integer", [0, 1], ["0", "1"]),
        ("boolean", [False, True], ["False", "True"]),
        ("category", ["b", "a"], ["a", "b"]),
    ],
)
def test_a_target_without_declared_classes_has_its_values_for_classes(kind, values, classes):
    columns = {**dataset_tree()["columns"], "outcome": {"type": kind, "role": "target"}}
    spec = make_spec(columns=columns)
    table = make_table(rows=400).assign(outcome=values * 200)
    schema = build_schema(spec, table)
    assert schema.classes == classes_of(spec, table) == classes
    assert encode_target(schema, table).tolist() == [classes.index(str(value)) for value in values] * 200
    assert audit_leaks(spec, table, 0.9)["roc_auc"].between(0, 1).all()


@pytest.mark.parametrize("task", TASKS)
def test_a_table_without_a_time_is_split_at_random_with_classes_in_their_share(task):
    columns = {name: column for name, column in dataset_tree(task)["columns"].items() if name != "at"}
    spec, table = make_spec(task, columns=columns), make_table(task)
    split = split_rows(spec, table, make_params())
    assert (split == "test").mean() == pytest.approx(0.2, abs=0.01)
    if task != "regression":
        shares = pd.crosstab(table["outcome"], split, normalize="columns")
        assert (shares.max(axis=1) - shares.min(axis=1)).max() < 0.02


def test_splits_and_schema_come_back_from_their_files(tmp_path):
    spec, table = make_spec(), make_table()
    split = split_rows(spec, table, make_params())
    schema = build_schema(spec, table[split == "train"])
    write_splits(table, split, schema, tmp_path / "processed")
    assert read_schema(tmp_path / "processed") == schema
    parts = [read_split(tmp_path / "processed", name) for name in ("train", "calibrate", "test")]
    assert sorted(pd.concat(parts)["ticket"]) == sorted(table["ticket"])
    assert [len(part) for part in parts] == count_splits(spec, table, split)["rows"].tolist()
    train = table[split == "train"]
    np.testing.assert_array_equal(encode_table(schema, parts[0]), encode_table(schema, train))


@pytest.mark.parametrize(
    ("task", "told"), [("binary", "share yes"), ("multiclass", "share high"), ("regression", "mean outcome")]
)
def test_the_target_of_rows_that_stay_closed_is_not_told(task, told):
    spec, table = make_spec(task), make_table(task)
    split = split_rows(spec, table, make_params())
    opened, closed = (count_splits(spec, table, split, closed=parts)[told] for parts in ([], ["test"]))
    assert closed["test"] == "closed"
    assert closed["train"] == opened["train"]
    assert isinstance(opened["test"], float)


@pytest.mark.parametrize(
    ("values", "example"),
    [([0.1, 0.8571428571, 2.0], 0.8571), ([157309.83] * 3, 157309.83), ([100000.0, 157309.83, 2e5], 157300.0)],
)
def test_an_example_is_as_short_as_somebody_would_type_it_and_no_value_that_was_never_seen(values, example):
    spec, table = make_spec(), make_table(rows=3)
    table["amount"] = values
    (column,) = [item for item in build_schema(spec, table).columns if item.name == "amount"]
    assert column.example == example

import json
import math
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tables import make_schema

from mlops_core.features import Column, Schema, check_and_encode, encode, find_problems, find_unusual


def schema_of(*columns: Column) -> Schema:
    return Schema("small", "binary", "outcome", ["no", "yes"], None, list(columns))


SCHEMA = schema_of(
    Column("amount", "number", required=False, low=-100, high=100, seen_low=-5, seen_high=5),
    Column("count", "integer", required=True),
    Column("kind", "category", required=False, categories=["u", "v"]),
    Column("open", "boolean", required=False),
    Column("at", "datetime", required=False, derive=["minute_of_day", "day_of_week", "month"]),
)
CELLS = {
    "amount": st.none() | st.floats(-100, 100),
    "count": st.integers(-(10**6), 10**6),
    "kind": st.sampled_from([None, "u", "v", "w", ""]),
    "open": st.sampled_from([None, True, False]),
    "at": st.none() | st.datetimes(datetime(1700, 1, 1), datetime(2200, 12, 31)).map(datetime.isoformat),
}
ROWS = st.lists(st.fixed_dictionaries(CELLS), min_size=1, max_size=8)


def as_columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


@given(ROWS)
def test_a_row_alone_is_encoded_as_among_others(rows):
    together = encode(SCHEMA, as_columns(rows), len(rows))
    alone = np.concatenate([encode(SCHEMA, as_columns([row]), 1) for row in rows])
    np.testing.assert_array_equal(together, alone)
    assert together.dtype == np.float32
    assert find_problems(SCHEMA, as_columns(rows), len(rows)) == []


@given(ROWS)
def test_arrays_are_encoded_as_lists_are(rows):
    lists = as_columns(rows)
    arrays = {
        "amount": np.array([math.nan if value is None else value for value in lists["amount"]]),
        "count": np.array(lists["count"]),
        "kind": np.array(lists["kind"], dtype=object),
        "open": np.array(lists["open"], dtype=object),
        "at": np.array(["NaT" if value is None else value for value in lists["at"]], dtype="datetime64[s]"),
    }
    np.testing.assert_array_equal(encode(SCHEMA, arrays, len(rows)), encode(SCHEMA, lists, len(rows)))
    assert find_problems(SCHEMA, arrays, len(rows)) == []


@given(st.datetimes(datetime(1700, 1, 1), datetime(2200, 12, 31, 23, 59)))
@example(datetime(1969, 12, 31, 23, 59, 59))
@example(datetime(1970, 1, 1))
@example(datetime(2000, 2, 29, 23, 59))
def test_parts_of_a_moment_are_pythons(moment):
    schema = schema_of(SCHEMA.columns[-1])
    for value in (moment.isoformat(), moment, np.datetime64(moment)):
        parts = encode(schema, {"at": [value]}, 1)[0].tolist()
        assert parts == [moment.hour * 60 + moment.minute, moment.weekday(), moment.month]


def test_midnight_is_the_first_minute_and_monday_the_first_day():
    schema = schema_of(SCHEMA.columns[-1])
    matrix = encode(schema, {"at": ["2013-12-23T00:00", "2013-12-22T23:59"]}, 2)
    assert matrix.tolist() == [[0, 0, 12], [1439, 6, 12]]


def test_a_gap_and_an_unseen_category_have_codes_of_their_own():
    values = ["u", "v", None, math.nan, "w", ""]
    codes = encode(schema_of(SCHEMA.columns[2]), {"kind": values}, 6)[:, 0]
    assert codes.tolist() == [0, 1, 2, 2, 3, 3]


def test_a_column_without_categories_still_tells_a_gap_from_a_value():
    schema = schema_of(Column("kind", "category", required=False))
    assert encode(schema, {"kind": [None, "u"]}, 2)[:, 0].tolist() == [0, 1]


def test_a_column_that_is_not_given_is_missing_in_every_row():
    matrix = encode(SCHEMA, {}, 2)
    np.testing.assert_array_equal(matrix, encode(SCHEMA, {column.name: [None, None] for column in SCHEMA.columns}, 2))
    assert matrix[:, 2].tolist() == [2, 2]
    assert np.isnan(np.delete(matrix, 2, axis=1)).all()


def test_no_rows_give_an_empty_matrix():
    assert encode(SCHEMA, {}, 0).shape == (0, 7)


def test_inputs_name_parts_and_their_column():
    assert SCHEMA.inputs[3:] == [("open", 3), ("at.minute_of_day", 4), ("at.day_of_week", 4), ("at.month", 4)]
    assert SCHEMA.categorical == [2]


NUMBER = Column("x", "number", required=False, low=0, high=10)
FREE = Column("x", "number", required=False)
WHOLE = Column("x", "integer", required=False)
MOMENT = Column("x", "datetime", required=False, derive=["month"])
TEXT = Column("x", "category", required=False, categories=["A", "B"])
STRICT = Column("x", "category", required=False, categories=["A", "B"], unseen="refuse")
FLAG = Column("x", "boolean", required=False)
A_DATE = "must be a date and time such as 2013-12-24T18:30"


def problem(column: Column, value: Any) -> str:
    found = find_problems(schema_of(column), {"x": [value]}, 1)
    assert [(item.row, item.column) for item in found] in ([], [(0, "x")])
    return found[0].reason if found else ""


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        (NUMBER, True, "must be a number"),
        (NUMBER, np.True_, "must be a number"),
        (NUMBER, "1", "must be a number"),
        (NUMBER, [1], "must be a number"),
        (NUMBER, 1j, "must be a number"),
        (NUMBER, math.inf, "must be a finite number"),
        (NUMBER, -math.inf, "must be a finite number"),
        (NUMBER, 10**400, "must be a finite number"),
        (NUMBER, -1e-9, "must lie between 0 and 10"),
        (NUMBER, 10.001, "must lie between 0 and 10"),
        (FREE, 1e39, "must lie between -3.40282e+38 and 3.40282e+38"),
        (FREE, 10**400, "must be a finite number"),
        (WHOLE, 1.5, "must be a whole number"),
        (WHOLE, np.float32(0.5), "must be a whole number"),
        (WHOLE, "1", "must be a number"),
        (MOMENT, "now", A_DATE),
        (MOMENT, "today", A_DATE),
        (MOMENT, "2013", A_DATE),
        (MOMENT, "2013-12", A_DATE),
        (MOMENT, "2013-02-30", A_DATE),
        (MOMENT, "2013-12-24T25:00", A_DATE),
        (MOMENT, "2013-12-24T18:30Z", A_DATE),
        (MOMENT, "2013-12-24T18:30+01:00", A_DATE),
        (MOMENT, datetime(2013, 12, 24, tzinfo=UTC), A_DATE),
        (MOMENT, "24.12.2013", A_DATE),
        (MOMENT, "", A_DATE),
        (MOMENT, "NaT", A_DATE),
        (MOMENT, 20131224, A_DATE),
        (MOMENT, 10**30, A_DATE),
        (MOMENT, True, A_DATE),
        (MOMENT, {}, A_DATE),
        (MOMENT, b"2013-12-24", A_DATE),
        (MOMENT, "1699-12-31T23:59", "must lie between the years 1700 and 2200"),
        (MOMENT, "2201-01-01", "must lie between the years 1700 and 2200"),
        (TEXT, 1, "must be a text"),
        (TEXT, True, "must be a text"),
        (TEXT, ["A"], "must be a text"),
        (STRICT, "C", "must be one of A, B"),
        (STRICT, "a", "must be one of A, B"),
        (STRICT, "", "must be one of A, B"),
        (STRICT, 1, "must be a text"),
        (FLAG, 1, "must be true or false"),
        (FLAG, "true", "must be true or false"),
        (FLAG, 0.0, "must be true or false"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(column, value, reason):
    assert problem(column, value) == reason


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (NUMBER, 0),
        (NUMBER, 10),
        (NUMBER, np.float32(3)),
        (NUMBER, np.int8(3)),
        (FREE, 3.4e38),
        (WHOLE, 2.0),
        (WHOLE, np.int64(2)),
        (MOMENT, "2013-12-24T18:30"),
        (MOMENT, "2013-12-24 18:30:15.5"),
        (MOMENT, "2013-12-24"),
        (MOMENT, date(2013, 12, 24)),
        (MOMENT, "1700-01-01"),
        (MOMENT, "2200-12-31T23:59:59"),
        (TEXT, "never seen"),
        (TEXT, np.str_("A")),
        (STRICT, "B"),
        (FLAG, np.False_),
    ],
)
def test_a_value_at_the_edge_of_what_is_allowed_is_taken(column, value):
    assert problem(column, value) == ""
    assert encode(schema_of(column), {"x": [value]}, 1).shape == (1, 1)


@pytest.mark.parametrize("value", [None, math.nan, np.float32("nan"), np.datetime64("NaT", "s")])
@pytest.mark.parametrize("kind", ["number", "integer", "category", "boolean", "datetime"])
def test_a_gap_is_a_problem_only_where_a_value_is_required(kind, value):
    assert problem(Column("x", kind, required=True), value) == "is required"
    assert problem(Column("x", kind, required=False), value) == ""


@pytest.mark.parametrize("column", [Column("x", "number", True), Column("x", "category", True, ["A"])])
def test_a_required_column_that_is_not_given_is_required_in_every_row(column):
    found = find_problems(schema_of(column), {}, 2)
    assert [(item.row, item.reason) for item in found] == [(0, "is required"), (1, "is required")]


@given(
    st.lists(st.sampled_from([0.0, 10.0, 10.5, -1.0, 2.5, math.nan, math.inf, -math.inf]), min_size=1),
    st.sampled_from([NUMBER, FREE, WHOLE, Column("x", "integer", required=True, low=0, high=10)]),
)
def test_numbers_in_an_array_have_the_problems_of_a_list(values, column):
    schema = schema_of(column)
    in_list = find_problems(schema, {"x": values}, len(values))
    in_array = find_problems(schema, {"x": np.array(values)}, len(values))
    assert sorted(in_list, key=str) == sorted(in_array, key=str)


ODD = st.sampled_from(
    [None, 0, -1, 10, 11, 2.5, -0.0, 1e300, 10**400, True, math.nan, math.inf, "5", [], np.float32(3)]
)


@given(st.lists(st.fixed_dictionaries({"a": ODD, "b": ODD, "c": ODD}), max_size=4))
@example([{"a": 0, "b": 5, "c": 10}])
def test_a_block_of_numbers_has_the_problems_and_codes_of_each_value_alone(rows):
    kinds = Column("a", "number", False, low=0, high=10), Column("b", "integer", True), Column("c", "number", True)
    schema = schema_of(*kinds)
    in_block = {name: [row[name] for row in rows] for name in "abc"}
    one_by_one = {name: tuple(values) for name, values in in_block.items()}  # blocks are made of lists only
    problems = find_problems(schema, one_by_one, len(rows))
    assert find_problems(schema, in_block, len(rows)) == problems
    if not problems:
        codes = encode(schema, one_by_one, len(rows))
        np.testing.assert_array_equal(encode(schema, in_block, len(rows)), codes)


ODD_CELLS = {
    "amount": st.none() | st.floats(-101, 101) | ODD,
    "count": st.integers() | ODD,
    "kind": CELLS["kind"] | ODD,
    "open": CELLS["open"] | ODD,
    "at": CELLS["at"]
    | st.from_regex(
        r"(1699|1700|2013|2200|2201)-[01][0-9]-[0-3][0-9]([T ][0-2][0-9]:[0-5][0-9](:00(\.5)?)?)?", fullmatch=True
    ),
}


@given(
    st.fixed_dictionaries({name: CELLS[name] | odd for name, odd in ODD_CELLS.items()}),
    st.sets(st.sampled_from(sorted(CELLS))),
)
@example({"amount": 1, "count": 2, "kind": "u", "open": True, "at": "2013-12-24T24:00"}, set())
@example({"amount": 1, "count": 2, "kind": "w", "open": True, "at": "2013-12-24 07:55"}, set())
def test_a_single_row_has_the_problems_and_codes_it_has_among_others(row, absent):
    columns = {name: [value] for name, value in row.items() if name not in absent}
    for unseen in ("flag", "refuse"):
        schema = schema_of(*(replace(column, unseen=unseen) for column in SCHEMA.columns))
        problems, matrix = check_and_encode(schema, columns, 1)
        assert problems == find_problems(schema, columns, 1)
        if not problems:
            np.testing.assert_array_equal(matrix, encode(schema, columns, 1))
            assert matrix.dtype == np.float32


@given(st.lists(st.sampled_from(["1699-12-31", "1700-01-01", "2200-12-31", "2201-01-01", None]), min_size=1))
def test_moments_in_an_array_have_the_problems_of_a_list(values):
    array = np.array(["NaT" if value is None else value for value in values], dtype="datetime64[s]")
    schema = schema_of(Column("x", "datetime", required=True, derive=["month"]))
    in_list = find_problems(schema, {"x": values}, len(values))
    assert sorted(in_list, key=str) == sorted(find_problems(schema, {"x": array}, len(values)), key=str)


@pytest.mark.parametrize("column", [TEXT, FLAG, MOMENT])
def test_an_array_of_numbers_is_no_text_no_flag_and_no_moment(column):
    assert len(find_problems(schema_of(column), {"x": np.array([1.0, 2.0])}, 2)) == 2


def test_an_array_of_moments_is_no_number():
    moments = np.array(["2013-01-01"], dtype="datetime64[s]")
    assert len(find_problems(schema_of(NUMBER), {"x": moments}, 1)) == 1


def test_a_long_list_of_categories_does_not_flood_the_answer():
    column = Column("x", "category", False, [f"name{i}" for i in range(500)], unseen="refuse")
    assert len(problem(column, "other")) == 200


def test_what_training_never_saw_is_unusual_but_no_problem():
    columns = {"amount": [-5, 5.1, None], "kind": ["u", "w", None], "count": [0, 0, 0]}
    assert find_problems(SCHEMA, columns, 3) == []
    unusual = find_unusual(SCHEMA, encode(SCHEMA, columns, 3))
    assert {name: rows.tolist() for name, rows in unusual.items()} == {
        "amount": [False, True, False],
        "kind": [False, True, False],
    }


@pytest.mark.parametrize("value", [0.1, -0.1, 1 / 3, 16777217.0])
def test_the_largest_value_of_training_is_not_unusual_after_float32(value):
    schema = schema_of(Column("x", "number", required=False, seen_low=value, seen_high=value))
    assert find_unusual(schema, encode(schema, {"x": [value]}, 1)) == {}


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_a_schema_comes_back_from_json(task):
    schema = make_schema(task)
    assert Schema.from_dict(json.loads(json.dumps(schema.to_dict()))) == schema


def test_what_categories_are_called_changes_no_code():
    named = schema_of(Column("kind", "category", required=False, categories=["u", "v"], names={"v": "Vast"}))
    assert encode(named, {"kind": ["v", "Vast"]}, 2)[:, 0].tolist() == [1, 3]
    assert Schema.from_dict(json.loads(json.dumps(named.to_dict()))).columns[0].names == {"v": "Vast"}


def test_a_schema_of_a_later_version_can_be_read():
    tree = SCHEMA.to_dict()
    tree["columns"][0]["invented_later"] = 1
    assert Schema.from_dict(tree) == SCHEMA


WITHOUT = """
import sys
for name in ("pandas", "sklearn", "pyarrow", "mlflow", "scipy"):
    sys.modules[name] = None
from mlops_core.features import Column, Schema, check_and_encode, encode, find_problems
import mlops_core.serve.predictor, mlops_core.serve.answers, mlops_core.serve.bundle
schema = Schema("s", "binary", "y", ["no", "yes"], None, [
    Column("kind", "category", True, ["u"]), Column("at", "datetime", True, derive=["day_of_week"])])
columns = {"kind": ["u", "w"], "at": ["2013-12-23", "2013-12-29T23:59"]}
print(find_problems(schema, columns, 2), encode(schema, columns, 2).tolist())
"""


def test_serving_needs_neither_pandas_nor_scikit_learn():
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[] [[0.0, 0.0], [2.0, 6.0]]", "")

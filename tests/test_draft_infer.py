"""What a column is found to be, and that the contract reads back what was found."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_core.contracts import coerce
from mlops_core.datasets import FieldSpec
from mlops_core.draft.infer import (
    TargetError,
    choose_task,
    find_marks,
    infer_column,
    order_classes,
    spell,
)
from mlops_core.ingest import mark_missing


def texts(name: str, values: list[str | None], times: int = 1) -> pd.Series:
    return pd.Series(values * times, name=name, dtype="str")


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "2", "-3"], "integer"),
        (["1", "2.5", ".5", "1e3"], "number"),
        (["yes", "no", "YES"], "boolean"),
        (["true", "False"], "boolean"),
        (["0", "1"], "integer"),
        (["007", "012", "100"], "category"),
        (["1,234", "2,345"], "category"),
        (["inf", "1"], "category"),
        (["2013-01-01", "2013-02-01T07:08"], "datetime"),
        (["12/24/2013", "01/31/2014"], "datetime"),
        (["24.12.2013 07:08", "01.02.2014 09:10"], "datetime"),
        (["3 Feb 2013", "14 Mar 2014"], "datetime"),
        (["2013-02-30", "2013-01-01"], "category"),
        (["red", "blue"], "category"),
        (["12345678901234567890", "1"], "number"),
    ],
)
def test_texts_have_the_type_that_all_of_them_fit(values, kind):
    draft = infer_column(texts("x", values, 20))
    assert draft.type == kind
    typed, failures = coerce(texts("x", values).to_frame(), {"x": FieldSpec(type=kind, formats=draft.formats)})
    assert failures.empty, failures
    assert typed["x"].notna().all()


@pytest.mark.parametrize(
    ("series", "kind"),
    [
        (pd.Series([1, 2, 3], name="x"), "integer"),
        (pd.Series([1, pd.NA, 3], name="x", dtype="Int64"), "integer"),
        (pd.Series([1.5, 2.0], name="x"), "number"),
        (pd.Series([True, False], name="x"), "boolean"),
        (pd.Series(pd.to_datetime(["2013-01-01", "2014-01-01"]), name="x"), "datetime"),
    ],
)
def test_values_of_a_parquet_file_keep_their_type(series, kind):
    draft = infer_column(series)
    assert (draft.type, draft.missing) == (kind, bool(series.isna().any()))
    _, failures = coerce(series.to_frame(), {"x": FieldSpec(type=kind)})
    assert failures.empty


def test_dates_of_two_spellings_are_read_by_two_formats():
    values = ["12/24/2013", "2013-05-06", "13.07.2014"]
    draft = infer_column(texts("day", values, 10))
    assert (draft.type, len(draft.formats)) == ("datetime", 2)
    typed, failures = coerce(
        texts("day", values).to_frame(), {"day": FieldSpec(type="datetime", formats=draft.formats)}
    )
    assert failures.empty
    assert typed["day"].dt.strftime("%F").tolist() == ["2013-12-24", "2013-05-06", "2014-07-13"]
    assert "month first or day first" in draft.check


@pytest.mark.parametrize(
    ("name", "values", "role", "word"),
    [
        ("same", ["a"] * 40, "ignore", "same value"),
        ("nothing", [None] * 40, "ignore", "no value"),
        ("customer_id", [f"c{i}" for i in range(40)], "id", "unique"),
        ("CustomerId", [str(i * 7) for i in range(40)], "id", "unique"),
        ("row", [str(i) for i in range(40)], "ignore", "counts the rows"),
        ("note", [f"line {i} of a text that somebody has typed in by hand" for i in range(40)], "ignore", "free text"),
        ("hash", [f"x{i:04x}" for i in range(40)], "ignore", "value of its own"),
        ("paid", [str(i * 7) for i in range(40)], "feature", ""),
        ("price", [str(i * 1.5) for i in range(40)], "feature", ""),
        ("score", [str(i * 3 % 41) for i in range(40)], "feature", ""),
        ("kind", ["a", "b"] * 20, "feature", ""),
        ("plasma", ["1", "2"] * 20, "feature", ""),
    ],
)  # fmt: skip
def test_a_column_that_says_nothing_is_left_out_and_why_is_said(name, values, role, word):
    draft = infer_column(texts(name, values))
    assert draft.role == role
    assert word in draft.decided


DAYS = pd.date_range("2024-01-01", periods=293).strftime("%d.%m.%Y").tolist()
MEND = "mend them, or list them in missing_marks and change type and missing"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([*DAYS, *["2024/13/45"] * 7], "293 of 300 read as dates (%d.%m.%Y), these do not: 2024/13/45"),
        (
            [*DAYS, *["2024-05-06"] * 5, "2024-02-30"],
            "298 of 299 read as dates (ISO 8601 or %d.%m.%Y), these do not: 2024-02-30",
        ),
        ([*map(str, range(296)), *["ill"] * 4], "296 of 300 read as numbers, these do not: ill"),
        ([*map(str, range(90)), *"abcdefghij"], "90 of 100 read as numbers, these do not: a, b, c and 7 more"),
        (["1.5", "2"] * 49 + ["a\rb", " 3 "], "98 of 100 read as numbers, these do not: a b, ' 3 '"),
        (["1", "2"] * 40 + ["?"] * 19 + ["x"], "80 of 81 read as numbers, these do not: x"),
    ],
)
def test_a_few_cells_that_keep_a_column_from_its_type_are_to_be_checked(values, said):
    assert infer_column(texts("x", values)).check == f"{said}; {MEND}"


@pytest.mark.parametrize(
    "values",
    [
        [*map(str, range(89)), *"abcdefghijk"],  # less than nine of ten
        ["01234", "99999", "x"] + ["10115"] * 40,  # codes
        ["a", "b"] * 20,
        ["1", "2"] * 20,
        DAYS,
        ["?", "-"] * 20,
        [f"line {i} of a text" for i in range(40)],
    ],
)
def test_other_columns_need_no_such_check(values):
    assert "read as" not in infer_column(texts("x", values)).check


def test_an_id_may_be_a_number_in_most_rows():
    assert infer_column(texts("customer_id", [*map(str, range(0, 280, 7)), "x1"])).check == ""


@pytest.mark.parametrize("asked", [None, "regression"])
def test_a_target_that_would_be_a_number_but_for_a_word_says_so(asked):
    target = texts("price", [*map(str, range(296)), *["ill"] * 4])
    with pytest.raises(TargetError, match=r"different texts.* 296 of 300 read as numbers, these do not: ill; mend"):
        choose_task(target, asked)


def test_marks_stand_for_a_missing_value_where_only_they_are_no_number():
    frame = pd.DataFrame(
        {"amount": ["1", "?", "3"], "country": ["NA", "DE", "-"], "note": ["null", "a", "b"]}, dtype="str"
    )
    assert find_marks(frame) == ["", "?", "null"]
    marked = mark_missing(frame, find_marks(frame))
    assert marked.isna().sum().to_dict() == {"amount": 1, "country": 0, "note": 1}
    assert infer_column(marked["amount"]).type == "integer"


@given(st.lists(st.integers(-(10**17), 10**17) | st.none(), min_size=2).filter(any))
def test_integers_are_read_back_without_a_loss(values):
    raw = texts("x", [None if value is None else str(value) for value in values])
    draft = infer_column(raw)
    assert draft.type == "integer"
    typed, failures = coerce(raw.to_frame(), {"x": FieldSpec(type="integer")})
    assert failures.empty
    assert [None if value is pd.NA else value for value in typed["x"].tolist()] == values


@given(st.lists(st.text(max_size=5) | st.sampled_from(["1", "2.5", "yes", "2013-01-01", "12/24/2013"]), min_size=1))
def test_whatever_is_found_the_contract_accepts(values):
    raw = texts("x", values).where(lambda item: ~item.str.contains("\x00"))
    raw = raw.where(raw != "")
    draft = infer_column(raw)
    _, failures = coerce(raw.to_frame(), {"x": FieldSpec(type=draft.type, formats=draft.formats)})
    assert failures.empty


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (["yes", "no"], "binary"),
        (["a", "b", "c"], "multiclass"),
        ([str(i) for i in range(21)], "regression"),
        (["0", "1"], "binary"),
        (["0", "1", "2"], "multiclass"),
        ([f"{i}.5" for i in range(30)], "regression"),
    ],
)
def test_the_task_follows_from_the_target(values, task):
    assert choose_task(texts("y", values, 5), None) == task


@pytest.mark.parametrize(
    ("values", "asked", "words"),
    [
        ([None, None], None, "is missing in every row"),
        (["a", "a"], None, "is 'a' in every row"),
        ([f"t{i}" for i in range(60)], None, "60 different texts, more than 50 classes"),
        (["a", "b", "c"], "binary", "no binary target"),
        (["a", "b", "c"], "regression", "no regression target"),
    ],
)
def test_a_target_that_cannot_be_predicted_is_refused_with_the_reason(values, asked, words):
    with pytest.raises(TargetError, match=words):
        choose_task(texts("y", values), asked)


@pytest.mark.parametrize(
    ("values", "order"),
    [
        (["no", "no", "yes"], ["no", "yes"]),
        (["yes", "yes", "no"], ["no", "yes"]),
        (["good", "bad", "bad"], ["good", "bad"]),
        (["x", "x", "y"], ["x", "y"]),
        (["c", "a", "b", "b"], ["a", "b", "c"]),
    ],
)
def test_the_event_is_the_last_of_two_classes(values, order):
    assert order_classes(texts("y", values)) == order


@pytest.mark.parametrize(
    ("name", "label", "unit"),
    [
        ("bill_length_mm", "Bill length", "mm"),
        ("Sale_Price", "Sale price", ""),
        ("Age", "", ""),
        ("totalAmount", "Total amount", ""),
        ("m", "M", ""),
        ("Alter (Jahre)", "", ""),
        ("Größe der Wohnung", "", ""),
        ("body Mass kg", "Body Mass", "kg"),
        ("pH", "", ""),
        ("soil_pH", "Soil pH", ""),
        ("GDP_Growth", "GDP growth", ""),
        ("Alter_(Jahre)", "Alter (Jahre)", ""),
        ("_", "", ""),
    ],
)
def test_a_name_is_spelt_as_people_would_write_it(name, label, unit):
    assert spell(name) == (label, unit)


def test_missing_numbers_of_a_float_column_are_missing_and_no_texts():
    draft = infer_column(pd.Series([1.0, np.nan, 2.0], name="x"))
    assert (draft.type, draft.missing) == ("number", True)

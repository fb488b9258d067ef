import math
from datetime import date
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mlops_core.contracts import build_contract, coerce, find_violations
from mlops_core.datasets import FieldSpec


def convert(values, kind, dtype="str"):
    """The typed values (None where missing), and the rows that failed."""
    raw = pd.DataFrame({"x": pd.Series(values, dtype=dtype)})
    typed, failures = coerce(raw, {"x": FieldSpec(type=kind)})
    return [None if pd.isna(value) else value for value in typed["x"]], failures["row"].tolist()


@given(st.lists(st.one_of(st.none(), st.integers(-(10**18) + 1, 10**18 - 1)), min_size=1))
@example([9007199254740993, None])
def test_integers_come_out_of_text_exactly(numbers):
    texts = [None if number is None else str(number) for number in numbers]
    assert convert(texts, "integer") == (numbers, [])


@given(st.lists(st.text(max_size=12), min_size=1))
def test_an_integer_is_never_made_of_another_text(texts):
    values, failed = convert(texts, "integer")
    for row, (text, value) in enumerate(zip(texts, values, strict=True)):
        if value is None:
            assert row in failed
        else:
            assert text.isascii()
            assert float(text) == value
            assert "_" not in text


@pytest.mark.parametrize(
    "text", ["1.5", "1e-3", " 1", "1 ", "1_000", "1,000", "0x10", "١٢", "", "NA", "1" * 19, "--1", "True"]
)
def test_what_is_no_plain_whole_number_is_refused(text):
    assert convert([text], "integer") == ([None], [0])


@pytest.mark.parametrize(
    ("text", "value"), [("+1", 1), ("-0", 0), ("007", 7), ("9" * 18, 10**18 - 1), ("1.0", 1), ("1e3", 1000)]
)
def test_signs_and_zeros_do_not_change_a_whole_number(text, value):
    assert convert([text], "integer") == ([value], [])


@pytest.mark.parametrize(
    ("value", "expected"),
    [(2.0**53 - 1, 2**53 - 1), (2.0**53, None), (-(2.0**53), None), (1.5, None), (math.inf, None), (-3.0, -3)],
)
def test_a_float_is_a_whole_number_only_where_floats_are_exact(value, expected):
    values, failed = convert([value], "integer", "float64")
    assert values == [expected]
    assert failed == ([] if expected is not None else [0])


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_a_number_comes_out_of_its_shortest_text_exactly(numbers):
    assert convert([repr(number) for number in numbers], "number") == (numbers, [])


@pytest.mark.parametrize(
    "text", ["nan", "NaN", "inf", "-inf", "Infinity", "1e400", "1,5", "1_0", "0x10", "ja", "", "1 2", "True", "٣"]
)
def test_what_is_no_finite_number_is_refused(text):
    assert convert([text], "number") == ([None], [0])


@pytest.mark.parametrize(
    ("values", "dtype", "kind"),
    [
        ([True, False], "bool", "number"),
        ([True, False], "bool", "integer"),
        (pd.to_datetime(["2013-01-01", "2013-01-02"]), "datetime64[s]", "number"),
        (pd.to_datetime(["2013-01-01", "2013-01-02"]), "datetime64[s]", "integer"),
        ([date(2013, 1, 1), date(2013, 1, 2)], object, "integer"),
        ([Decimal("1.5"), Decimal("2.5")], object, "integer"),
        ([2**63 + 1, 2**64 - 1], "uint64", "integer"),
        ([math.inf, -math.inf], "float64", "number"),
        ([0, 1371000000], "int64", "datetime"),
        ([0.0, 1.5], "float64", "datetime"),
        ([1.5, 2.0], "float64", "boolean"),
        (["a\x00b", "\x00"], "str", "text"),
        (["a\x00b", "\x00"], "str", "category"),
    ],
)
def test_a_value_of_another_type_is_refused_not_reinterpreted(values, dtype, kind):
    assert convert(values, kind, dtype) == ([None, None], [0, 1])


@pytest.mark.parametrize(
    ("values", "dtype"),
    [([1, 2], "category"), ([Decimal(1), Decimal(2)], object), ([1, 2], "uint8"), ([1, 2], "UInt64")],
)
def test_whole_numbers_of_any_storage_are_whole_numbers(values, dtype):
    assert convert(values, "integer", dtype) == ([1, 2], [])


@pytest.mark.parametrize(
    "text",
    [
        "now",
        "today",
        "2013",
        "2013-05",
        "2013-02-30",
        "2013-13-01",
        "5/1/2013",
        "01.05.2013",
        "24:00",
        "NaT",
        "",
        "soon",
    ],
)
def test_a_date_is_never_guessed(text):
    assert convert([text], "datetime") == ([None], [0])


@given(
    st.datetimes(
        min_value=pd.Timestamp("1700-01-01").to_pydatetime(), max_value=pd.Timestamp("2200-01-01").to_pydatetime()
    )
)
def test_a_date_and_time_comes_out_of_its_text(moment):
    whole = moment.replace(microsecond=0)
    for text in (whole.isoformat(), whole.isoformat(sep=" ")):
        assert convert([text], "datetime") == ([pd.Timestamp(whole)], [])


def test_a_zone_is_brought_to_utc_beside_times_without_one():
    values, failed = convert(["2013-05-01T10:00+02:00", "2013-05-01T08:00"], "datetime")
    assert values == [pd.Timestamp("2013-05-01T08:00")] * 2
    assert failed == []


@pytest.mark.parametrize(("text", "value"), [("TRUE", True), (" no ", False), ("1", True), ("0", False), ("Yes", True)])
def test_the_usual_words_are_true_and_false(text, value):
    assert convert([text], "boolean") == ([value], [])


@pytest.mark.parametrize("text", ["ja", "", "2", "t", "1.0", "null"])
def test_other_words_are_neither_true_nor_false(text):
    assert convert([text], "boolean") == ([None], [0])


@pytest.mark.parametrize("text", ["NA", "null", "007", " a ", "", "None", "1.0"])
def test_a_text_stays_as_it_stands(text):
    assert convert([text], "text") == ([text], [])


@pytest.mark.parametrize("kind", ["number", "integer", "category", "boolean", "datetime", "text"])
def test_a_gap_is_no_failure(kind):
    assert convert([None, None], kind) == ([None, None], [])


def violations(frame, key=None, **fields):
    contract = build_contract({name: FieldSpec(**field) for name, field in fields.items()}, key)
    found = find_violations(pd.DataFrame(frame), contract)
    return sorted(zip(found["row"], found["reason"], strict=True))


@pytest.mark.parametrize(("value", "broken"), [(0.0, False), (10.0, False), (-0.1, True), (10.1, True)])
def test_both_ends_belong_to_a_range(value, broken):
    found = violations({"x": [value]}, x={"type": "number", "range": (0, 10)})
    assert found == ([(0, "x: outside 0 to 10")] if broken else [])


def test_every_broken_row_is_told_with_its_reason():
    frame = {"x": [1.0, 99.0, np.nan], "k": ["a", "z", "a"]}
    found = violations(frame, x={"type": "number", "range": (0, 10)}, k={"type": "category", "categories": ["a", "b"]})
    assert found == [(1, "k: not one of a, b"), (1, "x: outside 0 to 10"), (2, "x: missing")]


def test_a_gap_is_allowed_where_the_contract_says_so():
    assert violations({"x": [np.nan, 1.0]}, x={"type": "number", "range": (0, 10), "missing": True}) == []


def test_all_rows_that_share_a_key_are_told():
    frame = {"a": [1, 1, 2, 1], "b": ["x", "x", "x", "y"]}
    found = violations(frame, ["a", "b"], a={"type": "integer"}, b={"type": "text"})
    assert found == [(row, "duplicate of another row by a, b") for row in (0, 1)]


def test_rows_are_positions_whatever_the_index():
    frame = pd.DataFrame({"x": [1.0, 99.0]}, index=[7, 7])
    assert violations(frame, x={"type": "number", "range": (0, 10)}) == [(1, "x: outside 0 to 10")]

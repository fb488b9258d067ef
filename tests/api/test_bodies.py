"""The quick reader of plain bodies against the strict one, which decides alone about everything that is odd."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from api import bodies
from api.bodies import parse_json, to_columns
from api.problems import ProblemError
from mlops_core.features import Column, Schema, check_and_encode

SCHEMA = Schema("s", "binary", "y", ["no", "yes"], None, [Column(name, "number", False) for name in ("a", "b", "c")])
TEXTS = st.text(st.sampled_from('ab: \\"{}[],\t\n\x00é\ud800'), max_size=6)
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.lists(st.integers(), max_size=2)
ROWS = st.lists(st.dictionaries(st.sampled_from("abc") | TEXTS, VALUES, max_size=3), max_size=4)
JUNK = st.sampled_from(["", " ", '"a":1,', '"a" :1,', ",", '"', ":", "\\", "\ufeff", "NaN", "1e999", "{", "}", "\x00"])


def rounded(tree: Any) -> Any:
    """An integer of more than 64 bits is the nearest float to the quick reader; no column tells them apart."""
    if isinstance(tree, dict):
        return {key: rounded(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [rounded(value) for value in tree]
    return float(tree) if type(tree) is int and not -(2**63) <= tree < 2**64 else tree


def outcome(body: bytes) -> Any:
    try:
        return repr(rounded(parse_json(body)))
    except ProblemError as problem:
        return str(problem)


def strictly(body: bytes) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bodies, "_parse_plain", lambda _: None)
        return outcome(body)


@pytest.mark.parametrize("large", [0, bodies.LARGE])
@given(ROWS, st.booleans(), st.sampled_from([None, 1]), st.lists(st.tuples(st.integers(0, 200), JUNK), max_size=3))
@example([{"a": 1}], True, None, [(15, '"a":1,')])
@example([{"a": ":"}], True, None, [(15, '"a" :1,')])
def test_the_quick_reader_finds_what_the_strict_one_finds(large, rows, plain, indent, junk):
    text = json.dumps({"instances": rows}, ensure_ascii=plain, indent=indent)
    for place, more in junk:
        text = text[: place % (len(text) + 1)] + more + text[place % (len(text) + 1) :]
    body = text.encode("utf-8", "surrogatepass")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bodies, "LARGE", large)
        assert outcome(body) == strictly(body)


@pytest.mark.parametrize(
    "text",
    [
        '{"instances": [{"a": 1, "a": 1}]}',
        '{"instances": [{"a" : 1, "a": 1, "b": "x\\" :"}]}',
        '{"instances": [{"a": 1, "a"\n:1, "b": "\\":"}]}',
        '{"instances": [{}], "instances": [{}]}',
        '{"instances": [{"a": {"b": 1, "b": 2}}]}',
    ],
)
def test_a_key_that_stands_twice_is_refused_however_it_is_hidden(text):
    assert outcome(text.encode()) == "422: A key stands twice in one object."


def test_a_plain_body_is_read_by_the_quick_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies.json, "loads", None)
    assert parse_json(b'{"instances": [{"a": 1.5, "b": "07:55"}]}') == {"instances": [{"a": 1.5, "b": "07:55"}]}


@given(st.lists(st.dictionaries(st.sampled_from("abcd"), st.integers()), min_size=1, max_size=4))
@example([{"a": 1, "b": 2}, {"b": 1, "a": 2}])
@example([{"a": 1, "b": 2}, {"a": 1, "c": 2}])
def test_rows_turn_into_columns_whatever_keys_they_have(rows):
    if any("d" in row for row in rows):
        with pytest.raises(ProblemError, match="declared form"):
            to_columns(SCHEMA, rows)
        return
    columns = to_columns(SCHEMA, rows)
    for name in "abc":
        assert columns.get(name, [None] * len(rows)) == [row.get(name) for row in rows]


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("carier", "'carier'; did you mean 'carrier'?"),
        ("mood", "'mood'; leave it out"),
        ("x" * 200, f"'{'x' * bodies.MAX_FIELD}'; leave it out"),
    ],
)
def test_a_misspelt_column_is_told_the_name_it_is_nearest_to(key, said):
    schema = Schema("s", "binary", "y", ["no", "yes"], None, [Column("carrier", "category", False)])
    with pytest.raises(ProblemError) as refused:
        to_columns(schema, [{key: "EV"}, {key: "EV"}])
    first, second = (error.detail for error in refused.value.errors)
    assert first == f"has the unknown column {said}"
    assert second.startswith("has the unknown column")


def test_all_columns_that_nobody_knows_are_named_at_once():
    with pytest.raises(ProblemError) as refused:
        to_columns(SCHEMA, [{"a": 1, "order": 2, "note": "x"}])
    assert [error.detail for error in refused.value.errors] == [
        "has the unknown columns 'order', 'note'; leave them out"
    ]


def test_dates_may_be_written_as_the_tables_write_them():
    day = Column("day", "datetime", False, derive=["month"], formats=["%d.%m.%Y", "%m/%d/%Y"])
    schema = Schema("s", "binary", "y", ["no", "yes"], None, [day, Column("count", "number", False)])
    written = ["24.12.2013", "12/24/2013", "2013-12-24", None, "24.13.2013", 5]
    for rows in ([{"day": value, "count": 1} for value in written], [{"day": value} for value in written]):
        columns = to_columns(schema, rows)
        assert columns["day"] == ["2013-12-24T00:00:00"] * 2 + ["2013-12-24", None, "24.13.2013", 5]
        problems, _ = check_and_encode(schema, columns, len(rows))
        reason = "must be a date and time such as 2013-12-24T18:30 or 24.12.2013 or 12/24/2013"
        assert [(item.row, item.reason) for item in problems] == [(4, reason), (5, reason)]

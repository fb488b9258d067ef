import pytest
from hypothesis import given
from hypothesis import strategies as st
from models import ROW, make_model

from mlops_core.frontend.facts import Column
from mlops_core.frontend.probes import MAX_CATEGORIES, build_probe

COLUMNS = {column.name: column for column in make_model().columns}


@pytest.mark.parametrize("name", COLUMNS)
def test_the_value_of_the_row_is_among_those_that_are_asked(name):
    probe = build_probe(COLUMNS[name], ROW)
    assert probe.values[probe.current] == ROW[name]
    assert {tuple(row) for row in probe.rows(ROW)} == {tuple(ROW)}


@given(st.floats(-100, 100))
def test_numbers_are_asked_in_order_whatever_the_row_holds(now):
    probe = build_probe(COLUMNS["amount"], {**ROW, "amount": now})
    assert list(probe.values) == sorted(probe.values)
    assert probe.values[probe.current] == now


def test_an_integer_is_asked_with_integers_only():
    values = build_probe(COLUMNS["count"], ROW).values
    assert {type(value) for value in values} == {int}


def test_a_value_that_is_not_known_has_no_place_on_the_curve():
    probe = build_probe(COLUMNS["amount"], {**ROW, "amount": None})
    assert probe.current is None
    assert len(probe.values) > 2


def test_an_unseen_category_is_asked_beside_the_known_ones():
    probe = build_probe(COLUMNS["kind"], {**ROW, "kind": "new"})
    assert list(probe.values) == ["u", "v", "w", "new"]
    assert probe.current == 3


def test_ten_thousand_categories_are_not_asked_one_by_one():
    column = Column("city", "category", categories=[str(place) for place in range(10_000)])
    assert len(build_probe(column, {"city": "1"}).values) == MAX_CATEGORIES


@pytest.mark.parametrize("column", [Column("x", "number", seen_low=1.0, seen_high=1.0), Column("x", "number")])
def test_a_column_that_never_varied_has_no_curve(column):
    assert build_probe(column, {"x": 1.0}) is None


def test_a_moment_is_moved_over_its_own_day():
    probe = build_probe(COLUMNS["at"], {**ROW, "at": "2013-05-06T07:10"})
    assert {value[:10] for value in probe.values} == {"2013-05-06"}
    assert probe.values[probe.current] == "2013-05-06T07:10"

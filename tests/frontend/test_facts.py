from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from models import make_model, model_tree

from mlops_core.frontend.facts import Column, number_text, percent, read_model


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (-0.0, "0"),
        (1018.4, "1,018"),
        (62.06, "62.06"),
        (0.11111, "0.1111"),
        (10.35702, "10.36"),
        (-2.5, "-2.5"),
        (1e-7, "1e-07"),
        (336776, "336,776"),
    ],
)
def test_a_number_reads_as_people_write_it(value, text):
    assert number_text(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e11, max_value=1e11))
def test_a_number_is_shown_with_four_digits_at_least(value):
    shown = float(number_text(value).replace(",", ""))
    assert abs(shown - value) <= max(abs(value) * 1e-3, 1e-7)


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0 %"), (1, "100 %"), (0.004, "less than 1 %"), (0.996, "more than 99 %"), (0.234, "23 %")],
)
def test_nothing_uncertain_is_called_certain(share, text):
    assert percent(share) == text


def test_what_the_page_does_not_know_is_passed_over():
    tree = model_tree()
    tree["columns"] = [{**tree["columns"][0], "invented_later": 1}]
    assert read_model({**tree, "more": 1}).columns[0].name == "at"


def test_an_older_service_without_titles_still_gets_a_page():
    tree = {
        key: value for key, value in model_tree().items() if key not in ("title", "question", "target", "registered_at")
    }
    model = read_model(tree)
    assert (model.title, model.question, model.age()) == ("small", "", "")


@pytest.mark.parametrize(("day", "text"), [(2, "today"), (3, "yesterday"), (12, "10 days ago")])
def test_the_age_is_counted_in_days(day, text):
    assert make_model().age(datetime(2026, 1, day, 3, 5, tzinfo=UTC)) == f"registered {text}"


def test_a_category_is_shown_with_its_readable_name():
    column = Column("carrier", "category", names={"UA": "United Air Lines", "9X": "9X"})
    assert column.show("UA") == "UA · United Air Lines"
    assert [column.show("9X"), column.show("??"), column.show(None)] == ["9X", "??", "not known"]


def test_columns_are_ranked_by_what_the_model_looks_at():
    assert [column.name for column in make_model().by_importance][:3] == ["amount", "kind", "at"]


@pytest.mark.parametrize(
    ("low", "high", "value", "text"),
    [(1872, 2010, 1974, "1974"), (1872, 2010, None, "not known"), (900, 2010, 1974, "1,974"), (0, 5000, 1974, "1,974")],
)
def test_a_year_is_no_amount(low, high, value, text):
    assert Column("built", "integer", seen_low=low, seen_high=high).show(value) == text

import csv
import io

import pytest
from models import ROW, make_answer, make_model

from mlops_core.frontend.history import MOST, History, differences, escape_cell


def make_history(*rows, task="binary"):
    history = History()
    for row in rows:
        history.add(make_model(task), row, make_answer(task))
    return history


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_the_export_has_a_line_for_every_answer(task):
    history = make_history(ROW, {**ROW, "amount": 2.0}, task=task)
    lines = list(csv.DictReader(io.StringIO(history._export.data.decode())))
    assert [line["amount"] for line in lines] == ["1.5", "2.0"]
    assert {line["model"] for line in lines} == {"small 2"}


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", "\x00"])
def test_a_text_that_looks_like_a_formula_is_taken_for_a_text(text):
    assert escape_cell(text) == f"'{text}"
    history = make_history({**ROW, "kind": text})
    assert f"'{text}".encode() in history._export.data


def test_the_same_question_is_kept_once():
    assert len(make_history(ROW, ROW, {**ROW, "amount": 2.0}, ROW).entries) == 3


def test_only_the_last_ones_are_kept_and_keep_their_numbers():
    history = make_history(*({**ROW, "amount": float(i)} for i in range(MOST + 5)))
    assert len(history.entries) == MOST
    assert history.entries[-1].number == MOST + 5


def test_two_entries_are_compared_by_what_differs():
    first, second = make_history(ROW, {**ROW, "amount": 2.0, "kind": None}).entries
    assert differences(first, second) == [
        ("Amount (kg)", "1.5", "2"),
        ("kind", "u · Upper", "not known"),
        ("Answer", "No, yes 40 %", "No, yes 40 %"),
    ]


def test_the_newest_is_compared_with_the_one_before():
    history = make_history(ROW, {**ROW, "amount": 2.0}, {**ROW, "amount": 3.0})
    assert (history._first.value, history._second.value) == (2, 3)


def test_nothing_is_left_after_clearing():
    history = make_history(ROW)
    history.clear()
    assert history._export.data == b""
    assert history.entries == []


def test_a_number_is_kept_with_where_it_lies_between():
    first, second = make_history(ROW, {**ROW, "amount": 2.0}, task="regression").entries
    assert differences(first, second)[-1] == ("Answer", *["12.5 kg, 8 kg to 17 kg"] * 2)
    assert first.title.endswith(" · 12.5 kg")

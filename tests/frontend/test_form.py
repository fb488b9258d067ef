import pytest
from hypothesis import given
from hypothesis import strategies as st
from models import COLUMNS, ROW, make_model, model_tree

from mlops_core.frontend import form
from mlops_core.frontend.facts import Column, read_model

AMOUNT, COUNT, KIND, GATE = make_model().columns[1:5]


def make_form(model=None):
    calls = []
    return form.Form(model or make_model(), lambda: calls.append(1)), calls


def test_the_form_starts_with_the_example_and_gives_it_back():
    made, _ = make_form()
    assert made.read() == ROW


@pytest.mark.parametrize(
    ("column", "text", "value", "problem", "mark"),
    [
        (AMOUNT, "", None, "", ""),
        (AMOUNT, " 2.5 ", 2.5, "", ""),
        (AMOUNT, "−2.5", -2.5, "", ""),
        (AMOUNT, "1,5", None, "is not a number", ""),
        (AMOUNT, "nan", None, "is not a number", ""),
        (AMOUNT, "inf", None, "is not a number", ""),
        (AMOUNT, "101", None, "must lie between -100 and 100", ""),
        (AMOUNT, "80", 80.0, "", "only seen -50 to 60"),
        (COUNT, "", None, "is needed", ""),
        (COUNT, "2.5", None, "must be a whole number", ""),
        (COUNT, "3", 3, "", ""),
    ],
)
def test_a_typed_number_is_taken_marked_or_refused(column, text, value, problem, mark):
    reading = form.read_number(column, text)
    assert reading.value == value
    assert problem in reading.problem
    assert bool(problem) == bool(reading.problem)
    assert mark in reading.mark
    assert bool(mark) == bool(reading.mark)


@pytest.mark.parametrize(
    ("column", "text", "value", "problem", "mark"),
    [
        (KIND, "u", "u", "", ""),
        (KIND, "U", "u", "", ""),
        (KIND, "u · Upper", "u", "", ""),
        (KIND, "valley", "v", "", ""),
        (KIND, "val", None, "type on", ""),
        (KIND, "", None, "", ""),
        (KIND, "zebra", "zebra", "", "never seen"),
        (GATE, "", None, "is needed", ""),
        (GATE, "C", None, "not one of the choices", ""),
    ],
)
def test_a_typed_category_is_found_by_code_or_name(column, text, value, problem, mark):
    reading = form.read_category(column, text)
    assert reading.value == value
    assert problem in reading.problem
    assert bool(problem) == bool(reading.problem)
    assert bool(mark) == bool(reading.mark)


@given(st.floats(-100, 100))
def test_a_number_put_into_a_field_comes_out_as_it_was(value):
    field = form.build_field(AMOUNT)
    field.set(value)
    assert field.read().value == pytest.approx(value, rel=1e-9, abs=1e-300)


def test_slider_and_text_move_each_other():
    field = form.build_field(AMOUNT)
    field.slider.value = 20
    assert field.read().value == 20
    field.control.value = "-30"
    assert field.slider.value == -30
    field.control.value = ""
    assert (field.read().value, field.slider.value) == (None, -30)


def test_a_value_beyond_the_slider_stays_what_was_typed():
    field = form.build_field(AMOUNT)
    field.control.value = "99"
    assert field.read().value == 99
    assert field.slider.value == field.slider.max


@given(st.floats(-100, 100))
def test_a_browser_that_rounds_the_slider_to_its_step_changes_nothing(value):
    field = form.build_field(AMOUNT)
    field.set(value)
    typed, slider = field.control.value, field.slider
    sent_back = round((slider.value - slider.min) / slider.step) * slider.step + slider.min
    slider.value = min(slider.max, sent_back)
    assert field.control.value == typed


def test_every_change_is_told_once():
    made, calls = make_form()
    made.fields["amount"].control.value = "7"
    assert len(calls) == 1
    made.fields["amount"].slider.value = 12
    assert len(calls) == 2


@pytest.mark.parametrize("name", [column["name"] for column in COLUMNS if not column["required"]])
def test_what_may_be_missing_can_be_made_unknown(name):
    made, _ = make_form()
    made.fields[name].set(None)
    assert made.read() == {**ROW, name: None}


def test_a_wrong_field_says_so_and_there_is_no_row():
    made, _ = make_form()
    made.fields["count"].control.value = "many"
    assert made.read() is None
    assert "is not a number" in made.fields["count"].view.children[-1].value


def test_what_the_service_says_of_a_field_stands_under_it_and_is_escaped():
    made, _ = make_form()
    assert made.read({"kind": "must not be <b>"}) is None
    assert "must not be &lt;b&gt;" in made.fields["kind"].view.children[-1].value


def test_many_columns_show_what_must_be_given_and_what_counts_first():
    columns = [Column(f"c{i}", "number", required=i in (3, 18)).__dict__ for i in range(20)]
    importance = {f"c{i}": float(i) for i in range(20)}
    model = read_model(model_tree(columns=columns, importance=importance, example={}))
    main, more = form.split_columns(model)
    assert len(main) == form.MAIN_FIELDS
    assert {"c3", "c18", "c19", "c17"} <= {column.name for column in main}
    assert [column.name for column in main] == sorted((column.name for column in main), key=lambda name: int(name[1:]))
    assert len(main) + len(more) == 20


def test_a_problem_in_a_hidden_field_opens_the_details():
    columns = [Column(f"c{i}", "number", required=False).__dict__ for i in range(20)]
    made, _ = make_form(read_model(model_tree(columns=columns, importance={"c0": 1.0}, example={})))
    hidden = made._hidden[-1]
    assert "mlops-hidden" in made._rest._dom_classes
    made.fields[hidden].control.value = "x"
    assert made.read() is None
    assert "mlops-hidden" not in made._rest._dom_classes


@pytest.mark.parametrize(("span", "step"), [(1.0, 0.01), (110, 2), (3.3e6, 50_000), (0.04, 0.0005)])
def test_a_slider_has_about_a_hundred_round_steps(span, step):
    assert form.nice_step(span) == pytest.approx(step)

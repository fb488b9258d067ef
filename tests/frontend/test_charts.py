import copy

import plotly.graph_objects as go
import pytest
from models import CLASSES, ROW, make_answer, make_model

from mlops_core.frontend import charts
from mlops_core.frontend.probes import build_probe

TASKS = ("binary", "multiclass", "regression")


def check(chart):
    """Plotly's own validator takes it, and a sentence and a table say the same."""
    go.Figure({"data": chart.data, "layout": chart.layout})
    assert chart.alt.endswith(".")
    assert chart.rows
    assert {len(row) for row in chart.rows} == {len(chart.head)}
    return chart


@pytest.mark.parametrize("task", TASKS)
def test_every_answer_has_a_chart_that_plotly_accepts(task):
    chart = check(charts.answer_chart(make_model(task), make_answer(task)))
    assert len(chart.rows) == (len(CLASSES[task]) or 3)


def test_the_gauge_stands_at_the_probability_of_the_last_class_and_marks_the_threshold():
    (trace,) = charts.answer_chart(make_model(), make_answer()).data
    assert trace["value"] == 40
    assert trace["gauge"]["threshold"]["value"] == pytest.approx(30)


def test_classes_that_cannot_be_ruled_out_stand_out():
    answer = make_answer("multiclass", prediction_set=["low", "high"])
    (trace,) = charts.answer_chart(make_model("multiclass"), answer).data
    colours = dict(zip(trace["y"], trace["marker"]["color"], strict=True))
    assert colours["low"] == colours["high"] != colours["middle"]


def test_the_interval_reaches_as_far_as_the_answer_says():
    (trace,) = charts.answer_chart(make_model("regression"), make_answer("regression")).data
    assert (trace["error_x"]["array"], trace["error_x"]["arrayminus"]) == ([4.5], [4.5])


@pytest.mark.parametrize("task", TASKS)
def test_the_bars_of_the_reasons_add_up_to_all_contributions(task, monkeypatch):
    monkeypatch.setattr(charts, "SHOWN_REASONS", 3)
    answer = make_answer(task)
    (trace,) = check(charts.reasons_chart(make_model(task), ROW, answer)).data
    scale = 1 if task == "regression" else 100
    assert len(trace["x"]) == 4
    assert sum(trace["x"]) == pytest.approx(scale * sum(answer["contributions"].values()))


def test_the_strongest_reason_stands_on_top_with_its_value():
    (trace,) = charts.reasons_chart(make_model(), ROW, make_answer()).data
    assert trace["y"][-1] == "Amount: 1.5 kg  <b>−20.0</b>"


def test_a_category_cannot_bring_markup_into_a_chart():
    row = {**ROW, "kind": "<a href='https://evil.example'>x</a>"}
    (trace,) = charts.reasons_chart(make_model(), row, make_answer()).data
    assert not [label for label in trace["y"] if "<a" in label]


@pytest.mark.parametrize("name", ["at", "amount", "count", "kind", "open"])
@pytest.mark.parametrize("task", TASKS)
def test_what_if_shows_an_answer_for_every_value_and_where_we_are(task, name):
    model = make_model(task)
    probe = build_probe(next(column for column in model.columns if column.name == name), ROW)
    answers = [copy.deepcopy(make_answer(task)) for _ in probe.values]
    label = charts.explained_class(model, answers[0])
    chart = check(charts.whatif_chart(model, probe, answers, label))
    assert len(chart.rows) == len(probe.values)
    if name in ("at", "amount", "count"):
        now = chart.data[-1]
        assert now["x"] == [probe.shown[probe.current]]


def test_the_class_that_is_explained_is_the_last_of_two_and_the_likeliest_of_more():
    assert charts.explained_class(make_model(), make_answer()) == "yes"
    assert charts.explained_class(make_model("multiclass"), make_answer("multiclass")) == "low"
    assert charts.explained_class(make_model("regression"), make_answer("regression")) == ""


def test_importance_and_reliability_are_charts_with_numbers():
    check(charts.importance_chart(make_model()))
    points = [{"stated": 0.1, "observed": 0.15, "rows": 300}, {"stated": 0.6, "observed": 0.5, "rows": 200}]
    chart = check(charts.reliability_chart(points))
    assert "10 points" in chart.alt

import dataclasses

import numpy as np
import pytest
from tables import make_schema

from mlops_core.serve.answers import answer_columns, probability_columns
from mlops_core.serve.bundle import Constants
from mlops_core.serve.predictor import Predictor


def make(task, classes=None, **constants):
    schema = make_schema(task)
    return Predictor(dataclasses.replace(schema, classes=classes or schema.classes), Constants(**constants), "", None)


@pytest.mark.parametrize(
    ("label", "column"),
    [
        ("on time", "probability_on_time"),
        ("late", "probability_late"),
        ("ja!", "probability_ja"),
        ("é", "probability_é"),
        ("+", "probability_class"),
        ("", "probability_class"),
    ],
)
def test_a_class_names_its_column(label, column):
    assert probability_columns([label]) == [column]


@pytest.mark.parametrize(
    "labels", [["<=50K", ">50K"], ["+", "-", ""], ["a b", "a_b", "c"], ["a_b_1", "a b", "a-b"], ["x y", "x-y", "x_y_0"]]
)
def test_no_two_classes_share_a_column(labels):
    columns = probability_columns(labels)
    assert len(set(columns)) == len(labels)


def test_no_value_and_no_end_of_its_interval_leaves_the_range_of_the_target():
    free = make("regression", conformal=2.0)
    bound = Predictor(dataclasses.replace(free.schema, target_range=[0.0, 9.0]), free.constants, "", None)
    values = np.array([1.0, 4.0, 8.5])
    assert [part.tolist() for part in free.interval(values)] == [[-1.0, 2.0, 6.5], [3.0, 6.0, 10.5]]
    found = answer_columns(bound, values)
    assert (found["low"].tolist(), found["high"].tolist()) == ([0.0, 2.0, 6.5], [3.0, 6.0, 9.0])


def test_an_answer_has_a_label_its_confidence_its_set_and_all_probabilities():
    columns = answer_columns(make("binary", threshold=0.25, conformal=0.8), np.array([[0.7, 0.3], [0.9, 0.1]]))
    assert {name: list(values) for name, values in columns.items()} == {
        "label": ["yes", "no"],
        "confidence": [0.3, 0.9],
        "prediction_set": ["no | yes", "no"],
        "probability_no": [0.7, 0.9],
        "probability_yes": [0.3, 0.1],
    }


def test_a_value_has_its_interval():
    columns = answer_columns(make("regression", conformal=2.5), np.array([10.0, -1.0]))
    assert {name: values.tolist() for name, values in columns.items()} == {
        "value": [10, -1],
        "low": [7.5, -3.5],
        "high": [12.5, 1.5],
    }


@pytest.mark.parametrize("count", [2, 3, 61, 62, 63, 70])
def test_sets_of_many_classes_name_the_right_ones(count):
    classes = [f"c{i}" for i in range(count)]
    predictor = make("multiclass", classes, conformal=0.9)
    answer = np.random.default_rng(0).dirichlet(np.full(count, 0.1), 50)
    found = answer_columns(predictor, answer)["prediction_set"]
    for row, sets in zip(found, predictor.prediction_sets(answer), strict=True):
        assert row.split(" | ") == [name for name, inside in zip(classes, sets, strict=True) if inside]


def test_every_class_keeps_its_probability_where_names_collide():
    columns = answer_columns(make("binary", ["<=50K", ">50K"], threshold=0.5), np.array([[0.7, 0.3]]))
    assert [float(values[0]) for name, values in columns.items() if name.startswith("probability")] == [0.7, 0.3]

import json

import pandas as pd
import pytest
from tables import TASKS, dataset_tree, make_evaluation, make_spec, make_table

from mlops_core.train.evaluation_record import build_record

KEYS = [
    "metric",
    "rows",
    "first_day",
    "last_day",
    "scores",
    "coverage",
    "reliability",
    "slices",
    "limits",
    "card",
]
METRICS = {"test": {"log_loss": 0.5}, "baselines": {}, "stated_coverage": 0.9, "coverage": 0.8}
NO_CURVE = pd.DataFrame(columns=["stated", "observed", "rows"])


def slices_of(*rows):
    return pd.DataFrame([{"slice": "kind", "value": str(count), "rows": count, "log_loss": 0.5} for count in rows])


def record_of(spec, test, slices):
    return build_record(spec, test, METRICS, NO_CURVE, slices, "")


@pytest.mark.parametrize("task", TASKS)
def test_a_record_is_plain_json_with_the_score_of_its_task(task):
    record = make_evaluation(task)
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert list(record) == KEYS
    metric = "rmse" if task == "regression" else "log_loss"
    assert record["metric"] == metric
    for scores in record["scores"].values():
        assert {metric, f"{metric}_low", f"{metric}_high"} <= set(scores)
    assert list(record["scores"]) == ["this model", "base rate"]
    assert record["coverage"] == {"stated": 0.9, "observed": 0.91}


@pytest.mark.parametrize("task", TASKS)
def test_only_probabilities_have_a_reliability_and_its_rows_are_all_rows(task):
    record = make_evaluation(task)
    counted = sum(point["rows"] for point in record["reliability"])
    assert counted == (0 if task == "regression" else record["rows"])
    assert all(list(point) == ["stated", "observed", "rows"] for point in record["reliability"])


def test_a_slice_says_of_which_column_and_value_it_is():
    first = make_evaluation()["slices"][0]
    assert list(first) == ["slice", "value", "rows", "score"]
    assert (first["slice"], first["value"]) in {("gate", "A"), ("gate", "B")}


@pytest.mark.parametrize(
    ("rows", "kept"), [(5000, [200, 201]), (2000, [200, 201]), (1000, [100, 199, 200, 201]), (15, [2, 99, 100])]
)
def test_slices_with_too_few_rows_are_left_out(rows, kept):
    sizes = [1, 2, 99, 100] if rows < 100 else [99, 100, 199, 200, 201]
    record = record_of(make_spec(), make_table(rows=rows), slices_of(*sizes))
    assert [line["rows"] for line in record["slices"]] == kept


def test_the_days_are_those_of_the_first_and_the_last_row():
    table = make_table(rows=50)
    table.loc[[0, 49], "at"] = [pd.Timestamp("2013-01-01 23:59"), pd.Timestamp("2014-02-03 00:00")]
    record = record_of(make_spec(), table[::-1], slices_of(50))
    assert (record["first_day"], record["last_day"]) == ("2013-01-01", "2014-02-03")


def test_rows_without_a_time_have_no_days():
    columns = {name: column for name, column in dataset_tree()["columns"].items() if name != "at"}
    record = record_of(make_spec(columns=columns), make_table(rows=50), slices_of(50))
    assert (record["first_day"], record["last_day"]) == (None, None)


def test_limits_come_from_the_dataset_file():
    record = record_of(make_spec(limits=["It is made up."]), make_table(rows=50), slices_of(50))
    assert record["limits"] == ["It is made up."]

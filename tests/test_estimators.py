from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from tables import TASKS, fit, make_spec, make_table
from threadpoolctl import threadpool_info, threadpool_limits

from mlops_core import estimators
from mlops_core.estimators import FEW_CELLS, build_estimator, describe_model, fit_estimator
from mlops_core.features import Column
from mlops_core.preprocess import build_schema, encode_table, encode_target
from mlops_core.train.export import check_parity, export_onnx, graph_answer, parity_differences, raw_answer

FAMILIES = ("logistic", "boosting")  # `constant` is a baseline, never exported


def strange_rows(task):
    """Rows with gaps, an unseen category, and numbers beyond those of training."""
    table = make_table(task, rows=120, seed=9)
    table.loc[:20, "kind"] = "never seen"
    table.loc[10:30, ["amount", "kind"]] = [np.nan, None]
    table.loc[31:40, "amount"] = 99.0
    return table


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_exported_graph_answers_as_the_model_does(family, task):
    schema, model, _ = fit(task, family)
    matrix = encode_table(schema, strange_rows(task))
    expected = raw_answer(model, matrix)
    assert np.isfinite(expected).all()
    found = graph_answer(export_onnx(model, len(schema.inputs)), matrix)
    check_parity(parity_differences(expected, found), 1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("mean", "spread"), [(0, 1e-6), (1013, 0.5), (1e9, 3)])
def test_a_number_that_varies_little_for_its_size_is_exported_as_it_is(family, mean, spread):
    schema, _, table = fit("regression", family)
    matrix, target = encode_table(schema, table), encode_target(schema, table)
    target = mean + spread * (target - target.mean()) / target.std()
    model = build_estimator(family, schema, {}, 0).fit(matrix, target)
    found = graph_answer(export_onnx(model, len(schema.inputs)), matrix)
    check_parity(parity_differences(raw_answer(model, matrix), found), 1e-5)
    assert np.corrcoef(found.ravel(), target)[0, 1] > 0.5


@pytest.mark.parametrize("task", TASKS)
def test_the_constant_is_the_base_rate_or_the_mean(task):
    schema, model, table = fit(task, "constant")
    answer = raw_answer(model, encode_table(schema, table))
    target = encode_target(schema, table)
    expected = target.mean() if task == "regression" else np.bincount(target) / len(target)
    np.testing.assert_allclose(answer, np.broadcast_to(expected, answer.shape))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_beats_the_constant_on_other_rows(family, task):
    from mlops_core.evaluation import metric_of, score

    other = make_table(task, rows=400, seed=5)
    losses = {}
    for name in (family, "constant"):
        schema, model, _ = fit(task, name)
        answer = raw_answer(model, encode_table(schema, other))
        losses[name] = score(task, encode_target(schema, other), answer)[metric_of(task)]
    assert losses[family] < losses["constant"]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_seed_gives_the_same_model(family):
    schema, first, table = fit("binary", family)
    again = fit("binary", family)[1]
    matrix = encode_table(schema, table)
    np.testing.assert_array_equal(raw_answer(first, matrix), raw_answer(again, matrix))


@pytest.mark.parametrize("columns", [["amount"], ["kind"]])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_table_of_only_numbers_or_only_categories_will_do(family, columns):
    table = make_table()
    full = build_schema(make_spec(), table)
    kept: list[Column] = [column for column in full.columns if column.name in columns]
    schema = replace(full, columns=kept)
    matrix = encode_table(schema, table)
    model = build_estimator(family, schema, {}, 1).fit(matrix, encode_target(schema, table))
    found = graph_answer(export_onnx(model, len(schema.inputs)), matrix)
    check_parity(parity_differences(raw_answer(model, matrix), found), 1e-5)


def test_a_column_without_a_single_value_does_not_stop_a_linear_fit():
    full = make_table()
    schema = build_schema(make_spec(), full)
    table = full.assign(amount=np.nan, kind=pd.Series([None] * 400, dtype="str"))  # as a fold may be
    matrix = encode_table(schema, table)
    model = build_estimator("logistic", schema, {}, 1).fit(matrix, encode_target(schema, table))
    found = graph_answer(export_onnx(model, len(schema.inputs)), matrix)
    check_parity(parity_differences(raw_answer(model, matrix), found), 1e-5)


@pytest.mark.parametrize(("cells", "threads"), [(FEW_CELLS - 1, 1), (FEW_CELLS, 3)])
def test_few_cells_are_fitted_by_one_thread_and_many_by_all(monkeypatch, cells, threads):
    seen = []

    class Noting:
        def fit(self, *_):
            seen.extend(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "openmp")
            return self

    monkeypatch.setattr(estimators, "build_estimator", lambda *_: Noting())
    with threadpool_limits(3, "openmp"):
        fit_estimator("boosting", None, {}, 0, np.zeros((cells, 1), dtype="float32"), np.zeros(cells))
        assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "openmp"} == {3}
    assert set(seen) == {threads}


@pytest.mark.parametrize("strength", [0.1, 2.5])
def test_a_number_s_linear_model_is_described_as_the_ridge_it_is(strength):
    name, settings = describe_model("logistic", "regression", {"C": strength})
    model = build_estimator(
        "logistic", build_schema(make_spec("regression"), make_table("regression")), {"C": strength}, 1
    )
    assert name == "ridge regression"
    assert settings == {"alpha": model.regressor.named_steps["ridge"].alpha}


@pytest.mark.parametrize("task", TASKS)
def test_a_description_keeps_the_settings_of_other_models(task):
    assert describe_model("boosting", task, {"max_iter": 60}) == ("gradient boosting", {"max_iter": 60})

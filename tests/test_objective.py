import pandas as pd
import pytest
from tables import make_params, make_spec, make_table

from mlops_core.preprocess import FEW_TO_CALIBRATE, read_fitted
from mlops_core.tune.objective import count_folds, folds_table


def write_splits(folder, train, calibrate):
    for name, rows, start in (("train", train, 0), ("calibrate", calibrate, train)):
        pd.DataFrame({"row": range(start, start + rows)}).to_parquet(folder / f"{name}.parquet", index=False)


@pytest.mark.parametrize(("calibrate", "fitted"), [(FEW_TO_CALIBRATE - 1, 4999), (FEW_TO_CALIBRATE, 4000)])
def test_a_small_table_is_fitted_to_the_rows_that_calibrate_too(tmp_path, calibrate, fitted):
    write_splits(tmp_path, 4000, calibrate)
    assert read_fitted(tmp_path)["row"].tolist() == list(range(fitted))


def without_time(spec):
    at = spec.columns["at"].model_copy(update={"role": "ignore"})
    return spec.model_copy(update={"columns": {**spec.columns, "at": at}})


def test_few_rows_are_validated_on_five_folds_at_least_unless_time_orders_them():
    params, timed, untimed = make_params(), make_spec("binary"), without_time(make_spec("binary"))
    assert (timed.time, untimed.time) == ("at", None)
    assert params.tune.folds < 5
    assert count_folds(params, untimed, 300) == 5
    assert count_folds(params, untimed, 50_000) == params.tune.folds
    assert count_folds(params, timed, 300) == params.tune.folds


@pytest.mark.parametrize(
    ("task", "told"), [("binary", "share yes"), ("multiclass", "share high"), ("regression", "mean outcome")]
)
def test_the_table_of_folds_says_what_the_target_is_like(task, told):
    spec, table = make_spec(task), make_table(task)
    rows = ["rows fitted", "rows validated"]
    timed, untimed = (folds_table(make_params(), table, item) for item in (spec, without_time(spec)))
    assert list(timed) == [*rows, "fit until", "validate until", told]
    assert list(untimed) == [*rows, told]
    assert (timed["fit until"] < timed["validate until"]).all()
    assert untimed["rows validated"].sum() == len(table)
    assert timed[told].abs().min() > 0

import pandas as pd
import pytest
from tables import make_params, make_spec

from mlops_core.preprocess import FEW_TO_CALIBRATE, read_fitted
from mlops_core.tune.objective import count_folds


def write_splits(folder, train, calibrate):
    for name, rows, start in (("train", train, 0), ("calibrate", calibrate, train)):
        pd.DataFrame({"row": range(start, start + rows)}).to_parquet(folder / f"{name}.parquet", index=False)


@pytest.mark.parametrize(("calibrate", "fitted"), [(FEW_TO_CALIBRATE - 1, 4999), (FEW_TO_CALIBRATE, 4000)])
def test_a_small_table_is_fitted_to_the_rows_that_calibrate_too(tmp_path, calibrate, fitted):
    write_splits(tmp_path, 4000, calibrate)
    assert read_fitted(tmp_path)["row"].tolist() == list(range(fitted))


def test_few_rows_are_validated_on_five_folds_at_least_unless_time_orders_them():
    params, timed = make_params(), make_spec("binary")
    at = timed.columns["at"].model_copy(update={"role": "ignore"})
    untimed = timed.model_copy(update={"columns": {**timed.columns, "at": at}})
    assert (timed.time, untimed.time) == ("at", None)
    assert params.tune.folds < 5
    assert count_folds(params, untimed, 300) == 5
    assert count_folds(params, untimed, 50_000) == params.tune.folds
    assert count_folds(params, timed, 300) == params.tune.folds

import pandas as pd
import pytest

from mlops_core.track import WRONG_WAY, flattery

NAMES = ["default boosting", WRONG_WAY]


def scores(**columns):
    return pd.DataFrame(columns, index=NAMES)


@pytest.mark.parametrize(
    ("task", "values", "said"),
    [
        (
            "binary",
            {"log_loss": [0.5, 0.4], "roc_auc": [0.68, 0.8]},
            "Here it looks better: roc auc 0.8000 instead of 0.6800",
        ),
        ("binary", {"log_loss": [0.4, 0.5], "roc_auc": [0.68, 0.8]}, "Here it looks better"),
        ("multiclass", {"log_loss": [0.5, 0.4], "roc_auc": [0.7, 0.7]}, "Here it looks no better"),
        (
            "regression",
            {"rmse": [3.66, 3.94], "r2": [0.5, 0.45]},
            "Here it looks no better: r2 0.4500 instead of 0.5000",
        ),
        ("regression", {"rmse": [3.66, 3.94], "r2": [0.5, 0.55]}, "Here it looks better: r2"),
    ],
)
def test_the_numbers_say_whether_a_random_split_flatters(task, values, said):
    assert flattery(scores(**values), task).startswith(said)


def test_rows_without_a_time_have_no_random_split_to_speak_of():
    assert flattery(scores(rmse=[1.0, 1.0]).drop(index=WRONG_WAY), "regression").startswith("This table has no time")

import math

import pandas as pd
import pytest

from mlops_core.paths import Paths
from mlops_core.reports import read_metrics, write_csv, write_json, write_metrics, write_text


def test_metrics_come_back_to_the_last_bit(tmp_path):
    paths, metrics = Paths(tmp_path, "small"), {"test": {"log_loss": 0.1 + 0.2, "note": "é"}, "rows": 3}
    write_metrics(paths, "train", metrics)
    assert read_metrics(paths, "train") == metrics
    assert (tmp_path / "reports/metrics/train.json").is_file()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_is_never_written(tmp_path, value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "m.json", {"loss": value})
    assert not (tmp_path / "m.json").exists()


def test_keys_stay_in_the_order_of_the_writer(tmp_path):
    write_json(tmp_path / "m.json", {"b": 1, "a": 2})
    assert (tmp_path / "m.json").read_text(encoding="utf-8") == '{\n "b": 1,\n "a": 2\n}\n'


def test_texts_are_readable_in_the_file(tmp_path):
    write_json(tmp_path / "m.json", {"unit": "°F"})
    assert "°F" in (tmp_path / "m.json").read_text(encoding="utf-8")


def test_a_table_is_written_without_its_index(tmp_path):
    write_csv(tmp_path / "plots/t.csv", pd.DataFrame({"a": [1], "b": ["x"]}, index=[7]))
    assert (tmp_path / "plots/t.csv").read_text(encoding="utf-8") == "a,b\n1,x\n"


def test_folders_are_made_on_the_way_and_old_text_is_replaced(tmp_path):
    for text in ("long and old", "new"):
        write_text(tmp_path / "a/b/t.txt", text)
    assert (tmp_path / "a/b/t.txt").read_text(encoding="utf-8") == "new"

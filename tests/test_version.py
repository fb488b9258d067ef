import pandas as pd
import pytest

from mlops_core.version import change_table, open_sandbox

TABLES = {
    "numbers": pd.DataFrame({"kind": ["u", "v", "w"], "count": [1, 2, 3]}),
    "texts": pd.DataFrame({"kind": ["u", "v", "w"], "colour": ["red", "blue", "red"]}),
    "dates": pd.DataFrame({"at": pd.to_datetime(["2013-01-01", "2013-01-02", "2013-01-03"])}),
    "booleans": pd.DataFrame({"open": [True, False, True]}),
}


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_of_any_kind_can_be_changed(tmp_path, kind):
    TABLES[kind].to_parquet(tmp_path / "t.parquet", index=False)
    change_table(tmp_path / "t.parquet", rows=2, seed=1)
    changed = pd.read_parquet(tmp_path / "t.parquet")
    assert changed.isna().sum().sum() == 2
    assert changed.iloc[:, -1].isna().sum() == 2


def test_what_dvc_says_in_a_kernel_has_no_control_characters(tmp_path, monkeypatch):
    for name in ("FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE"):  # as ipykernel does
        monkeypatch.setenv(name, "1")
    TABLES["numbers"].to_parquet(tmp_path / "t.parquet", index=False)
    sandbox = open_sandbox(tmp_path)
    try:
        said = sandbox.run("dvc add tables")
    finally:
        sandbox.close()
    assert [character for character in said if not character.isprintable() and character not in "\n\t"] == []

"""`mlops score` gives what the registered model gives, to CSV and Parquet, and keeps bad rows apart."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from project import Project, no_traceback

REFERENCE = """
import sys, mlflow, pandas as pd
model = mlflow.pyfunc.load_model(sys.argv[1])
frame = pd.read_parquet(sys.argv[2])
model.predict(frame).to_parquet(sys.argv[3])
"""
TEST = "data/processed/flights/test.parquet"


@pytest.fixture(scope="module")
def rows(finished) -> pd.DataFrame:
    return pd.read_parquet(finished[0].path(TEST))


@pytest.fixture(scope="module")
def reference(used: Project, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """The test rows by plain MLflow."""
    folder = tmp_path_factory.mktemp("reference")
    (folder / "reference.py").write_text(REFERENCE)
    done = used.run(
        sys.executable,
        str(folder / "reference.py"),
        "models:/flights@champion",
        str(used.path(TEST)),
        str(folder / "out.parquet"),
        MLFLOW_TRACKING_URI=f"sqlite:///{used.path('mlflow.db')}",
    )
    assert done.code == 0, done
    return pd.read_parquet(folder / "out.parquet")


def probability(frame: pd.DataFrame) -> np.ndarray:
    """The probability of being late, whatever the column is called."""
    (name,) = [name for name in frame.columns if name.startswith("prob") and name.endswith("late")]
    return frame[name].to_numpy()


@pytest.fixture(scope="module")
def scored(used: Project, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    target = tmp_path_factory.mktemp("scored") / "out.parquet"
    done = used.mlops("score", str(used.path(TEST)), str(target))
    assert done.code == 0, done
    assert "version 1" in done.out
    assert [path.name for path in target.parent.iterdir()] == ["out.parquet"]
    return pd.read_parquet(target)


def test_every_row_gets_what_the_registered_model_gives(
    scored: pd.DataFrame, reference: pd.DataFrame, rows: pd.DataFrame
) -> None:
    assert len(scored) == len(reference) == len(rows)
    assert np.abs(probability(scored) - probability(reference)).max() <= 1e-5
    assert list(scored["flight_id"]) == list(rows["flight_id"])


def test_the_scores_are_those_of_the_reports(scored: pd.DataFrame, finished) -> None:
    reported = pd.read_parquet(finished[0].path("reports/test_predictions.parquet"))
    assert np.abs(probability(scored) - probability(reported)).max() <= 1e-9


def test_a_csv_gets_the_same_answers_as_a_parquet_file(
    used: Project, scored: pd.DataFrame, rows: pd.DataFrame, tmp_path: Path
) -> None:
    rows.to_csv(tmp_path / "in.csv", index=False)
    done = used.mlops("score", str(tmp_path / "in.csv"), str(tmp_path / "out.csv"))
    assert done.code == 0, done
    answers = pd.read_csv(tmp_path / "out.csv")
    assert len(answers) == len(rows)
    assert np.abs(probability(answers) - probability(scored)).max() <= 1e-6


def test_bad_rows_are_kept_apart_with_their_reason(
    used: Project, scored: pd.DataFrame, rows: pd.DataFrame, tmp_path: Path
) -> None:
    bad = rows.head(100).astype({"distance": object, "origin": object})
    bad.loc[bad.index[3], "distance"] = "far"
    bad.loc[bad.index[7], "origin"] = "SFO"
    bad.loc[bad.index[9], "distance"] = -1
    bad.to_csv(tmp_path / "in.csv", index=False)
    done = used.mlops("score", str(tmp_path / "in.csv"), str(tmp_path / "out.csv"))
    assert done.code == 0, done
    assert "3 bad rows" in done.out
    answers = pd.read_csv(tmp_path / "out.csv")
    rejected = pd.read_csv(tmp_path / "out.rejected.csv")
    assert len(answers) == 97
    assert list(rejected["flight_id"]) == [bad["flight_id"].iloc[i] for i in (3, 7, 9)]
    for reason, column in zip(rejected["reason"], ("distance", "origin", "distance"), strict=True):
        assert column in reason
    kept = np.delete(probability(scored)[:100], [3, 7, 9])
    assert np.abs(probability(answers) - kept).max() <= 1e-6


@pytest.mark.parametrize(
    ("data", "says"),
    [
        pytest.param(b"", "in.csv", id="empty"),
        pytest.param("origin\nZürich\n".encode("latin1"), "in.csv", id="not UTF-8"),
        pytest.param(b"a,b\n1,2\n1,2,3\n", "in.csv", id="a longer row"),
        pytest.param(b"a,a\n1,2\n", "twice", id="a column twice"),
        pytest.param(None, "no such file", id="missing"),
    ],
)
def test_a_file_that_cannot_be_scored_is_refused_in_one_line(
    used: Project, tmp_path: Path, data: bytes | None, says: str
) -> None:
    if data is not None:
        (tmp_path / "in.csv").write_bytes(data)
    refuses(used, tmp_path, says)


def test_a_table_without_a_needed_column_is_refused(used: Project, rows: pd.DataFrame, tmp_path: Path) -> None:
    rows.head(20).drop(columns="origin").to_csv(tmp_path / "in.csv", index=False)
    refuses(used, tmp_path, "origin")


def test_a_table_without_rows_is_refused(used: Project, rows: pd.DataFrame, tmp_path: Path) -> None:
    rows.head(0).to_csv(tmp_path / "in.csv", index=False)
    refuses(used, tmp_path, "no rows")


def refuses(project: Project, folder: Path, says: str) -> None:
    done = project.mlops("score", str(folder / "in.csv"), str(folder / "out.csv"))
    assert done.code == 2, done
    no_traceback(done.err)
    assert says in done.err
    assert {path.name for path in folder.iterdir()} <= {"in.csv"}


@pytest.mark.parametrize(
    ("model", "code", "says"),
    [
        ("flights", 2, "NAME@ALIAS"),
        ("@champion", 2, "NAME@ALIAS"),
        ("flihgts@champion", 2, "flihgts"),
        ("flights@challenger", 2, "challenger"),
    ],
)
def test_a_model_that_does_not_exist_is_named(used: Project, tmp_path: Path, model: str, code: int, says: str) -> None:
    done = used.mlops("score", str(used.path(TEST)), str(tmp_path / "out.csv"), "--model", model)
    assert done.code == code, done
    no_traceback(done.err)
    assert says in done.err
    assert not (tmp_path / "out.csv").exists()

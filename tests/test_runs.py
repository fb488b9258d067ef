import subprocess
import sys

from tables import TASKS

LOG = """
import sys
from pathlib import Path
import mlflow
from mlops_core.registry.runs import DataRecord, RunRecord, log_run
from mlops_core.registry.store import open_store
from mlops_core.settings import Settings
sys.path.insert(0, "tests")
from tables import fit

root = Path(sys.argv[1])
store = open_store(root, Settings(tracking_uri=f"sqlite:///{root / 'mlflow.db'}"))
for task in sys.argv[2:]:
    _, model, table = fit(task, "boosting")
    whole = table.head().assign(whole=range(5))
    run = log_run(store, "own", RunRecord(task, {}, {}), DataRecord(task, "t.csv", "0" * 36, whole, "outcome"), model)
    (data,) = mlflow.get_run(run).inputs.dataset_inputs
    print(task, data.dataset.name, mlflow.get_run(run).info.run_name)
"""


def test_a_run_of_any_task_is_logged_with_its_model_and_without_a_word_about_whole_numbers(tmp_path):
    for name in ("dvc.yaml", "params.yaml"):
        (tmp_path / name).touch()
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "all.txt").write_text("numpy==2.0.0\n")
    done = subprocess.run(
        [sys.executable, "-c", LOG, str(tmp_path), *TASKS], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if not line.startswith("20")] == [f"{t} {t} {t}" for t in TASKS]
    assert "Inferred schema" not in done.stderr

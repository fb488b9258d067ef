import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from papermill.exceptions import PapermillExecutionError

from mlops_core.pipeline.execute import StageError, _cause, can_go_back

CHECKOUT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("name", "traceback", "said"),
    [
        ("TableError", ["File mlops_core/preprocess.py"], "No rows are left."),
        ("ValueError", ["File mlops_core/preprocess.py"], "ValueError: No rows are left."),
        ("SomeError", ["File site-packages/other.py"], "SomeError: No rows are left."),
    ],
)
def test_our_own_errors_need_no_name_and_all_others_do(name, traceback, said):
    error = PapermillExecutionError(0, 1, "", name, "No rows are left.", traceback)
    assert _cause(error, None) == said


def test_no_stage_compiles_the_grammar_of_iris():
    look = "import sys, mlops_core.pipeline.execute, jsonschema; print('lark' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def record(root: Path, dataset: str, at: str = "flights") -> list[Path]:
    """The project's dvc.yaml `at` a dataset, and a lock and a cache as a run of `dataset` leaves them; the cache."""
    (root / "dvc.yaml").write_bytes((CHECKOUT / "dvc.yaml").read_bytes())
    chosen = re.sub("^dataset: .*", f"dataset: {at}", (CHECKOUT / "params.yaml").read_text(), flags=re.MULTILINE)
    (root / "params.yaml").write_text(chosen)
    stages = yaml.safe_load((root / "dvc.yaml").read_text().replace("${dataset}", dataset))["stages"]
    outs = [(stage, name, f"{place:032x}") for place, stage in enumerate(stages) for name in stages[stage]["outs"]]
    cached = [root / ".dvc/cache/files/md5" / md5[:2] / md5[2:] for _, _, md5 in outs]
    for path in cached:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    lock = {
        stage: {"cmd": "x", "deps": [], "outs": [{"path": name, "md5": md5} for at, name, md5 in outs if at == stage]}
        for stage in stages
    }
    (root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": lock}))
    return cached


def test_there_is_a_way_back_after_a_finished_run(tmp_path):
    record(tmp_path, "flights")
    assert can_go_back(tmp_path)


def test_there_is_no_way_back_to_outputs_that_the_cache_of_this_machine_lacks(tmp_path):
    record(tmp_path, "flights")[-1].unlink()
    assert not can_go_back(tmp_path)


def test_there_is_no_way_back_for_a_dataset_that_never_finished_a_run(tmp_path):
    record(tmp_path, "birds")
    assert not can_go_back(tmp_path)


@pytest.mark.parametrize("name", ["dvc.lock", "params.yaml"])
@pytest.mark.parametrize("text", [None, "", "schema: ["])
def test_a_failure_is_told_whatever_is_wrong_with_the_files(tmp_path, name, text):
    record(tmp_path, "flights")
    (tmp_path / name).unlink() if text is None else (tmp_path / name).write_text(text)
    assert not can_go_back(tmp_path)


@pytest.mark.parametrize("back", [True, False])
def test_the_way_back_is_told_only_where_there_is_one(back):
    said = str(StageError("train", "Fit", "it broke", "reports/a.ipynb", back)).splitlines()
    assert said[:3] == [
        "Stage 'train' failed in the cell 'Fit': it broke",
        "  read   reports/a.ipynb",
        "  again  mlops run",
    ]
    assert said[3:] == ["  back   dvc checkout --force   (the last good outputs)"] * back

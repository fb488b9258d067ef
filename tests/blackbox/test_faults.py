"""What goes wrong in the middle: a cell that raises, a lock file cut short, a second run, a full disk."""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from project import STAGES, Project, at_work_in, copy_project, end_group, no_traceback, stages_run, wait_until

OUTPUTS = ("data/processed", "data/models", "reports/notebooks", "reports/metrics")


def break_notebook(project: Project, stage: str, heading: str, code: str) -> bytes:
    """Puts `code` into the first cell below `heading` and returns the file as it was."""
    path = project.path(f"notebooks/{STAGES[stage]}.ipynb")
    whole = path.read_bytes()
    notebook = json.loads(whole)
    below = next(i for i, cell in enumerate(notebook["cells"]) if f"## {heading}" in "".join(cell["source"]))
    cell = next(cell for cell in notebook["cells"][below:] if cell["cell_type"] == "code")
    cell["source"] = [*code.splitlines(keepends=True), "\n", *cell["source"]]
    path.write_text(json.dumps(notebook), encoding="utf-8")
    return whole


@pytest.fixture(scope="module")
def story(used: Project) -> dict:
    """One tale in order: the run that fails, what it leaves, the way back, the way on."""
    before = used.hashes(*OUTPUTS)
    whole = break_notebook(used, "preprocess", "Split as it will be used", "raise ValueError('the sky is down')")
    done = used.mlops("run")
    return {"project": used, "before": before, "whole": whole, "done": done, "versions": used.versions()}


def test_the_run_ends_with_one_and_names_stage_cell_cause_and_what_to_type(story: dict) -> None:
    done = story["done"]
    assert done.code == 1, done
    no_traceback(done.err, limit=4)
    for words in (
        "'preprocess'",
        "'Split as it will be used'",
        "ValueError",
        "the sky is down",
        "mlops run",
        "dvc checkout --force",
    ):
        assert words in done.lines[0] if words[0] == "'" else words in done.err, done


def test_nothing_after_the_failed_stage_runs(story: dict) -> None:
    assert not set(stages_run(story["done"])) & {"track", "tune", "train", "serve", "deploy", "frontend"}
    assert "Champion" not in story["done"].out


def test_the_notebook_as_far_as_it_came_is_kept(story: dict) -> None:
    kept = story["project"].failed("preprocess")
    assert kept.relative_to(story["project"].root).as_posix() in story["done"].err
    outputs = [output for cell in json.loads(kept.read_text())["cells"] for output in cell.get("outputs", [])]
    assert [output["evalue"] for output in outputs if output["output_type"] == "error"] == ["the sky is down"]
    assert any(output["output_type"] != "error" for output in outputs), "cells before the failed one have outputs"


def test_doctor_points_to_the_notebook_that_was_kept(story: dict) -> None:
    done = story["project"].mlops("doctor")
    assert done.code == 1, done
    assert "02_preprocess.failed.ipynb" in done.out


def test_a_failed_run_leaves_the_registry_alone(story: dict) -> None:
    assert story["project"].versions() == story["versions"]
    assert len(story["versions"]) == 1


def test_the_last_good_outputs_come_back(story: dict) -> None:
    project = story["project"]
    done = project.dvc("checkout", "--force")
    assert done.code == 0, done
    found = project.hashes(*OUTPUTS)
    assert {name: found.get(name) for name in story["before"] if "metrics" not in name} == {
        name: value for name, value in story["before"].items() if "metrics" not in name
    }


def test_after_mending_the_run_completes_and_the_failed_notebook_goes(story: dict) -> None:
    project = story["project"]
    project.path("notebooks/02_preprocess.ipynb").write_bytes(story["whole"])
    done = project.mlops("run")
    assert done.code == 0, done
    assert not project.failed("preprocess").exists()
    assert project.hashes(*OUTPUTS) == story["before"]
    assert project.versions() == story["versions"]


@pytest.fixture
def broken_contract(unrun: Project) -> Project:
    """A project with a dataset of its own that never ran, and of whose rows every third breaks the contract."""
    rows = [f"{i % 7},{'ab'[i % 2]},{'x' if i % 3 == 0 else i}" for i in range(90)]
    unrun.write("months.csv", "\n".join(["visits,ward,weight_kg", *rows]))
    done = unrun.mlops("init", "months.csv", "--target", "ward")
    assert done.code == 0, done
    text = unrun.path("data/datasets/months.yaml").read_text(encoding="utf-8")
    unrun.write("data/datasets/months.yaml", re.sub(r"(weight_kg: ).*", r"\1{type: integer}", text))
    return unrun


def test_too_many_bad_rows_end_the_run_and_lie_where_the_message_says(broken_contract: Project) -> None:
    for _ in range(2):  # what the first run left is not in the way of the second
        done = broken_contract.mlops("run", "--dataset", "months", "--stage", "ingest")
        assert done.code == 1, done
        no_traceback(done.err, limit=4)
        assert "33.3% of the rows" in done.lines[0]
        assert "most often weight_kg: not a valid integer (30 rows)" in done.lines[0]
        (name,) = re.findall(r"data/quarantine/\S+\.parquet", done.lines[0])
        kept = pd.read_parquet(broken_contract.path(name))
        assert kept["weight_kg"].tolist() == ["x"] * 30


def test_a_dataset_that_never_finished_a_run_is_offered_no_way_back(broken_contract: Project) -> None:
    done = broken_contract.mlops("run", "--dataset", "months", "--stage", "ingest")
    no_traceback(done.err, limit=3)
    assert "dvc checkout" not in done.err


def test_a_cell_that_kills_its_kernel_ends_the_run_at_once(untouched: Project) -> None:
    code = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
    break_notebook(untouched, "version", "Make a version", code)
    done = untouched.mlops("run", "--stage", "version", timeout=60)
    assert done.code == 1, done
    no_traceback(done.err, limit=4)
    assert "'version'" in done.err
    assert "'Make a version'" in done.err
    assert "kernel" in done.err.lower()


def test_a_cell_that_takes_too_long_is_ended(untouched: Project) -> None:
    break_notebook(untouched, "version", "Make a version", "import time\ntime.sleep(600)")
    done = untouched.mlops("stage", "version", "--timeout", "10", timeout=120)
    assert done.code == 1, done
    no_traceback(done.err, limit=4)
    assert "'Make a version'" in done.err
    assert untouched.failed("version").is_file()


@pytest.mark.parametrize("cut", ["whole file", "schema", "md5:", "path:"])
def test_a_lock_file_cut_short_is_named_and_nothing_is_lost(untouched: Project, cut: str) -> None:
    text = untouched.path("dvc.lock").read_text()
    untouched.write("dvc.lock", "" if cut == "whole file" else text[: text.rindex(cut, 0, len(text) // 2 + 20) + 2])
    before = untouched.hashes("data", "reports")
    for command in ("run", "verify"):
        done = untouched.mlops(command)
        assert done.code == 1, done
        no_traceback(done.err)
        assert "dvc.lock is damaged" in done.err
        assert "rm -f dvc.lock && mlops run" in done.err
    assert untouched.hashes("data", "reports") == before


def test_a_lost_lock_file_is_written_again(untouched: Project) -> None:
    text = untouched.path("dvc.lock").read_text()
    untouched.path("dvc.lock").unlink()
    assert untouched.mlops("verify").code == 1
    done = untouched.mlops("run")
    assert done.code == 0, done
    assert stages_run(done) == [], "everything comes from the cache of runs"
    assert untouched.path("dvc.lock").read_text() == text


def test_a_registry_that_is_no_database_is_named_and_kept(untouched: Project) -> None:
    untouched.path("mlflow.db").write_bytes(b"not a database" * 100)
    done = untouched.mlops("run")
    assert done.code == 1, done
    no_traceback(done.err, limit=2)
    assert "mlflow.db" in done.err
    assert untouched.path("mlflow.db").read_bytes()[:14] == b"not a database"


def test_a_second_run_is_told_that_one_is_under_way(untouched: Project) -> None:
    break_notebook(untouched, "version", "Make a version", "import time\ntime.sleep(60)")
    first = untouched.start("mlops", "run", "--stage", "version")
    try:
        wait_until(lambda: list(untouched.path(".mlops").glob("progress-*")), 60, "a stage is at work")
        before = untouched.hashes("params.yaml")
        second = untouched.mlops("run", "--set", "train.coverage=0.5", timeout=20)
        assert second.code == 1, second
        no_traceback(second.err)
        assert "under way" in second.err
        assert str(first.pid) in second.err
        assert untouched.hashes("params.yaml") == before, "the refused run changed params.yaml"
        doctor = untouched.mlops("doctor")
        assert "under way" in doctor.out
    finally:
        end_group(first, signal.SIGTERM)
        first.communicate(timeout=20)


def test_a_cell_that_fails_leaves_no_server_behind(untouched: Project) -> None:
    untouched.path("tmp").mkdir()
    break_notebook(untouched, "serve", "Predict", "raise ValueError('the sky is down')")
    done = untouched.mlops("stage", "serve", TMPDIR=str(untouched.path("tmp")))
    assert done.code == 1, done
    assert "'Predict'" in done.lines[0]
    wait_until(lambda: not at_work_in(untouched.root), 10, "nobody is at work")
    assert not list(untouched.path("tmp").glob("mlops-serve-*")), "its folder is left"


@pytest.fixture
def tiny_disk(finished: tuple[Project, object], tmp_path: Path) -> Iterator[Project]:
    """A finished project on a disk of its own with 40 MB to spare."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    size = sum(path.stat().st_size for path in finished[0].root.rglob("*") if path.is_file()) + (40 << 20)
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    try:
        yield copy_project(finished[0], disk / "project")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(project: Project, left: int) -> Path:
    """Uses up the disk but for `left` bytes; returns the file to delete."""
    filler = project.root.parent / "filler"
    free = shutil.disk_usage(project.root).free
    with filler.open("wb") as file:
        for _ in range(max(0, free - left) >> 12):
            file.write(bytes(4096))
    return filler


def test_a_full_disk_ends_in_a_clear_line_and_the_next_run_completes(tiny_disk: Project) -> None:
    command, versions = ("run", "--stage", "train", "--set", "train.coverage=0.8"), tiny_disk.versions()
    for left in (0, 100 << 10, 1 << 20):
        filler = fill(tiny_disk, left)
        done = tiny_disk.mlops(*command)
        assert done.code == 1, done
        no_traceback(done.err, limit=4)
        assert "space" in done.err.lower(), done
        filler.unlink()
        assert "coverage" in tiny_disk.path("params.yaml").read_text(), "params.yaml was cut"
    assert tiny_disk.mlops(*command).code == 0
    assert len(tiny_disk.versions()) == len(versions) + 1
    assert tiny_disk.mlops("verify").code == 0
    assert not [path for path in tiny_disk.root.rglob("*.tmp") if ".dvc" not in path.parts]

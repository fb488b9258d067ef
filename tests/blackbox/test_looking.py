"""`mlops verify` finds what changed behind DVC's back; `mlops doctor` finds what is in the way. Neither mends."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from project import Project, no_traceback, stages_run

LOCK = ".dvc/tmp/rwlock"
DEAD = 2**22 + 1  # no process has this id: it is above the kernel's largest


def flip(path: Path) -> None:
    """Changes one byte and keeps size and times, so that only reading it tells."""
    times, mode = path.stat(), path.stat().st_mode
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    path.chmod(mode)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.fixture
def flipped(used: Project) -> Iterator:
    """Flips a byte for one test."""
    changed: list[Path] = []

    def change(path: Path) -> None:
        flip(path)
        changed.append(path)

    yield change
    for path in changed:
        flip(path)


def names(project: Project, command: str, *words: str) -> None:
    done = project.mlops(command)
    assert done.code == 1, done
    assert done.err.strip() == ""
    lines = [line for line in done.out.splitlines() if words[0] in line]
    assert lines, done
    for word in (*words, "Fix:"):
        assert word in lines[0], done


def test_a_clean_project_verifies(used: Project) -> None:
    done = used.mlops("verify")
    assert done.code == 0, done
    assert "as it was written" in done.out


def test_a_clean_project_is_healthy(used: Project) -> None:
    done = used.mlops("doctor")
    assert done.code == 0, done
    assert "Nothing is wrong." in done.out


@pytest.mark.parametrize(
    "name",
    [
        "data/raw/flights/flights.parquet",
        "data/processed/flights/train.parquet",
        "data/models/flights/bundle/model.onnx",
        "data/quarantine/weather.parquet",
        "reports/test_predictions.parquet",
    ],
)
def test_a_flipped_byte_in_an_output_is_found(used: Project, flipped, name: str) -> None:
    flipped(used.path(name))
    names(used, "verify", name)


def test_a_source_that_was_edited_is_found(used: Project, flipped) -> None:
    flipped(used.path("data/source/nycflights13/airlines.parquet"))
    names(used, "verify", "data/source/nycflights13/airlines.parquet", "is not the declared file", "mlops init again")


def test_a_flipped_byte_in_the_cache_is_found(used: Project, flipped) -> None:
    largest = max(used.path(".dvc/cache/files/md5").glob("??/*"), key=lambda path: path.stat().st_size)
    flipped(largest)
    names(used, "verify", largest.relative_to(used.root).as_posix())


def test_a_flipped_byte_in_the_registered_bundle_is_found(used: Project, flipped) -> None:
    (model,) = used.path("mlartifacts").rglob("bundle/model.onnx")
    flipped(model)
    names(used, "verify", "flights version 1", "model.onnx")


def test_a_champion_that_was_changed_is_not_used_for_scoring(used: Project, flipped, tmp_path: Path) -> None:
    (model,) = used.path("mlartifacts").rglob("bundle/model.onnx")
    flipped(model)
    done = used.mlops("score", "data/processed/flights/test.parquet", str(tmp_path / "out.csv"))
    assert done.code == 1, done
    no_traceback(done.err)
    assert "model.onnx" in done.err
    assert not (tmp_path / "out.csv").exists()


def test_an_output_that_is_gone_is_found(used: Project) -> None:
    card = used.path("reports/model_card.md")
    text = card.read_bytes()
    card.unlink()
    names(used, "verify", "reports/model_card.md", "missing")
    card.write_bytes(text)


@pytest.fixture
def put(used: Project) -> Iterator:
    """Writes a file for one test; afterwards it is as it was, or gone."""
    kept: dict[Path, bytes | None] = {}

    def write(name: str, data: bytes | str) -> None:
        path = used.path(name)
        kept[path] = path.read_bytes() if path.exists() else None
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())

    yield write
    for path, data in kept.items():
        path.unlink(missing_ok=True)
        if data is not None:
            path.write_bytes(data)


def test_a_lock_of_a_dead_process_is_named(used: Project, put) -> None:
    put(LOCK, json.dumps({str(used.path("data/raw")): {"write": {"pid": DEAD, "cmd": "dvc repro"}}}))
    names(used, "doctor", LOCK, str(DEAD), f"rm {LOCK}")


def test_a_lock_of_a_dead_reader_is_named(used: Project, put) -> None:
    put(LOCK, json.dumps({str(used.path("data/raw")): {"read": [{"pid": DEAD, "cmd": "dvc repro"}]}}))
    names(used, "doctor", LOCK, str(DEAD), f"rm {LOCK}")


@pytest.mark.parametrize("text", ["{", "[1]", '{"data": 1}', '{"data": {"write": 1}}', '{"data": {"write": {}}}'])
def test_a_damaged_lock_is_named(used: Project, put, text: str) -> None:
    put(LOCK, text)
    names(used, "doctor", LOCK, "damaged", f"rm {LOCK}")


@pytest.mark.parametrize("name", ["half.tmp", ".half.tmp"])
def test_what_an_interrupted_write_left_in_the_cache_is_named(used: Project, put, name: str) -> None:
    put(f".dvc/cache/files/md5/00/{name}", "half")
    names(used, "doctor", f".dvc/cache/files/md5/00/{name}", "rm ")


def test_an_old_mlflow_store_is_named(used: Project) -> None:
    used.path("mlruns").mkdir()
    try:
        names(used, "doctor", "mlruns/", "mlflow.db")
    finally:
        used.path("mlruns").rmdir()


def test_a_notebook_with_outputs_is_named_and_the_next_run_cleans_it(used: Project, put) -> None:
    path = used.path("notebooks/04_track.ipynb")
    clean = path.read_bytes()
    put("notebooks/04_track.ipynb", used.executed("track").read_bytes())
    names(used, "doctor", "notebooks/04_track.ipynb", "outputs", "mlops run")
    done = used.mlops("run", "--stage", "track")
    assert done.code == 0, done
    assert stages_run(done) == []
    assert path.read_bytes() == clean


def test_a_damaged_notebook_is_named(used: Project, put) -> None:
    put("notebooks/04_track.ipynb", "[]")
    names(used, "doctor", "notebooks/04_track.ipynb", "git checkout notebooks/04_track.ipynb")


def test_a_failed_notebook_is_named(used: Project, put) -> None:
    put("reports/notebooks/06_tune.failed.ipynb", "{}")
    names(used, "doctor", "06_tune.failed.ipynb", "mlops run")


def test_an_empty_parameter_file_is_named(used: Project, put) -> None:
    put("params.yaml", "")
    names(used, "doctor", "params.yaml", "git checkout params.yaml")


def test_looking_changes_nothing(used: Project) -> None:
    before = used.hashes()
    used.mlops("doctor")
    used.mlops("verify")
    assert used.hashes() == before

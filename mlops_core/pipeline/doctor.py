"""What is wrong with this machine or checkout, and the fix; looks, and changes nothing."""

import importlib.util
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

from mlops_core.errors import MLOpsError
from mlops_core.pipeline.lock import BusyError, left_progress, run_lock
from mlops_core.pipeline.notebooks import NOTEBOOKS, NotebookFileError, cleaned, source_of
from mlops_core.pipeline.verify import Finding

MIN_FREE_BYTES = 2 << 30
TOOLS = ("git", "dvc", "jupyter", "papermill")
PACKAGES = ("mlflow", "optuna", "pandas", "sklearn", "onnxruntime", "skl2onnx", "papermill", "dvc")


def _tools() -> Iterator[Finding]:
    folder = Path(sys.executable).parent
    for tool in TOOLS:
        if not shutil.which(tool) and not (folder / tool).exists():
            yield Finding(tool, "is not installed", "make setup" if tool != "git" else "install git")
    for package in PACKAGES:
        if importlib.util.find_spec(package) is None:
            yield Finding(package, "is not installed in this environment", "make setup")


def _disk(root: Path) -> Iterator[Finding]:
    free = shutil.disk_usage(root).free
    if free < MIN_FREE_BYTES:
        yield Finding("disk", f"has {free / 2**30:.1f} GiB free, a run needs 2", "free some space")
    cache = root / ".dvc" / "cache"
    for path in sorted(cache.rglob("*.tmp")) + sorted(cache.rglob(".*.tmp")):
        yield Finding(
            path.relative_to(root).as_posix(),
            "was left by an interrupted write",
            f"rm {path.relative_to(root).as_posix()}",
        )


def _locks(root: Path) -> Iterator[Finding]:
    try:
        with run_lock(root):
            pass
    except BusyError as error:
        yield Finding("mlops run", f"is under way (process {error.holder})", "wait for it, or end it")
    path = root / ".dvc" / "tmp" / "rwlock"
    if not path.is_file():
        return
    try:
        entries = [
            entry
            for body in json.loads(path.read_text() or "{}").values()
            for kind in body.values()
            for entry in (kind if isinstance(kind, list) else [kind])
        ]
        holders = {int(entry["pid"]) for entry in entries}
    except (ValueError, AttributeError, TypeError, KeyError):
        yield Finding(".dvc/tmp/rwlock", "is damaged", "rm .dvc/tmp/rwlock")
        return
    for pid in sorted(pid for pid in holders if not psutil.pid_exists(pid)):
        yield Finding(".dvc/tmp/rwlock", f"names process {pid}, which is gone", "rm .dvc/tmp/rwlock")


def _checkout(root: Path) -> Iterator[Finding]:
    if (root / "mlruns").is_dir():
        yield Finding(
            "mlruns/",
            "is an MLflow file store, which MLflow refuses since 3.13",
            "move it away; runs are kept in mlflow.db",
        )
    for name in ("params.yaml", "dvc.yaml"):
        if not (root / name).stat().st_size:
            yield Finding(name, "is empty", f"git checkout {name}")
    for path in sorted((root / "reports" / "notebooks").glob("*.failed.ipynb")):
        yield Finding(path.relative_to(root).as_posix(), "tells of a failed run", "read it, then mlops run")
    for path in left_progress(root):
        yield Finding(path.relative_to(root).as_posix(), "was left by a killed run", "mlops run removes it")


def _notebooks(root: Path) -> Iterator[Finding]:
    for stage in NOTEBOOKS:
        path = source_of(root, stage)
        name = path.relative_to(root).as_posix()
        try:
            clean = cleaned(path)
        except NotebookFileError:
            yield Finding(name, "is missing or damaged", f"git checkout {name}")
            continue
        if clean != path.read_bytes():
            yield Finding(name, "holds outputs, so its stage would run again", "mlops run cleans it")


def examine(root: Path) -> list[Finding]:
    """Everything that was found, worst first."""
    try:
        return [*_tools(), *_disk(root), *_locks(root), *_checkout(root), *_notebooks(root)]
    except OSError as error:
        raise MLOpsError(f"{error.filename}: {error.strerror}") from None

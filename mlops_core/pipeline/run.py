"""The whole series: checked before a kernel starts, run by DVC, registered in any case, summed up."""

import contextlib
import importlib
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import IO, Any

import psutil
from ruamel.yaml import YAML

from mlops_core.datasets import load_dataset
from mlops_core.errors import MLOpsError, RequestError, did_you_mean
from mlops_core.forkserver import forking
from mlops_core.params import Params, check_params, override, read_params
from mlops_core.paths import state_dir
from mlops_core.pipeline.lock import left_progress, run_lock
from mlops_core.pipeline.notebooks import NOTEBOOKS, cleaned, failed_of, source_of, strip_file
from mlops_core.pipeline.verify import read_lock
from mlops_core.processes import end_with_parent
from mlops_core.reports import replace_file
from mlops_core.settings import load_settings
from mlops_core.sources import check_sources

STAGE_LINE = re.compile(r"  \d\d \w+ ")

FORKS = "forks"  # in .mlops: where stages ask for processes

CHATTER = "Having any troubles?"  # DVC's invitation to its forum
FULL = ("No space left", "disk is full")
FULL_BYTES, STUCK_SECONDS, LOOK_SECONDS = 64 << 10, 10.0, 1.0

QUIET = {
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
}


class UnknownStageError(RequestError):
    def __init__(self, stage: str) -> None:
        self.stage = stage
        super().__init__(f"There is no stage '{stage}'. {did_you_mean(stage, NOTEBOOKS)}")


class StoppedError(MLOpsError):
    """Somebody pressed Ctrl-C."""

    exit_code = 130

    def __init__(self) -> None:
        super().__init__("Stopped. What is done is kept; go on with: mlops run")


class RunError(MLOpsError):
    """A stage failed; it has said why already."""


@dataclass(frozen=True)
class Request:
    """What somebody asked `mlops run` for."""

    changes: Mapping[str, Any]
    stage: str | None = None
    force: bool = False


def plan(root: Path, request: Request) -> Params:
    """Checks what can be checked without a kernel: parameters, dataset, sources, notebooks. Raises RequestError."""
    if request.stage and request.stage not in NOTEBOOKS:
        raise UnknownStageError(request.stage)
    params = check_params(override(read_params(root / "params.yaml"), request.changes))
    check_sources(load_dataset(params.dataset, root), root)
    for stage in NOTEBOOKS:
        cleaned(source_of(root, stage))
    if (root / "dvc.lock").exists():
        read_lock(root)
    return params


def write_params(root: Path, changes: Mapping[str, Any]) -> list[str]:
    """Puts changes into params.yaml, comments kept, and says what changed.

    They go into the file and not around it, so that DVC knows what the outputs were made with.
    """
    path = root / "params.yaml"
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    tree = yaml.load(path.read_text(encoding="utf-8"))
    said = []
    for name, value in changes.items():
        section, _, key = name.rpartition(".")
        body = tree[section] if section else tree
        if body[key] != value:
            said.append(f"{name}: {body[key]} → {value}")
            body[key] = value
    if said:
        text = StringIO()
        yaml.dump(tree, text)
        replace_file(path, text.getvalue().encode())
    return said


def dvc_command(*arguments: str) -> Sequence[str]:
    return [sys.executable, "-m", "dvc", *arguments]


def dvc_environment(root: Path) -> dict[str, str]:
    """The environment of a run: our tools first on the path, nothing phones home."""
    folder = str(Path(sys.executable).parent)
    private = {"DVC_SITE_CACHE_DIR": str(state_dir(root) / "dvc")}  # DVC's own choice is writable by everybody
    return {**os.environ, **QUIET, **private, "PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"}


def _open_registry(root: Path) -> None:
    with contextlib.suppress(Exception):  # whoever needs it will say what is wrong with it
        importlib.import_module("mlops_core.registry.versions")
        store, database = (importlib.import_module(f"mlops_core.{name}") for name in ("registry.store", "database"))
        settings = load_settings()
        if database.sqlite_file(settings.tracking(root)):  # a server that does not answer would be waited for
            store.open_store(root, settings)


def warm_up(root: Path) -> None:
    """Imports MLflow and makes its tables beside the run: three seconds, a run with nothing to do takes hardly more."""
    threading.Thread(target=_open_registry, args=(root,)).start()  # no daemon: tables are made whole


def reproduce(root: Path, stage: str | None, force: bool, env: Mapping[str, str]) -> None:
    """`dvc repro`, whose stages print what they do. Raises RunError when one fails."""
    options = [*(["--force"] if force else []), *([stage] if stage else [])]
    process = subprocess.Popen(
        dvc_command("repro", *options),
        cwd=root,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=end_with_parent,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    relay = threading.Thread(target=_relay_stages, args=(process.stdout,), daemon=True)
    relay.start()
    threading.Thread(target=_end_on_full_disk, args=(process, root), daemon=True).start()
    said = _relay_errors(process.stderr)
    failed = process.wait()
    relay.join()
    if failed:
        raise RunError("" if said.stage_failed else _explain(said.lines, root))


def _is_full(root: Path) -> bool:
    return shutil.disk_usage(root).free < FULL_BYTES


def _end_on_full_disk(process: subprocess.Popen[str], root: Path) -> None:
    """Between two stages, DVC would try for ever to note a file: its `diskcache` takes a full disk for a busy one."""
    stuck = 0.0
    while process.poll() is None:
        time.sleep(LOOK_SECONDS)
        with contextlib.suppress(psutil.NoSuchProcess):
            idle = not psutil.Process(process.pid).children()
            stuck = stuck + LOOK_SECONDS if idle and _is_full(root) else 0.0
        if stuck >= STUCK_SECONDS:
            process.kill()


def _relay_stages(stream: IO[str]) -> None:
    """Shows what the stages print and not what DVC says around it."""
    for line in stream:
        if STAGE_LINE.match(line):
            print(line, end="", flush=True)


@dataclass
class _Said:
    """What DVC wrote to its error stream."""

    lines: list[str]
    stage_failed: bool = False


def _relay_errors(stream: IO[str]) -> _Said:
    """Shows a stage's error at once; keeps DVC's own for `_explain`."""
    said = _Said([])
    for line in stream:
        if line.startswith("ERROR: ") or said.lines:
            said.lines.append(line.removeprefix("ERROR: ").strip())
            said.stage_failed = said.stage_failed or "failed to run: exec mlops stage" in line
        else:
            print(line, end="", file=sys.stderr, flush=True)
    return said


def _explain(lines: list[str], root: Path) -> str:
    """DVC's message with what to do about it."""
    text = " ".join(line for line in lines if line and CHATTER not in line) or "dvc repro failed without a word"
    if any(words in text for words in FULL) or _is_full(root):
        return "No space left on the disk that holds this checkout: free some, then try again with: mlops run"
    return f"{text}\nLook for the cause with: mlops doctor"


def _forget_failures(root: Path, stage: str | None) -> None:
    """Removes what failed runs kept of stages that are good now; DVC may have restored them without a notebook."""
    for name in [stage] if stage else NOTEBOOKS:
        failed_of(root, name).unlink(missing_ok=True)


def _forget_progress(root: Path) -> None:
    for path in left_progress(root):
        path.unlink(missing_ok=True)


def run_series(root: Path, request: Request) -> Params:
    """Runs what is out of date, under the lock.

    Raises RequestError before anything starts, BusyError, RunError when a stage fails, StoppedError on Ctrl-C.
    """
    with run_lock(root), forking(dvc_environment(root), state_dir(root) / FORKS) as env:
        params = plan(root, request)
        for line in write_params(root, request.changes):
            print(f"params.yaml: {line}")
        warm_up(root)
        for stage in NOTEBOOKS:
            strip_file(source_of(root, stage))
        _forget_progress(root)
        try:
            reproduce(root, request.stage, request.force, env)
        except KeyboardInterrupt:
            raise StoppedError from None
        finally:
            _forget_progress(root)
        _forget_failures(root, request.stage)
    return params

"""Experiment 3: a scratch repository in which a version of the data is made, changed, pushed, lost and restored.

DVC refuses to write while a pipeline runs (`dvc add` finds the lock), and `dvc stage add` would silently edit the
real dvc.yaml. So the lesson's commands run on the real tables, in a repository of their own.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from mlops_core.errors import MLOpsError

# A fixed clock and author: the same tables give the same commits.
IDENTITY = {
    "GIT_AUTHOR_NAME": "student",
    "GIT_AUTHOR_EMAIL": "student@example.org",
    "GIT_COMMITTER_NAME": "student",
    "GIT_COMMITTER_EMAIL": "student@example.org",
    "GIT_AUTHOR_DATE": "2013-12-31T12:00:00Z",
    "GIT_COMMITTER_DATE": "2013-12-31T12:00:00Z",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "DVC_NO_ANALYTICS": "1",
    "NO_COLOR": "1",
}
REPOSITORY = ("DVC_ROOT", "DVC_STAGE", "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
# A kernel sets them, and DVC would draw a spinner between lines.
COLOURS = ("FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE")


class SandboxError(MLOpsError):
    """A command of the lesson failed."""

    def __init__(self, command: str, output: str) -> None:
        self.command, self.output = command, output
        super().__init__(f"`{command}` failed: {output.strip().splitlines()[-1] if output.strip() else 'no output'}")


@dataclass(frozen=True)
class Sandbox:
    """A scratch Git and DVC repository with a local folder as its remote."""

    root: Path

    def run(self, command: str) -> str:
        """What `command` (git or dvc, no shell) prints. Raises SandboxError when it fails."""
        tool, *arguments = command.split()
        program = [sys.executable, "-m", "dvc"] if tool == "dvc" else [tool]
        environment = {key: value for key, value in os.environ.items() if key not in REPOSITORY + COLOURS}
        environment |= IDENTITY | {"DVC_SITE_CACHE_DIR": str(self.root / "site")}
        done = subprocess.run(
            [*program, *arguments], cwd=self.root / "repo", env=environment, capture_output=True, text=True, check=False
        )
        output = (done.stdout + done.stderr).replace(str(self.root), "…")
        if done.returncode:
            raise SandboxError(command, output)
        return "\n".join(line.rstrip() for line in output.splitlines() if line.strip())

    def show(self, *commands: str) -> None:
        """Runs commands and prints them with their output, as a terminal would."""
        for command in commands:
            output = self.run(command)
            print(f"$ {command}" + (f"\n{output}" if output else ""))

    def commit(self, message: str) -> None:
        self.run("git add -A")
        environment = {**os.environ, **IDENTITY}
        subprocess.run(["git", "commit", "-q", "-m", message], cwd=self.root / "repo", env=environment, check=True)

    def path(self, name: str) -> Path:
        return self.root / "repo" / name

    def close(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)

    def lose_cache(self) -> int:
        """Deletes what a new machine would lack: cache, notes, tables. Returns how many cached files went."""
        cache = self.path(".dvc/cache")
        lost = sum(1 for file in cache.rglob("*") if file.is_file())
        for folder in (cache, self.path(".dvc/tmp"), self.path("tables"), self.root / "site"):
            shutil.rmtree(folder, ignore_errors=True)
        return lost


def open_sandbox(tables: Path) -> Sandbox:
    """A fresh repository that holds a copy of `tables`; `close` removes it (a notebook's cells outlive any `with`)."""
    root = Path(tempfile.mkdtemp(prefix="mlops-version-"))
    sandbox = Sandbox(root)
    (root / "repo").mkdir()
    (root / "remote").mkdir()
    sandbox.run("git init -q -b main")
    sandbox.run("dvc init -q")
    sandbox.run("dvc remote add -q -d backup ../remote")
    shutil.copytree(tables, sandbox.path("tables"))
    return sandbox


def change_table(path: Path, rows: int, seed: int) -> pd.DataFrame:
    """Blanks the last numeric column, or the last of any kind, in `rows` rows drawn at random; the new table."""
    table = pd.read_parquet(path)
    chosen = np.random.default_rng(seed).choice(len(table), size=min(rows, len(table)), replace=False)
    numbers = table.select_dtypes("number").columns
    name = numbers[-1] if len(numbers) else table.columns[-1]
    table[name] = table[name].astype("float64" if len(numbers) else "object")
    table.loc[np.sort(chosen), name] = np.nan if len(numbers) else None
    table.to_parquet(path, index=False)
    return table


def hash_files(folder: Path) -> dict[str, str]:
    """The md5 of every file, which is what DVC names a version by."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {
        file.relative_to(folder).as_posix(): hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()
        for file in files
    }


def tracked_outputs(dvc_yaml: Path) -> pd.DataFrame:
    """What DVC tracks in this project: one line per output of a stage."""
    stages = yaml.safe_load(dvc_yaml.read_text(encoding="utf-8"))["stages"]
    lines = []
    for stage, body in stages.items():
        for kind in ("outs", "metrics", "plots"):
            for item in body.get(kind, []):
                path, options = next(iter(item.items())) if isinstance(item, dict) else (item, {})
                lines.append(
                    {
                        "stage": stage,
                        "output": path,
                        "kind": kind,
                        "kept in": "Git" if options.get("cache") is False else "DVC",
                    }
                )
    return pd.DataFrame(lines)

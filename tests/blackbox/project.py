"""A small project in a temporary folder, and the real commands run in it; nothing here touches the checkout."""

import contextlib
import hashlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import psutil
from ruamel.yaml import YAML

CHECKOUT = Path(__file__).parents[2]
TOOLS = Path(sys.executable).parent
SMALL = {
    "tune.trials": 4,
    "tune.seconds": 60,
    "tune.rows": 2000,
    "train.bootstrap": 20,
    "serve.requests": 20,
    "package.build": False,
    "deploy.rehearse": False,  # it has a test of its own
    "frontend.changes": 10,
    "frontend.pictures": False,
}
# A run's products, and what a project does not need.
LEFT_OUT = ("dvc.lock", "reports/", "tests/", "docs/", "benchmarks/", ".ci/")
STAGES = {
    "ingest": "01_ingest",
    "preprocess": "02_preprocess",
    "version": "03_version",
    "track": "04_track",
    "tune": "06_tune",
    "train": "05_train",
    "serve": "07_serve",
    "package": "08_package",
    "deploy": "09_deploy",
    "frontend": "10_frontend",
}
INHERITED = ("MLOPS_", "GIT_", "DVC_", "PYTEST_", "MLFLOW_", "OPTUNA_", "PYTHONWARNINGS", "PYTHONDONTWRITEBYTECODE")


def clean_environment(**extra: str) -> dict[str, str]:
    """The caller's environment without what would change a run, and the tools of this interpreter first."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(INHERITED)}
    kept["PATH"] = f"{TOOLS}{os.pathsep}{kept.get('PATH', '')}"
    return {**kept, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", **extra}


@dataclass(frozen=True)
class Done:
    """What a command ended with."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def lines(self) -> list[str]:
        """What it said on its error stream."""
        return self.err.strip().splitlines()

    def __repr__(self) -> str:
        return f"exit {self.code} after {self.seconds:.1f} s\n--- out\n{self.out[-4000:]}\n--- err\n{self.err[-4000:]}"


@dataclass(frozen=True)
class Project:
    """A folder with dvc.yaml and params.yaml, and the commands that people type in it."""

    root: Path
    extra: dict[str, str] = field(default_factory=dict)

    def path(self, name: str) -> Path:
        return self.root / name

    def environment(self, **more: str) -> dict[str, str]:
        # DVC's notes on file times, which would otherwise go to a folder that all projects share.
        site = str(self.root / ".mlops" / "dvc")
        return clean_environment(DVC_SITE_CACHE_DIR=site, DVC_NO_ANALYTICS="1", **self.extra, **more)

    def run(self, *command: str, timeout: float = 240, cwd: Path | None = None, **more: str) -> Done:
        """Runs a program to its end. Its whole session is ended when it takes longer than `timeout`."""
        started = time.monotonic()
        process = self.start(*command, cwd=cwd, **more)
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException:
            end_group(process, signal.SIGKILL)
            process.communicate()
            raise
        return Done(process.returncode, out, err, time.monotonic() - started)

    def start(self, *command: str, cwd: Path | None = None, **more: str) -> subprocess.Popen[str]:
        """Starts a program in a session of its own."""
        return subprocess.Popen(
            command,
            cwd=cwd or self.root,
            env=self.environment(**more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # Where the tests themselves run in the background, Ctrl-C is ignored, and that would be inherited.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def mlops(self, *arguments: str, timeout: float = 240, **more: str) -> Done:
        return self.run("mlops", *arguments, timeout=timeout, **more)

    def dvc(self, *arguments: str) -> Done:
        return self.run("dvc", *arguments)

    def git(self, *arguments: str) -> Done:
        return self.run("git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments)

    def write(self, name: str, text: str) -> None:
        self.path(name).write_text(text, encoding="utf-8")

    def replace(self, name: str, old: str, new: str) -> None:
        """Edits one place of a text file, which must be there."""
        text = self.path(name).read_text(encoding="utf-8")
        assert text.count(old) >= 1, f"{name} lacks {old!r}"
        self.write(name, text.replace(old, new, 1))

    def set_params(self, **changes: object) -> None:
        yaml = YAML()
        yaml.width = 4096
        tree = yaml.load(self.path("params.yaml"))
        for name, value in changes.items():
            section, _, key = name.rpartition("__")
            (tree[section] if section else tree)[key] = value
        yaml.dump(tree, self.path("params.yaml"))

    def executed(self, stage: str) -> Path:
        return self.path(f"reports/notebooks/{STAGES[stage]}.ipynb")

    def failed(self, stage: str) -> Path:
        return self.executed(stage).with_suffix(".failed.ipynb")

    def query(self, database: str, sql: str) -> list[tuple]:
        # Not read-only: the first reader after a kill has to roll the journal back.
        connection = sqlite3.connect(f"file:{self.path(database)}?mode=rw", uri=True, timeout=30)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()

    @contextmanager
    def change(self, database: str) -> Iterator[sqlite3.Connection]:
        """Writes to a database behind everybody's back."""
        connection = sqlite3.connect(self.path(database), timeout=30)
        try:
            with connection:
                yield connection
        finally:
            connection.close()

    def versions(self) -> list[tuple]:
        """(version, pipeline_run_id) of every registered version."""
        return self.query(
            "mlflow.db",
            "select version, (select value from model_version_tags t where t.name = v.name and t.version = v.version"
            " and t.key = 'pipeline_run_id') from model_versions v order by version",
        )

    def champion(self) -> int:
        return int(
            self.query("mlflow.db", "select version from registered_model_aliases where alias = 'champion'")[0][0]
        )

    def finished_trials(self) -> list[tuple]:
        """(id, state, value) of every finished trial in the study's database."""
        return self.query(
            ".mlops/optuna.db",
            "select t.trial_id, t.state, v.value from trials t left join trial_values v using (trial_id)"
            " where t.state in ('COMPLETE', 'PRUNED') order by t.trial_id",
        )

    def hashes(self, *names: str) -> dict[str, str]:
        """sha256 of every file under the given folders and files; of all that a run makes by default."""
        chosen = names or ("data", "reports", "dvc.lock", "params.yaml", "notebooks")
        found = {}
        for name in chosen:
            path = self.path(name)
            for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                if file.is_file():
                    found[file.relative_to(self.root).as_posix()] = hashlib.sha256(file.read_bytes()).hexdigest()
        return found


def stages_run(done: Done) -> list[str]:
    """Stages that said anything, in their order."""
    said = [line.split()[1] for line in done.out.splitlines() if line[:2] == "  " and line[2:4].isdigit()]
    return list(dict.fromkeys(said))


def draw_flights(source: Path, target: Path) -> None:
    """Every third day, and of it every eighth aircraft with all its flights: 13 thousand rows from every month."""
    flights = pd.read_parquet(source)
    day = pd.to_datetime(flights[["year", "month", "day"]]).dt.day_of_year
    aircraft = flights["tailnum"].fillna("none").map(lambda tail: hashlib.md5(tail.encode()).digest()[0] % 8)
    flights[(day % 3 == 0) & (aircraft == 0)].to_parquet(target, index=False)


def make_project(root: Path) -> Project:
    """The checkout's sources with few flights and small budgets, in a repository of its own."""
    project = Project(root)
    root.mkdir(parents=True)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT,
        env=clean_environment(),
        capture_output=True,
        check=True,
        text=True,
    ).stdout.split("\0")
    for name in listed:
        if name and not name.startswith(LEFT_OUT) and (CHECKOUT / name).is_file():
            project.path(name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(CHECKOUT / name, project.path(name))
    flights = "data/source/nycflights13/flights.parquet"
    old = hashlib.sha256(project.path(flights).read_bytes()).hexdigest()
    draw_flights(CHECKOUT / flights, project.path(flights))
    project.replace("data/datasets/flights.yaml", old, hashlib.sha256(project.path(flights).read_bytes()).hexdigest())
    project.set_params(**{name.replace(".", "__"): value for name, value in SMALL.items()})
    for command in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "a small project"]):
        done = project.git(*command)
        assert done.code == 0, done
    return project


def copy_project(source: Project, root: Path) -> Project:
    """A finished project at another place, with the paths that MLflow keeps in its database changed to it."""
    shutil.copytree(source.root, root, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "run.lock"))
    shutil.rmtree(root / ".mlops" / "dvc", ignore_errors=True)
    if (root / "mlflow.db").exists():
        _move_paths(root / "mlflow.db", str(source.root), str(root))
    return Project(root, source.extra)


def _move_paths(database: Path, old: str, new: str) -> None:
    connection = sqlite3.connect(database)
    for (table,) in connection.execute("select name from sqlite_master where type = 'table'").fetchall():
        for _, column, kind, *_ in connection.execute(f"pragma table_info({table})").fetchall():
            if kind.upper().startswith(("VARCHAR", "TEXT")):
                connection.execute(
                    f"update {table} set {column} = replace({column}, ?, ?) where instr({column}, ?)", (old, new, old)
                )
    connection.commit()
    connection.close()


def end_group(process: subprocess.Popen[str], how: int) -> None:
    """Signals the session that `start` made, and nobody else."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, how)


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The process and all its descendants."""
    try:
        parent = psutil.Process(process.pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def survivors(members: Iterable[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Those of `members` that are still there after `seconds`, zombies not counted."""
    _, alive = psutil.wait_procs(list(members), timeout=seconds)
    return [member for member in alive if member.is_running() and member.status() != psutil.STATUS_ZOMBIE]


def at_work_in(root: Path) -> list[psutil.Process]:
    """Processes whose working directory lies in the project."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()).is_relative_to(root):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def wait_until(condition, seconds: float, what: str, every: float = 0.2) -> None:
    """Waits for `condition()`; fails with `what` when it does not come true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"after {seconds:.0f} s still not: {what}"
        time.sleep(every)


def no_traceback(text: str, limit: int = 1) -> None:
    """At most `limit` lines, and none of a traceback."""
    assert "Traceback" not in text, text[-1000:]
    assert 'File "' not in text, text[-1000:]
    lines: Sequence[str] = text.strip().splitlines()
    assert 1 <= len(lines) <= limit, text[-2000:]

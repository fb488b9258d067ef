"""Processes that work on one study: started, watched, replaced when one dies, ended when the caller does."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import optuna
import pyarrow.parquet as pq
from optuna.trial import FrozenTrial, TrialState

from mlops_core.datasets import load_dataset
from mlops_core.errors import MLOpsError
from mlops_core.forkserver import Forked, ask_for_fork
from mlops_core.params import Params
from mlops_core.paths import Paths, state_dir
from mlops_core.progress import report_progress
from mlops_core.tune.objective import evaluate_trial, read_folds
from mlops_core.tune.order import FINISHED
from mlops_core.tune.storage import end_stale_trials, open_storage
from mlops_core.tune.study import Best, best_trial, create_study, finished_trials, load_study

WORKER = "mlops_core.tune.worker"
POLL_SECONDS = 0.25
MAX_DEATHS = 3

Worker = subprocess.Popen[bytes] | Forked


class WorkerError(MLOpsError):
    """The workers keep dying."""

    def __init__(self, code: int, log: Path) -> None:
        self.code, self.log = code, log
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.exists() else []
        super().__init__(f"A tuning worker ended with {code}: {lines[-1] if lines else 'it was killed'}")


@dataclass(frozen=True)
class Search:
    """Everything that a worker needs to take part."""

    study: str
    url: str
    params: Params
    paths: Paths


def run_worker(search: Search, deadline: float) -> None:
    """Works on the study in this process until enough trials are begun; starts none after `deadline` (Unix time)."""
    spec = load_dataset(search.params.dataset, search.paths.root)
    schema, folds = read_folds(search.params, search.paths.processed, spec)
    study = load_study(search.study, open_storage(search.url), search.params)
    trials = search.params.tune.trials

    def end_when_begun(study: optuna.Study, _: FrozenTrial) -> None:
        if len(study.get_trials(False, (*FINISHED, TrialState.RUNNING))) >= trials:
            study.stop()

    if len(finished_trials(study)) < trials:  # the other may have done them all while this one started
        study.optimize(
            lambda trial: evaluate_trial(trial, schema, folds, search.params),
            timeout=max(0.0, deadline - time.time()),
            callbacks=[end_when_begun],
        )


def _count_rows(processed: Path) -> int:
    """Of the training rows, without reading them."""
    return int(pq.read_metadata(processed / "train.parquet").num_rows)


def _start_worker(search: Search, deadline: float, log: Path) -> Worker:
    threads = max(1, (os.cpu_count() or 1) // search.params.tune.workers)
    facts = [str(fact) for fact in (deadline, threads, search.study, search.params.model_dump_json())]
    environment = {**os.environ, "MLOPS_STUDY_URL": search.url}
    with log.open("ab") as output:
        return ask_for_fork(
            f"{WORKER}:main", [WORKER, *facts], environment, cwd=search.paths.root, output=output
        ) or subprocess.Popen(
            [sys.executable, "-m", WORKER, *facts],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=search.paths.root,
            env=environment,
        )


def _describe(study: optuna.Study, target: int, seconds: float) -> str:
    finished = finished_trials(study, target)
    complete = [trial.value for trial in finished if trial.value is not None and trial.state.name == "COMPLETE"]
    best = f"best {min(complete):.4f}" if complete else "none complete yet"
    return f"{len(finished)}/{target} trials, {best}, {seconds:.0f} s"


def _watch(search: Search, study: optuna.Study, processes: list[Worker], started: float) -> int:
    """Waits for all workers and reports; returns the exit code of one that died, or 0."""
    shown, died = "", 0
    while any(process.poll() is None for process in processes):
        line = _describe(study, search.params.tune.trials, time.time() - started)
        if line.split(",")[0] != shown:
            shown = line.split(",")[0]
            report_progress(line)
        time.sleep(POLL_SECONDS)
    for process in processes:
        died = died or process.returncode or 0
    return died


def run_search(search: Search) -> tuple[optuna.Study, Best]:
    """Does what the study still lacks of its trials; finished ones are never repeated.

    Returns the study and the best of the first `tune.trials` finished trials. Raises WorkerError when workers
    die more than three times, NoTrialError when time was up before one trial was complete.
    """
    tune = search.params.tune
    folder = state_dir(search.paths.root)
    create_study(search.study, search.url, folder, search.params, _count_rows(search.paths.processed))
    storage = open_storage(search.url)
    study = load_study(search.study, storage, search.params)
    end_stale_trials(study, storage)
    started = time.time()
    log = folder / "tune.log"
    log.unlink(missing_ok=True)
    deaths = 0
    while (left := tune.trials - len(finished_trials(study))) > 0 and time.time() - started < tune.seconds:
        processes = [_start_worker(search, started + tune.seconds, log) for _ in range(min(left, tune.workers))]
        try:
            code = _watch(search, study, processes, started)
        finally:
            for process in processes:
                process.kill()
                process.wait()
        if code:
            deaths += 1
            if deaths > MAX_DEATHS:
                raise WorkerError(code, log)
            report_progress(f"a worker ended with {code}; its trial is tried again")
    report_progress(_describe(study, tune.trials, time.time() - started))
    end_stale_trials(study, storage)
    return study, best_trial(study, tune.trials)

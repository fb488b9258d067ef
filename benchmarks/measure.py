"""Timing that all benchmarks share: whole commands, interleaved, medians."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mlops_core.paths import find_root
from mlops_core.pipeline.run import dvc_environment

ROOT = find_root(Path(__file__).parent)


def seconds_of(command: Sequence[str], expect: int = 0) -> float:
    """Wall time of one command in the checkout; raises when it does not end as expected."""
    environment = dvc_environment(ROOT)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    started = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    elapsed = time.perf_counter() - started
    if done.returncode != expect:
        raise SystemExit(
            f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        )
    return elapsed


def medians(cases: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """The median of each case; the rounds interleave the cases, so that a busy minute hits all alike."""
    seen: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            seen[name].append(case())
    return {name: statistics.median(values) for name, values in seen.items()}


def tool(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

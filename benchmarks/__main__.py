"""Runs every benchmark and writes `benchmarks/results.json`; nothing else should run meanwhile."""

import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from benchmarks.floor import STAGES
from benchmarks.measure import ROOT, cores, medians, seconds_of, tool
from benchmarks.own_table import bench_own_table
from benchmarks.page import bench_page
from benchmarks.serving import bench_serving
from mlops_core.features import encode
from mlops_core.params import load_params
from mlops_core.paths import Paths
from mlops_core.preprocess import columns_of
from mlops_core.serve.batch import score_file
from mlops_core.serve.predictor import load_predictor
from mlops_core.splits import SPLITS

RESULTS = Path(__file__).with_name("results.json")
MLOPS, PYTHON = tool("mlops"), sys.executable


def bench_commands() -> dict[str, float]:
    """Start-up, a run with nothing to do, a refused parameter; floors: an empty Python, `dvc repro` with nothing to do."""
    seconds_of([MLOPS, "run"])
    quick = {
        "python -c pass (floor)": lambda: seconds_of([PYTHON, "-c", "pass"]),
        "mlops --help": lambda: seconds_of([MLOPS, "--help"]),
    }
    slow = {
        "dvc repro, nothing to do (floor)": lambda: seconds_of([PYTHON, "-m", "dvc", "repro", "-q"]),
        "mlops run, nothing to do": lambda: seconds_of([MLOPS, "run"]),
        "mlops run --set tune.trails=5, refused": lambda: seconds_of(
            [MLOPS, "run", "--set", "tune.trails=5"], expect=2
        ),
    }
    return {**medians(quick, 10), **medians(slow, 3)}


def _floor() -> dict[str, float]:
    done = subprocess.run([PYTHON, "-m", "benchmarks.floor"], cwd=ROOT, capture_output=True, text=True, check=True)
    times: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return times


def bench_series(rounds: int = 3) -> dict[str, float]:
    """All notebooks but the page as DVC stages against the same code in one process; the study is finished, so nothing is searched."""
    floors, stages, whole = [], [], []
    for _ in range(rounds):
        started = time.perf_counter()
        floors.append(sum(_floor().values()))
        whole.append(time.perf_counter() - started)
        stages.append(seconds_of([PYTHON, "-m", "dvc", "repro", "--force", "-q", STAGES[-1]]))
    floor, process, series = (float(np.median(values)) for values in (floors, whole, stages))
    return {
        "same code, one process, without its imports and start (floor)": floor,
        "same code, one process, whole": process,
        "as DVC stages": series,
        "overhead per notebook": (series - floor) / len(STAGES),
    }


def bench_score(rounds: int = 5) -> dict[str, float]:
    """Rows per second of scoring all flights in Parquet, inside one process; floors: reading it, and the bare graph."""
    paths = Paths(ROOT, load_params(root=ROOT).dataset)
    predictor = load_predictor(paths.bundle, threads=0)
    table = pd.concat([pd.read_parquet(paths.processed / f"{split}.parquet") for split in SPLITS])
    matrix = encode(
        predictor.schema, columns_of(table, [column.name for column in predictor.schema.columns]), len(table)
    )
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.parquet", Path(folder) / "out.parquet"
        table.to_parquet(source, index=False)

        def timed(action: object) -> float:
            started = time.perf_counter()
            action()  # type: ignore[operator]
            return time.perf_counter() - started

        found = medians(
            {
                "read the Parquet file (floor)": lambda: timed(lambda: pq.read_table(source)),
                "the bare graph on encoded rows (floor)": lambda: timed(lambda: predictor.predict(matrix)),
                "score_file, Parquet to Parquet": lambda: timed(
                    lambda: score_file(predictor, source, target, lambda _: None)
                ),
            },
            rounds,
        )
        found["mlops score, whole command"] = float(
            np.median([seconds_of([MLOPS, "score", str(source), str(target)]) for _ in range(3)])
        )
    return {**found, "rows": float(len(table))}


def main() -> None:
    results = {
        "machine": {"cores": cores(), "python": platform.python_version()},
        "commands": bench_commands(),
        "series": bench_series(),
        "score": bench_score(),
        "serving": bench_serving(),
        "page": bench_page(),
        "own table": bench_own_table(),
    }
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    for name, part in results.items():
        print(f"\n{name}")
        for what, value in part.items():
            print(f"  {what:<64} {value:>12,.3f}" if isinstance(value, float) else f"  {what:<64} {value:>12}")


if __name__ == "__main__":
    main()

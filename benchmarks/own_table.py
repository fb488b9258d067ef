"""One's own table: `mlops init` on 100,000 rows, the whole series on 5,000, and how good it is on tables it never saw.

Floors, in the same run: pandas that reads the same file in a process of its own; default boosting on the same columns.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

from benchmarks.measure import ROOT, medians, tool

ROUNDS, ROWS, FEW = 5, 100_000, 5_000
READ = "import sys, pandas; pandas.read_csv(sys.argv[1])"


def make_table(rows: int, seed: int = 0) -> pd.DataFrame:
    """Twenty columns of every kind; two classes."""
    random = np.random.default_rng(seed)
    signal = random.normal(size=rows)
    columns: dict[str, object] = {
        f"number_{i}": (random.normal(size=rows) + signal * (i < 4)).round(4) for i in range(8)
    }
    columns |= {f"count_{i}": random.integers(0, 1000, rows) for i in range(4)}
    columns |= {f"kind_{i}": random.choice([f"k{j}" for j in range(4 ** (i + 1))], rows) for i in range(5)}
    columns["open"] = random.choice(["yes", "no"], rows)
    columns["day"] = pd.date_range("2015-01-01", periods=rows, freq="h").strftime("%Y-%m-%d %H:%M")
    columns["y"] = np.where(signal + random.normal(0, 1, rows) > 0.5, "good", "bad")
    return pd.DataFrame(columns)


def _clone(folder: Path) -> Path:
    subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
    return folder


def _timed(command: list[str], folder: Path) -> float:
    started = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stderr[-500:]}")
    return time.perf_counter() - started


def bench_init(root: Path) -> dict[str, float]:
    """Seconds."""
    table = root / "data" / "big.csv"
    make_table(ROWS).to_csv(table, index=False)
    init = [tool("mlops"), "init", str(table), "--target", "y", "--name", "big"]
    found = medians(
        {
            "pandas.read_csv, 100,000 rows (floor)": lambda: _timed([sys.executable, "-c", READ, str(table)], root),
            "mlops init, 100,000 rows": lambda: _timed(init, root),
        },
        ROUNDS,
    )
    table.unlink()
    return found


def run_table(root: Path, name: str, table: pd.DataFrame) -> tuple[float, dict[str, float], dict[str, float]]:
    """Seconds of the series; test scores of the champion and of default boosting. Nothing is edited in between."""
    file = root / "data" / f"{name}.csv"
    table.to_csv(file, index=False)
    _timed([tool("mlops"), "init", str(file), "--target", "y", "--name", name], root)
    seconds = _timed([tool("mlops"), "run", "--dataset", name], root)
    metrics = json.loads((root / "reports" / "metrics" / "train.json").read_text(encoding="utf-8"))
    return seconds, metrics["test"], metrics["baselines"]["default boosting"]


def unseen_tables() -> dict[str, pd.DataFrame]:
    """Tables that scikit-learn ships."""
    found = {}
    for name, load in {"cancer": load_breast_cancer, "wine": load_wine, "diabetes": load_diabetes}.items():
        data = load(as_frame=True)
        target = (
            data.target if name == "diabetes" else data.target.map(lambda code, names=data.target_names: names[code])
        )
        found[name] = data.data.rename(columns=lambda text: text.replace(" ", "_")).assign(y=target)
    return found


def bench_own_table() -> dict[str, float]:
    """Seconds, and losses on test rows: log-loss, or RMSE for a number."""
    with tempfile.TemporaryDirectory() as temporary:
        root = _clone(Path(temporary) / "project")
        found = bench_init(root)
        found["the whole series, 5,000 rows, s"] = run_table(root, "few", make_table(FEW))[0]
        for name, table in unseen_tables().items():
            _, ours, default = run_table(root, name, table)
            metric = "rmse" if "rmse" in ours else "log_loss"
            found[f"{name}: default boosting, {metric} (floor)"] = default[metric]
            found[f"{name}: champion, {metric}"] = ours[metric]
    return found


if __name__ == "__main__":
    for what, value in bench_own_table().items():
        print(f"{what:<60} {value:>12.4f}")

"""One's own table: `mlops init` on 100,000 rows, the whole series on 5,000, and how good it is on tables it never saw.

A test part of thirty rows says little: each table is split anew for every seed, tuned, trained and scored.

Floors, in the same run: pandas that reads the same file in a process of its own; scikit-learn's default boosting, fitted by
hand on every row that is not a test row and asked about the same test rows.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn import datasets
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from benchmarks.measure import ROOT, medians, tool
from mlops_core.evaluation import metric_of, score
from mlops_core.paths import Paths
from mlops_core.preprocess import columns_of
from mlops_core.serve.predictor import load_predictor

ROUNDS, ROWS, FEW = 5, 100_000, 5_000
READ = "import sys, pandas; pandas.read_csv(sys.argv[1])"
SEEDS = (1, 2, 3)
UNSEEN = ("breast_cancer", "wine", "iris", "digits", "diabetes")


def make_table(rows: int, seed: int = 0) -> pd.DataFrame:
    """Nineteen columns of every kind, and two classes."""
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


def load_unseen(name: str) -> pd.DataFrame:
    """A table that scikit-learn ships: numbers, a target `y` in words or for diabetes a number, and a name for each row."""
    data = getattr(datasets, f"load_{name}")(as_frame=True)
    table = data.data.rename(columns=lambda text: text.replace(" ", "_"))
    if name != "diabetes":
        words = [f"class {word}" for word in data.target_names]
        data.target = data.target.map(lambda code: words[code])
    return table.assign(y=data.target, row=[f"r{number:05}" for number in range(len(table))])


def _timed(command: list[str], folder: Path) -> float:
    started = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        said = next((line for line in done.stderr.splitlines() if line.startswith("Stage ")), done.stderr[-500:])
        raise RuntimeError(f"{' '.join(command[1:])}: {said}")
    return time.perf_counter() - started


def bench_init(root: Path) -> dict[str, float]:
    """Seconds."""
    table = root / "data" / "big.csv"
    make_table(ROWS).to_csv(table, index=False)
    init = [tool("mlops"), "init", str(table), "--target", "y", "--name", "big"]
    found = medians(
        {
            "pandas.read_csv, 100,000 rows, s (floor)": lambda: _timed([sys.executable, "-c", READ, str(table)], root),
            "mlops init, 100,000 rows, s": lambda: _timed(init, root),
        },
        ROUNDS,
    )
    table.unlink()
    return found


def init_table(root: Path, name: str, table: pd.DataFrame, *said: str) -> None:
    """Nothing is edited after it."""
    file = root / "data" / f"{name}.csv"
    table.to_csv(file, index=False)
    _timed([tool("mlops"), "init", str(file), "--target", "y", "--name", name, *said], root)


def against_default(root: Path, name: str, table: pd.DataFrame) -> tuple[str, float, float]:
    """The loss's name, and on the test rows that of default boosting by hand and that of the trained model."""
    paths = Paths(root, name)
    test = pd.read_parquet(paths.processed / "test.parquet")
    known = table.set_index("row")
    held, rest = known.loc[test["row"]], known.drop(index=test["row"])
    predictor = load_predictor(paths.bundle)
    wanted = [column.name for column in predictor.schema.columns]
    ours, problems = predictor.predict_columns(columns_of(test, wanted), len(test))
    if problems:
        raise RuntimeError(f"{name}: {len(problems)} test rows are refused by the champion")
    task = predictor.schema.task
    if task == "regression":
        truth = held["y"].to_numpy()
        model = HistGradientBoostingRegressor(random_state=0).fit(rest.drop(columns="y"), rest["y"])
        theirs = model.predict(held.drop(columns="y"))
    else:
        classes = list(predictor.schema.classes)
        truth = held["y"].map(classes.index).to_numpy()
        model = HistGradientBoostingClassifier(random_state=0).fit(rest.drop(columns="y"), rest["y"])
        order = [list(model.classes_).index(word) for word in classes]
        theirs = model.predict_proba(held.drop(columns="y"))[:, order]
    metric = metric_of(task)
    champion, default = (score(task, truth, answer)[metric] for answer in (ours, theirs))
    return metric, default, champion


def bench_unseen(root: Path, name: str) -> dict[str, float]:
    """Mean losses over the splits, and the difference of each. Raises RuntimeError when a model is refused."""
    table = load_unseen(name)
    init_table(root, name, table, "--id", "row")
    metric, pairs = "", []
    for seed in SEEDS:
        _timed([tool("mlops"), "run", "--dataset", name, "--stage", "train", "--set", f"seed={seed}"], root)
        metric, *pair = against_default(root, name, table)
        pairs.append(pair)
    found = {
        f"{name}, {len(table)} rows: default boosting by hand, {metric} (floor)": float(np.mean(pairs, axis=0)[0]),
        f"{name}: the model, {metric}": float(np.mean(pairs, axis=0)[1]),
    }
    return found | {f"{name}: difference, seed {seed}": b - a for seed, (a, b) in zip(SEEDS, pairs, strict=True)}


def bench_own_table() -> dict[str, float]:
    """Seconds and losses, told as they are found; goes on behind a table that fails, and raises in the end."""
    found: dict[str, float] = {}
    failed: list[str] = []

    def tell(part: dict[str, float]) -> None:
        for what, value in part.items():
            print(f"  {what:<72} {value:>10.4f}", flush=True)
        found.update(part)

    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary) / "project"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(root)], check=True)
        tell(bench_init(root))
        init_table(root, "few", make_table(FEW))
        tell({"the whole series, 5,000 rows, s": _timed([tool("mlops"), "run", "--dataset", "few"], root)})
        for name in UNSEEN:
            try:
                tell(bench_unseen(root, name))
            except RuntimeError as error:
                failed.append(name)
                print(f"  {name}: {error}", flush=True)
    if failed:
        raise SystemExit(f"These tables did not come to a champion: {', '.join(failed)}")
    return found


if __name__ == "__main__":
    bench_own_table()

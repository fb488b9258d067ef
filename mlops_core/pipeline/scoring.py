"""`mlops score`: the champion's bundle over a file, with a progress bar."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mlops_core.params import load_params
from mlops_core.paths import find_root
from mlops_core.serve.batch import ScoreError, score_file
from mlops_core.serve.predictor import load_predictor
from mlops_core.serve.tables import count_rows
from mlops_core.settings import load_settings, parse_model


def score_table(source: Path, target: Path, model: str) -> str:
    """Scores and says how it went. Raises ScoreError, ModelNameError, ModelNotFoundError, BundleError."""
    if not source.is_file():
        raise ScoreError(source, "there is no such file")
    root = find_root()
    name, alias = parse_model(model or f"{load_params(root=root).dataset}@champion")
    from mlops_core.registry.champions import locate_bundle, require_champion
    from mlops_core.registry.store import open_store

    store = open_store(root, load_settings())
    version = int(require_champion(store, name, alias).version)
    predictor = load_predictor(locate_bundle(store, name, version), threads=0)
    started = time.perf_counter()
    with tqdm(total=_rows(source), unit=" rows", unit_scale=True, disable=not sys.stderr.isatty()) as bar:
        done = score_file(predictor, source, target, _ticker(bar))
    seconds = time.perf_counter() - started
    apart = (
        f"; {done.rejected:,} bad rows in {target.with_suffix(f'.rejected{target.suffix}').name}"
        if done.rejected
        else ""
    )
    rate = (done.rows + done.rejected) / seconds
    speed = f"in {seconds:.1f} s ({rate:,.0f} rows/s)"
    return f"{done.rows:,} rows scored by {name} version {version} {speed} → {target.name}{apart}"


def _ticker(bar: Any) -> Callable[[int], None]:
    def tick(rows: int) -> None:
        bar.update(rows)

    return tick


def _rows(source: Path) -> int | None:
    try:
        return count_rows(source)
    except (OSError, ValueError):  # what is wrong with the file is told when it is read
        return None

"""Small files under `reports/` that other programs read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_core.paths import Paths

if TYPE_CHECKING:
    import pandas as pd


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def write_json(path: Path, tree: Mapping[str, Any]) -> None:
    """JSON in a fixed order; numbers that are not finite are refused."""
    write_text(path, json.dumps(tree, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """For `dvc plots show`."""
    write_text(path, table.to_csv(index=False))


def write_metrics(paths: Paths, stage: str, tree: Mapping[str, Any]) -> None:
    write_json(paths.metrics(stage), tree)


def read_metrics(paths: Paths, stage: str) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads(paths.metrics(stage).read_text(encoding="utf-8"))
    return metrics

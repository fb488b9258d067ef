"""Small files that other programs read, under `reports/` most of them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_core.paths import Paths

if TYPE_CHECKING:
    import pandas as pd


def replace_file(path: Path, data: bytes) -> None:
    """Writes all or nothing: a full disk or a killed process leaves the old file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.tmp")
    try:
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


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

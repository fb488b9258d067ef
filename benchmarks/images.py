"""Sizes of the images above their base, and how long they take to build: from nothing, after an edit, unchanged.

Wants a Docker engine and a quiet machine: `python -m benchmarks.images` writes `benchmarks/images.json`.
From nothing means that no layer is reused; packages come from the machine's own cache of downloads where it has one.
"""

import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.measure import ROOT
from mlops_core.package import LOCKS, MEGABYTE

RESULTS = Path(__file__).with_name("images.json")
BASE = "python:3.12-slim-bookworm"
TAG = "bench"


def _docker(*arguments: str, folder: Path = ROOT) -> str:
    return subprocess.run(["docker", *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout


def _build(target: str, folder: Path, *more: str) -> float:
    started = time.perf_counter()
    _docker("build", "-q", *more, "--target", target, "-t", f"mlops-{target}:{TAG}", ".", folder=folder)
    return time.perf_counter() - started


def _megabytes(image: str) -> float:
    return int(_docker("image", "inspect", "-f", "{{.Size}}", image)) / MEGABYTE


def bench_images(rounds: int = 3) -> dict[str, dict[str, float]]:
    """By target. The floor of a build is one of an unchanged checkout, which finds every layer."""
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "checkout"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
        shutil.copy(ROOT / "Dockerfile", folder)
        edited = folder / "mlops_core" / "errors.py"
        for target in LOCKS:
            whole = _build(target, folder, "--no-cache")
            unchanged, rebuilt = [], []
            for number in range(rounds):
                unchanged.append(_build(target, folder))
                edited.write_text(f"{edited.read_text(encoding='utf-8')}\n# edit {number}\n", encoding="utf-8")
                rebuilt.append(_build(target, folder))
            found[target] = {
                "MB": _megabytes(f"mlops-{target}:{TAG}"),
                "MB above base": _megabytes(f"mlops-{target}:{TAG}") - _megabytes(BASE),
                "build from nothing, s": whole,
                "unchanged (floor), s": float(np.median(unchanged)),
                "after an edit, s": float(np.median(rebuilt)),
            }
    standin = '{{index .Config.Labels "local.standin"}}'
    found["base"] = {
        "MB": _megabytes(BASE),
        "local stand-in": float(_docker("image", "inspect", "-f", standin, BASE).strip() == "true"),
    }
    return found


def main() -> None:
    results = bench_images()
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    for name, part in results.items():
        print(name, *(f"{what} {value:,.1f}" for what, value in part.items()), sep="   ")


if __name__ == "__main__":
    main()

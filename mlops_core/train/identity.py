"""What a training run is known by: its question and its answer."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlops_core.params import Params
from mlops_core.serve.bundle import FORMAT


def read_best(path: Path) -> dict[str, Any]:
    """Family and settings, as experiment 6 wrote them."""
    best: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return best


def pipeline_run_id(params: Params, digests: Sequence[str], best: Mapping[str, Any]) -> str:
    """One id per question and answer: parameters, tuned settings, kind of bundle, and `digests` of rows and schema."""
    chosen = params.model_dump(
        exclude={
            "tune": {"workers", "seconds", "trials"},
            "version": True,
            "track": True,
            "serve": True,
            "package": True,
            "deploy": True,
            "frontend": True,
        }
    )
    key = json.dumps([chosen, *digests, best["family"], best["settings"], FORMAT], sort_keys=True)
    return hashlib.sha256(key.encode()).hexdigest()[:16]

"""The columns of an answer, alike in files, in MLflow and over HTTP."""

import re
from typing import Any

import numpy as np

from mlops_core.serve.predictor import Doubles, Predictor

MAX_PACKED = 62  # classes that fit into one integer


def probability_columns(labels: list[str]) -> list[str]:
    """`probability_on_time` for the class 'on time'; labels that would share a name get their position too."""
    names = ["probability_" + (re.sub(r"\W+", "_", label).strip("_") or "class") for label in labels]
    while len(set(names)) < len(names):
        names = [f"{name}_{place}" if names.count(name) > 1 else name for place, name in enumerate(names)]
    return names


def answer_columns(predictor: Predictor, answer: Doubles) -> dict[str, Any]:
    """Label, confidence, prediction set and a probability per class; value and interval for regression."""
    if predictor.schema.task == "regression":
        low, high = predictor.interval(answer)
        return {"value": answer, "low": low, "high": high}
    names = np.array(predictor.schema.classes, dtype=object)
    chosen = predictor.labels(answer)
    sets = predictor.prediction_sets(answer)
    return {
        "label": names[chosen],
        "confidence": answer[np.arange(len(answer)), chosen],
        "prediction_set": _join_sets(names, sets),
        **dict(zip(probability_columns(predictor.schema.classes), answer.T, strict=True)),
    }


def _join_sets(names: Any, sets: Any) -> Any:
    # Few distinct sets, many rows: join each set once.
    if len(names) > MAX_PACKED:
        return np.array([" | ".join(names[row]) for row in sets], dtype=object)
    codes = sets @ (1 << np.arange(len(names)))
    distinct, which = np.unique(codes, return_inverse=True)
    joined = [" | ".join(names[(code >> np.arange(len(names))) & 1 == 1]) for code in distinct]
    return np.array(joined, dtype=object)[which]

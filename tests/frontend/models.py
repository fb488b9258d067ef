"""Answers of `GET /v1/model` for the three tasks, as the API gives them, and rows to ask about."""

from typing import Any

from mlops_core.frontend.facts import Model, read_model

COLUMNS: list[dict[str, Any]] = [
    {"name": "at", "type": "datetime", "required": True, "example": "2013-05-06T07:08"},
    {
        "name": "amount",
        "type": "number",
        "required": False,
        "low": -100.0,
        "high": 100.0,
        "seen_low": -50.0,
        "seen_high": 60.0,
        "unit": "kg",
        "label": "Amount",
        "help": "As weighed",
        "example": 1.5,
    },
    {
        "name": "count",
        "type": "integer",
        "required": True,
        "low": 0.0,
        "high": 50.0,
        "seen_low": 0.0,
        "seen_high": 40.0,
        "example": 3,
    },
    {
        "name": "kind",
        "type": "category",
        "required": False,
        "categories": ["u", "v", "w"],
        "names": {"u": "Upper", "v": "Valley"},
        "example": "u",
    },
    {
        "name": "gate",
        "type": "category",
        "required": True,
        "categories": ["A", "B"],
        "unseen": "refuse",
        "example": "A",
    },
    {"name": "open", "type": "boolean", "required": False, "example": True},
]
CLASSES = {"binary": ["no", "yes"], "multiclass": ["low", "middle", "high"], "regression": []}
ROW = {column["name"]: column["example"] for column in COLUMNS}


def model_tree(task: str = "binary", **changes: Any) -> dict[str, Any]:
    return {
        "name": "small",
        "version": 2,
        "alias": "champion",
        "task": task,
        "title": "A small <table>",
        "question": "What comes?",
        "target": {"name": "outcome", "label": "Outcome", "unit": "kg" if task == "regression" else ""},
        "columns": COLUMNS,
        "classes": CLASSES[task],
        "threshold": 0.3 if task == "binary" else None,
        "coverage": 0.9,
        "metrics": {"log_loss": 0.5, "roc_auc": 0.7} if task != "regression" else {"rmse": 3.2, "r2": 0.4},
        "importance": {"amount": 0.2, "kind": 0.1, "at": 0.05, "count": 0.01, "gate": 0.0, "open": -0.01},
        "example": ROW,
        "registered_at": "2026-01-02T03:04:05+00:00",
        "promoted_at": "",
        **changes,
    }


def make_model(task: str = "binary", **changes: Any) -> Model:
    return read_model(model_tree(task, **changes))


def make_answer(task: str = "binary", **changes: Any) -> dict[str, Any]:
    """What `/v1/explain` says of a row, with the version."""
    parts = {"at": 0.02, "amount": -0.2, "count": 0.0, "kind": 0.1, "gate": 0.01, "open": -0.03}
    common = {"id": f"{'a' * 32}-0", "version": 2, "base_value": 0.5, "contributions": parts}
    if task == "regression":
        return {**common, "value": 12.5, "interval": [8.0, 17.0], **changes}
    shares = dict(zip(CLASSES[task], (0.6, 0.4) if task == "binary" else (0.5, 0.3, 0.2), strict=True))
    label = CLASSES[task][0]
    return {
        **common,
        "label": label,
        "probabilities": shares,
        "confidence": shares[label],
        "prediction_set": [label],
        **changes,
    }

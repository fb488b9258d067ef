"""Examples for the document: the served model's own example row, and what it answers to it."""

from typing import Any

import numpy as np

from api.serving import Served
from mlops_core.explain import explain
from mlops_core.features import encode

Sample = dict[str, Any]
ID = "019a3c5d7e0f7a1b8c2d3e4f5a6b7c8d-0"
PASSWORD = "correct horse battery staple"  # noqa: S105  everybody knows this one
FIXED: Sample = {
    "TokenForm": {
        "password": {"grant_type": "password", "username": "ada", "password": PASSWORD, "scope": "predict"},
        "program": {"grant_type": "client_credentials", "client_id": "prometheus", "client_secret": PASSWORD},
        "refresh": {"grant_type": "refresh_token", "refresh_token": "…"},
    },
    "NewUser": {"analyst": {"name": "ada", "password": PASSWORD, "scopes": ["predict"]}},
    "UserChange": {"disable": {"enabled": False}, "promote": {"scopes": ["predict", "monitor"]}},
    "Rollback": {"reason": {"reason": "it misses what matters since Monday"}},
}


def example_row(served: Served) -> dict[str, Any]:
    """One valid instance."""
    columns = served.predictor.schema.columns
    return {column.name: column.example for column in columns if column.example is not None}


def build_sample(served: Served | None) -> Sample:
    """Examples by the name of a schema: of a body several, by their own names; of an answer one."""
    if served is None:
        return FIXED
    row = example_row(served)
    one, explained = _answers(served, row)
    model = {"name": served.name, "version": served.version}
    instances, split = {"instances": [row]}, {"columns": list(row), "data": [list(row.values())]}
    return {
        **FIXED,
        "PredictBody": {"example": instances},
        "ExplainBody": {"example": instances},
        "OutcomesBody": {"example": [{"id": ID, "outcome": one.get("label", one.get("value"))}]},
        "InvocationsBody": {
            "records": {"dataframe_records": [row]},
            "split": {"dataframe_split": split},
            "instances": instances,
        },
        "PredictAnswer": {"model": model, "predictions": [one]},
        "ExplainAnswer": {"model": model, "predictions": [explained]},
        "InvocationsAnswer": {"predictions": [one]},
    }


def _answers(served: Served, row: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    predictor = served.predictor
    matrix = encode(predictor.schema, {name: [value] for name, value in row.items()}, 1)
    found = explain(predictor, served.background, matrix)
    names = [column.name for column in predictor.schema.columns]
    reasons = {
        "base_value": float(found.base_value[0]),
        "contributions": dict(zip(names, found.contributions[0].tolist(), strict=True)),
    }
    one = {"id": ID, **_describe(served, found.answer)}
    return one, {**one, **reasons}


def _describe(served: Served, answer: Any) -> dict[str, Any]:
    predictor = served.predictor
    if predictor.schema.task == "regression":
        low, high = predictor.interval(answer)
        return {"value": float(answer[0]), "interval": [float(low[0]), float(high[0])]}
    classes, label = predictor.schema.classes, int(predictor.labels(answer)[0])
    inside = np.flatnonzero(predictor.prediction_sets(answer)[0])
    return {
        "label": classes[label],
        "probabilities": dict(zip(classes, answer[0].tolist(), strict=True)),
        "confidence": float(answer[0, label]),
        "prediction_set": [classes[place] for place in inside],
    }

"""JSON Schemas of the bodies that depend on the served model; without one they are free-form and still true."""

from typing import Any

import numpy as np

from mlops_core.features import Column, Schema

Tree = dict[str, Any]

LARGEST = float(np.finfo(np.float32).max)
SHOWN = 20  # categories that a description lists
NO_NUL = "^[^\\u0000]*$"
MOMENT = "^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\\.[0-9]{1,9})?)?)?$"
PROBABILITY = {"type": "number", "minimum": 0, "maximum": 1}
NUMBER = {"type": "number"}
PREDICTION_ID = {
    "type": "string",
    "pattern": "^[0-9a-f]{32}-(0|[1-9][0-9]{0,8})$",
    "description": "Comes back with the outcome.",
}


def ref(name: str) -> Tree:
    return {"$ref": f"#/components/schemas/{name}"}


def closed(properties: Tree, required: list[str] | None = None) -> Tree:
    """An object with these keys and no others, all of them required unless said otherwise."""
    needed = list(properties) if required is None else required
    tree = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**tree, "required": needed} if needed else tree


def column_schema(column: Column) -> Tree:
    """What one value of an instance may be."""
    tree = _optional(_type_of(column), column.required)
    title = column.label or column.name
    tree["title"] = f"{title} ({column.unit})" if column.unit else title
    notes = [column.help, _categories(column)]
    if not column.required:
        notes.append("May be missing or null.")
    text = " ".join(f"{note.rstrip('.')}." for note in notes if note)
    if text:
        tree["description"] = text
    if column.example is not None:
        tree["examples"] = [column.example]
    return tree


def _type_of(column: Column) -> Tree:
    if column.type in ("number", "integer"):
        low = -LARGEST if column.low is None else column.low
        high = LARGEST if column.high is None else column.high
        return {"type": column.type, "minimum": low, "maximum": high}
    if column.type == "boolean":
        return {"type": "boolean"}
    if column.type == "datetime":
        return {"type": "string", "format": "date-time-local", "pattern": MOMENT}
    if column.unseen == "refuse" and column.categories:
        return {"type": "string", "enum": list(column.categories)}
    return {"type": "string", "pattern": NO_NUL}


def _optional(tree: Tree, required: bool) -> Tree:
    if required:
        return tree
    more = {"enum": [*tree["enum"], None]} if "enum" in tree else {}
    return {**tree, "type": [tree["type"], "null"], **more}


def _categories(column: Column) -> str:
    if column.type != "category" or column.unseen == "refuse":
        return ""
    known = ", ".join(column.categories[:SHOWN])
    more = len(column.categories) - SHOWN
    rest = f" and {more} more" if more > 0 else ""
    return f"Known values: {known}{rest}; another one is answered and flagged as unusual"


def instance_schema(schema: Schema | None) -> Tree:
    """One row that is asked about."""
    if schema is None:
        return {"type": "object", "description": "Which columns there are is known once a model is loaded."}
    properties = {column.name: column_schema(column) for column in schema.columns}
    return closed(properties, [column.name for column in schema.columns if column.required])


def outcome_schema(schema: Schema | None) -> Tree:
    """What may have come of a prediction."""
    if schema is None:
        return {"type": ["string", "number"]}
    return {"type": "number"} if schema.task == "regression" else {"type": "string", "enum": schema.classes}


def request_schemas(schema: Schema | None, max_rows: int, max_explained: int, max_outcomes: int) -> dict[str, Tree]:
    """What may be sent to /v1/predict, /v1/explain, /invocations and /v1/outcomes."""
    outcome = closed({"id": PREDICTION_ID, "outcome": outcome_schema(schema)})
    rows = {"type": "array", "items": ref("Instance"), "minItems": 1}
    many = {**rows, "maxItems": max_rows}
    names: Tree = {"type": "string"} if schema is None else {"enum": [column.name for column in schema.columns]}
    frame = {
        "type": "object",
        "properties": {
            "columns": {"type": "array", "items": names, "uniqueItems": True},
            "data": {"type": "array", "items": {"type": "array"}, "minItems": 1, "maxItems": max_rows},
        },
        "required": ["columns", "data"],
    }
    kinds = {"instances": many, "dataframe_records": many, "dataframe_split": frame}
    return {
        "Instance": instance_schema(schema),
        "OutcomesBody": {"type": "array", "items": outcome, "minItems": 1, "maxItems": max_outcomes},
        "PredictBody": closed({"instances": many}),
        "ExplainBody": closed({"instances": {**rows, "maxItems": max_explained}}),
        "InvocationsBody": {
            "oneOf": [
                {"type": "object", "title": kind, "properties": {kind: tree}, "required": [kind]}
                for kind, tree in kinds.items()
            ]
        },
    }


def prediction_properties(schema: Schema | None) -> Tree:
    """What is said of one row."""
    identity: Tree = {"id": PREDICTION_ID}
    if schema is None:
        return identity
    if schema.task == "regression":
        return {
            **identity,
            "value": NUMBER,
            "interval": {"type": "array", "items": NUMBER, "minItems": 2, "maxItems": 2},
        }
    label = {"type": "string", "enum": schema.classes}
    return {
        **identity,
        "label": label,
        "probabilities": closed(dict.fromkeys(schema.classes, PROBABILITY)),
        "confidence": {**PROBABILITY, "description": "The probability of the label."},
        "prediction_set": {"type": "array", "items": label, "description": "Classes that cannot be ruled out."},
    }


def _entry(schema: Schema | None, more: Tree) -> Tree:
    if schema is None:
        return {"type": "object"}
    names = {"enum": [column.name for column in schema.columns]}
    unusual = {"type": "array", "items": names, "description": "Columns whose value training never saw."}
    needed = {**prediction_properties(schema), **more}
    return closed({**needed, "unusual": unusual}, list(needed))


def answer_schemas(schema: Schema | None) -> dict[str, Tree]:
    """What comes back from /v1/predict, /v1/explain and /invocations."""
    reasons: Tree = {}
    if schema is not None:
        parts = closed(dict.fromkeys((column.name for column in schema.columns), NUMBER))
        reasons = {"base_value": NUMBER, "contributions": parts}
    model = closed({"name": {"type": "string"}, "version": {"type": "integer"}})
    listed = {name: {"type": "array", "items": ref(name)} for name in ("Prediction", "Explanation")}
    return {
        "Prediction": _entry(schema, {}),
        "Explanation": _entry(schema, reasons),
        "PredictAnswer": closed({"model": model, "predictions": listed["Prediction"]}),
        "ExplainAnswer": closed({"model": model, "predictions": listed["Explanation"]}),
        "InvocationsAnswer": closed({"predictions": listed["Prediction"]}),
    }

"""The clouds' own descriptions of what they accept, as their client libraries carry them."""

import enum
import functools
import json
import types
import typing
from importlib.resources import files
from typing import Any

import azure.mgmt.appcontainers.models as azure_models
from azure.mgmt.appcontainers._utils.model_base import Model


@functools.cache
def _discovered() -> dict[str, Any]:
    document = files("googleapiclient") / "discovery_cache" / "documents" / "run.v1.json"
    return json.loads(document.read_text(encoding="utf-8"))["schemas"]


def cloud_run_says(schema: str) -> str:
    """What Google's description tells of one of its schemas."""
    return _discovered()[schema]["description"]


def cloud_run_schema(kind: str) -> dict[str, Any]:
    """A JSON Schema of `run.googleapis.com/v1`, from Google's discovery document; unknown fields are refused."""
    definitions = {name: _as_json_schema(schema) for name, schema in _discovered().items()}
    return {"$ref": f"#/definitions/{kind}", "definitions": definitions}


def _as_json_schema(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_as_json_schema(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _as_json_schema(item) for key, item in schema.items() if key != "id" and item != "any"}
    if isinstance(found.get("$ref"), str):
        found["$ref"] = f"#/definitions/{found['$ref']}"
    if isinstance(found.get("properties"), dict) and "type" in found:
        found["additionalProperties"] = False
    if found.get("format") == "int64":  # JSON has them as strings, for the sake of JavaScript; YAML need not
        found["type"] = ["string", "integer"]
    return found


def azure_faults(value: Any, model: Any, at: str = "") -> list[str]:
    """Where a value is not what Microsoft's models say: unknown fields, wrong types, words that no enumeration has."""
    origin, choices = typing.get_origin(model), typing.get_args(model)
    if origin in (typing.Union, types.UnionType):
        return _faults_of_union(value, [choice for choice in choices if choice is not type(None)], at)
    if origin is list:
        return [fault for i, item in enumerate(value) for fault in azure_faults(item, choices[0], f"{at}[{i}]")]
    if origin is dict:
        return [fault for key, item in value.items() for fault in azure_faults(item, choices[1], f"{at}.{key}")]
    if issubclass(model, Model):
        return _faults_of_model(value, model, at)
    fits = isinstance(value, (int, float) if model is float else model) and not (model is int and value is True)
    return [] if fits else [f"{at}: {value!r} is no {model.__name__}"]


def _faults_of_union(value: Any, choices: list[Any], at: str) -> list[str]:
    listed = [choice for choice in choices if isinstance(choice, type) and issubclass(choice, enum.Enum)]
    if listed:
        known = {member.value for choice in listed for member in choice}
        return [] if value in known else [f"{at}: {value!r} is none of {sorted(known)}"]
    tried = [azure_faults(value, choice, at) for choice in choices]
    return min(tried, key=len)


def _faults_of_model(value: Any, model: Any, at: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{at}: {value!r} is no {model.__name__}"]
    hints = typing.get_type_hints(model, localns={"_models": azure_models})
    model({})  # learns its fields' names
    fields = {rest._rest_name: hints[name] for name, rest in model._attr_to_rest_field.items()}
    faults = [f"{at}.{key}: {model.__name__} has no such field" for key in value if key not in fields]
    known = {key: item for key, item in value.items() if key in fields}
    return faults + [fault for key, item in known.items() for fault in azure_faults(item, fields[key], f"{at}.{key}")]

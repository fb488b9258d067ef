"""Predictions and their reasons; the columns come from the served bundle, so another table needs no code."""

from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Request, Response, Security
from pydantic_core import to_json
from starlette.concurrency import run_in_threadpool

from api.bodies import columns_of_frame, parse_json, read_instances, refuse, to_columns
from api.callers import Caller
from api.dependencies import ServedDep, State, StateDep, require_caller
from api.entries import Answered, new_batch
from api.problems import ProblemError
from api.serving import Served
from mlops_core.explain import explain
from mlops_core.features import Floats, Values, encode, find_problems, find_unusual
from mlops_core.serve.predictor import Doubles

JSON = "application/json"
MAX_EXPLAINED = 64

router = APIRouter(tags=["predict"])

PredictCaller = Annotated[Caller, Security(require_caller, scopes=["predict"])]


async def read_json(request: Request) -> Any:
    """The parsed body. Raises ProblemError for another content type, or for what is not strict JSON."""
    kind, _, options = request.headers.get("content-type", "").partition(";")
    if kind.strip().lower() != JSON or options.strip().lower() not in ("", "charset=utf-8", 'charset="utf-8"'):
        raise ProblemError(415, f"Send the body as {JSON} in UTF-8.")
    return parse_json(await request.body())


def encode_rows(served: Served, rows: list[Any]) -> tuple[dict[str, Values], Floats]:
    """Columns and matrix of checked rows. Raises ProblemError 422."""
    schema = served.predictor.schema
    columns = to_columns(schema, rows)
    problems = find_problems(schema, columns, len(rows))
    if problems:
        raise refuse(problems)
    return columns, encode(schema, columns, len(rows))


def describe(served: Served, batch: str, matrix: Floats, answer: Doubles) -> list[dict[str, Any]]:
    """One entry per row: its id in the log, the answer, and the columns whose value training never saw."""
    predictor, schema = served.predictor, served.predictor.schema
    ids = [f"{batch}-{row}" for row in range(len(matrix))]
    if schema.task == "regression":
        width = predictor.constants.conformal
        entries = [
            {"id": key, "value": value, "interval": [value - width, value + width]}
            for key, value in zip(ids, answer.tolist(), strict=True)
        ]
    else:
        chosen, sets, classes = predictor.labels(answer), predictor.prediction_sets(answer), schema.classes
        entries = [
            {
                "id": key,
                "label": classes[label],
                "probabilities": dict(zip(classes, row, strict=True)),
                "confidence": row[label],
                "prediction_set": [name for name, inside in zip(classes, members, strict=True) if inside],
            }
            for key, label, row, members in zip(ids, chosen.tolist(), answer.tolist(), sets.tolist(), strict=True)
        ]
    for column, rows in find_unusual(schema, matrix).items():
        for row in np.flatnonzero(rows):
            entries[row].setdefault("unusual", []).append(column)
    return entries


def keep(
    state: State,
    caller: Caller,
    served: Served,
    kind: str,
    columns: dict[str, Values],
    matrix: Floats,
    answer: Doubles,
) -> list[dict[str, Any]]:
    """The entries of an answer that is in the log now. Raises LogFullError, which becomes 503."""
    batch = new_batch()
    entries = describe(served, batch, matrix, answer)
    labels = None if served.predictor.schema.task == "regression" else [entry["label"] for entry in entries]
    state.log.append(Answered(batch, caller.user.id, served.name, served.version, kind, columns, answer, labels))
    state.metrics.count_rows(served.name, served.version, len(entries))
    return entries


def _answer(served: Served, entries: list[dict[str, Any]]) -> Response:
    body = {"model": {"name": served.name, "version": served.version}, "predictions": entries}
    return Response(to_json(body), media_type=JSON, headers={"Cache-Control": "no-store"})


@router.post("/v1/predict")
async def predict(request: Request, caller: PredictCaller, state: StateDep, served: ServedDep) -> Response:
    """Label, probabilities, confidence and prediction set for every instance; value and interval for a number."""
    rows = read_instances(await read_json(request), state.settings.max_rows)
    columns, matrix = encode_rows(served, rows)
    return _answer(served, keep(state, caller, served, "predict", columns, matrix, served.predictor.predict(matrix)))


@router.post("/v1/explain")
async def explain_rows(request: Request, caller: PredictCaller, state: StateDep, served: ServedDep) -> Response:
    """The same, and what each column contributes: `base_value` plus all contributions is the explained probability."""
    rows = read_instances(await read_json(request), MAX_EXPLAINED)
    columns, matrix = encode_rows(served, rows)
    found = await run_in_threadpool(explain, served.predictor, served.background, matrix)
    entries = keep(state, caller, served, "explain", columns, matrix, found.answer)
    names = [column.name for column in served.predictor.schema.columns]
    for entry, base, parts in zip(entries, found.base_value.tolist(), found.contributions.tolist(), strict=True):
        entry |= {"base_value": base, "contributions": dict(zip(names, parts, strict=True))}
    return _answer(served, entries)


@router.post("/invocations")
async def invocations(request: Request, caller: PredictCaller, state: StateDep, served: ServedDep) -> Response:
    """What `mlflow models serve` accepts: `dataframe_records`, `dataframe_split` or `instances`."""
    tree = await read_json(request)
    kinds = {"dataframe_records", "dataframe_split", "instances"}
    if not isinstance(tree, dict) or len(kinds & set(tree)) != 1:
        raise ProblemError(422, f"The body must hold one of {', '.join(sorted(kinds))}.")
    if isinstance(tree.get("dataframe_split"), dict):
        tree = {"instances": columns_of_frame(tree["dataframe_split"])}
    rows = read_instances({"instances": tree.get("instances", tree.get("dataframe_records"))}, state.settings.max_rows)
    columns, matrix = encode_rows(served, rows)
    entries = keep(state, caller, served, "invocations", columns, matrix, served.predictor.predict(matrix))
    return Response(to_json({"predictions": entries}), media_type=JSON, headers={"Cache-Control": "no-store"})


@router.get("/v1/model")
async def read_model(_caller: PredictCaller, served: ServedDep) -> dict[str, Any]:
    """What a form needs: columns with types, categories, ranges and help; classes, importance, a valid example."""
    schema, constants = served.predictor.schema, served.predictor.constants
    columns = schema.to_dict()["columns"]
    return {
        "name": served.name,
        "version": served.version,
        "alias": served.alias,
        "task": schema.task,
        "columns": columns,
        "classes": schema.classes,
        "threshold": constants.threshold,
        "coverage": constants.coverage,
        "metrics": served.facts.get("metrics", {}),
        "importance": constants.importance or {},
        "example": {column["name"]: column["example"] for column in columns if column["example"] is not None},
    }

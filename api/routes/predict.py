"""Predictions and their reasons; the columns come from the served bundle, so another table needs no code.

These routes do without FastAPI's dependencies, which cost more than the prediction: they ask for the caller themselves.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import compress
from typing import Any

import numpy as np
import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from api.bodies import columns_of_frame, parse_json, read_instances, refuse, to_columns
from api.callers import Caller
from api.dependencies import PREDICT, PredictCaller, ServedDep, State, find_caller, read_body
from api.entries import Answered, new_batch
from api.problems import ProblemError
from api.schemas import ModelEvaluation
from api.serving import Served
from mlops_core.explain import explain
from mlops_core.features import Floats, Values, check_and_encode, find_unusual
from mlops_core.serve.predictor import Doubles

JSON = "application/json"
MAX_EXPLAINED = 64
QUICK_BYTES = 16 << 10  # a body of this size is answered sooner than a thread is woken

router = APIRouter(tags=["predict"])


@dataclass(frozen=True)
class Asked:
    """A request that may be answered: its caller has the scope, and there is a model."""

    state: State
    caller: Caller
    served: Served
    kind: str
    body: bytes

    def rows(self, tree: Any, max_rows: int, blank_moment: str | None = None) -> tuple[dict[str, Values], Floats]:
        """Columns and matrix of the instances; a moment that reads `blank_moment` is missing. Raises ProblemError."""
        schema, rows = self.served.predictor.schema, read_instances(tree, max_rows)
        columns = to_columns(schema, rows)
        for column in schema.columns if blank_moment else []:
            if column.type == "datetime" and column.name in columns:
                moments = columns[column.name]
                columns[column.name] = [None if moment == blank_moment else moment for moment in moments]
        problems, matrix = check_and_encode(schema, columns, len(rows))
        if problems:
            raise refuse(problems)
        return columns, matrix

    def keep(self, columns: dict[str, Values], matrix: Floats, answer: Doubles) -> list[dict[str, Any]]:
        """The entries of an answer that is in the log now. Raises LogFullError, which becomes 503."""
        batch, served = new_batch(), self.served
        entries = describe(served, batch, matrix, answer)
        labels = None if served.predictor.schema.task == "regression" else [entry["label"] for entry in entries]
        self.state.log.append(
            Answered(batch, self.caller.user.id, served.name, served.version, self.kind, columns, answer, labels)
        )
        self.state.metrics.count_rows(served, answer, labels)
        return entries

    def answer(self, entries: list[dict[str, Any]]) -> Response:
        named = {"model": {"name": self.served.name, "version": self.served.version}, "predictions": entries}
        return Response(orjson.dumps(named), media_type=JSON)


class _Spelt(dict[tuple[bool, ...], list[str]]):
    """Which classes are members, as a list of names: few distinct ones for many rows, so each is made once."""

    def __init__(self, classes: list[str]) -> None:
        super().__init__()
        self.classes = classes

    def __missing__(self, members: tuple[bool, ...]) -> list[str]:
        names = self[members] = list(compress(self.classes, members))
        return names


def describe(served: Served, batch: str, matrix: Floats, answer: Doubles) -> list[dict[str, Any]]:
    """One entry per row: its id in the log, the answer, and the columns whose value training never saw."""
    predictor, schema = served.predictor, served.predictor.schema
    ids = [f"{batch}-{row}" for row in range(len(matrix))]
    if schema.task == "regression":
        ends = (values.tolist() for values in predictor.interval(answer))
        entries = [
            {"id": key, "value": value, "interval": [low, high]}
            for key, value, low, high in zip(ids, answer.tolist(), *ends, strict=True)
        ]
    else:
        chosen, sets, classes = predictor.labels(answer), predictor.prediction_sets(answer), schema.classes
        spelt = _Spelt(classes)
        entries = [
            {
                "id": key,
                "label": classes[label],
                "probabilities": dict(zip(classes, row)),  # noqa: B905  `strict` costs as much as the rest
                "confidence": row[label],
                "prediction_set": spelt[members],
            }
            for key, label, row, members in zip(
                ids, chosen.tolist(), answer.tolist(), map(tuple, sets.tolist()), strict=True
            )
        ]
    for column, rows in find_unusual(schema, matrix).items():
        for row in np.flatnonzero(rows):
            entries[row].setdefault("unusual", []).append(column)
    return entries


def predict(asked: Asked) -> Response:
    """Label, probabilities, confidence and prediction set for every instance; value and interval for a number."""
    columns, matrix = asked.rows(parse_json(asked.body), asked.state.settings.max_rows)
    return asked.answer(asked.keep(columns, matrix, asked.served.predictor.predict(matrix)))


def explain_rows(asked: Asked) -> Response:
    """The same, and what each column contributes: `base_value` plus all contributions is the explained probability."""
    predictor = asked.served.predictor
    columns, matrix = asked.rows(parse_json(asked.body), MAX_EXPLAINED)
    found = explain(predictor, asked.served.background, matrix)
    entries = asked.keep(columns, matrix, found.answer)
    names = [column.name for column in predictor.schema.columns]
    for entry, base, parts in zip(entries, found.base_value.tolist(), found.contributions.tolist(), strict=True):
        entry |= {"base_value": base, "contributions": dict(zip(names, parts, strict=True))}
    return asked.answer(entries)


def invocations(asked: Asked) -> Response:
    """What `mlflow models serve` accepts: `dataframe_records`, `dataframe_split` or `instances`."""
    tree = parse_json(asked.body, nan_is_missing=True)
    kinds = {"dataframe_records", "dataframe_split", "instances"}
    if not isinstance(tree, dict) or len(kinds & set(tree)) != 1:
        raise ProblemError(422, f"The body must hold one of {', '.join(sorted(kinds))}.")
    if isinstance(tree.get("dataframe_split"), dict):
        tree = {"instances": columns_of_frame(tree["dataframe_split"])}
    tree = {"instances": tree.get("instances", tree.get("dataframe_records"))}
    columns, matrix = asked.rows(tree, asked.state.settings.max_rows, blank_moment="NaT")  # as the same clients write
    entries = asked.keep(columns, matrix, asked.served.predictor.predict(matrix))
    return Response(orjson.dumps({"predictions": entries}), media_type=JSON)


class Answering:
    """An ASGI app that asks who it is, reads the body, and works when it is its turn: on the loop what is quick."""

    def __init__(self, work: Callable[[Asked], Response], kind: str, quick_bytes: int) -> None:
        self.work, self.kind, self.quick_bytes = work, kind, quick_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self.answer(Request(scope, receive, send))
        await response(scope, receive, send)

    async def answer(self, request: Request) -> Response:
        state: State = request.app.state.api
        caller = await find_caller(request, state, PREDICT)
        asked = Asked(state, caller, state.slot.require(), self.kind, await read_body(request))
        with state.admission.place():
            if len(asked.body) <= self.quick_bytes:
                return self.work(asked)
            return await state.admission.run(request, self.work, asked)


class QuickRoute(Route):
    """A Starlette route that says which one it is, as FastAPI's do: metrics and the 405 ask for it."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, found = super().matches(scope)
        return match, {**found, "route": self}


ROUTES = [
    QuickRoute("/v1/predict", Answering(predict, "predict", QUICK_BYTES), methods=["POST"]),
    QuickRoute("/v1/explain", Answering(explain_rows, "explain", 0), methods=["POST"]),
    QuickRoute("/invocations", Answering(invocations, "invocations", QUICK_BYTES), methods=["POST"]),
]


@router.get("/v1/model")
async def read_model(_caller: PredictCaller, served: ServedDep) -> dict[str, Any]:
    """What a form needs: the question, columns with types, categories, ranges and help; importance, a valid example."""
    schema, constants = served.predictor.schema, served.predictor.constants
    columns = schema.to_dict()["columns"]
    return {
        "name": served.name,
        "version": served.version,
        "alias": served.alias,
        "registered_at": served.facts.get("registered_at", ""),
        "promoted_at": served.facts.get("promoted_at", ""),
        "title": schema.title,
        "question": schema.question,
        "task": schema.task,
        "target": {"name": schema.target, "label": schema.target_label, "unit": schema.target_unit},
        "columns": columns,
        "classes": schema.classes,
        "threshold": constants.threshold,
        "coverage": constants.coverage,
        "metrics": served.facts.get("metrics", {}),
        "importance": constants.importance or {},
        "example": {column["name"]: column["example"] for column in columns if column["example"] is not None},
    }


@router.get("/v1/model/evaluation")
async def read_evaluation(_caller: PredictCaller, served: ServedDep) -> ModelEvaluation:
    """What the test rows said of the served model. Raises ProblemError 404 where nobody wrote it down."""
    record = served.facts.get("evaluation")
    if record is None:
        reason = served.facts.get("no_evaluation", "it was registered without one")
        raise ProblemError(404, f"Version {served.version} of '{served.name}' has no evaluation: {reason}.")
    return ModelEvaluation.model_validate({"model": {"name": served.name, "version": served.version}, **record})

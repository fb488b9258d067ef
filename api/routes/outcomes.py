"""The truth about predictions, told later by whoever asked for them."""

import math
from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool

from api.bodies import parse_json
from api.dependencies import ADMIN, PredictCaller, ServedDep, StateDep, read_body
from api.outcomes import LogUnavailableError, Outcome, parse_id, store_outcomes
from api.problems import FieldError, ProblemError
from mlops_core.features import Schema

MAX_OUTCOMES = 1_000
FLUSH_WAIT_SECONDS = 2.0

router = APIRouter(tags=["outcomes"])


def read_outcomes(tree: Any, schema: Schema) -> list[Outcome]:
    """The checked outcomes of a body. Raises ProblemError 413, 422."""
    if not isinstance(tree, list) or not tree:
        raise ProblemError(422, 'The body must be [{"id": …, "outcome": …}, …] with at least one entry.')
    if len(tree) > MAX_OUTCOMES:
        raise ProblemError(413, f"There are {len(tree):,} outcomes, at most {MAX_OUTCOMES:,} are taken at a time.")
    outcomes, errors, seen = [], [], set()
    for position, item in enumerate(tree):
        found = _read_one(item, schema, f"/{position}")
        if isinstance(found, FieldError):
            errors.append(found)
        elif (found.batch, found.row) in seen:
            errors.append(FieldError(f"/{position}/id", "stands twice in this body"))
        else:
            seen.add((found.batch, found.row))
            outcomes.append(found)
    if errors:
        raise ProblemError(422, "Some outcomes cannot be used.", errors)
    return outcomes


def _read_one(item: Any, schema: Schema, pointer: str) -> Outcome | FieldError:
    if not isinstance(item, dict) or set(item) != {"id", "outcome"}:
        return FieldError(pointer, "must be an object with `id` and `outcome` and nothing else")
    key = parse_id(item["id"])
    if key is None:
        return FieldError(f"{pointer}/id", "must be the id of a prediction")
    problem = _outcome_problem(item["outcome"], schema)
    return FieldError(f"{pointer}/outcome", problem) if problem else Outcome(*key, item["outcome"])


def _outcome_problem(value: Any, schema: Schema) -> str:
    if schema.task != "regression":
        known = isinstance(value, str) and value in schema.classes
        return "" if known else f"must be one of {', '.join(schema.classes)}"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "must be a number"
    try:
        finite = math.isfinite(value)
    except OverflowError:  # an integer of more than 300 digits
        finite = False
    return "" if finite else "must be a finite number"


@router.post("/v1/outcomes")
async def add_outcomes(request: Request, caller: PredictCaller, state: StateDep, served: ServedDep) -> dict[str, int]:
    """Stores what came of predictions, all or none; told again, an outcome replaces the one before."""
    outcomes = read_outcomes(parse_json(await read_body(request)), served.predictor.schema)
    order = state.log.engine, caller.user.id, outcomes, ADMIN in caller.user.scopes
    unknown = await run_in_threadpool(store_outcomes, *order)
    if unknown:  # perhaps answered a moment ago, and not written yet
        if not await run_in_threadpool(state.log.flush, FLUSH_WAIT_SECONDS):
            raise LogUnavailableError
        unknown = await run_in_threadpool(store_outcomes, *order)
    if unknown:
        errors = [FieldError(f"/{position}/id", "is no prediction of this account") for position in unknown]
        raise ProblemError(404, "Some predictions are unknown; nothing was stored.", errors)
    return {"stored": len(outcomes)}

"""Is the process up, is a verified model loaded: never behind a queue, a database or a registry. And its numbers."""

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response, Security
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic_core import to_json
from starlette.concurrency import run_in_threadpool

from api.callers import Caller
from api.dependencies import State, StateDep, require_caller
from api.problems import RETRY_AFTER, ProblemError, answer

router = APIRouter(tags=["health"])


@router.get("/livez")
async def livez() -> dict[str, str]:
    """The process answers."""
    return {"status": "up"}


def _facts(state: State) -> dict[str, Any]:
    slot, away = state.slot, (state.log.database_down_since, state.callers.down_since)
    return {
        "model": {"name": slot.name, "version": slot.current.version if slot.current else None},
        "degraded": slot.degraded or away != (None, None),
        "refused": {str(version): reason for version, reason in slot.refused.items()},
        "alias_missing": slot.alias_missing,
        "registry_down_since": slot.registry_down_since,
        "prediction_log_down_since": away[0],
        "accounts_down_since": away[1],
    }


@router.get("/readyz")
async def readyz(request: Request, state: StateDep) -> Response:
    """200 with a verified model, 503 before; what was refused, and since when what is away, stands here too."""
    facts, draining = _facts(state), request.app.state.draining
    if state.slot.current is None or draining:
        detail = "The process is ending." if draining else "No verified model is loaded yet."
        headers = {"Retry-After": str(RETRY_AFTER)}
        return answer(request, ProblemError(503, detail, headers=headers, facts=facts))
    body = {"status": "ready", **facts}
    return Response(to_json(body), headers={"Cache-Control": "no-store"}, media_type="application/json")


@router.get("/metrics")
async def read_metrics(
    _caller: Annotated[Caller, Security(require_caller, scopes=["monitor"])], state: StateDep
) -> Response:
    """What Prometheus reads."""
    text = await run_in_threadpool(state.metrics.text)
    return Response(text, headers={"Cache-Control": "no-store", "Content-Type": CONTENT_TYPE_LATEST})

"""Is the process up, is a verified model loaded: never behind a queue, a database or a registry."""

from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic_core import to_json

from api.dependencies import StateDep

router = APIRouter(tags=["health"])


@router.get("/livez")
async def livez() -> dict[str, str]:
    """The process answers."""
    return {"status": "up"}


@router.get("/readyz")
async def readyz(request: Request, state: StateDep) -> Response:
    """200 with a verified model, 503 before; what was refused and since when the registry is away stands here too."""
    slot, draining = state.slot, request.app.state.draining
    ready = slot.current is not None and not draining
    body: dict[str, Any] = {
        "status": "ending" if draining else "ready" if ready else "no model",
        "model": {"name": slot.name, "version": slot.current.version if slot.current else None},
        "degraded": bool(slot.refused) or slot.registry_down_since is not None,
        "refused": {str(version): reason for version, reason in slot.refused.items()},
        "registry_down_since": slot.registry_down_since,
    }
    headers = {"Cache-Control": "no-store"} | ({} if ready else {"Retry-After": "5"})
    return Response(to_json(body), 200 if ready else 503, headers, "application/json")

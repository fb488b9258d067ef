"""The model registry, for administrators: what it holds, pick up the champion now, go back one."""

from collections.abc import Callable
from typing import Annotated, TypeVar

import structlog
from fastapi import APIRouter, Depends
from starlette.concurrency import run_in_threadpool

from api.dependencies import AdminCaller, StateDep, json_body
from api.problems import RETRY_AFTER, ProblemError
from api.registry import RegistryError
from api.schemas import ModelName, ModelsAnswer, ReloadAnswer, Rollback
from api.serving import ModelSlot

T = TypeVar("T")
ALIAS = "champion"  # the only one that is moved, and can be moved back
NOTHING_BEFORE = ("NothingBeforeError", "ModelNotFoundError")

router = APIRouter(tags=["models"])

log = structlog.get_logger("api")


def _unreachable() -> ProblemError:
    """Says nothing of addresses; the log does."""
    return ProblemError(
        503, "The model registry does not answer. Try again later.", headers={"Retry-After": str(RETRY_AFTER)}
    )


async def _ask(function: Callable[..., T], *arguments: str) -> T:
    """The registry's answer. Raises ProblemError 409 or 503."""
    try:
        return await run_in_threadpool(function, *arguments)
    except RegistryError as error:
        if error.kind in NOTHING_BEFORE:
            raise ProblemError(409, error.detail) from None
        log.warning("registry failed", kind=error.kind, error=str(error))
        raise _unreachable() from None


async def _refresh(slot: ModelSlot) -> ReloadAnswer:
    changed = await run_in_threadpool(lambda: slot.refresh(retry=True))
    if slot.registry_down_since is not None:
        raise _unreachable()
    version = slot.current.version if slot.current else None
    refused = {str(number): reason for number, reason in slot.refused.items()}
    return ReloadAnswer(changed=changed, model=ModelName(name=slot.name, version=version), refused=refused)


@router.get("/v1/models")
async def read_models(_caller: AdminCaller, state: StateDep) -> ModelsAnswer:
    """All registered versions of the served model, newest first, and which one is served."""
    slot = state.slot
    versions = await _ask(slot.registry.versions, slot.name)
    served = slot.current.version if slot.current else None
    return ModelsAnswer.model_validate({"name": slot.name, "alias": slot.alias, "served": served, "versions": versions})


@router.post("/admin/model/reload")
async def reload_model(_caller: AdminCaller, state: StateDep) -> ReloadAnswer:
    """Ask the registry for the champion now, and try a version again that was refused."""
    return await _refresh(state.slot)


@router.post("/admin/model/rollback")
async def roll_back_model(
    caller: AdminCaller, state: StateDep, body: Annotated[Rollback, Depends(json_body(Rollback))]
) -> ReloadAnswer:
    """Give the champion alias back to the version before, and serve that one."""
    slot = state.slot
    if slot.alias != ALIAS:
        raise ProblemError(409, f"This service follows the alias '{slot.alias}'; only the {ALIAS} can be rolled back.")
    version = await _ask(slot.registry.roll_back, slot.name, body.reason)
    log.warning("model rolled back", model=slot.name, to=version, reason=body.reason, user=caller.user.id)
    return await _refresh(slot)

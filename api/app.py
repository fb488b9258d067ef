"""Wires the service together: `create_app` takes what differs between a server and a test."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

from fastapi import FastAPI
from starlette.types import Scope

from api import accounts, passwords, sessions
from api.admission import Admission
from api.callers import Callers
from api.dependencies import State
from api.middleware import BodyLimit, HostCheck, LastResort, RequestContext
from api.migrations import migrate
from api.problems import install_handlers
from api.records import AccountsUnavailableError
from api.routes import admin, auth, health, predict
from api.serving import ModelSlot, NoModelError
from api.settings import ApiSettings
from api.throttle import ThrottledError
from api.tokens import build_key_ring
from mlops_core.database import open_engine
from mlops_core.paths import state_dir

SMALL_BODY = 64 << 10

# Error class: status, and what RFC 6749 calls it.
STATUSES = {
    sessions.InvalidCredentialsError: (401, "invalid_grant"),
    sessions.InvalidRefreshTokenError: (401, "invalid_grant"),
    sessions.ScopeNotGrantedError: (400, "invalid_scope"),
    accounts.WrongPasswordError: (403, ""),
    accounts.UserNameError: (422, ""),
    accounts.NameTakenError: (409, ""),
    accounts.UnknownUserError: (404, ""),
    accounts.ScopeError: (422, ""),
    accounts.PageLimitError: (422, ""),
    accounts.LastAdminError: (409, ""),
    passwords.PasswordPolicyError: (422, ""),
    passwords.HashingBusyError: (503, ""),
    ThrottledError: (429, ""),
    AccountsUnavailableError: (503, ""),
    NoModelError: (503, ""),
}


async def _watch(slot: ModelSlot, seconds: float) -> None:
    while True:
        await asyncio.to_thread(slot.refresh)
        await asyncio.sleep(seconds)


def create_app(settings: ApiSettings, root: Path, slot: ModelSlot) -> FastAPI:
    """The service, its database brought up to date. Raises what settings, keys and database raise."""
    ring = build_key_ring(settings.secret(root), settings.jwt_previous_secret.get_secret_value())
    url = settings.database(root)
    migrate(url, state_dir(root))

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        engine = open_engine(url)
        callers = Callers(ring, engine)
        admission = Admission(settings.workers, settings.waiting, settings.predict_seconds)
        app.state.api = State(settings, ring, engine, callers, slot, admission)
        await asyncio.to_thread(slot.load_local)
        watcher = asyncio.create_task(_watch(slot, settings.refresh_seconds))
        try:
            yield
        finally:
            watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watcher
            admission.close()
            slot.registry.close()
            callers.close()
            engine.dispose()

    app = FastAPI(title="mlops", lifespan=lifespan, redirect_slashes=False, docs_url=None, redoc_url=None)
    app.state.draining = False
    for module in (health, auth, admin, predict):
        app.include_router(module.router)
    install_handlers(app, STATUSES)
    # The last one added is the outermost.
    app.add_middleware(BodyLimit, limit=partial(_body_limit, settings), seconds=settings.body_seconds)
    app.add_middleware(HostCheck, allowed=settings.allowed_hosts)
    app.add_middleware(LastResort)
    app.add_middleware(RequestContext)
    return app


def _body_limit(settings: ApiSettings, scope: Scope) -> int:
    return settings.max_body_bytes if scope["path"].startswith(("/v1/", "/invocations")) else SMALL_BODY

"""Wires the service together: `create_app` takes what differs between a server and a test."""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import structlog
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from fastapi.telemetry import TelemetryConfig
from starlette.types import ASGIApp, Receive, Scope, Send

from api import accounts, passwords, sessions
from api.admission import Admission
from api.callers import Callers
from api.dependencies import State
from api.metrics import Metrics
from api.middleware import BodyLimit, HostCheck, RequestContext
from api.migrations import migrate
from api.openapi import TITLE, Documents
from api.outcomes import LogUnavailableError
from api.prediction_log import LogFullError, PredictionLog
from api.problems import install_handlers
from api.records import AccountsUnavailableError
from api.routes import admin, auth, docs, health, models, outcomes, predict, predict_file
from api.serving import ModelSlot, NoModelError
from api.settings import ApiSettings
from api.spool import Spool
from api.throttle import ThrottledError
from api.tokens import build_key_ring
from api.uploads import Uploads
from mlops_core.database import open_engine
from mlops_core.paths import state_dir

SMALL_BODY = 64 << 10
GC_OBJECTS = 100_000  # that are new before cycles are sought: a request of 1,000 rows makes thousands, none in a cycle

log = structlog.get_logger("api")

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
    LogFullError: (503, ""),
    LogUnavailableError: (503, ""),
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
    log_url = settings.prediction_log(root)
    prepare_log = _try_to_migrate(log_url, root) if log_url != url else None
    metrics = Metrics()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        engine = open_engine(url)
        log_engine = open_engine(
            log_url
        )  # of its own even for one database: a busy log must not use up the accounts' pool
        kept = PredictionLog(log_engine, Spool(state_dir(root) / "spool"), prepare=prepare_log)
        callers = Callers(ring, engine)
        admission = Admission(settings.workers, settings.waiting, settings.predict_seconds)
        limits = settings.max_rows, predict.MAX_EXPLAINED, outcomes.MAX_OUTCOMES
        documents = Documents(routes_of(app), limits)
        app.state.api = State(settings, ring, engine, callers, slot, admission, kept, metrics, documents)
        files = settings.max_files, settings.max_file_bytes, settings.max_file_rows
        app.state.uploads = Uploads(state_dir(root) / "uploads", *files, seconds=settings.predict_seconds)
        metrics.watch(app.state.api)
        await asyncio.to_thread(slot.load_local)
        await asyncio.to_thread(kept.start)
        gc.collect()
        gc.freeze()  # what lives as long as the service need not be looked through again and again
        gc.set_threshold(GC_OBJECTS)
        watcher = asyncio.create_task(_watch(slot, settings.refresh_seconds))
        try:
            yield
        finally:
            watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watcher
            admission.close()
            await asyncio.to_thread(kept.close)
            slot.close()
            callers.close()
            log_engine.dispose()
            engine.dispose()

    quiet = TelemetryConfig(tracing=False, metrics=False, logs=False)  # we have our own
    app = FastAPI(title=TITLE, lifespan=lifespan, redirect_slashes=False, openapi_url=None, telemetry=quiet)
    app.state.draining = False
    app.router.routes += predict.ROUTES  # first, because every request looks for its route from the top
    for module in (health, auth, admin, predict, predict_file, outcomes, models):
        app.include_router(module.router)
    if settings.show_docs:
        app.include_router(docs.router)
    install_handlers(app, STATUSES, routes_of(app))
    # The last one added is the outermost.
    app.add_middleware(partial(_limit_bodies, settings=settings))
    app.add_middleware(HostCheck, allowed=settings.allowed_hosts)
    app.add_middleware(RequestContext, observe=metrics.observe)
    return app


def _try_to_migrate(log_url: str, root: Path) -> Callable[[], None] | None:
    """What is still to be done once the log's database is back; until then predictions wait in files."""
    prepare = partial(migrate, log_url, state_dir(root), LogUnavailableError)
    try:
        prepare()
    except LogUnavailableError as error:
        reason = str(getattr(error.__cause__, "orig", None) or error).partition("\n")[0]
        log.warning("prediction log database down", kind=type(error).__name__, reason=reason)
        return prepare
    return None


def routes_of(app: FastAPI) -> set[tuple[str, str]]:
    """Method and path of everything that is answered."""
    found = iter_route_contexts(app.routes)
    return {(method, route.path) for route in found if route.path for method in route.methods or ()}


def _limit_bodies(app: ASGIApp, settings: ApiSettings) -> ASGIApp:
    """Files may be larger and take longer than what else is sent."""
    usual = BodyLimit(app, partial(_body_limit, settings), settings.body_seconds)
    files = BodyLimit(app, lambda _: settings.max_file_bytes, settings.file_seconds)

    async def limited(scope: Scope, receive: Receive, send: Send) -> None:
        await (files if scope.get("path") == predict_file.PATH else usual)(scope, receive, send)

    return limited


def _body_limit(settings: ApiSettings, scope: Scope) -> int:
    return settings.max_body_bytes if scope["path"].startswith(("/v1/", "/invocations")) else SMALL_BODY

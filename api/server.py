"""`mlops serve`: the service as a process that starts fast, drains before it ends, and leaves nothing behind."""

import asyncio
import signal
import socket
import sys
import time
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI

from api.accounts import ADMIN
from api.app import create_app
from api.logs import configure_logs
from api.protocol import MAX_HEADER_BYTES, Protocol
from api.registry import RegistryProcess
from api.serving import ModelSlot
from api.settings import ApiSettings, load_api_settings
from api.setup import KEPT_IN, ensure_admin
from mlops_core.database import open_engine
from mlops_core.errors import RequestError
from mlops_core.paths import state_dir

BACKLOG = 512
KEEP_ALIVE_SECONDS = 30
GRACE_SECONDS = 20


class AddressInUseError(RequestError):
    def __init__(self, host: str, port: int, reason: str) -> None:
        self.host, self.port = host, port
        super().__init__(f"Cannot listen on {host}:{port} ({reason}). Choose another port with --port.")


class Server(uvicorn.Server):
    """Says `not ready` first and goes on answering for `drain_seconds`, so that a balancer can turn away; then ends."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, drain_seconds: float) -> None:
        super().__init__(config)
        self.fastapi, self.drain_seconds, self.drain_until = app, drain_seconds, 0.0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  uvicorn's signature
        if self.drain_until or sig == signal.SIGINT:
            self.force_exit = self.should_exit and sig == signal.SIGINT
            self.should_exit = True
        self.fastapi.state.draining = True
        self.drain_until = self.drain_until or time.monotonic() + self.drain_seconds

    async def on_tick(self, counter: int) -> bool:
        stop = await super().on_tick(counter)
        return stop or bool(self.drain_until and time.monotonic() >= self.drain_until)


def build_slot(settings: ApiSettings, root: Path) -> ModelSlot:
    name, alias = settings.served_model(root)
    return ModelSlot(name, alias, state_dir(root) / "serving" / f"{name}@{alias}", RegistryProcess(root))


def _greet_admin(settings: ApiSettings, root: Path) -> None:
    engine = open_engine(settings.database(root))
    password = ensure_admin(engine, root)
    engine.dispose()
    if password:
        news = f"First start: the account '{ADMIN}' has the password {password} (kept in .mlops/{KEPT_IN})"
        print(news, file=sys.stderr, flush=True)


def open_socket(host: str, port: int) -> socket.socket:
    """A listening socket. Raises AddressInUseError."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise AddressInUseError(host, port, error.strerror or type(error).__name__) from None


def serve(root: Path, host: str, port: int) -> None:
    """Serves until a signal ends it. Raises MLOpsError for whatever is wrong before anything is answered."""
    configure_logs()
    settings = load_api_settings()
    listener = open_socket(host, port)
    app = create_app(settings, root, build_slot(settings, root))
    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies,
        log_config=None,
    )
    if settings.env == "local":
        _greet_admin(settings, root)
    address, taken = listener.getsockname()[:2]
    shown = f"[{address}]" if ":" in address else address
    print(f"API on http://{shown}:{taken}, pages on http://{shown}:{taken}/docs", file=sys.stderr, flush=True)
    asyncio.run(Server(config, app, settings.drain_seconds).serve([listener]))

"""`mlops serve`: the service as a process that starts fast, drains before it ends, and leaves nothing behind."""

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from api.accounts import ADMIN
from api.app import create_app
from api.logs import configure_logs
from api.protocol import protocol_with
from api.registry import RegistryProcess, copies_dir
from api.serving import ModelSlot
from api.settings import ApiSettings, load_api_settings
from api.setup import KEPT_IN, ensure_admin
from mlops_core.database import open_engine
from mlops_core.processes import open_socket

SWITCH_SECONDS = 0.0005  # Python's own ten times that is how long a small request would wait for a large one's thread
KEEP_ALIVE_SECONDS = 30
POLL_SECONDS = 0.1
M_ARENA_MAX, ARENAS = -8, 2  # malloc.h of glibc
SO_ATTACH_FILTER, BPF_RETURN = 26, 0x06  # asm-generic/socket.h, linux/bpf_common.h
CLOSE_HEADER = (b"connection", b"close")


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
        if self.drain_until and CLOSE_HEADER not in self.server_state.default_headers:
            self.server_state.default_headers.append(CLOSE_HEADER)  # clients come back on a connection to another one
        return stop or bool(self.drain_until and time.monotonic() >= self.drain_until)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Takes in who has connected already, before the listeners close: the kernel would reset them."""
        for listener in sockets or []:
            _turn_away(listener)
        waiting = [connection for listener in sockets or [] for connection in _accept_all(listener)]
        for server in self.servers:
            server.close()
        loop = asyncio.get_running_loop()
        for connection in waiting:
            await loop.connect_accepted_socket(self._make_protocol, connection)
        await super().shutdown(sockets)

    async def _wait_tasks_to_complete(self) -> None:
        """Ends at the second Ctrl+C, too: from Python 3.12 on, asyncio's servers wait for their connections."""
        waiting = asyncio.ensure_future(super()._wait_tasks_to_complete())
        try:
            while not (waiting.done() or self.force_exit):
                await asyncio.wait([waiting], timeout=POLL_SECONDS)
        finally:
            waiting.cancel()

    def _make_protocol(self) -> asyncio.Protocol:
        kind: Any = self.config.http_protocol_class
        return kind(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)


def _turn_away(listener: socket.socket) -> None:
    """Nobody connects any more: who did after the last `accept` would be reset, and who knocks now is refused soon.

    Linux alone can: a filter of one instruction drops what comes for the listener.
    """
    if sys.platform == "linux":
        drop = ctypes.create_string_buffer(struct.pack("HBBI", BPF_RETURN, 0, 0, 0))
        with contextlib.suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(drop)))


def _accept_all(listener: socket.socket) -> Iterator[socket.socket]:
    with contextlib.suppress(OSError):  # that nobody is left is one, too
        while True:
            connection, _ = listener.accept()
            connection.setblocking(False)
            yield connection


def build_slot(settings: ApiSettings, root: Path, registry: RegistryProcess) -> ModelSlot:
    name, alias = settings.served_model(root)
    return ModelSlot(name, alias, copies_dir(root) / f"{name}@{alias}", registry)


def _greet_admin(settings: ApiSettings, root: Path) -> None:
    engine = open_engine(settings.database(root))
    password = ensure_admin(engine, root)
    engine.dispose()
    if password:
        news = f"First start: the account '{ADMIN}' has the password {password} (kept in .mlops/{KEPT_IN})"
        print(news, file=sys.stderr, flush=True)


def _share_memory() -> None:
    """Threads share two heaps: each would have its own, and keep there what its largest request once took."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # only glibc has the setting, and the habit
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, ARENAS)


def serve(root: Path, host: str, port: int, registry: RegistryProcess) -> None:
    """Serves until a signal ends it. Raises MLOpsError for whatever is wrong before anything is answered."""
    configure_logs()
    sys.setswitchinterval(SWITCH_SECONDS)
    _share_memory()
    settings = load_api_settings()
    listener = open_socket(host, port)
    app = create_app(settings, root, build_slot(settings, root, registry))
    config = uvicorn.Config(
        app,
        http=protocol_with(settings.stall_seconds),
        ws="none",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=settings.grace_seconds,
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
    if app.state.api.admission.hanging:
        sys.stdout.flush()
        os._exit(0)  # Python would wait for the threads of predictions that hang

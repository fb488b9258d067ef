"""The kernels behind the page: how many there may be, what they may know of this machine, and warm ones in reserve."""

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from tornado.web import HTTPError
from traitlets import Int

# A kernel runs for a stranger: of the server's environment it gets what Python and the page need, and no secret.
ALLOWED = frozenset(
    ("PATH", "HOME", "USER", "LANG", "LANGUAGE", "TZ", "TMPDIR", "VIRTUAL_ENV", "SYSTEMROOT", "MLOPS_API_URL")
)
ALLOWED_PREFIXES = ("LC_", "VOILA_", "JPY_", "JUPYTER_")
PREHEAT = "VOILA_PREHEAT"
# A kernel that is ended in the middle of a message complains of its sockets; the page's own faults have their log.
QUIET = ["--IPKernelApp.log_level=CRITICAL"]


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What of it a kernel gets."""
    return {name: value for name, value in environment.items() if name in ALLOWED or name.startswith(ALLOWED_PREFIXES)}


class Kernels(AsyncMappingKernelManager):
    """At most `max_kernels` visitors at a time; one more gets a page that says so. Voilà derives its pool from this."""

    max_kernels = Int(8, config=True, help="Visitors at a time; each kernel takes about 85 MB.")
    leave_seconds = Int(60, config=True, help="A kernel whose page has been cut off for so long ends.")
    reserve = Int(1, config=True, help="Warm kernels kept for the next visitors, as far as there is room for them.")
    _closing = False

    def __init__(self, **kwargs: Any) -> None:
        self._alone: dict[str, float] = {}  # since when nobody has been connected
        super().__init__(**kwargs)  # type: ignore[no-untyped-call]

    def __init_subclass__(cls, **more: Any) -> None:
        # The pool must not grow over the cap: a refill that fails would stay in it for good, and break its bookkeeping.
        super().__init_subclass__(**more)
        fill: Callable[..., None] | None = cls.__dict__.get("fill_if_needed")
        if fill is None:
            return

        def fill_within_cap(self: Any, *args: Any, **kwargs: Any) -> None:
            self.kernel_pools_config = {"default": {"pool_size": self.room_for_reserve()}}
            fill(self, *args, **kwargs)

        cls.fill_if_needed = fill_within_cap

    def visitors(self) -> int:
        """Kernels that are not in reserve."""
        pools = getattr(self, "_pools", {}).values()
        ready = [
            item for pool in pools for item in pool if item.done() and not item.cancelled() and not item.exception()
        ]
        return len(self) - len(ready)

    def room_for_reserve(self) -> int:
        return max(0, min(self.reserve, self.max_kernels - self.visitors()))

    async def start_kernel(self, **kwargs: Any) -> str:  # type: ignore[override]
        """Raises HTTPError 503 when all places are taken."""
        environment = kwargs.get("env") or os.environ
        if environment.get(PREHEAT) != "True" and self.visitors() >= self.max_kernels:
            raise HTTPError(503, reason="The page is full")
        started = {**kwargs, "env": clean_environment(environment), "extra_arguments": QUIET}
        kernel_id: str = await super().start_kernel(**started)
        return kernel_id

    async def cull_kernel_if_idle(self, kernel_id: str) -> None:
        """Of those that are not in reserve: ends who has left without a word, and who has been idle for long."""
        if self._kernel_connections.get(kernel_id):
            self._alone.pop(kernel_id, None)
            await super().cull_kernel_if_idle(kernel_id)  # type: ignore[no-untyped-call]
        elif time.monotonic() - self._alone.setdefault(kernel_id, time.monotonic()) >= self.leave_seconds:
            await self.shutdown_kernel(kernel_id)

    async def shutdown_kernel(self, kernel_id: str, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """Whoever leaves makes room for the reserve."""
        self._alone.pop(kernel_id, None)
        await super().shutdown_kernel(kernel_id, *args, **kwargs)  # type: ignore[no-untyped-call]
        fill: Callable[..., None] | None = getattr(self, "fill_if_needed", None)
        if fill is not None and not self._closing:
            fill(notebook_name=self.notebook_path)

    async def shutdown_all(self, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        self._closing = True
        await super().shutdown_all(*args, **kwargs)

"""Work that follows a person's hands: at most one request at a time, always for what was entered last."""

import asyncio
from collections.abc import Awaitable, Callable


class Latest:
    """Runs `work` soon after `call`, and once more if it was called meanwhile; what came between is skipped."""

    def __init__(self, work: Callable[[], Awaitable[None]], pause_seconds: float = 0.03) -> None:
        self.work, self.pause_seconds = work, pause_seconds
        self._wanted = False
        self._task: asyncio.Task[None] | None = None

    def call(self) -> None:
        self._wanted = True
        if not self.busy:
            self._task = asyncio.get_running_loop().create_task(self._run())

    @property
    def busy(self) -> bool:
        return self._task is not None and not self._task.done()

    async def settled(self) -> None:
        """Waits until nothing is left to do."""
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        while self._wanted:
            await asyncio.sleep(self.pause_seconds)
            self._wanted = False
            await self.work()


class AfterQuiet:
    """Does something once nobody has called for a while."""

    def __init__(self, work: Callable[[], None], quiet_seconds: float) -> None:
        self.work, self.quiet_seconds = work, quiet_seconds
        self._timer: asyncio.TimerHandle | None = None

    def call(self) -> None:
        self.cancel()
        self._timer = asyncio.get_running_loop().call_later(self.quiet_seconds, self.work)

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

"""The bounded queue in front of predictions: who is over the bound hears so at once, and nobody waits for ever."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from starlette.requests import Request

from api.problems import ProblemError

T = TypeVar("T")
RETRY_AFTER = "1"


def busy(detail: str) -> ProblemError:
    return ProblemError(503, detail, headers={"Retry-After": RETRY_AFTER})


class Admission:
    """At most `workers` predictions at work beside the event loop, and `waiting` behind them.

    A prediction that hangs keeps its thread, since Python cannot end one; its place is given up after `seconds`, and
    a fresh set of threads takes over when all are lost that way.
    """

    def __init__(self, workers: int, waiting: int, seconds: float) -> None:
        self.workers, self.waiting, self.seconds = workers, waiting, seconds
        self.admitted = 0
        self._lost = 0
        self._pool = self._new_pool()
        self._slots = asyncio.Semaphore(workers)

    def _new_pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.workers, thread_name_prefix="predict")

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place in the queue for the time of the block. Raises ProblemError 503 when there is none."""
        if self.admitted >= self.workers + self.waiting:
            raise busy("Too many predictions are waiting. Try again.")
        self.admitted += 1
        try:
            yield
        finally:
            self.admitted -= 1

    async def run(self, request: Request, function: Callable[..., T], *arguments: Any) -> T:
        """The result of a function that runs in a thread, for a client that is still there when its turn comes.

        Raises ProblemError 503 when the turn or the result takes too long.
        """
        try:
            async with asyncio.timeout(self.seconds):
                await self._slots.acquire()
        except TimeoutError:
            raise busy("This prediction waited too long for its turn. Try again.") from None
        try:
            if await request.is_disconnected():
                raise busy("The client has gone.")
            work = asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)
            async with asyncio.timeout(self.seconds):
                return await asyncio.shield(work)
        except TimeoutError:
            self._lose()
            raise busy("This prediction took too long.") from None
        finally:
            self._slots.release()

    def _lose(self) -> None:
        self._lost += 1
        if self._lost >= self.workers:
            self._pool.shutdown(wait=False)
            self._pool, self._lost = self._new_pool(), 0

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

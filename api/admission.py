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

    A prediction that hangs keeps its thread, since Python cannot end one: it is given up after `seconds`, and a fresh
    set of threads takes over, so that whoever has a turn has a thread.
    """

    def __init__(self, workers: int, waiting: int, seconds: float) -> None:
        self.workers, self.seconds = workers, seconds
        self.room = workers + waiting
        self.admitted = self.refused = 0
        self.hanging = 0
        self._pool = self._new_pool()
        self._slots = asyncio.Semaphore(workers)

    def _new_pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.workers, thread_name_prefix="predict")

    @property
    def full(self) -> bool:
        return self.admitted >= self.room

    def _refusal(self, detail: str) -> ProblemError:
        self.refused += 1
        return busy(detail)

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place in the queue for the time of the block. Raises ProblemError 503 when there is none."""
        if self.full:
            raise self._refusal("Too many predictions are waiting. Try again.")
        self.admitted += 1
        try:
            yield
        finally:
            self.admitted -= 1

    async def run(self, request: Request, function: Callable[..., T], *arguments: Any) -> T:
        """The result of a function that runs in a thread, for a client that is still there when its turn comes.

        Raises ProblemError 503 when the turn or the result takes too long.
        """
        await self._take_turn(request)
        work = asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)
        try:
            async with asyncio.timeout(self.seconds):
                return await asyncio.shield(work)
        except TimeoutError:
            if work.done():
                return work.result()  # in the last moment, or the timeout is the function's own
            raise self._refusal("This prediction took too long.") from None
        finally:
            if not work.done():  # too late, or the server ends
                self._abandon(work)
            self._slots.release()

    async def _take_turn(self, request: Request) -> None:
        """Waits for a slot, as long as the client does: one that left must not hold a place against those who wait."""
        if self._slots.locked():
            await self._wait_or_leave(request)
        else:
            await self._slots.acquire()
        if await request.is_disconnected():
            self._slots.release()
            raise busy("The client has gone.")

    async def _wait_or_leave(self, request: Request) -> None:
        turn, left = asyncio.create_task(self._slots.acquire()), asyncio.create_task(_gone(request))
        try:
            await asyncio.wait((turn, left), timeout=self.seconds, return_when=asyncio.FIRST_COMPLETED)
            if not turn.done():
                if left.done():
                    raise busy("The client has gone.")
                raise self._refusal("This prediction waited too long for its turn.")
        except asyncio.CancelledError:
            if turn.done():
                self._slots.release()
            raise
        finally:
            turn.cancel()
            left.cancel()

    def _abandon(self, work: "asyncio.Future[Any]") -> None:
        def ended(late: "asyncio.Future[Any]") -> None:
            self.hanging -= 1
            if not late.cancelled():
                late.exception()  # nobody is left to hear of it

        self.hanging += 1
        work.add_done_callback(ended)
        self._pool.shutdown(wait=False)
        self._pool = self._new_pool()

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass

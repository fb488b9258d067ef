import asyncio
import selectors

from mlops_core.frontend.live import AfterQuiet, Latest


class Clock(selectors.SelectSelector):
    """Nobody waits: time passes when all have nothing to do but wait, so a busy machine changes no order."""

    now = 0.0

    def select(self, timeout=None):
        self.now += timeout or 0
        return super().select(0)


def run(work):
    clock = Clock()
    loop = asyncio.SelectorEventLoop(clock)
    loop.time = lambda: clock.now
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(work)


def test_what_is_called_while_it_works_is_done_once_more():
    async def work():
        seen = []

        async def slow():
            seen.append(now)
            await asyncio.sleep(0.02)

        latest = Latest(slow, pause_seconds=0)
        for now in range(5):  # noqa: B007  read by `slow`
            latest.call()
        await asyncio.sleep(0.01)
        for now in range(5, 9):  # noqa: B007  read by `slow`
            latest.call()
        await latest.settled()
        assert seen == [4, 8]
        assert not latest.busy

    run(work())


def test_quiet_is_counted_from_the_last_call():
    async def work():
        done = []
        after = AfterQuiet(lambda: done.append(1), 0.05)
        for _ in range(4):
            after.call()
            await asyncio.sleep(0.02)
        assert done == []
        await asyncio.sleep(0.06)
        assert done == [1]

    run(work())


def test_what_is_cancelled_does_not_happen():
    async def work():
        done = []
        after = AfterQuiet(lambda: done.append(1), 0.01)
        after.call()
        after.cancel()
        await asyncio.sleep(0.03)
        assert done == []

    run(work())

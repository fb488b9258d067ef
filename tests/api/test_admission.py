"""The queue in front of predictions, behind real sockets: who waits, who is refused, who is given up."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from fastapi import FastAPI, Request
from server import Answer, Wire, serving, wire_request

from api.admission import Admission
from api.middleware import RequestContext
from api.problems import install_handlers


@dataclass
class Workshop:
    """An app with one route, whose work blocks until it is let go, or for ever."""

    port: int
    admission: Admission
    go: threading.Event
    started: list[str] = field(default_factory=list)

    def wire(self, path: str = "/work") -> Wire:
        wire = Wire(self.port)
        wire.send(wire_request("GET", path))
        return wire

    def ask(self, path: str) -> Answer:
        with self.wire(path) as wire:
            return wire.answer("GET")

    def wait_for(self, admitted: int) -> None:
        end = time.monotonic() + 20
        while self.admission.admitted != admitted:
            assert time.monotonic() < end, self.admission.admitted
            time.sleep(0.01)


@contextmanager
def workshop(workers: int, waiting: int, seconds: float) -> Iterator[Workshop]:
    app, go = FastAPI(), threading.Event()
    shop = Workshop(0, None, go)  # type: ignore[arg-type]

    @app.get("/work")
    async def work(request: Request, name: str = "-") -> str:
        def block() -> str:
            shop.started.append(name)
            go.wait(20)
            return name

        with shop.admission.place():
            return await shop.admission.run(request, block)

    @app.get("/quick")
    async def quick(request: Request) -> str:
        with shop.admission.place():
            return await shop.admission.run(request, lambda: "quick")

    @app.get("/late")
    async def late(request: Request) -> Any:
        def fail() -> None:
            raise TimeoutError("the function's own")

        with shop.admission.place():
            return await shop.admission.run(request, fail)

    @app.get("/livez")
    async def livez() -> str:
        return "up"

    install_handlers(app, {}, set())
    app.add_middleware(RequestContext, observe=lambda *_: None)

    shop.admission = Admission(workers, waiting, seconds)
    with serving(app) as port:
        shop.port = port
        try:
            yield shop
        finally:
            go.set()
            shop.admission.close()


def left(wire: Wire) -> None:
    wire.socket.close()


def test_exactly_workers_and_waiters_are_held_and_the_next_is_refused_at_once() -> None:
    with workshop(2, 3, 20) as shop:
        held = [shop.wire() for _ in range(5)]
        shop.wait_for(5)
        refused = shop.ask("/work")
        refused.problem(503)
        assert int(refused.headers["retry-after"]) >= 1
        assert shop.ask("/livez").status == 200
        assert shop.admission.admitted == 5, "all who were there before still wait"
        assert len(shop.started) == 2
        shop.go.set()
        assert [wire.answer("GET").status for wire in held] == [200] * 5
        assert len(shop.started) == 5
        assert shop.ask("/work").status == 200
        for wire in held:
            left(wire)


def test_a_client_that_gives_up_while_it_waits_loses_its_place_and_its_work_is_never_done() -> None:
    with workshop(1, 2, 20) as shop:
        with shop.wire("/work?name=first") as first:
            shop.wait_for(1)
            leaving = [shop.wire("/work?name=left") for _ in range(2)]
            shop.wait_for(3)
            for wire in leaving:
                left(wire)
            shop.wait_for(1)  # although nothing has been finished
            with shop.wire("/work?name=last") as last:
                shop.wait_for(2)
                shop.go.set()
                assert [wire.answer("GET").json for wire in (first, last)] == ["first", "last"]
        assert shop.started == ["first", "last"]


def test_who_waits_too_long_for_a_turn_is_told_so() -> None:
    with workshop(1, 2, 0.5) as shop:
        with shop.wire() as first, shop.wire() as second:
            assert {first.answer("GET").status, second.answer("GET").status} == {503}
        shop.wait_for(0)


def test_predictions_that_hang_are_given_up_and_later_ones_still_work() -> None:
    with workshop(2, 10, 0.4) as shop:
        for _ in range(4):  # twice as many as there are workers, two at a time
            wires = [shop.wire() for _ in range(2)]
            for wire in wires:
                wire.answer("GET").problem(503)
                left(wire)
        assert shop.admission.hanging == 8
        assert [shop.ask("/quick").json for _ in range(5)] == ["quick"] * 5
        assert shop.admission.hanging == 8, "nobody waited for them to end"
        shop.go.set()
        end = time.monotonic() + 20
        while shop.admission.hanging:
            assert time.monotonic() < end
            time.sleep(0.01)
        assert shop.admission.admitted == 0


def test_a_timeout_of_the_works_own_is_an_error_and_no_hang() -> None:
    with workshop(1, 1, 5) as shop:
        shop.ask("/late").problem(500)
        assert shop.admission.hanging == 0
        assert shop.ask("/quick").json == "quick"


def test_a_failure_keeps_the_connection_and_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with workshop(1, 1, 5) as shop, Wire(shop.port) as wire:
        for _ in range(3):
            answer = wire.request("GET", "/late")
            answer.problem(500)
            assert b"own" not in answer.body
        assert wire.request("GET", "/quick").json == "quick"

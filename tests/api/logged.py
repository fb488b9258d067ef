"""Clients that remember what they were answered, and the log's table to hold it against."""

import http.client
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from server import ROW, Running, instances, wire_request
from sqlalchemy import create_engine, text

# Rows of a request on each connection: one is answered on the event loop, many in a thread.
CALLERS = (1, 1, 1, 1, 40, 500)


@dataclass(frozen=True)
class Told:
    """One 200: when the client had all of it, and what it said."""

    at: float
    batch: str
    ids: list[str]
    labels: list[str]
    answers: list[list[float]]


def read(at: float, body: bytes) -> Told:
    items = json.loads(body)["predictions"]
    return Told(
        at,
        items[0]["id"].partition("-")[0],
        [item["id"] for item in items],
        [item["label"] for item in items],
        [list(item["probabilities"].values()) for item in items],
    )


@dataclass
class Load:
    """Clients that ask one request after the other on their connections, until they are stopped or left alone."""

    server: Running
    callers: Sequence[int] = CALLERS
    pause: float = 0.0
    told: list[Told] = field(default_factory=list)
    refused: list[tuple[float, int]] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        self.server.token()
        self._threads = [threading.Thread(target=self._work, args=(rows,)) for rows in self.callers]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _work(self, rows: int) -> None:
        body = instances([{**ROW, "amount": float(number % 97)} for number in range(rows)])
        request = wire_request("POST", "/v1/predict", body, self.server.bearer())
        try:
            with self.server.wire(30) as wire:
                while not self._stop.wait(self.pause):
                    answer = wire.ask(request)
                    at = time.time()
                    if answer.status == 200:
                        self.told.append(read(at, answer.body))
                    else:
                        self.refused.append((at, answer.status))
                        answer.problem(503)
                        assert int(answer.headers["retry-after"]) > 0
                        self._stop.wait(0.05)
        except (OSError, http.client.HTTPException) as error:
            self.dropped.append(repr(error))


def stored(url: str) -> dict[str, dict[str, Any]]:
    """Every row of the table by its batch; each is whole, and none is there twice."""
    engine = create_engine(url)
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT * FROM mlops_predictions")).mappings().all()
    engine.dispose()
    found = {row["batch"]: dict(row) for row in rows}
    assert len(found) == len(rows), "a request is stored twice"
    for row in rows:
        inputs, outputs = json.loads(row["inputs"]), json.loads(row["outputs"])
        widths = {len(values) for values in (*inputs.values(), outputs["answers"], outputs["labels"])}
        assert widths == {row["rows"]}, "half a row"
    return found


def check_same(told: Told, row: dict[str, Any]) -> None:
    """What the log says is what the client was told."""
    outputs = json.loads(row["outputs"])
    assert told.ids == [f"{row['batch']}-{number}" for number in range(row["rows"])]
    assert (told.labels, told.answers) == (outputs["labels"], outputs["answers"])


def wait_until_written(server: Running, seconds: float = 30) -> None:
    """Until nothing waits in files."""
    spool, end = server.root / ".mlops" / "spool", time.monotonic() + seconds
    while any(spool.glob("*.spool")):
        assert time.monotonic() < end, sorted(path.name for path in spool.iterdir())
        time.sleep(0.02)

"""The log's database goes away and comes back under load: every 200 is in it exactly once, and /readyz says so."""

import asyncio
import contextlib
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from logged import Load, Told, check_same, stored, wait_until_written
from outages import altered, locked, moved
from server import PASSWORD, Answer, Running, running
from sqlalchemy import Engine, create_engine

from api.accounts import create_user
from api.migrations import migrate
from api.prediction_log import FLUSH_SECONDS
from mlops_core.database import open_engine

DISK = 4 << 20
OUTAGES: dict[str, Callable[[Engine], AbstractContextManager[None]]] = {
    "sqlite moved": moved,
    "sqlite locked": locked,
    "postgresql down": lambda engine: altered(engine, "ALLOW_CONNECTIONS false", "ALLOW_CONNECTIONS true"),
    "postgresql read-only": lambda engine: altered(
        engine, "SET default_transaction_read_only = on", "RESET default_transaction_read_only"
    ),
}
with_outages = pytest.mark.parametrize("name", list(OUTAGES))


@pytest.fixture
def url(name: str, make_database: Callable[[str], str]) -> str:
    return make_database(name.split()[0])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(disk)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@contextlib.contextmanager
def full(disk: Path) -> Iterator[None]:
    """Not a byte is left."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    yield
    filler.unlink()


@contextlib.contextmanager
def outage(name: str, url: str) -> Iterator[None]:
    engine = create_engine(url)
    with OUTAGES[name](engine):
        yield
    engine.dispose()


def state(server: Running) -> dict[str, Any]:
    answer = server.get("/readyz")
    assert answer.status == 200, answer.body
    found: dict[str, Any] = answer.json
    return found


def wait_for(condition: Callable[[], Any], seconds: float = 30) -> Any:
    """What the condition returns once it is true."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)
    return found


def since(server: Running) -> float | None:
    found = state(server)
    moment: float | None = found["prediction_log_down_since"]
    others = [found[name] for name in ("registry_down_since", "accounts_down_since")]
    assert found["degraded"] is ([moment, *others] != [None] * 3)
    return moment


def check_all(url: str, told: list[Told]) -> None:
    """What was told is stored, and nothing else; the last of it within seconds."""
    wait_for(lambda: len(stored(url)) >= len(told))
    found = stored(url)
    assert set(found) == {item.batch for item in told}
    for item in told:
        check_same(item, found[item.batch])


@with_outages
def test_every_200_of_an_outage_is_in_the_log_once_it_is_back(project: Path, url: str, name: str) -> None:
    with running(project, "/readyz", MLOPS_PREDICTION_LOG_URL=url) as server:
        load = Load(server, (1, 1, 200), pause=0.01)
        load.start()
        time.sleep(0.5)
        assert since(server) is None
        before = time.time()
        with outage(name, url):
            down = wait_for(lambda: since(server))
            assert before < down <= time.time()
            first = len(load.told)
            time.sleep(1)
            assert len(load.told) > first + 20, "predictions do not go on"
            assert server.get("/livez").status == 200
            assert since(server) == down
        back = time.time()
        wait_for(lambda: since(server) is None)
        noticed = time.time() - back
        time.sleep(0.3)
        load.stop()
        assert (load.refused, load.dropped) == ([], [])
        check_all(url, load.told)
        print(f"{len(load.told)} answers, out for {back - down:.1f} s, back after {noticed:.1f} s")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sqlite locked", "postgresql down"])
def test_a_kill_and_a_restart_in_an_outage_lose_nothing_that_was_in_files(project: Path, url: str, name: str) -> None:
    with running(project, "/readyz", MLOPS_PREDICTION_LOG_URL=url) as server:
        assert server.predict().status == 200
        wait_until_written(server)
    before = set(stored(url))
    told: list[Told] = []
    with outage(name, url):
        for _ in range(2):
            with running(project, "/readyz", MLOPS_PREDICTION_LOG_URL=url) as server:
                print(f"ready {server.seconds_to_ready:.1f} s after the start, without the log's database")
                assert since(server) is not None
                load = Load(server, (1, 1, 200), pause=0.01)
                load.start()
                time.sleep(0.5)
                load.stop()
                time.sleep(2 * FLUSH_SECONDS)
                server.end()
                told += load.told
                assert load.refused == []
    with running(project, "/readyz", MLOPS_PREDICTION_LOG_URL=url) as server:
        wait_until_written(server)
        assert since(server) is None
    found = stored(url)
    assert len(told) > 50
    assert set(found) - before == {item.batch for item in told}
    for item in told:
        check_same(item, found[item.batch])


def test_a_database_on_a_full_disk_is_an_outage_like_another(project: Path, small_disk: Path) -> None:
    url = f"sqlite:///{small_disk / 'predictions.db'}"
    with running(project, "/readyz", MLOPS_PREDICTION_LOG_URL=url) as server:
        load = Load(server, (1, 20), pause=0.02)
        load.start()
        time.sleep(0.5)
        with full(small_disk):
            down = wait_for(lambda: since(server))
            time.sleep(1)
            assert since(server) == down
        wait_for(lambda: since(server) is None)
        load.stop()
        assert (load.refused, load.dropped) == ([], [])
        check_all(url, load.told)


def test_with_no_room_for_the_log_at_all_nothing_is_answered_that_is_not_kept(project: Path, small_disk: Path) -> None:
    root = Path(shutil.copytree(project, small_disk / "project"))
    with running(root, "/readyz") as server:
        load = Load(server, (1, 20), pause=0.02)
        load.start()
        time.sleep(0.5)
        with full(small_disk):
            wait_for(lambda: load.refused)
            time.sleep(1)
            full_since, refused = since(server), len(load.refused)
            assert full_since is not None
            assert server.get("/livez").status == 200
            assert load.refused[-1][0] > time.time() - 0.5, "it answers although there is no room"
        freed = time.time()
        wait_for(lambda: load.told[-1].at > freed)
        wait_for(lambda: since(server) is None)
        load.stop()
        assert load.dropped == [], "the service's own log, which has no room either, must end no connection"
        check_all(f"sqlite:///{root / '.mlops' / 'predictions.db'}", load.told)
        assert "Traceback" not in server.err
        server.lines()  # none was cut
        print(f"{len(load.told)} answers, {refused} refused")


def test_without_accounts_nobody_is_let_in_until_they_are_back(
    project: Path, make_database: Callable[[str], str]
) -> None:
    """One PostgreSQL database for accounts and log, as in production; the service recovers without a restart."""
    url = make_database("postgresql")
    migrate(url, project / ".mlops")
    engine = open_engine(url)
    asyncio.run(create_user(engine, "ada", PASSWORD, ["predict"]))
    asyncio.run(create_user(engine, "root", PASSWORD, ["admin", "predict"]))  # or the first start makes one
    engine.dispose()
    with running(project, "/readyz", MLOPS_DATABASE_URL=url) as server:
        told = [server.predict(), server.predict()]
        before = time.time()
        with outage("postgresql down", url):
            for answer in (server.predict(), server.login("root"), server.get("/auth/me", **server.bearer())):
                assert int(answer.headers["retry-after"]) > 0
                answer.problem(503)
            assert server.get("/livez").status == 200
            assert before < state(server)["accounts_down_since"] < time.time()
            assert state(server)["degraded"]
        wait_for(lambda: server.predict().status == 200)
        assert state(server)["accounts_down_since"] is None
        assert server.login("root").status == 200
        check_stored(url, told)


def check_stored(url: str, answers: list[Answer]) -> None:
    batches = {answer.json["predictions"][0]["id"].partition("-")[0] for answer in answers}
    wait_for(lambda: batches <= set(stored(url)))

"""`mlops serve` as a process: how it starts, what it refuses to start with, how it ends, what it leaves behind."""

import asyncio
import re
import signal
import socket
import sys
import threading
import time
from http.client import HTTPException
from pathlib import Path
from typing import Any

import psutil
import pytest
from fastapi import FastAPI
from server import (
    JSON,
    PASSWORD,
    ROW,
    Running,
    Wire,
    instances,
    make_root,
    mlops,
    running,
    serving,
    wire_request,
)

from api.protocol import Protocol
from api.server import _accept_all, _turn_away

GOOD = "Zk3vQ9fX1mB7tW5yR2cL8pD4sH6jN0aGeKuTiOxVbMw"
PASSWORD_LINE = re.compile(r"First start: the account 'admin' has the password (\S+) ")
PRODUCTION = {"MLOPS_ENV": "production"}


def survivors(members: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    _, alive = psutil.wait_procs(members, timeout=seconds)
    return [member for member in alive if member.is_running() and member.status() != psutil.STATUS_ZOMBIE]


def test_the_first_start_makes_one_admin_and_shows_its_password_once(tmp_path: Path) -> None:
    root = make_root(tmp_path / "fresh")
    with running(root) as server:
        password = PASSWORD_LINE.findall(server.err)
        assert len(password) == 1
        kept = root / ".mlops" / "admin_password"
        assert (kept.read_text().strip(), kept.stat().st_mode & 0o777) == (password[0], 0o600)
        assert server.login("admin", password[0]).json["scope"] == "admin monitor predict"
        for name, guess in [("admin", "admin"), ("admin", "password"), ("root", "root"), ("test", "test")]:
            server.login(name, guess).problem(401)
        assert password[0] not in server.out
        assert server.end(signal.SIGINT) == 0
    with running(root) as server:
        assert "password" not in server.err
        assert server.login("admin", password[0]).status == 200


def test_nothing_private_is_readable_by_others(served: Running) -> None:
    for name in ("accounts.db", "jwt_secret", "predictions.db"):
        assert (served.root / ".mlops" / name).stat().st_mode & 0o077 == 0, name


@pytest.mark.parametrize(
    ("given", "variable", "code"),
    [
        ({**PRODUCTION, "MLOPS_JWT_SECRET": ""}, "MLOPS_JWT_SECRET", 2),
        ({**PRODUCTION, "MLOPS_JWT_SECRET": GOOD}, "MLOPS_DATABASE_URL", 2),
        ({"MLOPS_JWT_SECRET": GOOD[:31]}, "MLOPS_JWT_SECRET", 1),
        ({"MLOPS_JWT_SECRET": "change-me" + GOOD}, "MLOPS_JWT_SECRET", 1),
        ({"MLOPS_ENV": "prod"}, "MLOPS_ENV", 2),
        ({"MLOPS_WORKERS": "0"}, "MLOPS_WORKERS", 2),
        ({"MLOPS_STALL_SECONDS": "-1"}, "MLOPS_STALL_SECONDS", 2),
        ({"MLOPS_ALLOWED_HOSTS": "example.org"}, "MLOPS_ALLOWED_HOSTS", 2),
        ({"MLOPS_MODEL": "../../etc@champion"}, "../../etc@champion", 2),
        ({"MLOPS_DATABASE_URL": "nonsense"}, "MLOPS_DATABASE_URL", 2),
        ({"MLOPS_DATABASE_URL": "postgresql://u:canary@127.0.0.1:9/x"}, "MLOPS_DATABASE_URL", 2),
        ({"MLOPS_DATABASE_URL": "postgresql+psycopg://u:canary@127.0.0.1:9/x"}, "accounts database", 1),
    ],
)
def test_what_the_environment_got_wrong_stops_the_start_with_one_line(
    tmp_path: Path, given: dict[str, str], variable: str, code: int
) -> None:
    done = mlops(make_root(tmp_path / "p"), "serve", "--port", "0", **given)
    assert done.code == code, done
    assert variable in done.one_line()
    secret = given.get("MLOPS_JWT_SECRET")
    assert "canary" not in done.err
    assert not secret or f"'{secret}'" not in done.err


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = mlops(make_root(tmp_path / "p"), "serve", "--port", str(port))
    assert done.code == 2
    assert f"127.0.0.1:{port}" in done.one_line()


def test_an_address_that_is_not_ours_is_named(tmp_path: Path) -> None:
    done = mlops(make_root(tmp_path / "p"), "serve", "--host", "no.such.host.invalid")
    assert done.code == 2
    assert "no.such.host.invalid" in done.one_line()


def test_outside_a_checkout_one_line_says_so(tmp_path: Path) -> None:
    done = mlops(tmp_path, "serve")
    assert done.code == 2
    assert "dvc.yaml" in done.one_line()


def test_a_local_copy_of_a_model_makes_it_ready_without_any_registry(project: Path) -> None:
    with running(project, "/readyz") as server:
        print(f"ready {server.seconds_to_ready:.2f} s after the start")
        assert server.predict().json["model"] == {"name": "small", "version": 1}
        assert server.seconds_to_ready < 15


def test_without_a_model_it_lives_and_says_when_to_come_back(project: Path) -> None:
    (project / ".mlops" / "serving" / "small@champion" / "current.json").unlink()
    with running(project) as server:
        assert server.get("/readyz").status == 503
        for answer in (server.get("/readyz"), server.predict()):
            assert int(answer.headers["retry-after"]) > 0
        server.predict().problem(503)


def test_a_damaged_local_copy_is_not_served(project: Path) -> None:
    model = project / ".mlops" / "serving" / "small@champion" / "1" / "model.onnx"
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(data)
    with running(project) as server:
        assert server.get("/readyz").status == 503
        server.predict().problem(503)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_server_and_its_registry_with_exit_0(project: Path, how: int) -> None:
    with running(project, "/readyz", mlflow=True, MLOPS_DRAIN_SECONDS="0.3") as server:
        while (
            len(members := server.family()) < 2
        ):  # it answers from its own copy before the registry's process is there
            time.sleep(0.01)
        asked = time.monotonic()
        assert len(members) == 2, "the server has one child, the registry's"
        assert server.end(how) == 0
        assert time.monotonic() - asked < 5
        assert survivors(members, 2) == []
        assert "Traceback" not in server.out + server.err


def test_a_signal_during_the_registrys_first_answer_is_not_waited_out(project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        for pause in (0.0, 2.5):
            with running(project, "/readyz", mlflow=True, MLOPS_TRACKING_URI=uri) as server:
                time.sleep(pause)
                asked = time.monotonic()
                assert server.end(signal.SIGINT) == 0
                assert time.monotonic() - asked < 3, f"{pause} s after the start"


def test_kill_9_leaves_no_registry_behind(project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with running(project, "/readyz", mlflow=True, MLOPS_TRACKING_URI=uri) as server:
            silent.settimeout(15)
            connection, _ = silent.accept()  # now it waits for an answer that never comes
            children = server.family()[1:]
            server.end(signal.SIGKILL)
            assert survivors(children, 2) == []
            connection.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux filters what comes for a listener")
def test_who_had_connected_is_taken_in_and_who_knocks_later_is_not_let_in_only_to_be_reset() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        address = listener.getsockname()
        with socket.create_connection(address):
            _turn_away(listener)
            with pytest.raises(TimeoutError):
                socket.create_connection(address, timeout=0.2)
            taken = list(_accept_all(listener))
        assert len(taken) == 1
        taken[0].close()


def keep_asking(port: int, request: bytes, seen: list[str]) -> None:
    """A client with one connection at a time, until nobody listens any more."""
    while True:
        try:
            wire = Wire(port)
        except OSError:
            return
        with wire:
            try:
                more = True
                while more:
                    answer = wire.ask(request)
                    seen.append(str(answer.status))
                    more = answer.headers["connection"] != "close"
            except (OSError, HTTPException) as error:
                seen.append(repr(error))


def test_sigterm_answers_all_it_accepted_after_saying_not_ready(project: Path) -> None:
    """Clients that keep their connection, as a balancer's pool does, while the server ends."""
    with running(project, "/readyz", MLOPS_DRAIN_SECONDS="1") as server:
        request, seen = wire_request("POST", "/v1/predict", instances([ROW] * 200), server.bearer()), list[str]()
        threads = [threading.Thread(target=keep_asking, args=(server.port, request, seen)) for _ in range(6)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        asked = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("/readyz", 503, 0.9)
        assert server.process.wait(20) == 0
        took = time.monotonic() - asked
        for thread in threads:
            thread.join(10)
        print(f"{len(seen)} answers, ended {took:.2f} s after SIGTERM")
        assert set(seen) == {"200"}
        assert took >= 1


def test_the_listener_outlives_the_word_not_ready(project: Path) -> None:
    with running(project, "/readyz", MLOPS_DRAIN_SECONDS="1.5") as server:
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        answer = server.get("/readyz")
        assert "ending" in answer.problem(503)["detail"]
        assert answer.headers["connection"] == "close"
        assert server.predict().status == 200
        assert server.process.wait(10) == 0
        with pytest.raises(OSError, match=r".*"):
            socket.create_connection(("127.0.0.1", server.port), 1)


def test_a_second_ctrl_c_does_not_wait_for_clients(project: Path) -> None:
    with running(project, "/readyz") as server, server.wire() as wire:
        wire.send(wire_request("POST", "/v1/predict", b"", {**server.bearer(), "content-length": "10"}))
        time.sleep(0.2)
        server.process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(3) == 0


WITH_SLOW_WORK = """
import sys, threading, time
from pathlib import Path
from starlette.responses import JSONResponse
from api import server
from api.registry import RegistryProcess

def route_of(work):
    async def route(request):
        admission = request.app.state.api.admission
        with admission.place():
            return JSONResponse(await admission.run(request, work))
    return route

def create_app(*arguments):
    app = made(*arguments)
    app.add_route("/hang", route_of(threading.Event().wait))
    app.add_route("/slow", route_of(lambda: time.sleep(1.5)))
    return app

made, server.create_app = server.create_app, create_app
server.serve(Path.cwd(), "127.0.0.1", int(sys.argv[1]), RegistryProcess(Path.cwd()))
"""


def test_a_prediction_that_hangs_does_not_keep_the_server_from_ending(project: Path) -> None:
    with running(project, "/readyz", program=WITH_SLOW_WORK, MLOPS_PREDICT_SECONDS="0.3") as server:
        server.get("/hang").problem(503)
        asked = time.monotonic()
        assert server.end(signal.SIGTERM) == 0
        assert time.monotonic() - asked < 5


def test_what_is_at_work_when_the_listener_closes_is_still_answered(project: Path) -> None:
    with (
        running(project, "/readyz", program=WITH_SLOW_WORK, MLOPS_DRAIN_SECONDS="0.2") as server,
        server.wire() as wire,
    ):
        wire.send(wire_request("GET", "/slow"))
        time.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        assert wire.answer("GET").status == 200
        assert server.process.wait(5) == 0


def test_what_is_not_done_after_the_grace_is_cut_and_the_server_ends(project: Path) -> None:
    limits = {"MLOPS_GRACE_SECONDS": "1", "MLOPS_DRAIN_SECONDS": "0"}
    with running(project, "/readyz", program=WITH_SLOW_WORK, **limits) as server, server.wire() as wire:
        wire.send(wire_request("GET", "/hang"))
        time.sleep(0.2)
        asked = time.monotonic()
        assert server.end(signal.SIGTERM) == 0
        assert 0.9 < time.monotonic() - asked < 6


CANARIES = ("canary-amount", "canary-password", "canary-kind")


def test_every_line_of_the_log_is_one_object_without_secrets(project: Path) -> None:
    with running(project, "/readyz") as server:
        tokens = server.login().json
        headers = {"authorization": f"Bearer {tokens['access_token']}", **JSON}
        server.login("ada", "canary-password is long enough")
        server.login('x"}\r\n{"level": "forged"}\x1b[31m\u2028')
        server.request("POST", "/v1/predict", instances([{**ROW, "amount": "canary-amount"}]), **headers)
        server.request("POST", "/v1/predict", instances([{**ROW, "kind": "canary-kind"}]), **headers)
        server.request("GET", "/nowhere%0d%0a%7b%22level%22:%22forged%22%7d%1b%5b31m%e2%80%a8", **headers)
        server.request("GET", "/livez", **{"x-request-id": 'a"} {"level": "forged"}'})
        server.request("GET", "/livez", **{"x-request-id": "a\x1b[31m"})
        server.request("POST", "/auth/token", b"grant_type=refresh_token&refresh_token=canary-password", **JSON)
        with server.wire() as wire:
            wire.send(b"\x16\x03\x01 garbage canary-kind\r\n\r\n")
            wire.answer()
        assert server.end(signal.SIGTERM) == 0
        text = server.out + server.err
        lines = server.lines()
        assert all({"event", "level", "timestamp"} <= set(line) for line in lines)
        assert len([line for line in lines if line["event"] == "request"]) >= 9
        assert "forged" not in {line["level"] for line in lines}
        assert "\x1b" not in text
        assert "\u2028" not in text
        for canary in (*CANARIES, PASSWORD, tokens["access_token"], tokens["refresh_token"], "Traceback"):
            assert canary not in text, canary


def test_a_client_that_leaves_in_the_middle_is_no_error(served: Running) -> None:
    request = wire_request("POST", "/v1/predict", b"", {**served.bearer(), "content-length": "1000"})
    served.said()
    for _ in range(3):
        with served.wire() as wire:
            wire.send(request + b"{")
            time.sleep(0.1)
    assert served.predict().status == 200
    said = served.said()
    assert '"error"' not in said, said


def test_the_account_database_can_go_and_come_back(served: Running) -> None:
    """Whoever is asked about must not be let in unseen; liveness does not depend on it."""
    assert served.predict().status == 200
    database, away = served.root / ".mlops" / "accounts.db", served.root / ".mlops" / "away"
    away.mkdir()
    for file in database.parent.glob(database.name + "*"):
        file.rename(away / file.name)
    served.predict().problem(503)
    served.login("eve").problem(503)
    assert served.get("/livez").status == 200
    for file in away.iterdir():
        file.rename(database.parent / file.name)
    assert served.predict().status == 200


def test_an_answer_in_pieces_does_not_wait_for_an_acknowledgement(monkeypatch: pytest.MonkeyPatch) -> None:
    made, seen = Protocol.connection_made, []

    def watched(self: Protocol, transport: Any) -> None:
        made(self, transport)
        seen.append(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    monkeypatch.setattr(Protocol, "connection_made", watched)
    with serving(FastAPI()) as port, Wire(port) as wire:
        wire.request("GET", "/")
    assert seen == [1]


def test_a_crowd_that_knocks_at_one_time_is_let_in(served: Running) -> None:
    async def knock(port: int) -> int:
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port), 5)
        except (OSError, TimeoutError):
            return 0
        writer.write(wire_request("GET", "/livez"))
        status = int((await reader.readline()).split()[1])
        writer.close()
        return status

    async def crowd(port: int) -> list[int]:
        return await asyncio.gather(*(knock(port) for _ in range(300)))

    assert set(asyncio.run(crowd(served.port))) == {200}

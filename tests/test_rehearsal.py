import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from mlops_core.serve.rehearsal import ServiceError, start_service

ROOT = Path(__file__).parents[1]
GOOD = "Zk3vQ9fX1mB7tW5yR2cL8pD4sH6jN0aGeKuTiOxVbMw"
STARTER = """
import sys, time
from pathlib import Path
from mlops_core.serve.rehearsal import start_service
service = start_service(Path(sys.argv[1]))
print(service.process.pid, service.root, flush=True)
time.sleep(60)
"""


@pytest.fixture(scope="module")
def service():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLOPS_ENV", "production")
        patch.setenv("MLOPS_DATABASE_URL", "postgresql+psycopg://nobody@127.0.0.1:9/none")
        started = start_service(ROOT, jwt_secret=GOOD, drain_seconds=0)
    yield started
    started.close()


def test_it_keeps_its_state_to_itself_whatever_the_environment_says(service):
    assert not service.root.is_relative_to(ROOT)
    assert {path.name for path in service.state.iterdir()} >= {"accounts.db", "admin_password", "predictions.db"}


def test_it_is_up_and_without_a_model_not_ready(service):
    stranger = service.client()
    assert [stranger.get(path).status for path in ("/livez", "/readyz")] == [200, 503]


def test_an_account_may_do_what_its_scopes_say(service):
    bob = service.add_account(service.log_in_admin(), "bob", "monitor")
    assert bob.get("/auth/me").json["scopes"] == ["monitor"]
    assert [bob.get(path).status for path in ("/metrics", "/v1/model")] == [200, 403]


def test_who_has_no_account_is_not_let_in(service):
    with pytest.raises(ServiceError, match="does not let eve in"):
        service.client("eve", "guess")


def test_its_log_is_found_by_facts_and_told_without_the_time(service):
    service.client().ask("GET", "/nowhere", headers={"X-Request-ID": "needle"})
    service.wait_until(lambda: bool(service.log_lines(request_id="needle")), "logging")
    (line,) = service.log_lines(request_id="needle")
    assert (line["path"], line["status"]) == ("/nowhere", 404)
    assert "timestamp" not in line


def test_what_it_is_not_in_time_is_an_error(service):
    with pytest.raises(ServiceError, match=r"is not ready after 0\.1 s"):
        service.wait_until(lambda: False, "ready", seconds=0.1)


def test_a_start_that_fails_says_what_the_service_said():
    with pytest.raises(ServiceError, match="ended with 1: MLOPS_JWT_SECRET has 5 bytes"):
        start_service(ROOT, jwt_secret="short")


def test_stopped_it_ends_in_order_and_closed_it_leaves_nothing():
    service = start_service(ROOT, drain_seconds=0)
    try:
        assert service.stop() == 0
    finally:
        service.close()
    assert not service.root.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_nothing_is_left_of_it_when_its_starter_is_killed(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    starter = subprocess.Popen([sys.executable, "-c", STARTER, str(ROOT)], stdout=subprocess.PIPE, text=True)
    try:
        server, folder = starter.stdout.readline().split()
        family = [psutil.Process(int(server)), *psutil.Process(int(server)).children(recursive=True)]
    finally:
        starter.send_signal(signal.SIGKILL)
        starter.communicate()
    _, alive = psutil.wait_procs(family, timeout=5)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
    deadline = time.monotonic() + 10
    while Path(folder).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(folder).exists()

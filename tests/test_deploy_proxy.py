import contextlib
import http.client
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import psutil
import pytest
from places import open_place

from mlops_core import cli
from mlops_core.deploy import proxy as module
from mlops_core.deploy.proxy import BLUE, GREEN, ProxyError, find_haproxy, start_proxy
from mlops_core.serve.client import Client
from mlops_core.serve.traffic import SERVED_BY

ROOT = Path(__file__).parents[1]
needs_haproxy = pytest.mark.skipif(not find_haproxy(), reason="there is no haproxy on this machine")
STARTER = """
import sys, time
from pathlib import Path
from mlops_core.deploy.proxy import start_proxy
proxy = start_proxy(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
print(proxy.process.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def behind(tmp_path):
    """A proxy, what stands at its two places, and a client."""
    with open_place() as blue, open_place() as green:
        proxy = start_proxy(ROOT, tmp_path, blue.port)
        proxy.open_place(GREEN, green.port)
        client = Client(proxy.port)
        yield proxy, blue, green, client
        client.close()
        proxy.close()


def ask(client, count, path="/v1/predict"):
    return [client.post(path, {}) for _ in range(count)]


def served(answers):
    return Counter(answer.headers[SERVED_BY] for answer in answers)


@needs_haproxy
def test_nothing_goes_to_a_new_place_before_it_is_given_a_share(behind):
    _, blue, green, client = behind
    assert served(ask(client, 40)) == {BLUE: 40}
    assert (len(blue.seen), green.seen) == (40, [])


@needs_haproxy
@pytest.mark.parametrize("share", [10, 50, 99, 100])
def test_a_place_gets_its_share_and_the_other_one_the_rest(behind, share):
    proxy, _, _, client = behind
    before = proxy.counts(GREEN)
    proxy.share({GREEN: share, BLUE: 100 - share})
    found = served(ask(client, 100))
    assert found[GREEN] == pytest.approx(share, abs=1)
    assert found.total() == 100
    assert proxy.counts(GREEN).since(before).answers == found[GREEN]
    assert proxy.counts(GREEN).errors == 0


@needs_haproxy
def test_no_request_is_lost_while_shares_are_moved(behind):
    proxy, _, _, client = behind
    statuses, ended = [], threading.Event()

    def work():
        while not ended.is_set():
            statuses.append(client.post("/v1/predict", {}).status)

    thread = threading.Thread(target=work)
    thread.start()
    for share in [*range(0, 101, 10), *range(100, -1, -10)]:
        proxy.share({GREEN: share, BLUE: 100 - share})
    assert proxy.drain(GREEN, 5)
    ended.set()
    thread.join()
    assert set(statuses) == {200}


@needs_haproxy
@pytest.mark.parametrize("path", ["/v1/predict", "/v1/explain", "/invocations"])
@pytest.mark.parametrize("how", [{"dies": True}, {"status": 503}], ids=["dies", "503"])
def test_what_a_failing_place_was_asked_is_asked_again_on_the_other_one(behind, path, how):
    proxy, _, green, client = behind
    vars(green).update(how)
    proxy.share({GREEN: 50, BLUE: 50})
    answers = ask(client, 20, path)
    assert {answer.status for answer in answers} == {200}
    assert served(answers) == {BLUE: 20}
    assert len(green.seen) > 0
    assert proxy.counts(GREEN).errors > 0


@needs_haproxy
@pytest.mark.parametrize("path", ["/auth/token", "/admin/users", "/v1/outcomes"])
def test_what_must_not_happen_twice_is_never_asked_again(behind, path):
    proxy, blue, green, client = behind
    green.dies = True
    proxy.share({GREEN: 100, BLUE: 0})
    proxy.share({GREEN: 50, BLUE: 50})
    for _ in range(6):
        with contextlib.suppress(OSError, http.client.HTTPException):
            client.post(path, {})
    assert len(green.seen) > 0
    assert len(blue.seen) + len(green.seen) == 6


@needs_haproxy
def test_a_place_where_nobody_is_any_more_is_left_before_its_check_is_due(behind):
    proxy, _, _, client = behind
    with open_place() as gone:
        proxy.open_place(GREEN, gone.port)
        proxy.share({GREEN: 50, BLUE: 50})
        ask(client, 4)
        gone.dies = True  # on the connections that are open, too
    assert {answer.status for answer in ask(client, 20)} == {200}
    assert not proxy.counts(GREEN).up


@needs_haproxy
def test_a_place_may_be_opened_again_on_the_same_port(behind):
    proxy, _, green, client = behind
    proxy.close_place(GREEN)
    proxy.open_place(GREEN, green.port)
    proxy.share({GREEN: 100, BLUE: 0})
    assert served(ask(client, 5)) == {GREEN: 5}


@needs_haproxy
@pytest.mark.parametrize("how", ["nobody is ready", "it hangs up"])
def test_what_the_proxy_says_by_itself_has_the_form_of_the_api(behind, how):
    proxy, blue, _, client = behind
    if how == "nobody is ready":
        proxy.close_place(BLUE)
    blue.dies = True
    answer = client.post('/v1/"outcomes"', {})
    status, title = (503, "Service Unavailable") if how == "nobody is ready" else (502, "Bad Gateway")
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    assert (answer.json["title"], answer.json["instance"]) == (title, '/v1/"outcomes"')
    assert set(answer.json) == {"type", "title", "status", "detail", "instance", "request_id"}
    assert answer.headers.get("retry-after") == ("1" if status == 503 else None)


@needs_haproxy
def test_where_both_refuse_their_own_words_are_passed_on(behind):
    proxy, blue, green, client = behind
    blue.status = green.status = 503
    proxy.share({GREEN: 50, BLUE: 50})
    answer = client.post("/v1/predict", {})
    assert (answer.status, answer.json["model"]["name"]) == (503, "small")


@needs_haproxy
def test_a_caller_cannot_say_where_it_comes_from(behind):
    _, blue, _, client = behind
    client.ask("GET", "/v1/model", headers={"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"})
    (_, headers), *_ = blue.seen
    assert headers["x-forwarded-for"] == "127.0.0.1"
    assert "x-forwarded-proto" not in headers


@needs_haproxy
def test_a_place_whose_health_check_fails_is_not_opened(behind):
    proxy, _, green, client = behind
    proxy.close_place(GREEN)
    green.healthy = False
    with pytest.raises(ProxyError, match="does not find green healthy: its check says Layer7 wrong status"):
        proxy.open_place(GREEN, green.port)
    assert served(ask(client, 10)) == {BLUE: 10}


@needs_haproxy
def test_what_the_proxy_refuses_to_do_is_an_error(behind):
    with pytest.raises(ProxyError, match="was told 'set server api/red weight 1' and says: No such"):
        behind[0].share({"red": 1})


@needs_haproxy
def test_a_configuration_that_is_wrong_is_told_in_the_proxy_s_words(tmp_path):
    (tmp_path / "deploy" / "proxy").mkdir(parents=True)
    (tmp_path / "deploy" / "proxy" / "haproxy.cfg").write_text("backend api\n    balance quickly\n")
    with pytest.raises(ProxyError, match=r"ended with 1: .*ALERT"):
        start_proxy(tmp_path, tmp_path, 9)


@needs_haproxy
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_it_ends_when_its_starter_is_killed(tmp_path):
    with open_place() as blue:
        command = [sys.executable, "-c", STARTER, str(ROOT), str(tmp_path), str(blue.port)]
        starter = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        proxy = psutil.Process(int(starter.stdout.readline()))
        starter.send_signal(signal.SIGKILL)
        starter.communicate()
        _, alive = psutil.wait_procs([proxy], timeout=5)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []


def test_without_haproxy_one_line_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(module, "PLACES", str(tmp_path))
    monkeypatch.setattr("mlops_core.paths.Paths.bundle", ROOT)
    monkeypatch.setattr(sys, "argv", ["mlops", "rehearse"])
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "apt-get install haproxy" in line
    assert "brew install haproxy" in line


def test_haproxy_is_found_where_only_administrators_look(tmp_path, monkeypatch):
    program = tmp_path / "haproxy"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(module, "PLACES", str(tmp_path))
    assert find_haproxy() == str(program)

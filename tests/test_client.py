import http.server
import json
import threading
import time

import numpy as np
import pytest

from mlops_core.serve import client
from mlops_core.serve.client import Client


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers tokens, refusals, and what it was sent; ends a connection after /once."""

    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        sent = {name.lower(): value for name, value in self.headers.items()}
        tree = {"body": body, "headers": sent, "peer": self.client_address[1]}
        if self.path == "/auth/token":
            self.server.logins += 1
            tree = {"access_token": f"t{self.server.logins}", "expires_in": self.server.expires_in}
        data = json.dumps(tree).encode()
        self.send_response(405 if self.path == "/no" else 200)
        if self.path == "/no":
            self.send_header("Allow", "POST")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        self.close_connection = self.path == "/once"

    do_GET = do_POST = _answer  # noqa: N815  the base class's names

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        found.daemon_threads, found.logins, found.expires_in = True, 0, 900
        thread = threading.Thread(target=found.serve_forever, args=(0.01,))
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.fixture
def caller(server):
    made = Client(server.server_address[1])
    yield made
    made.close()


def test_one_connection_carries_all_requests(caller):
    assert len({caller.get("/x").json["peer"] for _ in range(3)}) == 1


def test_a_connection_that_the_server_ended_is_no_failed_request(caller):
    first = caller.get("/once").json["peer"]
    time.sleep(0.2)
    assert caller.get("/x").json["peer"] != first


def test_who_logs_in_shows_the_token_from_then_on(caller):
    assert "authorization" not in caller.get("/x").json["headers"]
    caller.log_in("ada", "secret")
    assert caller.get("/x").json["headers"]["authorization"] == "Bearer t1"


def test_a_token_is_renewed_before_it_expires(server, caller):
    server.expires_in = client.EARLY_SECONDS - 1
    caller.log_in("ada", "secret")
    server.expires_in = 900
    assert [caller.get("/x").json["headers"]["authorization"] for _ in range(2)] == ["Bearer t2"] * 2


def test_an_answer_tells_what_its_headers_ask_for(caller):
    answer = caller.get("/no")
    assert (answer.status, answer.hint, answer.facts["status"]) == (405, "allow: POST", 405)


def test_all_answers_are_collected_with_their_time(caller):
    answers = [caller.get("/x"), caller.post("/y", {"a": 1})]
    assert caller.answers == answers
    assert [(item.method, item.path) for item in answers] == [("GET", "/x"), ("POST", "/y")]
    assert all(item.ms > 0 for item in answers)


def test_missing_values_become_null_and_moments_text():
    columns = {
        "at": np.array(["2013-05-06T07:08", "NaT"], "datetime64[s]"),
        "x": np.array([1.5, np.nan]),
        "k": ["u", None],
    }
    assert client.to_instances(columns) == [
        {"at": "2013-05-06T07:08:00", "x": 1.5, "k": "u"},
        {"at": None, "x": None, "k": None},
    ]


@pytest.mark.parametrize(
    ("predictions", "numbers"),
    [([{"probabilities": {"no": 0.25, "yes": 0.75}}], [[0.25, 0.75]]), ([{"value": 3.5, "interval": [1, 6]}], [[3.5]])],
)
def test_the_numbers_of_an_answer_are_probabilities_or_the_value(predictions, numbers):
    assert client.numbers_of(predictions) == numbers


def test_a_tampered_token_keeps_its_signature():
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzY29wZSI6InByZWRpY3QiLCJhIjoxfQ.c2ln"
    header, claims, signature = client.tamper(token, {"alg": "none"}, {"scope": "admin"}).split(".")
    assert (header, claims) == ("eyJhbGciOiJub25lIn0", "eyJzY29wZSI6ImFkbWluIiwiYSI6MX0")
    assert signature == "c2ln"

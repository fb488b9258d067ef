"""The service under hostile and unlucky clients: each gets a short problem, and the next one notices nothing."""

import asyncio
import gzip
import json
import re
import shutil
import socket
import statistics
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from server import JSON, ROW, Running, Wire, instances, running, wire_request

SECURITY = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "content-security-policy": "frame-ancestors 'none'",
}
CANARY = "canary7391"


def chunked(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (*parts, b""))


def assert_alive(wire: Wire) -> None:
    """The same connection answers the next request."""
    assert wire.request("GET", "/livez").status == 200


# Limits


@pytest.mark.parametrize("size", [17 << 10, 70 << 10, 5 << 20])
@pytest.mark.parametrize("pieces", [1, 7])
def test_a_large_header_is_431_and_the_client_gets_to_read_it(served: Running, size: int, pieces: int) -> None:
    request = wire_request("GET", "/livez", headers={"authorization": "Bearer " + "a" * size})
    step = len(request) // pieces + 1
    with served.wire() as wire:
        for start in range(0, len(request), step):
            wire.send(request[start : start + step])
        wire.answer().problem(431)
        assert wire.is_closed(4)


def test_many_small_headers_and_a_long_path_count_like_a_large_one(served: Running) -> None:
    served.get("/livez", **{f"x-{number}": "v" * 50 for number in range(400)}).problem(431)
    served.get("/" + "p" * 100_000).problem(431)
    served.get("/livez?" + "q=1&" * 10_000).problem(431)


def test_a_header_below_the_limit_is_read(served: Running) -> None:
    assert served.get("/livez", **{"x-long": "v" * (15 << 10)}).status == 200


def test_a_pipelined_large_header_is_431_too(served: Running) -> None:
    with served.wire() as wire:
        wire.send(wire_request("GET", "/livez") + wire_request("GET", "/livez", headers={"x-long": "v" * (40 << 10)}))
        assert re.findall(rb"HTTP/1.1 (\d+)", wire.rest()) == [b"200", b"431"]


@pytest.mark.parametrize("length", [True, False])
@pytest.mark.parametrize("token", [True, False])
def test_20_mb_are_refused_in_constant_memory(served: Running, length: bool, token: bool) -> None:
    headers = {**served.bearer()} if token else JSON
    text = b'{"instances": [{"kind": "' + b"x" * (20 << 20) + b'"}]}'
    served.predict()
    before = served.memory_mb()
    if length:
        request = wire_request("POST", "/v1/predict", text, headers)
    else:
        parts = [text[start : start + (1 << 20)] for start in range(0, len(text), 1 << 20)]
        request = wire_request("POST", "/v1/predict", chunked(*parts), {**headers, "transfer-encoding": "chunked"})
    with served.wire() as wire:
        wire.ask(request).problem(*((413,) if token or length else (401, 413)))
    assert served.memory_mb() - before < 40
    assert served.predict().status == 200


@pytest.mark.parametrize(("rows", "below"), [(10_001, 8 << 20), (1_000_000, 64 << 20)])
def test_too_many_rows_are_413_soon(served: Running, rows: int, below: int) -> None:
    body = b'{"instances": [' + b",".join([b'{"count": 1}'] * rows) + b"]}"
    assert len(body) < below
    headers, started = served.bearer(), time.monotonic()
    served.request("POST", "/v1/predict", body, **headers).problem(413)
    assert time.monotonic() - started < 2


def test_other_paths_take_small_bodies_only(served: Running) -> None:
    served.request("POST", "/auth/token", b"x" * 70_000, **{"content-type": "text/plain"}).problem(413)


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "deflate", "gzip, identity"])
def test_a_compressed_body_is_never_inflated(served: Running, encoding: str) -> None:
    body = gzip.compress(instances([ROW] * 5000))
    with served.wire() as wire:
        headers = {**served.bearer(), "content-encoding": encoding}
        wire.ask(wire_request("POST", "/v1/predict", body, headers)).problem(415)
        assert_alive(wire)


# What is no HTTP

HEAD = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize(
    "data",
    [
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: abc\r\n\r\n",
        HEAD + b"Content-Length: 1_0\r\n\r\n1234567890",
        HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
        HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\n{}  ",
        HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: identity\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n-5\r\n",
        HEAD + b"Content-Length : 2\r\n\r\n{}",
        HEAD + b"Bad Name: 1\r\n\r\n",
        HEAD + b"X-Null: a\x00b\r\n\r\n",
        HEAD + b" folded before any\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        b"GET /livez\r\n\r\n",
        b"GET  /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /li vez HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"G@T /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /livez HTTP/9\r\nHost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200)),
        b"\x00" * 5000,
        b"\xff\xfe\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"{}\r\n\r\n",
    ],
)
def test_what_is_no_request_is_a_problem_and_the_end_of_the_connection(served: Running, data: bytes) -> None:
    with served.wire(5) as wire:
        wire.send(data)
        answer = wire.answer()
        found = answer.problem(400, 501, 505)
        ours = found["instance"] != "/"  # it was read as a request, if one that is refused
        assert answer.headers["connection"] == "close" or ours
        assert SECURITY.items() <= {name.lower(): value for name, value in answer.headers.items()}.items()
        assert ours or wire.is_closed(4)
    said = served.said()
    assert "Traceback" not in said, said


def test_a_folded_header_smuggles_nothing(served: Running) -> None:
    with served.wire() as wire:
        wire.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Folded: a\r\n Host: evil\r\n\r\n")
        assert wire.answer().status in (200, 400)


def test_a_body_shorter_than_its_length_waits_and_one_longer_is_the_next_request(served: Running) -> None:
    body = instances([ROW])
    with served.wire() as wire:
        headers = {**served.bearer(), "content-length": str(len(body) + 5)}
        wire.send(wire_request("POST", "/v1/predict", body, headers))
        assert not wire.is_closed(0.3)
        wire.send(b"     ")
        assert wire.answer().status == 200
        headers["content-length"] = str(len(body))
        wire.send(wire_request("POST", "/v1/predict", body + b"XXX\r\n\r\n", headers))
        assert re.findall(rb"HTTP/1.1 (\d+)", wire.rest()) == [b"200", b"400"]


def test_a_broken_chunk_in_the_middle_of_a_body_is_a_problem(served: Running) -> None:
    headers = {**served.bearer(), "transfer-encoding": "chunked"}
    with served.wire() as wire:
        wire.send(wire_request("POST", "/v1/predict", b"", headers) + b'5\r\n{"ins\r\n')
        time.sleep(0.1)
        wire.ask(b"nonsense\r\n").problem(400)
        assert wire.is_closed(4)


def test_expect_100_continue_is_answered_before_the_body_is_sent(served: Running) -> None:
    body = instances([ROW])
    with served.wire() as wire:
        headers = {**served.bearer(), "expect": "100-continue", "content-length": str(len(body))}
        wire.send(wire_request("POST", "/v1/predict", b"", headers))
        assert wire.socket.recv(100).startswith(b"HTTP/1.1 100")
        assert wire.ask(body).status == 200


# Paths, methods, hosts

HOSTILE = [
    "//evil.example", "//evil.example/..", "/%00", "/..%2f..%2fetc/passwd", "/../../etc/passwd", "/%2e%2e/",
    "/livez/", "/livez%0d%0aSet-Cookie:%20a=b", "/%c0%ae%c0%ae/", "/%ff%fe", "/%e2%80%a8", "/%ed%a0%80", "/%", "/%zz",
    "/v1/predict/..;/admin", "/admin/users/..%2f..", "http://evil.example/", "*", "/\\evil.example", "/livez;a=b",
    "/" + "p" * 8000, "/" + "a/" * 4000,
]  # fmt: skip


@pytest.mark.parametrize("path", HOSTILE)
def test_a_hostile_path_is_404_and_sends_nobody_elsewhere(served: Running, path: str) -> None:
    with served.wire() as wire:
        for headers in ({}, served.bearer("root")):
            answer = wire.request("GET", path, **headers)
            problem = answer.problem(401, 404, 405) if not headers else answer.problem(404, 405)
            assert "location" not in answer.headers
            assert "set-cookie" not in answer.headers
            assert len(json.dumps(problem)) < 1000
        assert_alive(wire)


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "localhost:80@evil.example", "127.0.0.1.evil.example", "",
     "localhost,evil", "localhost:port", "127.1", "[::1", "evil.example:80", "localhost/", "*"],
)  # fmt: skip
def test_a_foreign_host_is_400_and_not_reflected(served: Running, host: str) -> None:
    with served.wire() as wire:
        answer = wire.request("GET", "/livez/", host=host)
        answer.problem(400)
        assert "evil" not in answer.body.decode()
        assert "location" not in answer.headers


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "localhost:8000", "127.0.0.1", "[::1]:80"])
def test_our_own_names_are_answered(served: Running, host: str) -> None:
    assert served.get("/livez", host=host).status == 200


@pytest.mark.parametrize("method", ["TRACE", "OPTIONS", "PATCH", "DELETE", "PUT", "HEAD", "PROPFIND", "X", "CONNECT"])
@pytest.mark.parametrize(("path", "allowed"), [("/v1/predict", "POST"), ("/auth/token", "POST"), ("/livez", "GET")])
def test_other_methods_are_405_and_name_what_is_allowed(served: Running, method: str, path: str, allowed: str) -> None:
    answer = served.request(method, path, **served.bearer())
    if method == "HEAD":
        assert answer.status in (200, 405)
    else:
        answer.problem(405)
        assert allowed in answer.headers["allow"]
    assert b"authorization" not in answer.body.lower()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/livez", 200), ("GET", "/nowhere", 404), ("GET", "/auth/me", 401), ("POST", "/v1/predict", 401),
     ("DELETE", "/livez", 405), ("POST", "/auth/token", 415), ("GET", "/readyz", 200)],
)  # fmt: skip
def test_every_answer_carries_the_security_headers_and_no_server_name(
    served: Running, method: str, path: str, status: int
) -> None:
    answer = served.request(method, path)
    assert answer.status == status
    assert SECURITY.items() <= {name.lower(): value for name, value in answer.headers.items()}.items()
    assert len(answer.headers.get_all("cache-control", [])) == 1
    assert not {"server", "x-powered-by", "access-control-allow-origin"} & {name.lower() for name in answer.headers}


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost"])
def test_no_origin_is_let_in_by_cors(served: Running, origin: str) -> None:
    for method in ("GET", "OPTIONS"):
        answer = served.request(method, "/livez", origin=origin, access_control_request_method="POST")
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]


def test_upgrades_are_not_followed(served: Running) -> None:
    for protocol in ("websocket", "h2c"):
        assert served.get("/livez", upgrade=protocol, connection="upgrade").status == 200


# What a prediction may be asked with (docs: security.md 6.1)


def row(**texts: str) -> bytes:
    """A request with one row, some of whose values are these JSON texts."""
    parts = {name: json.dumps(value) for name, value in ROW.items()} | texts
    return ('{"instances": [{' + ", ".join(f'"{name}": {text}' for name, text in parts.items()) + "}]}").encode(
        "utf-8", "surrogatepass"
    )


DEEP = 900
GOOD = row()

VALUES: list[tuple[str, bytes, int]] = [
    *((f"number {text[:12]}", row(amount=text), 422) for text in (
        "NaN", "Infinity", "-Infinity", "1e400", "-1e400", '"NaN"', '"inf"', '"1"', '" 1 "', '"1_0"', '"١"', '""',
        "true", "false", "[]", "{}", "[1]", "100.1", "-101", "1e308", "9" * 30, "1" + "0" * 300,
    )),
    *((f"integer {text[:12]}", row(count=text), 422) for text in (
        "true", '"1"', '" 1 "', '"1_0"', '"١"', "1.5", "null", "51", "-1", "9" * 30, "1e400", "NaN", "[1]", "{}",
        "18446744073709551616", "9223372036854775808",
    )),
    *((f"category {text[:12]}", row(gate=text), 422) for text in (
        '"C"', '"a"', '"A "', '" A"', '"\\u0410"', '""', "null", "1", "true", "[]", '{"A": 1}', '["A"]', '"\\ud800"',
        '"\\u0000"', '"A\\u0000"', '"\\udc00\\ud800"', f'"{CANARY}"',
    )),
    *((f"free category {text[:12]}", row(kind=text), 422) for text in (
        "1", "true", "[]", '{"u": 1}', '"\\ud800"', '"\\u0000"',
    )),
    *((f"boolean {text[:12]}", row(open=text), 422) for text in ("1", "0", '"true"', '"yes"', "[]", "1.0")),
    *((f"moment {text[:20]}", row(at=text), 422) for text in (
        '"2026-02-30"', '"0000-01-01"', '"9999-12-31"', '"10000-01-01"', '"2013-01-01T00:00:00Z"', '"now"', '"today"',
        '"2013-01-01T00:00:00+01:00"', "1356998400", '"1356998400"', '"2016-12-31 23:59:60"', '"24:00"', '"2013"',
        '"2013-13-01"', '"2013-01-01 25:00"', "null", "true", '""', '"NaT"', '"2013-01-01\\n"', '"٢٠١٣-01-01"', "[]",
        '"-2013-01-01"', '"2013-01-01 12"', f'"{CANARY}"',
    )),
    ("more digits than Python reads", row(amount="9" * 5000), 400),
    ("a nest in a field", row(amount="[" * DEEP + "]" * DEEP), 422),
    ("a nest of objects in a field", row(amount='{"a":' * DEEP + "1" + "}" * DEEP), 422),
    ("a deep nest", b"[" * 100_000, 400),
    ("a deep nest of objects", b'{"a":' * 50_000, 400),
    ("an extra key", row(extra=f'"{CANARY}"'), 422),
    ("an extra key with a name nobody should see again", row(**{CANARY * 200: "1"}), 422),
    ("the id, which is no feature", row(ticket='"t1"'), 422),
    ("the target", row(outcome='"yes"'), 422),
    ("a key twice", b'{"instances": [{"count": 1, "count": 99}]}', 422),
    ("instances twice", b'{"instances": [], "instances": [{}]}', 422),
    ("an escaped key twice", b'{"instances": [{"count": 1, "c\\u006funt": 99}]}', 422),
    ("a key that is half a surrogate", b'{"instances": [{"\\ud800": 1}]}', 422),
    ("a missing column", b'{"instances": [{"count": 1}]}', 422),
    ("an empty row", b'{"instances": [{}]}', 422),
    ("no rows", b'{"instances": []}', 422),
    ("null rows", b'{"instances": null}', 422),
    ("a row that is null", b'{"instances": [null]}', 422),
    ("a row that is a list", b'{"instances": [[1, 2]]}', 422),
    ("a row that is a text", f'{{"instances": ["{CANARY}"]}}'.encode(), 422),
    ("rows and more", b'{"instances": [{}], "model": "other"}', 422),
    ("null", b"null", 422),
    ("a list", b"[]", 422),
    ("an object", b"{}", 422),
    ("a text", f'"{CANARY}"'.encode(), 422),
    ("a number", b"1", 422),
    ("nothing", b"", 400),
    ("blanks", b"  \n ", 400),
    ("no JSON", f"{{{CANARY}".encode(), 400),
    ("single quotes", b"{'instances': []}", 400),
    ("a comment", GOOD + b" // end", 400),
    ("a trailing comma", b'{"instances": [],}', 400),
    ("garbage behind", GOOD + CANARY.encode(), 400),
    ("two documents", GOOD + GOOD, 400),
    ("a byte-order mark", b"\xef\xbb\xbf" + GOOD, 400),
    ("UTF-16", GOOD.decode().encode("utf-16"), 400),
    ("UTF-16 without mark", GOOD.decode().encode("utf-16-le"), 400),
    ("UTF-32", GOOD.decode().encode("utf-32"), 400),
    ("latin-1", row(kind='"é"').decode().encode("latin-1"), 400),
    ("invalid UTF-8", row(kind='"X"').replace(b"X", b"\xff\xfe"), 400),
    ("overlong UTF-8", row(kind='"X"').replace(b"X", b"\xc0\xae"), 400),
    ("a surrogate in UTF-8", row(kind='"X"').replace(b"X", b"\xed\xa0\x80"), 400),
    ("a raw control character", row(kind='"X"').replace(b"X", b"\x01"), 400),
    ("a raw NUL", row(kind='"X"').replace(b"X", b"\x00"), 400),
    ("a NUL behind", GOOD + b"\x00", 400),
]  # fmt: skip


@pytest.mark.parametrize(("what", "body", "status"), VALUES, ids=[what for what, _, _ in VALUES])
def test_a_body_that_cannot_be_used(served: Running, what: str, body: bytes, status: int) -> None:
    with served.wire() as wire:
        headers = {**served.bearer(), "content-length": str(len(body))}
        answer = wire.ask(wire_request("POST", "/v1/predict", body, headers))
        found = answer.problem(status)
        assert len(answer.body) < 2000
        assert len(found.get("errors", [])) <= 20
        assert_alive(wire)
    assert not re.search(rb"9{20}|\[\[\[", answer.body)
    if what != "an extra key with a name nobody should see again":
        assert CANARY not in answer.body.decode()
    said = served.said()
    assert CANARY not in said
    assert "Traceback" not in said, said


@pytest.mark.parametrize(
    "body",
    [row(amount=text) for text in ("-0", "0.30000000000000004", "5e-324", "1e2", "1.0", "null", "99.99999999999999")]
    + [row(kind=text) for text in ("null", '"never seen"', '"=cmd|calc"', '"<script>x()</script>"', '"日本"', '""')]
    + [row(at=text) for text in ('"2013-01-01"', '"2013-01-01T00:00"', '"2040-02-29 23:59:59.999"', '"2000-02-29"')]
    + [row(open="null"), row(count="3"), b" \n" + row() + b"\t\r\n"],
)  # fmt: skip
def test_what_is_odd_and_still_fine(served: Running, body: bytes) -> None:
    answer = served.request("POST", "/v1/predict", body, **served.bearer())
    assert answer.status == 200, answer.body
    assert 0 <= answer.json["predictions"][0]["confidence"] <= 1


def test_a_value_that_training_never_saw_is_flagged(served: Running) -> None:
    answer = served.request("POST", "/v1/predict", row(kind='"never seen"', amount="99.9"), **served.bearer())
    assert answer.json["predictions"][0]["unusual"] == ["amount", "kind"]


@pytest.mark.parametrize(
    ("kind", "status"),
    [("application/json", 200), ("APPLICATION/JSON", 200), ("application/json; charset=utf-8", 200),
     ('application/json;charset="UTF-8"', 200), ("text/plain", 415), ("application/x-www-form-urlencoded", 415),
     ("multipart/form-data; boundary=x", 415), ("application/vnd.api+json", 415), ("text/json", 415),
     ("application/json; charset=latin-1", 415), ("application/json; charset=utf-16", 415), ("", 415), ("*/*", 415)],
)  # fmt: skip
def test_only_json_in_utf_8_is_read(served: Running, kind: str, status: int) -> None:
    with served.wire() as wire:
        answer = wire.ask(wire_request("POST", "/v1/predict", GOOD, {**served.bearer(), "content-type": kind}))
        assert answer.status == status, answer.body
        if status != 200:
            answer.problem(415)
        assert_alive(wire)


def test_20_000_bad_rows_get_a_short_answer(served: Running) -> None:
    body = b'{"instances": [' + b",".join([b'{"nobody": 1}'] * 10_000) + b"]}"
    answer = served.request("POST", "/v1/predict", body, **served.bearer())
    found = answer.problem(422)
    assert (len(found["errors"]), found["error_count"]) == (20, 10_000)
    assert len(answer.body) < 4000


def test_an_address_in_a_text_is_not_followed(served: Running) -> None:
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0.3)
        address = f"http://127.0.0.1:{trap.getsockname()[1]}/x.csv"
        for text in (address, "file:///etc/passwd", "/etc/passwd"):
            served.request("POST", "/v1/predict", row(kind=json.dumps(text)), **served.bearer())
            served.request("POST", "/v1/predict", row(gate=json.dumps(text)), **served.bearer()).problem(422)
        with pytest.raises(TimeoutError):
            trap.accept()


@pytest.mark.parametrize("header", ["Bearer", "Bearer ", "Basic YTpi", "Bearer " + "[" * 3000, "bearer a.b.c", "\xff"])
def test_a_strange_authorization_is_the_one_401(served: Running, header: str) -> None:
    with served.wire() as wire:
        answer = wire.request("GET", "/auth/me", authorization=header)
        answer.problem(401)
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert_alive(wire)


def test_two_authorization_headers_are_none(served: Running) -> None:
    token = served.token().encode()
    with served.wire() as wire:
        line = b"Authorization: Bearer " + token + b"\r\n"
        wire.send(b"GET /auth/me HTTP/1.1\r\nHost: localhost\r\n" + line + line + b"\r\n")
        wire.answer().problem(401)


@pytest.mark.parametrize("limit", ["1000000000", "-1", "1e3", "0", "NaN", "%00", "1%0a2"])
def test_a_page_is_bounded(served: Running, limit: str) -> None:
    served.request("GET", f"/admin/users?limit={limit}", **served.bearer("root")).problem(422)


# Slow clients


@pytest.fixture(scope="module")
def impatient(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server whose deadlines are one second."""
    root = Path(shutil.copytree(prepared, tmp_path_factory.mktemp("impatient") / "project"))
    deadlines = {"MLOPS_STALL_SECONDS": "1", "MLOPS_BODY_SECONDS": "1", "MLOPS_MAX_ROWS": "50000"}
    with running(root, "/readyz", **deadlines) as server:
        yield server


def trickle(wire: Wire, data: bytes, seconds: float, pause: float = 0.05) -> float:
    """Sends byte by byte until the other side has enough; how long that took."""
    started = time.monotonic()
    wire.socket.settimeout(pause)
    for place in range(len(data)):
        try:
            wire.send(data[place : place + 1])
            if not wire.socket.recv(1 << 16):
                break
        except TimeoutError:
            pass
        except OSError:
            break
        if time.monotonic() - started > seconds:
            break
    return time.monotonic() - started


def test_a_header_byte_by_byte_is_cut(impatient: Running) -> None:
    with impatient.wire() as wire:
        assert 0.9 < trickle(wire, wire_request("GET", "/livez", headers={"x-long": "v" * 500}), 6) < 4


def test_a_second_header_on_the_same_connection_is_cut_too(impatient: Running) -> None:
    with impatient.wire() as wire:
        assert_alive(wire)
        assert 0.9 < trickle(wire, wire_request("GET", "/livez", headers={"x-long": "v" * 500}), 6) < 4


def test_a_body_byte_by_byte_is_408(impatient: Running) -> None:
    headers = {**impatient.bearer(), "content-length": "500"}
    with impatient.wire() as wire:
        wire.send(wire_request("POST", "/v1/predict", b"", headers) + b"{")
        wire.answer().problem(408)
        assert wire.is_closed(5)


@pytest.mark.parametrize("silent", [True, False])
def test_a_body_that_nobody_wants_is_not_waited_for(impatient: Running, silent: bool) -> None:
    """Without a token the answer comes before the body; what then trickles in must not hold the connection."""
    with impatient.wire() as wire:
        wire.send(wire_request("POST", "/v1/predict", b"", {**JSON, "content-length": "500"}))
        wire.answer().problem(401)
        if silent:
            wire.send(b"{")
            assert wire.is_closed(5)
        else:
            assert trickle(wire, b"x" * 400, 8) < 5


@pytest.mark.parametrize("bytes_a_time", [0, 64])
def test_a_reader_that_hardly_reads_is_cut(impatient: Running, bytes_a_time: int) -> None:
    rows = instances([ROW] * 40_000)
    impatient.predict()
    with impatient.wire(receive_buffer=4096) as wire:
        wire.send(wire_request("POST", "/v1/predict", rows, impatient.bearer()))
        assert wire.socket.recv(1)
        started = time.monotonic()
        while impatient.holds(wire):
            assert time.monotonic() - started < 6
            assert not bytes_a_time or wire.socket.recv(bytes_a_time)
            time.sleep(0.1)


def test_a_small_answer_that_nobody_reads_is_not_kept_for_ever(impatient: Running) -> None:
    """It fits into the kernel's buffers, so that only the kernel can tell."""
    with impatient.wire(receive_buffer=4096) as wire:
        wire.send(wire_request("POST", "/v1/predict", instances([ROW] * 1000), {**impatient.bearer()}))
        end = time.monotonic() + 6
        while impatient.holds(wire):
            assert time.monotonic() < end
            time.sleep(0.1)


def test_200_idle_sockets_bother_nobody_and_are_cut(impatient: Running) -> None:
    impatient.predict()
    sockets = [impatient.wire() for _ in range(200)]
    try:
        took = []
        for _ in range(20):
            started = time.monotonic()
            assert impatient.get("/livez").status == 200
            took.append(time.monotonic() - started)
        assert statistics.quantiles(took, n=100)[-1] < 1
        assert impatient.predict().status == 200
        end = time.monotonic() + 5
        assert all(wire.is_closed(max(0.01, end - time.monotonic())) for wire in sockets)
    finally:
        for wire in sockets:
            wire.socket.close()


# Load


async def client(port: int, request: bytes, end: float, seen: Counter[str]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while time.monotonic() < end:
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = re.search(r"content-length: (\d+)", head)
            assert length
            await reader.readexactly(int(length[1]))
            status = head.split()[1]
            if status in ("429", "503") and not re.search(r"retry-after: \d+\r", head):
                status += " without retry-after"
            seen[status] += 1
    except (OSError, asyncio.IncompleteReadError) as error:
        seen[type(error).__name__] += 1
    finally:
        writer.close()


@pytest.mark.slow
@pytest.mark.parametrize(("path", "rows", "clients"), [("/v1/predict", 1, 60), ("/v1/explain", 16, 120)])
def test_20_times_the_load_is_answered_or_refused_politely(served: Running, path: str, rows: int, clients: int) -> None:
    request = wire_request("POST", path, instances([ROW] * rows), served.bearer())
    seen: Counter[str] = Counter()
    health: list[float] = []

    async def load() -> None:
        end = time.monotonic() + 3
        crowd = [asyncio.create_task(client(served.port, request, end, seen)) for _ in range(clients)]
        while time.monotonic() < end:
            started = time.monotonic()
            answer = await asyncio.to_thread(served.get, "/livez")
            assert answer.status == 200
            health.append(time.monotonic() - started)
            await asyncio.sleep(0.1)
        await asyncio.gather(*crowd)

    before = served.memory_mb()
    asyncio.run(load())
    started = time.monotonic()
    assert served.predict().status == 200
    print(path, dict(seen), f"livez at most {max(health) * 1000:.0f} ms")
    assert set(seen) <= {"200", "429", "503"}
    assert seen["200"] > 0
    assert max(health) < 1
    assert time.monotonic() - started < 2
    assert served.memory_mb() - before < 150

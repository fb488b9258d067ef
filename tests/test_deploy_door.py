"""The front door of the stack as it is configured, with a certificate of its own and servers of a few lines behind."""

import http.client
import os
import socket
import subprocess
from pathlib import Path

import pytest
from door import write_certificate
from places import open_place

from mlops_core.deploy.proxy import Proxy, find_haproxy
from mlops_core.processes import free_port

CONFIG = Path(__file__).parents[1] / "deploy" / "proxy"
pytestmark = pytest.mark.skipif(not find_haproxy(), reason="there is no haproxy on this machine")


@pytest.fixture(scope="module")
def door(tmp_path_factory):
    """Asks through the door: over TLS, or plainly."""
    folder, (plain, secure) = tmp_path_factory.mktemp("door"), (free_port(), free_port())
    trust = write_certificate(folder / "door.pem")
    with open_place() as api, open_place() as app, (folder / "proxy.log").open("wb") as log:
        environment = {
            **os.environ,
            "PROXY_SOCKET": str(folder / "proxy.sock"),
            "PROXY_CERTIFICATE": str(folder / "door.pem"),
            "PROXY_BLUE": f"127.0.0.1:{api.port}",
            "PROXY_APP": f"127.0.0.1:{app.port}",
            "PROXY_HTTP": f"127.0.0.1:{plain}",
            "PROXY_HTTPS": f"127.0.0.1:{secure}",
        }
        command = [find_haproxy(), "-db", "-f", str(CONFIG / "haproxy.cfg"), "-f", str(CONFIG / "tls.cfg")]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        proxy = Proxy(folder, process, secure)
        assert proxy.waits_until(proxy._is_up)

        def ask(path, headers=None, tls=True):
            kind = http.client.HTTPSConnection if tls else http.client.HTTPConnection
            kwargs = {"context": trust} if tls else {}
            connection = kind("127.0.0.1", secure if tls else plain, timeout=10, **kwargs)
            connection.request("GET", path, headers=headers or {})
            response = connection.getresponse()
            response.read()
            connection.close()
            return response

        ask.trust, ask.port = trust, secure
        yield ask, api, app
        proxy.close()


@pytest.mark.parametrize("path", ["/v1/model", "/auth/me", "/admin/users", "/invocations", "/docs", "/docs/start.js"])
def test_the_api_s_paths_lead_to_the_api(door, path):
    ask, api, app = door
    before = len(app.seen)
    assert ask(path).status == 200
    assert api.seen[-1][0] == path
    assert api.seen[-1][1]["x-forwarded-proto"] == "https"
    assert len(app.seen) == before


@pytest.mark.parametrize("path", ["/", "/voila/static/page.js", "/api/kernels/1/channels", "/v1"])
def test_everything_else_leads_to_the_page(door, path):
    ask, _, app = door
    assert ask(path, {"X-Forwarded-Proto": "http", "X-Forwarded-For": "203.0.113.9"}).status == 200
    found, headers = app.seen[-1]
    assert (found, headers["x-forwarded-proto"], headers["x-forwarded-for"]) == (path, "https", "127.0.0.1")


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
def test_health_and_numbers_are_not_for_those_outside(door, path):
    ask, api, app = door
    before = len(api.seen), len(app.seen)
    assert ask(path).status == 404
    assert (len(api.seen), len(app.seen)) == before


def test_who_comes_without_tls_is_sent_to_it_with_method_and_body(door):
    ask, _, _ = door
    answer = ask("/v1/model", tls=False)
    assert answer.status == 308
    assert answer.headers["location"].startswith("https://127.0.0.1")


def test_browsers_are_told_to_come_with_tls_from_now_on(door):
    ask, _, _ = door
    assert ask("/").headers["strict-transport-security"] == "max-age=31536000"


def test_the_page_s_web_socket_passes_both_ways(door):
    ask, _, _ = door
    raw = socket.create_connection(("127.0.0.1", ask.port), timeout=10)
    with ask.trust.wrap_socket(raw, server_hostname="127.0.0.1") as connection, connection.makefile("rwb") as stream:
        stream.write(b"GET /api/kernels/1/channels HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\n")
        stream.write(b"Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
        stream.flush()
        head = list(iter(stream.readline, b"\r\n"))
        stream.write(b"hello\n")
        stream.flush()
        assert (head[0].split()[1], stream.readline()) == (b"101", b"hello\n")

"""What stands behind a proxy under test: servers of a few lines that answer, or misbehave, as they are told."""

import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # of RFC 6455
BODY = b'{"model": {"name": "small", "version": 1}, "predictions": [{"id": "1"}]}'


@dataclass
class Place:
    """`status` answers everything but the health check, `healthy` that; `dies` hangs up without a word, after
    `seconds` it answers."""

    status: int = 200
    healthy: bool = True
    dies: bool = False
    seconds: float = 0.0
    port: int = 0
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        if handler.headers.get("upgrade"):
            echo(handler)
            return
        handler.rfile.read(int(handler.headers.get("content-length", 0)))
        status = (200 if self.healthy else 503) if handler.path == "/readyz" else self.status
        if handler.path != "/readyz":
            self.seen.append((handler.path, {name.lower(): value for name, value in handler.headers.items()}))
            if self.dies:
                handler.close_connection = True
                return
            time.sleep(self.seconds)
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(BODY)))
        handler.end_headers()
        handler.wfile.write(BODY)


def echo(handler: BaseHTTPRequestHandler) -> None:
    """A web socket as far as a proxy looks at it; then one line of something that is no longer HTTP, sent back."""
    key = handler.headers["sec-websocket-key"].encode() + GUID
    handler.send_response(101)
    handler.send_header("Sec-WebSocket-Accept", b64encode(sha1(key).digest()).decode())
    handler.send_header("Connection", "Upgrade")
    handler.send_header("Upgrade", handler.headers["upgrade"])
    handler.end_headers()
    handler.wfile.flush()
    handler.wfile.write(handler.rfile.readline())
    handler.close_connection = True


@contextmanager
def open_place(**how: Any) -> Iterator[Place]:
    """A server on a free port of this machine."""
    place = Place(**how)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16  # headers and body in one piece

        def do_GET(self) -> None:
            place.answer(self)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """A health check does not wait for the body."""

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    place.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield place
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

"""A load generator that costs little: prepared bytes over kept connections, one thread, `select.epoll`.

A closed loop: every connection sends its next request when it has the answer to the last one.
"""

import select
import socket
import statistics
import time
from dataclasses import dataclass

CHUNK = 1 << 18
FEWEST = 10  # answers, however long they take


@dataclass(frozen=True)
class Load:
    """What a run of one case gave."""

    rate: float  # requests per second
    p50: float  # seconds
    p99: float


def request_bytes(path: str, body: bytes, headers: dict[str, str]) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def _complete(data: bytearray) -> int:
    """The status once a whole response is there, else 0. Raises ValueError for one without a length."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return 0
    head = bytes(data[:end]).lower()
    at = head.index(b"content-length:")
    length = int(head[at + 15 : head.find(b"\r\n", at) if head.find(b"\r\n", at) > 0 else None])
    return int(head[9:12]) if len(data) >= end + 4 + length else 0


def run_load(port: int, request: bytes, connections: int, seconds: float) -> Load:
    """Drives one server for some seconds. Raises RuntimeError for any answer that is not 200."""
    poll, open_sockets = select.epoll(), {}
    for _ in range(connections):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        poll.register(connection, select.EPOLLIN)
        open_sockets[connection.fileno()] = [connection, bytearray(), time.perf_counter()]
        connection.sendall(request)
    times: list[float] = []
    started = time.perf_counter()
    end = started + seconds
    while (now := time.perf_counter()) < end or len(times) < FEWEST:
        for descriptor, _ in poll.poll(max(0.1, end - now)):
            entry = open_sockets[descriptor]
            chunk = entry[0].recv(CHUNK)
            entry[1] += chunk
            status = _complete(entry[1])
            if status == 0 and chunk:
                continue
            if status != 200:
                raise RuntimeError(f"answered {status}: {bytes(entry[1][-300:])!r}")
            now = time.perf_counter()
            times.append(now - entry[2])
            entry[1].clear()
            entry[2] = now
            entry[0].sendall(request)
    elapsed = time.perf_counter() - started
    for connection, _, _ in open_sockets.values():
        connection.close()
    poll.close()
    cuts = statistics.quantiles(times, n=100)
    return Load(len(times) / elapsed, cuts[49], cuts[98])

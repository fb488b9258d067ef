"""HTTP/1.1 as uvicorn speaks it on h11, with what it lacks: deadlines, strict headers, problems, not plain text."""

import asyncio
import secrets
import socket
from http import HTTPStatus
from typing import Any

import h11
import structlog
from uvicorn.protocols.http.h11_impl import H11Protocol

from api.middleware import HEADERS
from api.problems import ProblemError, render

STALL_SECONDS = 10.0
LINGER_SECONDS = 2.0
LAST_SECONDS = 0.3
MAX_HEADER_BYTES = 16 << 10
MIN_READ_BYTES = 16 << 10  # what a reader has to take within STALL_SECONDS
LENGTHS = {b"content-length", b"transfer-encoding"}
VERSIONS = {b"1.0", b"1.1"}
HEAD, INFORMATION = b"HTTP/1.1 ", b"HTTP/1.1 1"
USER_TIMEOUT: int | None = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux has it
DETAILS = {
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: f"The header is larger than {MAX_HEADER_BYTES:,} bytes.",
    HTTPStatus.NOT_IMPLEMENTED: "No transfer encoding but chunked is understood.",
    HTTPStatus.HTTP_VERSION_NOT_SUPPORTED: "This server speaks HTTP/1.1.",
}

log = structlog.get_logger("api")


class Connection(h11.Connection):
    """h11's state of one connection, without its leniency.

    h11 counts a header's bytes only while it is incomplete, so that one which comes in a single piece may be of any
    size; it takes a message with both kinds of length; and Python refuses numbers of more than 4,300 digits.
    """

    status = HTTPStatus.BAD_REQUEST

    def next_event(self) -> Any:
        try:
            event = super().next_event()
            if type(event) is h11.Request:
                _check(event)
        except h11.RemoteProtocolError as error:
            self.status = HTTPStatus(error.error_status_hint)
            raise
        except ValueError:
            raise h11.RemoteProtocolError("a length without measure") from None
        return event


def _check(request: h11.Request) -> None:
    size, lengths = len(request.target), 0
    for name, value in request.headers:
        size += len(name) + len(value) + 4
        lengths += name in LENGTHS
    if size > MAX_HEADER_BYTES:
        raise h11.RemoteProtocolError("a large header", HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
    if lengths > 1:
        raise h11.RemoteProtocolError("two lengths")
    if request.http_version not in VERSIONS:
        raise h11.RemoteProtocolError("another version", HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)


class Transport:
    """A connection's transport, whose `close` leaves the peer time to read the answer, and not for ever.

    A close while the peer still sends would make the kernel take back what we have answered; one that waits for a
    peer who does not read would keep the socket.
    """

    def __init__(self, inner: asyncio.Transport, owner: "Protocol") -> None:
        self._inner, self._owner, self._closing = inner, owner, False
        self._head = b""

    def write(self, data: bytes) -> None:
        """Sends the head of an answer together with what follows it, which uvicorn writes at once or soon."""
        if not self._head and data.startswith(HEAD) and not data.startswith(INFORMATION):
            self._head = data
        else:
            self._inner.write(self._head + data)
            self._head = b""

    def write_eof(self) -> None:
        self.write(b"")
        self._inner.write_eof()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def is_closing(self) -> bool:
        return self._closing or self._inner.is_closing()

    def close(self) -> None:
        if self.is_closing():
            return
        self._closing = True
        self.write(b"")
        if self._owner.conn.their_state in (h11.SEND_BODY, h11.ERROR):
            self._inner.resume_reading()
            self.write_eof()
            self._owner.later(LINGER_SECONDS, self._inner.close)
        else:
            self._inner.close()
        self._owner.later(LINGER_SECONDS + self._owner.stall_seconds, self._inner.abort)


class Protocol(H11Protocol):
    """One connection. Whoever sends half a header, or does not read the answer, is cut off after `stall_seconds`."""

    stall_seconds = STALL_SECONDS

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.conn = self._strict = Connection(h11.SERVER, MAX_HEADER_BYTES)
        self._silent: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._ending: list[asyncio.TimerHandle] = []

    def later(self, seconds: float, function: Any) -> None:
        """Calls a function when the connection still exists by then."""
        self._ending.append(self.loop.call_later(seconds, function))

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(Transport(transport, self))  # type: ignore[arg-type]
        connection = transport.get_extra_info("socket")
        # asyncio sets it only where the socket's protocol is spelt out; without it an answer waits 40 ms for an ACK.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if USER_TIMEOUT is not None:  # the kernel holds megabytes for a peer that reads nothing, and would for ever
            connection.setsockopt(socket.IPPROTO_TCP, USER_TIMEOUT, int(self.stall_seconds * 1000))
        self._silent = self.loop.call_later(self.stall_seconds, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for timer in (self._silent, self._unread, *self._ending):
            if timer:
                timer.cancel()

    def eof_received(self) -> None:
        self.later(self.stall_seconds, self.transport.abort)  # asyncio closes now, and waits for a reader without end

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return  # read and dropped, so that the peer gets to our answer
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            if self._silent:
                self._silent.cancel()
                self._silent = None
        elif self._silent is None:
            # Part of a header, or of a body that was answered already; more of it does not move the deadline.
            self._silent = self.loop.call_later(self.stall_seconds, self.transport.close)

    def shutdown(self) -> None:
        """As uvicorn does it, but a request that is on its way right now still gets its answer."""
        self.later(LAST_SECONDS, super().shutdown)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reader()

    def _watch_reader(self) -> None:
        left = self.transport.get_write_buffer_size()
        self._unread = self.loop.call_later(self.stall_seconds, self._check_reader, left)

    def _check_reader(self, left: int) -> None:
        if self.transport.get_write_buffer_size() > left - MIN_READ_BYTES:
            self.transport.abort()
        else:
            self._watch_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread:
            self._unread.cancel()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  uvicorn's signature
        """What h11 cannot parse, as a problem; a header that is too large is 431."""
        asking = self.cycle is not None and not self.cycle.response_complete
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE) or (asking and self.cycle.response_started):
            self.transport.close()  # broken in the middle of a request that is being answered
            return
        if asking:  # its body is broken: whoever waits for the rest must not answer too
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        status, request_id = self._strict.status, secrets.token_hex(8)
        problem = ProblemError(status, DETAILS.get(status, "This is not an HTTP request."))
        answer = render(problem, "/", request_id)
        answer.headers.update({**HEADERS, "X-Request-ID": request_id, "Connection": "close"})
        head = h11.Response(status_code=status, headers=answer.raw_headers, reason=status.phrase.encode())
        for event in (head, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        peer = self.client[0] if self.client else "-"
        log.warning("not a request", request_id=request_id, status=int(status), peer=peer)
        self.transport.close()


def protocol_with(stall_seconds: float) -> type[Protocol]:
    """The protocol with a deadline of its own."""
    return type("Protocol", (Protocol,), {"stall_seconds": stall_seconds})

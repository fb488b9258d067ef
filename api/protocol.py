"""HTTP/1.1 as uvicorn speaks it on h11, with what it lacks: deadlines, and problems instead of plain text."""

import asyncio
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from api.problems import MEDIA_TYPE, ProblemError, render

STALL_SECONDS = 10.0
MAX_HEADER_BYTES = 16 << 10
LINGER_SECONDS = 1.0


class Protocol(H11Protocol):
    """One connection. Whoever sends half a header, or reads no answer, is cut off after STALL_SECONDS."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._half_header: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._half_header = self.loop.call_later(STALL_SECONDS, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._half_header, self._unread):
            if timer:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return  # read and dropped, so that the peer gets to our answer
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            if self._half_header:
                self._half_header.cancel()
                self._half_header = None
        elif self._half_header is None:
            self._half_header = self.loop.call_later(STALL_SECONDS, self.transport.close)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self.loop.call_later(STALL_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread:
            self._unread.cancel()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  uvicorn's signature
        """What h11 cannot parse, as a problem; a header that is too large is 431."""
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering or self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()  # broken in the middle of a request that is being answered
            return
        self._refused = True
        large = len(self.conn.trailing_data[0]) > MAX_HEADER_BYTES
        status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE if large else HTTPStatus.BAD_REQUEST
        detail = f"The header is larger than {MAX_HEADER_BYTES:,} bytes." if large else "This is not an HTTP request."
        body = bytes(render(ProblemError(status, detail), "/", "-").body)
        headers = [("content-type", MEDIA_TYPE), ("content-length", str(len(body))), ("connection", "close")]
        head = h11.Response(status_code=status, headers=headers, reason=status.phrase.encode())
        for event in (head, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        # Closing at once, while the peer still sends, would take the answer from it.
        self.loop.call_later(LINGER_SECONDS, self.transport.close)

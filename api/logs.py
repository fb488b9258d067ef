"""Structured logs: one JSON object a line, with a plain trace and never the values of local variables."""

import contextlib
import logging
import os
import sys
import threading
from typing import Any

import structlog


class WholeLines:
    """A stream that drops lines which cannot be written: a full disk or a closed pipe must end no request, no thread.

    A line that was begun is finished first the next time, so none is cut.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._rest = b""
        self._lock = threading.Lock()

    def write(self, text: str) -> int:
        with self._lock:
            begun, data = len(self._rest), self._rest + text.encode("utf-8", "backslashreplace")
            written = self._write_what_fits(data)
            if written < begun:
                self._rest = data[written:begun]
            else:
                self._rest = data[written:] if written > begun else b""
        return len(text)

    def _write_what_fits(self, data: bytes) -> int:
        written = 0
        with contextlib.suppress(OSError):
            while written < len(data):
                written += os.write(self.descriptor, data[written:])
        return written

    def flush(self) -> None:
        """Nothing waits but the rest of a line."""


def configure_logs() -> None:
    """For the server process. structlog's own default prints local variables, tokens among them.

    What libraries log goes the same way, from warnings on.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    out: Any = WholeLines(sys.stdout.fileno())
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processor=structlog.processors.JSONRenderer(), foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared]
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)

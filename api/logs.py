"""Structured logs: one JSON object a line, with a plain trace and never the values of local variables."""

import logging

import structlog


def configure_logs() -> None:
    """For the server process. structlog's own default prints local variables, tokens among them."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )

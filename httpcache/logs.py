"""Logging: each record is one line, without terminal control characters."""

from __future__ import annotations

import logging

from .errors import one_line


class _Plain(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = one_line(record.getMessage()), ()
        return True


def begin(level: str) -> None:
    """Log records of at least this level, only from our own logger: httpcore's prints headers, including secrets."""
    log = logging.getLogger("httpcache")
    log.setLevel(level.upper())
    if not log.filters:
        log.addFilter(_Plain())

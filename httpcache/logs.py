"""The log: each record is one line of its own, and says nothing that a terminal obeys."""

from __future__ import annotations

import logging

from .errors import one_line


class _Plain(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = one_line(record.getMessage()), ()
        return True


def begin(level: str) -> None:
    """Log what is at least of this level. No other logger than ours: httpcore's prints headers, secrets among them."""
    log = logging.getLogger("httpcache")
    log.setLevel(level.upper())
    if not log.filters:
        log.addFilter(_Plain())

"""Logging: each record is one line, without terminal control characters, as text or as a JSON object.

The last errors are kept for the pages.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from datetime import UTC, datetime
from typing import NamedTuple

from .errors import one_line, without_keys
from .settings import JSON

ACCESS = "httpcache.access"
"""The logger of requests. Its records have `fields`, which are members of the JSON object; text has them as a line."""
KEPT, LONGEST = 100, 1000  # lines of a process, and the characters of one
ANSWERED = "answered "
"""What the lines about error responses begin with, which are of level INFO."""


class Line(NamedTuple):
    """A line of the log: when (seconds since the epoch), its level, and what it says."""

    time: float
    level: str
    text: str


class _Plain(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = one_line(without_keys(record.getMessage())), ()
        return True


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Return a record as one line of JSON (RFC 8259)."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        found: dict[str, object] = {"time": at, "level": record.levelname.lower(), "logger": record.name}
        fields = getattr(record, "fields", None)
        found |= fields or {"message": record.getMessage()}
        if record.exc_info:
            found["traceback"] = self.formatException(record.exc_info)
        return json.dumps(found)


def start(level: str, form: str) -> None:
    """Log to standard error in this form, TEXT or JSON, records of at least this level. Can be called again."""
    logging.basicConfig()
    formatter = _Json() if form == JSON else logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    for handler in logging.getLogger().handlers:
        handler.setFormatter(formatter)
    begin(level)


class _Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: deque[Line] = deque(maxlen=KEPT)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a warning, an error, or that a request was answered with one."""
        text = record.getMessage()
        if record.name != ACCESS and (record.levelno >= logging.WARNING or text.startswith(ANSWERED)):
            self.lines.append(Line(record.created, record.levelname, text[:LONGEST]))


_kept = _Kept()


def begin(level: str) -> None:
    """Log records of at least this level, only from our own logger: httpcore's prints headers, including secrets."""
    logging.getLogger("httpcache").setLevel(level.upper())
    logging.getLogger(ACCESS).setLevel(logging.INFO)
    for name in ("httpcache", ACCESS):
        log = logging.getLogger(name)
        if not log.filters:
            log.addFilter(_Plain())
    if _kept not in logging.getLogger("httpcache").handlers:
        logging.getLogger("httpcache").addHandler(_kept)


def last() -> list[Line]:
    """Return the last warnings, errors and error responses of this process, the oldest first."""
    return list(_kept.lines)

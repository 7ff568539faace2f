"""Logs the mirror's own error responses, rate-limited: each text once a minute, at most MOST texts a minute."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable

from httpcache.errors import without_logins

log = logging.getLogger("httpcache")

MINUTE = 60.0  # seconds in which the same text is logged only once
MOST = 200  # distinct texts logged in that time


class ErrorLog:
    """Logs errors at INFO. Repeats are counted, and the counts logged with the first error after the minute is over.

    `clock` returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = clock()
        self._counts: Counter[tuple[int, str]] = Counter()
        self._silent = 0

    def log(self, status: int, text: str) -> None:
        """Log an error response with this status and text, without a login in it.

        The text must not contain other secrets (see `errors`). It repeats parts of addresses that could not be read,
        and a login can be in any of them.
        """
        text = without_logins(text)
        if self._clock() - self._since >= MINUTE:
            self._sum_up()
        key = (status, text)
        if key not in self._counts and len(self._counts) >= MOST:
            self._silent += 1
            return
        self._counts[key] += 1
        if self._counts[key] == 1:
            log.info("answered %d: %s", status, _one_line(text))

    def _sum_up(self) -> None:
        for (status, text), times in self._counts.items():
            if times > 1:
                log.info("answered %d, %d times more: %s", status, times - 1, _one_line(text))
        if self._silent:
            log.info("answered %d more requests with errors that are not listed here", self._silent)
        self._since, self._silent = self._clock(), 0
        self._counts.clear()


def _one_line(text: str) -> str:
    """Escape characters that could end the log line or control a terminal."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)

"""Tries again what fails in passing, after a pause that grows: alone, or everybody where a registry asks for a rest."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Awaitable, Callable
from email.utils import parsedate_to_datetime
from typing import TypeVar

import anyio

from httpcache.errors import BadUpstream, Busy, MirrorError, TimedOut, Unreachable
from pypi_adapter.history.history import Doubtful, StaleObservation
from pypi_adapter.registry.client import RetryLater

log = logging.getLogger("httpcache")

TRIES = 5
FIRST = 1.0  # seconds; each pause is twice the one before, less up to half of it at random
LONGEST = 600.0  # seconds, also where the registry asks for more
HOPELESS = 50  # failures in a row, over everything that is tried

T = TypeVar("T")

_PASSING = (RetryLater, TimedOut, Unreachable, Busy, StaleObservation)


class GaveUp(BadUpstream):
    """Whatever was tried has failed, for long."""


class SharedBackoff:
    """What several tasks that ask one registry have in common: a time before which none of them asks again."""

    def __init__(self) -> None:
        self._resume = 0.0
        self._failures = 0

    async def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """Return what some work returns. Raises its error after TRIES, and GaveUp.

        What is doubtful is not tried again: it is decided later than anybody waits here.
        """
        for attempt in range(TRIES):
            await self._rest()
            try:
                found = await work()
            except Doubtful:
                self._failures = 0
                raise
            except _PASSING as error:
                self._failures += 1
                if self._failures >= HOPELESS:
                    raise GaveUp(f"{self._failures} requests in a row have failed, the last one so: {error}") from error
                if attempt == TRIES - 1:
                    raise
                await self._pause(error, attempt)
            else:
                self._failures = 0
                return found
        raise AssertionError("the last try returns or raises")

    async def _rest(self) -> None:
        """Wait until the registry may be asked, also if others put that off meanwhile."""
        rest = self._resume - anyio.current_time()
        if rest > 0:
            await anyio.sleep(rest)
            await self._rest()

    async def _pause(self, error: Exception, attempt: int) -> None:
        pause = min(FIRST * 2**attempt, LONGEST) * random.uniform(0.5, 1.0)  # noqa: S311
        if isinstance(error, RetryLater) and error.for_all:
            pause = max(pause, min(retry_after(error), LONGEST))
            self._resume = max(self._resume, anyio.current_time() + pause)
        log.info("%s; trying again in %.0f s", error, pause)
        await anyio.sleep(pause)


def retry_after(error: MirrorError) -> float:
    """Return how many seconds an answer asks to wait (RFC 9110 section 10.2.3), 0 where it does not say."""
    text = error.headers.get("Retry-After", "")
    if text.isdecimal() and len(text) < 10:
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0

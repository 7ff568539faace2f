"""Retries with exponential backoff: each task on its own, or all of them if the registry asks for a rest."""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from httpcache.errors import BadUpstream, Busy, MirrorError, TimedOut, Unreachable
from pypi_adapter.history.history import Doubtful, StaleObservation
from pypi_adapter.registry.client import RetryLater
from pypi_adapter.registry.rest import LONGEST, Rest, seconds_in

log = logging.getLogger("httpcache")

TRIES = 5
FIRST = 1.0  # seconds; each pause is twice the one before, minus up to half of it at random
HOPELESS = 50  # failures in a row, of all tasks together

T = TypeVar("T")

_PASSING = (RetryLater, TimedOut, Unreachable, Busy, StaleObservation)


class GaveUp(BadUpstream):
    """HOPELESS requests in a row have failed."""


class SharedBackoff:
    """Retries the requests of several tasks to one registry, and gives up if too many in a row fail.

    None of the tasks makes a request during `rest`, which others can share. Failures are counted for each backoff
    alone: the file host can be down while the pages are there.
    """

    def __init__(self, rest: Rest) -> None:
        self._rest = rest
        self._failures = 0

    async def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """Return what `work` returns. Raises its error after TRIES, and GaveUp.

        Doubtful is not retried: it takes longer to settle than a task waits here.
        """
        for attempt in range(TRIES):
            await self._rest.over()
            try:
                found = await work()
            except Doubtful:
                self._failures = 0
                raise
            except _PASSING as error:
                self._failures += 1
                if self._failures >= HOPELESS:
                    raise GaveUp(
                        f"{self._failures} requests in a row have failed, the last one with: {error}"
                    ) from error
                if attempt == TRIES - 1:
                    raise
                await self._pause(error, attempt)
            else:
                self._failures = 0
                return found
        raise AssertionError("the last try returns or raises")

    async def _pause(self, error: Exception, attempt: int) -> None:
        pause = min(FIRST * 2**attempt, LONGEST) * random.uniform(0.5, 1.0)  # noqa: S311
        if isinstance(error, RetryLater) and error.for_all:
            pause = max(pause, min(retry_after(error), LONGEST))
            self._rest.extend(pause)
        log.info("%s; trying again in %.0f s", error, pause)
        await anyio.sleep(pause)


def retry_after(error: MirrorError) -> float:
    """Return the seconds in the `Retry-After` of an error (RFC 9110 section 10.2.3), 0 if it has none."""
    return seconds_in(error.headers.get("Retry-After", ""))

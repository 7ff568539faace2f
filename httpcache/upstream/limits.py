"""Limits on requests to upstreams: how many at once, how long one may take, and how slow it may be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import anyio

from httpcache.errors import Busy, TimedOut

PATIENCE = 60.0  # seconds that a request waits for a slot
QUEUE = 8  # per origin, at most this many times its slots may be in use or waited for

T = TypeVar("T")


@dataclass
class _Origin:
    slots: anyio.Semaphore
    users: int = 0


class Slots:
    """At most `total` requests at once, and at most `each` to one origin, with a bounded queue per origin.

    A request acquires the slot of its origin first, so that waiting for a slow origin does not block the others.
    """

    def __init__(self, total: int, each: int) -> None:
        self._total = anyio.Semaphore(total, fast_acquire=True)
        self._each = each
        self._origins: dict[str, _Origin] = {}

    @property
    def are_taken(self) -> bool:
        """Whether all are in use, so that who comes next has to wait."""
        return self._total.value == 0

    @asynccontextmanager
    async def turn(self, origin: str) -> AsyncIterator[None]:
        """Wait for a slot and hold it inside the block. Raises Busy."""
        here = self._origins.setdefault(origin, _Origin(anyio.Semaphore(self._each, fast_acquire=True)))
        if here.users >= self._each * QUEUE:
            raise Busy(f"too many downloads from {origin} at once: try again later")
        here.users += 1
        try:
            await self._acquire(here.slots, origin)
            try:
                yield
            finally:
                self._total.release()
                here.slots.release()
        finally:
            here.users -= 1
            if not here.users:
                del self._origins[origin]

    async def _acquire(self, each: anyio.Semaphore, origin: str) -> None:
        """Acquire both slots, at once if they are free. Raises Busy."""
        if each.value and self._total.value:
            each.acquire_nowait()
            self._total.acquire_nowait()
            return
        with anyio.move_on_after(PATIENCE):
            await each.acquire()
            try:
                await self._total.acquire()
            except BaseException:
                each.release()
                raise
            return
        raise Busy(f"too many downloads at once, from {origin} or in total: try again later")


class Pace:
    """Enforces a deadline on one exchange, and a timeout and a minimum rate on each wait in it.

    `deadline`: seconds for everything, from now on. `stall`: seconds without a byte, or with fewer than `rate` bytes
    per second on average. Only time spent waiting for the upstream counts towards the rate.
    """

    def __init__(self, deadline: float, stall: float, rate: int) -> None:
        self._clock = asyncio.get_running_loop().time  # what anyio.current_time looks for at each call
        self._end = self._clock() + deadline
        self._deadline = deadline
        self._stall = stall
        self._rate = rate
        self._waited = 0.0
        self._received = 0

    async def wait(self, work: Callable[[], Awaitable[T]]) -> T:
        """Wait for the upstream. Raises TimedOut."""
        started = self._clock()
        with anyio.move_on_at(min(started + self._stall, self._end)):
            result = await work()
            self._waited += self._clock() - started
            return result
        if self._clock() >= self._end:
            raise TimedOut(f"it took longer than {self._deadline:g} seconds (--deadline)")
        raise TimedOut(f"no data arrived for {self._stall:g} seconds (--stall-timeout)")

    def count(self, received: int) -> None:
        """Count received bytes. Raises TimedOut if they were too few for too long."""
        self._received += received
        if self._waited < self._stall:
            return
        if self._received < self._rate * self._waited:
            raise TimedOut(
                f"fewer than {self._rate} bytes per second arrived for {self._stall:g} seconds "
                "(--min-rate, --stall-timeout)"
            )
        self._waited, self._received = 0.0, 0

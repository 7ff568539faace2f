"""When something is read ahead: what is near to a client first, a little at once, and in nobody's way.

Nothing waits for its turn when there is trouble: it is dropped, and the client asks for it itself.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import anyio
import anyio.lowlevel

from httpcache.errors import MirrorError, StoreError
from httpcache.freezing.mirror import Mirror
from pypi_adapter.registry.rest import Rest

log = logging.getLogger("httpcache")

AT_ONCE = 16  # steps of all walks of a process
SHARE = 4  # of the connections of a process, at most one in so many is for reading ahead
WAITING = 500  # steps of all walks of a process that wait for a turn
FULL = 60.0  # seconds without reading ahead after the store has failed
QUICK = 0.001  # seconds that a turn of the event loop takes when it has nothing else to do
TURNS = 200  # turns that are waited for one that is quick

Step: TypeAlias = Callable[[], Awaitable[None]]
"""Reads something ahead. Raises MirrorError."""


class Turns:
    """The steps of one process that wait for their turns. A step has a depth from 0 to below `depths`."""

    def __init__(self, mirror: Mirror, depths: int) -> None:
        self._mirror = mirror
        self._at_once = min(AT_ONCE, mirror.settings.max_connections // SHARE)
        self._waiting: list[deque[tuple[Step, Callable[[], bool]]]] = [deque() for _ in range(depths)]
        self._working = 0
        self._stopped = Rest()

    def later(self, depth: int, step: Step, is_wanted: Callable[[], bool]) -> None:
        """Take a step when its turn comes, if it is wanted then: a lesser depth goes first."""
        if sum(map(len, self._waiting)) >= WAITING:
            return
        self._waiting[depth].append((step, is_wanted))
        if self._working < self._at_once:
            self._working += 1
            self._mirror.start(self._work)

    async def _work(self) -> None:
        try:
            while step := self._next():
                if not await _is_idle():
                    continue
                try:
                    await step()
                except StoreError as error:
                    self._stopped.extend(FULL)
                    log.debug("read ahead: %s", error.text)
                except MirrorError as error:
                    log.debug("read ahead: %s", error.text)
        finally:
            self._working -= 1

    def _next(self) -> Step | None:
        """Return the next step that may be taken; the others before it are dropped."""
        for waiting in self._waiting:
            while waiting:
                step, is_wanted = waiting.popleft()
                if self._stopped.left <= 0 and not self._mirror.upstream.is_crowded and is_wanted():
                    return step
        return None


async def _is_idle() -> bool:
    """Wait until the event loop has nothing else to do for a moment; False if that does not come soon."""
    for _ in range(TURNS):
        began = anyio.current_time()
        await anyio.lowlevel.checkpoint()
        if anyio.current_time() - began < QUICK:
            return True
    return False

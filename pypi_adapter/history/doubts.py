"""Losses that were seen once: a registry must still mean one some time later before it is believed."""

from __future__ import annotations

import msgspec

from httpcache.store.base import Store
from httpcache.store.log import Log
from pypi_adapter.instants import to_segment

from .history import Doubtful


class Noted(msgspec.Struct, frozen=True, array_like=True):
    """A look that began or ended a row of losses; `instant` in microseconds since the epoch."""

    instant: int
    lost: bool


def doubts_log(store: Store, name: str) -> Log:
    """Return the log of the doubts about what has its own log under `name`."""
    return Log(store, f"{name} doubts")  # no name has a space in it


class Doubts:
    """The losses of one page, or of the list, that are not believed yet: in the store, so for all processes.

    A row of looks that all show a loss begins with the first. It is believed `pause` microseconds later, if no look in
    between has shown the page whole. Rows are noted no closer together than that: a page that comes and goes must not
    make the log grow with each poll.
    """

    def __init__(self, store: Store, name: str, pause: int) -> None:
        self._log = doubts_log(store, name)
        self._pause = pause
        self._looks: list[Noted] = []

    async def begun(self) -> int | None:
        """Return when the row that has not ended began, None where there is none. Raises StoreError."""
        for value in await self._log.read(len(self._looks)):
            self._looks.append(msgspec.msgpack.decode(value, type=Noted))
        return self._looks[-1].instant if self._looks and self._looks[-1].lost else None

    async def settle(self, instant: int, doubt: Doubtful) -> None:
        """Take note of a loss that was seen at an instant. Raises `doubt` where it is not believed yet."""
        if not self._pause:
            return
        begun = await self.begun()
        ended = self._looks[-1].instant if self._looks and begun is None else None
        if begun is None or begun > instant:  # noted while the clock was ahead
            begun = instant
            if ended is None or not ended <= instant < ended + self._pause:
                await self._note(Noted(instant, lost=True))
        if instant < begun + self._pause:
            raise Doubtful(f"{doubt}; if that is still so at {to_segment(begun + self._pause)}, it is believed")

    async def clear(self, instant: int) -> None:
        """Take note that an instant showed no loss."""
        begun = await self.begun()
        if begun is not None and begun < instant:
            await self._note(Noted(instant, lost=False))

    async def _note(self, look: Noted) -> None:
        """Append a look, unless another process has noted the same in the meantime."""
        value = msgspec.msgpack.encode(look)
        while not self._looks or self._looks[-1].lost != look.lost or self._looks[-1].instant > look.instant:
            if await self._log.append(len(self._looks), value):
                return
            await self.begun()

"""Losses that were seen once: a registry must still mean one some time later before it is believed."""

from __future__ import annotations

import msgspec

from httpcache.store.base import Store
from httpcache.store.log import TypedLog
from pypi_adapter.instants import to_segment

from .history import Doubtful


class Noted(msgspec.Struct, frozen=True, array_like=True):
    """A look that began or ended a row of losses; `instant` in microseconds since the epoch."""

    instant: int
    lost: bool


class Doubts(TypedLog[Noted]):
    """The losses of one page, or of the list, that are not believed yet. All processes share them.

    `name` is the name of the log of the page or list.

    A row of looks that all show a loss begins with the first. It is believed `pause` microseconds later, if no look in
    between has shown the page whole. Rows are noted no closer together than that: a page that comes and goes must not
    make the log grow with each poll.
    """

    def __init__(self, store: Store, name: str, pause: int = 0) -> None:
        what, decode = f"the doubts about {name}", msgspec.msgpack.Decoder(Noted).decode
        super().__init__(store, f"{name} doubts", what, msgspec.msgpack.encode, decode)  # no name has a space in it
        self._pause = pause

    async def begun(self) -> int | None:
        """Return when the row that has not ended began, None where there is none. Raises StoreError."""
        last = await self._last()
        return last.instant if last and last.lost else None

    async def settle(self, instant: int, doubt: Doubtful) -> None:
        """Take note of a loss that was seen at an instant. Raises `doubt` where it is not believed yet."""
        if not self._pause:
            return
        last = await self._last()
        begun = instant
        if last and last.lost and last.instant <= instant:  # a later one was noted while the clock was ahead
            begun = last.instant
        elif last is None or last.lost or not last.instant <= instant < last.instant + self._pause:
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
        last = await self._last()
        while last is None or last.lost != look.lost or last.instant > look.instant:
            if await self.try_append(look):
                return
            last = await self._last()

    async def _last(self) -> Noted | None:
        looks = await self.all()
        return looks[-1] if looks else None

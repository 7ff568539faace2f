"""Losses seen once. A loss counts only if the registry still shows it some time later."""

from __future__ import annotations

import msgspec

from httpcache.store.log import TypedLog
from httpcache.store.store import Store
from pypi_adapter.instants import to_segment

from .history import Doubtful


class Noted(msgspec.Struct, frozen=True, array_like=True):
    """An observation that began or ended a series of losses; `instant` is in microseconds since the epoch."""

    instant: int
    lost: bool


class Doubts(TypedLog[Noted]):
    """The losses of one page, or of the list of projects, that do not count yet. All processes share them.

    `name` is the name of the log of the page or list.

    A series of observations that all show a loss begins with the first of them. The loss counts `pause` microseconds
    later if no observation in between has shown the page whole. Series are recorded no closer together than that, so
    that a page that comes and goes does not make the log grow with each poll.
    """

    def __init__(self, store: Store, name: str, pause: int = 0) -> None:
        subject, decode = f"the doubts about {name}", msgspec.msgpack.Decoder(Noted).decode
        super().__init__(store, f"{name} doubts", subject, msgspec.msgpack.encode, decode)  # no name has a space in it
        self._pause = pause

    async def begun(self) -> int | None:
        """Return when the current series began, None if there is none. Raises StoreError."""
        last = await self._last()
        return last.instant if last and last.lost else None

    async def settle(self, instant: int, doubt: Doubtful) -> None:
        """Record a loss that was seen at an instant. Raises `doubt` if it does not count yet."""
        if not self._pause:
            return
        last = await self._last()
        begun = instant
        if last and last.lost and last.instant <= instant:  # a later one was recorded while the clock was ahead
            begun = last.instant
        elif last is None or last.lost or not last.instant <= instant < last.instant + self._pause:
            await self._note(Noted(instant, lost=True))
        if instant < begun + self._pause:
            raise Doubtful(f"{doubt}; the loss counts if it still shows at {to_segment(begun + self._pause)}")

    async def clear(self, instant: int) -> None:
        """Record that there was no loss at an instant."""
        begun = await self.begun()
        if begun is not None and begun < instant:
            await self._note(Noted(instant, lost=False))

    async def _note(self, noted: Noted) -> None:
        """Append an observation, unless another process has recorded the same in the meantime."""
        last = await self._last()
        while last is None or last.lost != noted.lost or last.instant > noted.instant:
            if await self.try_append(noted):
                return
            last = await self._last()

    async def _last(self) -> Noted | None:
        values = await self.all()
        return values[-1] if values else None

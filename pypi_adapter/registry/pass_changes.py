"""The projects that a pass has changed, in a log of its own for each pass. Nothing but pages and lists reads them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import msgspec

from httpcache.store.log import TypedLog
from httpcache.store.store import Store

MOST = 10_000
"""Projects of a pass that are noted: the first pass over a whole registry changes all of them."""
AT_ONCE = 2_000
"""Projects in one value of the log."""


class Change(msgspec.Struct, frozen=True, array_like=True):
    """A project (normalised) whose log has grown in a pass, and the instant (microseconds) of its newest entry then."""

    project: str
    instant: int


def _encode(changes: tuple[Change, ...]) -> bytes:
    return zlib.compress(msgspec.msgpack.encode(changes))


def _decode(value: bytes) -> tuple[Change, ...]:
    return msgspec.msgpack.decode(zlib.decompress(value), type=tuple[Change, ...])


class PassChanges(TypedLog[tuple[Change, ...]]):
    """The changes of the pass over a registry that began at `started` (microseconds)."""

    def __init__(self, store: Store, registry: str, started: int) -> None:
        super().__init__(store, f"{registry}/ changed {started}", "captures", _encode, _decode)

    async def note(self, changes: Sequence[Change]) -> None:
        """Note the first MOST of the changes, before the pass is marked. Raises StoreError."""
        noted = sorted(changes[:MOST], key=lambda change: change.project)
        for start in range(0, len(noted), AT_ONCE):
            await self.append(tuple(noted[start : start + AT_ONCE]))

    async def by_name(self) -> list[Change]:
        """Return what was noted, by name; nothing for a pass of before that was done. Raises StoreError."""
        return [change for part in await self.all() for change in part]

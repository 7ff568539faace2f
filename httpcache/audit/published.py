"""What a mirror publishes of its Merkle log besides tiles: entries of logs with their leaves, and the names of logs."""

from __future__ import annotations

from typing import Annotated

import msgspec

from httpcache.errors import NotFound
from httpcache.store import keys
from httpcache.store.leaves import Leaf, place
from httpcache.store.store import Store

from .tree import leaf_hash

AT_ONCE = 400  # leaves on a page
MOST = 9_999_999_999  # the largest number of an entry
LARGEST = 4 * 1024 * 1024  # bytes of entries on a page, or one entry


class Event(msgspec.Struct, frozen=True):
    """That an entry was added to a log, or removed from it: its number, its leaf's number and nonce, and its bytes.

    `value` is None for what was removed: its bytes are gone, and with them what its leaf was about.
    """

    entry: Annotated[int, msgspec.Meta(ge=0, le=MOST)]
    leaf: Annotated[int, msgspec.Meta(ge=0, le=MOST)]
    removal: bool
    nonce: bytes
    commitment: bytes
    value: bytes | None = None

    @property
    def data(self) -> bytes:
        """What is hashed into the tree."""
        return self.as_leaf("").data

    @property
    def hash(self) -> bytes:
        """The hash of the leaf."""
        return leaf_hash(self.data)

    def as_leaf(self, log: str) -> Leaf:
        """Return it as a leaf about the log of that name."""
        where = place(keys.numbered(keys.log(log), self.entry))
        return Leaf(self.leaf, self.removal, where, self.nonce, self.commitment)


class LogPage(msgspec.Struct, frozen=True):
    """Some entries of a log, in the order of their numbers; `next` is the first one that is left, None at the end."""

    log: str
    events: list[Event]
    next: int | None = None


class LogNames(msgspec.Struct, frozen=True):
    """The names of the logs whose entries are published."""

    logs: list[str]


async def log_page(store: Store, name: str, start: int) -> LogPage:
    """Return entries of a log from number `start` on. Raises NotFound if it has none at all, and StoreError."""
    prefix = keys.log(name)
    before = Leaf(1 << 62, False, place(keys.numbered(prefix, start - 1)), b"", b"") if start else None
    found = await store.index.leaves_by_place(place(keys.numbered(prefix, 0))[:32], before, AT_ONCE)
    if not found and not start:
        raise NotFound("this mirror has no such log, or nothing in it")
    following = None
    if len(found) == AT_ONCE:  # the last entry may have more leaves
        following = found[-1].entry
        found = [leaf for leaf in found if leaf.entry != following]
    events: list[Event] = []
    size = 0
    values = await store.get_many([leaf.key for leaf in found])
    for leaf, value, later in zip(found, values, [*found[1:], None], strict=True):
        is_last = later is None or later.entry != leaf.entry
        is_there = is_last and not leaf.is_removal
        events.append(
            Event(leaf.entry, leaf.number, leaf.is_removal, leaf.nonce, leaf.commitment, value if is_there else None)
        )
        size += len(value or b"")
        if is_last and size > LARGEST and later is not None:
            following = leaf.entry + 1
            break
    return LogPage(name, events, following)

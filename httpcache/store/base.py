"""The two engines under a store: an index of small values, and blobs named by the sha256 of their bytes.

An *index* maps keys to values; the first writer of a key wins, and nothing is ever overwritten. The module `keys` lists
the keys. An index also keeps the small bodies, and can list, count and search the records among its entries by their
`Columns`. *Blobs* are all other bodies. A body is written before the record that names it, or together with it, so a
process may crash at any time: a body without a record does not exist, and a record's body is always complete.

`Store` (in `store`) is written once on top of both.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Hashable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:  # what reads a folder without a server imports this module
    from .builds import Builds
    from .leaves import Leaf
    from .usage import Usage

PAGE = 1000  # entries


class Condition(Enum):
    """What is known about a body.

    SOUND: verified. UNREAD: not verified yet. BROKEN: missing or damaged. REMOTE: in the object store, as far as is
    known, and not on this node.
    """

    SOUND = "sound"
    UNREAD = "unread"
    BROKEN = "broken"
    REMOTE = "remote"


class Columns(NamedTuple):
    """What an index keeps of a record beside its value, to list, count and search by.

    `address` is the URL as it is shown, without the values of its query; `digest` is "" for an absence, and `size` 0.
    """

    pin: str
    address: str
    digest: str = ""
    size: int = 0


class New(NamedTuple):
    """An entry to be added: its key and value; of a record its columns, and its body if the index is to keep that."""

    key: str
    value: bytes
    columns: Columns | None = None
    body: bytes | None = None


class PinTotals(NamedTuple):
    """How many records a pin has, and how many bytes their bodies have in all, each counted as often as it is named."""

    pin: str
    entries: int
    bytes: int


class Place(NamedTuple):
    """Where a page of a pin's records ended: the next one begins behind this address and key."""

    address: str
    key: str


class Range(NamedTuple):
    """What a page is of: up to `limit` entries whose keys start with `prefix` and come after `after`."""

    prefix: str
    after: str = ""
    limit: int = PAGE


class Listed(NamedTuple):
    """A record in a page of a pin's records: its place, and its value."""

    place: Place
    value: bytes


class Sized(NamedTuple):
    """A record in a page of a pin's records by size: the bytes of its body, its key, and its value."""

    size: int
    key: str
    value: bytes


class Index(Protocol):
    """Small values, each under a key.

    Every method raises StoreError: Damaged if the data is not what was written, StoreFull if the disk is full.
    """

    @property
    def usage(self) -> Usage:
        """How what is frozen is used. It is no part of what is frozen."""

    @property
    def builds(self) -> Builds:
        """What was taken under each build label. It is no part of what is frozen."""

    async def get(self, key: str) -> bytes | None:
        """Return the value of a key, or None if it has none."""

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the values of several keys, in the same order, with None for keys that have none."""

    async def add(
        self,
        key: str,
        value: bytes,
        columns: Columns | None = None,
        body: bytes | None = None,
        *,
        counts: bool = True,
    ) -> bytes:
        """Set the value of a key unless it has one. Returns the value it has now (the winner's), which is durable.

        A record comes with its `columns`, and with its `body` if the index is to keep that; if another writer was
        first, nothing of it is kept. `counts`: whether the generation changes.
        """

    async def add_many(self, entries: Sequence[New]) -> list[bytes]:
        """Do what `add` does for several entries, whose keys differ, in one transaction: all of it is made, or none.

        Returns the values that the keys have now, in the same order. Other changes wait meanwhile.
        """

    async def remove(self, key: str) -> bool:
        """Remove a key, and the columns of its record. Returns whether it existed."""

    async def page(self, prefix: str, after: str = "", limit: int = PAGE) -> list[tuple[str, bytes]]:
        """Return up to `limit` entries whose keys start with `prefix` and come after `after`, in the order of keys."""

    async def pages(self, ranges: Sequence[Range]) -> list[list[tuple[str, bytes]]]:
        """Return a `page` of each range, in one request."""

    async def keys(self, prefix: str, after: str = "", limit: int = PAGE) -> list[str]:
        """Like `page`, without the values, so that a damaged one is no hindrance."""

    def generation(self) -> Hashable:
        """Return a value that differs after any change that counts, by any process.

        A value that equals no other one says that this is not known now.
        """

    async def pins(self) -> list[PinTotals]:
        """Return the totals of every pin that has records, in the order of their names."""

    async def totals(self, pin: str) -> PinTotals:
        """Return the totals of one pin."""

    async def records(
        self, pin: str, *, address: str | None = None, after: Place | None = None, limit: int = PAGE
    ) -> list[Listed]:
        """Return up to `limit` records of a pin behind a place, in the order of address and key.

        `address`: only those with this address.
        """

    async def largest(self, pin: str, *, after: tuple[int, str] | None = None, limit: int = PAGE) -> list[Sized]:
        """Return up to `limit` records of a pin behind a size and key, the largest first, and by key from the last."""

    async def unused(self, digests: Iterable[str]) -> set[str]:
        """Return those of the digests that no record has."""

    async def body(self, digest: str) -> bytes | None:
        """Return a body that the index keeps, or None. Its bytes are not checked."""

    async def shared(self) -> dict[str, int]:
        """Return how many bytes of each pin's bodies another pin has too, each body counted once; pins with none miss.

        Reads all records.
        """

    async def unused_bodies(self) -> dict[str, int]:
        """Return the sizes, in bytes, of the bodies that the index keeps and no record has, by digest."""

    async def remove_bodies(self, digests: Sequence[str]) -> int:
        """Remove those of these bodies that no record has. Returns the number of bytes freed."""

    async def leaf_count(self) -> int:
        """Return how many leaves the Merkle log has (see `leaves`)."""

    async def leaves(self, start: int, limit: int = PAGE) -> list[Leaf]:
        """Return up to `limit` leaves of the Merkle log from number `start` on, in their order."""

    async def leaves_by_place(self, prefix: bytes, after: Leaf | None = None, limit: int = PAGE) -> list[Leaf]:
        """Return up to `limit` leaves whose places start with `prefix`, behind `after`, by place and number."""

    def lease(self, name: str) -> AbstractAsyncContextManager[bool]:
        """Return a block that holds the right to do something alone, or not: it is True unless another machine has it.

        It is lost when the machine dies, and no correctness rests on it. Processes of one machine use file locks.
        """

    async def problems(self) -> list[str]:
        """Read every entry and return a line of text for each problem with the entries or the index itself."""


class Stamp(NamedTuple):
    """Differs between two blobs with the same digest if one was put after the other was removed or replaced."""

    size: int
    version: tuple[int | str, ...]


class Blobs(Protocol):
    """Bodies, each under the sha256 of its bytes in hex. Every method raises StoreError."""

    def putting(self) -> AbstractAsyncContextManager[None]:
        """Return a block in which a blob is put and its record written: meanwhile `remove` does not take it away."""

    async def put(self, digest: str, file: Path) -> None:
        """Take in a complete file whose bytes have this digest. Durable on return; the file is gone by then."""

    def condition(self, digest: str, size: int) -> Condition:
        """Return what is known about a blob that should have `size` bytes, without reading it."""

    async def check(self, digest: str, size: int) -> bool:
        """Return whether a blob exists with the right bytes. Reads all of it if its condition is not known.

        One that is REMOTE is on this node afterwards, if there is room for it.
        """

    def read(self, digest: str, start: int, stop: int) -> AsyncIterator[bytes]:
        """Yield the bytes of a blob from `start` to `stop` (exclusive), in chunks.

        Those of one that is REMOTE cannot be verified.
        """

    def path(self, digest: str) -> Path:
        """Return the path of a blob's file. It can be opened for a while after its condition was SOUND."""

    async def stamps(self) -> dict[str, Stamp]:
        """Return the stamps, by digest, of all blobs but those whose record may still be about to be written."""

    async def stamps_of(self, digests: Iterable[str]) -> dict[str, Stamp]:
        """Like `stamps`, of those of the digests that have a blob."""

    async def remove(self, stamps: Sequence[tuple[str, Stamp]]) -> int:
        """Remove the blobs that still have these stamps. Returns the number of bytes freed."""


class RemoteBlobs(Blobs, Protocol):
    """Blobs that are kept elsewhere, and of which a node has some."""

    def recall(self, digest: str) -> AsyncIterator[bytes]:
        """Yield all bytes of a blob from where it is kept, in chunks. They are not verified. Raises StoreError."""

    async def keep(self, digest: str, file: Path) -> None:
        """Take in a complete file whose bytes were verified, so that this node has them. Never fails.

        The file is gone on return. It may not be kept if there is no room for it.
        """

    async def presigned(self, digest: str) -> str | None:
        """Return a URL from which anyone can read the blob for a while, or None if there is no such thing."""

    def note_damage(self, digest: str, size: int) -> None:
        """Note that a blob is missing or has other bytes: it is BROKEN for a while, or until it is put again."""

"""The store: the interface that every implementation provides.

A store has two parts. *Entries* are small values, each under a key; the first writer of a key wins and nothing is ever
overwritten. *Blobs* are files named by the sha256 of their bytes. A blob is written before the entry that names it, so
a process may crash at any time: a blob without an entry does not exist, and an entry's blob is always complete.

The module `keys` lists the keys.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Hashable, Sequence
from enum import Enum
from pathlib import Path
from typing import Protocol


class Condition(Enum):
    """What is known about a blob: verified (SOUND), not verified yet (UNREAD), or missing or damaged (BROKEN)."""

    SOUND = "sound"
    UNREAD = "unread"
    BROKEN = "broken"


class Store(Protocol):
    """Where frozen responses are kept.

    Every method raises StoreError: Damaged if the data is not what was written, StoreFull if the disk is full.
    """

    async def get(self, key: str) -> bytes | None:
        """Return the value of a key, or None if it has none."""

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the values of several keys, in the same order, with None for keys that have none."""

    def generation(self) -> Hashable:
        """Return a value that differs after any change of the entries that can change a response, by any process.

        If it is unchanged, a response that was made from the entries earlier would be the same now. So it need not
        change when `freeze` adds an entry: before that, no response to the same request could come from the store.
        """

    async def add(self, key: str, value: bytes) -> bytes:
        """Set the value of a key unless it has one. Returns the value it has now (the winner's), which is durable."""

    async def remove(self, key: str) -> bool:
        """Remove a key. Returns whether it existed."""

    async def keys(self, prefix: str) -> list[str]:
        """Return every key that starts with `prefix`."""

    def entries(self, prefix: str) -> AsyncIterator[tuple[str, bytes]]:
        """Yield every key that starts with `prefix`, with its value."""

    async def freeze(self, key: str, value: bytes, digest: str, file: Path) -> bytes:
        """Move a complete file into the store as the blob `digest`, then `add` the entry that names it.

        Both are durable on return. Returns the winner's value, like `add`.
        """

    def condition(self, digest: str, size: int) -> Condition:
        """Return what is known about a blob that should have `size` bytes, without reading it."""

    async def check(self, digest: str, size: int) -> bool:
        """Return whether a blob exists with the right bytes. Reads all of it if its condition is not known."""

    def read_blob(self, digest: str, start: int, stop: int) -> AsyncIterator[bytes]:
        """Yield the bytes of a blob from `start` to `stop` (exclusive), in chunks."""

    def blob_path(self, digest: str) -> Path:
        """Return the path of a blob's file."""

    async def problems(self) -> list[str]:
        """Read every entry and return a line of text for each problem with the entries or the index itself."""

    async def sweep(self, named: Callable[[bytes], str | None]) -> int:
        """Remove every blob that no entry names; safe while others freeze. Returns the number of bytes freed.

        `named` returns the digest that the value of an entry under `r/` names, or None.
        """

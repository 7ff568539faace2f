"""The store: what every implementation promises.

A store has two halves. *Entries* are small values under a key; the first writer of a key wins and nothing is ever
overwritten. *Blobs* are files named by the sha256 of their bytes. A blob is there before the entry that names it, so a
process may die at any instant: what has no entry does not exist, and what has one has all its bytes.

`keys` lists the keys.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Hashable, Sequence
from enum import Enum
from pathlib import Path
from typing import Protocol


class Condition(Enum):
    """What is known of a blob: its bytes are right; nobody has looked yet; they are missing or wrong."""

    SOUND = "sound"
    UNREAD = "unread"
    BROKEN = "broken"


class Store(Protocol):
    """Where frozen answers live.

    Every method raises StoreError: Damaged where what is kept is not what was written, StoreFull where no room is left.
    """

    async def get(self, key: str) -> bytes | None:
        """Return the value of a key, None where it has none."""

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the values of keys, in their order, None for those that have none."""

    def generation(self) -> Hashable:
        """Return what is another value after any change of the entries that can change an answer, by whatever process.

        What was answered from the entries while it was the same is what would be answered now. So it need not tell of
        what `freeze` adds: who asked for that before had no answer from the store.
        """

    async def add(self, key: str, value: bytes) -> bytes:
        """Give a key its value unless it has one; return the value it has now, durably: the winner's."""

    async def remove(self, key: str) -> bool:
        """Take a key away; return whether it was there."""

    async def keys(self, prefix: str) -> list[str]:
        """Return every key that starts with `prefix`."""

    def entries(self, prefix: str) -> AsyncIterator[tuple[str, bytes]]:
        """Yield every key that starts with `prefix`, with its value."""

    async def freeze(self, key: str, value: bytes, digest: str, file: Path) -> bytes:
        """Take a complete file in as the blob `digest`, moving it, then `add` the entry that names it.

        Both are durable on return; what returns is the winner's value, as with `add`.
        """

    def condition(self, digest: str, size: int) -> Condition:
        """Return what is known of a blob that should have that many bytes, without reading it."""

    async def check(self, digest: str, size: int) -> bool:
        """Whether a blob is there with its bytes; it is read whole where its condition is not known."""

    def read_blob(self, digest: str, start: int, stop: int) -> AsyncIterator[bytes]:
        """Yield the bytes `start` to `stop` (exclusive) of a blob in chunks."""

    def blob_path(self, digest: str) -> Path:
        """Return the file of a blob."""

    async def problems(self) -> list[str]:
        """Read every entry, and return a line for each thing that is wrong with the entries or what holds them."""

    async def sweep(self, named: Callable[[bytes], str | None]) -> int:
        """Remove every blob that no entry names, beside whoever freezes; return the bytes that this freed.

        `named` gives the digest that an entry under `r/` names, if any.
        """

"""The access keys as they are now, in the memory of one process."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from hmac import compare_digest
from typing import Final

import anyio

from httpcache.access_keys import digest
from httpcache.store.store import Store

from .key_log import Issued, KeyLog, issued

NAMED: Final = 8
"""Bytes at the beginning of a hash by which a key is looked up; the rest is compared in constant time."""


class CurrentKeys:
    """All keys that were ever added to a store."""

    def __init__(self, store: Store) -> None:
        self._log = KeyLog(store)
        self._store = store
        self._generation: Hashable = None  # of the store when the log was last read
        self._reading = anyio.Lock()
        self._keys: Mapping[bytes, Issued] = {}

    async def find(self, key: str) -> Issued | None:
        """Return what is known of a key, None if it was never added.

        What a command does to keys counts in every process as soon as it is in the store. Raises StoreError if they
        cannot be read, because nothing may be served then.
        """
        if self._store.generation() != self._generation:
            async with self._reading:
                generation = self._store.generation()
                if generation != self._generation:
                    self._keys = {each.key.digest[:NAMED]: each for each in issued(await self._log.all())}
                    self._generation = generation
        hashed = digest(key)
        found = self._keys.get(hashed[:NAMED])
        return found if found and compare_digest(found.key.digest, hashed) else None

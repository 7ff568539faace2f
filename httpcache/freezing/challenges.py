"""Which origins have asked for credentials, remembered in the store."""

from __future__ import annotations

from httpcache.lru import SizedLRU
from httpcache.store import keys
from httpcache.store.base import Store
from httpcache.target import origin

NOTED = 10_000  # origins


class StoredChallenges:
    """Remembers in the store which origins have asked for credentials: for all processes, and for good.

    `prefix` is the name of a pin without its date: what was asked for under one counts for its dates alone.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._noted: SizedLRU[str, bool] = SizedLRU(NOTED)  # those that need no write

    async def realm(self, url: str, prefix: str) -> str | None:
        """Return the realm that the origin of a URL has asked for, "" where it named none, None if it has not asked."""
        value = await self._store.get(self._key(url, prefix))
        return None if value is None else value.decode()

    async def note(self, url: str, prefix: str, realm: str) -> None:
        """Remember the origin of a URL."""
        key = self._key(url, prefix)
        if self._noted.get(key):
            return
        await self._store.add(key, realm.encode())
        self._noted.put(key, True)

    def _key(self, url: str, prefix: str) -> str:
        return keys.challenge(prefix, origin(url))

"""Records in the store which origins have challenged clients for credentials."""

from __future__ import annotations

from httpcache.lru import SizedLRU
from httpcache.store import keys
from httpcache.store.store import Store
from httpcache.target import origin

NOTED = 10_000  # origins


class StoredChallenges:
    """Records in the store which origins have sent a challenge, permanently and for all processes.

    `prefix` is the name of a pin without its date: a challenge under one pin applies to all its dates, not to others.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._noted: SizedLRU[str, bool] = SizedLRU(NOTED)  # origins whose challenge is stored already

    async def realm(self, url: str, prefix: str) -> str | None:
        """Return the realm of the origin of a URL, "" if it named none, or None if it has not sent a challenge."""
        value = await self._store.get(self._key(url, prefix))
        return None if value is None else value.decode()

    async def note(self, url: str, prefix: str, realm: str) -> None:
        """Record that the origin of a URL has sent a challenge."""
        key = self._key(url, prefix)
        if self._noted.get(key):
            return
        await self._store.add(key, realm.encode())
        self._noted.put(key, True)

    def _key(self, url: str, prefix: str) -> str:
        return keys.challenge(prefix, origin(url))

"""Keeps in memory the pages that were rendered for requests and used most recently."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from httpcache.lru import SizedLRU

LIMIT = 12 * 1024 * 1024  # bytes of pages in one cache


class Rendered(Protocol):
    """A rendered page, such as a `Body`."""

    @property
    def size(self) -> int:
        """The number of bytes held in memory."""


K = TypeVar("K")
P = TypeVar("P", bound=Rendered)


class PageCache(Generic[K, P]):
    """Rendered pages by keys that say all that they are made of."""

    def __init__(self) -> None:
        self._pages: SizedLRU[K, P] = SizedLRU(LIMIT)

    def get(self, key: K) -> P | None:
        """Return the page of a key, or None if it is not cached."""
        page = self._pages.get(key)
        if page is not None:
            self.put(key, page)  # its size grows with each content coding that is requested
        return page

    def put(self, key: K, page: P) -> None:
        """Store a page, and drop others until the rest fits."""
        self._pages.put(key, page, page.size)

"""Knows which file hosts support range requests: on others, METADATA of a wheel takes a download of the whole wheel.

Such METADATA is not advertised. An installer that waits for it receives nothing in the meantime and gives up if the
host is slow, whereas the wheel itself arrives byte by byte. A host is tested when a page first links wheels on it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias

import anyio

from httpcache.errors import MirrorError
from httpcache.lru import SizedLRU
from httpcache.store import keys
from httpcache.store.store import Store
from httpcache.target import origin
from httpcache.upstream.client import Headers, UpstreamResponse

from .wheel_metadata import NoRangesError, ranged

AskFor: TypeAlias = Callable[[str, Headers], AbstractAsyncContextManager[UpstreamResponse]]
"""Requests an address with additional headers."""

FORGOTTEN = 30 * 86_400.0  # seconds after which a host that ignored ranges is tested again
GOOD_FOR = 3600.0  # seconds for which a process relies on the last answer of a host
UNKNOWN_FOR = 60.0  # seconds until a host whose answer showed nothing is tested again
ASKED = 5.0  # seconds that a page waits for an answer
HOSTS = 4  # hosts that are tested for one page
NOTED = 1000  # hosts that a process remembers


class Ranges:
    """What is known of file hosts. Those that ignore ranges are in the store, for all processes."""

    def __init__(self, store: Store) -> None:
        self.learned = 0
        """Grows whenever this process learns of a host that ignores ranges."""
        self._store = store
        self._noted: SizedLRU[str, tuple[bool, float]] = SizedLRU(NOTED)
        self._seen: SizedLRU[str, float] = SizedLRU(NOTED)

    async def ignoring(self, urls: dict[str, str], ask: AskFor) -> frozenset[str]:
        """Return the origins that ignore ranges; `urls` maps each origin to the address of a file there.

        Unknown ones are tested by a request for one byte of the file, a few of them at once.
        """
        found = {host: await self._known(host) for host in urls}
        unknown = [host for host in urls if found[host] is None][:HOSTS]
        async with anyio.create_task_group() as group:
            for host in unknown:
                group.start_soon(self._find_out, urls[host], ask)
        return frozenset([host for host in urls if found[host] or self._is_noted(host)])

    async def known_to_ignore(self, hosts: Iterable[str]) -> frozenset[str]:
        """Return the origins that are known to ignore ranges, without a request to any. Raises StoreError."""
        return frozenset([host for host in hosts if await self._known(host)])

    def are_served_by(self, host: str) -> bool:
        """Whether this process has lately received a range from an origin."""
        return (self._seen.get(host) or 0.0) > time.monotonic()

    @asynccontextmanager
    async def watching(
        self, url: str, exchange: AbstractAsyncContextManager[UpstreamResponse]
    ) -> AsyncIterator[UpstreamResponse]:
        """Yield the answer to a range request for a file, and record whether the range was respected."""
        async with exchange as answer:
            await self._note(url, answer)
            yield answer

    async def _find_out(self, url: str, ask: AskFor) -> None:
        self._remember(origin(url), ignored=False, seconds=UNKNOWN_FOR)
        try:
            with anyio.move_on_after(ASKED):
                async with self.watching(url, ask(url, (("Range", "bytes=-1"),))):
                    pass  # end the exchange: if the whole file is coming, nothing more of it is read
        except MirrorError:
            pass  # a client that requests the file is told

    async def _note(self, url: str, answer: UpstreamResponse) -> None:
        host = origin(url)
        try:
            ranged(answer)
        except NoRangesError:
            if answer.status in (200, 206):
                await self._store.add(keys.host(host), str(time.time()).encode())
                self._learn(host)
        else:
            self._remember(host, ignored=False, seconds=GOOD_FOR)
            self._seen.put(host, time.monotonic() + GOOD_FOR)

    async def _known(self, host: str) -> bool | None:
        ignored, until = self._noted.get(host) or (False, 0.0)
        if until > time.monotonic():
            return ignored
        value = await self._store.get(keys.host(host))
        if value is None:
            return None
        if float(value) < time.time() - FORGOTTEN:
            await self._store.remove(keys.host(host))
            return None
        self._learn(host)
        return True

    def _learn(self, host: str) -> None:
        if not self._is_noted(host):
            self.learned += 1
        self._remember(host, ignored=True, seconds=GOOD_FOR)

    def _remember(self, host: str, *, ignored: bool, seconds: float) -> None:
        self._noted.put(host, (ignored, time.monotonic() + seconds))

    def _is_noted(self, host: str) -> bool:
        """Whether a host was last seen to ignore ranges, however long ago."""
        ignored, _ = self._noted.get(host) or (False, 0.0)
        return ignored

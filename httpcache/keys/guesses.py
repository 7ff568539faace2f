"""Bounds how many wrong access keys a client may send, so that nobody tries them out at the mirror's cost.

After MOST of them within a minute, no key counts that comes from the client's address until the minute is over, except
those that were right before, from the same address: builds behind one address go on while one of them has a wrong key.
Nothing that others do from elsewhere matters to a client. A process counts for itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network
from typing import Final

from httpcache.lru import SizedLRU

MOST: Final = 20
"""Wrong keys from one address within MINUTE."""
MINUTE: Final = 60.0
"""Seconds."""
ADDRESSES: Final = 10_000
"""Addresses of which wrong keys are counted: those that were last seen."""
KNOWN: Final = 10_000
"""Keys and addresses that were right together and are remembered: those that were last used."""


class Guesses:
    """What the clients of one process have sent. `clock` returns seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._wrong: SizedLRU[str, tuple[int, float]] = SizedLRU(ADDRESSES)
        self._right: SizedLRU[tuple[str, int], bool] = SizedLRU(KNOWN)

    def wait(self, client: str, number: int | None) -> float:
        """Return the seconds for which the key with this number, or a wrong one (None), does not count; 0 if it does.

        `client` is the address of the client.
        """
        place = _place(client)
        count, until = self._wrong.get(place) or (0, 0.0)
        left = until - self._clock() if count >= MOST else 0.0
        if left <= 0 or (number is not None and self._right.get((place, number))):
            return 0.0
        return left

    def wrong(self, client: str) -> bool:
        """Note a wrong key; return whether it was the last one that counts."""
        place, now = _place(client), self._clock()
        count, until = self._wrong.get(place) or (0, 0.0)
        if until <= now:
            count, until = 0, now + MINUTE
        self._wrong.put(place, (count + 1, until))
        return count + 1 == MOST

    def right(self, client: str, number: int) -> None:
        """Note that a client has the key with this number."""
        known = _place(client), number
        if not self._right.get(known):
            self._right.put(known, True)


@lru_cache(4096)
def _place(client: str) -> str:
    """Return what counts as one client: an IPv4 address, or the /64 network of an IPv6 one, which may have it all."""
    if ":" not in client:
        return client
    address = IPv6Address(client.partition("%")[0])
    return str(address.ipv4_mapped or IPv6Network((address, 64), strict=False))

"""How long a registry is left alone after it has asked for that, or has failed."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime

import anyio

LONGEST = 600.0  # seconds, even if the registry asks for more


class Rest:
    """A rest that a registry has asked for. It holds for its pages and its files alike."""

    def __init__(self) -> None:
        self._end = 0.0

    @property
    def left(self) -> float:
        """The seconds until it is over, 0 or less if it is."""
        return self._end - anyio.current_time()

    def extend(self, seconds: float) -> None:
        """Let the rest last at least so many seconds from now on, but no more than `LONGEST`."""
        self._end = max(self._end, anyio.current_time() + min(seconds, LONGEST))

    async def over(self) -> None:
        """Wait for the end of the rest, also if it is extended in the meantime."""
        if anyio.current_time() < self._end:
            await anyio.sleep_until(self._end)
            await self.over()


def seconds_in(retry_after: str) -> float:
    """Return the seconds that a `Retry-After` asks for (RFC 9110 section 10.2.3), 0 if it is not valid."""
    if retry_after.isdecimal() and len(retry_after) < 10:
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0

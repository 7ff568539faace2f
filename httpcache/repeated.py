"""Work that is done again and again while something else goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress


@asynccontextmanager
async def repeated(work: Callable[[], Awaitable[object]], every: float, last: float) -> AsyncIterator[None]:
    """Do `work` inside the block, `every` seconds apart, and once more at its end, which takes `last` seconds at most.

    `work` may be cancelled at any time.
    """
    going_on = asyncio.ensure_future(_always(work, every))
    try:
        yield
    finally:
        going_on.cancel()
        with suppress(asyncio.CancelledError):
            await going_on
        with suppress(TimeoutError):
            await asyncio.wait_for(work(), last)


async def _always(work: Callable[[], Awaitable[object]], every: float) -> None:
    while True:
        await asyncio.sleep(every)
        await work()

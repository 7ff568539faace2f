"""Runs work on pages: small work on the event loop, the rest in a thread, with a limit on pages parsed at once.

Parsing a page takes many times its size in memory. For most pages, switching to a thread takes longer than the work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar

PARSERS = 2
LIGHT = 32 * 1024  # bytes of a page that is parsed on the event loop, which takes about a millisecond
FEW = 400  # files of a history that is processed on the event loop, a step of which takes a millisecond

T = TypeVar("T")

_LIMITER: RunVar[anyio.CapacityLimiter] = RunVar("pages read at once")


async def off_loop(work: Callable[[], T], files: int) -> T:
    """Run `work` on a history of `files` files, in a thread if they are many, and return its result."""
    return work() if files <= FEW else await anyio.to_thread.run_sync(work)


async def in_parser_thread(work: Callable[[], T], size: int) -> T:
    """Run `work`, which parses a page of `size` bytes, in a parser thread if it is large, and return its result."""
    if size <= LIGHT:
        return work()
    try:
        limiter = _LIMITER.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(PARSERS)
        _LIMITER.set(limiter)
    return await anyio.to_thread.run_sync(work, limiter=limiter)

"""Runs what works on pages: at once what is light, else in a thread, where few at once read pages.

A page takes many times its size while it is read. To go to a thread and back takes longer than most pages do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar

PARSERS = 2
LIGHT = 32 * 1024  # bytes of a page that is read at once, which takes about a millisecond
FEW = 50  # files of a history that is worked on at once

T = TypeVar("T")

_LIMITER: RunVar[anyio.CapacityLimiter] = RunVar("pages read at once")


async def off_loop(work: Callable[[], T], files: int) -> T:
    """Return what some work on a history of so many files returns."""
    return work() if files <= FEW else await anyio.to_thread.run_sync(work)


async def in_parser_thread(work: Callable[[], T], size: int) -> T:
    """Return what reading a page of so many bytes returns."""
    if size <= LIGHT:
        return work()
    try:
        limiter = _LIMITER.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(PARSERS)
        _LIMITER.set(limiter)
    return await anyio.to_thread.run_sync(work, limiter=limiter)

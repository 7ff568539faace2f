"""Runs what reads pages, in few threads at once: a page takes many times its size while it is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar

PARSERS = 2

T = TypeVar("T")

_LIMITER: RunVar[anyio.CapacityLimiter] = RunVar("pages read at once")


async def in_parser(work: Callable[[], T]) -> T:
    """Return what some work on a page returns, done beside the event loop."""
    try:
        limiter = _LIMITER.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(PARSERS)
        _LIMITER.set(limiter)
    return await anyio.to_thread.run_sync(work, limiter=limiter)

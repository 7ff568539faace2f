"""Threads that are there before there is work.

An executor takes work first and starts a thread for it then. Where the system has none left, it raises and keeps the
work: it would be done later, by whatever thread there is, on files that are not the ones that were meant any more.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from .errors import StoreError


def prestarted_executor(count: int, name: str) -> ThreadPoolExecutor:
    """Return an executor that has all its threads and never starts one. Raises StoreError where they cannot be had."""
    executor = ThreadPoolExecutor(count, name)
    all_there = threading.Event()
    try:
        for _ in range(count):
            executor.submit(all_there.wait)  # so none is free yet, and the next one takes a thread of its own
    except RuntimeError as error:
        raise StoreError(f"the system lets this process have no more threads ({error}): raise its limit") from error
    finally:
        all_there.set()
    return executor

"""Executors whose threads are started before there is work, and that can be shut down thread by thread.

ThreadPoolExecutor queues the work first and then starts a thread for it. If the system has no threads left, it raises
but leaves the work queued: another thread would do it later, on file descriptors that may have been reused by then.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from .errors import StoreError


def prestarted_executor(count: int, name: str) -> ThreadPoolExecutor:
    """Return an executor whose threads have all been started. Raises StoreError if the system has too few threads."""
    executor = ThreadPoolExecutor(count, name)
    all_there = threading.Event()
    try:
        for _ in range(count):
            executor.submit(all_there.wait)  # keeps it busy, so that the next task starts another
    except RuntimeError as error:
        raise StoreError(f"the mirror cannot start more threads ({error}): raise the limit (ulimit -u)") from error
    finally:
        all_there.set()
    return executor


def shut_down(executor: ThreadPoolExecutor, count: int, last: Callable[[], object]) -> None:
    """Wait for all pending work, and then call `last` in each of the `count` threads of an executor before they end."""
    all_there = threading.Barrier(count)

    def end() -> None:
        all_there.wait()  # so that no thread does this twice
        last()

    try:
        ends = [executor.submit(end) for _ in range(count)]
    except RuntimeError:  # the interpreter is exiting, and has shut down all executors before
        all_there.abort()
        return
    executor.shutdown()
    for each in ends:
        each.result()

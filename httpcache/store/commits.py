"""Group commit: changes of the index that come together share one transaction, and one flush to the disk.

One thread makes all changes of this process. While it commits, further changes queue up, and all of them are its next
group; so the more there are at once, the less each of them costs. Each change has a result of its own. If the
transaction fails, none of its changes is made, and all of them fail.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from copy import copy
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

import diskcache

from httpcache.executors import prestarted_executor, shut_down

from .generation import Generation

T = TypeVar("T")


class Outcome(NamedTuple, Generic[T]):
    """What became of a change: its result, and whether it has changed anything that can change a response."""

    result: T
    counts: bool = False


class _Change(NamedTuple):
    make: Callable[[], Outcome[Any]]
    until: float
    future: Future[Any]


class Commits:
    """Makes changes of an index in groups, in the order in which they came."""

    def __init__(
        self,
        index: diskcache.Cache,
        generation: Generation,
        run: Callable[[Callable[[], list[Outcome[Any] | Exception]]], list[Outcome[Any] | Exception]],
    ) -> None:
        """`run` calls the work of a group in the thread that makes changes, and translates its errors."""
        self._index = index
        self._generation = generation
        self._run = run
        self._thread = prestarted_executor(1, "store-commit")
        self._lock = threading.Lock()
        self._waiting: list[_Change] = []
        self._is_working = False

    def submit(self, make: Callable[[], Outcome[T]], until: float) -> Future[T]:
        """Return a future of the result of a change, which is durable by then.

        `make` is called in the transaction; if it raises anything but an error of SQLite, only this change fails, and
        must have changed nothing. `until` is when to give up waiting for locks (`time.monotonic`).
        """
        future: Future[T] = Future()
        with self._lock:
            if not self._is_working:
                self._thread.submit(self._work)
                self._is_working = True
            self._waiting.append(_Change(make, until, future))
        return future

    def _work(self) -> None:
        while waiting := self._taken():
            group = [change for change in waiting if change.future.set_running_or_notify_cancel()]
            for change, outcome in zip(group, self._outcomes(group), strict=True):
                if isinstance(outcome, Exception):
                    change.future.set_exception(outcome)
                else:
                    change.future.set_result(outcome.result)

    def _taken(self) -> list[_Change]:
        with self._lock:
            waiting, self._waiting = self._waiting, []
            self._is_working = bool(waiting)
        return waiting

    def _outcomes(self, group: Sequence[_Change]) -> list[Outcome[Any] | Exception]:
        try:
            return self._run(partial(self._together, group)) if group else []
        except Exception as error:  # noqa: BLE001
            return [_like(error) for _ in group]

    def _together(self, group: Sequence[_Change]) -> list[Outcome[Any] | Exception]:
        until = min(change.until for change in group)
        self._index.reset("sqlite_busy_timeout", int(1000 * max(0.0, until - time.monotonic())), update=False)
        with ExitStack() as count, self._index.transact():  # the count becomes even after the commit
            outcomes = [_made(change) for change in group]
            if any(isinstance(outcome, Outcome) and outcome.counts for outcome in outcomes):
                count.enter_context(self._generation.change(until))
        return outcomes

    def close(self) -> None:
        """Stop, and close the thread's connection, after all changes have been made."""
        shut_down(self._thread, 1, self._index.close)


def _made(change: _Change) -> Outcome[Any] | Exception:
    try:
        return change.make()
    except sqlite3.Error:  # the transaction cannot go on
        raise
    except Exception as error:  # noqa: BLE001
        return error


def _like(error: Exception) -> Exception:
    """Return a copy of an error: who waits for a change writes into its error (see MirrorError)."""
    found = copy(error)
    found.__cause__ = error
    return found

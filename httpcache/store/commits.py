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
from typing import Any, Generic, NamedTuple, TypeVar

from httpcache.executors import prestarted_executor, shut_down

from .errors import mapped
from .generation import Generation
from .sqlite_schema import transaction

T = TypeVar("T")


class Outcome(NamedTuple, Generic[T]):
    """What became of a change: its result, and whether it has changed anything that can change a response."""

    result: T
    counts: bool = False


class _Change(NamedTuple):
    make: Callable[[sqlite3.Connection], Outcome[Any]]
    until: float
    future: Future[Any]


class Commits:
    """Makes changes of an index in groups, in the order in which they came."""

    def __init__(
        self, connect: Callable[[], sqlite3.Connection], generation: Generation, check: Callable[[], None]
    ) -> None:
        """`connect` opens a connection for changes. `check` raises StoreError if the database cannot be changed."""
        self._connect = connect
        self._generation = generation
        self._check = check
        self._connection: sqlite3.Connection | None = None
        self._thread = prestarted_executor(1, "store-commit")
        self._lock = threading.Lock()
        self._waiting: list[_Change] = []
        self._is_working = False

    def submit(self, make: Callable[[sqlite3.Connection], Outcome[T]], until: float) -> Future[T]:
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
            return self._checked(group) if group else []
        except Exception as error:  # noqa: BLE001
            return [_like(error) for _ in group]

    def _checked(self, group: Sequence[_Change]) -> list[Outcome[Any] | Exception]:
        """Make the changes of a group. Raises StoreError."""
        with mapped():
            self._check()
            try:
                outcomes = self._together(group)
            except sqlite3.Error:
                self._disconnect()  # it may be read-only from then on
                self._check()  # its error says more than SQLite's
                raise
            self._check()
        return outcomes

    def _together(self, group: Sequence[_Change]) -> list[Outcome[Any] | Exception]:
        if self._connection is None:
            self._connection = self._connect()
        until = min(change.until for change in group)
        self._connection.execute(f"PRAGMA busy_timeout = {int(1000 * max(0.0, until - time.monotonic()))}")
        with ExitStack() as count, transaction(self._connection):  # the count becomes even after the commit
            outcomes = [_made(change, self._connection) for change in group]
            if any(isinstance(outcome, Outcome) and outcome.counts for outcome in outcomes):
                count.enter_context(self._generation.change(until))
        return outcomes

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def close(self) -> None:
        """Stop, and close the connection, after all changes have been made."""
        shut_down(self._thread, 1, self._disconnect)


def _made(change: _Change, connection: sqlite3.Connection) -> Outcome[Any] | Exception:
    try:
        return change.make(connection)
    except sqlite3.Error:  # the transaction cannot go on
        raise
    except Exception as error:  # noqa: BLE001
        return error


def _like(error: Exception) -> Exception:
    """Return a copy of an error: who waits for a change writes into its error (see MirrorError)."""
    found = copy(error)
    found.__cause__ = error
    return found

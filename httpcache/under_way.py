"""How far a capture is: its process notes it in a file of the data folder, and the pages of the server show it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Protocol

import msgspec

FILE = "capture.progress"
EVERY = 1.0  # seconds between two notes


class Work(msgspec.Struct):
    """A piece of work: how many steps it has, how many are done, and when it began (seconds since the epoch)."""

    title: str
    total: int
    began: float
    done: int = 0

    def left(self, now: float) -> float | None:
        """Return about how many seconds it still takes at the rate so far, None if that is not known."""
        return (now - self.began) / self.done * (self.total - self.done) if self.done else None


class _Notes(msgspec.Struct):
    pid: int
    works: list[Work]


class Progress(Protocol):
    """See `httpcache.adapter.Progress`."""

    def over(self, title: str, total: int) -> AbstractContextManager[Callable[[], None]]:
        """Yield a function to call after each of `total` steps."""


class Noted:
    """A progress that is shown by another one, and noted in a folder. Only one process at a time may do that."""

    def __init__(self, shown: Progress, folder: Path) -> None:
        self._shown = shown
        self._file = folder / FILE
        self._works: list[Work] = []
        self._note()

    @contextmanager
    def over(self, title: str, total: int) -> Iterator[Callable[[], None]]:
        """See `httpcache.adapter.Progress`."""
        work, noted = Work(title, total, time.time()), 0.0
        self._works.append(work)
        with self._shown.over(title, total) as advance:

            def step() -> None:
                nonlocal noted
                advance()
                work.done += 1
                if time.monotonic() >= noted + EVERY:
                    noted = time.monotonic()
                    self._note()

            self._note()
            yield step
        self._note()

    def _note(self) -> None:
        new = self._file.with_suffix(".new")
        with suppress(OSError):  # a full disk: nothing depends on it
            new.write_bytes(msgspec.json.encode(_Notes(os.getpid(), self._works)))
            os.replace(new, self._file)

    def close(self) -> None:
        """Remove the notes."""
        with suppress(OSError):
            self._file.unlink(missing_ok=True)


def works(folder: Path) -> list[Work] | None:
    """Return the pieces of work of the capture that runs on this machine, the last one under way; None without one."""
    try:
        notes = msgspec.json.decode((folder / FILE).read_bytes(), type=_Notes)
        if notes.pid <= 0:
            return None
        os.kill(notes.pid, 0)
    except PermissionError:  # the process is there, and another user's
        return notes.works
    except (OSError, ValueError):
        return None
    return notes.works

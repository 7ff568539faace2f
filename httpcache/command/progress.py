"""Shows the progress of long work: a bar on a terminal, otherwise lines in the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import (
    Progress as Rich,
)
from rich.text import Text

from httpcache.units import span

log = logging.getLogger("httpcache")

LINE_SECONDS = 15.0
"""Seconds between two lines in the log."""


class Bar:
    """A progress bar with rate and remaining time, for a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def over(self, title: str, total: int) -> Iterator[Callable[[], None]]:
        """See `httpcache.adapter.Progress`."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
        with Rich(*columns, console=self._console) as bar:
            task = bar.add_task(title, total=total)
            yield lambda: bar.advance(task)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Return the steps per second as text; called by rich."""
        return Text(f"{task.finished_speed or task.speed or 0:,.0f}/s")


class Lines:
    """A line in the log every LINE_SECONDS, if there is no terminal."""

    @contextmanager
    def over(self, title: str, total: int) -> Iterator[Callable[[], None]]:
        """See `httpcache.adapter.Progress`."""
        started = written = time.monotonic()
        done = 0

        def advance() -> None:
            nonlocal done, written
            done += 1
            now = time.monotonic()
            if now - written >= LINE_SECONDS:
                written = now
                log.info("%s", line(title, done, total, now - started))

        yield advance


def line(title: str, done: int, total: int, seconds: float) -> str:
    """Return a line with the progress of work that began `seconds` ago, its rate, and the remaining time."""
    rate = done / seconds
    return (
        f"{title}: {done:,} of {total:,} ({done / total:.1%}), {rate:,.0f} a second, {span((total - done) / rate)} left"
    )

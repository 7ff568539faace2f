"""First sight of a dated page whose history is known: CPU seconds of the mirror's tree for one answer.

The history is observed by asking for today. Then each date is asked for once: *warm* in that same process, which has
the history and perhaps today's page in memory, and *cold* in a process that was started on the same folder for this
date alone, and has answered nothing but the same date's page of a small project (so that what a process does at its
first request of any kind is not counted). The CPU is counted until the tree has come to rest behind the answer. The
dates lie in the later half of the uploads, where most of the files are on the page. That the upstream was not asked is
checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from typing import Final

from . import answers
from .nginx import Nginx
from .pages import FIRST, JSON, LAST
from .peers import Place, Server, mirror
from .process import Sampler, Unavailable

DATES: Final = tuple(
    f"{FIRST + (LAST - FIRST) * share / 100 + timedelta(days=day):%Y-%m-%d}"
    for day, share in enumerate((55, 65, 75, 85, 95))
)
_OTHER: Final = "graph-000"


def first_sight(
    place: Place, upstream: Nginx, projects: list[str], sampler: Sampler, dates: int
) -> Iterator[tuple[str, str, list[float]]]:
    """Yield a project, "warm" or "cold", and the seconds of CPU for each date."""

    def started(stack: ExitStack) -> Server:
        server = mirror(replace(place, stack=stack))
        sampler.watch("mirror (first sight)", server.child)
        return server

    with ExitStack() as stack:
        server = started(stack)
        for project in (*projects, _OTHER):
            answers.get(f"{server.indexes['mirror-dated']}{project}/", JSON).raise_for_status()
        asked = len(upstream.requests)
        for project in projects:
            yield project, "warm", [_cpu(server, project, date) for date in DATES[:dates]]
    for project in projects:
        yield project, "cold", [_cold(started, project, date) for date in DATES[:dates]]
    if len(upstream.requests) != asked:
        raise Unavailable("the upstream was asked for a page whose history is known")


def _cold(started: Callable[[ExitStack], Server], project: str, date: str) -> float:
    with ExitStack() as stack:
        return _cpu(started(stack), project, date)


def _cpu(server: Server, project: str, date: str) -> float:
    answers.get(f"{server.url}/{date}/{_OTHER}/", JSON).raise_for_status()
    before = server.child.cpu_at_rest()
    answers.get(f"{server.url}/{date}/{project}/", JSON).raise_for_status()
    return server.child.cpu_at_rest() - before

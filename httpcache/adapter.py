"""What a package that adds an ecosystem to the mirror implements; found through the entry points `httpcache.adapters`.

[project.entry-points."httpcache.adapters"]
npm = "npm_adapter:adapter"
pypi = "pypi_adapter:adapter"
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import entry_points
from typing import Any, Protocol

from starlette.types import ASGIApp

from httpcache.freezing.flight import FlightReader
from httpcache.freezing.mirror import Mirror
from httpcache.store.base import Store
from httpcache.store.record import Record

from .request import Request
from .settings import Settings


@dataclass(frozen=True)
class Option:
    """An option that an adapter adds to `httpcache serve`: `--pypi-upstream URL` and `HTTPCACHE_PYPI_UPSTREAM`."""

    name: str
    metavar: str
    help: str


@dataclass(frozen=True)
class Argument:
    """What a command takes: `project` is an operand, `--reason` an option. Without a metavar an option is a flag."""

    name: str
    help: str
    metavar: str = ""
    required: bool = False


@dataclass(frozen=True)
class Command:
    """A command that an adapter adds: `httpcache NAME ...`; beside a running server, unless it has to be `alone`.

    `run` is given the store and the arguments by their names (`reason` for `--reason`; None for an option that was not
    given, False for a flag), and returns the lines to print. It raises MirrorError.
    """

    name: str
    help: str
    arguments: Sequence[Argument]
    run: Callable[[Store, Mapping[str, Any]], Awaitable[Sequence[str]]]
    alone: bool = False


class Progress(Protocol):
    """Told of pieces of work, and of each step in them."""

    def over(self, title: str, total: int) -> AbstractContextManager[Callable[[], None]]:
        """Give a function to call after each of `total` steps."""


class Bound(Protocol):
    """An adapter at work on one mirror."""

    async def answer(self, request: Request) -> ASGIApp | None:
        """Return the response to a request, None where it is not this adapter's. Raises MirrorError."""

    async def shown(self, request: Request, outcome: Record | FlightReader, status: str) -> ASGIApp | None:
        """Return what is sent in the place of what an upstream answered, None where that is to be sent.

        `status` is the `Cache-Status` of the answer.

        Asked of every answer to which no adapter could tell from the request alone that it is its own, so that no link
        leaves the pin. Raises MirrorError.
        """

    async def capture(
        self, progress: Progress, due: Callable[[float | None], bool], tell: Callable[[str], None]
    ) -> None:
        """Make a pass over each upstream that is followed, and is due; tell of each that is completed in a line.

        `due` decides by the instant at which the last complete pass began (seconds since the epoch), None for never.
        Raises MirrorError where a pass could not be completed, after all of them have been tried.
        """


class Adapter(Protocol):
    """An ecosystem: its options and commands, its lines for people, and its way to answer requests."""

    options: Sequence[Option]
    commands: Sequence[Command]

    def check(self, settings: Settings) -> None:
        """Raise MirrorError where an option makes no sense: before the server starts."""

    def bind(self, mirror: Mirror) -> Bound:
        """Return the adapter at work on a mirror."""

    def usage(self, address: str, date: str) -> Sequence[tuple[str, str]]:
        """Return lines to copy, each with what it is for; `address` is the mirror's, `date` an example's date."""


def adapters() -> Iterator[Adapter]:
    """Load every adapter that is installed, once each, also if two installations name it."""
    for entry in sorted(set(entry_points(group="httpcache.adapters"))):
        yield entry.load()


def usage(address: str, adapters: Sequence[Adapter], date: str) -> list[tuple[str, str]]:
    """Return lines to copy, each with what it is for: the adapters' and the generic mirror's."""
    lines = [line for adapter in adapters for line in adapter.usage(address, date)]
    lines.append(("curl", f"curl -fLO {address}/mypin-{date}/https://example.com/file.tar.gz"))
    return lines


def today() -> str:
    """Return today's date in UTC as YYYY-MM-DD."""
    return datetime.now(UTC).date().isoformat()

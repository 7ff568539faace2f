"""The interface of a package that adds an ecosystem; found through the entry point group `httpcache.adapters`.

[project.entry-points."httpcache.adapters"]
npm = "npm_adapter:adapter"
pypi = "pypi_adapter:adapter"
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:  # what lists something imports this module, and nothing that a server needs
    from starlette.types import ASGIApp

    from httpcache.audit.findings import Finding
    from httpcache.freezing.flight import FlightReader
    from httpcache.freezing.mirror import Mirror
    from httpcache.store.builds import File
    from httpcache.store.record import Record
    from httpcache.store.store import Store

    from .credentials import Credentials
    from .metrics import Sample
    from .page import Page
    from .request import Request
    from .settings import Setting, Settings
    from .settings_file import SettingsFile
    from .target import Target


@dataclass(frozen=True)
class Argument:
    """An argument of a command: `project` is positional, `--reason` an option. One without a metavar is a flag.

    `short` is another name of an option, `-r`. A positional one can take `many` values: all that are left.
    """

    name: str
    help: str
    metavar: str = ""
    required: bool = False
    short: str = ""
    many: bool = False


class Row(NamedTuple):
    """A line that a command prints, and the values that `--json` prints instead.

    The same keys are there in every row of a command. Sizes are in bytes, instants in UTC (RFC 3339). `failed`: it is
    about something that could not be done, so the exit code is 1.
    """

    text: str
    values: Mapping[str, Any] = {}
    failed: bool = False


@dataclass(frozen=True)
class Command:
    """A command that an adapter adds: `httpcache NAME ...`. Unless it has to run `alone`, it may run beside a server.

    `run` receives the store and the arguments by name (`reason` for `--reason`; None for an option that was not given,
    False for a flag) and returns what to print. Raises MirrorError. `lists`: its rows have values, and it has `--json`.
    """

    name: str
    help: str
    arguments: Sequence[Argument]
    run: Callable[[Store, Mapping[str, Any]], Awaitable[Sequence[Row]]]
    alone: bool = False
    lists: bool = False


@dataclass(frozen=True)
class Tool:
    """A command that an adapter adds, and that works through a running mirror, as a client.

    `run` receives the mirror and the arguments by name, as that of a Command does, and returns the exit code. Raises
    MirrorError.
    """

    name: str
    help: str
    arguments: Sequence[Argument]
    run: Callable[[Client, Mapping[str, Any]], int]


@dataclass(frozen=True)
class Recipe:
    """Lines to copy for a client of the mirror, and a note on where they go or what they do."""

    client: str
    note: str
    text: str


class Progress(Protocol):
    """Reports the progress of pieces of work."""

    def over(self, title: str, total: int) -> AbstractContextManager[Callable[[], None]]:
        """Yield a function to call after each of `total` steps."""


class Listing(NamedTuple):
    """An index page that lists a file: its address on this mirror, and since and until when it does.

    Instants are in seconds since the epoch; `until` is None if it still does. `is_private`: the page is a private copy.
    """

    page: str
    since: float
    until: float | None
    is_private: bool = False


class Story(NamedTuple):
    """Where a frozen file is listed, and who withholds it and why, None if nobody does."""

    listed: Sequence[Listing]
    withheld: str | None


class Bound(Protocol):
    """An adapter that is bound to a mirror.

    `pages` are its pages for people; their templates are in the folder `templates` of its room `pages`. `indexes` are
    the names below which there are dated and live indexes: `internal` for `/internal/2024-01-02/`.
    """

    pages: Sequence[Page]
    indexes: Sequence[str]

    async def answer(self, request: Request) -> ASGIApp | None:
        """Return the response to a request, or None if the request is not for this adapter. Raises MirrorError."""

    async def shown(self, request: Request, outcome: Record | FlightReader, status: str) -> ASGIApp | None:
        """Return what to send instead of an upstream's response, or None to send that response unchanged.

        `status` is the `Cache-Status` of the response.

        Called for every response that no adapter could claim by its request alone, so that no link leaves the pin.
        Raises MirrorError.
        """

    def kind(self, path: str) -> str | None:
        """Return what a raw path below the root path is for, as the metrics tell it, None if it is another's."""

    async def story(self, target: Target, digest: str) -> Story | None:
        """Return where a frozen file is listed, None if it is none that this ecosystem lists. Raises StoreError.

        `digest` is the sha256 of its body, "" if it has none.
        """

    async def log_names(self, *, sees_all: bool) -> Sequence[str]:
        """Return the names of the logs whose entries are published. `sees_all`: to who has logged in to the pages.

        Raises StoreError.
        """

    def shows_log(self, name: str, *, sees_all: bool) -> bool:
        """Whether the entries of a log of this adapter are published; `sees_all`: to who has logged in to the pages."""

    async def measures(self) -> Sequence[Sample]:
        """Return gauges of what the adapter follows. Raises MirrorError."""

    async def capture(
        self, progress: Progress, due: Callable[[float | None], bool], report: Callable[[str], None]
    ) -> None:
        """Make a pass over each followed upstream that is due, and report each completed pass in one line.

        `due` receives the time at which the last complete pass began (seconds since the epoch), or None if there was
        none. Raises MirrorError if a pass could not be completed, after all of them have been tried.
        """


class Fetched(NamedTuple):
    """A complete answer of a mirror: the URL that it came from, its media type ("" if there is none), and the body."""

    url: str
    media_type: str
    body: bytes


class Client(Protocol):
    """A client of a running mirror; threads may share it."""

    url: str
    """The mirror's address, without a slash at its end, and without a login; with an access key, if one is needed."""
    environment: Mapping[str, str]
    """The variables of this process, for programs that it starts."""

    def read(self, url: str, accept: str) -> Fetched:
        """Return what a URL of the mirror answers to a GET with this `Accept`. Raises NotFound, MirrorError."""


class Retold(Protocol):
    """A page as a mirror serves it, and the name of the `log` that it has to follow from."""

    log: str

    def findings(self, values: Sequence[bytes], known: int, since: float | None) -> Iterator[Finding]:
        """Yield where the page does not follow from the values of the log.

        The first `known` of them were in the Merkle log at a checkpoint, which was signed at `since` (seconds since the
        epoch); None if there is none.
        """


@dataclass(frozen=True)
class Build:
    """A build to come, for which a mirror is to be warmed.

    `index` is the URL of the index or pin that the build is given, without a slash at its end. `file` is its lock or
    requirements file; or instead of it, `projects` are the names of what it will want the newest versions of. `pythons`
    are versions such as 3.12, and `platforms` names, as they were given. `only_pinned`: what the file pins by hashes is
    wanted and nothing else; what it leaves open is an error.
    """

    index: str
    file: Path | None = None
    projects: tuple[str, ...] = ()
    pythons: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    only_pinned: bool = False


class Wish(NamedTuple):
    """A URL that a build will ask the mirror for, and what to call it."""

    url: str
    name: str


class Unmet(NamedTuple):
    """Something that a build will need and the mirror cannot have, and why."""

    name: str
    reason: str


class Advisory(NamedTuple):
    """A known advisory about a package: its id in OSV, like GHSA-... or PYSEC-..., and a line that says what it is."""

    id: str
    summary: str


class Described(NamedTuple):
    """What is known of a frozen file of a package.

    `type` and `namespace` are those of its package URL (purl): pypi, npm; "" or "@acme". `version` is None if it is not
    known. `licences` are as the package declares them: an SPDX expression, or names. `is_metadata`: it is no file of
    the package itself, but tells of one.
    """

    type: str
    name: str
    version: str | None
    namespace: str = ""
    licences: tuple[str, ...] = ()
    advisories: tuple[Advisory, ...] = ()
    is_metadata: bool = False


class Frozen(NamedTuple):
    """Records and absences: all under a pin, or of some of its `urls` as records show them."""

    pin: str
    urls: tuple[str, ...] | None = None


class Kept(NamedTuple):
    """A log of the store, by its name.

    `values`: those to be taken if not all are; then it is a set, to which values can be added in any order. `made`
    returns when a value was made, in seconds since the epoch, None if its values do not tell.
    """

    name: str
    values: Sequence[bytes] | None = None
    is_set: bool = False
    made: Callable[[bytes], float] | None = None


Part = Frozen | Kept


class Followed(NamedTuple):
    """A registry that an adapter follows: its name, its URL, and the operator's credentials for it."""

    name: str
    url: str
    credentials: Credentials


class Adapter(Protocol):
    """An ecosystem: its settings and commands, its usage lines, and how it answers requests.

    `tables` are the names of the tables of the settings file that the adapter reads. Every command loads every adapter:
    what only a server needs is imported by `bind`.
    """

    settings: Sequence[Setting[Any]]
    tables: Sequence[str]
    commands: Sequence[Command]
    tools: Sequence[Tool]

    def check(self, settings: Settings) -> None:
        """Check the settings and tables before the server starts. Raises MirrorError if one is not valid."""

    def bind(self, mirror: Mirror) -> Bound:
        """Bind the adapter to a mirror."""

    def followed(self, settings: Settings) -> Sequence[Followed]:
        """Return the registries that it follows. Raises MirrorError."""

    async def last_capture(self, store: Store, name: str) -> tuple[float, int] | None:
        """Return when the last capture of a registry was completed, and how many projects failed in it.

        The time is in seconds since the epoch. None if there was none. Raises StoreError.
        """

    def plan(self, build: Build, read: Callable[[str, str], Fetched]) -> Iterable[Wish | Unmet] | None:
        """Yield what a build will ask for, or return None if its file is not one of this ecosystem.

        `read` returns what a URL of the mirror answers to a GET with this `Accept`; threads may call it. Raises
        MirrorError.
        """

    def lock(self, build: Build) -> str | None:
        """Return the text of a lock file of what a build will ask for, which its clients install from.

        None if the file of the build is not one of this ecosystem, or it has no such lock files. Raises MirrorError.
        """

    def parts(self, store: Store, file: SettingsFile, name: str, date: str, *, settle: bool) -> AsyncIterator[Part]:
        """Yield what belongs to a pin or an index besides what is frozen under a pin of that name, for an export.

        `date`: an index as of a date or instant, with what is on its pages then; "" for all of it, or a pin. A log
        is yielded before those that it speaks of, because they can grow meanwhile. With `settle`, what is known of
        the logs' subjects is written to the logs first. Raises MirrorError.
        """

    def log_names(self, store: Store, file: SettingsFile) -> AsyncIterator[str]:
        """Yield the names of logs that it has in a store, so that an audit can name them. Raises StoreError."""

    async def story(self, store: Store, file: SettingsFile, target: Target, digest: str) -> Story | None:
        """Like that of a bound adapter, with the rules of a settings file. Raises MirrorError."""

    def logs_of(self, project: str) -> Sequence[str]:
        """Return the names of the logs of a project, which are published; it is written as for `retold`."""

    def retold(self, client: Client, project: str, date: str) -> Retold | None:
        """Return a dated page as a mirror serves it, to compare it with what its log says; None if there are none.

        `project` can have the name of a registry and a slash before it. Raises MirrorError.
        """

    def told_apart(self, log: str, one: Sequence[bytes], other: Sequence[bytes]) -> str | None:
        """Return in what two mirrors differ, whose logs of this name have these values.

        "" if in nothing that they serve, None if the log is none of this adapter's.
        """

    async def describe(self, store: Store, settings: Settings, files: Sequence[File]) -> Sequence[Described | None]:
        """Return what is known of frozen files, None for each that is of another ecosystem, or of none.

        Raises MirrorError.
        """

    def usage(self, address: str, date: str) -> Sequence[tuple[str, str]]:
        """Return (what it is for, line to copy) pairs. `address` is the mirror's address, `date` an example date."""

    def recipes(self, address: str, date: str) -> Sequence[Recipe]:
        """Return how each of its clients uses the mirror, for the start page. The arguments are those of `usage`."""


def adapters() -> Iterator[Adapter]:
    """Load every installed adapter, each one once even if two installations register it."""
    for entry in sorted(set(entry_points(group="httpcache.adapters"))):
        yield entry.load()


def usage(address: str, adapters: Sequence[Adapter], date: str) -> list[tuple[str, str]]:
    """Return (what it is for, line to copy) pairs: those of the adapters and that of the generic mirror."""
    lines = [line for adapter in adapters for line in adapter.usage(address, date)]
    lines.append(("curl", f"curl -fLO {address}/mypin-{date}/https://example.com/file.tar.gz"))
    return lines


def today() -> str:
    """Return today's date in UTC as YYYY-MM-DD."""
    return datetime.now(UTC).date().isoformat()

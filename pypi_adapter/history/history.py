"""What an index showed of a project and when, and from that what it held at any instant. Pure: no store, no clock.

A project's log is a row of `Entry`, each what one observation changed. The rules of `History.as_of`:

- A file is born just after its upload time: what was uploaded at the very instant is not there yet, as for pip's
  `--uploaded-prior-to` and uv's `--exclude-newer`. But it is born at the observation that first showed it, if an
  earlier observation was made at or after that time and did not have it, or if the index gives no time.
- It is gone from the observation that first missed it until the one that had it again. If that observation
  showed other content under the same name, it is gone from when that was born.
- Everything else is as of the last observation at or before the instant; if there is none, as of the first.

From these follows that no later observation changes the answer for an instant that can be answered now: a file
that shows up later is either born later, or an earlier observation missed it and so it is born with its showing.

All instants are microseconds since 1970-01-01T00:00:00Z.
"""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from typing import NamedTuple, TypeAlias

import msgspec

from pypi_adapter.instants import read_instant
from pypi_adapter.simple.model import QUARANTINED, File, Identity, Page, ProjectStatus, identity
from pypi_adapter.simple.versions import by_version, versions_of

from .unread import completed

DAY = 86_400_000_000
"""Microseconds of a day."""

MANY, NEARLY_ALL = 10, 0.9
"""Of how many files, and which part of them missing at once is a loss that is looked at again."""


FOREVER = 2**63 - 1
"""An instant after all others: the end of what has not ended."""

_FIELDS = File.__struct_fields__


class StaleObservation(ValueError):
    """The observation shows less than is known already: it is too old, or empty for no reason."""


class Doubtful(StaleObservation):
    """The observation shows a loss that nothing speaks for: it counts if it is still so some time later."""


class NotObserved(LookupError):
    """There is no observation at or after the instant, so what the index held then can still turn out otherwise."""


class Observation(msgspec.Struct, frozen=True):
    """A project's page at an instant; None where the index said that there is no such project."""

    instant: int
    page: Page | None
    etag: str | None = None


class Serials(NamedTuple):
    """What is known of a registry's serials: those seen before an instant do not count, for it has moved since.

    `proved`: one was seen to move with a change. Until then they say nothing: some registries send one constant.
    """

    since: int = -1
    proved: bool = False


UNPROVED = Serials()


class Project(msgspec.Struct, frozen=True, array_like=True):
    """What a page says of the project, apart from its files."""

    name: str
    status: ProjectStatus | None
    tracks: tuple[str, ...]
    alternate_locations: tuple[str, ...]


ProjectState: TypeAlias = tuple[int, Project | None]
"""What a project is from an instant on; None for nothing."""


class Showing(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A file as an observation showed it, and its version as that page spelled it; None if it cannot be told."""

    file: File
    version: str | None


class Entry(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """What an observation changed: files that are new or different, files that are not there any more.

    `project` is set if it differs from before, `gone` if from now on there is no such project. `etag`: the entity tag
    of the page (RFC 9110 section 8.8.3). `serial`: -1 if from now on there is none, None where nothing was said of it.
    """

    instant: int
    serial: int | None = None
    shown: tuple[Showing, ...] = ()
    missed: tuple[Identity, ...] = ()
    project: Project | None = None
    gone: bool = False
    etag: str | None = None

    @property
    def changed(self) -> bool:
        """Whether the observation changed anything but the serial. If not, that it was made still counts."""
        return bool(self.shown or self.missed or self.project or self.gone)


class Missing(msgspec.Struct, frozen=True):
    """A file that the last observation did not have: as it was last shown, and from when on it is gone."""

    file: File
    gone: int


class Span(NamedTuple):
    """The instants, from `start` to before `end`, at which a file is listed in one and the same way."""

    start: int
    end: int
    showing: Showing


def encode_entry(entry: Entry) -> bytes:
    """An entry for the store: MessagePack in zlib."""
    return zlib.compress(msgspec.msgpack.encode(entry))


def decode_entry(data: bytes) -> Entry:
    """An entry from the store. Raises `zlib.error` or `msgspec.DecodeError` for data that is none."""
    return msgspec.msgpack.decode(zlib.decompress(data), type=Entry)


def _is_listed_alike(one: File | None, other: File) -> bool:
    """Whether two listings of the same file say the same of it, whatever its address is by now."""
    if one is None or one == other:
        return one is not None
    return _without_address(one) == _without_address(other)


def _without_address(file: File) -> File:
    provenance = file.provenance and file.provenance.partition("?")[0]
    return msgspec.structs.replace(file, url="", provenance=provenance)


class History:
    """All that was observed of a project. It only ever grows, by `extend`."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self.instant: int | None = None
        """When the last observation was made."""
        self.serial: int | None = None
        """The newest serial seen; after the registry has moved, the newest seen since."""
        self.numbered: int = -1
        """When that serial was observed."""
        self.etag: str | None = None
        """The entity tag of the page as last observed."""
        self.first: int | None = None
        """From when on there was such a project, whether there still is or not; None if there never was."""
        self.earliest: int | None = None
        """The first instant at which the index is known, where it gives no upload times; None if it gives all.

        It is the first observation's, if that showed a file without a time that can be read: when such a file came is
        not known, so nothing is known of the instants before.
        """
        self._projects: list[ProjectState] = []
        self._lives: dict[Identity, _Life] = {}
        self.changes = 0
        """How many times a file was shown, or shown otherwise, or missed."""
        for entry in entries:
            self.extend(entry)

    @property
    def size(self) -> int:
        """How many files there ever were."""
        return len(self._lives)

    @property
    def exists(self) -> bool:
        """Whether the last observation found the project."""
        return self._latest_project() is not None

    def observe(self, observation: Observation, serials: Serials = UNPROVED, *, believed: bool = False) -> Entry:
        """What an observation changes. The history stays as it is: `extend` takes the entry in.

        Raises `StaleObservation` if the observation is not after the last one, or if its serial is older than one
        already seen, or missing where there were some. Where serials are not proved that is `Doubtful`, and so is a
        loss that neither a newer, proved serial nor a quarantine speaks for: no project any more, no files, or nearly
        all of many missing at once. With `believed`, what would be doubtful counts.
        """
        self._check_later(observation.instant)
        page, latest = observation.page, self._latest_project()
        if page is None:
            if latest is not None and not believed:
                raise Doubtful("there is no such project there any more")
            return Entry(observation.instant, gone=latest is not None)
        present = {key: showing.file for key, life in self._lives.items() if (showing := life.latest)}
        page = completed(page, tuple(present.values()), _page(latest, []) if latest else None)
        self._check_fresh(page, {name for name, _ in present}, serials, believed=believed)
        files: dict[Identity, File] = {}
        for file in page.files:
            files.setdefault(identity(file), file)
        changed = [file for key, file in files.items() if not _is_listed_alike(present.get(key), file)]
        project = Project(page.name, page.status, page.tracks, page.alternate_locations)
        ended = -1 if self.serial_since(serials.since) >= 0 else None  # it is believed that there are none any more
        return Entry(
            instant=observation.instant,
            serial=ended if page.serial is None else page.serial,
            shown=tuple(map(Showing, changed, versions_of([file.filename for file in changed], page.versions or ()))),
            missed=tuple(key for key in present if key not in files),
            project=project if project != latest else None,
            etag=observation.etag,
        )

    def extend(self, entry: Entry) -> None:
        """Take an entry in. Entries come in the order in which they were observed, else `StaleObservation`."""
        self._check_later(entry.instant)
        births = self._show(entry)
        if self.first is None and entry.project:
            self.first = min([entry.instant, *births.values()])
        missed = [key for key, life in self._lives.items() if life.latest] if entry.gone else entry.missed
        for key in missed:
            filename, _ = key
            gone = min(births.get(filename, entry.instant), entry.instant)
            self._lives[key].changes.append((gone, None))
        self.changes += len(entry.shown) + len(missed)
        if entry.gone or entry.project:
            self._projects.append((entry.instant, entry.project))
        self.instant = entry.instant
        if entry.serial is not None:
            self.serial, self.numbered = entry.serial, entry.instant
        self.etag = entry.etag

    def as_of(self, instant: int) -> Page | None:
        """The page as it stood at an instant; None if there was no such project as far as can be known.

        The page has no serial, and of the versions those of its files. Files are in the order in which they were
        first shown. Raises `NotObserved` if there is no observation at or after the instant.
        """
        if self.instant is None or instant > self.instant:
            raise NotObserved("there is no observation at or after this instant")
        known = bisect_right(self._projects, instant, key=lambda change: change[0])
        project = self._projects[known - 1][1] if known else None
        lives = (life for life in self._lives.values() if life.birth <= instant)
        showings = [showing for life in lives if (showing := life.at(instant))]
        if project is None and showings:  # it appeared between two observations
            project = next(project for _, project in self._projects[known:] if project)
        return _page(project, showings) if project else None

    @property
    def status(self) -> ProjectStatus | None:
        """The project's status as last observed (PEP 792); of a project that is gone, the last that it had."""
        return last_status(self._projects)

    @property
    def states(self) -> tuple[ProjectState, ...]:
        """What the project was from when on, in order."""
        return tuple(self._projects)

    def spans(self) -> Iterator[list[Span]]:
        """Yield for each file ever shown when it was listed and how, the files in the order in which they were first.

        What `as_of` finds of a file at an instant that was observed is the showing of the span that it is in.
        """
        return (life.spans() for life in self._lives.values())

    def named(self, filename: str) -> list[File]:
        """The files of that name as they were ever shown, each the newest first."""
        lives = (life for (name, _), life in self._lives.items() if name == filename)
        return [showing.file for life in lives for _, showing in reversed(life.changes) if showing]

    def addresses(self, page: Page) -> dict[Identity, str]:
        """The addresses on a page that are others than the log has: of files that it knows."""
        shown = ((identity(file), file.url) for file in page.files)
        return {key: url for key, url in shown if (life := self._lives.get(key)) and life.url != url}

    def lists(self, file: File) -> bool:
        """Whether the last observation had a file."""
        life = self._lives.get(identity(file))
        return life is not None and life.latest is not None

    def missing(self) -> list[Missing]:
        """Every file ever shown that the last observation did not have, in the order in which they were first shown."""
        return [missing for life in self._lives.values() if (missing := life.missing)]

    def latest(self) -> Page | None:
        """The page as last observed, with no serial; None if there is no such project, or no observation."""
        return self._latest(born_by=None)

    def cooled(self, now: int, days: int) -> Page | None:
        """The page as last observed, less the files that were born in the `days` before `now`."""
        return self._latest(born_by=now - days * DAY)

    def _latest(self, born_by: int | None) -> Page | None:
        project = self._latest_project()
        lives = (life for life in self._lives.values() if born_by is None or life.birth <= born_by)
        return _page(project, [showing for life in lives if (showing := life.latest)]) if project else None

    def _latest_project(self) -> Project | None:
        return self._projects[-1][1] if self._projects else None

    def _check_later(self, instant: int) -> None:
        if self.instant is not None and instant <= self.instant:
            raise StaleObservation("there is an observation at or after this instant already")

    def _check_fresh(self, page: Page, had: set[str], serials: Serials, *, believed: bool) -> None:
        """Raise StaleObservation for a page that is older than what is known, or that has lost most of its files."""
        seen = self.serial_since(serials.since)
        serial = -1 if page.serial is None else page.serial
        if serial < seen and not (believed and not serials.proved):
            older = "it has no serial" if serial < 0 else f"the serial {serial} is older"
            raise (StaleObservation if serials.proved else Doubtful)(
                f"{older}, and {seen} was seen before (a registry that was moved or restored has to be told of: "
                "httpcache moved)"
            )
        quarantined = page.status is not None and page.status.status == QUARANTINED
        newer = serials.proved and serial > seen >= 0
        lost = len(had.difference(file.filename for file in page.files))
        if is_loss(len(had), lost, nothing=not page.files) and not (quarantined or newer or believed):
            raise Doubtful(f"{lost} of {len(had)} files are missing at once, and no newer serial speaks for it")

    def serial_since(self, instant: int) -> int:
        """The newest serial seen after an instant, -1 for none."""
        return self.serial if self.serial is not None and self.numbered > instant else -1

    def _show(self, entry: Entry) -> dict[str, int]:
        """Take in the files an entry shows. Returns the names of those never seen before, and their births."""
        births: dict[str, int] = {}
        for showing in entry.shown:
            key = name, _ = identity(showing.file)
            life = self._lives.get(key)
            if life is None:
                uploaded = read_instant(showing.file.upload_time)
                if uploaded is None and self.instant is None:
                    self.earliest = entry.instant
                birth = _birth(uploaded, entry.instant, self.instant)
                births[name] = min(birth, births.get(name, birth))
                life = self._lives[key] = _Life(birth, [(entry.instant, showing)])
            else:
                life.changes.append((entry.instant, _sharing(showing, life.shown)))
        return births


class _Life(msgspec.Struct, gc=False):
    """When a file was born, and each change of it since it was first shown; None where it was missed."""

    birth: int
    changes: list[tuple[int, Showing | None]]

    @property
    def latest(self) -> Showing | None:
        return self.changes[-1][1]

    @property
    def shown(self) -> Showing:
        """How the file was last shown."""
        return next(showing for _, showing in reversed(self.changes) if showing)

    @property
    def url(self) -> str:
        """The address that the file was last shown with."""
        return self.shown.file.url

    @property
    def missing(self) -> Missing | None:
        gone, latest = self.changes[-1]
        shown = None if latest else self.changes[-2][1]
        return Missing(shown.file, gone) if shown else None

    def at(self, instant: int) -> Showing | None:
        """The file at an instant after its birth, though it may not have been shown by then."""
        if self.changes[-1][0] <= instant:
            return self.changes[-1][1]
        known = bisect_right(self.changes, instant, key=itemgetter(0))
        return self.changes[max(known - 1, 0)][1]

    def spans(self) -> list[Span]:
        """What `at` gives from the birth on: the spans in which it is the same, but for those in which it is None."""
        if len(self.changes) == 1 and self.latest:  # as of nearly all
            return [Span(self.birth, FOREVER, self.latest)]
        starts = [self.birth, *(max(instant, self.birth) for instant, _ in self.changes[1:])]
        spans = zip(starts, [*starts[1:], FOREVER], self.changes, strict=True)
        return [Span(start, end, showing) for start, end, (_, showing) in spans if showing and start < end]


def _sharing(showing: Showing, before: Showing) -> Showing:
    """The same showing, which shares with the one before what is equal in both: pages can change at each look."""
    if showing == before:
        return before
    file, known = showing.file, before.file
    fields = {name: value for name in _FIELDS if (value := getattr(known, name)) == getattr(file, name)}
    version = before.version if before.version == showing.version else showing.version
    return Showing(msgspec.structs.replace(file, **fields), version)


def is_loss(had: int, lost: int, *, nothing: bool) -> bool:
    """Whether it is a loss that `lost` of `had` things are not there any more, or nearly all of many."""
    return had > 0 and (nothing or (had >= MANY and lost >= had * NEARLY_ALL))


def last_status(states: Sequence[ProjectState]) -> ProjectStatus | None:
    """The last status that a project had by what it was (PEP 792)."""
    latest = next((project for _, project in reversed(states) if project), None)
    return latest.status if latest else None


def _birth(uploaded: int | None, shown: int, previous: int | None) -> int:
    """When a file was born that was first shown at `shown`, after an observation at `previous`."""
    told = trusted_upload(uploaded, previous)
    return shown if told is None else told + 1


def trusted_upload(uploaded: int | None, previous: int | None) -> int | None:
    """Return the upload time of a file where it tells when the file was born.

    It does not where an observation at or after it (`previous`) did not have the file.
    """
    return None if uploaded is None or (previous is not None and previous >= uploaded) else uploaded


def _page(project: Project, showings: list[Showing]) -> Page:
    versions = {showing.version for showing in showings if showing.version is not None}
    return Page(
        name=project.name,
        files=tuple(showing.file for showing in showings),
        versions=tuple(sorted(versions, key=by_version)),
        status=project.status,
        tracks=project.tracks,
        alternate_locations=project.alternate_locations,
    )

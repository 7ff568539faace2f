"""What an index showed of a project and when, and from that what it contained at any instant. Pure: no store, no clock.

A project's log is a sequence of `Entry`, each with the changes of one observation. The rules of `History.as_of`:

- A file is born just after its upload time. A file uploaded at the very instant is not there yet, as with pip's
  `--uploaded-prior-to` and uv's `--exclude-newer`. If an earlier observation was made at or after the upload time and
  did not show the file, or if the index gives no time, it is born at the observation that first showed it.
- It is gone from the observation that first missed it until the one that showed it again. If that first observation
  showed other content under the same name, it is gone from the birth of that content.
- Everything else is as of the last observation at or before the instant, or as of the first if there is none.

A log can begin with what was uploaded according to another source (an *imported* entry, which is no observation). A
file of it is there from its upload until the first observation, or until the upload of other content under its name.
If the first observation shows the file, it is as if it had not been imported; if not, the file is gone from then on.

It follows that no later observation changes the answer for an instant that can be answered now: a file that appears
later either is born later, or was missed by an earlier observation and so is born when it is first shown.

All instants are microseconds since 1970-01-01T00:00:00Z.
"""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from typing import NamedTuple, TypeAlias

import msgspec

from httpcache import zstd
from pypi_adapter.instants import read_instant
from pypi_adapter.simple.model import QUARANTINED, File, Identity, Page, ProjectStatus, identity
from pypi_adapter.simple.versions import by_version, versions_of

from .unread import completed

DAY = 86_400_000_000
"""Microseconds in a day."""

MANY, NEARLY_ALL = 10, 0.9
"""A project with this many files that misses this part of them at once has a loss that needs a second look."""

FOREVER = 2**63 - 1
"""An instant after all others, for what has not ended."""

LONG = 4096
"""Bytes of an entry from which on zstd is faster than zlib: with fewer, beginning takes it longer than that."""
ZSTD_LEVEL = 1  # the output is smaller than that of level 3, and than zlib's
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"  # RFC 8878 section 3.1.1; zlib's first byte is 0x78

_FIELDS = File.__struct_fields__


class StaleObservation(ValueError):
    """The observation shows less than is already known: it is too old, or empty for no reason."""


class Doubtful(StaleObservation):
    """The observation shows a loss that nothing confirms. It counts if it is still so some time later."""


class NotObserved(LookupError):
    """There is no observation at or after the instant, so what the index contained then is not settled."""


class Observation(msgspec.Struct, frozen=True):
    """A project's page at an instant; None if the index said that the project does not exist."""

    instant: int
    page: Page | None
    etag: str | None = None


class Serials(NamedTuple):
    """What is known of a registry's serials.

    Those seen at or before `since` do not count, because the registry has moved since. `proved`: one has risen with a
    change. Until then serials say nothing, because some registries send a constant.
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
"""What a project is from an instant on; None if it does not exist."""


class Showing(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A file as an observation showed it, and its version as the page spelled it, None if that is unknown."""

    file: File
    version: str | None


class Entry(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """What an observation changed: files that are new or different, and files that are missing.

    `project` is set if it differs from before, `gone` if the project no longer exists. `etag` is the entity tag of the
    page (RFC 9110 section 8.8.3). `serial` is -1 if there is none from now on, None if the observation does not say.

    `imported`: it is no observation. `shown` are uploads according to another source, and `instant` is when they were
    added. Only the first entry of a log can be one.
    """

    instant: int
    serial: int | None = None
    shown: tuple[Showing, ...] = ()
    missed: tuple[Identity, ...] = ()
    project: Project | None = None
    gone: bool = False
    etag: str | None = None
    imported: bool = False

    @property
    def changed(self) -> bool:
        """Whether the observation changed anything but the serial. One that did not still counts as an observation."""
        return bool(self.shown or self.missed or self.project or self.gone)


_ENTRIES = msgspec.msgpack.Decoder(Entry)


class Missing(msgspec.Struct, frozen=True):
    """A file that the last observation did not show: as it was last shown, and when it disappeared."""

    file: File
    gone: int


Span: TypeAlias = tuple[int, int, Showing]
"""A period in which a file is listed in the same way: its start, its end (exclusive), and how."""


def encode_entry(entry: Entry) -> bytes:
    """Encode an entry for the store: MessagePack, in zlib if it is short, else in zstd."""
    plain = msgspec.msgpack.encode(entry)
    return zlib.compress(plain) if len(plain) < LONG else zstd.compress(plain, ZSTD_LEVEL)


def decode_entry(data: bytes) -> Entry:
    """Decode an entry from the store. Raises `zlib.error` or ValueError if the data is not one."""
    try:
        plain = zstd.decompress(data) if data.startswith(_ZSTD_MAGIC) else zlib.decompress(data)
    except zstd.ZstdError as error:
        raise ValueError(str(error)) from error
    return _ENTRIES.decode(plain)


def _is_listed_alike(one: File | None, other: File) -> bool:
    """Whether two listings of the same file are equal, apart from its address."""
    if one is None or one == other:
        return one is not None
    return _without_address(one) == _without_address(other)


def _without_address(file: File) -> File:
    provenance = file.provenance and file.provenance.partition("?")[0]
    return msgspec.structs.replace(file, url="", provenance=provenance)


class History:
    """Everything that was observed of a project. It only grows, by `extend`."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self.instant: int | None = None
        """When the last observation was made."""
        self.serial: int | None = None
        """The newest serial seen, or after the registry has moved, the newest seen since then."""
        self.numbered: int = -1
        """When that serial was observed."""
        self.etag: str | None = None
        """The entity tag of the page as last observed."""
        self.first: int | None = None
        """When the project first existed, whether it still does or not; None if it never did."""
        self.earliest: int | None = None
        """The first instant of which anything is known, if the index gives no upload times; None if it gives them.

        It is the instant of the first observation, if that showed a file whose upload time is missing or cannot be
        read: when such a file appeared is unknown, and so is everything before.
        """
        self._projects: list[ProjectState] = []
        self._lives: dict[Identity, _Life] = {}
        self._imported: Project | None = None
        self.changes = 0
        """How many times a file was shown, or shown differently, or missed."""
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
        """Return what an observation changes. The history itself does not change: pass the entry to `extend`.

        Raises `StaleObservation` if the observation is not after the last one, or if its serial is older than one
        already seen, or missing although there were some. If serials are not proved, the latter is `Doubtful`. So is a
        loss that neither a newer, proved serial nor a quarantine confirms: the project does not exist any more, it has
        no files, or nearly all of many are missing at once. With `believed`, what would be doubtful counts.
        """
        self._check_later(observation.instant)
        page, latest = observation.page, self._latest_project()
        present = {key: showing.file for key, life in self._lives.items() if (showing := life.latest)}
        if page is None:
            if latest is not None and not believed:
                raise Doubtful("the registry no longer has the project")
            return Entry(observation.instant, gone=latest is not None or bool(present))
        page = completed(page, tuple(present.values()), _page(latest, []) if latest else None)
        observed = {} if self.instant is None else present  # what was imported was not seen here, and is no loss
        self._check_fresh(page, {name for name, _ in observed}, serials, believed=believed)
        files: dict[Identity, File] = {}
        for file in page.files:
            files.setdefault(identity(file), file)
        changed = [file for key, file in files.items() if not _is_listed_alike(observed.get(key), file)]
        project = Project(page.name, page.status, page.tracks, page.alternate_locations)
        ended = -1 if self.serial_since(serials.since) >= 0 else None  # the registry has stopped sending serials
        return Entry(
            instant=observation.instant,
            serial=ended if page.serial is None else page.serial,
            shown=tuple(map(Showing, changed, versions_of([file.filename for file in changed], page.versions or ()))),
            missed=tuple(key for key in present if key not in files),
            project=project if project != latest else None,
            etag=observation.etag,
        )

    def extend(self, entry: Entry) -> None:
        """Add an entry. Raises `StaleObservation` if it was not observed after the last one."""
        if entry.imported:
            self._import(entry)
            return
        self._check_later(entry.instant)
        births = self._show(entry)
        missed = [key for key, life in self._lives.items() if life.latest] if entry.gone else entry.missed
        if self._imported and self.instant is None:
            self._end_imported(entry, births)
            missed = []
        if entry.project and (self.first is None or self.instant is None):
            imported = [] if self.first is None else [self.first]
            self.first = min([entry.instant, *imported, *births.values()])
        for key in missed:
            filename, _ = key
            gone = min(births.get(filename, entry.instant), entry.instant)
            self._lives[key].changes += ((gone, None),)
        self.changes += len(entry.shown) + len(missed)
        if entry.gone or entry.project:
            self._projects.append((entry.instant, entry.project))
        self.instant = entry.instant
        if entry.serial is not None:
            self.serial, self.numbered = entry.serial, entry.instant
        self.etag = entry.etag

    def as_of(self, instant: int) -> Page | None:
        """Return the page as it stood at an instant, None if the project is not known to have existed then.

        The page has no serial, and only the versions of its files. Files are in the order in which they were first
        shown. Raises `NotObserved` if there is no observation at or after the instant.
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
        """The project's status as last observed (PEP 792), or its last one if the project no longer exists."""
        return last_status(self._projects)

    @property
    def states(self) -> tuple[ProjectState, ...]:
        """What the project was and from when, in order."""
        return tuple(self._projects)

    def spans(self) -> Iterator[list[Span]]:
        """Yield the spans of each file ever shown, the files in the order in which they were first shown.

        `as_of` lists a file at an instant as it is in the span that contains the instant. The last one is how the file
        was shown last, and may be empty.
        """
        return (life.spans() for life in self._lives.values())

    def addresses(self, page: Page) -> dict[Identity, str]:
        """Return the addresses on a page that differ from those in the log, of files that the log contains."""
        shown = ((identity(file), file.url) for file in page.files)
        return {key: url for key, url in shown if (life := self._lives.get(key)) and life.url != url}

    def lists(self, file: File) -> bool:
        """Whether the last observation showed a file."""
        life = self._lives.get(identity(file))
        return life is not None and life.latest is not None

    def missing(self) -> list[Missing]:
        """Return every file that an observation showed and the last one missed, in the order of their first showing."""
        return [missing for life in self._lives.values() if (missing := life.missing)]

    def latest(self) -> Page | None:
        """Return the page as last observed, without a serial; None if there was no observation or no such project."""
        return self._latest(born_by=None)

    def cooled(self, now: int, days: int) -> Page | None:
        """Return the page as last observed, without the files that were born in the `days` before `now`."""
        return self._latest(born_by=now - days * DAY)

    def _latest(self, born_by: int | None) -> Page | None:
        project = self._latest_project()
        lives = (life for life in self._lives.values() if born_by is None or life.birth <= born_by)
        return _page(project, [showing for life in lives if (showing := life.latest)]) if project else None

    def _latest_project(self) -> Project | None:
        return self._projects[-1][1] if self._projects else None

    def _import(self, entry: Entry) -> None:
        """Begin with what was uploaded according to another source. Raises `StaleObservation` if there is anything."""
        if self.instant is not None or self._lives:
            raise StaleObservation("uploads can be imported only before the first observation")
        uploads = [(read_instant(showing.file.upload_time), showing) for showing in entry.shown]
        latest: dict[str, _Life] = {}
        for uploaded, showing in sorted(uploads, key=lambda upload: (upload[0] or 0, identity(upload[1].file))):
            birth = _birth(uploaded, entry.instant, None)
            name, _ = key = identity(showing.file)
            if name in latest:
                latest[name].changes += ((birth, None),)
            latest[name] = self._lives[key] = _Life(birth, ((birth, showing),), imported=True)
        self.first = min((life.birth for life in self._lives.values()), default=None)
        self._imported = entry.project
        self.changes += len(self._lives)

    def _end_imported(self, entry: Entry, births: dict[str, int]) -> None:
        """End what was imported and the first observation does not show; for `births` see `_show`.

        What would be there at no instant, since it was uploaded after its end, is as if it had not been imported.
        """
        for key, life in [pair for pair in self._lives.items() if pair[1].imported]:
            ended = [instant for instant, showing in life.changes if showing is None]
            gone = min([entry.instant, births.get(key[0], entry.instant), *ended])
            life.changes = ((life.birth, life.shown), (gone, None))
            if gone <= life.birth:
                del self._lives[key]
        self.first = min((life.birth for life in self._lives.values() if life.imported), default=None)
        if entry.gone and self.first is not None:
            self._projects.append((self.first, self._imported))

    def _check_later(self, instant: int) -> None:
        if self.instant is not None and instant <= self.instant:
            raise StaleObservation("another observation was made at or after this instant")

    def _check_fresh(self, page: Page, had: set[str], serials: Serials, *, believed: bool) -> None:
        """Raise StaleObservation if the page is older than what is known, or has lost most of its files."""
        seen = self.serial_since(serials.since)
        serial = -1 if page.serial is None else page.serial
        if serial < seen and not (believed and not serials.proved):
            older = "it has no serial" if serial < 0 else f"its serial {serial} is older"
            raise (StaleObservation if serials.proved else Doubtful)(
                f"{older}, and {seen} was seen before (if the registry was moved or restored, run: httpcache moved)"
            )
        quarantined = page.status is not None and page.status.status == QUARANTINED
        newer = serials.proved and serial > seen >= 0
        lost = len(had.difference(file.filename for file in page.files))
        if is_loss(len(had), lost, nothing=not page.files) and not (quarantined or newer or believed):
            raise Doubtful(f"{lost} of {len(had)} files are missing at once, and no newer serial confirms it")

    def serial_since(self, instant: int) -> int:
        """Return the newest serial seen after an instant, -1 if there is none."""
        return self.serial if self.serial is not None and self.numbered > instant else -1

    def _show(self, entry: Entry) -> dict[str, int]:
        """Add the files that an entry shows. Returns the names of those never seen before, with their births."""
        births: dict[str, int] = {}
        for showing in entry.shown:
            key = name, _ = identity(showing.file)
            life = self._lives.get(key)
            if life is None or self.instant is None:  # the first observation replaces what was imported
                uploaded = read_instant(showing.file.upload_time)
                if uploaded is None and self.instant is None:
                    self.earliest = entry.instant
                birth = _birth(uploaded, entry.instant, self.instant)
                births[name] = min(birth, births.get(name, birth))
                life = self._lives[key] = _Life(birth, ((entry.instant, showing),))
            else:
                life.changes += ((entry.instant, _sharing(showing, life.shown)),)
                life.imported = False
        return births


class _Life(msgspec.Struct, gc=False):
    """When a file was born, and each change since it was first shown; None stands for missed.

    Tuples all the way down, which the garbage collector does not look at again. `imported`: no observation showed it.
    """

    birth: int
    changes: tuple[tuple[int, Showing | None], ...]
    imported: bool = False

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
        shown = None if latest or self.imported else self.changes[-2][1]
        return Missing(shown.file, gone) if shown else None

    def at(self, instant: int) -> Showing | None:
        """Return the file at an instant after its birth, even if it had not been shown by then."""
        if self.changes[-1][0] <= instant:
            return self.changes[-1][1]
        known = bisect_right(self.changes, instant, key=itemgetter(0))
        return self.changes[max(known - 1, 0)][1]

    def spans(self) -> list[Span]:
        """Return what `at` gives from the birth on, as spans in which it is the same, without those of None.

        Nothing is seen of what changed before the birth, so its span is empty; only the last showing is kept even so.
        """
        if len(self.changes) == 1 and (latest := self.latest):  # nearly all files
            return [(self.birth, FOREVER, latest)]
        starts = [self.birth, *(max(instant, self.birth) for instant, _ in self.changes[1:])]
        spans = zip(starts, [*starts[1:], FOREVER], self.changes, strict=True)
        last = self.shown
        return [
            (start, end, showing) for start, end, (_, showing) in spans if showing and (start < end or showing is last)
        ]


def _sharing(showing: Showing, before: Showing) -> Showing:
    """Return the same showing, sharing equal values with the one before: pages can change at each observation."""
    if showing == before:
        return before
    file, known = showing.file, before.file
    fields = {name: value for name in _FIELDS if (value := getattr(known, name)) == getattr(file, name)}
    version = before.version if before.version == showing.version else showing.version
    return Showing(msgspec.structs.replace(file, **fields), version)


def is_loss(had: int, lost: int, *, nothing: bool) -> bool:
    """Whether `lost` of `had` things is a loss: `nothing` is left, or nearly all of many are missing."""
    return had > 0 and (nothing or (had >= MANY and lost >= had * NEARLY_ALL))


def last_status(states: Sequence[ProjectState]) -> ProjectStatus | None:
    """Return the last status in the states of a project (PEP 792)."""
    latest = next((project for _, project in reversed(states) if project), None)
    return latest.status if latest else None


def _birth(uploaded: int | None, shown: int, previous: int | None) -> int:
    """Return when a file was born that was first shown at `shown`, after an observation at `previous`."""
    trusted = trusted_upload(uploaded, previous)
    return shown if trusted is None else trusted + 1


def trusted_upload(uploaded: int | None, previous: int | None) -> int | None:
    """Return the upload time of a file if it tells when the file was born, else None.

    It does not if an observation at or after it (`previous`) did not show the file.
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

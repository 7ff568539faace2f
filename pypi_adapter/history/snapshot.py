"""A snapshot of a project's history, from which dates and files are answered: what is served, and when. Pure.

It gives the same pages as `History.as_of`, with links to the mirror. A file has a row for each period in which it is
listed in the same way, with its JSON as it is served. So a page is made by joining the rows that hold at an instant,
without creating or rendering a file. The last row of a file also tells how the registry listed it last, and where: that
is what it is fetched by.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import chain, compress
from operator import itemgetter

import msgspec

from httpcache.target import origin
from pypi_adapter.addresses import TOKEN, token, token_in
from pypi_adapter.simple.json_page import file_json, files_from_json, joined_json
from pypi_adapter.simple.model import File, Page, ProjectStatus, is_derived
from pypi_adapter.simple.versions import by_version

from .history import FOREVER, Entry, History, NotObserved, Project, ProjectState, last_status

# Properties of a row's file: it has no size, it has a provenance, its METADATA has to be read from the wheel.
_SIZELESS, _ATTESTED, _DERIVED = 1, 2, 4
_ROW = 340  # bytes of memory that a row takes besides its JSON and its address
_KEY = 32  # bytes of a key


class Rows(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One row for each span of each file, in the order in which the files were first shown; one list for each column.
    A row holds from `starts` to before `ends`. `versions` are indexes into the versions of the snapshot, -1 for none.
    `marks` combine `_SIZELESS`, `_ATTESTED` and `_DERIVED`. `keys` has the hex digits of the files' tokens as bytes,
    `_KEY` of them each. `urls` are the addresses at the registry.
    """

    starts: list[int]
    ends: list[int]
    versions: list[int]
    marks: bytes
    files: list[bytes]
    keys: bytes
    urls: list[str]


class Snapshot(msgspec.Struct, frozen=True, array_like=True, dict=True):
    """A history for answering dates. The first fields are those of `History`.

    `versions` are the versions of all files, sorted. `breaks` are the instants at which a row begins or ends or the
    project changes, sorted: between two of them the page is the same. `hosts` are the origins of the wheels whose
    METADATA has to be read from the wheel.
    """

    instant: int | None
    serial: int | None
    numbered: int
    etag: str | None
    first: int | None
    earliest: int | None
    states: tuple[ProjectState, ...]
    versions: tuple[str, ...]
    rows: Rows
    breaks: list[int]
    hosts: tuple[str, ...]

    @property
    def exists(self) -> bool:
        """Whether the last observation found the project."""
        return bool(self.states) and self.states[-1][1] is not None

    @property
    def status(self) -> ProjectStatus | None:
        """The project's status as last observed (PEP 792), or its last one if the project no longer exists."""
        return last_status(self.states)

    def serial_since(self, instant: int) -> int:
        """Return the newest serial seen after an instant, -1 if there is none."""
        return self.serial if self.serial is not None and self.numbered > instant else -1

    @cached_property
    def size(self) -> int:
        """About how many bytes of memory it takes."""
        return sum(map(len, chain(self.rows.files, self.rows.urls))) + _ROW * len(self.rows.files)

    @cached_property
    def contents(self) -> frozenset[str]:
        """The sha256 of all files, in hex; of files without one, a sha256 of what identifies them (see `token`)."""
        keys = self.rows.keys
        return frozenset(keys[place : place + _KEY].hex() for place in range(0, len(keys), _KEY))

    def listing(self, content: str, filename: str) -> File | None:
        """Return a file by its token and name, as the registry listed it last; None if it never did.
        It tells what it takes to fetch and to check the file and its metadata, but nothing of a signature. Without an
        observation no file is known: what was imported may be withheld.
        """
        if self.instant is None or not TOKEN.fullmatch(content):
            return None
        key, end = bytes.fromhex(content.removeprefix("id-")), len(self.rows.keys)
        while (place := self.rows.keys.rfind(key, 0, end)) >= 0:  # 16 microseconds at most among 3,000 files
            row, within = divmod(place, _KEY)
            if not within and (file := self._observed(row)).filename == filename and token(file) == content:
                return file
            end = place + _KEY - 1
        return None

    def _observed(self, row: int) -> File:
        """Return the file of a row with its address at the registry; its metadata is what the registry has."""
        (file,) = files_from_json(self.rows.files[row : row + 1])
        core_metadata = None if self.rows.marks[row] & _DERIVED else file.core_metadata
        return msgspec.structs.replace(file, url=self.rows.urls[row], core_metadata=core_metadata)

    def followed_by(self, entry: Entry) -> Snapshot | None:
        """Return the snapshot with one more entry if the entry changes nothing, else None."""
        if entry.changed or self.instant is None or entry.instant <= self.instant:
            return None
        serial, numbered = (self.serial, self.numbered) if entry.serial is None else (entry.serial, entry.instant)
        return msgspec.structs.replace(self, instant=entry.instant, serial=serial, numbered=numbered, etag=entry.etag)

    def at(self, instant: int) -> SnapshotPage | None:
        """Return the project as it stood at an instant, None if it is not known to have existed then.
        Raises `NotObserved` if there is no observation at or after the instant.
        """
        if self.instant is None or instant > self.instant:
            raise NotObserved("there is no observation at or after this instant")
        known = bisect_right(self.states, instant, key=itemgetter(0))
        project = self.states[known - 1][1] if known else None
        if project is None and any(start <= instant < end for start, end in self._spans):
            project = next(project for _, project in self.states[known:] if project)  # between two observations
        return SnapshotPage(self, instant, project) if project else None

    @property
    def _spans(self) -> zip[tuple[int, int]]:
        return zip(self.rows.starts, self.rows.ends, strict=True)


class SnapshotPage:
    """A project at an instant."""

    def __init__(self, snapshot: Snapshot, instant: int, project: Project) -> None:
        self.snapshot = snapshot
        self.name = project.name
        self._instant = instant
        self._project = project

    @property
    def hosts(self) -> tuple[str, ...]:
        """The origins of the wheels, at any instant, whose METADATA has to be read from the wheel."""
        return self.snapshot.hosts

    @property
    def size(self) -> int:
        """How many rows have to be examined."""
        return len(self.snapshot.rows.files)

    def contents(self) -> frozenset[str]:
        """Return the sha256 of all files that the project ever had, in hex."""
        return self.snapshot.contents

    @property
    def since(self) -> int | None:
        """Since when the page is what it is at the instant; None if it always was.

        No later observation changes this, or the page.
        """
        place = bisect_right(self.snapshot.breaks, self._instant)
        return self.snapshot.breaks[place - 1] if place else None

    def json(self) -> bytes:
        """Return the page with the mirror's links as `to_json` renders it (PEP 691)."""
        shown, rows = self._shown(), self.snapshot.rows
        marks = set(compress(rows.marks, shown))
        return joined_json(
            self._page((), shown),
            list(compress(rows.files, shown)),
            attested=any(mark & _ATTESTED for mark in marks),
            complete=not any(mark & _SIZELESS for mark in marks),
        )

    def page(self, *, derived: bool = True) -> Page:
        """Return the page with the mirror's links; `derived`: advertise METADATA that has to be read from wheels."""
        shown = self._shown()
        files = files_from_json(list(compress(self.snapshot.rows.files, shown)))
        if not derived:
            marks = compress(self.snapshot.rows.marks, shown)
            files = tuple(
                msgspec.structs.replace(file, core_metadata=None) if mark & _DERIVED else file
                for file, mark in zip(files, marks, strict=True)
            )
        return self._page(files, shown)

    def releases(self) -> Iterator[tuple[str, Sequence[File]]]:
        """Yield the versions with their files, which have the mirror's links, the newest first."""
        rows = self.snapshot.rows
        found: dict[int, list[bytes]] = {}
        for place, text in compress(zip(rows.versions, rows.files, strict=True), self._shown()):
            found.setdefault(place, []).append(text)
        for place in sorted(found.keys() - {-1}, reverse=True):
            yield self.snapshot.versions[place], files_from_json(found[place])

    def _shown(self) -> list[bool]:
        """Return for each row whether it holds."""
        instant = self._instant
        return [start <= instant < end for start, end in self.snapshot._spans]

    def _page(self, files: tuple[File, ...], shown: Sequence[bool]) -> Page:
        versions = set(compress(self.snapshot.rows.versions, shown)) - {-1}
        return Page(
            name=self._project.name,
            files=files,
            versions=tuple(self.snapshot.versions[place] for place in sorted(versions)),
            status=self._project.status,
            tracks=self._project.tracks,
            alternate_locations=self._project.alternate_locations,
        )


def take_snapshot(history: History, link: Callable[[File], File]) -> Snapshot:
    """Take a snapshot of a history; `link` gives a file its address on the mirror."""
    starts, ends, spellings, marks, files = list[int](), list[int](), list[str | None](), bytearray(), list[bytes]()
    tokens, urls, derived = list[str](), list[str](), list[str]()
    for spans in history.spans():
        last: tuple[int, str | None, bytes, int] | None = None
        for start, end, showing in spans:
            file, version = showing.file, showing.version
            served, mark = link(file), _mark(file)
            text = file_json(served)
            if last and last == (start, version, text, mark):  # only the address may differ
                ends[-1], urls[-1] = end, file.url
            else:
                starts.append(start)
                ends.append(end)
                spellings.append(version)
                marks.append(mark)
                files.append(text)
                tokens.append(token_in(served.url).removeprefix("id-"))
                urls.append(file.url)
            last = end, version, text, mark
            if mark & _DERIVED:
                derived.append(file.url)
    versions = tuple(sorted({text: None for text in spellings if text is not None}, key=by_version))
    places: dict[str | None, int] = {text: place for place, text in enumerate(versions)}
    breaks = {*chain(starts, ends), *(instant for instant, _ in history.states)} - {FOREVER}
    return Snapshot(
        instant=history.instant,
        serial=history.serial,
        numbered=history.numbered,
        etag=history.etag,
        first=history.first,
        earliest=history.earliest,
        states=history.states,
        versions=versions,
        rows=Rows(
            starts,
            ends,
            [places.get(text, -1) for text in spellings],
            bytes(marks),
            files,
            bytes.fromhex("".join(tokens)),
            urls,
        ),
        breaks=sorted(breaks),
        hosts=_origins(derived),
    )


def _origins(urls: Sequence[str]) -> tuple[str, ...]:
    """Return the origins of addresses, each once. Most of a project's files have the same."""
    found = set[str]()
    last = "\n"  # no address begins with it
    for url in urls:
        if not url.startswith(last):
            found.add(origin(url))
            last = f"{origin(url)}/"
    return tuple(sorted(found))


def _mark(file: File) -> int:
    marks = (_SIZELESS if file.size is None else 0) | (0 if file.provenance is None else _ATTESTED)
    return marks | (_DERIVED if is_derived(file) else 0)

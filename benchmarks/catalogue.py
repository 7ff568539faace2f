"""A generated upstream with the shape of PyPI's catalogue: the generator, its server, a handle on it for tests.

`python -m benchmarks.catalogue --projects 700000` serves it on 127.0.0.1 and writes the address of its index; tests
use `Running`. All of it follows from the number of projects and the seed. Its clock stands still at `START` and goes
on by a day with each `change`. What is served:

    GET  /simple/            the project list: PEP 691 JSON, with the serial of each project
    GET  /simple/<project>/  PEP 691, 700 and 792 JSON; ETag and If-None-Match; never compressed, never HTML
    GET  /files/...          a file, or with `.metadata` behind it a wheel's metadata (PEP 658); 404 once deleted
    POST /-/change?count=20000&seed=3             one day of change; answers with a `Day` as JSON
    POST /-/fault?kind=429&count=50&project=NAME  see `Running.fault`; `project` can be left out
    GET  /-/counts           the answers so far by kind: "page", "page 304", "file 404", "page stale", ...

It does as Warehouse's `warehouse/packaging/utils.py`: the list has names as their owners spell them, in the order of
the normalised ones; a page has the normalised name; a quarantined project is not in the list and its page has no
files. It differs in this: the files of a release are in the order of upload, files are a few hundred bytes long and
no archives, no file has a provenance, and there are no eggs, installers or zip files.

What 700,000 projects of seed 0 have, measured, beside PyPI. PyPI's column is from memory and good to about a third,
or an assumption (a), but for the number with a source:

|                                               | here             | PyPI                            |
| --------------------------------------------- | ---------------- | ------------------------------- |
| files                                         | 15.2 million     | about 16 million                |
| releases                                      | 8.4 million      | 7 to 8 million                  |
| releases of a project, mean                   | 12.1             | 9.8 in 2019 (arXiv:1907.11073)  |
| files of a project, mean                      | 21.7             | about 23                        |
| ... median, 90th, 99th percentile             | 4, 40, 301       | 4 to 5, about 40, about 300 (a) |
| ... 99.9th percentile, most                   | 1,581, 24,802    | unknown, 10,000 to 30,000 (a)   |
| projects with over 10,000 files               | 25               | a few (a)                       |
| projects without files                        | 3.0 %            | some per cent (a)               |
| length of a name: 10th, 50th, 90th percentile | 8, 14, 21        | mean about 14 (a)               |
| shortest, longest name                        | 3, 37            | 1, some longer than 40          |
| born: quartiles                               | 2017, 2022, 2025 | half since about 2022 (a)       |
| files that are wheels                         | 51 %             | more than half                  |
| files with core-metadata                      | 28 %             | nearly all wheels (a)           |
| files with requires-python                    | 66 %             | most (a)                        |
| yanked files                                  | 0.7 %            | less than 1 % (a)               |
| a page in JSON: median, mean                  | 2.0 kB, 10.7 kB  | follows from the files          |
| the list in JSON                              | 35 MB            | about 35 MB                     |
| a day: changed projects, of them uploads      | as asked, 88 %   | 15,000 to 20,000, most (a)      |

Percentages are of the files of 4,000 projects, bytes of a page of 20,000. It takes 7 to 11 seconds to start, 0.5 for a
day of 20,000 changes and 1.5 for the list after it; it holds 150 MB, and 290 MB while a list is sent. One core answers
some 12,000 requests a second for pages of up to 10 files, 4,000 for pages as they are spread here, and takes 0.35
seconds for the largest page, of 12 MB.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import math
import random
import re
import subprocess
import sys
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import blake2b, sha256
from http import HTTPStatus
from pathlib import Path
from struct import Struct
from typing import Final, NamedTuple
from urllib.parse import parse_qs, unquote

import httpx
import msgspec
from packaging.utils import canonicalize_name

JSON: Final = "application/vnd.pypi.simple.v1+json"
SECOND: Final = 1_000_000
DAY: Final = 86_400 * SECOND
START: Final = 1_767_225_600 * SECOND
"""The catalogue's clock before the first change: 2026-01-01T00:00:00Z. All instants are microseconds since 1970."""
FIRST_SERIAL: Final = 30_000_000
"""The serial at `START`."""
CORE_METADATA: Final = 1_683_849_600 * SECOND
"""Wheels uploaded since 2023-05-12 announce their metadata."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SPAN: Final = 5479 * DAY  # 15 years, in which all projects were born
_LAST_UPLOADS: Final = 600 * SECOND  # before the end of a day nothing begins, for a release takes minutes to upload
_UNDERSCORES: Final = 1_704_067_200 * SECOND  # sdists have `_` in their names since 2024 (PEP 625)

# The share of projects that have at least so many files.
_FILES: Final = (
    (0.97, 1), (0.8, 1), (0.5, 4.5), (0.25, 12), (0.1, 40), (0.01, 300), (1e-3, 1600), (1e-4, 5000), (1e-5, 15_000),
    (1e-6, 30_000),
)  # fmt: skip
_PLATFORMS: Final = (
    "macosx_10_9_x86_64", "macosx_11_0_arm64", "manylinux_2_17_aarch64.manylinux2014_aarch64",
    "manylinux_2_17_x86_64.manylinux2014_x86_64", "musllinux_1_2_aarch64", "musllinux_1_2_x86_64", "win32", "win_amd64",
)  # fmt: skip
_TAGS: Final = tuple(f"cp3{m}-cp3{m}-{platform}" for m in range(8, 14) for platform in _PLATFORMS)
_PYTHONS: Final = (
    (2017, ">=2.7"), (2018, ">=3.4"), (2019, ">=3.5"), (2020, ">=3.6"), (2022, ">=3.7"), (2023, ">=3.8"),
    (2025, ">=3.9"),
)  # fmt: skip
_PYTHONS_SINCE: Final = tuple(
    (datetime(year, 1, 1, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1) for year, _ in _PYTHONS
)
_REASONS: Final = (True, "broken metadata", 'installs, but "import" fails', "zurückgezogen – see #12")
_WORDS: Final = (
    "py", "django", "flask", "pytest", "odoo", "addon", "airflow", "provider", "aws", "azure", "google", "cloud", "api",
    "client", "sdk", "data", "ml", "ai", "llm", "agent", "tools", "utils", "core", "lib", "cli", "web", "http", "async",
    "json", "yaml", "sql", "db", "redis", "kafka", "graph", "plot", "image", "video", "audio", "text", "nlp", "torch",
    "tf", "model", "deep", "learn", "auto", "test", "mock", "lint", "format", "config", "env", "log", "trace",
    "metrics", "stats", "math", "geo", "map", "time", "date", "file", "path", "zip", "crypto", "auth", "token", "user",
    "mail", "chat", "bot", "telegram", "discord", "slack", "git", "docker", "kube", "deploy", "build", "package",
    "types", "stubs", "plugin", "theme", "sphinx", "jupyter", "widget", "notebook", "lab", "science", "bio", "chem",
    "quant", "trade", "finance", "bank", "pay", "shop", "game", "simple", "fast", "easy", "super", "mini", "micro",
    "open", "my", "the", "hello", "new", "example", "demo", "project", "service", "server", "proxy", "cache", "queue",
    "task", "job", "flow", "pipeline", "stream",
)  # fmt: skip
_SYLLABLES: Final = tuple(consonant + vowel for consonant in "bcdfghjklmnprstvwxz" for vowel in "aeiou")
_WORD_COUNTS: Final = (1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 4)

# The kinds of change and their shares of a day.
_KINDS: Final = {
    "upload": 0.88, "new": 0.06, "yank": 0.015, "unyank": 0.005, "delete file": 0.01, "delete release": 0.015,
    "delete project": 0.01, "restore": 0.002, "quarantine": 0.003,
}  # fmt: skip
_TRIES: Final = 200

_DRAW: Final = Struct("<8I")
_ENCODER: Final = msgspec.json.Encoder()


class Day(msgspec.Struct, frozen=True):
    """What one day of change did: the catalogue's clock and serial after it, and the projects' names by kind.

    The kinds are upload, new, yank, unyank, delete file, delete release, delete project, restore and quarantine; a
    project is under one of them.
    """

    now: int
    serial: int
    changed: dict[str, list[str]]


class _File(msgspec.Struct, rename="kebab"):
    """A file as the page lists it (PEP 691, 700, 714)."""

    core_metadata: dict[str, str] | bool
    data_dist_info_metadata: dict[str, str] | bool
    filename: str
    hashes: dict[str, str]
    requires_python: str | None
    size: int
    upload_time: str
    url: str
    yanked: bool | str
    provenance: None = None


class _Listed(msgspec.Struct):
    """A project in the list."""

    serial: int = msgspec.field(name="_last-serial")
    name: str


class _Event(NamedTuple):
    """One change of a project."""

    serial: int
    kind: str
    instant: int
    release: int = 0
    slot: int = 0


class _Project(NamedTuple):
    """What no change touches: how many files and releases at `START`, from when to when, and how releases look."""

    files: int
    releases: int
    per_release: int
    versioning: int
    born: int
    last: int
    shade: int


@dataclass(slots=True)
class State:
    """A project after some of its changes: `serial` is that of the last, `uploads` the instants of new releases."""

    number: int
    name: str
    project: _Project
    serial: int
    exists: bool
    quarantined: bool = False
    uploads: list[int] = field(default_factory=list)
    yanks: dict[int, bool] = field(default_factory=dict)
    deleted: set[tuple[int, int]] = field(default_factory=set)
    deleted_releases: set[int] = field(default_factory=set)

    def apply(self, event: _Event) -> None:
        """Take in a change."""
        self.serial = event.serial
        match event.kind:
            case "upload" | "new":
                self.exists = True
                self.uploads.append(event.instant)
            case "yank" | "unyank":
                self.yanks[event.release] = event.kind == "yank"
            case "delete file":
                self.deleted.add((event.release, event.slot))
            case "delete release":
                self.deleted_releases.add(event.release)
            case "delete project" | "restore":
                self.exists = event.kind == "restore"
            case "quarantine":
                self.quarantined = True

    def slots(self) -> Iterator[tuple[int, int]]:
        """Each file that is listed: the number of its release and its place in that."""
        project, before = self.project, self.project.releases
        for release in range(0 if self.quarantined else before + len(self.uploads)):
            if release in self.deleted_releases:
                continue
            count = project.per_release
            if release < before:
                count = min(count, project.files - release * count)
            for slot in range(count):
                if (release, slot) not in self.deleted:
                    yield release, slot

    def uploaded(self, release: int, slot: int) -> int:
        """When a file was uploaded."""
        project = self.project
        before = project.releases
        if release >= before:
            begun = self.uploads[release - before]
        else:
            begun = project.born + (project.last - project.born) * release // max(before - 1, 1)
        return begun + 2 * slot * SECOND + _mix(project.shade, release + slot) % SECOND

    def yanked(self, release: int) -> bool | str:
        """Whether a release is yanked, or why."""
        mixed = _mix(self.project.shade, release)
        return self.yanks.get(release, mixed % 150 == 0) and _REASONS[mixed % len(_REASONS)]

    def requires_python(self, release: int) -> str | None:
        """What its uploader asks of Python."""
        later = self.project.shade % 730 * DAY  # some uploaders drop old versions late
        since = bisect_right(_PYTHONS_SINCE, self.uploaded(release, 0) - later)
        if since == 0 or self.project.shade % 5 == 0:
            return None
        return _PYTHONS[since - 1][1] + ("", "", "", ",<4.0", ",<4")[self.project.shade % 7 % 5]

    def filename(self, release: int, slot: int) -> str:
        """A file's name: wheels first, the sdist last."""
        project, stem = self.project, self.name.replace("-", "_")
        version = _version(project.versioning, release)
        wheels = project.per_release - 1 or int(project.shade % 3 == 0)
        if slot < wheels:
            return f"{stem}-{version}-{_TAGS[slot] if wheels > 1 else 'py3-none-any'}.whl"
        return f"{stem if self.uploaded(release, slot) > _UNDERSCORES else self.name}-{version}.tar.gz"

    def metadata(self, release: int) -> bytes:
        """A wheel's METADATA."""
        lines = [
            "Metadata-Version: 2.1",
            f"Name: {self.name}",
            f"Version: {_version(self.project.versioning, release)}",
        ]
        requires_python = self.requires_python(release)
        if requires_python is not None:
            lines.append(f"Requires-Python: {requires_python}")
        return "\n".join([*lines, ""]).encode()


class Catalogue:
    """The catalogue: everything is computed when it is asked for, but for names, serials and the changes so far.

    Not safe for threads.
    """

    def __init__(self, projects: int, seed: int) -> None:
        """Make the catalogue as it stands at `START`, with that many projects."""
        self.seed = seed
        self.now = START
        """The catalogue's clock."""
        self.serial = FIRST_SERIAL
        self._at_start = projects
        self._key = seed.to_bytes(8, "little", signed=True)
        self._numbers: dict[str, int] = {}  # by normalised name
        self._names: list[str] = []
        self._serials = array("Q")
        self._events: dict[int, list[_Event]] = {}
        self._deleted: dict[int, None] = {}
        self._unlisted: set[int] = set()
        self._list: bytes | None = None
        for number in range(projects):
            self._add(_serial(self._project(number)))

    def __len__(self) -> int:
        """How many projects there ever were."""
        return len(self._names)

    def state(self, name: str, *, stale: bool = False) -> State | None:
        """Return a project by its normalised name, None if there is none; if `stale` as before its last change.

        A project that never changed has as its stale state the same files and a lower serial.
        """
        number = self._numbers.get(name)
        if number is None:
            return None
        state = self._state(number, stale=stale)
        return state if state.exists else None

    def page(self, state: State, origin: str) -> bytes:
        """Render a project's page; its links begin with `origin`."""
        files = [self._file(state, release, slot, origin) for release, slot in state.slots()]
        releases = dict.fromkeys(release for release, _ in state.slots())
        page = {
            "alternate-locations": [],
            "files": files,
            "meta": {"_last-serial": state.serial, "api-version": "1.4"},
            "name": state.name,
            "project-status": {"status": "quarantined" if state.quarantined else "active"},
            "versions": [_version(state.project.versioning, release) for release in releases],
        }
        return _ENCODER.encode(page)

    def project_list(self) -> bytes:
        """Render the list of projects. Kept until the next change."""
        if self._list is None:
            body = bytearray(b'{"meta":{"_last-serial":%d,"api-version":"1.4"},"projects":[' % self.serial)
            separator = b""
            for name in sorted(self._numbers):
                number = self._numbers[name]
                if number not in self._unlisted:
                    body += separator + _ENCODER.encode(_Listed(self._serials[number], _spelling(name, number)))
                    separator = b","
            body += b"]}"
            self._list = bytes(body)
        return self._list

    def file(self, path: str) -> bytes | None:
        """Return what is at a path `/files/...`, None if nothing is."""
        address = path.removesuffix(".metadata")
        filename = address.rpartition("/")[2]
        name = filename.partition("-")[0] if filename.endswith(".whl") else filename.rpartition("-")[0]
        state = self.state(canonicalize_name(name))
        if state is None:
            return None
        for release, slot in state.slots():
            if state.filename(release, slot) == filename:
                file = self._file(state, release, slot, "")
                if file.url != address:
                    return None
                if address == path:
                    return self._content(filename)
                return state.metadata(release) if file.core_metadata else None
        return None

    def change(self, seed: int, changed: int) -> Day:
        """Let a day pass in which `changed` projects change, each once. Equal seeds change an equal catalogue equally.

        Uploads are mostly to projects that have many files already. What a project cannot have, such as a yank
        without files, becomes an upload, and an upload without a project that is left a new project.
        """
        rng = random.Random(seed)
        begin, self.now = self.now, self.now + DAY
        instants = sorted(rng.randrange(begin + SECOND, self.now - _LAST_UPLOADS) for _ in range(changed))
        names: dict[str, list[str]] = {kind: [] for kind in _KINDS}
        touched: set[int] = set()
        for instant in instants:
            self.serial += 1
            number, event = self._draw_event(rng, instant, touched)
            touched.add(number)
            self._record(number, event)
            names[event.kind].append(self._names[number])
        self._list = None
        return Day(self.now, self.serial, names)

    # --- projects

    def _add(self, serial: int) -> int:
        number = len(self._names)
        name = self._new_name(number)
        self._numbers[name] = number
        self._names.append(name)
        self._serials.append(serial)
        return number

    def _draw(self, what: bytes, number: int) -> tuple[int, ...]:
        digest = blake2b(number.to_bytes(8, "little"), digest_size=_DRAW.size, key=self._key, person=what)
        return _DRAW.unpack(digest.digest())

    def _new_name(self, number: int) -> str:
        """A name of 3 to 40 characters that no project has: of words, and of words that are made up."""
        for attempt in itertools.count():
            count, kinds, digits, *draws = self._draw(b"name", number + (attempt << 40))
            words = [_word(draw, kinds >> 3 + 2 * place & 3) for place, draw in enumerate(draws)]
            name = ("" if kinds % 8 == 7 else "-").join(words[: _WORD_COUNTS[count % len(_WORD_COUNTS)]])
            if attempt:
                name += str(digits % 100)
            if 3 <= len(name) <= 40 and name not in self._numbers:
                return name
        raise AssertionError

    def _project(self, number: int) -> _Project:
        share, age, active, releases, versioning, shade, *_ = self._draw(b"project", number)
        if number >= self._at_start:  # it is born with its first upload, which is a change
            return _Project(0, 0, 1 + releases % 2, versioning % 5, START, START, shade)
        files = _file_count((share + 1) / 2**32)
        born = START - _LAST_UPLOADS - int((_SPAN - _LAST_UPLOADS) * (age / 2**32) ** 2)
        per_release = _per_release(files, releases)
        last = born + int((START - _LAST_UPLOADS - born) * active / 2**32) if files > per_release else born
        return _Project(files, -(-files // per_release), per_release, versioning % 5, born, last, shade)

    def _state(self, number: int, *, stale: bool = False) -> State:
        project = self._project(number)
        state = State(number, self._names[number], project, _serial(project), exists=number < self._at_start)
        events = self._events.get(number, [])
        if stale and not events:
            state.serial -= 1
        for event in events[:-1] if stale else events:
            state.apply(event)
        return state

    def _file(self, state: State, release: int, slot: int, origin: str) -> _File:
        filename, uploaded = state.filename(release, slot), state.uploaded(release, slot)
        content = self._content(filename)
        address = blake2b(content, digest_size=32).hexdigest()
        metadata: dict[str, str] | bool = False
        if uploaded >= CORE_METADATA and filename.endswith(".whl"):
            metadata = {"sha256": sha256(state.metadata(release)).hexdigest()}
        return _File(
            core_metadata=metadata,
            data_dist_info_metadata=metadata,
            filename=filename,
            hashes={"sha256": sha256(content).hexdigest()},
            requires_python=state.requires_python(release),
            size=len(content),
            upload_time=(_EPOCH + timedelta(microseconds=uploaded)).isoformat(timespec="microseconds")[:26] + "Z",
            url=f"{origin}/files/{address[:2]}/{address[2:4]}/{address[4:]}/{filename}",
            yanked=state.yanked(release),
        )

    def _content(self, filename: str) -> bytes:
        return f"{filename} of the catalogue {self.seed}\n".encode() * (1 + len(filename) % 7)

    # --- changes

    def _draw_event(self, rng: random.Random, instant: int, touched: set[int]) -> tuple[int, _Event]:
        kind = rng.choices(list(_KINDS), list(_KINDS.values()))[0]
        for wanted in [kind] * _TRIES + ["upload"] * _TRIES if kind != "new" else []:
            number = self._candidate(rng, wanted)
            if number is not None and number not in touched:
                event = self._event(rng, wanted, number, instant)
                if event is not None:
                    return number, event
        return self._add(0), _Event(self.serial, "new", instant)

    def _candidate(self, rng: random.Random, kind: str) -> int | None:
        if kind == "restore":
            return rng.choice(list(self._deleted)) if self._deleted else None
        drawn = [rng.randrange(len(self)) for _ in range(3 if kind == "upload" else 1)] if len(self) else []
        return max(drawn, key=lambda number: self._project(number).files, default=None)

    def _event(self, rng: random.Random, kind: str, number: int, instant: int) -> _Event | None:
        """That change of the project, None if it cannot be."""
        state = self._state(number)
        if kind == "restore":
            return _Event(self.serial, kind, instant)
        if not state.exists or state.quarantined:
            return None
        if kind in ("upload", "delete project", "quarantine"):
            return _Event(self.serial, kind, instant)
        slots = list(state.slots())
        if kind in ("yank", "unyank"):
            slots = [slot for slot in slots if bool(state.yanked(slot[0])) is (kind == "unyank")]
        return _Event(self.serial, kind, instant, *rng.choice(slots)) if slots else None

    def _record(self, number: int, event: _Event) -> None:
        self._events.setdefault(number, []).append(event)
        self._serials[number] = event.serial
        if event.kind == "delete project":
            self._deleted[number] = None
        if event.kind in ("delete project", "quarantine"):
            self._unlisted.add(number)
        if event.kind == "restore":
            del self._deleted[number]
            self._unlisted.discard(number)


def _serial(project: _Project) -> int:
    """The serial of a project's last change before `START`."""
    return 1 + (FIRST_SERIAL - 1) * (project.last - START + _SPAN) // _SPAN


def _file_count(share: float) -> int:
    """How many files the project has that this share of all projects is not below."""
    if share > _FILES[0][0]:
        return 0
    for (share_before, before), (share_after, after) in itertools.pairwise(_FILES):
        if share >= share_after:
            way = math.log(share / share_before) / math.log(share_after / share_before)
            return int(before * (after / before) ** way)
    return int(_FILES[-1][1])


def _per_release(files: int, draw: int) -> int:
    """How many files a release has: an sdist or a wheel or both, or wheels for many platforms."""
    if files >= 40 and draw % 5 == 0:
        return 3 + draw // 5 % (len(_TAGS) - 2)
    return 1 if draw % 10 < 3 else 2


def _version(versioning: int, release: int) -> str:
    """The version of a project's release by number: higher for each."""
    match versioning:
        case 0:
            return f"0.{release // 10}.{release % 10}"
        case 1:
            return f"{(release + 6) // 60}.{(release + 6) // 6 % 10}.{release % 6}"
        case 2:
            return f"1.0.{release}"
        case 3:
            return f"{2015 + release // 24}.{release // 2 % 12 + 1}.{release % 2}"
        case _:
            return f"{1 + release // 8}.{release // 2 % 4}" + ("" if release % 2 else "rc1")


def _word(draw: int, kind: int) -> str:
    if kind:
        return _WORDS[draw % len(_WORDS)]
    count = 2 + (draw >> 24) % 3
    return "".join(_SYLLABLES[draw // len(_SYLLABLES) ** place % len(_SYLLABLES)] for place in range(count))


def _spelling(name: str, number: int) -> str:
    """A name as its owner spells it."""
    match _mix(number, 1) % 16:
        case 0 | 1:
            return name.replace("-", "_")
        case 2:
            return name.replace("-", ".")
        case 3:
            return name.title()
        case _:
            return name


def _mix(one: int, other: int) -> int:
    """A number of 24 bits that looks random."""
    mixed = (one ^ other * 0x9E3779B1) * 0x85EBCA6B & 0xFFFFFFFF
    return (mixed ^ mixed >> 15) * 0xC2B2AE35 >> 4 & 0xFFFFFF


# --- the server


class _Answer(NamedTuple):
    status: int
    body: bytes = b""
    headers: str = ""


_IF_NONE_MATCH = re.compile(rb"\r\nif-none-match:[ \t]*([^\r\n]*)", re.IGNORECASE)
_RETRY = "Retry-After: 1\r\n"
_FAULTS = ("429", "503", "stale")


class _Server:
    """Answers requests for a catalogue, and counts them."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.origin = ""
        self._catalogue = catalogue
        self._counts: Counter[str] = Counter()
        self._faults: Counter[tuple[str, str]] = Counter()

    def answer(self, method: str, target: str, head: bytes) -> _Answer:
        """Answer a request; `head` is its whole head."""
        path, _, query = target.partition("?")
        if path.startswith("/-/"):
            try:
                return self._control(method, path, {name: values[-1] for name, values in parse_qs(query).items()})
            except (KeyError, ValueError) as error:
                return _Answer(400, repr(error).encode())
        name = path.removeprefix("/simple/") if path.startswith("/simple/") else ""
        project = canonicalize_name(name.rstrip("/"))
        what = "page" if name else "list" if path == "/simple/" else "file"
        for status in (429, 503):
            if self._fails(str(status), project):
                return self._counted(what, _Answer(status, b"later\n", _RETRY))
        if method != "GET":
            return self._counted(what, _Answer(405, b"", "Allow: GET\r\n"))
        if what == "file":
            content = self._catalogue.file(unquote(path))
            return self._counted(what, _Answer(404) if content is None else _Answer(200, content))
        return self._index(name, project, what, head)

    def _index(self, name: str, project: str, what: str, head: bytes) -> _Answer:
        if not name:
            return self._conditional(what, self._catalogue.serial, head) or self._counted(
                what, self._page(self._catalogue.serial, self._catalogue.project_list())
            )
        if name != f"{project}/":
            return self._counted(what, _Answer(301, b"", f"Location: /simple/{project}/\r\n"))
        stale = self._fails("stale", project)
        if stale:
            what = "page stale"
        state = self._catalogue.state(project, stale=stale)
        if state is None:
            return self._counted(what, _Answer(404))
        return self._conditional(what, state.serial, head) or self._counted(
            what, self._page(state.serial, self._catalogue.page(state, self.origin))
        )

    def _conditional(self, what: str, serial: int, head: bytes) -> _Answer | None:
        found = _IF_NONE_MATCH.search(head)
        if found is None or f'"{serial}"'.encode() not in found[1]:
            return None
        return self._counted(what, _Answer(304, b"", f'ETag: "{serial}"\r\nX-PyPI-Last-Serial: {serial}\r\n'))

    def _page(self, serial: int, body: bytes) -> _Answer:
        headers = f'Content-Type: {JSON}\r\nVary: Accept\r\nETag: "{serial}"\r\nX-PyPI-Last-Serial: {serial}\r\n'
        return _Answer(200, body, headers)

    def _counted(self, what: str, answer: _Answer) -> _Answer:
        self._counts[what if answer.status == 200 else f"{what} {answer.status}"] += 1
        return answer

    def _fails(self, kind: str, name: str) -> bool:
        """Whether a fault was asked for that strikes now."""
        for key in ((kind, name), (kind, "")):
            if self._faults[key]:
                self._faults[key] -= 1
                return True
        return False

    def _control(self, method: str, path: str, query: dict[str, str]) -> _Answer:
        match method, path:
            case "GET", "/-/counts":
                return _Answer(200, _ENCODER.encode(dict(self._counts)))
            case "POST", "/-/change":
                return _Answer(200, _ENCODER.encode(self._catalogue.change(int(query["seed"]), int(query["count"]))))
            case "POST", "/-/fault" if query["kind"] in _FAULTS:
                self._faults[query["kind"], canonicalize_name(query.get("project", ""))] += int(query["count"])
                return _Answer(200)
        return _Answer(400)


class _Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive and pipelining; requests have no bodies."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self._buffer = b""
        self._transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while b"\r\n\r\n" in self._buffer:
            head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
            self._respond(head)

    def _respond(self, head: bytes) -> None:
        method, target, _ = head.partition(b"\r\n")[0].decode("latin-1").split(" ", 2)
        status, body, headers = self._server.answer(method, target, head)
        length = "" if status == 304 else f"Content-Length: {len(body)}\r\n"
        start = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{length}{headers}\r\n"
        self._transport.write(start.encode("latin-1"))
        self._transport.write(body)


async def _serve(catalogue: Catalogue, port: int) -> None:
    server = _Server(catalogue)
    listening = await asyncio.get_running_loop().create_server(lambda: _Connection(server), "127.0.0.1", port)
    server.origin = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    print(f"{server.origin}/simple/", flush=True)
    await listening.serve_forever()


class Running:
    """The server as a process of its own, on a free port; a context manager. `url` is its index, with its slash."""

    def __init__(self, projects: int, seed: int = 0) -> None:
        """Start it, and wait until it listens. Raises RuntimeError if it ends instead."""
        command = [sys.executable, "-m", "benchmarks.catalogue", "--projects", str(projects), "--seed", str(seed)]
        root = Path(__file__).resolve().parents[1]
        self._process = subprocess.Popen(command, cwd=root, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        self._client = httpx.Client(base_url=self.url, timeout=600, trust_env=False)
        if not self.url:
            self.close()
            raise RuntimeError("the catalogue's server ended before it listened")

    def change(self, count: int, seed: int) -> Day:
        """Let a day pass in which `count` projects change; see `Catalogue.change`."""
        answer = self._control("POST", "/-/change", {"count": count, "seed": seed})
        return msgspec.json.decode(answer.content, type=Day)

    def counts(self) -> dict[str, int]:
        """Return the number of answers by kind.

        A kind is list, page or file; behind it `stale` for a stale page, and the status if that is not 200.
        """
        return msgspec.json.decode(self._control("GET", "/-/counts").content, type=dict[str, int])

    def fault(self, kind: str, count: int, project: str = "") -> None:
        """Answer the next `count` requests wrongly: those for one project's page, or for anything if it is "".

        `429` and `503` have `Retry-After: 1`; `stale` is a project's page as before its last change.
        """
        self._control("POST", "/-/fault", {"kind": kind, "count": count, "project": project})

    def close(self) -> None:
        """End the process."""
        self._client.close()
        self._process.terminate()
        self._process.communicate()

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _control(self, method: str, path: str, query: dict[str, str | int] | None = None) -> httpx.Response:
        url = self._client.base_url.copy_with(path=path)
        return self._client.request(method, url, params=query).raise_for_status()


def main() -> None:
    """Serve a catalogue until the process is ended."""
    parser = argparse.ArgumentParser(description="Serve a generated catalogue with the shape of PyPI's.")
    parser.add_argument("--projects", type=int, default=700_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--port", type=int, default=0, help="of 127.0.0.1; a free one if it is left out")
    options = parser.parse_args()
    asyncio.run(_serve(Catalogue(options.projects, options.seed), options.port))


if __name__ == "__main__":
    main()

"""Two pages about many projects: what differs between two dates, and at which instants a build can have broken."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import NamedTuple

import anyio.to_thread
from packaging.utils import InvalidName, canonicalize_name

from httpcache.page import Shown, Visit
from httpcache.store.store import Store
from pypi_adapter.addresses import AsOf, segment
from pypi_adapter.history.history import Entry, History, NotObserved
from pypi_adapter.history.project_log import entries_log
from pypi_adapter.history.timeline import Event, Kind, timeline
from pypi_adapter.instants import to_segment
from pypi_adapter.simple.difference import Difference, difference
from pypi_adapter.simple.telling import as_json, markdown

from .known import Known, chosen
from .projects import read_when

NAMES = 100  # projects that are looked at
CHANGES = 1000  # files or instants that are shown
NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
KINDS: Mapping[Kind, str] = {
    Kind.UPLOADED: "uploaded",
    Kind.SEEN: "first seen",
    Kind.OTHER_UPLOADED: "other content under the same name",
    Kind.OTHER_SEEN: "other content under the same name",
    Kind.OTHER_BACK: "earlier content under the same name",
    Kind.BACK: "back",
    Kind.GONE: "gone",
    Kind.YANKED: "yanked",
    Kind.UNYANKED: "no longer yanked",
    Kind.REQUIRES_PYTHON: "requires another Python",
    Kind.PROJECT_GONE: "the project is gone",
    Kind.PROJECT_BACK: "the project is back",
}
"""What can change what a resolver chooses."""
UPLOADS = (Kind.UPLOADED, Kind.OTHER_UPLOADED)
"""These have the upload time; an index has the file a microsecond later."""


@dataclass(frozen=True)
class Form:
    """What was asked: the two instants as they are written in an address, and names as they were typed."""

    registry: str
    registries: Sequence[str]
    begin: str
    end: str
    text: str
    wrong: str

    @property
    def is_builtin(self) -> bool:
        """Whether the registry is the one whose addresses begin with no name."""
        return self.registry == self.registries[0]


class Differing(NamedTuple):
    """A project and what differs of it."""

    name: str
    found: Difference


@dataclass(frozen=True)
class Differences:
    """What differs; `found` is None if nothing was asked. `missing`: projects that cannot be compared, and why."""

    form: Form
    found: Sequence[Differing] | None
    missing: Sequence[tuple[str, str]]
    left_out: int
    command: str
    markdown: str
    json: str


class Candidate(NamedTuple):
    """What happened to files of a version, and the first instant (as a number, and as in an address) that has it so."""

    instant: int
    when: str
    project: str
    version: str
    what: str
    files: Sequence[str]

    def as_json(self) -> str:
        """Return it as an object."""
        names = ("project", "version", "what", "files")
        return json.dumps({"instant": self.when, **{name: getattr(self, name) for name in names}})


@dataclass(frozen=True)
class Candidates:
    """What happened between two dates, in order, at how many `instants`; `found` is None if nothing was asked."""

    form: Form
    found: Sequence[Candidate] | None
    missing: Sequence[tuple[str, str]]
    instants: int
    left_out: int
    command: str
    json: str


async def differences(store: Store, known: Sequence[Known], visit: Visit) -> Shown:
    """Show what differs of projects between `?from=` and `?to=`. Raises NotFound, StoreError."""
    return await _page(store, known, visit, _differences, "pypi_adapter/changes.html")


async def candidates(store: Store, known: Sequence[Known], visit: Visit) -> Shown:
    """Show the instants between `?from=` and `?to=` at which projects changed. Raises NotFound, StoreError."""
    return await _page(store, known, visit, _candidates, "pypi_adapter/bisect.html")


Histories = Mapping[str, Sequence[Entry]]
Work = Callable[[Form, tuple[int, int] | None, Histories, str], Differences | Candidates]


async def _page(store: Store, known: Sequence[Known], visit: Visit, work: Work, template: str) -> Shown:
    one = chosen(known, visit)
    form, instants = _form(one, known, visit)
    names = project_names(form.text) if instants else []
    histories = {name: await entries_log(store, one.registry.name, name).all() for name in names}
    page = await anyio.to_thread.run_sync(partial(work, form, instants, histories, visit.address))
    return Shown(template, page, 400 if form.wrong else 200)


def _form(one: Known, known: Sequence[Known], visit: Visit) -> tuple[Form, tuple[int, int] | None]:
    """Return what was asked, and the two instants unless something is missing or wrong."""
    begin, end, text = (visit.query.get(key, "").strip() for key in ("from", "to", "projects"))
    read = [read_when(each, 0) for each in (begin, end) if each]
    wrong = next((wrong for _, wrong in read if wrong), "")
    names = project_names(text)
    if not wrong and len(read) == 2 and read[0][0] > read[1][0]:
        wrong = "The first date is after the second one."
    if not wrong and text and not names:
        wrong = "Write names of projects, one on a line."
    if not wrong and len(names) > NAMES:
        wrong = f"These are {len(names)} projects: {NAMES} are looked at at most."
    if not wrong and len(read) == 2:
        begin, end = (segment(AsOf(instant)) for instant, _ in read)
    form = Form(one.registry.name, [each.registry.name for each in known], begin, end, text, wrong)
    return form, (read[0][0], read[1][0]) if names and len(read) == 2 and not wrong else None


def project_names(text: str) -> list[str]:
    """Return the projects that a text names, normalised: names, or lines of a requirements file."""
    found: dict[str, None] = {}
    for line in text.splitlines():
        words = re.split(r"[,\s]+", line.partition("#")[0].strip())
        if not all(map(NAME.fullmatch, words)):  # a requirement: its name stands first
            first = NAME.match(line.strip())
            words = [first[0]] if first else []
        found |= dict.fromkeys(_normal(word) for word in words)
    return [name for name in found if name]


def _normal(text: str) -> str:
    try:
        return canonicalize_name(text, validate=True)
    except InvalidName:
        return ""


def _command(form: Form, address: str, *words: str) -> str:
    index = [] if form.is_builtin else ["--index", form.registry]
    return shlex.join(["httpcache", *words, *index, "--mirror", address])


def _differences(form: Form, instants: tuple[int, int] | None, histories: Histories, address: str) -> Differences:
    if instants is None:
        return Differences(form, None, (), 0, "", "", "")
    every: list[Differing] = []
    missing: list[tuple[str, str]] = []
    for name, entries in histories.items():
        try:
            history = History(entries)
            every.append(Differing(name, difference(*(history.as_of(instant) for instant in instants))))
        except NotObserved:
            missing.append((name, _unobserved(entries)))
    found, left_out = _bounded([each for each in every if each.found.changes])
    lines = [f"### From {form.begin} to {form.end}", ""]
    lines += [line for each in found for line in markdown(each.name, each.found)]
    texts = "\n".join(as_json(each.name, each.found) for each in found)
    command = _command(form, address, "diff", form.begin, form.end, *histories)
    return Differences(form, found, missing, left_out, command, "\n".join(lines).rstrip(), texts)


def _bounded(every: Sequence[Differing]) -> tuple[list[Differing], int]:
    """Return as much as is shown, and the number of changes that are not."""
    found, room = [], CHANGES
    for each in every:
        changes = each.found.changes[:room]
        room -= len(changes)
        if changes:
            found.append(Differing(each.name, each.found._replace(changes=changes)))
    return found, sum(len(each.found.changes) for each in every) - (CHANGES - room)


def _unobserved(entries: Sequence[Entry]) -> str:
    last = f"last observed at {to_segment(entries[-1].instant)}" if entries else "not observed here"
    return f"{last}: open its index at the second date first"


def _candidates(form: Form, instants: tuple[int, int] | None, histories: Histories, address: str) -> Candidates:
    if instants is None:
        return Candidates(form, None, (), 0, 0, "", "")
    low, high = instants
    missing = [
        (name, _unobserved(entries)) for name, entries in histories.items() if not entries or entries[-1].instant < high
    ]
    every = sorted(
        each for name, entries in histories.items() for each in _happened(name, timeline(entries), low, high)
    )
    found = every[:CHANGES]
    words = ("bisect", "--good", form.begin, "--bad", form.end, "-r", "requirements.txt")
    return Candidates(
        form,
        found,
        missing,
        len({each.instant for each in every}),
        len(every) - len(found),
        f"{_command(form, address, *words)} -- pytest",
        "\n".join(each.as_json() for each in found),
    )


def _happened(name: str, events: Sequence[Event], low: int, high: int) -> Iterator[Candidate]:
    """Yield what can change what a resolver chooses, by instant."""
    groups: dict[tuple[int, str, str], list[str]] = {}
    for event in events:
        instant = event.instant + (event.kind in UPLOADS)
        if low < instant <= high and event.kind in KINDS:
            key = instant, event.version or "", KINDS[event.kind]
            groups.setdefault(key, []).append(event.filename or "")
    for (instant, version, what), files in groups.items():
        yield Candidate(instant, to_segment(instant), name, version, what, sorted(islice(filter(None, files), 100)))

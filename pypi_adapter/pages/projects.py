"""The pages of projects: which there are, the history of one with its page at an instant, and two instants compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

import anyio.to_thread
from packaging.utils import InvalidName, canonicalize_name

from httpcache.errors import BadAddress, NotFound
from httpcache.page import Shown, Visit
from httpcache.store.store import Store
from pypi_adapter.addresses import AsOf, parse_when, segment
from pypi_adapter.history.history import Entry, History, NotObserved
from pypi_adapter.history.project_log import entries_log
from pypi_adapter.history.rescue_log import RescueLog, RescueOutcome
from pypi_adapter.history.timeline import Kind, Line, lines, timeline
from pypi_adapter.instants import now
from pypi_adapter.policy.policy import Policy
from pypi_adapter.policy.rule_log import RuleLog
from pypi_adapter.simple.difference import Difference, difference
from pypi_adapter.simple.model import File, Page, ProjectStatus
from pypi_adapter.simple.versions import by_version, versions_of

from .drawing import Drawing, draw, lane_of
from .known import Known, chosen

NAMES = 200  # on a page
LINES = 100  # of a history, on a page
RELEASES = 300
CAPTURES = 1000  # marks


@dataclass(frozen=True)
class Projects:
    """Names of projects, by registry, and what was searched for."""

    part: str
    registry: str
    registries: Sequence[str]
    names: Sequence[str]
    more: bool


@dataclass(frozen=True)
class Release:
    """A version at an instant: its files, how many are yanked, and why files are withheld, if they are."""

    version: str
    files: int
    size: int
    yanked: int
    withheld: int
    reason: str


@dataclass(frozen=True)
class AtInstant:
    """A project at an instant, written as in an address. `exists`: it did. `path`: that of the index then."""

    when: str
    path: str
    exists: bool
    wrong: str
    status: ProjectStatus | None
    releases: Sequence[Release]
    left_out: int


@dataclass(frozen=True)
class ProjectPage:
    """A project's history: the newest lines first, those of page `page` of `pages`."""

    name: str
    registry: str
    is_builtin: bool
    exists: bool
    status: ProjectStatus | None
    blocked: str
    last: int
    drawing: Drawing
    lines: Sequence[tuple[str, Line]]
    count: int
    page: int
    pages: int
    at: AtInstant


@dataclass(frozen=True)
class Compared:
    """Two instants of a project, and what differs; `wrong` says why they cannot be compared."""

    name: str
    registry: str
    is_builtin: bool
    begin: str
    end: str
    wrong: str
    found: Difference | None


async def projects(store: Store, known: Sequence[Known], visit: Visit) -> Shown:
    """Show the projects that were requested of a registry."""
    one = chosen(known, visit)
    part = visit.query.get("q", "").strip()
    wanted = _normal(part) or part.lower()
    every = await one.registry.requested.all()
    names = list(islice((name for name in every if wanted in name), NAMES + 1))
    if wanted and wanted not in names and await _entries(store, one, wanted):
        names.insert(0, wanted)
    found = [each.registry.name for each in known]
    page = Projects(part, one.registry.name, found, sorted(names[:NAMES]), len(names) > NAMES)
    return Shown("pypi_adapter/projects.html", page)


async def project(store: Store, known: Sequence[Known], visit: Visit) -> Shown:
    """Show the history of a project, and its page at `?at=`. Raises NotFound, StoreError."""
    one, name = chosen(known, visit), _named(visit)
    entries = await _entries(store, one, name)
    if not entries:
        raise NotFound("the project has not been observed: request it first, at a date or at /live/")
    outcomes = await RescueLog(store, one.registry.name, name).all()
    passes = await one.registry.passes.counted()
    marks = [Line(done.instant, Kind.UNCHANGED, 1, f"capture ({done.scope})") for done in passes[-CAPTURES:]]
    commands = [command for command in await RuleLog(store).all() if command.subject.project == name]
    rules = [
        Line(command.instant, Kind.WITHHELD, 1, f"{command.kind} {command.subject}: {command.reason}")
        for command in commands
    ]
    tell = partial(_told, one, name, entries, outcomes, marks, rules, await one.policy.current(), visit)
    return Shown("pypi_adapter/project.html", await anyio.to_thread.run_sync(tell))


def _told(
    one: Known,
    name: str,
    entries: Sequence[Entry],
    outcomes: Sequence[RescueOutcome],
    captures: Sequence[Line],
    rules: Sequence[Line],
    policy: Policy,
    visit: Visit,
) -> ProjectPage:
    history = History(entries)
    told = lines(timeline(entries, outcomes))
    listed = sorted(
        [*((lane_of(line.kind), line) for line in told), *(("Rules", line) for line in rules)], key=_instant
    )
    shown = visit.part(listed[::-1], LINES)
    rule = policy.rules.project(name)
    return ProjectPage(
        name=name,
        registry=one.registry.name,
        is_builtin=not one.registry.path,
        exists=history.exists,
        status=history.status,
        blocked=f"{rule.reason} ({rule.source})" if rule else "",
        last=history.instant or 0,
        drawing=draw(told, {"Captures": captures, "Rules": rules}, now()),
        lines=shown.rows,
        count=len(listed),
        page=shown.page,
        pages=shown.pages,
        at=_at_instant(one, name, history, policy, visit.query.get("at", "").strip()),
    )


def _instant(pair: tuple[str, Line]) -> int:
    return pair[1].instant


def _at_instant(one: Known, name: str, history: History, policy: Policy, asked: str) -> AtInstant:
    last = history.instant or 0
    instant, wrong = (last, "") if not asked else read_when(asked, last)
    when = segment(AsOf(instant)) if not wrong else asked
    path = f"{one.registry.path}/{when}/{name}/"
    if wrong:
        return AtInstant(when, "", False, wrong, None, (), 0)
    try:
        page = history.as_of(instant)
    except NotObserved:
        return AtInstant(
            when, path, False, "The project has not been observed since then: open its index first.", None, (), 0
        )
    found = _releases(page, partial(policy.withheld, name, status=history.status)) if page else []
    return AtInstant(
        when, path, page is not None, "", page.status if page else None, found[:RELEASES], max(0, len(found) - RELEASES)
    )


def _releases(page: Page, withheld: partial[str | None]) -> list[Release]:
    """Return the releases on a page, the newest first."""
    by: dict[str, list[File]] = {}
    versions = versions_of([file.filename for file in page.files], page.versions or ())
    for file, version in zip(page.files, versions, strict=True):
        by.setdefault(version or "", []).append(file)
    found = []
    for version in sorted(by, key=by_version, reverse=True):
        files = by[version]
        reasons = [reason for file in files if (reason := withheld(file=file))]
        found.append(
            Release(
                version,
                len(files),
                sum(file.size or 0 for file in files),
                sum(bool(file.yanked) for file in files),
                len(reasons),
                reasons[0] if reasons else "",
            )
        )
    return found


async def compared(store: Store, known: Sequence[Known], visit: Visit) -> Shown:
    """Show what differs between `?from=` and `?to=`. Raises NotFound, StoreError."""
    one, name = chosen(known, visit), _named(visit)
    entries = await _entries(store, one, name)
    if not entries:
        raise NotFound("the project has not been observed: request it first, at a date or at /live/")
    page = await anyio.to_thread.run_sync(_compared, one, name, entries, visit)
    return Shown("pypi_adapter/compared.html", page, 400 if page.wrong else 200)


def _compared(one: Known, name: str, entries: Sequence[Entry], visit: Visit) -> Compared:
    history, last = History(entries), entries[-1].instant
    texts = [visit.query.get(key, "").strip() for key in ("from", "to")]
    read = [read_when(text, last) if text else (last, "") for text in texts]
    wrong = next((wrong for _, wrong in read if wrong), "")
    found = None
    if not wrong and texts[0]:
        try:
            found = difference(*(history.as_of(instant) for instant, _ in read))
        except NotObserved:
            wrong = "The project has not been observed since then: open its index at that date first."
    begin, end = (text if bad else segment(AsOf(instant)) for text, (instant, bad) in zip(texts, read, strict=True))
    return Compared(name, one.registry.name, not one.registry.path, begin if texts[0] else "", end, wrong, found)


def read_when(text: str, last: int) -> tuple[int, str]:
    """Return the instant that a text names, and what is wrong with it."""
    try:
        when = parse_when(text, now())
    except BadAddress as error:
        return last, error.text
    if isinstance(when, AsOf):
        return when.instant, ""
    return last, "Write a date, YYYY-MM-DD, or an instant, YYYY-MM-DDThh:mm:ssZ."


async def _entries(store: Store, one: Known, name: str) -> Sequence[Entry]:
    """Return the entries of a project's log, none if none of them is an observation. Raises StoreError."""
    entries = await entries_log(store, one.registry.name, name).all()
    return () if all(entry.imported for entry in entries) else entries


def _named(visit: Visit) -> str:
    name = _normal(visit.parts["project"])
    if not name:
        raise NotFound("this is not a valid project name (PEP 508)")
    return name


def _normal(text: str) -> str:
    """Return a normalised name, "" if it is not valid."""
    try:
        return canonicalize_name(text, validate=True)
    except InvalidName:
        return ""

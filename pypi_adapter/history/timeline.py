"""What happened to a project according to its logs of observations and rescues, as events and as lines. Pure.

Times are those that `History.as_of` uses: a file's upload time if that counts, else the observation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Any, NamedTuple

import msgspec

from pypi_adapter.instants import read_instant, to_datetime, to_instant
from pypi_adapter.simple.model import File, Identity, identity

from .history import Entry, Project, Showing, trusted_upload
from .rescue_log import GONE, RESCUED, WITHHELD, RescueOutcome

HOUR = 3_600_000_000
"""Microseconds within which files of one version count as uploaded together."""

_FIRST = to_instant(datetime.min.replace(tzinfo=UTC))
_LAST = to_instant(datetime.max.replace(tzinfo=UTC))
_LONGEST = 200  # characters of a name or a reason that are shown


class Kind(Enum):
    """What can happen: to the log and the project, to a file, and to a missing file."""

    IMPORTED = auto()
    FIRST_OBSERVED = auto()
    FIRST_ABSENT = auto()
    UNCHANGED = auto()
    PROJECT_APPEARED = auto()
    PROJECT_GONE = auto()
    PROJECT_BACK = auto()
    PROJECT_CHANGED = auto()
    STATUS = auto()

    UPLOADED = auto()
    SEEN = auto()
    OTHER_UPLOADED = auto()
    OTHER_SEEN = auto()
    OTHER_BACK = auto()
    BACK = auto()
    GONE = auto()
    ALREADY_YANKED = auto()
    YANKED = auto()
    UNYANKED = auto()
    REQUIRES_PYTHON = auto()
    CHANGED = auto()

    RESCUED = auto()
    ALREADY_GONE = auto()
    WITHHELD = auto()


_OUTCOMES = {RESCUED: Kind.RESCUED, GONE: Kind.ALREADY_GONE, WITHHELD: Kind.WITHHELD}


class Event(msgspec.Struct, frozen=True):
    """One thing that happened. Instants are microseconds since 1970-01-01T00:00:00Z.

    `instant` is when it happened, for an upload the upload time; `observed` is the observation that showed it.
    `filename` is None if the event is about the whole project. `was` and `now` are what the index wrote, unescaped: the
    reason, the status, the content, the fields that differ, or for a file first seen its upload time. For a rescue,
    `observed` is when it was made, and `now` is the reason or the size.
    """

    instant: int
    observed: int
    kind: Kind
    filename: str | None = None
    version: str | None = None
    was: str | None = None
    now: str | None = None


def timeline(history_entries: Sequence[Entry], outcomes: Sequence[RescueOutcome] = ()) -> list[Event]:
    """Return everything in a project's logs in order of time, and within the same instant in order of observation.

    Every entry gives at least one event, and every outcome of a missing file exactly one. Raises KeyError if an entry
    misses a file that no earlier entry showed.
    """
    reader = _Reader()
    events = [event for entry in history_entries for event in reader.events(entry)]
    return sorted([*events, *map(_rescue, outcomes)], key=lambda event: event.instant)


def _rescue(outcome: RescueOutcome) -> Event:
    detail = outcome.reason if outcome.size is None else f"{outcome.size} bytes"
    return Event(outcome.instant, outcome.instant, _OUTCOMES[outcome.outcome], outcome.filename, now=detail)


class Line(NamedTuple):
    """A line for people: when (microseconds), what kind of thing happened, how many times or to how many files."""

    instant: int
    kind: Kind
    times: int
    text: str


def lines(events: Iterable[Event]) -> list[Line]:
    """Return lines for people, in order of time.

    What happened to files of one version at one observation is one line, and so are consecutive observations without a
    change. Whatever could disturb a terminal is escaped, as in a `repr`.
    """
    return [Line(group[0].instant, group[0].kind, len(group), _line(group)) for group in _groups(events)]


def render(events: Iterable[Event]) -> list[str]:
    """Return `lines` as text: the time to the second in UTC (ISO 8601), and what happened."""
    return [f"{_time(line.instant)}  {line.text}" for line in lines(events)]


def told(events: Iterable[Event]) -> list[tuple[str, dict[str, Any]]]:
    """Return the lines of `render`, each with its values for programs: what happened to which files, and when.

    `was` and `now` are what the index wrote, and `observed` is when it was noticed.
    """
    return [(f"{_time(group[0].instant)}  {_line(group)}", _values(group)) for group in _groups(events)]


def _values(group: Sequence[Event]) -> dict[str, Any]:
    event = group[0]
    return {
        "instant": _time(event.instant),
        "observed": _time(event.observed),
        "until": _time(group[-1].instant),
        "event": event.kind.name.lower(),
        "version": event.version,
        "files": [each.filename for each in group if each.filename is not None],
        "was": event.was,
        "now": event.now,
    }


class _Reader:
    """Reads entries one after the other and remembers what was there before each."""

    def __init__(self) -> None:
        self._previous: int | None = None
        self._project: Project | None = None
        self._last_project: Project | None = None
        self._showings: dict[Identity, Showing] = {}
        self._present: set[Identity] = set()
        self._contents: dict[str, str] = {}  # last shown under each name

    def events(self, entry: Entry) -> list[Event]:
        """Return the events of an entry, at least one."""
        if entry.imported:
            note = Event(entry.instant, entry.instant, Kind.IMPORTED, now=f"{len(entry.shown)} files")
            return [note, *self._of_files(entry)]
        events = [*self._of_project(entry), *self._of_files(entry)]
        if self._previous is None:
            kind = Kind.FIRST_OBSERVED if entry.project else Kind.FIRST_ABSENT
            events.insert(0, Event(entry.instant, entry.instant, kind))
        self._previous = entry.instant
        return events or [Event(entry.instant, entry.instant, Kind.UNCHANGED)]

    def _of_project(self, entry: Entry) -> Iterator[Event]:
        before, self._project = self._project, None if entry.gone else entry.project or self._project
        if before and not self._project:
            yield Event(entry.instant, entry.instant, Kind.PROJECT_GONE)
        if self._project and not before and self._previous is not None:
            kind = Kind.PROJECT_BACK if self._last_project else Kind.PROJECT_APPEARED
            yield Event(entry.instant, entry.instant, kind)
        if self._project:
            yield from _project_changes(self._last_project, self._project, entry.instant)
            self._last_project = self._project

    def _of_files(self, entry: Entry) -> Iterator[Event]:
        replaced: set[str] = set()
        for showing in entry.shown:
            key = filename, content = identity(showing.file)
            before = self._showings.get(key)
            if key not in self._present:
                yield self._arrival(entry.instant, showing)
                if self._contents.get(filename, content) != content:
                    replaced.add(filename)
            yield from _file_changes(before if self._previous is not None else None, showing, entry.instant)
            self._showings[key] = showing
            self._present.add(key)
            self._contents[filename] = content
        for key in entry.missed:
            self._present.remove(key)
            if key[0] not in replaced:  # else the event of the other content says so
                yield _file_event(entry.instant, entry.instant, Kind.GONE, self._showings[key])
        if entry.gone:
            self._present.clear()

    def _arrival(self, observed: int, showing: Showing) -> Event:
        """Return how a file appeared that the observation before did not show."""
        filename, content = key = identity(showing.file)
        was = self._contents.get(filename)
        other = None if was in (None, content) else was
        if key in self._showings:
            if other is None:
                return _file_event(observed, observed, Kind.BACK, showing)
            return _file_event(observed, observed, Kind.OTHER_BACK, showing, other, content)
        uploaded = trusted_upload(read_instant(showing.file.upload_time), self._previous)
        if uploaded is None:
            if other is None:
                return _file_event(observed, observed, Kind.SEEN, showing, now=showing.file.upload_time)
            return _file_event(observed, observed, Kind.OTHER_SEEN, showing, other, content)
        if other is None:
            return _file_event(uploaded, observed, Kind.UPLOADED, showing)
        return _file_event(uploaded, observed, Kind.OTHER_UPLOADED, showing, other, content)


def _project_changes(before: Project | None, project: Project, observed: int) -> Iterator[Event]:
    """Yield what differs from when the project last existed, or for a new project its status."""
    if (before and before.status) != project.status:
        yield Event(observed, observed, Kind.STATUS, was=_status(before), now=_status(project))
    fields = _differing(before, project, ("status",)) if before else []
    if fields:
        yield Event(observed, observed, Kind.PROJECT_CHANGED, now=", ".join(fields))


def _status(project: Project | None) -> str | None:
    if project is None or project.status is None:
        return None
    return ": ".join(filter(None, (project.status.status, project.status.reason)))


def _file_changes(before: Showing | None, showing: Showing, observed: int) -> Iterator[Event]:
    """Yield what differs from when the file was last shown, or for a new file whether it is already yanked."""
    file = showing.file
    reason = file.yanked if isinstance(file.yanked, str) else None
    if before is None:
        if file.yanked:
            yield _file_event(observed, observed, Kind.ALREADY_YANKED, showing, now=reason)
        return
    if file.yanked != before.file.yanked:
        kind = Kind.YANKED if file.yanked else Kind.UNYANKED
        yield _file_event(observed, observed, kind, showing, now=reason)
    was, now = before.file.requires_python, file.requires_python
    if was != now:
        yield _file_event(observed, observed, Kind.REQUIRES_PYTHON, showing, was, now)
    fields = _differing(before.file, file, ("yanked", "requires_python"))
    if fields:
        yield _file_event(observed, observed, Kind.CHANGED, showing, now=", ".join(fields))


def _differing(before: File | Project, after: File | Project, reported: tuple[str, ...]) -> list[str]:
    """Return the fields that differ, without those that have an event of their own."""
    fields = (field for field in after.__struct_fields__ if getattr(before, field) != getattr(after, field))
    return [field.replace("_", "-") for field in fields if field not in reported]


def _file_event(
    instant: int, observed: int, kind: Kind, showing: Showing, was: str | None = None, now: str | None = None
) -> Event:
    return Event(instant, observed, kind, showing.file.filename, showing.version, was, now)


# --- lines


def _groups(events: Iterable[Event]) -> list[list[Event]]:
    """Return the events of each line."""
    groups: list[list[Event]] = []
    together: dict[tuple[object, ...], list[Event]] = {}
    for event in events:
        key = (event.kind, event.version, event.was, event.now, event.observed)
        group = together.get(key, [])
        if event.kind is Kind.UNCHANGED and groups and groups[-1][0].kind is Kind.UNCHANGED:
            groups[-1].append(event)
        elif event.version is not None and group and event.instant - group[0].instant <= HOUR:
            group.append(event)
        else:
            together[key] = [event]
            groups.append(together[key])
    return groups


def _line(group: list[Event]) -> str:
    event = group[0]
    if event.kind is Kind.UNCHANGED:
        if len(group) == 1:
            return "1 observation without a change"
        return f"{len(group)} observations without a change, until {_time(group[-1].instant)}"
    if event.filename is None:
        return _project_text(event)
    if len(group) == 1:
        return f"{_bare(event.filename)}: {_file_text(event)}"
    return f"{_bare(event.version or '')}: {len(group)} files {_file_text(event)}"


def _project_text(event: Event) -> str:
    texts = {
        Kind.IMPORTED: f"uploads imported: {_bare(event.now or '')}",
        Kind.FIRST_OBSERVED: "first observation",
        Kind.FIRST_ABSENT: "first observation: no such project",
        Kind.PROJECT_APPEARED: "project appeared",
        Kind.PROJECT_GONE: "project gone",
        Kind.PROJECT_BACK: "project back",
        Kind.PROJECT_CHANGED: f"project with changed {_bare(event.now or '')}",
        Kind.STATUS: f"status {_quoted(event.now)} (was {_quoted(event.was)})",
    }
    return texts[event.kind]


def _file_text(event: Event) -> str:
    contents = f"{_quoted(event.now)} (was {_quoted(event.was)})"
    reason = "" if event.now is None else f": {_quoted(event.now)}"
    uploaded = "" if event.now is None else f", though its upload time is {_quoted(event.now)}"
    texts = {
        Kind.UPLOADED: "uploaded",
        Kind.SEEN: f"first seen{uploaded}",
        Kind.OTHER_UPLOADED: f"other content uploaded: {contents}",
        Kind.OTHER_SEEN: f"other content first seen: {contents}",
        Kind.OTHER_BACK: f"earlier content back: {contents}",
        Kind.BACK: "back",
        Kind.GONE: "gone",
        Kind.ALREADY_YANKED: f"already yanked{reason}",
        Kind.YANKED: f"yanked{reason}",
        Kind.UNYANKED: "no longer yanked",
        Kind.REQUIRES_PYTHON: f"with requires-python {_quoted(event.now)} (was {_quoted(event.was)})",
        Kind.CHANGED: f"with changed {_bare(event.now or '')}",
        Kind.RESCUED: f"rescued ({event.now})",
        Kind.ALREADY_GONE: f"already gone: {_bare(event.now or '')}",
        Kind.WITHHELD: f"not rescued, withheld {_bare(event.now or '')}",
    }
    return texts[event.kind]


def _time(instant: int) -> str:
    """Return an instant to the second. One beyond the calendar, as an upload time with a zone can be, is its limit."""
    time = to_datetime(min(max(instant, _FIRST), _LAST))
    return time.isoformat(timespec="seconds").replace("+00:00", "Z")


def _quoted(text: str | None) -> str:
    """Return the `repr` of a value, so that it is not taken for the mirror's own words; `none` if there is none."""
    if text is None:
        return "none"
    return repr(text) if len(text) <= _LONGEST else f"{text[:_LONGEST]!r}..."


def _bare(text: str) -> str:
    """Return a name, escaped as in a `repr`, without the quotes."""
    return repr(text[:_LONGEST])[1:-1] + ("..." if len(text) > _LONGEST else "")

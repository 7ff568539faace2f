"""A bisection: from a good and a bad date to the upload that broke a build, kept in a folder so that it can go on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from httpcache.adapter import Fetched
from httpcache.errors import MirrorError, NotFound
from pypi_adapter.simple.versions import file_version, parse_version
from pypi_adapter.warming.planning import read_page

from .builds import Builds, Resolution
from .search import Boundary, Verdict, changes, first_bad

PAGES_AT_ONCE = 8
STATE = "bisect.json"

Read = Callable[[str, str], Fetched]


class Upload(NamedTuple):
    """A file, when it was uploaded, and the first instant at which an index has it (ISO 8601, UTC)."""

    project: str
    version: str
    filename: str
    time: str
    visible: str


class Change(NamedTuple):
    """What differs between two resolutions for one project: versions, None where it is not there."""

    project: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class Step:
    """A change from one instant to the next one where the resolution differs, and the upload that caused it.

    There are several uploads if they have one time. Without any it was something else: files were yanked or
    removed.
    """

    good: str
    bad: str
    changed: Sequence[Change]
    uploads: Sequence[Upload]

    @property
    def constraints(self) -> list[str]:
        """The requirements that would have avoided it."""
        return [_constraint(each) for each in self.changed if each.after is not None and each.before is not None]


@dataclass(frozen=True)
class Outcome:
    """The step that broke the build. `partner`: an earlier one without which it does not break, if there is one.

    `skipped` are instants within the step that could not be judged. `problem`: why the bad end does not resolve, if it
    does not.
    """

    step: Step
    partner: Step | None
    skipped: Sequence[str]
    problem: str
    builds: int
    resolutions: int


@dataclass
class Bisection:
    """What is looked for. `index` is the URL of the index without its date, `good` and `bad` are dates or instants."""

    index: str
    good: str
    bad: str
    file: Path
    folder: Path
    builds: Builds
    read: Read
    say: Callable[[str], None]
    about: Mapping[str, str]
    _state: dict[str, Any] = field(default_factory=dict)
    _uploads: dict[str, list[Upload]] = field(default_factory=dict)
    _candidates: list[str] = field(default_factory=list)
    _built: int = 0

    def run(self, *, resume: bool) -> Outcome:
        """Find it. Raises MirrorError."""
        self._begin(resume=resume)
        ends = [self._resolution(each) for each in (self.good, self.bad)]
        if ends[0].problem:
            raise MirrorError(f"at the good date, {self.good}, {ends[0].problem}")
        if ends[0].digest == ends[1].digest:
            raise MirrorError("both dates resolve to the same files: no upload between them can have broken the build")
        row = self._row([*ends[0].pins, *ends[1].pins])
        self.say(f"{len(row)} different resolutions at {len(self._candidates)} instants")
        found = first_bad(row, self._judge_at, self._told)
        self._check_ends(found, row)
        step = self._step(found)
        return Outcome(
            step,
            None if self._at(found.bad).problem else self._partner(row, found, step),
            [self._candidates[place] for place in found.skipped],
            self._at(found.bad).problem,
            self._built,
            len(row),
        )

    # What is known

    def _begin(self, *, resume: bool) -> None:
        """Read what an interrupted bisection has found, or begin."""
        path = self.folder / STATE
        about = {**self.about, "good": self.good, "bad": self.bad, "file": sha256(self.file.read_bytes()).hexdigest()}
        if path.exists() and not resume:
            raise MirrorError(f"{self.folder} has a bisection already: go on with --resume, or remove the folder")
        self._state = {"about": about, "resolutions": {}, "verdicts": {}}
        if path.exists():
            state = json.loads(path.read_text())
            if state["about"] != about:
                raise MirrorError(
                    f"the bisection in {self.folder} is another one: use the same arguments, or remove it"
                )
            self._state = state
        self.folder.mkdir(parents=True, exist_ok=True)

    def _keep(self) -> None:
        new = self.folder / f"{STATE}.new"
        new.write_text(json.dumps(self._state))
        new.replace(self.folder / STATE)

    def _url(self, instant: str) -> str:
        return f"{self.index}/{instant}/"

    def _resolution(self, instant: str) -> Resolution:
        known = self._state["resolutions"]
        if instant not in known:
            found = self.builds.resolution(self.file, self._url(instant))
            known[instant] = [found.text, found.problem]
            self._keep()
        return Resolution(*known[instant])

    def _at(self, place: int) -> Resolution:
        return self._resolution(self._candidates[place])

    def _judge_at(self, place: int) -> Verdict:
        return self._judge(self._at(place), self._candidates[place])

    def _judge(self, resolution: Resolution, instant: str) -> Verdict:
        """Return whether a resolution is good, and build it at an instant if that is not known."""
        known = self._state["verdicts"]
        if resolution.digest not in known:
            self._built += 1
            found = self.builds.verdict(resolution, self._url(instant))
            known[resolution.digest] = found.value
            self._keep()
            self.say(f"{resolution.digest}: {found.value}")
        return Verdict(known[resolution.digest])

    def _told(self, left: int) -> None:
        self.say(f"{left} resolutions left, about {left.bit_length()} steps")

    # Where the resolution changes

    def _row(self, projects: Iterable[str]) -> list[int]:
        """Return the candidates where the resolution changes, once all projects that take part are known."""
        wanted = set(projects)
        while True:
            self._learn(wanted - self._uploads.keys())
            times = {each.visible for uploads in self._uploads.values() for each in uploads}
            self._candidates = [self.good, *sorted(times), self.bad]
            row = changes(len(self._candidates), lambda place: self._at(place).digest)
            seen = {name for place in row for name in self._at(place).pins}
            if seen <= wanted:
                return row
            wanted |= seen

    def _learn(self, projects: Iterable[str]) -> None:
        """Read from the pages of projects what was uploaded between the two dates."""
        low, high = (_moment(each) for each in (self.good, self.bad))

        def uploads(project: str) -> list[Upload]:
            try:
                page = read_page(self.read, f"{self._url(self.bad)}{project}/")
            except NotFound:  # it has been removed since
                return []
            return [
                Upload(
                    project,
                    file_version(file.filename, page.versions or ()) or "",
                    file.filename,
                    file.upload_time,
                    _segment(_moment(file.upload_time) + timedelta(microseconds=1)),
                )
                for file in page.files
                if file.upload_time and low < _moment(file.upload_time) < high
            ]

        with ThreadPoolExecutor(PAGES_AT_ONCE) as pool:
            names = sorted(projects)
            self._uploads |= dict(zip(names, pool.map(uploads, names), strict=True))

    # What was found

    def _check_ends(self, found: Boundary, row: Sequence[int]) -> None:
        """Check an end of the row that the search rests on: the others were not needed."""
        if found.good == row[0] and self._judge_at(row[0]) is not Verdict.GOOD:
            raise MirrorError(f"the command fails at the good date, {self.good}, too: see the log in {self.folder}")
        if found.bad == row[-1] and self._judge_at(row[-1]) is not Verdict.BAD:
            raise MirrorError(f"the command does not fail at the bad date, {self.bad}: see the log in {self.folder}")

    def _step(self, found: Boundary) -> Step:
        before, after = self._at(found.good), self._at(found.bad)
        differing = [] if after.problem else changed(before, after)
        low, high = (self._candidates[place] for place in (found.good, found.bad))
        names = {each.project for each in differing}
        uploads = [
            each
            for project, several in self._uploads.items()
            for each in several
            if each.visible == high and (project in names or not names)
        ]
        return Step(low, high, differing, sorted(uploads))

    def _partner(self, row: Sequence[int], found: Boundary, step: Step) -> Step | None:
        """Return an earlier step without which this one does not break the build, None if it does alone."""
        new = {each.project: self._at(found.bad).pins[each.project] for each in step.changed if each.after is not None}
        earlier = [place for place in row if place <= found.good]

        def judge(place: int) -> Verdict:
            return self._judge(self._at(place).with_pins(new), self.bad)

        if len(earlier) < 2 or judge(row[0]) is not Verdict.GOOD:
            return None
        self.say("it does not break the build alone: looking for what it breaks with")
        return self._step(first_bad(earlier, judge, self._told))


def changed(before: Resolution, after: Resolution) -> list[Change]:
    """Return the projects whose release or files differ between two resolutions, by name."""
    names = sorted({*before.pins, *after.pins})
    pairs = [(name, before.pins.get(name), after.pins.get(name)) for name in names]
    return [
        Change(name, one.version if one else None, other.version if other else None)
        for name, one, other in pairs
        if one != other
    ]


def _constraint(change: Change) -> str:
    before, after = parse_version(change.before or ""), parse_version(change.after or "")
    is_newer = before is not None and after is not None and after > before
    return f"{change.project}{'<' if is_newer else '!='}{change.after}"


def _moment(text: str) -> datetime:
    """Return a date or an instant. Raises MirrorError."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise MirrorError(
            f"{text} is neither a date nor an instant: write YYYY-MM-DD, or an instant with a Z"
        ) from None
    return found.replace(tzinfo=found.tzinfo or UTC)


def _segment(moment: datetime) -> str:
    """Return an instant of an address: all of one length, so that they sort by time."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

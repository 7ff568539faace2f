"""One pass of the capture over a registry: observes what has changed since the last pass, and rescues missing files.

list      fetch the registry's list of projects, with their serials
due       find what has changed since by serial, what was added to the list or removed, what is in the scope and not on
          the list, and what failed the last time; without serials everything, each by its entity tag
observe   fetch the page of each that is due, a few at once: append the changes to its log, rescue missing files
the rest  fetch everything else, as without serials, until a serial has been seen to rise with a change
note      which projects have changed, for those who look at it
mark      append the completed pass: one that was interrupted is repeated, and finds most of its work done
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from itertools import repeat

import anyio

from httpcache.adapter import Progress
from httpcache.errors import BadUpstream, MirrorError, StoreFull
from httpcache.metrics import CAPTURE_CHANGED, CAPTURE_DURATION, CAPTURE_FAILED, CAPTURE_TIME, Sample
from pypi_adapter.history.history import StaleObservation
from pypi_adapter.instants import now
from pypi_adapter.registry.clock import WrongClock
from pypi_adapter.registry.pass_changes import MOST, Change
from pypi_adapter.registry.passes import Pass
from pypi_adapter.registry.project_list import ProjectListLog
from pypi_adapter.registry.registry import Registry
from pypi_adapter.registry.scope import ALL, LISTED, REQUESTED, Scope
from pypi_adapter.simple.model import ProjectList

from .project_capture import ListEntry, capture_project
from .rescue import Rescue
from .retry import GaveUp, SharedBackoff

log = logging.getLogger("httpcache")

AT_ONCE = 8
"""Projects observed at the same time."""
OVERLAP = 5_000
"""How far below the last pass's newest serial changes are looked for again: a registry numbers a change when it begins,
so that one with a higher number can show up earlier."""
FAILED_AT_MOST = 1_000
"""Projects that can fail in a pass that still counts as complete."""


class Capture:
    """The passes over one registry in one scope."""

    def __init__(self, registry: Registry, project_list: ProjectListLog, rescue: Rescue, scope: Scope) -> None:
        self._registry = registry
        self._project_list = project_list
        self._rescue = rescue
        self._scope = scope

    @property
    def name(self) -> str:
        """The registry's name."""
        return self._registry.name

    async def measures(self) -> list[Sample]:
        """Return gauges of the last complete pass over the registry. Raises StoreError."""
        passes = await self._registry.passes.counted()
        if not passes:
            return []
        done = passes[-1]
        values = {
            CAPTURE_TIME: done.finished / 1e6,
            CAPTURE_DURATION: (done.finished - done.started) / 1e6,
            CAPTURE_FAILED: len(done.failed),
            CAPTURE_CHANGED: done.changed,
        }
        return [Sample(name, (self.name,), value) for name, value in values.items()]

    async def last(self) -> float | None:
        """Return when the last pass over the scope began (seconds since the epoch), None if there was none yet."""
        before = await self._registry.passes.before(self._scope)
        return before.started / 1e6 if before else None

    async def run(self, progress: Progress) -> Pass:
        """Make one pass and return it. Raises MirrorError if it could not be completed; what was done is kept."""
        started, began, asked = now(), time.monotonic(), self._registry.client.requests
        backoff = SharedBackoff(self._rescue.rest)
        logged = await self._registry.requested.all()
        try:
            instant, listed = await backoff.run(self._project_list.capture)
        except StaleObservation as error:
            raise BadUpstream(f"the list of projects was not accepted: {error}") from error
        due = await self._due(listed, logged)
        work = _Work(self._registry, self._rescue, backoff, instant)
        with progress.over(f"capture of {self._registry.name}", len(due)) as advance:
            await work.run({name: entry for name, entry in due.items() if not _has_left(entry)}, advance)
            await work.run({name: entry for name, entry in due.items() if _has_left(entry)}, advance)
        rest = await self._rest(listed, logged, work.attempted)
        if rest:
            with progress.over(f"capture of {self._registry.name}, remaining projects", len(rest)) as advance:
                await work.run(rest, advance)
        await self._registry.passes.changes(started).note(work.changes)
        done = Pass(
            instant=work.instant,
            started=started,
            finished=started + round((time.monotonic() - began) * 1e6),  # the clock can be set in the meantime
            scope=self._scope,
            serial=max(listed.serials, default=None) if listed else None,
            logged=len(logged),
            failed=tuple(sorted(work.failed)),
            due=len(due | rest),
            asked=work.asked,
            changed=work.changed,
            rescued=work.rescued,
            lost=work.lost,
            withheld=work.withheld,
            requests=self._registry.client.requests - asked,
        )
        await self._registry.passes.append(done)
        return done

    async def _due(self, listed: ProjectList | None, logged: Sequence[str]) -> dict[str, int | ListEntry]:
        """Return the projects to observe. A number is a serial on the list that the project's log may already have."""
        if listed is None and self._scope.kind == ALL:
            raise MirrorError(
                "the registry has no list of its projects: set the capture scope to requested, or to a file of names"
            )
        names, serials = (listed.names, listed.serials) if listed else ((), ())
        wanted, within = self._within(logged)
        before = await self._registry.passes.before(self._scope)
        counts = (
            before and before.started > self._registry.client.since
        )  # else its serials are those of another address
        mark = before.serial - OVERLAP if before and counts and before.serial is not None else -1
        new = frozenset(logged[before.logged :] if before and before.scope.kind == REQUESTED else ())
        due: dict[str, int | ListEntry] = {
            name: serial
            for name, serial in zip(names, serials, strict=False)
            if (serial > mark or name in new) and within(name)
        }
        if not serials:
            due = dict.fromkeys(filter(within, names), ListEntry(listed=True, serial=None))
        again: set[str] = set()
        if before:
            again |= set(before.failed)
            again |= await self._project_list.moved(before.instant)
            again |= await self._rescue.allowed_since(before.started)
        pairs = zip(names, serials or repeat(None), strict=False)
        listed_now = {name: serial for name, serial in pairs if name in again}
        for name in filter(within, again):
            left = listed is not None and name not in listed_now
            due[name] = ListEntry(listed=name in listed_now, serial=listed_now.get(name), left=left)
        return due | dict.fromkeys(
            wanted.difference(names), ListEntry(listed=False, serial=None, left=listed is not None)
        )

    def _within(self, logged: Sequence[str]) -> tuple[set[str], Callable[[str], bool]]:
        """Return the names in the scope that need not be listed, and a test whether a listed name is in the scope."""
        wanted = set(self._scope.names if self._scope.kind == LISTED else logged)
        return wanted, (lambda name: True) if self._scope.kind == ALL else wanted.__contains__

    async def _rest(
        self, listed: ProjectList | None, logged: Sequence[str], attempted: set[str]
    ) -> dict[str, int | ListEntry]:
        """Return the projects to observe because serials prove nothing yet: all that this pass has not asked for."""
        if listed is None or not listed.serials or (await self._registry.serials()).proved:
            return {}
        _, within = self._within(logged)
        names = (name for name in listed.names if name not in attempted and within(name))
        return dict.fromkeys(names, ListEntry(listed=True, serial=None))


def _has_left(due: int | ListEntry) -> bool:
    """Whether a project has left the list. That counts at once if the others have proved the serials by then."""
    return isinstance(due, ListEntry) and due.left


class _Work:
    """The projects of a pass, and the results."""

    def __init__(self, registry: Registry, rescue: Rescue, backoff: SharedBackoff, since: int) -> None:
        self.instant = since
        """The instant as of which all of them are known: that of the list, or of an older page."""
        self.attempted: set[str] = set()
        """The projects that were asked for."""
        self.failed: list[str] = []
        self.changes: list[Change] = []
        """The first ones that have changed, as many as are noted."""
        self.asked = self.changed = self.rescued = self.lost = self.withheld = 0
        self._registry = registry
        self._rescue = rescue
        self._backoff = backoff
        self._since = since
        self._error: MirrorError | None = None

    async def run(self, due: dict[str, int | ListEntry], advance: Callable[[], None]) -> None:
        """Observe the projects, a few at once. Raises MirrorError if it makes no sense to go on."""
        left = iter(due.items())

        async def go() -> None:
            for project, entry in left:
                try:
                    await self._observe(project, entry)
                except (MirrorError, StaleObservation) as error:
                    self._fail(project, error)
                if self._error:
                    return
                advance()

        async with anyio.create_task_group() as tasks:
            for _ in range(AT_ONCE):
                tasks.start_soon(go)
        if self._error:
            raise self._error

    def _fail(self, project: str, error: MirrorError | StaleObservation) -> None:
        """Record a failure, for the next pass."""
        log.warning("capture of %s: %s failed: %s", self._registry.name, project, error)
        self.attempted.add(project)
        self.failed.append(project)
        if isinstance(error, GaveUp | StoreFull | WrongClock):
            self._error = self._error or error
        elif len(self.failed) > FAILED_AT_MOST:
            self._error = BadUpstream(f"more than {FAILED_AT_MOST} projects have failed, the last one with: {error}")

    async def _observe(self, project: str, due: int | ListEntry) -> None:
        entry = due if isinstance(due, ListEntry) else ListEntry(listed=True, serial=due, always=False)
        captured = await self._backoff.run(lambda: capture_project(self._registry, project, entry, self._since))
        if captured.instant is not None:
            self.instant = min(self.instant, captured.instant)
        self.asked += captured.asked
        if captured.asked:
            self.attempted.add(project)
        self.changed += captured.changed
        if captured.changed and len(self.changes) < MOST:
            self.changes.append(Change(project, captured.newest))
        if not captured.missing:
            return
        outcomes = await self._rescue.settle(project, captured.missing, captured.status)
        self.rescued += outcomes.rescued
        self.lost += outcomes.gone
        self.withheld += outcomes.withheld
        if outcomes.failed:
            self.failed.append(project)

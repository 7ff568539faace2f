"""The captures of a registry (passes), and what a completed one says about every project in its scope.

A pass reads the registry's list of projects at an instant, and then fetches what has changed since the previous pass.
When it is complete, every project in its scope is known as of that instant: from what was fetched, or because the list
said that nothing had changed.
"""

from __future__ import annotations

import zlib

import msgspec

from httpcache.store.log import TypedLog
from httpcache.store.store import Store
from httpcache.units import span
from pypi_adapter.instants import now

from .clock import TOLERANCE
from .pass_changes import PassChanges
from .scope import ALL, LISTED, REQUESTED, Scope


class Pass(msgspec.Struct, frozen=True, array_like=True):
    """A completed pass.

    `instant`: what the list shows, and every page that was fetched without a serial. `started`, `finished`: when the
    pass was made (microseconds). `serial`: the newest one on the list. `logged`: how many projects had been requested
    before. `failed`: the projects that could not be fetched. How many projects were `due`, were `asked` for, and had
    `changed`; how many missing files were `rescued`, already `lost`, and `withheld`; the number of `requests`.
    """

    instant: int
    started: int
    finished: int
    scope: Scope
    serial: int | None = None
    logged: int = 0
    failed: tuple[str, ...] = ()
    due: int = 0
    asked: int = 0
    changed: int = 0
    rescued: int = 0
    lost: int = 0
    withheld: int = 0
    requests: int = 0

    def knows(self, project: str, number: int | None, *, existed: bool) -> bool:
        """Whether a project that had a log before the pass was at `instant` as its log says.

        `number` is its position among the requested ones, None if it never was requested. `existed`: its log has ever
        had a page. Such a project was on the list and is fetched when it leaves the list or comes back; others may
        never have been on it.
        """
        if project in self.failed:
            return False
        if self.scope.kind == LISTED:
            return project in self.scope.names
        return (self.scope.kind == ALL and existed) or (number is not None and number < self.logged)

    @property
    def summary(self) -> str:
        """What the pass did, in one line."""
        if not self.due and not self.logged and self.scope.kind == REQUESTED:
            return "nothing has been requested yet, so there is nothing to capture"
        failed = f"failed and will be tried again by the next pass ({', '.join(self.failed[:5])}"
        counted = (
            (self.rescued, "deleted files rescued"),
            (self.lost, "deleted files already gone"),
            (self.withheld, "deleted files withheld"),
            (len(self.failed), f"{failed}{', ...' if len(self.failed) > 5 else ''})"),
        )
        parts = [f"{self.changed:,} of {self.due:,} projects had changed", f"requests: {self.requests:,}"]
        parts += [f"{count:,} {text}" for count, text in counted if count]
        return f"{', '.join(parts)}, in {span((self.finished - self.started) / 1e6)}"


def _encode(done: Pass) -> bytes:
    return zlib.compress(msgspec.msgpack.encode(done))


def _decode(value: bytes) -> Pass:
    return msgspec.msgpack.decode(zlib.decompress(value), type=Pass)


class Passes(TypedLog[Pass]):
    """The completed passes over one registry, which all processes share. The next pass starts from the last one."""

    def __init__(self, store: Store, registry: str) -> None:
        super().__init__(store, f"{registry}/ passes", "captures", _encode, _decode)
        self._store = store
        self._registry = registry

    def changes(self, started: int) -> PassChanges:
        """Return what the pass that began at `started` has changed."""
        return PassChanges(self._store, self._registry, started)

    async def counted(self) -> list[Pass]:
        """Return the passes that count, oldest first. Raises StoreError.

        The others were made while the clock was ahead: they finished in the future, or are in the log before a pass
        that finished earlier.
        """
        found: list[Pass] = []
        latest = now() + TOLERANCE
        for done in reversed(await self.all()):
            if done.finished <= latest:
                found.append(done)
                latest = done.finished
        return found[::-1]

    async def before(self, scope: Scope) -> Pass | None:
        """Return the newest pass whose scope contains this one: what it knew need not be fetched again."""
        return next((found for found in reversed(await self.counted()) if found.scope.includes(scope)), None)

    async def unchanged(self, project: str, number: int | None, since: int, *, existed: bool) -> int | None:
        """Return the newest instant at which a project was known to be as its log, which ends at `since`, says.

        Returns None if no pass after `since` knows it. For `number` and `existed` see `Pass.knows`. Raises StoreError.
        """
        for found in reversed(await self.counted()):
            if found.finished <= since:
                return None
            if found.instant <= since:
                continue
            if found.knows(project, number, existed=existed):
                return found.instant
        return None

"""The passes of the capture over a registry, and what a completed one says of every project in its scope.

A pass reads the registry's list of projects at an instant, and then fetches what has changed since the pass before.
When it has completed, each project in its scope is known as it was at that instant: from what was fetched, or because
the list said that nothing had changed.
"""

from __future__ import annotations

import zlib

import msgspec

from httpcache.store.base import Store
from httpcache.store.log import TypedLog
from httpcache.units import span
from pypi_adapter.instants import now

from .clock import TOLERANCE

REQUESTED, ALL, LISTED = "requested", "all", "listed"


class Scope(msgspec.Struct, frozen=True, array_like=True):
    """Which projects a pass covers: those ever asked for, the registry's whole list, or `names` (kind LISTED)."""

    kind: str
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{len(self.names)} projects" if self.kind == LISTED else self.kind

    def includes(self, other: Scope) -> bool:
        """Whether what is in another scope is in this one."""
        if self.kind == LISTED and other.kind == LISTED:
            return set(other.names) <= set(self.names)
        return self.kind == ALL or self == other


class Pass(msgspec.Struct, frozen=True, array_like=True):
    """A completed pass.

    `instant`: what the list shows, and every page that was asked for without a serial; `started`, `finished`: when the
    pass was made (microseconds). `serial`: the newest on the list. `logged`: how many projects had been requested
    before. `failed`: those that could not be fetched. How many projects were `due` to be looked at, were `asked` for
    and had `changed`; how many missed files were `rescued`, already `lost`, and `withheld`; the `requests` made.
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
        """Whether a project that had a log before the pass was at `instant` as its log has it.

        `number` is its place among those requested, None if it never was; `existed`: its log has ever had a page of it.
        Such a one was on the list, and is looked at where it leaves it or comes back; others may never have been on it.
        """
        if project in self.failed:
            return False
        if self.scope.kind == LISTED:
            return project in self.scope.names
        return (self.scope.kind == ALL and existed) or (number is not None and number < self.logged)

    @property
    def summary(self) -> str:
        """What it did, in one line."""
        if not self.due and not self.logged and self.scope.kind == REQUESTED:
            return "nothing was ever requested here, so there is nothing to capture yet"
        failed = f"failed, and are looked at again by the next pass ({', '.join(self.failed[:5])}"
        counted = (
            (self.rescued, "of the deleted files rescued"),
            (self.lost, "of the deleted files gone already"),
            (self.withheld, "of the deleted files withheld"),
            (len(self.failed), f"{failed}{', ...' if len(self.failed) > 5 else ''})"),
        )
        parts = [f"{self.changed:,} of {self.due:,} projects had changed", f"requests: {self.requests:,}"]
        parts += [f"{count:,} {what}" for count, what in counted if count]
        return f"{', '.join(parts)}, in {span((self.finished - self.started) / 1e6)}"


def _encode(done: Pass) -> bytes:
    return zlib.compress(msgspec.msgpack.encode(done))


def _decode(value: bytes) -> Pass:
    return msgspec.msgpack.decode(zlib.decompress(value), type=Pass)


class Passes(TypedLog[Pass]):
    """The completed passes over one registry, which all processes share. The next pass starts from the last one."""

    def __init__(self, store: Store, registry: str) -> None:
        super().__init__(store, f"{registry}/ passes", "captures", _encode, _decode)

    async def counted(self) -> list[Pass]:
        """Return the passes that say something, the oldest first. Raises StoreError.

        Others were made while the clock was ahead: what they know of is still to come, or they are in the log before
        one that was completed earlier than they say.
        """
        found: list[Pass] = []
        latest = now() + TOLERANCE
        for done in reversed(await self.all()):
            if done.finished <= latest:
                found.append(done)
                latest = done.finished
        return found[::-1]

    async def before(self, scope: Scope) -> Pass | None:
        """Return the newest pass over everything in a scope: what it knew need not be fetched again."""
        return next((found for found in reversed(await self.counted()) if found.scope.includes(scope)), None)

    async def unchanged(self, project: str, number: int | None, since: int, *, existed: bool) -> int | None:
        """Return the newest instant at which a project was known to be as its log has it, which ends at `since`.

        None if no pass after `since` knows it. For `number` and `existed` see Pass.knows. Raises StoreError.
        """
        for found in reversed(await self.counted()):
            if found.finished <= since:
                return None
            if found.instant <= since:
                continue
            if found.knows(project, number, existed=existed):
                return found.instant
        return None

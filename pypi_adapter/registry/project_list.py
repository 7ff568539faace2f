"""The list of a registry's projects as it was observed: its names at an instant."""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import anyio
import anyio.to_thread
import msgspec
from packaging.utils import canonicalize_name

from httpcache.errors import BadUpstream, StoreError
from httpcache.freezing.mirror import Mirror
from httpcache.store.log import TypedLog
from httpcache.store.store import Store
from pypi_adapter.history.doubts import Doubts
from pypi_adapter.history.history import Doubtful, Serials, StaleObservation, is_loss
from pypi_adapter.instants import now
from pypi_adapter.simple.model import Page, ProjectList

from .clock import ahead, is_ahead
from .passes import Passes
from .registry import COME_BACK, Registry


class Change(msgspec.Struct, frozen=True, array_like=True):
    """What an observation of the list changed. `instant` is in microseconds. `listed`: the registry had a list."""

    instant: int
    listed: bool
    serial: int | None
    added: tuple[str, ...]
    removed: tuple[str, ...]

    @property
    def differs(self) -> bool:
        """Whether it added or removed a name."""
        return bool(self.added or self.removed)


def decode_change(data: bytes) -> Change:
    """Decode a change from the store. Raises `zlib.error` or `msgspec.DecodeError` if the data is not one."""
    return msgspec.msgpack.decode(zlib.decompress(data), type=Change)


def encode_change(change: Change) -> bytes:
    """Encode a change for the store: MessagePack in zlib."""
    return zlib.compress(msgspec.msgpack.encode(change))


def projects_log(store: Store, registry: str) -> TypedLog[Change]:
    """Return the log of the list of a registry's projects."""
    return TypedLog(store, f"{registry}/ projects", "the list of projects", encode_change, decode_change)


class ProjectListLog:
    """The list of one registry: the observed list, and the projects that have a log.

    Names on the observed list are as of the last observation at or before the instant, or as of the first if there is
    none, because registries give no times for names. For a registry without a list, only the logs count.
    """

    def __init__(self, registry: Registry, mirror: Mirror) -> None:
        self._registry = registry
        self._log = projects_log(mirror.store, registry.name)
        self._doubts = Doubts(mirror.store, f"{registry.name}/ projects", registry.pause)
        self._changes: Sequence[Change] = ()  # all that have been read
        self._lock = anyio.Lock()
        self._asked = 0

    async def as_of(self, instant: int) -> tuple[ProjectList, bool]:
        """Return the names at an instant (microseconds), and whether the list had to be observed for it.

        Raises MirrorError.
        """
        async with self._lock:
            await self._read()
            await self._confirm(instant)
            observed = self._last < instant
            if observed:
                await self._observe_for_date()
            if self._last < instant:
                raise BadUpstream(
                    "the registry sent a list of projects that is older than the requested instant "
                    "(from a cache in between): try again in a few minutes",
                    headers=COME_BACK,
                )
            names = await anyio.to_thread.run_sync(_names, self._changes, instant)
        await self._add(names, lambda name: self._registry.had(name, instant))
        return ProjectList(tuple(sorted(names))), observed

    async def _confirm(self, instant: int) -> None:
        """Append that the list had not changed, if a pass of the capture says so and an answer needs it."""
        if self._changes and self._last < instant:
            unchanged = await _unchanged(self._changes[-1], self._registry.passes)
            if unchanged and unchanged.instant >= instant:
                await self._log.try_append(unchanged)

    async def live(self) -> ProjectList:
        """Return the names now. Raises MirrorError."""
        asked = now()
        async with self._lock:
            if self._asked < asked:  # else another request has fetched it since this one arrived
                with suppress(StaleObservation):  # what is known is newer
                    await self._observe(always=False)
            listed = self._changes[-1].listed
            names = await anyio.to_thread.run_sync(_names, self._changes, self._last)
        if not listed:
            await self._add(names, self._registry.has)
        return ProjectList(tuple(sorted(names)))

    async def _add(self, names: set[str], had: Callable[[str], Awaitable[bool]]) -> None:
        """Add the requested projects that exist according to their logs."""
        for name in await self._registry.requested.all():
            if name not in names and await had(name):
                names.add(name)

    async def capture(self) -> tuple[int, ProjectList | None]:
        """Observe the list for a pass of the capture.

        Returns the instant (microseconds) that it shows, and the list with names normalised; None if there is none.
        Raises StaleObservation, MirrorError.
        """
        async with self._lock:
            instant, page = await self._observe(always=False)
            if page is not None and self._last > instant and self._change(self._last, page).differs:
                raise StaleObservation("the list of projects is older than one seen before")
            return instant, page

    async def moved(self, since: int) -> set[str]:
        """Return the names that were added to the list or removed from it after an instant (microseconds)."""
        async with self._lock:
            await self._read()
            later = [change for change in self._changes if change.instant > since]
        return {name for change in later for name in (*change.added, *change.removed)}

    @property
    def _last(self) -> int:
        return self._changes[-1].instant if self._changes else -1

    async def _observe(self, *, always: bool) -> tuple[int, ProjectList | None]:
        """Fetch the list and append what changed, or with `always` that nothing did.

        Raises StaleObservation if the list is not accepted, and MirrorError.
        """
        started = now()
        instant, page = await self._registry.client.list()
        if isinstance(page, Page):
            raise BadUpstream("the registry answered with the page of a project for its list of projects")
        self._asked = started
        if page is not None:
            page = await anyio.to_thread.run_sync(_normalised, page)
        await self._check(instant, page)
        while True:
            await self._read()
            if self._last >= instant:
                return instant, page
            change = await anyio.to_thread.run_sync(self._change, instant, page)
            changed = change.differs or not self._changes or change.listed != self._changes[-1].listed
            if not (always or changed):
                return instant, page
            encoded = await anyio.to_thread.run_sync(encode_change, change)  # the first one has all names
            if await self._log.try_append(change, encoded):
                return instant, page

    def _change(self, instant: int, page: ProjectList | None) -> Change:
        known = _names(self._changes, instant)
        if page is None:
            return Change(instant, False, None, (), ())
        names = set(page.names)
        serial = -1 if page.serial is None else page.serial  # -1: the list no longer has one
        removed = () if page.unread else tuple(sorted(known - names))  # an entry that cannot be read may be any of them
        return Change(instant, True, serial, tuple(sorted(names - known)), removed)

    async def _check(self, instant: int, page: ProjectList | None) -> None:
        """Raise StaleObservation if the list is older than what is known, or has lost most of its names."""
        await self._read()
        serials = await self._registry.serials()
        try:
            await anyio.to_thread.run_sync(self._check_fresh, page, serials)
        except Doubtful as error:
            await self._doubts.settle(instant, error)
        await self._doubts.clear(instant)

    def _check_fresh(self, page: ProjectList | None, serials: Serials) -> None:
        if page is None:
            if self._changes and self._changes[-1].listed:
                raise Doubtful("it no longer exists")
            return
        seen, serial = self._seen(serials), -1 if page.serial is None else page.serial
        if serial < seen:
            older = "no serial" if serial < 0 else f"the serial {serial}"
            raise (StaleObservation if serials.proved else Doubtful)(f"it has {older}, and {seen} was seen before")
        had = _names(self._changes, self._last)
        lost = len(had.difference(page.names))
        if not page.unread and is_loss(len(had), lost, nothing=not page.names):
            raise Doubtful(f"{lost} of {len(had)} names are missing at once")

    def _seen(self, serials: Serials) -> int:
        """Return the newest serial of the list that counts, -1 if there is none."""
        counted = (change.serial for change in reversed(self._changes) if change.instant > serials.since)
        return next((serial for serial in counted if serial is not None), -1)

    async def _observe_for_date(self) -> None:
        """Observe the list for a date, which must not be answered from a stale one. Raises MirrorError."""
        try:
            await self._observe(always=True)
        except StaleObservation as error:
            raise BadUpstream(
                f"the registry's list of projects was not accepted: {error}", headers=COME_BACK
            ) from error

    async def _read(self) -> None:
        self._changes = await self._log.all()
        if is_ahead(self._last, now()):
            raise StoreError(ahead("the list of projects", self._last, self._registry.name))


async def settle_list(store: Store, registry: str, passes: Passes) -> None:
    """Append that a registry's list had not changed, if a pass of the capture says so. Keeps no names in memory."""
    log, number, last = projects_log(store, registry), 0, None
    async for change in log.each():
        number, last = number + 1, change
    if last and (unchanged := await _unchanged(last, passes)):
        await log.raw.append(number, encode_change(unchanged))


async def _unchanged(last: Change, passes: Passes) -> Change | None:
    """Return what to append after the last change if a later pass of the capture says that the list had not changed."""
    instant = max((done.instant for done in await passes.counted()), default=-1)
    return Change(instant, last.listed, None, (), ()) if instant > last.instant else None


def _normalised(page: ProjectList) -> ProjectList:
    names = ((name, canonicalize_name(name)) for name in page.names)
    same = tuple(name if name == normal else normal for name, normal in names)  # share equal strings
    return msgspec.structs.replace(page, names=same)


def _names(changes: Sequence[Change], instant: int) -> set[str]:
    names: set[str] = set()
    for number, change in enumerate(changes):
        if number == 0 or change.instant <= instant:
            names.difference_update(change.removed)
            names.update(change.added)
    return names

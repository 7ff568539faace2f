"""The usage journal: how often each entry and each pin was answered, when last, and to whom.

It is for the operator, and nothing is decided by it. So it may lose what was noted in the last seconds before a kill,
and it never delays or fails a request: what cannot be written is dropped, and one line in the log says so.

A process notes each answer in memory, and adds what it has noted to the journal every few seconds. The journal is kept
apart from what is frozen: in a database of its own beside the embedded index, or in tables of its own in PostgreSQL.

Bounds: READERS clients of an entry and PINS pins, in each case the last ones. Entries are those that are frozen.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

from httpcache.errors import MirrorError
from httpcache.repeated import repeated

log = logging.getLogger("httpcache")

READERS = 16  # of an entry
PINS = 100_000
EVERY = 5.0  # seconds between two additions of a process to the journal
LAST = 5.0  # seconds for the last one, at shutdown
NOTED = 50_000  # different subjects and clients that a process notes in that time
PAGE = 100  # entries


class Subject(NamedTuple):
    """What an answer is an answer of: a frozen entry, or a page of an index, which is no entry of the store.

    `pin`: the pin, or the index, like "2024-01-02" or "internal/live". `key`: the key of the entry's Target, "" for a
    page. `address`: that of the entry as its record has it, without the values of its query.
    """

    pin: str
    key: str = ""
    address: str = ""


class Use(NamedTuple):
    """Answers of one subject to one client: how many, with how many bytes of body in all."""

    subject: Subject
    client: str
    hits: int
    bytes: int


class Used(NamedTuple):
    """How often something was answered, with how many bytes of body, and when first and last.

    Instants are in seconds since the epoch, and up to EVERY seconds late. Every answer counts that had no error: also
    the first one, which froze the entry, and those without a body.
    """

    hits: int
    bytes: int
    first: float
    last: float


class UsedEntry(NamedTuple):
    """An entry, by the key of its Target, and how it was used."""

    key: str
    address: str
    used: Used


class Reader(NamedTuple):
    """A client of an entry: its address as the server saw it, how often it was answered, and when first and last.

    Behind a reverse proxy that is not trusted the address is that of the proxy.
    """

    client: str
    hits: int
    first: float
    last: float


class Usage(Protocol):
    """The journal of a store, shared by all its processes. Every method raises StoreError."""

    async def add(self, uses: Sequence[Use], now: float) -> None:
        """Add answers that were given up to now (seconds since the epoch): all of them, or none."""

    async def pins(self) -> dict[str, Used]:
        """Return how every pin and index was used, by its name."""

    async def pin(self, name: str) -> Used | None:
        """Return how one pin or index was used, None if it was not."""

    async def entries(self, keys: Sequence[str]) -> dict[str, Used]:
        """Return how those of the entries that were used at all were used, by the keys of their Targets."""

    async def of_pin(
        self, name: str, *, behind: UsedEntry | None = None, limit: int = PAGE, oldest: bool = False
    ) -> list[UsedEntry]:
        """Return up to `limit` entries of a pin in the order of their last use, after the entry `behind`.

        The one that was used last comes first, or `oldest` first.
        """

    async def readers(self, key: str) -> list[Reader]:
        """Return the last clients of an entry, at most READERS; the last one first."""

    async def remove(self, keys: Sequence[str]) -> None:
        """Remove entries; the pins lose their hits and bytes."""


class Uses:
    """Answers of one subject, each of `size` bytes, that the journal does not have yet: how many, by client."""

    __slots__ = ("clients", "size", "subject")

    def __init__(self, subject: Subject, size: int) -> None:
        self.subject = subject
        self.size = size
        self.clients: dict[str, int] = {}


class Journal:
    """Notes what this process answers, and adds it to the usage of its store."""

    def __init__(self, usage: Usage) -> None:
        self._usage = usage
        self._noted: dict[tuple[Subject, str], list[int]] = {}
        self._counting: list[Uses] = []
        self._counted = 0  # clients of these
        self._fails = False

    def note(self, subject: Subject, client: str, size: int) -> None:
        """Note an answer with `size` bytes of body."""
        counts = self._noted.get((subject, client))
        if counts is None:
            if self._is_full:
                return
            counts = self._noted[subject, client] = [0, 0]
        counts[0] += 1
        counts[1] += size

    def begin(self, uses: Uses, client: str) -> None:
        """Count the first use by a client since the last addition. Whoever has the uses counts the next ones itself."""
        if self._is_full:
            return
        if not uses.clients:
            self._counting.append(uses)
        uses.clients[client] = 1
        self._counted += 1

    @property
    def _is_full(self) -> bool:
        return len(self._noted) + self._counted >= NOTED

    def running(self) -> AbstractAsyncContextManager[None]:
        """Add to the journal inside the block, and a last time at its end."""
        return repeated(self._add, EVERY, LAST)

    async def _add(self) -> None:
        uses = self._taken()
        if not uses:
            return
        try:
            await self._usage.add(uses, time.time())
        except MirrorError as error:
            if not self._fails:
                log.warning("how the mirror is used is not recorded for now: %s", error.text)
            self._fails = True
        else:
            if self._fails:
                log.info("how the mirror is used is recorded again")
            self._fails = False

    def _taken(self) -> list[Use]:
        """Return all that is noted and counted, and begin anew."""
        taken = [Use(subject, client, hits, size) for (subject, client), (hits, size) in self._noted.items()]
        for uses in self._counting:
            taken += [Use(uses.subject, client, hits, hits * uses.size) for client, hits in uses.clients.items()]
            uses.clients = {}
        self._noted, self._counting, self._counted = {}, [], 0
        return taken


class Sums(NamedTuple):
    """Uses summed up for the tables of a journal."""

    pins: dict[str, tuple[int, int]]
    """Hits and bytes of each pin."""
    entries: dict[str, tuple[Subject, int, int]]
    """Subject, hits and bytes of each entry."""
    readers: dict[tuple[str, str], int]
    """Hits of each entry and client."""


def summed(uses: Sequence[Use]) -> Sums:
    """Sum uses up. The keys are in order, so that processes lock rows in the same order."""
    pins: dict[str, tuple[int, int]] = {}
    entries: dict[str, tuple[Subject, int, int]] = {}
    readers: dict[tuple[str, str], int] = {}
    for subject, client, hits, size in uses:
        before = pins.get(subject.pin, (0, 0))
        pins[subject.pin] = before[0] + hits, before[1] + size
        if subject.key:
            _, *so_far = entries.get(subject.key, (subject, 0, 0))
            entries[subject.key] = subject, so_far[0] + hits, so_far[1] + size
            readers[subject.key, client] = readers.get((subject.key, client), 0) + hits
    return Sums(dict(sorted(pins.items())), dict(sorted(entries.items())), dict(sorted(readers.items())))

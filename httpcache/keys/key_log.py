"""The log of access keys in the store: which were added and which revoked. It has their hashes, never the keys."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from httpcache.access_keys import Rights, digest
from httpcache.errors import BadAddress, MirrorError, NotFound
from httpcache.store.log import TypedLog
from httpcache.store.store import Store

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class Rate(msgspec.Struct, frozen=True, array_like=True):
    """So many requests in so many seconds."""

    requests: int
    seconds: float


class Added(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """A key was added: its name, its hash, when (seconds since the epoch), and what it opens. See Rights.

    It ends when it `expires`, None if never. Without a `rate` it may be used as often as one likes.
    """

    name: str
    digest: bytes
    time: float
    pins: tuple[str, ...] = ()
    registries: tuple[str, ...] = ()
    read_only: bool = False
    expires: float | None = None
    rate: Rate | None = None

    @property
    def rights(self) -> Rights:
        """What it opens."""
        return Rights(self.name, frozenset(self.pins), frozenset(self.registries), self.read_only)


class Revoked(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The key with this name was revoked; another one can have the name from then on."""

    name: str
    time: float


class Issued(NamedTuple):
    """A key, the number of its entry in the log, and when it was revoked, if it was."""

    key: Added
    number: int
    revoked: float | None = None

    def state(self, now: float) -> str:
        """Return whether it is `active`, `expired` or `revoked` at a time (seconds since the epoch)."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.key.expires is not None and self.key.expires <= now else "active"


class KeyLog(TypedLog[Added | Revoked]):
    """All that was done to keys, which all processes share."""

    def __init__(self, store: Store) -> None:
        decoder = msgspec.msgpack.Decoder(Added | Revoked)
        super().__init__(store, "httpcache/ keys", "access keys", msgspec.msgpack.encode, decoder.decode)

    async def add(self, key: Added) -> None:
        """Add a key. Raises MirrorError if its name is in use."""
        if not _NAME.fullmatch(key.name):
            raise BadAddress(
                f"{key.name[:100]!r} is not the name of a key: use up to 63 letters, digits, '.', '_', '-'"
            )
        while True:
            if any(each.key.name == key.name and each.revoked is None for each in issued(await self.all())):
                raise MirrorError(f"there is a key {key.name!r} already: choose another name, or revoke that one first")
            if await self.try_append(key):
                return

    async def revoke(self, name: str) -> None:
        """Revoke a key. Raises NotFound if there is none with this name."""
        while True:
            if not any(each.key.name == name and each.revoked is None for each in issued(await self.all())):
                raise NotFound(f"there is no key {name[:100]!r}: `httpcache key list` lists them")
            if await self.try_append(Revoked(name, time.time())):
                return


def issued(entries: Iterable[Added | Revoked]) -> list[Issued]:
    """Return every key that was ever added, the oldest first. Pure."""
    found: dict[int, Issued] = {}
    current: dict[str, int] = {}
    for number, entry in enumerate(entries):
        if isinstance(entry, Added):
            found[number] = Issued(entry, number)
            current[entry.name] = number
        elif entry.name in current:
            place = current.pop(entry.name)
            found[place] = found[place]._replace(revoked=entry.time)
    return list(found.values())


def added(key: str, rights: Rights, *, expires: float | None, rate: Rate | None) -> Added:
    """Return the entry of a new key."""
    pins, registries = tuple(sorted(rights.pins)), tuple(sorted(rights.registries))
    return Added(rights.key, digest(key), time.time(), pins, registries, rights.read_only, expires, rate)

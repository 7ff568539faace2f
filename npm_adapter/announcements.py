"""Finds the digests that frozen packuments announced for the tarballs of their pin, by the address of a tarball.

The tarballs of a package are all below one folder (`/<package>/-/`). So each packument leaves one note in the log of
the innermost folder that has all of them, and a lookup reads only the logs of the folders that a tarball is in: few,
whatever else the pin has. The size of a log is limited.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence, Set
from hashlib import sha256

import msgspec

from httpcache.adapter import Kept
from httpcache.credentials import PUBLIC
from httpcache.freezing.download import Digest
from httpcache.lru import SizedLRU
from httpcache.store.log import Log
from httpcache.store.record import Record, decode
from httpcache.store.store import Store
from httpcache.target import Target, origin

log = logging.getLogger("httpcache")

DEEP = 12  # path segments of a folder at most; deeper folders count as the one at this depth
LOG_BYTES = 4 * 1024 * 1024  # size of a log from which on no more notes are added
ORIGINS = 16  # at most, on which one packument can announce tarballs
REGISTRIES = 64  # at most, known under a pin
NOTED = 10_000  # packuments remembered as noted

Tarball = tuple[str, tuple[Digest, ...]]
"""The canonical URL of a tarball, and the digests of which it must match one."""


class _Noted(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A tarball: `ident` is the truncated hash of its canonical URL."""

    ident: bytes
    digests: list[tuple[str, bytes]]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[_Noted])


class Announcements:
    """The notes of all pins, kept in the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._done: SizedLRU[tuple[str, str, str], bool] = SizedLRU(NOTED)

    def is_noted(self, pin: str, digest: str, final: str) -> bool:
        """Whether a packument needs no more notes; `digest` is that of its bytes, `final` the URL they came from."""
        return self._done.get((pin, digest, final)) is not None

    async def note(self, pin: str, digest: str, final: str, tarballs: Iterable[Tarball]) -> None:
        """Note the digests that a packument announced, for `find`. Raises StoreError."""
        folders: defaultdict[str, list[Tarball]] = defaultdict(list)
        for tarball in tarballs:
            if tarball[1]:
                folders[origin(tarball[0])].append(tarball)
        for host, some in sorted(folders.items(), key=lambda item: -len(item[1]))[:ORIGINS]:
            common = max(set.intersection(*(set(_folders(url)) for url, _ in some)), key=len)
            notes = Log(self._store, _name(pin, origin(final) == host, common))
            value = _encoder.encode([_Noted(_ident(url), _packed(digests)) for url, digests in some])
            if not await notes.note(value, LOG_BYTES):
                log.warning("%s announces more tarballs than the mirror remembers: not all are checked", final)
        self._done.put((pin, digest, final), True, 1)

    async def note_registry(self, pin: str, registry: str) -> None:
        """Note that packuments of a pin are below the URL `registry`. Raises StoreError."""
        notes = self._registries(pin)
        while registry.encode() not in (known := await notes.read()) and len(known) < REGISTRIES:
            await notes.append(len(known), registry.encode())

    async def is_in_registry(self, target: Target) -> bool:
        """Whether an address is below a registry from which its pin has packuments. Raises StoreError."""
        return any(target.url.startswith(known.decode()) for known in await self._registries(target.pin).read())

    def _registries(self, pin: str) -> Log:
        return Log(self._store, f"npm/{pin}/registries")

    async def find(self, target: Target) -> tuple[Digest, ...]:
        """Return the digests that were announced for a tarball, of which it must match one. Raises StoreError.

        Any packument can name any tarball, so no packument may decide alone. But if packuments of the tarball's own
        origin name it, only they count.
        """
        ident = _ident(target.url)
        for own in (True, False):
            found: set[Digest] = set()
            for folder in _folders(target.url):
                for value in await Log(self._store, _name(target.pin, own, folder)).read():
                    if ident in value:
                        noted = _decoder.decode(value)
                        found |= {Digest(*_unpacked(d)) for each in noted if each.ident == ident for d in each.digests}
            if found:
                return tuple(sorted(found))
        return ()


async def carried(store: Store, pin: str) -> AsyncIterator[Kept]:
    """Yield the notes of a pin for an export: those that name a file that is frozen there, and that everyone may read.

    Notes of other packages are made again when their packument is next requested.
    """
    known = [value.decode() for value in await Log(store, f"npm/{pin}/registries").read()] if pin else []
    urls: set[str] = set()
    folder, idents = "", set[bytes]()
    after = None
    while known and (page := await store.index.records(pin, after=after)):
        for entry in (decode(value) for _, value in page):
            if not isinstance(entry, Record) or entry.scope != PUBLIC:
                continue
            urls.update(registry for registry in known if entry.url.startswith(registry))
            if _folders(entry.url)[-1] != folder:  # they come in the order of their addresses
                async for kept in _carried(store, pin, folder, idents):
                    yield kept
                folder, idents = _folders(entry.url)[-1], set()
            idents.add(_ident(entry.url))
        after = page[-1].place
    async for kept in _carried(store, pin, folder, idents):
        yield kept
    yield Kept(f"npm/{pin}/registries", [url.encode() for url in sorted(urls)], is_set=True)


async def _carried(store: Store, pin: str, folder: str, idents: Set[bytes]) -> AsyncIterator[Kept]:
    """Yield the notes of a folder that name one of these files."""
    for own in (True, False) if idents else ():
        values = await Log(store, _name(pin, own, folder)).read()
        if named := [value for value in values if any(ident in value for ident in idents)]:
            yield Kept(_name(pin, own, folder), named, is_set=True)


def _folders(url: str) -> Sequence[str]:
    """Return the folders that a file is in, outermost first."""
    path = url.partition("?")[0]
    segments = path.split("/")[3:-1][:DEEP]
    host = origin(url)
    return ["/".join([host, *segments[:count], ""]) for count in range(len(segments) + 1)]


def _name(pin: str, own: bool, folder: str) -> str:
    return f"npm/{pin}/{'own' if own else 'other'}/{folder}"


def _ident(url: str) -> bytes:
    return sha256(url.encode()).digest()[:12]


def _packed(digests: Iterable[Digest]) -> list[tuple[str, bytes]]:
    return [(digest.algorithm, bytes.fromhex(digest.value)) for digest in digests]


def _unpacked(packed: tuple[str, bytes]) -> tuple[str, str]:
    return packed[0], packed[1].hex()

"""What frozen packuments announced of the tarballs in their pin: looked up by the address of a tarball.

The tarballs of a package are in one folder (`/<package>/-/`), or in folders of one. So each packument leaves one note
in the log of that folder, and what is read for a tarball are the logs of the folders above it: few, whatever else the
pin has. What a log takes is bounded.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from hashlib import sha256

import msgspec

from httpcache.freezing.download import Digest
from httpcache.lru import SizedLRU
from httpcache.store.base import Store
from httpcache.store.log import Log
from httpcache.target import Target, origin

log = logging.getLogger("httpcache")

DEEP = 12  # segments of a path by which a folder is known
LOG_BYTES = 4 * 1024 * 1024  # of notes in a log, after which no more are taken
ORIGINS = 16  # on which one packument can announce tarballs
REGISTRIES = 64  # that are known under a pin
NOTED = 10_000  # packuments of which it is remembered that they are noted

Tarball = tuple[str, tuple[Digest, ...]]
"""The canonical address of a tarball, and the digests of which one has to be right."""


class _Noted(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A tarball: `ident` stands for its address."""

    ident: bytes
    digests: list[tuple[str, bytes]]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[_Noted])


class Announcements:
    """The notes of all pins."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._done: SizedLRU[tuple[str, str, str], bool] = SizedLRU(NOTED)

    def is_noted(self, pin: str, digest: str, final: str) -> bool:
        """Whether nothing is left to note of a packument: its bytes, and where they came from."""
        return self._done.get((pin, digest, final)) is not None

    async def note(self, pin: str, digest: str, final: str, tarballs: Iterable[Tarball]) -> None:
        """Note what a packument announced, for `find`. Raises StoreError."""
        folders: defaultdict[str, list[Tarball]] = defaultdict(list)
        for tarball in tarballs:
            if tarball[1]:
                folders[origin(tarball[0])].append(tarball)
        for host, some in sorted(folders.items(), key=lambda item: -len(item[1]))[:ORIGINS]:
            common = max(set.intersection(*(set(_folders(url)) for url, _ in some)), key=len)
            notes = Log(self._store, _name(pin, origin(final) == host, common))
            value = _encoder.encode([_Noted(_ident(url), _packed(digests)) for url, digests in some])
            if not await notes.note(value, LOG_BYTES):
                log.warning("%s announces more tarballs than are kept in mind for this pin: not all are checked", final)
        self._done.put((pin, digest, final), True, 1)

    async def note_registry(self, pin: str, registry: str) -> None:
        """Note that packuments of a pin are below an address. Raises StoreError."""
        notes = self._registries(pin)
        while registry.encode() not in (known := await notes.read()) and len(known) < REGISTRIES:
            await notes.append(len(known), registry.encode())

    async def is_in_registry(self, target: Target) -> bool:
        """Whether something is below an address where packuments of its pin were. Raises StoreError."""
        return any(target.url.startswith(known.decode()) for known in await self._registries(target.pin).read())

    def _registries(self, pin: str) -> Log:
        return Log(self._store, f"npm/{pin}/registries")

    async def find(self, target: Target) -> tuple[Digest, ...]:
        """Return the digests that were announced for a tarball, of which one has to be right. Raises StoreError.

        Any packument can name any tarball, so that no one may decide alone. But those of the tarball's own origin speak
        for it, and no others against them.
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


def _folders(url: str) -> Sequence[str]:
    """Return the folders that a file is in, the outermost first."""
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

"""Finds the frozen index pages of a pin that list a file, and the digests they announce for it.

Each page that is frozen under a pin leaves notes of the files it lists in the logs of its origin: one log for each
project on the page or, if there are many, for each of a few groups of projects. So a lookup reads only what lists files
of the same project, and parses no page. The bytes that the pages of one origin can add to a log are limited, and so is
the number of origins: untrusted pages cost the others nothing.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from hashlib import sha256
from typing import NamedTuple
from urllib.parse import unquote
from zlib import crc32

import msgspec
from packaging.utils import canonicalize_name

from httpcache.adapter import Kept
from httpcache.credentials import PUBLIC
from httpcache.errors import BadAddress
from httpcache.freezing.download import Digest
from httpcache.lru import SizedLRU
from httpcache.store.log import Log
from httpcache.store.record import Record, decode
from httpcache.store.store import Store
from httpcache.target import Address, Target, canonical_url, origin, read_url
from pypi_adapter.offload import in_parser_thread
from pypi_adapter.registry.files import file_digests, metadata_digests
from pypi_adapter.simple.model import File, Page

log = logging.getLogger("httpcache")

MANY = 20  # with so many projects on a page, they are noted in groups
GROUPS = 16
LOG_BYTES = 1024 * 1024  # size of a log from which on no more pages are noted in it
ORIGINS = 64  # at most, whose pages are noted under a pin for files elsewhere
NOTED = 10_000  # pages remembered as completely noted
FILE_BYTES = 100  # approximate size of a note for each file

_Digests = list[tuple[str, bytes]]


class _Noted(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A file as a page lists it.

    `ident` is the truncated hash of its canonical URL, `wire` the URL as the page spells it, if that differs.
    `metadata` has the digests of its metadata file, or tells whether there is one. `size` is in bytes.
    """

    ident: bytes
    digests: _Digests = []
    metadata: _Digests | bool | None = None
    size: int | None = None
    wire: str = ""


class _Note(msgspec.Struct, frozen=True, array_like=True):
    """The files on a page that belong to one log, and the key and digest of the record of the page."""

    key: str
    digest: str
    files: list[_Noted]


class Listing(NamedTuple):
    """A file as a frozen page lists it, with only what `_Noted` keeps of it, and the record of the page."""

    file: File
    page: Record


class Listings:
    """The notes of all pins, kept in the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._done: SizedLRU[tuple[str, str, float], bool] = SizedLRU(NOTED)

    def is_noted(self, record: Record) -> bool:
        """Whether all files on the page of a record have been noted by this process."""
        return self._done.get(_identity(record)) is not None

    async def note(self, key: str, record: Record, page: Page) -> None:
        """Note which files a page lists, for `find`; `key` is the key of its record. Raises StoreError."""
        if self.is_noted(record):
            return
        pin = record.pin
        own = origin(canonical_url(record.final))
        only = None if await self._is_known(pin, own) else own
        notes = await in_parser_thread(lambda: _notes(key, record, page, only), FILE_BYTES * len(page.files))
        for group, value in notes.items():
            if not await self._log(pin, own, group).note(value, LOG_BYTES):
                log.warning("%s lists more files than the mirror remembers: not all are checked", record.url)
        self._done.put(_identity(record), True)

    async def find(self, target: Target) -> list[Listing]:
        """Return how the index pages of the pin list a file. Raises StoreError.

        Any page can link any file, so no page may decide alone: the file must match any one of them. But if pages of
        the file's own origin list it, only they count.
        """
        own = await self._by(target.origin, target)
        if own:
            return own
        others = [known for known in await self.origins(target.pin) if known != target.origin]
        return [found for other in others for found in await self._by(other, target)]

    async def _by(self, own: str, target: Target) -> list[Listing]:
        """Return how the pages of the origin `own` list a file."""
        project, ident = _project(filename_of(target.url)), _ident(target.url)
        found: list[Listing] = []
        for group in (_alone(project), _grouped(project)):
            for value in await self._log(target.pin, own, group).read():
                if ident in value:
                    note = _decoder.decode(value)
                    page = await self._record(note)
                    if page:
                        found += [Listing(_file(file, target.url), page) for file in note.files if file.ident == ident]
        return found

    async def _record(self, note: _Note) -> Record | None:
        """Return the record of the page of a note, or None if an operator has removed it."""
        value = await self._store.get(note.key)
        entry = decode(value) if value else None
        return entry if isinstance(entry, Record) and entry.digest == note.digest else None

    async def _is_known(self, pin: str, own: str) -> bool:
        """Whether `find` reads the notes of this origin for files of other origins; add the origin if there is room."""
        known = Log(self._store, f"listings/{pin}")
        while own not in (origins := await self.origins(pin)):
            if len(origins) >= ORIGINS:
                log.warning(
                    "the pin %s has index pages of too many origins: what %s says of files elsewhere is ignored",
                    pin,
                    own,
                )
                return False
            await known.append(len(origins), own.encode())
        return True

    async def origins(self, pin: str) -> list[str]:
        """Return the origins of the pages that are noted. Raises StoreError."""
        return [value.decode() for value in await Log(self._store, f"listings/{pin}").read()]

    def _log(self, pin: str, own: str, group: str) -> Log:
        return Log(self._store, _log_name(pin, own, group))


async def carried(store: Store, pin: str) -> AsyncIterator[Kept]:
    """Yield the notes of a pin for an export: those of pages that everyone may read, of the projects frozen there.

    Notes of other projects are made again when their page is next requested.
    """
    groups = {f"group {number}" for number in range(GROUPS)}
    after = None
    while page := await store.index.records(pin, after=after):
        groups |= {_alone(project) for place, _ in page for project in _projects_of(place.address)}
        after = page[-1].place
    origins = []
    for own in await Listings(store).origins(pin):
        carries = False
        for group in sorted(groups):
            name = _log_name(pin, own, group)
            values = [value for value in await Log(store, name).read() if await _is_public(store, value)]
            if values:
                carries = True
                yield Kept(name, values, is_set=True)
        if carries:
            origins.append(own.encode())
    yield Kept(f"listings/{pin}", origins, is_set=True)


def _projects_of(url: str) -> tuple[str, str]:
    """Return the projects that a file, or an index page, can be of."""
    path = url.partition("?")[0].rstrip("/")
    return _project(filename_of(path)), canonicalize_name(filename_of(path))


async def _is_public(store: Store, value: bytes) -> bool:
    """Whether a note is of a page that is frozen, and that everyone may read."""
    note = _decoder.decode(value)
    found = await store.get(note.key)
    entry = decode(found) if found else None
    return isinstance(entry, Record) and entry.digest == note.digest and entry.scope == PUBLIC


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Note)


def _identity(record: Record) -> tuple[str, str, float]:
    return record.target, record.digest, record.created


def link(url: str) -> Address | None:
    """Return the address of a link, or None if it cannot be fetched."""
    try:
        return read_url(url)
    except BadAddress:
        return None


def _notes(key: str, record: Record, page: Page, only: str | None) -> dict[str, bytes]:
    """Return the notes of a page by the log they belong to; `only`: an origin to which its files are restricted."""
    projects: defaultdict[str, list[_Noted]] = defaultdict(list)
    for file in page.files:
        address = link(file.url)
        if address and only in (None, origin(address.url)):
            projects[_project(filename_of(address.url))].append(_noted(file, address))
    groups: defaultdict[str, list[_Noted]] = defaultdict(list)
    for project, files in projects.items():
        groups[_alone(project) if len(projects) < MANY else _grouped(project)] += files
    return {group: _encoder.encode(_Note(key, record.digest, files)) for group, files in groups.items()}


def _noted(file: File, address: Address) -> _Noted:
    metadata = _packed(metadata_digests(file)) or (None if file.core_metadata is None else bool(file.core_metadata))
    wire = address.wire if address.wire != address.url else ""
    return _Noted(_ident(address.url), _packed(file_digests(file)), metadata, file.size, wire)


def _file(noted: _Noted, url: str) -> File:
    metadata = noted.metadata if isinstance(noted.metadata, bool | None) else _unpacked(noted.metadata)
    wire = noted.wire or url
    return File(filename_of(url), wire, _unpacked(noted.digests), size=noted.size, core_metadata=metadata)


def _packed(digests: Iterable[Digest]) -> _Digests:
    return [(digest.algorithm, bytes.fromhex(digest.value)) for digest in digests]


def _unpacked(digests: _Digests) -> dict[str, str]:
    return {name: value.hex() for name, value in digests}


def _ident(url: str) -> bytes:
    return sha256(url.encode()).digest()[:12]


def _log_name(pin: str, own: str, group: str) -> str:
    return f"listings/{pin}/{own}/{group}"


def _alone(project: str) -> str:
    return f"project {project}"


def _grouped(project: str) -> str:
    return f"group {crc32(project.encode()) % GROUPS}"


def filename_of(url: str) -> str:
    """Return the decoded name of the file at an address."""
    return unquote(url.partition("?")[0].rpartition("/")[2])


def _project(filename: str) -> str:
    """Return the normalised project of a distribution file: the part before the version (PEP 427, PEP 625)."""
    name = filename.partition("-")[0] if filename.endswith(".whl") else filename.rpartition("-")[0]
    return canonicalize_name(name)

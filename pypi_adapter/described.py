"""What is known of a frozen distribution file: project, version, licences (METADATA), and the operator's advisories."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence, Set

import anyio.to_thread
from packaging.metadata import parse_email
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)

from httpcache.adapter import Advisory, Described
from httpcache.errors import MirrorError
from httpcache.settings import Settings
from httpcache.store import keys
from httpcache.store.builds import File
from httpcache.store.record import Record, decode
from httpcache.store.store import Store
from httpcache.store.tarballs import member
from httpcache.target import Target, looks_like_url
from pypi_adapter.policy.osv import read_advisories
from pypi_adapter.policy.rules import Rule, Rules
from pypi_adapter.registry.metadata_source import SUFFIX, metadata_url
from pypi_adapter.registry.wheel_metadata import from_wheel
from pypi_adapter.simple.model import is_distribution
from pypi_adapter.simple.versions import file_version
from pypi_adapter.web.listings import Listings, filename_of

from .config import Document

ALL = ("",)
"""The beginnings of the ids of all advisories: those that withhold nothing are about a package too."""
OF_PYPI = "files"
"""The pin of the built-in registry's files: advisories are about its projects, and not about others of that name."""
_CLASSIFIER = "License :: "
_NO_LICENCE = "OSI Approved"  # as a classifier of its own it names none
_LONGEST = 100  # characters of a licence's name


async def describe(store: Store, settings: Settings, files: Sequence[File]) -> list[Described | None]:
    """See `httpcache.adapter.Adapter`."""
    found = [await _package(store, file) for file in files]
    projects = {each.name for file, each in zip(files, found, strict=True) if each and file.pin == OF_PYPI}
    advised = await anyio.to_thread.run_sync(_advised, settings, projects)
    return [
        each and each._replace(advisories=_about(each, advised) if file.pin == OF_PYPI else ())
        for file, each in zip(files, found, strict=True)
    ]


async def _package(store: Store, file: File) -> Described | None:
    filename = filename_of(file.url)
    if filename.removesuffix(SUFFIX).endswith(".whl") and filename.endswith(SUFFIX):
        return Described("pypi", *_name(filename.removesuffix(SUFFIX)), is_metadata=True)
    if not is_distribution(filename):
        return None
    is_certain = not looks_like_url(file.url) or filename.endswith(".whl")  # any archive can have such a name
    if not (is_certain or await Listings(store).find(Target(file.pin, file.url))):
        return None
    name, version = _name(filename)
    if not looks_like_url(file.url):
        name = canonicalize_name(file.url.split("/")[-3])
    return Described("pypi", name, version, licences=await _licences(store, file, filename))


def _name(filename: str) -> tuple[str, str | None]:
    """Return the normalised name of a file's project, and its version."""
    try:
        parsed = parse_wheel_filename(filename)[:2] if filename.endswith(".whl") else parse_sdist_filename(filename)
    except (InvalidWheelFilename, InvalidSdistFilename):
        return canonicalize_name(filename.partition("-")[0]), file_version(filename)
    return parsed[0], str(parsed[1])


async def _licences(store: Store, file: File, filename: str) -> tuple[str, ...]:
    """Return the licences that a file declares; none if its metadata cannot be read."""
    try:
        if filename.endswith(".whl"):
            return licences(await _of_wheel(store, file, filename))
        return licences(await member(store, file.digest, file.size, _is_pkg_info) or b"")
    except MirrorError:  # it may have been removed since
        return ()


async def _of_wheel(store: Store, file: File, filename: str) -> bytes:
    """Return the METADATA of a wheel: the frozen one, else out of the wheel. Raises MirrorError."""
    value = await store.get(keys.record(Target(file.pin, metadata_url(file.url)).key))
    record = decode(value) if value else None
    if isinstance(record, Record) and await store.check(record.digest, record.size):
        return await _read(store, record.digest, record.size, 0, record.size)
    if not await store.check(file.digest, file.size):
        return b""
    return await from_wheel(file.size, lambda start, stop: _read(store, file.digest, file.size, start, stop), filename)


async def _read(store: Store, digest: str, size: int, start: int, stop: int) -> bytes:
    return b"".join([chunk async for chunk in store.read_body(digest, size, start, stop)])


def _is_pkg_info(path: str) -> bool:
    return path.count("/") == 1 and path.endswith("/PKG-INFO")


def licences(metadata: bytes) -> tuple[str, ...]:
    """Return the licences in METADATA: its License-Expression (PEP 639), else its License, else its classifiers.

    A License with several lines is a text, for which the classifiers stand, or if there are none, its first line.
    """
    raw, _ = parse_email(metadata)
    if expression := raw.get("license_expression"):
        return (expression,)
    lines = [line.strip() for line in raw.get("license", "").splitlines() if line.strip()]
    classified = [text for text in raw.get("classifiers", []) if text.startswith(_CLASSIFIER)]
    names = [name for text in classified if (name := text.rpartition("::")[2].strip()) != _NO_LICENCE]
    if len(lines) == 1 and lines[0].upper() != "UNKNOWN" and len(lines[0]) <= _LONGEST:
        return (lines[0],)
    return tuple(names) or tuple(line[:_LONGEST] for line in lines[:1] if line.upper() != "UNKNOWN")


def _advised(settings: Settings, projects: Set[str]) -> dict[str, list[Rule]]:
    """Return the advisories of the settings that are about some projects. Raises MirrorError."""
    advised: defaultdict[str, list[Rule]] = defaultdict(list)
    for source in settings.file.tables(Document).advisories if projects else ():
        for rule in read_advisories(settings.file.folder / source.path, ALL):
            if rule.project and rule.project in projects:
                advised[rule.project].append(rule)
    return advised


def _about(package: Described, advised: dict[str, list[Rule]]) -> tuple[Advisory, ...]:
    rules = advised.get(package.name, ())
    found = {each.source: each.reason for each in rules if Rules([each], ()).file(package.name, package.version, None)}
    return tuple(Advisory(source, reason) for source, reason in sorted(found.items()))

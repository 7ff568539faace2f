"""Reads advisories in OSV format (https://ossf.github.io/osv-schema/) as block rules, from a folder, zip or tar.gz."""

from __future__ import annotations

import gzip
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
from packaging.utils import canonicalize_name
from packaging.version import Version

from httpcache.errors import MirrorError

from .rules import Rule

_MAX_ENTRY = 10_000_000  # bytes in an advisory
_MAX_HEADERS = 65_536  # bytes of headers before a file in a tar
_REASON = 300  # characters of a summary that are kept
_UNREADABLE = (
    OSError,
    EOFError,
    UnicodeError,
    zlib.error,
    tarfile.TarError,
    zipfile.BadZipFile,
    NotImplementedError,  # zipfile, for a compression method that it does not know
    RuntimeError,  # zipfile, for encrypted files
)


class _Event(msgspec.Struct):
    introduced: str | None = None
    fixed: str | None = None
    last_affected: str | None = None
    limit: str | None = None


class _Range(msgspec.Struct):
    type: str
    events: tuple[_Event, ...] | None = None


class _Package(msgspec.Struct):
    ecosystem: str
    name: str


class _Affected(msgspec.Struct):
    package: _Package | None = None
    versions: tuple[str, ...] | None = None
    ranges: tuple[_Range, ...] | None = None


class _Advisory(msgspec.Struct):
    id: str
    withdrawn: str | None = None
    aliases: tuple[str, ...] | None = None
    summary: str | None = None
    affected: tuple[_Affected, ...] | None = None


_DECODER = msgspec.json.Decoder(_Advisory)


def read_advisories(path: Path, prefixes: Sequence[str] = ("MAL-",)) -> Iterator[Rule]:
    """Yield rules from advisories about PyPI's projects: the *.json files in a folder (at any depth), .zip or .tar.gz.

    An advisory counts if it is not withdrawn and its id or an alias starts with a prefix; that id is the rule's source.
    There is a rule for each version and each interval of versions (`versions`, and `ranges` except those of git
    commits), or one for the whole project if all versions are affected or none is named. Intervals are the schema's,
    in the order of PEP 440, with pre-releases. A local version counts as its public one, which blocks too much rather
    than too little.

    Raises MirrorError with the name of the file if one cannot be read or understood or an advisory is larger than
    10 MB, and if there are no advisories. Some damage is found only at the end, so use no rule before all are read.
    """
    found = False
    for name, data in _documents(path):
        found = True
        yield from _rules(name, data, tuple(prefixes))
    if not found:
        raise MirrorError(
            f"{path} contains no .json file: give a folder, .zip or .tar.gz with advisories in OSV format"
        )


# --- files


def _documents(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the names and contents of the files, with one in memory at a time."""
    try:
        if path.is_dir():
            yield from _in_folder(path)
        elif path.name.endswith(".zip"):
            yield from _in_zip(path)
        elif path.name.endswith((".tar.gz", ".tgz")):
            yield from _in_tar(path)
        else:
            raise MirrorError(f"{path} is not a folder, .zip or .tar.gz with advisories")
    except _UNREADABLE as error:
        raise MirrorError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _in_folder(path: Path) -> Iterator[tuple[str, bytes]]:
    for folder, folders, files in os.walk(path, onerror=_fail):
        folders.sort()
        for file in (Path(folder, name) for name in sorted(files) if name.endswith(".json")):
            with file.open("rb") as stream:
                yield str(file), _bounded(stream.read(_MAX_ENTRY + 1), str(file))


def _fail(error: OSError) -> None:
    raise error


def _in_zip(path: Path) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not member.filename.endswith(".json"):
                continue
            name = f"{path}: {member.filename}"
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # zipfile does not bound others
                raise MirrorError(f"{name} is compressed by a method that is not supported: use deflate")
            with archive.open(member) as stream:
                yield name, _bounded(stream.read(_MAX_ENTRY + 1), name)


def _in_tar(path: Path) -> Iterator[tuple[str, bytes]]:
    with _Unpacked(path) as unpacked, tarfile.open(fileobj=unpacked, mode="r:") as archive:
        while member := archive.next():
            archive.members.clear()  # type: ignore[attr-defined]  # it would hold all of them
            name = f"{path}: {member.name}"
            if member.name.endswith(".json") and not member.isdir():
                if not member.isfile():
                    raise MirrorError(f"{name} is a link or a device, not a file")
                stream = archive.extractfile(member)
                yield name, _bounded(stream.read(_MAX_ENTRY + 1) if stream else b"", name)
            unpacked.left = _MAX_ENTRY + _MAX_HEADERS
        unpacked.finish()


class _Unpacked(gzip.GzipFile):
    """The bytes of a tar.gz. At most `left` are read: headers can announce any length, and tarfile reads them whole."""

    left = _MAX_ENTRY + _MAX_HEADERS
    last = b""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= self.left:
            raise tarfile.ReadError(f"an entry or its headers have more than {_MAX_ENTRY // 1_000_000} MB")
        self.last = super().read(size)
        self.left -= size
        return self.last

    def finish(self) -> None:
        """Check how the tar ended, because tarfile takes a damaged header for the end, and gzip's checksum."""
        if self.last.strip(b"\0"):
            raise tarfile.ReadError("it has a damaged header")
        while super().read(65_536):
            pass


def _bounded(data: bytes, name: str) -> bytes:
    if len(data) > _MAX_ENTRY:
        raise MirrorError(f"{name} has more than {_MAX_ENTRY // 1_000_000} MB, so it is not an advisory")
    return data


# --- advisories


def _rules(name: str, data: bytes, prefixes: tuple[str, ...]) -> Iterator[Rule]:
    try:
        advisory = _DECODER.decode(data)
        ids = (advisory.id, *(advisory.aliases or ()))
        source = next((text for text in ids if text.startswith(prefixes)), None)
        if source is None or advisory.withdrawn:
            return
        reason = _line(advisory.summary or "") or f"named by {source}"
        for affected in advisory.affected or ():
            package = affected.package
            if package and package.ecosystem.partition(":")[0] == "PyPI":
                project = canonicalize_name(package.name)
                yield from (Rule(project, versions, None, reason, source) for versions in _specifiers(affected))
    except (ValueError, msgspec.DecodeError, RecursionError) as error:
        raise MirrorError(f"{name} is damaged or not an advisory in OSV format: {error}") from error


def _line(text: str) -> str:
    """Return a text as one printable line of bounded length."""
    return "".join(character for character in " ".join(text.split()) if character.isprintable())[:_REASON]


def _specifiers(affected: _Affected) -> list[str] | list[None]:
    """Return specifier sets that together include what is affected, or [None] for all versions.

    Ranges of git commits say nothing about versions: if there is nothing else, all versions are affected.
    """
    ranges = [each.events or () for each in affected.ranges or () if each.type != "GIT"]
    sets = [specifiers for events in ranges for specifiers in _intervals(events)]
    sets += [_exactly(version) for version in affected.versions or ()]
    return list(dict.fromkeys(sets)) if sets and "" not in sets else [None]


def _intervals(events: Iterable[_Event]) -> Iterator[str]:
    """Yield a specifier set for each interval that the events form (the schema's section "Evaluation").

    Events at the same version stay in the order in which they are written.
    """
    points = [_point(event) for event in events]
    limits = [text for kind, text in points if kind == "limit"]
    end = "" if not limits or any("*" in text for text in limits) else _before(max(map(Version, limits)))
    if not any(kind == "introduced" for kind, _ in points):
        raise ValueError("a range has no event 'introduced'")
    start: str | None = None
    for kind, text in sorted((point for point in points if point[0] != "limit"), key=_order):
        if kind == "introduced":
            start = _since(text) if start is None else start
        elif start is not None:
            yield _joined(start, _before(Version(text)) if kind == "fixed" else f"<={Version(text).public}", end)
            start = None
    if start is not None:
        yield _joined(start, end)


def _point(event: _Event) -> tuple[str, str]:
    points = [(kind, text) for kind, text in msgspec.structs.asdict(event).items() if text is not None]
    if len(points) != 1:
        raise ValueError("an event must have exactly one of introduced, fixed, last_affected and limit")
    return points[0]


def _order(point: tuple[str, str]) -> tuple[bool, Version]:
    """Return a sort key by version; introduced "0" comes before all."""
    kind, text = point
    return (kind, text) != ("introduced", "0"), Version(text)


# PEP 440 compares local versions only with `==`; for other operators a bound is moved to where it includes more.


def _since(text: str) -> str:
    return "" if text == "0" else f">={Version(text).public}"


def _before(version: Version) -> str:
    """Return specifiers for what is before a version; `<` would exclude its pre-releases (PEP 440)."""
    return f"<={version.public}" if version.local else f"<={version},!={version}"


def _exactly(text: str) -> str:
    """Return a specifier for one version, or for the very text if it is not a version (PEP 440, arbitrary equality)."""
    try:
        return f"=={Version(text)}"
    except ValueError:
        return f"==={text}"


def _joined(*specifiers: str) -> str:
    return ",".join(filter(None, specifiers))

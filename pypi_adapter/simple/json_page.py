"""Parses and renders index pages as JSON: PEP 691 with the additions of PEP 700, 708, 740 and 792. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypeAlias

import msgspec

from httpcache.errors import plain

from .links import (
    PROJECT_NAME,
    SAFE_FILENAME,
    SERIAL,
    api_version,
    check_api_version,
    check_count,
    file_link,
    is_complete,
    lowest_version,
    named_by,
    only_hashes,
    project_of,
    provenance_url,
    without_user,
)
from .model import BadPage, File, Page, ProjectList, ProjectStatus, Unread
from .tolerant_json import decode, is_text, salvaged
from .upload_time import upload_time


class _JsonFile(msgspec.Struct, rename="kebab", gc=False):
    filename: str
    url: str
    hashes: dict[str, str] | None = None
    requires_python: str | None = None
    size: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | None = None
    upload_time: str | None = None
    yanked: bool | str | None = None
    core_metadata: bool | dict[str, str] | None = None
    dist_info_metadata: bool | dict[str, str] | None = None
    gpg_sig: bool | None = None
    provenance: str | None = None


class _JsonProject(msgspec.Struct):
    name: str
    last_serial: int | None = msgspec.field(default=None, name="_last-serial")


class _JsonStatus(msgspec.Struct):
    status: str | None = None
    reason: str | None = None


class _JsonMeta(msgspec.Struct, rename="kebab"):
    api_version: str | float | None = None
    last_serial: int | str | None = msgspec.field(default=None, name="_last-serial")
    tracks: list[str] | None = None


class _JsonDocument(msgspec.Struct, rename="kebab"):
    meta: _JsonMeta | None = None
    name: str | None = None
    files: list[_JsonFile] | None = None
    projects: list[_JsonProject] | None = None
    versions: list[str] | None = None
    project_status: _JsonStatus | None = None
    alternate_locations: list[str] | None = None


_Entry: TypeAlias = tuple[_JsonFile | None, str, tuple[str, ...]]
"""A file's entry, None if it cannot be read; its name, empty if unreadable; its other unreadable fields."""

# Document fields, with the field of the model that each is read into if its name is not the same.
_OF_FILE = {"dist_info_metadata": "core_metadata"}
_OF_PAGE = {"meta": "tracks", "project_status": "status", "alternate_locations": "alternate_locations"}
_DECODER = msgspec.json.Decoder(_JsonDocument)
_FILES = msgspec.json.Decoder(tuple[File, ...])
_ENCODER = msgspec.json.Encoder(order="deterministic")
_NO_FILES = b'"files":[]'


def parse_json(body: bytes, url: str) -> Page | ProjectList:
    """Parse PEP 691 JSON, leaving out only the parts that cannot be read. For `url` see `parser.parse`.

    Raises `BadPage`.
    """
    document, entries, unreadable = _read(body)
    meta = document.meta or _JsonMeta()
    check_api_version(str(meta.api_version or "1.0"))
    serial = int(str(meta.last_serial)) if SERIAL.fullmatch(str(meta.last_serial)) else None
    check_count(len(entries or ()) + len(document.projects or ()))
    if entries is not None:
        files, unread = _files(entries, url, tuple(_OF_PAGE[name] for name in unreadable if name in _OF_PAGE))
        return Page(
            name=document.name or project_of(url),
            files=files,
            versions=None if document.versions is None else tuple(document.versions),
            serial=serial,
            status=_json_status(document.project_status),
            tracks=tuple(map(without_user, meta.tracks or ())),
            alternate_locations=tuple(map(without_user, document.alternate_locations or ())),
            unread=unread,
        )
    if document.projects is not None:
        return _json_list(document.projects, serial, unread="projects" in unreadable)
    raise BadPage("not a JSON index page: it has neither `files` nor `projects`")


def _read(body: bytes) -> tuple[_JsonDocument, list[_Entry] | None, tuple[str, ...]]:
    """Return a document, the entries of its files, and which of its own fields cannot be read.

    Nearly all documents are valid. Others are read a second time, part by part.
    """
    try:
        document = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _salvaged(body)
    files = document.files
    return document, None if files is None else [(file, file.filename, ()) for file in files], ()


def _salvaged(body: bytes) -> tuple[_JsonDocument, list[_Entry] | None, tuple[str, ...]]:
    try:
        value = decode(body)
    except (ValueError, RecursionError) as error:
        raise BadPage(f"not a JSON index page: {error}") from error
    if not isinstance(value, dict):
        raise BadPage("not a JSON index page: Expected `object`")
    items = value.pop("files", None)
    if not isinstance(items, list | None):
        raise BadPage("not a JSON index page: `files` is not a list")
    document, unread = salvaged(value, _JsonDocument)
    if document is None:  # cannot happen for an object: no field is required
        raise BadPage("not a JSON index page")
    entries = None if items is None else [_entry(item) for item in items]
    if entries and not any(file for file, _, _ in entries):
        raise BadPage("not a JSON index page: none of the entries of its `files` can be read")
    if document.projects == [] and "projects" in unread:
        raise BadPage("not a JSON index page: none of its `projects` can be read")
    return document, entries, unread


def _entry(item: object) -> _Entry:
    file, unread = salvaged(item, _JsonFile)
    fields = item if isinstance(item, dict) else {}
    names = (fields.get("filename"), named_by(url) if isinstance(url := fields.get("url"), str) else "")
    return (
        file,
        next((name for name in names if is_text(name) and name), ""),
        tuple(_OF_FILE.get(name, name) for name in unread),
    )


def _files(entries: list[_Entry], url: str, unread: tuple[str, ...]) -> tuple[tuple[File, ...], Unread | None]:
    """Return the files of entries, and what cannot be read of them or the page; `unread` has the fields of the page."""
    files, lost, fields = [], [], {}
    for entry, name, unreadable in entries:
        file = _json_file(entry, url) if entry else None
        if entry is None or file is None:
            lost.append(name)
            continue
        files.append(file)
        missing = _unread(entry, file, unreadable)
        if missing:
            fields[name] = missing
    if not (lost or fields or unread):
        return tuple(files), None
    return tuple(files), Unread(frozenset(filter(SAFE_FILENAME.fullmatch, lost)), "" in lost, fields, unread)


def _unread(entry: _JsonFile, file: File, unreadable: tuple[str, ...]) -> tuple[str, ...]:
    """Return the fields of a file that cannot be read: those of the wrong type, and those with an invalid value."""
    if entry.hashes and len(file.hashes) < len(entry.hashes):
        unreadable += ("hashes",)
    if entry.upload_time and file.upload_time is None:
        unreadable += ("upload_time",)
    if entry.provenance and file.provenance is None:
        unreadable += ("provenance",)
    return unreadable


def _json_list(entries: list[_JsonProject], serial: int | None, *, unread: bool) -> ProjectList:
    projects = [project for project in entries if PROJECT_NAME.fullmatch(project.name)]
    serials = tuple(project.last_serial for project in projects if project.last_serial is not None)
    names = tuple(project.name for project in projects)
    return ProjectList(names, serial, serials if len(serials) == len(names) else (), unread)


def _json_file(file: _JsonFile, base: str) -> File | None:
    link = file_link(base, file.url)
    if link is None or not SAFE_FILENAME.fullmatch(file.filename):
        return None
    url, hashes = link
    metadata = file.dist_info_metadata if file.core_metadata is None else file.core_metadata
    return File(
        filename=file.filename,
        url=url,
        hashes=hashes | only_hashes(file.hashes) if file.hashes else hashes,
        requires_python=plain(file.requires_python) or None if file.requires_python else None,
        size=file.size,
        upload_time=upload_time(file.upload_time) if file.upload_time else None,
        yanked=plain(file.yanked) if isinstance(file.yanked, str) and file.yanked else bool(file.yanked),
        core_metadata=only_hashes(metadata) or bool(metadata) if isinstance(metadata, dict) else metadata,
        gpg_sig=file.gpg_sig,
        provenance=provenance_url(file.provenance),
    )


def _json_status(status: _JsonStatus | None) -> ProjectStatus | None:
    if status is None or (status.status is None and status.reason is None):
        return None
    return ProjectStatus(plain(status.status or "active"), None if status.reason is None else plain(status.reason))


def to_json(page: Page | ProjectList) -> bytes:
    """Render PEP 691 JSON. Equal pages give equal bytes.

    The API version is the lowest that has all that the page says; 1.0 if sizes or versions are unknown, because 1.1
    and later promise them (PEP 700).
    """
    if isinstance(page, ProjectList):
        projects = [{"name": name} for name in page.names]
        return _ENCODER.encode({"meta": {"api-version": "1.0"}, "projects": projects})
    return _document(page, page.files, api_version(page) if is_complete(page) else "1.0")


def file_json(file: File) -> bytes:
    """Render one file as it appears on a page."""
    return _ENCODER.encode(file)


def files_from_json(files: Sequence[bytes]) -> tuple[File, ...]:
    """Read files that `file_json` rendered."""
    return _FILES.decode(_joined(files, b"[", b"]"))


def joined_json(page: Page, files: Sequence[bytes], *, attested: bool, complete: bool) -> bytes:
    """Render a page, as `to_json` does, from files that are already rendered; `page.files` is ignored.

    `attested`: whether any of the files has a provenance; `complete`: whether the page has all that PEP 700 requires.
    """
    version = lowest_version(page, attested=attested, complete=complete) if complete else "1.0"
    # No string of the document can contain this: quotes in it are escaped.
    before, after = _document(page, (), version).split(_NO_FILES)
    return _joined(files, before + _NO_FILES[:-1], _NO_FILES[-1:] + after)


def _joined(files: Sequence[bytes], before: bytes, after: bytes) -> bytes:
    """Return the files with commas between them, copied only once: they can be megabytes."""
    first, *rest = files or (b"",)
    *rest, last = [before + first, *rest]
    return b",".join([*rest, last + after])


def _document(page: Page, files: object, version: str) -> bytes:
    meta: dict[str, object] = {"api-version": version}
    document: dict[str, object] = {"meta": meta, "name": page.name, "files": files}
    if page.tracks:
        meta["tracks"] = page.tracks
    if page.versions is not None:
        document["versions"] = page.versions
    if page.alternate_locations:
        document["alternate-locations"] = page.alternate_locations
    if page.status:
        document["project-status"] = {"status": page.status.status} | (
            {} if page.status.reason is None else {"reason": page.status.reason}
        )
    return _ENCODER.encode(document)

"""Index pages as JSON: PEP 691, with what PEP 700, 708, 740 and 792 added. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

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
    only_hashes,
    project_of,
    provenance_url,
)
from .page import BadPage, File, Page, ProjectList, ProjectStatus


class _JsonFile(msgspec.Struct, rename="kebab"):
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
    api_version: str | None = None
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


_DECODER = msgspec.json.Decoder(_JsonDocument)
_FILES = msgspec.json.Decoder(tuple[File, ...])
_ENCODER = msgspec.json.Encoder(order="deterministic")


def parse_json(body: bytes, url: str) -> Page | ProjectList:
    try:
        document = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadPage(f"not a JSON index page: {error}") from error
    meta = document.meta or _JsonMeta()
    check_api_version(meta.api_version or "1.0")
    serial = int(str(meta.last_serial)) if SERIAL.fullmatch(str(meta.last_serial)) else None
    check_count(len(document.files or ()) + len(document.projects or ()))
    if document.files is not None:
        files = (_json_file(file, url) for file in document.files)
        return Page(
            name=document.name or project_of(url),
            files=tuple(file for file in files if file is not None),
            versions=None if document.versions is None else tuple(document.versions),
            serial=serial,
            status=_json_status(document.project_status),
            tracks=tuple(meta.tracks or ()),
            alternate_locations=tuple(document.alternate_locations or ()),
        )
    if document.projects is not None:
        projects = [project for project in document.projects if PROJECT_NAME.fullmatch(project.name)]
        serials = tuple(project.last_serial for project in projects if project.last_serial is not None)
        names = tuple(project.name for project in projects)
        return ProjectList(names, serial, serials if len(serials) == len(names) else ())
    raise BadPage("not a JSON index page: it has neither `files` nor `projects`")


def _json_file(file: _JsonFile, base: str) -> File | None:
    link = file_link(base, file.url)
    if link is None or not SAFE_FILENAME.fullmatch(file.filename):
        return None
    url, hashes = link
    metadata = file.dist_info_metadata if file.core_metadata is None else file.core_metadata
    return File(
        filename=file.filename,
        url=url,
        hashes=hashes | only_hashes(file.hashes or {}),
        requires_python=file.requires_python or None,
        size=file.size,
        upload_time=file.upload_time,
        yanked=file.yanked or False,
        core_metadata=only_hashes(metadata) or bool(metadata) if isinstance(metadata, dict) else metadata,
        gpg_sig=file.gpg_sig,
        provenance=provenance_url(file.provenance),
    )


def _json_status(status: _JsonStatus | None) -> ProjectStatus | None:
    if status is None or (status.status is None and status.reason is None):
        return None
    return ProjectStatus(status.status or "active", status.reason)


def to_json(page: Page | ProjectList) -> bytes:
    """Render PEP 691 JSON. Equal pages give equal bytes.

    The API version is the lowest that has what the page says, and 1.0 where sizes or versions are unknown,
    because 1.1 and later promise them (PEP 700).
    """
    if isinstance(page, ProjectList):
        projects = [{"name": name} for name in page.names]
        return _ENCODER.encode({"meta": {"api-version": "1.0"}, "projects": projects})
    return _document(page, page.files, api_version(page) if is_complete(page) else "1.0")


def file_json(file: File) -> bytes:
    """Render one file as it stands on a page."""
    return _ENCODER.encode(file)


def files_from_json(files: Sequence[bytes]) -> tuple[File, ...]:
    """Read files that `file_json` rendered."""
    return _FILES.decode(_array(files))


def joined_json(page: Page, files: Sequence[bytes], *, attested: bool, complete: bool) -> bytes:
    """Render a page whose files are rendered already, as `to_json` does; those of `page` do not count.

    `attested`: any of them has a provenance; `complete`: the page has all that PEP 700 requires.
    """
    version = lowest_version(page, attested=attested, complete=complete) if complete else "1.0"
    return _document(page, msgspec.Raw(_array(files)), version)


def _array(files: Sequence[bytes]) -> bytes:
    first, *rest = files or (b"",)
    *rest, last = [b"[" + first, *rest]
    return b",".join([*rest, last + b"]"])  # what can be megabytes is copied once


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

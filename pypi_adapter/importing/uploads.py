"""Reads one upload of a table of uploads. Pure.

Its columns have the names that they have in PyPI's public dataset of uploads, the table `distribution_metadata`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple
from urllib.parse import quote

from packaging.utils import InvalidName, canonicalize_name

from httpcache.errors import BadAddress, redact
from httpcache.target import read_url
from pypi_adapter.instants import read_instant
from pypi_adapter.simple.links import SAFE_FILENAME
from pypi_adapter.simple.model import SHA256, File
from pypi_adapter.simple.upload_time import upload_time

REQUIRED = ("name", "filename", "upload_time", "sha256_digest")
COLUMNS = (*REQUIRED, "version", "path", "url", "size", "requires_python")
"""The columns that are read; all others are left alone."""

_LONGEST = 100  # characters of a wrong value that are shown


class BadUpload(ValueError):
    """A row is not an upload; the text says why."""


class Upload(NamedTuple):
    """A file that was uploaded: its project (normalised), when (microseconds), its version as the table spells it."""

    project: str
    instant: int
    version: str
    file: File


def read_upload(row: Mapping[str, object], base: str, now: int) -> Upload:
    """Return the upload of a row. Raises BadUpload.

    `base` is the address below which the `path` of a file is, "" if it is not known; `now` is in microseconds.
    """
    name, filename = _text(row, "name"), _text(row, "filename")
    try:
        project = canonicalize_name(name, validate=True)
    except InvalidName:
        raise BadUpload(f"name {_shown(name)} is not the name of a project (PEP 508)") from None
    if not SAFE_FILENAME.fullmatch(filename):
        raise BadUpload(f"filename {_shown(filename)} is not the name of a file")
    uploaded, instant = _uploaded(row, now)
    sha256 = _text(row, "sha256_digest").lower()
    if not SHA256.fullmatch(sha256):
        raise BadUpload(f"sha256_digest {_shown(sha256)} is not a sha256: 64 hexadecimal digits")
    file = File(
        filename=filename,
        url=_address(row, base),
        hashes={"sha256": sha256},
        requires_python=_optional(row, "requires_python"),
        size=_size(row),
        upload_time=uploaded,
    )
    return Upload(project, instant, _optional(row, "version") or "", file)


def _uploaded(row: Mapping[str, object], now: int) -> tuple[str, int]:
    """Return the upload time in the format of PEP 700, and in microseconds."""
    value = row.get("upload_time")
    text = value.isoformat() if isinstance(value, datetime) else _text(row, "upload_time")
    uploaded = upload_time(text)
    instant = read_instant(uploaded)
    if uploaded is None or instant is None:
        raise BadUpload(f"upload_time {_shown(text)} is not a time, such as 2021-04-05 15:32:41.123456 UTC")
    if instant > now:
        raise BadUpload(f"upload_time {_shown(text)} is in the future")
    return uploaded, instant


def _size(row: Mapping[str, object]) -> int | None:
    value = row.get("size")
    if value is None or value == "":
        return None
    if isinstance(value, int | str) and not isinstance(value, bool):
        text = str(value)
        if text.isascii() and text.isdecimal() and len(text) < 19:
            return int(text)
    raise BadUpload(f"size {_shown(value)} is not a number of bytes")


def _address(row: Mapping[str, object], base: str) -> str:
    """Return the address of the file, from `url`, or from `path` below the base."""
    url, path = _optional(row, "url"), _optional(row, "path")
    if url is None and path is None:
        raise BadUpload("it has neither a path nor a url")
    if url is None and not base:
        raise BadUpload("it has only a path: name the address below which the files are with --files")
    text = url or base + quote(path or "", safe="/~!$&'()*+,;=:@")
    try:
        found = read_url(text)
    except BadAddress as error:
        raise BadUpload(f"{_shown(redact(text))} is not the address of a file: {error.text}") from error
    if url is None and not found.wire.startswith(base):
        raise BadUpload(f"path {_shown(path)} does not stay below {base}")
    return found.wire


def _text(row: Mapping[str, object], column: str) -> str:
    if column not in row:
        raise BadUpload(f"it has no column {column}")
    text = _optional(row, column)
    if text is None:
        raise BadUpload(f"{column} is empty")
    return text


def _optional(row: Mapping[str, object], column: str) -> str | None:
    value = row.get(column)
    if value is not None and not isinstance(value, str):
        raise BadUpload(f"{column} {_shown(value)} is not a text")
    return value or None


def _shown(value: object) -> str:
    return repr(value) if len(repr(value)) <= _LONGEST else f"{repr(value)[:_LONGEST]}..."

"""Index pages as PyPI writes them, in both forms, and the distribution files behind their links.

The links of a page lead to `ORIGIN`, which whoever writes the page replaces.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from html import escape
from pathlib import Path
from typing import Final

import msgspec

from tests.support.packages import Dist

JSON: Final = "application/vnd.pypi.simple.v1+json"
KB: Final = 1_000
MB: Final = 1_000_000
GB: Final = 1_000_000_000
ORIGIN: Final = b"http://replica.invalid"
"""As long as http://127.0.0.1 with a port of five digits."""
FIRST: Final = datetime(2014, 1, 1, 9, 30, tzinfo=UTC)
LAST: Final = datetime(2025, 11, 30, tzinfo=UTC)
"""When the oldest and the newest of the registry's files were uploaded."""
META: Final = {"_last-serial": 30_000_000, "api-version": "1.4"}


class Listed(msgspec.Struct, rename="kebab"):
    """A file on a page, its members in the order that PyPI writes them in."""

    core_metadata: dict[str, str] | bool
    data_dist_info_metadata: dict[str, str] | bool
    filename: str
    hashes: dict[str, str]
    provenance: str | None
    requires_python: str | None
    size: int
    upload_time: str
    url: str
    yanked: bool | str


def present(folder: Path, dist: Dist, uploaded: datetime, *, announced: bool = True) -> Listed:
    """Write a wheel below `folder` and return its entry; `announced`: with its metadata beside it (PEP 714)."""
    path = folder / _path(dist.sha256, dist.filename)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(dist.data)
    if announced:
        path.with_name(f"{dist.filename}.metadata").write_bytes(dist.metadata)
    metadata = dist.metadata_sha256 if announced else None
    entry = _listed(dist.filename, dist.sha256, metadata, len(dist.data), uploaded)
    entry.requires_python = dist.requires_python
    return entry


def absent(filename: str, draw: random.Random, uploaded: datetime, *, announced: bool = True) -> Listed:
    """Return the entry of a file that is not there."""
    metadata = draw.randbytes(32).hex() if announced and filename.endswith(".whl") else None
    return _listed(filename, draw.randbytes(32).hex(), metadata, draw.randrange(10 * KB, 30 * MB), uploaded)


def json_page(name: str, files: Sequence[Listed]) -> bytes:
    """Write the page of a project in JSON (PEP 691, PEP 700)."""
    page = {
        "alternate-locations": [],
        "files": files,
        "meta": META,
        "name": name,
        "versions": list(dict.fromkeys(file.filename.split("-")[1].removesuffix(".tar.gz") for file in files)),
    }
    return msgspec.json.encode(page)


def html_page(name: str, files: Sequence[Listed]) -> bytes:
    """Write the same in HTML (PEP 503)."""
    head = '<head><meta name="pypi:repository-version" content="1.4">'
    begin = ["<!DOCTYPE html>", "<html>", head, f"<title>{name}</title></head>", "<body>"]
    return "\n".join([*begin, *map(_anchor, files), "</body>", "</html>", ""]).encode()


def json_list(names: Sequence[str]) -> bytes:
    """Write the list of projects in JSON."""
    return msgspec.json.encode({"meta": META, "projects": [{"name": name} for name in names]})


def html_list(names: Sequence[str]) -> bytes:
    """Write the same in HTML."""
    links = "".join(f'<a href="/simple/{name}/">{name}</a>\n' for name in names)
    return f"<!DOCTYPE html>\n<html><body>\n{links}</body></html>\n".encode()


def timestamp(instant: datetime) -> str:
    """Write an upload time."""
    return f"{instant + timedelta(microseconds=1):%Y-%m-%dT%H:%M:%S.%fZ}"


def _listed(filename: str, digest: str, metadata: str | None, size: int, uploaded: datetime) -> Listed:
    announced: dict[str, str] | bool = {"sha256": metadata} if metadata else False
    return Listed(
        core_metadata=announced,
        data_dist_info_metadata=announced,
        filename=filename,
        hashes={"sha256": digest},
        provenance=None,
        requires_python=">=3.8",
        size=size,
        upload_time=timestamp(uploaded),
        url=f"{ORIGIN.decode()}/{_path(digest, filename)}",
        yanked=False,
    )


def _path(digest: str, filename: str) -> str:
    return f"packages/{digest[:2]}/{digest[2:4]}/{digest[4:]}/{filename}"


def _anchor(file: Listed) -> str:
    python = f' data-requires-python="{escape(file.requires_python)}"' if file.requires_python else ""
    announced = file.core_metadata
    digest = f"sha256={announced['sha256']}" if isinstance(announced, dict) else ""
    metadata = f' data-dist-info-metadata="{digest}" data-core-metadata="{digest}"' if digest else ""
    return f'<a href="{file.url}#sha256={file.hashes["sha256"]}"{python}{metadata}>{file.filename}</a><br />'

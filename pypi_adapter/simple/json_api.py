"""Renders the part of PyPI's JSON API that an index page has: releases, files, digests, sizes, upload times. Pure.

What a page does not say (summary, authors, dependencies) is left out, not made up.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from .model import File, Page
from .upload_time import upload_time
from .versions import by_version, is_final, same_version, versions_of

_ENCODER = msgspec.json.Encoder(order="deterministic")
_TYPES = {
    ".whl": "bdist_wheel", ".egg": "bdist_egg", ".exe": "bdist_wininst", ".msi": "bdist_msi", ".rpm": "bdist_rpm",
    ".dmg": "bdist_dmg", ".deb": "bdist_dumb",
}  # fmt: skip


def project_json(page: Page, version: str | None = None) -> bytes | None:
    """Render a project as PyPI does, or one version, which has no `releases`; None if the version does not exist.

    `info` describes that version, or else the newest one, preferably neither yanked nor a pre-release.
    """
    releases: dict[str, list[File]] = {}
    for file, found in zip(
        page.files, versions_of([file.filename for file in page.files], page.versions or ()), strict=True
    ):
        if found is not None:
            releases.setdefault(found, []).append(file)
    shown = _newest(releases) if version is None else next((v for v in releases if same_version(v, version)), None)
    if version is not None and shown is None:
        return None
    files = releases.get(shown or "", [])
    document: dict[str, Any] = {"info": _info(page.name, shown, files), "urls": [_file(file) for file in files]}
    if version is None:
        document["releases"] = {v: [_file(file) for file in releases[v]] for v in sorted(releases, key=by_version)}
    return _ENCODER.encode(document)


def _newest(releases: dict[str, list[File]]) -> str | None:
    def rank(version: str) -> tuple[bool, bool]:
        return not all(file.yanked for file in releases[version]), is_final(version)

    versions = [version for version in releases if not by_version(version)[0]]
    return max(versions, key=lambda version: (rank(version), by_version(version)), default=None)


def _info(name: str, version: str | None, files: Iterable[File]) -> dict[str, Any]:
    yanked = [file.yanked for file in files]
    return {
        "name": name,
        "version": version,
        "requires_python": next((file.requires_python for file in files if file.requires_python), None),
        "yanked": bool(yanked) and all(yanked),
        "yanked_reason": next((reason for reason in yanked if isinstance(reason, str)), None) if all(yanked) else None,
    }


def _file(file: File) -> dict[str, Any]:
    at = upload_time(file.upload_time or "")
    ending = file.filename[file.filename.rfind(".") :].lower()
    tags = file.filename.removesuffix(".whl").split("-")
    return {
        "filename": file.filename,
        "url": file.url,
        "digests": file.hashes,
        "size": file.size,
        "packagetype": _TYPES.get(ending, "sdist"),
        "python_version": tags[-3] if ending == ".whl" and len(tags) > 4 else "source",
        "requires_python": file.requires_python,
        "upload_time": at and at[:19],
        "upload_time_iso_8601": at,
        "yanked": bool(file.yanked),
        "yanked_reason": file.yanked if isinstance(file.yanked, str) else None,
    }

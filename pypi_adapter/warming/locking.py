"""Locks what requirements resolve to through a mirror: a `pylock.toml` (PEP 751) with the mirror's own addresses."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from httpcache.adapter import Build
from httpcache.errors import BadAddress, MirrorError, redact, without_first_key
from httpcache.target import canonical_url, origin
from pypi_adapter.simple.model import SHA256

from .platforms import target
from .resolving import compiled


def lock(build: Build, file: Path) -> str:
    """Return the text of a lock file of what a requirements file resolves to in one environment.

    That is of the version of Python and the platform of the build, or of this process.

    Each file in it comes from the mirror of the build's index, and has the sha256 that the mirror checks before it
    freezes the file. An access key in the address is not in it. Raises MirrorError.
    """
    if len(build.pythons) > 1 or len(build.platforms) > 1:
        raise MirrorError("a lock file is for one environment: name one --python and one --platform")
    python = ("--python-version", *build.pythons) if build.pythons else ("--python", sys.executable)
    platform = [word for name in build.platforms for word in ("--python-platform", target(name))]
    text = compiled(file, f"{build.index}/", "--format", "pylock.toml", *python, *platform, "--no-cache")
    check(tomllib.loads(text), build.index)
    return without_first_key(f"# what {file.name!r} resolves to at {build.index}/, locked by httpcache\n{text}")


def check(document: Mapping[str, Any], index: str) -> None:
    """Raise MirrorError unless each file of a pylock.toml comes from the mirror of an index, and has a sha256."""
    for package in document.get("packages", []):
        if "vcs" in package or "directory" in package:
            raise MirrorError(f"{package['name']} does not come from an index, but from a folder or a repository")
        for file in _files(package):
            url, sha256 = file.get("url", ""), file.get("hashes", {}).get("sha256", "")
            if not _has_origin(url, index):
                raise MirrorError(
                    f"{package['name']} does not come from the mirror, but from {redact(url)}: take other indexes and "
                    "addresses out of the requirements and of uv's variables"
                )
            if not SHA256.fullmatch(sha256):
                raise MirrorError(f"{package['name']} cannot be locked: its index announces no sha256 of its files")


def _has_origin(url: str, index: str) -> bool:
    try:
        return origin(canonical_url(url)) == origin(canonical_url(index))
    except BadAddress:
        return False


def _files(package: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from package.get("wheels", [])
    yield from (package[kind] for kind in ("sdist", "archive") if kind in package)

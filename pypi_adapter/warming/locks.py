"""Reads what lock files pin: those of pip (PEP 751), uv, Poetry, PDM and Pipenv. Pure.

A lock file is recognised by its name. Projects that it installs from their own folder are left out.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from packaging.markers import InvalidMarker, Marker
from packaging.utils import canonicalize_name

from httpcache.errors import MirrorError

_PYLOCK = re.compile(r"pylock(?:\.[^.]+)?\.toml")


@dataclass(frozen=True)
class Locked:
    """A release that is pinned: a normalised name and a version.

    `hashes` are those that its files may have, as `sha256:…`; empty if any will do. `marker`: only in environments
    where it holds. `elsewhere`: it does not come from an index, but from this address.
    """

    name: str
    version: str
    hashes: frozenset[str] = frozenset()
    marker: Marker | None = None
    elsewhere: str = ""


def read_lock(name: str, text: str) -> list[Locked] | None:
    """Return what a file with this name pins, or None if it is no lock file by its name. Raises MirrorError."""
    reader = _READERS.get(name) or (_pylock if _PYLOCK.fullmatch(name) else None)
    if reader is None:
        return None
    try:
        document = json.loads(text) if name == "Pipfile.lock" else tomllib.loads(text)
        return list(reader(document))
    except (ValueError, KeyError, TypeError, AttributeError, InvalidMarker) as error:
        raise MirrorError(f"{name} cannot be read as a lock file: {error!r}") from error


def _pylock(document: Mapping[str, Any]) -> Iterator[Locked]:
    """PEP 751."""
    for package in document["packages"]:
        files = [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]
        hashes = (f"{kind}:{value}" for file in files for kind, value in file["hashes"].items())
        other = package.get("vcs") or package.get("archive") or {}
        if "directory" not in package:
            yield _locked(package, hashes, package.get("marker"), other.get("url") or other.get("path") or "")


def _uv(document: Mapping[str, Any]) -> Iterator[Locked]:
    for package in document.get("package", []):
        source = package["source"]
        if "registry" in source:
            files = [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]
            yield _locked(package, (file["hash"] for file in files))
        elif "git" in source or "url" in source:
            yield _locked(package, (), elsewhere=source.get("git") or source["url"])


def _poetry(document: Mapping[str, Any]) -> Iterator[Locked]:
    earlier = document["metadata"].get("files", {})
    for package in document.get("package", []):
        source = package.get("source", {})
        files = package.get("files") or earlier.get(package["name"], [])
        if source.get("type") in ("git", "url"):
            yield _locked(package, (), elsewhere=source["url"])
        elif source.get("type") not in ("directory", "file"):
            yield _locked(package, (file["hash"] for file in files))


def _pdm(document: Mapping[str, Any]) -> Iterator[Locked]:
    earlier = document["metadata"].get("files", {})
    for package in document.get("package", []):
        files = package.get("files") or earlier.get(f"{package['name']} {package['version']}", [])
        if "git" in package or "url" in package:
            yield _locked(package, (), elsewhere=package.get("git") or package["url"])
        elif "path" not in package:
            yield _locked(package, (file["hash"] for file in files))


def _pipfile(document: Mapping[str, Any]) -> Iterator[Locked]:
    for section in ("default", "develop"):
        for name, package in document.get(section, {}).items():
            if "version" in package:
                pinned = {"name": name, "version": package["version"].removeprefix("==")}
                yield _locked(pinned, package.get("hashes", []), package.get("markers"))
            elif "git" in package or "file" in package:
                yield _locked({"name": name}, (), elsewhere=package.get("git") or package["file"])


def _locked(
    package: Mapping[str, Any], hashes: Iterable[str], marker: str | None = None, elsewhere: str = ""
) -> Locked:
    return Locked(
        canonicalize_name(package["name"]),
        package.get("version", ""),
        frozenset(hashes),
        Marker(marker) if marker else None,
        elsewhere,
    )


_READERS: dict[str, Callable[[Mapping[str, Any]], Iterator[Locked]]] = {
    "uv.lock": _uv,
    "poetry.lock": _poetry,
    "pdm.lock": _pdm,
    "Pipfile.lock": _pipfile,
}

"""Reads from the lock file of npm what a build will ask for (package-lock.json, npm-shrinkwrap.json)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, urljoin

from httpcache.adapter import Build, Fetched, Unmet, Wish
from httpcache.errors import MirrorError

from .packument import ABBREVIATED
from .packument import read as packument

NAMES = ("package-lock.json", "npm-shrinkwrap.json")
_REGISTRY = re.compile(r"/(?=https?:)")

Read = Callable[[str, str], Fetched]


def planned(build: Build, read: Read) -> Iterable[Wish | Unmet] | None:
    """Return what a lock file of npm pins, or None if the build has none. Raises MirrorError.

    The index of the build is a pin, with or without the address of a registry. It needs one where the lock does not
    say where a package comes from (`omit-lockfile-registry-resolved`).
    """
    if build.file is None or build.file.name not in NAMES:
        return None
    try:
        packages = dict(_packages(json.loads(build.file.read_text())))
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise MirrorError(f"{build.file} cannot be read as a lock file of npm: {error!r}") from error
    return _wishes(build, read, packages)


def _packages(lock: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield (name, version) and the address of each package, "" if it is not told; versions 1 to 3 of the format."""
    for path, entry in lock.get("packages", {}).items():
        name = entry.get("name") or path.rpartition("node_modules/")[2]
        if "node_modules/" in path and not entry.get("link") and not entry.get("inBundle"):
            yield (name, entry.get("version", "")), entry.get("resolved", "")
    if "packages" not in lock:
        yield from _nested(lock.get("dependencies", {}))


def _nested(dependencies: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], str]]:
    for name, entry in dependencies.items():
        if not entry.get("bundled"):
            yield (name, entry["version"]), entry.get("resolved", "")
        yield from _nested(entry.get("dependencies", {}))


def _wishes(build: Build, read: Read, packages: Mapping[tuple[str, str], str]) -> Iterator[Wish | Unmet]:
    pin = _REGISTRY.split(build.index, maxsplit=1)[0]
    for (name, version), resolved in packages.items():
        title = f"{name} {version}"
        try:
            url = resolved or _tarball(build, read, name, version)
        except MirrorError as error:
            yield Unmet(title, error.text)
            continue
        if url.startswith(("http://", "https://")):
            yield Wish(url if url.startswith(f"{pin}/") else f"{pin}/{url}", title)
        else:
            yield Unmet(title, f"it does not come from a registry, but from {url}")


def _tarball(build: Build, read: Read, name: str, version: str) -> str:
    """Return the address of a package's tarball, as its registry tells. Raises MirrorError."""
    if not _REGISTRY.search(build.index):
        raise MirrorError("the lock does not say where it comes from: put the address of its registry behind the pin")
    fetched = read(f"{build.index}/{quote(name, safe='@')}", ABBREVIATED)
    document = packument(fetched.body) or {}
    tarball = document.get("versions", {}).get(version, {}).get("dist", {}).get("tarball")
    if not isinstance(tarball, str):
        raise MirrorError("its registry has no such version")
    return urljoin(fetched.url, tarball)

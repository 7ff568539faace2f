"""Derives the versions of files, which the simple index does not tell, from their names. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from packaging.version import VERSION_PATTERN, Version

_SDIST_ENDING = re.compile(r"\.(?:zip|t[gblx]z|tar(?:\.\w+)?)$", re.IGNORECASE)
_OTHER_ENDING = re.compile(r"\.\w+$")
_VERSION_IN_NAME = re.compile(rf"-({VERSION_PATTERN})(?=[-.]|$)", re.IGNORECASE | re.VERBOSE)


def file_version(filename: str, versions: Iterable[str] = ()) -> str | None:
    """Return the version in the name of a file, spelled as in `versions`, else normalised; None if it has none."""
    return _file_version(filename, {_version(text) or text: text for text in versions})


def versions_of(filenames: Iterable[str], versions: Iterable[str]) -> Iterator[str | None]:
    """Return the versions in the names of files, each as `file_version` does."""
    spellings = {_version(text) or text: text for text in versions}
    return (_file_version(filename, spellings) for filename in filenames)


def _file_version(filename: str, spellings: dict[Version | str, str]) -> str | None:
    """Return a file's version, in the page's spelling if the page lists it, else normalised; None if it has none."""
    ending = _SDIST_ENDING.search(filename) or _OTHER_ENDING.search(filename)
    stem = filename[: ending.start()] if ending else filename
    texts = _possible_versions(stem, ending[0].lower() if ending else "")
    for text in texts:
        if (spelling := spellings.get(_version(text) or text)) is not None:
            return spelling
    listed = _listed_version(stem, spellings.values())
    return listed or next((str(version) for text in texts if (version := _version(text))), None)


def _possible_versions(stem: str, ending: str) -> list[str]:
    """Return the parts of a file name that can be its version, the most likely first.

    It is the second part of a wheel's name (PEP 427) and the last part of an sdist's (PEP 625), though in old sdists it
    can contain a `-`. In the names of eggs, installers and dumb archives more parts follow it.
    """
    parts = stem.split("-")
    if ending == ".whl":
        return parts[1:2] if len(parts) in (5, 6) else []
    match = _VERSION_IN_NAME.search(stem)
    texts = [match[1]] if match else []
    if _SDIST_ENDING.fullmatch(ending):
        texts = ["-".join(parts[-count:]) for count in (3, 2, 1) if count < len(parts)] + texts
    return texts


def _listed_version(stem: str, versions: Iterable[str]) -> str | None:
    """Return the longest of the versions that follows a `-` in a file name and is not the start of a longer version."""
    stem = stem.replace("_", "-")
    found = [version for version in versions if f"-{version.replace('_', '-')}" in stem]
    whole = (v for v in found if re.search(rf"-{re.escape(v.replace('_', '-'))}(?=-|\.\D|$)", stem))
    return max(whole, key=len, default=None)


@lru_cache(maxsize=1 << 16)
def _version(text: str) -> Version | None:
    """Parse a version (PEP 440), reading `_` as `-`, as in file names; None if it is not a version."""
    try:
        return Version(text.replace("_", "-"))
    except ValueError:
        return None


def by_version(text: str) -> tuple[bool, Version, str]:
    """Sort key: versions in their order, then texts that are not versions."""
    version = _version(text)
    return version is None, version or Version("0"), text


def is_final(text: str) -> bool:
    """Whether a text is a version, and neither a pre-release nor a development release (PEP 440)."""
    version = _version(text)
    return version is not None and not version.is_prerelease


def same_version(one: str, other: str) -> bool:
    """Whether two texts are the same version, or the same text."""
    return one == other or (_version(one) is not None and _version(one) == _version(other))

"""Derives the versions of files, which the simple index does not tell, from their names. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from packaging.utils import canonicalize_version
from packaging.version import VERSION_PATTERN, Version

_SDIST_ENDING = re.compile(r"\.(?:zip|t[gblx]z|tar(?:\.\w+)?)$", re.IGNORECASE)
_OTHER_ENDING = re.compile(r"\.\w+$")
# A final release as it is usually written. It is compared without being parsed, which takes ten times as long.
_RELEASE = re.compile(r"(?:0|[1-9]\d{0,17})(?:\.(?:0|[1-9]\d{0,17}))*", re.ASCII)
_TRAILING_ZEROS = re.compile(r"(?:\.0)+\Z")
_NEVER = float("inf")  # of development releases: after all of them
_FINAL = ((2,), -1, _NEVER, ())  # the `_stage` of a final release
_VERSION_IN_NAME = re.compile(rf"-({VERSION_PATTERN})(?=[-.]|$)", re.IGNORECASE | re.VERBOSE)


def file_version(filename: str, versions: Iterable[str] = ()) -> str | None:
    """Return the version in the name of a file, spelled as in `versions`, else normalised; None if it has none."""
    return _file_version(filename, _spellings(versions))


def versions_of(filenames: Iterable[str], versions: Iterable[str]) -> Iterator[str | None]:
    """Return the versions in the names of files, each as `file_version` does."""
    spellings = _spellings(versions)
    return (_file_version(filename, spellings) for filename in filenames)


def _file_version(filename: str, spellings: dict[str, str]) -> str | None:
    """Return a file's version, in the page's spelling if the page lists it, else normalised; None if it has none.

    For `spellings` see `_spellings`.
    """
    stem, ending = _split(filename)
    texts = _possible_versions(stem, ending.lower())
    for text in texts:
        if text in spellings:
            return spellings[text]
        if (spelling := spellings.get(_key(text))) is not None:
            return spelling
    listed = _listed_version(stem, spellings.values())
    return listed or next((str(version) for text in texts if (version := parse_version(text))), None)


def _spellings(versions: Iterable[str]) -> dict[str, str]:
    """Return the listed spelling of each version, by its `_key` and by every text that is listed for it."""
    keys = {text: _key(text) for text in versions}
    by_key = {key: text for text, key in keys.items()}
    return by_key | {text: by_key[key] for text, key in keys.items()}


def _split(filename: str) -> tuple[str, str]:
    """Return the name of a file without its extension, and the extension."""
    if filename.endswith(".whl"):
        return filename[:-4], ".whl"
    ending = _SDIST_ENDING.search(filename) or _OTHER_ENDING.search(filename)
    return (filename[: ending.start()], ending[0]) if ending else (filename, "")


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
def parse_version(text: str) -> Version | None:
    """Parse a version (PEP 440), reading `_` as `-`, as in file names; None if it is not a version."""
    try:
        return Version(text.replace("_", "-"))
    except ValueError:
        return None


def _key(text: str) -> str:
    """Return a text that is the same for equal versions (PEP 440), and for others only if they are the same text."""
    if _RELEASE.fullmatch(text):
        return _TRAILING_ZEROS.sub("", text)
    version = parse_version(text)
    return text if version is None else canonicalize_version(version)


def by_version(text: str) -> tuple[object, ...]:
    """Sort key: versions in their order (PEP 440), then texts that are not versions."""
    if _RELEASE.fullmatch(text):
        return (False, 0, tuple(map(int, _TRAILING_ZEROS.sub("", text).split("."))), *_FINAL, text)
    version = parse_version(text)
    if version is None:
        return True, text
    release = tuple(map(int, canonicalize_version(version.base_version).rpartition("!")[2].split(".")))
    return (False, version.epoch, release, *_stage(version), text)


def _stage(version: Version) -> tuple[object, ...]:
    """Return what orders the versions of one release: by pre-release, post-release, development release and local."""
    developed_first = version.dev is not None and version.pre is None and version.post is None
    return (
        (0,) if developed_first else (1, *version.pre) if version.pre else (2,),
        -1 if version.post is None else version.post,
        _NEVER if version.dev is None else version.dev,
        tuple((part.isdecimal(), int(part) if part.isdecimal() else part) for part in (version.local or "").split("."))
        if version.local
        else (),
    )


def is_final(text: str) -> bool:
    """Whether a text is a version, and neither a pre-release nor a development release (PEP 440)."""
    version = parse_version(text)
    return version is not None and not version.is_prerelease


def same_version(one: str, other: str) -> bool:
    """Whether two texts are the same version, or the same text."""
    return one == other or (parse_version(one) is not None and parse_version(one) == parse_version(other))

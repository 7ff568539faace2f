"""Reads requirements files of pip as far as they pin releases with hashes. Pure.

What such a file leaves open is for a resolver: see `resolving`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from .locks import Locked

_COMMENT = re.compile(r"(?:^|\s)#.*")


def read_pinned(text: str) -> list[Locked] | None:
    """Return the releases that a requirements file pins, or None if it leaves anything open.

    As for pip, all is pinned where each requirement has one version and hashes, as `pip-compile --generate-hashes` and
    `uv export` write them.
    """
    found = []
    for line in _lines(text):
        words, hashes = _split(line)
        locked = _read(words, hashes)
        if locked is None:
            return None
        found.append(locked)
    return found


def _lines(text: str) -> Iterator[str]:
    """Yield the requirements: without comments, continued lines as one, and without options of the whole file."""
    for line in re.sub(r"\\\r?\n", " ", text).splitlines():
        line = _COMMENT.sub("", line).strip()
        if line and not (line.startswith("-") and not line.startswith(("-r", "--requirement", "-e", "--editable"))):
            yield line


def _split(line: str) -> tuple[str, frozenset[str]]:
    """Return a requirement, and the hashes that follow it."""
    requirement, *options = re.split(r"\s--", line)
    given = [option.partition("=") for option in options]
    return requirement.strip(), frozenset(shlex.split(value)[0] for name, _, value in given if name == "hash" and value)


def _read(text: str, hashes: frozenset[str]) -> Locked | None:
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return None
    name = canonicalize_name(requirement.name)
    if requirement.url:
        return Locked(name, "", hashes, requirement.marker, requirement.url)
    [only, *more] = [*requirement.specifier] or [None]
    is_one = only is not None and not more and only.operator in ("==", "===") and not only.version.endswith(".*")
    return Locked(name, only.version, hashes, requirement.marker) if only and is_one and hashes else None

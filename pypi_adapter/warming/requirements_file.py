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


def logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield what stands in a requirements file, each with the number of its first line.

    There are no comments and no empty ones, and continued lines are one.
    """
    parts: list[str] = []
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        parts.append(line.removesuffix("\\"))
        if line.endswith("\\") and number < len(lines):
            continue
        whole = _COMMENT.sub("", " ".join(parts)).strip()
        if whole:
            yield number - len(parts) + 1, whole
        parts = []


def _lines(text: str) -> Iterator[str]:
    """Yield the requirements, without options of the whole file."""
    for _, line in logical_lines(text):
        if not (line.startswith("-") and not line.startswith(("-r", "--requirement", "-e", "--editable"))):
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

"""Reads from METADATA what a distribution requires in an environment. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

from packaging.markers import Marker, UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion

from .environment import Environment

HEAD = 256 * 1024  # bytes of METADATA that are read: the description comes after the requirements
LINES = 500  # requirements that are looked at
MAX_LINE = 1000  # bytes of one
REQUIRED = 64  # projects of one METADATA
CLAUSES = 16  # specifiers of one requirement

_REQUIRES_DIST = re.compile(rb"^Requires-Dist:[ \t]*([^\r\n]+)", re.IGNORECASE | re.MULTILINE)
_END = re.compile(rb"\r?\n\r?\n")
_EXTRA = re.compile(rb";.*\bextra\s*==")


class Need(NamedTuple):
    """A project (normalised) that is required, the versions, and its extras."""

    project: str
    specifiers: SpecifierSet
    extras: frozenset[str]


def needs(metadata: bytes, environment: Environment, extras: Iterable[str] = ()) -> list[Need]:
    """Return what METADATA requires (PEP 345, PEP 508) in an environment, with some extras; the first `REQUIRED`.

    Lines that cannot be read are left out, and requirements of URLs.
    """
    head = metadata[:HEAD]
    end = _END.search(head)
    lines = islice(_REQUIRES_DIST.finditer(head, 0, end.start() if end else len(head)), LINES)
    wanted = frozenset(extras)
    return list(islice(_found((line[1] for line in lines), environment, wanted), REQUIRED))


def _found(lines: Iterable[bytes], environment: Environment, extras: frozenset[str]) -> Iterator[Need]:
    for line in lines:
        if len(line) > MAX_LINE or (not extras and _EXTRA.search(line)):  # most lines: not worth the parser
            continue
        requirement = _requirement(line.decode("utf-8", "replace").strip())
        if requirement is None or requirement.url or len(requirement.specifier) > CLAUSES:
            continue
        if not _holds(requirement.marker, environment, extras):
            continue
        yield Need(
            canonicalize_name(requirement.name),
            requirement.specifier,
            frozenset(map(canonicalize_name, requirement.extras)),
        )


@lru_cache(maxsize=1024)
def _requirement(text: str) -> Requirement | None:
    try:
        return Requirement(text)
    except (InvalidRequirement, RecursionError):
        return None


def _holds(marker: Marker | None, environment: Environment, extras: frozenset[str]) -> bool:
    if marker is None:
        return True
    try:
        return any(marker.evaluate({**environment.markers, "extra": extra}) for extra in extras or ("",))
    except (UndefinedComparison, UndefinedEnvironmentName, InvalidVersion):
        return False

"""What a checkout asks for, as the readers of its files collect it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from packaging.markers import InvalidMarker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from httpcache.errors import one_line, redact

_STARRED = re.compile(r"((?:>=|<=|~=|[<>])\s*[\w.!+-]+?)\.\*")
_ADDRESS = re.compile(r"(?:[\w+.-]+:)?//\S+|git@\S+")

Alternatives = Sequence[SpecifierSet]
"""Versions that are wanted: those in one of these."""


class Asked(NamedTuple):
    """A requirement, and where it stands. `hashes` are those that its files may have, as `sha256:…`; empty for any.

    `guessed`: its name is what an import or a package of conda is called, so there may be no such project.
    """

    requirement: Requirement
    where: str
    hashes: frozenset[str] = frozenset()
    guessed: bool = False

    @property
    def project(self) -> str:
        """The normalised name."""
        return canonicalize_name(self.requirement.name)


class Unread(NamedTuple):
    """Something that is asked for and left out: its text, where it stands, and why."""

    text: str
    where: str
    why: str


@dataclass
class Wanted:
    """What a checkout asks for.

    `pythons` are the versions of Python that each of its files allows, `files` those that were read, `included` those
    that they include, and `others` those that were not read.
    """

    asked: list[Asked] = field(default_factory=list)
    constraints: list[Asked] = field(default_factory=list)
    pythons: list[Alternatives] = field(default_factory=list)
    unread: list[Unread] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    included: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    def ask(
        self,
        text: str,
        where: str,
        hashes: Iterable[str] = (),
        *,
        guessed: bool = False,
        constraint: bool = False,
    ) -> None:
        """Add a requirement (PEP 508), or leave it out if it cannot be read or does not come from an index.

        Specifiers such as `>=1.0.*`, which installers took once, are read as `>=1.0`.
        """
        try:
            requirement = Requirement(_STARRED.sub(r"\1", text))
        except (InvalidRequirement, InvalidMarker, RecursionError):
            self.leave(text, where, elsewhere(text) or "this is no requirement (PEP 508)")
            return
        if requirement.url:
            self.leave(text, where, "it does not come from an index")
            return
        found = Asked(requirement, where, frozenset(hashes), guessed)
        (self.constraints if constraint else self.asked).append(found)

    def leave(self, text: str, where: str, why: str) -> None:
        """Note what is left out, without the logins in it."""
        shown = _ADDRESS.sub(lambda found: redact(found[0]), one_line(" ".join(text.split())))
        self.unread.append(Unread(shown[:300], where, why))

    def python(self, text: str, where: str) -> None:
        """Add the versions of Python that a file allows (PEP 440)."""
        try:
            self.pythons.append([SpecifierSet(_STARRED.sub(r"\1", text))])
        except InvalidSpecifier:
            self.leave(f"Python {text}", where, "these are no versions (PEP 440)")


def elsewhere(text: str) -> str:
    """Return why something cannot come from an index, if it is an address or a path, else ""."""
    if _ADDRESS.search(text):
        return "it does not come from an index"
    return "it is a file or folder" if text.startswith((".", "/", "file:")) or "\\" in text else ""

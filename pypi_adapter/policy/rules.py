"""Decides by rules which projects, versions and contents are withheld at every date. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache

import msgspec
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from httpcache.settings_file import SettingsFile

_SHA256 = re.compile(r"[0-9a-f]{64}")
_HOW = (
    'write [[block]] or [[allow]] with project = "name" (and versions = ">=1.0,<1.2" for only some versions), '
    'or with sha256 = "64 hex digits" (and project = "name" for only that project), '
    'and with reason = "why" ([[allow]] needs one)'
)


class Rule(msgspec.Struct, frozen=True):
    """Something that is blocked, or exempt from blocks; why (`reason`), and who says so (`source`).

    It names a project, some versions of a project, or a content by its sha256, in any project or in one. `project` is
    normalised (PEP 503), `versions` is a specifier set (PEP 440) that is not empty, `sha256` is 64 lower-case hex
    digits. Raises ValueError for anything else.
    """

    project: str | None
    versions: str | None
    sha256: str | None
    reason: str
    source: str

    def __post_init__(self) -> None:
        if self.project is None and self.sha256 is None:
            raise ValueError("it has neither a project nor a sha256")
        if self.project is not None and self.project != canonicalize_name(self.project):
            raise ValueError(f"the project {self.project!r} is not normalised (PEP 503)")
        if self.sha256 is not None and not _SHA256.fullmatch(self.sha256):
            raise ValueError(f"{self.sha256!r} is not a sha256 in hex")
        if self.versions is not None:
            if self.project is None or self.sha256 is not None:
                raise ValueError("versions need a project, and exclude a sha256")
            _specifiers(self.versions)


class Rules:
    """The rules in force. An exception wins over every block."""

    def __init__(self, blocked: Iterable[Rule], allowed: Iterable[Rule]) -> None:
        self._rules = tuple(blocked), tuple(allowed)
        self._blocked, self._allowed = map(_Table, self._rules)

    @property
    def blocked(self) -> tuple[Rule, ...]:
        """The rules that block."""
        return self._rules[0]

    @property
    def allowed(self) -> tuple[Rule, ...]:
        """The exceptions."""
        return self._rules[1]

    def below(self, blocked: Iterable[Rule], allowed: Iterable[Rule]) -> Rules:
        """Return these rules with others before them. If several name the same thing, the first gives the reason."""
        return Rules((*blocked, *self._rules[0]), (*allowed, *self._rules[1]))

    def project(self, name: str) -> Rule | None:
        """Return the rule that blocks a whole project (normalised), None if some of it can be served.

        An exception for a content counts only if it names the project, because the content can be in any project.
        """
        return None if name in self._allowed.projects else self._blocked.whole.get(name)

    def file(self, name: str, version: str | None, sha256: str | None) -> Rule | None:
        """Return the rule that blocks a file of a project (normalised), None if no rule does.

        `version` is None if it is unknown, `sha256` (lower-case hex) if the index announces none. A file whose version
        is unknown or invalid (PEP 440) could be any version: it is blocked if any version is, with a reason that says
        so, and no exception for versions covers it. A rule for a public version also blocks its local versions, and
        pre-releases are blocked like any other version that the specifiers include.
        """
        parsed = _version(version)
        if self._allowed.match(name, parsed, sha256):
            return None
        rule = self._blocked.match(name, parsed, sha256)
        if rule is None and parsed is None:
            return next((_for_unknown_version(rule) for _, rule in self._blocked.versions.get(name, ())), None)
        return rule

    def may_block(self, name: str, contents: Callable[[], frozenset[str]]) -> bool:
        """Whether any rule could block a project (normalised) or a file of it.

        `contents` returns the sha256 of its files, and is called only if that matters.
        """
        return self._blocked.may_match(name, contents)

    def may_block_content(self, name: str) -> bool:
        """Whether any rule could block a file of a project (normalised) for its content."""
        return any(rule.project in (None, name) for rules in self._blocked.contents.values() for rule in rules)


class _Table:
    """Rules by what they name. If several name the same thing, the first one counts."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.projects: set[str] = set()
        self.whole: dict[str, Rule] = {}
        self.versions: dict[str, list[tuple[SpecifierSet, Rule]]] = {}
        self.contents: dict[str, list[Rule]] = {}
        for rule in rules:
            if rule.project is not None:
                self.projects.add(rule.project)
            if rule.sha256 is not None:
                self.contents.setdefault(rule.sha256, []).append(rule)
            elif rule.project is not None and rule.versions is not None:
                self.versions.setdefault(rule.project, []).append((_specifiers(rule.versions), rule))
            elif rule.project is not None:
                self.whole.setdefault(rule.project, rule)

    def match(self, name: str, version: Version | None, sha256: str | None) -> Rule | None:
        """Return the rule that certainly names a file."""
        if rule := self.whole.get(name):
            return rule
        for rule in self.contents.get(sha256 or "", ()):
            if rule.project in (None, name):
                return rule
        if version is not None:
            for specifiers, rule in self.versions.get(name, ()):
                if specifiers.contains(version, prereleases=True):
                    return rule
        return None

    def may_match(self, name: str, contents: Callable[[], frozenset[str]]) -> bool:
        """Whether a rule could name a project or a file of it, whatever its version."""
        if name in self.whole or name in self.versions:
            return True
        found = self.contents.keys() & contents() if self.contents else ()
        return any(rule.project in (None, name) for text in found for rule in self.contents[text])


def _for_unknown_version(rule: Rule) -> Rule:
    reason = f"{rule.reason} (versions {rule.versions}; the version of this file is unknown, so it may be one of them)"
    return msgspec.structs.replace(rule, reason=reason)


@lru_cache(maxsize=1 << 16)
def _specifiers(text: str) -> SpecifierSet:
    """Read a specifier set (PEP 440). Raises ValueError, also if it is empty, which would mean every version."""
    specifiers = SpecifierSet(text)
    if not len(specifiers):
        raise ValueError(f"the specifier set {text!r} is empty: for all versions leave it out")
    specifiers.contains(Version("0"), prereleases=True)  # parses its versions: a number can be too long
    return specifiers


def _version(text: str | None) -> Version | None:
    try:
        return Version(text or "")
    except ValueError:
        return None


# --- rules that an operator writes


class RuleTable(msgspec.Struct, forbid_unknown_fields=True):
    """A `[[block]]` or an `[[allow]]`, as it is in the file."""

    project: str | None = None
    versions: str | None = None
    sha256: str | None = None
    reason: str = ""


def read_rules(tables: Iterable[RuleTable], kind: str, file: SettingsFile) -> list[Rule]:
    """Read the tables of a kind (`block` or `allow`) in a settings file.

    Raises MirrorError with a text that says where the table is and how to write it.
    """
    source = file.path.name if file.path else ""
    rules = []
    for number, table in enumerate(tables):
        try:
            rules.append(_rule(table, source, needs_reason=kind == "allow"))
        except ValueError as error:
            raise file.wrong(f"[[{kind}]]: {error}: {_HOW}", kind, number) from None
    return rules


def _rule(entry: RuleTable, source: str, *, needs_reason: bool) -> Rule:
    if needs_reason and not entry.reason.strip():
        raise ValueError("it has no reason")
    return Rule(
        project=None if entry.project is None else canonicalize_name(entry.project, validate=True),
        versions=entry.versions,
        sha256=None if entry.sha256 is None else entry.sha256.lower(),
        reason=entry.reason.strip() or "no reason given",
        source=source,
    )

"""The operator's policy for the dated and live indexes: what is withheld, and what is exempt from the cooldown.

Rules apply to what is served, never to what is stored: the log and the files stay as they were observed. They are in
the settings file, which `config` reads:

    [cooldown]
    exempt = ["our-library"]

    [[advisories]]                 # OSV documents: a folder, a .zip or a .tar.gz
    path = "/srv/osv/PyPI"
    ids = ["MAL-"]                 # those that begin with one of these; this is the default

    [[block]]
    project = "evil"
    versions = ">=1.2"             # without it, all versions
    reason = "steals credentials"

    [[allow]]
    project = "not-so-evil"
    reason = "a false alarm, see our ticket 42"
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
from packaging.utils import canonicalize_name

from httpcache.errors import MirrorError, Refused, plain
from httpcache.settings_file import SettingsFile
from pypi_adapter.simple.model import QUARANTINED, SHA256, File, Page, ProjectStatus
from pypi_adapter.simple.versions import file_version

from .osv import read_advisories
from .rules import Rule, Rules, RuleTable, read_rules

log = logging.getLogger("httpcache")


class _Cooldown(msgspec.Struct, forbid_unknown_fields=True):
    exempt: list[str] = []


class _Advisories(msgspec.Struct, forbid_unknown_fields=True):
    path: str
    ids: tuple[str, ...] = ("MAL-",)


class Tables(msgspec.Struct, forbid_unknown_fields=True):
    """The tables of a policy in the settings file; `rules` reads the rules themselves."""

    cooldown: _Cooldown = msgspec.field(default_factory=_Cooldown)
    advisories: list[_Advisories] = []
    block: list[RuleTable] = []
    allow: list[RuleTable] = []


@dataclass(frozen=True)
class Policy:
    """The rules in force; `exempt` are the normalised names of the projects without a cooldown."""

    rules: Rules = field(default_factory=lambda: Rules((), ()))
    exempt: frozenset[str] = frozenset()

    def may_change(self, project: str, contents: Callable[[], frozenset[str]], status: ProjectStatus | None) -> bool:
        """Whether `page` could change any page of a project; `contents` returns the sha256 of all of its files."""
        return (status is not None and status.status == QUARANTINED) or self.rules.may_block(project, contents)

    def page(self, page: Page, status: ProjectStatus | None) -> Page:
        """Return a page without the files that are withheld; `status` is the project's as last observed.

        If the whole project is blocked, or the registry has quarantined it by now, this is a page without files that
        says so (PEP 792), at every date.
        """
        if status is not None and status.status == QUARANTINED:
            return msgspec.structs.replace(page, files=(), versions=(), status=status)
        rule = self.rules.project(page.name)
        if rule:
            reason = plain(f"withheld by this mirror: {rule.reason} ({rule.source})")
            return msgspec.structs.replace(page, files=(), versions=(), status=ProjectStatus(QUARANTINED, reason))
        kept = tuple(file for file in page.files if not self._rule(page.name, file))
        if len(kept) == len(page.files):
            return page
        versions = {file_version(file.filename, page.versions or ()) for file in kept}
        return msgspec.structs.replace(
            page, files=kept, versions=tuple(version for version in page.versions or () if version in versions)
        )

    def check(self, project: str, file: File, status: ProjectStatus | None) -> None:
        """Raise Refused if a file is withheld."""
        reason = self.withheld(project, file, status)
        if reason:
            raise Refused(f"{file.filename} is withheld {reason}")

    def needs_content(self, project: str, file: File) -> bool:
        """Whether a file could be withheld for its content, of which the index announces no sha256."""
        return not SHA256.fullmatch(file.hashes.get("sha256", "")) and self.rules.may_block_content(project)

    def withheld(self, project: str, file: File, status: ProjectStatus | None) -> str | None:
        """Return who withholds a file and why, None if it is not withheld."""
        if status is not None and status.status == QUARANTINED:
            return f"by the registry: {project} is quarantined ({status.reason or 'the registry gives no reason'})"
        rule = self.rules.project(project) or self._rule(project, file)
        return f"by this mirror: {rule.reason} ({rule.source})" if rule else None

    def _rule(self, project: str, file: File) -> Rule | None:
        sha256 = file.hashes.get("sha256", "")
        if not self.rules.may_block(project, lambda: frozenset((sha256,))):
            return None  # without reading the version, of which no rule speaks
        return self.rules.file(project, file_version(file.filename), sha256)


def read_policies(tables: Tables, file: SettingsFile) -> tuple[Policy, Policy]:
    """Return the policy for the built-in registry, and the one for all others; `file` has the tables.

    Advisories are about PyPI's projects. A project of the same name on another registry is not affected.
    Raises MirrorError with a text that says what is wrong.
    """
    blocked, allowed = read_rules(tables.block, "block", file), read_rules(tables.allow, "allow", file)
    advised = list(blocked)
    for number, source in enumerate(tables.advisories):
        try:
            advised += read_advisories(file.folder / source.path, source.ids)
        except MirrorError as error:
            raise file.wrong(error.text, "advisories", number, "path") from error
    for rule in allowed:
        log.warning("exempt from all blocks: %s", " ".join(filter(None, (rule.project, rule.versions, rule.sha256))))
        log.warning("  reason: %s", rule.reason)
    exempt = frozenset(map(canonicalize_name, tables.cooldown.exempt))
    return Policy(Rules(advised, allowed), exempt), Policy(Rules(blocked, allowed), exempt)

"""What the operator lays down for the dated and live indexes: what is withheld, and what has no cooldown.

Rules apply to what is served, never to what is stored: the log and the files stay as they were observed. They stand in
the operator's file, which `config` reads:

    [cooldown]
    exempt = ["our-library"]

    [[advisories]]                 # OSV documents: a folder, a .zip or a .tar.gz
    path = "/srv/osv/PyPI"
    ids = ["MAL-"]                 # those that begin with one of these; this is the default

    [[block]]
    project = "evil"
    versions = ">=1.2"             # not all of it
    reason = "steals credentials"

    [[allow]]
    project = "not-so-evil"
    reason = "a false alarm, see our ticket 42"
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from packaging.utils import canonicalize_name

from httpcache.errors import Refused, plain
from pypi_adapter.simple.model import QUARANTINED, SHA256, File, Page, ProjectStatus
from pypi_adapter.simple.versions import file_version

from .osv import read_advisories
from .rules import Rule, Rules, read_rules

log = logging.getLogger("httpcache")


class _Cooldown(msgspec.Struct, forbid_unknown_fields=True):
    exempt: list[str] = []


class _Advisories(msgspec.Struct, forbid_unknown_fields=True):
    path: str
    ids: tuple[str, ...] = ("MAL-",)


class Tables(msgspec.Struct, forbid_unknown_fields=True):
    """What the operator's file has of a policy; the rules themselves are read by `rules`."""

    cooldown: _Cooldown = msgspec.field(default_factory=_Cooldown)
    advisories: list[_Advisories] = []
    block: list[object] = []
    allow: list[object] = []


@dataclass(frozen=True)
class Policy:
    """The rules in force; `exempt` are the projects without a cooldown, by their normalised names."""

    rules: Rules = field(default_factory=lambda: Rules((), ()))
    exempt: frozenset[str] = frozenset()

    def may_change(self, project: str, contents: Callable[[], frozenset[str]], status: ProjectStatus | None) -> bool:
        """Whether `page` could change any page of a project; `contents` gives the sha256 of all of its files."""
        return (status is not None and status.status == QUARANTINED) or self.rules.may_block(project, contents)

    def page(self, page: Page, status: ProjectStatus | None) -> Page:
        """Return a page without the files that are withheld; `status` is the project's as last observed.

        What is blocked as a whole, or quarantined by the registry by now, is a page without files that says so (PEP
        792), at every date.
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
        """Raise Refused for a file that is withheld."""
        reason = self.withheld(project, file, status)
        if reason:
            raise Refused(f"{file.filename} is withheld {reason}")

    def needs_content(self, project: str, file: File) -> bool:
        """Whether only the content of a file tells if it is withheld, and the index announces no sha256 of it."""
        return not SHA256.fullmatch(file.hashes.get("sha256", "")) and self.rules.may_block_content(project)

    def withheld(self, project: str, file: File, status: ProjectStatus | None) -> str | None:
        """Return by whom a file is withheld and why, None where it is not."""
        if status is not None and status.status == QUARANTINED:
            return f"by the registry: {project} is quarantined ({status.reason or 'the registry gives no reason'})"
        rule = self.rules.project(project) or self._rule(project, file)
        return f"by this mirror: {rule.reason} ({rule.source})" if rule else None

    def _rule(self, project: str, file: File) -> Rule | None:
        return self.rules.file(project, file_version(file.filename), file.hashes.get("sha256"))


def read_policies(tables: Tables, path: Path) -> tuple[Policy, Policy]:
    """Return the policy for the built-in registry, and the one for all others; `path` is the file's.

    Advisories are about PyPI's projects: another registry may have a project of the same name, which is not meant.
    Raises MirrorError with a text that says what is wrong.
    """
    blocked, allowed = read_rules({"block": tables.block, "allow": tables.allow}, path.name)
    advised = list(blocked)
    for source in tables.advisories:
        advised += read_advisories(path.parent / source.path, source.ids)
    for rule in allowed:
        log.warning("excepted from all blocks: %s", " ".join(filter(None, (rule.project, rule.versions, rule.sha256))))
        log.warning("  because: %s", rule.reason)
    exempt = frozenset(map(canonicalize_name, tables.cooldown.exempt))
    return Policy(Rules(advised, allowed), exempt), Policy(Rules(blocked, allowed), exempt)

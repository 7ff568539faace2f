"""The projects that captures of a registry cover. Every command reads the settings, so this imports little."""

from __future__ import annotations

import msgspec

REQUESTED, ALL, LISTED = "requested", "all", "listed"


class Scope(msgspec.Struct, frozen=True, array_like=True):
    """The projects that a pass covers: those ever requested, the registry's whole list, or `names` (kind LISTED)."""

    kind: str
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{len(self.names)} projects" if self.kind == LISTED else self.kind

    def includes(self, other: Scope) -> bool:
        """Whether this scope contains another one."""
        if self.kind == LISTED and other.kind == LISTED:
            return set(other.names) <= set(self.names)
        return self.kind == ALL or self == other

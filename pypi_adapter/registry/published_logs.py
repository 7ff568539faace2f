"""Which logs of observations are published with their leaves: those of the projects of a registry.

An entry has the addresses of files as the registry gave them. Those of a registry that is asked with the operator's
credentials can have tokens in them, so they are only for who has logged in to the pages.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

from packaging.utils import is_normalized_name

from .registry import Registry


class PublishedLogs:
    """The logs of projects of some registries; those named in `open_ones` are for everybody who sees the pages."""

    def __init__(self, registries: Sequence[Registry], open_ones: Set[str]) -> None:
        self._registries = {registry.name: registry for registry in registries}
        self._open_ones = open_ones

    def shows(self, name: str, *, sees_all: bool) -> bool:
        """Whether a log is published; `sees_all`: to who has logged in."""
        registry, _, project = name.partition("/")
        return self._is_open(registry, sees_all=sees_all) and is_normalized_name(project)

    async def names(self, *, sees_all: bool) -> Sequence[str]:
        """Return the names of all logs that are published. Raises StoreError."""
        return [
            f"{name}/{project}"
            for name, registry in self._registries.items()
            if self._is_open(name, sees_all=sees_all)
            for project in await registry.requested.all()
        ]

    def _is_open(self, registry: str, *, sees_all: bool) -> bool:
        return registry in self._open_ones or (sees_all and registry in self._registries)

"""The adapter that `httpcache` finds through its entry point: npm registries behind a pin."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from httpcache.adapter import Bound, Command, Option, Progress
from httpcache.freezing.mirror import Mirror
from httpcache.settings import Settings

from .pinned import Pinned


class NpmAdapter:
    """See `httpcache.adapter.Adapter`."""

    options: Sequence[Option] = ()
    commands: Sequence[Command] = ()

    def check(self, settings: Settings) -> None:
        """Do nothing: the adapter has no settings."""

    def bind(self, mirror: Mirror) -> Bound:
        """Return the adapter bound to a mirror."""
        return _Bound(mirror)

    def usage(self, address: str, date: str) -> Sequence[tuple[str, str]]:
        """Return the command lines for npm, pnpm and Yarn."""
        registry = f"{address}/npm-{date}/$(npm config get registry)"
        return [
            ("npm", f"npm install --registry {registry} PACKAGE"),
            ("pnpm", f"pnpm add --registry {registry} PACKAGE"),
            ("Yarn 1", f"yarn add --registry {registry} PACKAGE"),
        ]


class _Bound(Pinned):
    """See `httpcache.adapter.Bound`."""

    async def capture(
        self, progress: Progress, due: Callable[[float | None], bool], report: Callable[[str], None]
    ) -> None:
        """Do nothing: no registry is followed."""

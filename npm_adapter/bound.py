"""The adapter bound to a mirror: it answers behind pins, and follows no registry."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from httpcache.adapter import Progress
from httpcache.metrics import Sample
from httpcache.page import Page
from httpcache.target import Target

from .pinned import Pinned


class Bound(Pinned):
    """See `httpcache.adapter.Bound`."""

    pages: Sequence[Page] = ()
    indexes: Sequence[str] = ()

    def kind(self, path: str) -> None:
        """Do nothing: these addresses are those of any pin."""

    async def story(self, target: Target, digest: str) -> None:
        """Do nothing: which packument lists a file is not told."""

    async def log_names(self, *, sees_all: bool) -> Sequence[str]:
        """Return nothing: what packuments announce is published by themselves."""
        return ()

    def shows_log(self, name: str, *, sees_all: bool) -> bool:
        """Return False, see `log_names`."""
        return False

    async def measures(self) -> Sequence[Sample]:
        """Return nothing: no registry is followed."""
        return ()

    async def capture(
        self, progress: Progress, due: Callable[[float | None], bool], report: Callable[[str], None]
    ) -> None:
        """Do nothing: no registry is followed."""

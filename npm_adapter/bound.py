"""The adapter bound to a mirror: it answers behind pins, and follows no registry."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from httpcache.adapter import Progress
from httpcache.page import Page

from .pinned import Pinned


class Bound(Pinned):
    """See `httpcache.adapter.Bound`."""

    pages: Sequence[Page] = ()

    async def capture(
        self, progress: Progress, due: Callable[[float | None], bool], report: Callable[[str], None]
    ) -> None:
        """Do nothing: no registry is followed."""

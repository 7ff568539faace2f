"""A project as it is now. Pure.

It has what the pages of dates have (see `snapshot.SnapshotPage`), but nothing of it is made beforehand, and it can be
another one a moment later.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from httpcache.target import origin
from pypi_adapter.simple.model import File, Page, is_derived


class LivePage:
    """`observed` is the page as last observed; `link` gives a file its address on the mirror."""

    def __init__(self, observed: Page, link: Callable[[File], File]) -> None:
        self.name = observed.name
        self.observed = observed
        self._link = link

    @property
    def size(self) -> int:
        """How many files it has."""
        return len(self.observed.files)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The origins of the wheels whose METADATA has to be read from the wheel."""
        return tuple({origin(file.url) for file in self.observed.files if is_derived(file)})

    def page(self, *, derived: bool = True) -> Page:
        """Return the page with the mirror's links; `derived`: advertise METADATA that has to be read from wheels."""
        files = []
        for file in self.observed.files:
            linked = self._link(file)
            if not derived and is_derived(file):
                linked = msgspec.structs.replace(linked, core_metadata=None)
            files.append(linked)
        return msgspec.structs.replace(self.observed, files=tuple(files))

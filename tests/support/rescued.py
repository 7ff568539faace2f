"""What a test needs of files that a registry removes: how it removes them, and what the mirror notes of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import anyio

from httpcache.store.local import LocalStore
from pypi_adapter.history.rescue_log import RescueLog, RescueOutcome
from tests.support.mirror import Mirror
from tests.support.packages import Dist
from tests.support.registries import PyPI


def unlist(pypi: PyPI, *dists: Dist) -> None:
    """Take files off the page; the file host still has them, as that of PyPI does for a while."""
    for dist in dists:
        pypi.files.pages[pypi.release(dist).path] = dist.data
        pypi.delete(dist)


def outcomes(data: Path, project: str) -> list[RescueOutcome]:
    """What a data folder says that became of the missing files of a project, by their names."""

    async def read() -> Sequence[RescueOutcome]:
        store = LocalStore(data)
        try:
            return await RescueLog(store, "pypi", project).all()
        finally:
            store.close()

    return sorted(anyio.run(read), key=lambda outcome: outcome.filename)


def link(running: Mirror, dist: Dist) -> str:
    """The address of a file, whether it is listed or not."""
    return f"{running.url}/files/{dist.name}/{dist.sha256}/{dist.filename}"

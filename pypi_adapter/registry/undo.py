"""Removes what was recorded of a registry at instants in the future, while the clock was ahead.

Each log loses only the entries at its end that have such instants.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import TypeVar

from httpcache.store.log import TypedLog
from httpcache.store.store import Store
from pypi_adapter.history.doubts import Doubts
from pypi_adapter.history.project_log import entries_log
from pypi_adapter.history.rescue_log import RescueLog
from pypi_adapter.history.serials import Proofs

from .known_projects import known_projects
from .passes import Passes
from .project_list import projects_log

T = TypeVar("T")


async def undo(store: Store, registry: str, now: int, *, remove: bool) -> list[str]:
    """Find entries later than `now` (microseconds) and remove them; return a line for each log that has any.

    Without `remove` nothing is changed. With it, no other process may use the logs. Raises StoreError.
    """
    found: list[str] = []

    async def cut(log: TypedLog[T], title: str, instant: Callable[[T], int] = attrgetter("instant")) -> None:
        values = await log.all()
        count = kept = len(values)
        while kept and instant(values[kept - 1]) > now:
            kept -= 1
        if kept < count:
            found.append(f"{count - kept} of {count} {title}")
            if remove:
                await log.cut(kept)

    for project in sorted(await known_projects(store, registry)):
        await cut(entries_log(store, registry, project), f"observations of {project}")
        await cut(RescueLog(store, registry, project), f"rescues of {project}")
        await cut(Doubts(store, f"{registry}/{project}"), f"doubts about {project}")
    await cut(projects_log(store, registry), "observations of the list of projects")
    await cut(Doubts(store, f"{registry}/ projects"), "doubts about the list of projects")
    await cut(Proofs(store, registry), "proofs of serials")
    await cut(Passes(store, registry), "captures", attrgetter("finished"))
    return found

"""Takes back what was noted of a registry at instants that are still to come: the clock was ahead.

Each log loses the entries at its end that are of such instants, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from httpcache.store.base import Store
from httpcache.store.log import Log
from pypi_adapter.history.doubts import Noted, doubts_log
from pypi_adapter.history.history import decode_entry
from pypi_adapter.history.project_log import project_log
from pypi_adapter.history.rescue_log import RescueOutcome, rescues_log
from pypi_adapter.history.serials import Proof, serials_log

from .passes import LISTED, Passes, decode_pass, passes_log
from .project_list import decode_change, projects_log
from .requested_projects import RequestedProjects


async def undo(store: Store, registry: str, now: int, *, remove: bool) -> list[str]:
    """Find what is ahead of `now` (microseconds) and remove it; return a line for each log that has something.

    Without `remove` nothing is changed, else nobody else may use the logs meanwhile. Raises StoreError.
    """
    found: list[str] = []

    async def cut(log: Log, what: str, instant: Callable[[bytes], int]) -> None:
        values = await log.read()
        kept = len(values)
        while kept and instant(values[kept - 1]) > now:
            kept -= 1
        if remove:
            await log.cut(kept)
        if kept < len(values):
            found.append(f"{len(values) - kept} of {len(values)} {what}")

    for project in sorted(await _projects(store, registry)):
        name = f"{registry}/{project}"
        await cut(project_log(store, registry, project), f"observations of {project}", _observed)
        await cut(rescues_log(store, registry, project), f"rescues of {project}", _rescued)
        await cut(doubts_log(store, name), f"doubts about {project}", _doubted)
    await cut(projects_log(store, registry), "observations of the list of projects", _listed)
    await cut(doubts_log(store, f"{registry}/ projects"), "doubts about the list of projects", _doubted)
    await cut(serials_log(store, registry), "proofs of serials", _proved)
    await cut(passes_log(store, registry), "captures", _passed)
    return found


async def _projects(store: Store, registry: str) -> set[str]:
    """Return the names of all projects that can have a log: requested ones, listed ones, those of a capture's file."""
    names = set(await RequestedProjects(store, registry).all())
    for value in await projects_log(store, registry).read():
        names.update(decode_change(value).added)
    for done in await Passes(store, registry).all():
        if done.scope.kind == LISTED:
            names.update(done.scope.names)
    return names


def _observed(value: bytes) -> int:
    return decode_entry(value).instant


def _rescued(value: bytes) -> int:
    return msgspec.msgpack.decode(value, type=RescueOutcome).instant


def _doubted(value: bytes) -> int:
    return msgspec.msgpack.decode(value, type=Noted).instant


def _listed(value: bytes) -> int:
    return decode_change(value).instant


def _proved(value: bytes) -> int:
    return msgspec.msgpack.decode(value, type=Proof).instant


def _passed(value: bytes) -> int:
    return decode_pass(value).finished

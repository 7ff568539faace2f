"""Observes one project for a pass, unless its log is as new as the list, and compares the page with the list."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from pypi_adapter.history.history import History, Missing, StaleObservation
from pypi_adapter.history.project_log import ProjectLog
from pypi_adapter.registry.registry import Registry
from pypi_adapter.simple.model import QUARANTINED, ProjectStatus

LAG = 3_600_000_000  # microseconds by which a cached page can be older than the list


class ListEntry(msgspec.Struct, frozen=True):
    """What a pass knows of a project from the list: whether it is listed, and with which serial.

    `always`: fetch its page whatever serial its log has. `left`: there is a list, and the project is not on it.
    """

    listed: bool
    serial: int | None
    always: bool = True
    left: bool = False


@dataclass(frozen=True)
class Captured:
    """What a pass found of a project: whether its page was fetched (`asked`), and had `changed`.

    `newest` (microseconds) is the instant of the newest entry of its log.
    `instant` (microseconds) is the instant as of which the log is known to be right, None if the list says so.
    `missing` are the files that have disappeared, `status` is the project's as last observed.
    """

    asked: bool
    changed: bool
    newest: int
    instant: int | None
    missing: list[Missing]
    status: ProjectStatus | None


async def capture_project(registry: Registry, project: str, list_entry: ListEntry, since: int) -> Captured:
    """Observe a project for a pass whose list shows the instant `since` (microseconds), unless its log is as new.

    Raises StaleObservation if the page does not match the list, because one of them is from a cache on the way. Raises
    MirrorError.
    """
    observer, serials = await registry.unkept_observer(project), await registry.serials()
    project_log = observer.log
    seen, before, instant = project_log.serial_since(serials.since), project_log.instant, None
    asked = list_entry.always or not project_log.has_page or seen < (list_entry.serial or 0)
    if asked:
        newer = list_entry.serial is not None and seen < list_entry.serial  # the page is new, whatever its entity tag
        believed = list_entry.left and serials.proved
        instant, _ = await observer.fetch(always=False, whole=newer, believed=believed)
        if not _matches(project_log, list_entry, instant, since, registry.client.since):
            raise StaleObservation(f"the page of {project} does not match the list: one of them is outdated")
    list_decides = list_entry.serial is not None and serials.proved
    instant = instant if list_entry.listed and not list_decides and project_log.instant < since else None
    missing = await project_log.work(History.missing)
    newest = project_log.instant
    return Captured(asked, newest != before, newest, instant, missing, project_log.status)


def _matches(project_log: ProjectLog, list_entry: ListEntry, instant: int, since: int, moved: int) -> bool:
    """Whether a fetched page matches a list of the instant `since`; if not, one of the two is old.

    `instant` is what the page's answer shows. Serials count if they are later than `moved`. A project that is no longer
    listed must be gone or quarantined.
    """
    quarantined = project_log.status is not None and project_log.status.status == QUARANTINED
    if not list_entry.listed:
        return instant >= since or not project_log.has_page or quarantined
    if list_entry.serial is None:
        return instant >= since - LAG
    numbered = project_log.serial_since(moved) >= list_entry.serial
    return project_log.has_page and numbered and (instant >= since or not quarantined)

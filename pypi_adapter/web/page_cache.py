"""Renders dated pages, and keeps the most recently sent in memory.

A page is the same from one change of the project to the next, and what was once true of an instant stays true (see
`history`). So a body is kept for all instants between two changes, as long as the policy is the same. If a rule may
change the page, the project's status is part of the key too.
"""

from __future__ import annotations

from typing import TypeAlias

from httpcache.lru import SizedLRU
from httpcache.web.content_coding import Body
from httpcache.web.responses import FOREVER
from pypi_adapter.history.snapshot import SnapshotPage
from pypi_adapter.offload import off_loop
from pypi_adapter.policy.policy import Policy
from pypi_adapter.simple.html_page import to_html
from pypi_adapter.simple.json_page import to_json
from pypi_adapter.simple.model import Page, ProjectStatus
from pypi_adapter.simple.negotiation import MediaType

LIMIT = 12 * 1024 * 1024  # bytes of pages per registry
DATED = f"public, {FOREVER}"
PASSING = "public, max-age=60"
_QUICK = 20  # joining rendered files is so many times as fast as rendering them

_Key: TypeAlias = tuple[str, int | None, MediaType, tuple[ProjectStatus | None] | None, bool]


class PageCache:
    """The rendered dated pages of the projects of a registry."""

    def __init__(self) -> None:
        self._policy = Policy()
        self._kept: SizedLRU[_Key, tuple[Body, str]] = SizedLRU(LIMIT)

    async def body(
        self,
        project: str,
        snapshot_page: SnapshotPage,
        media_type: MediaType,
        policy: Policy,
        status: ProjectStatus | None,
        *,
        derived: bool = True,
    ) -> tuple[Body, str]:
        """Return the page of a project at an instant, without what is withheld, and its `Cache-Control`.

        `status` is the project's status as last observed. For `derived` see SnapshotPage.page.
        """
        if policy is not self._policy:
            self._policy, self._kept = policy, SizedLRU(LIMIT)
        pages = self._kept
        ruled = (status,) if policy.may_change(snapshot_page.name, snapshot_page.contents, status) else None
        key = (project, snapshot_page.since, media_type, ruled, derived)
        found = pages.get(key)
        if found is None:
            joined = media_type is MediaType.JSON and not ruled and derived

            def make() -> tuple[Body, str]:
                if joined:
                    return Body(snapshot_page.json()), DATED
                plain, cache_control = _changed(snapshot_page.page(derived=derived), media_type, policy, status)
                if not derived:  # what is known of a host is only kept for a while
                    cache_control = PASSING
                return Body(plain), cache_control

            found = await off_loop(make, snapshot_page.size // _QUICK if joined else snapshot_page.size)
        pages.put(key, found, found[0].size)  # the size grows with each content coding that is requested
        return found


def _changed(page: Page, media_type: MediaType, policy: Policy, status: ProjectStatus | None) -> tuple[bytes, str]:
    """Render what the policy leaves of a page, with its `Cache-Control`: what is withheld may be released later."""
    kept = policy.page(page, status)
    body = to_json(kept) if media_type is MediaType.JSON else to_html(kept)
    return body, DATED if kept is page else PASSING

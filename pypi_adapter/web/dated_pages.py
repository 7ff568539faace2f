"""Renders dated and live pages, and keeps the dated ones that were sent most recently in memory.

A page is the same from one change of the project to the next, and what was once true of an instant stays true (see
`history`). So a body is kept for all instants between two changes, as long as the policy is the same. If a rule may
change the page, the project's status is part of the key too.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple, TypeAlias

from httpcache.web.content_coding import Body
from httpcache.web.page_cache import PageCache
from httpcache.web.responses import FOREVER
from pypi_adapter.history.live_page import LivePage
from pypi_adapter.history.snapshot import SnapshotPage
from pypi_adapter.offload import off_loop
from pypi_adapter.policy.policy import Policy
from pypi_adapter.simple.html_page import to_html
from pypi_adapter.simple.json_page import to_json
from pypi_adapter.simple.model import ProjectStatus
from pypi_adapter.simple.negotiation import MediaType

DATED = f"public, {FOREVER}"
PASSING = "public, max-age=60"
_QUICK = 20  # joining rendered files is so many times as fast as rendering them

_Key: TypeAlias = tuple[str, int | None, MediaType, tuple[ProjectStatus | None] | None, bool]


class DatedPage(NamedTuple):
    """A rendered page, and its `Cache-Control`."""

    body: Body
    cache_control: str

    @property
    def size(self) -> int:
        """See PageCache."""
        return self.body.size


class DatedPages:
    """The rendered dated pages of the projects of a registry."""

    def __init__(self) -> None:
        self._policy = Policy()
        self._cache: PageCache[_Key, DatedPage] = PageCache()

    async def rendered(
        self,
        project: str,
        page: SnapshotPage | LivePage,
        media_type: MediaType,
        policy: Policy,
        status: ProjectStatus | None,
        *,
        derived: bool = True,
    ) -> DatedPage:
        """Return the page of a project at an instant or now, without what is withheld; a live page is not kept.

        `status` is the project's status as last observed. For `derived` see SnapshotPage.page.
        """
        if isinstance(page, LivePage):
            work = partial(_changed, page, media_type, policy, status, derived=derived)
            return (await off_loop(work, page.size))._replace(cache_control=PASSING)
        if policy is not self._policy:
            self._policy, self._cache = policy, PageCache()
        cache = self._cache
        ruled = (status,) if policy.may_change(page.name, page.contents, status) else None
        key = (project, page.since, media_type, ruled, derived)
        found = cache.get(key)
        if found is not None:
            return found
        joined = media_type is MediaType.JSON and not ruled and derived

        def make() -> DatedPage:
            if joined:
                return DatedPage(Body(page.json()), DATED)
            return _changed(page, media_type, policy, status, derived=derived)

        made = await off_loop(make, page.size // _QUICK if joined else page.size)
        cache.put(key, made)
        return made


def led_below(body: Body, media_type: MediaType, root_path: str, root: str) -> Body:
    """Return a page whose links to files begin with `root`, and not only with `root_path`.

    Neither form has these bytes in a text: there, quotes are escaped.
    """
    before = b'"url":"' if media_type is MediaType.JSON else b'<a href="'
    return Body(body.plain.replace(before + root_path.encode() + b"/", before + root.encode() + b"/"))


def _changed(
    page: SnapshotPage | LivePage, media_type: MediaType, policy: Policy, status: ProjectStatus | None, *, derived: bool
) -> DatedPage:
    """Render what the policy leaves of a page.

    What is withheld may be released later, and what is known of a host is only kept for a while.
    """
    whole = page.page(derived=derived)
    kept = policy.page(whole, status)
    body = to_json(kept) if media_type is MediaType.JSON else to_html(kept)
    return DatedPage(Body(body), DATED if kept is whole and derived else PASSING)

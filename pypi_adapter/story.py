"""Where a frozen file is listed, and who withholds it: from the logs of its project, or from the pages of its pin."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio.to_thread
import msgspec

from httpcache.adapter import Listing, Story
from httpcache.credentials import PUBLIC
from httpcache.store.store import Store
from httpcache.target import Target, looks_like_url

from .addresses import PYPI, AsOf, segment, token
from .history.history import FOREVER, History
from .history.project_log import entries_log
from .policy.policy import Policy
from .registry.metadata_source import SUFFIX
from .simple.model import File
from .web.listings import Listings

PolicyOf = Callable[[str], Awaitable[Policy | None]]
"""Returns the policy of a registry by its name, None if there is no such registry."""


async def story(store: Store, target: Target, digest: str, policy_of: PolicyOf) -> Story | None:
    """Return what is known of a file, None if the target is none that indexes list. Raises StoreError.

    `digest` is the sha256 of its body, "" if it has none.
    """
    if looks_like_url(target.url):
        return await _behind_pin(store, target)
    registry, path = (PYPI, target.url) if target.pin == "files" else (target.pin, target.url.removeprefix("files/"))
    parts = path.split("/")
    policy = await policy_of(registry)
    if len(parts) != 3 or policy is None:
        return None
    project, content, filename = parts
    entries = await entries_log(store, registry, project).all()
    base = "" if registry == PYPI else f"/{registry}"
    wanted = filename.removesuffix(SUFFIX)

    def told() -> Story:
        history = History(entries)
        spans, file = _listed(history, wanted, content)
        sha256 = file.hashes.get("sha256", "" if filename != wanted else digest)
        known = msgspec.structs.replace(file, hashes={**file.hashes, "sha256": sha256} if sha256 else file.hashes)
        listed = [
            Listing(f"{base}/{segment(AsOf(start))}/{project}/", start / 1e6, None if end == FOREVER else end / 1e6)
            for start, end in spans
        ]
        return Story(listed, policy.withheld(project, known, history.status))

    return await anyio.to_thread.run_sync(told)


def _listed(history: History, filename: str, content: str) -> tuple[list[tuple[int, int]], File]:
    """Return from when until when (exclusive) a file was listed, however it was shown, and the file."""
    found: list[tuple[int, int]] = []
    last = File(filename, "", {})
    for spans in history.spans():
        if spans[0][2].file.filename != filename or token(spans[-1][2].file) != content:
            continue
        last = spans[-1][2].file
        for start, end, _ in spans:
            if found and found[-1][1] == start:
                found[-1] = found[-1][0], end
            elif start < end:
                found.append((start, end))
    return found, last


async def _behind_pin(store: Store, target: Target) -> Story | None:
    """Return which frozen index pages list a file. Nothing is withheld behind a pin."""
    pages = {found.page.url: found.page for found in await Listings(store).find(target)}
    listed = [Listing(f"/{page.pin}/{url}", page.created, None, page.scope != PUBLIC) for url, page in pages.items()]
    return Story(listed, None) if listed else None

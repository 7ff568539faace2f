"""The pages that the adapter adds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from httpcache.page import Page
from httpcache.store.store import Store

from .known import Known
from .projects import compared, project, projects


def pages(store: Store, known: Sequence[Known]) -> Sequence[Page]:
    """Return the pages about registries; the built-in one comes first."""
    return [
        Page("/-/projects/", partial(projects, store, known), "Projects"),
        Page("/-/projects/{project}/", partial(project, store, known)),
        Page("/-/projects/{project}/diff", partial(compared, store, known)),
    ]

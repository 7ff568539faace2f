"""The pages that the adapter adds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from httpcache.page import Page
from httpcache.store.store import Store

from .changes import candidates, differences
from .known import Known
from .projects import compared, project, projects
from .registries import capture, captures, registries, rules


def pages(store: Store, known: Sequence[Known]) -> Sequence[Page]:
    """Return the pages about registries; the built-in one comes first."""
    return [
        Page("/-/projects/", partial(projects, store, known), "Projects"),
        Page("/-/projects/{project}/", partial(project, store, known)),
        Page("/-/projects/{project}/diff", partial(compared, store, known)),
        Page("/-/diff/", partial(differences, store, known), "Compare"),
        Page("/-/bisect/", partial(candidates, store, known)),
        Page("/-/captures/", partial(captures, store, known), "Captures"),
        Page("/-/captures/{started}/", partial(capture, store, known)),
        Page("/-/rules/", partial(rules, store, known), "Rules"),
        Page("/-/registries/", partial(registries, store, known), "Registries"),
    ]

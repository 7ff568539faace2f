"""Chooses which of several registries, in their order of precedence, answers for a project.

The first registry that had the project at the requested instant or earlier answers alone. Pages are never merged, and
a name that a registry once had never falls through to the next one: otherwise anyone who can upload to that one would
decide what is installed under the name (dependency confusion). Nor does it fall through if a registry cannot be
reached.

What a registry had by an instant is in its log, and no later observation changes that (see `history`). So the answer
for an instant always comes from the same registry.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from httpcache.errors import MirrorError
from pypi_adapter.addresses import AsOf, When
from pypi_adapter.policy.rule_log import CurrentPolicy
from pypi_adapter.registry.project_list import ProjectListLog
from pypi_adapter.registry.registry import Registry, View

from .dated_pages import DatedPages


@dataclass(frozen=True)
class Source:
    """A registry as it is served, with its project list and its policy."""

    registry: Registry
    project_list: ProjectListLog
    policy: CurrentPolicy
    pages: DatedPages = field(default_factory=DatedPages)
    read_ahead: bool = True
    """Whether the registry is asked for what installers are expected to want next."""

    async def view(self, project: str, when: When, *, requested: bool = True) -> View:
        """Return what the registry had of a project, by its normalised name. Raises MirrorError.

        For `requested` see `Registry.as_of`.
        """
        if isinstance(when, AsOf):
            return await self.registry.as_of(project, when.instant, requested=requested)
        exempt = (await self.policy.current()).exempt
        return await self.registry.live(project, 0 if project in exempt else when.days)

    async def names(self, when: When) -> tuple[set[str], bool]:
        """Return the listed projects that are not withheld, and whether the list was observed for this answer.

        Raises MirrorError.
        """
        if isinstance(when, AsOf):
            page, observed = await self.project_list.as_of(when.instant)
        else:
            page, observed = await self.project_list.live(), True
        rules = (await self.policy.current()).rules
        return {name for name in page.names if not rules.project(name)}, observed


async def first_with(
    sources: Sequence[Source], project: str, when: When, *, requested: bool = True
) -> tuple[Source, View]:
    """Return the first source that had a project (by its normalised name) by then, else the last one, and its view.

    For `requested` see `Registry.as_of`. Raises MirrorError if a source that precedes it cannot tell.
    """
    for source in sources:
        with _named(source, sources):
            view = await source.view(project, when, requested=requested)
        if view.owned:
            break
    return source, view


async def all_names(sources: Sequence[Source], when: When) -> tuple[set[str], bool]:
    """Return the names that any source lists, and whether a list was observed for this answer. Raises MirrorError."""
    names: set[str] = set()
    observed = False
    for source in sources:
        with _named(source, sources):
            found, asked = await source.names(when)
        names |= found
        observed |= asked
    return names, observed


@contextmanager
def _named(source: Source, sources: Sequence[Source]) -> Iterator[None]:
    """Name the registry in an error, if there are several."""
    try:
        yield
    except MirrorError as error:
        if len(sources) > 1:
            error.text = f"{source.registry.name}: {error.text}"
        raise

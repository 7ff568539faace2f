"""A page for people: what a view is told about its visitor, and what it returns for a template to show."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from .metrics import Snapshot


@dataclass(frozen=True)
class Visit:
    """A request for a page.

    `address`: the mirror's own address as the visitor has it, with the root path and without a slash at the end.
    `parts`: what stands in the path, by the names in the page's route. `query`: the query's values; of several with one
    name the last. `sees_all`: the visitor has logged in, and may see the names of private copies and who read what.
    `numbers` returns what all processes of the server have counted.
    """

    address: str
    parts: Mapping[str, str]
    query: Mapping[str, str]
    sees_all: bool
    numbers: Callable[[], Sequence[Snapshot]]

    def page(self, count: int) -> int:
        """Return which of `count` pages of a list is asked for with `?page=`, from 1 on."""
        text = self.query.get("page", "")
        return min(max(1, int(text)), count) if text.isascii() and text.isdecimal() and len(text) < 7 else 1


@dataclass(frozen=True)
class Shown:
    """What to show: the name of a template (`pins.html`, or `pypi_adapter/project.html`), and its values as `page`."""

    template: str
    page: object
    status: int = 200


@dataclass(frozen=True)
class Page:
    """A page under `/-/`. `route` is its path, as `/-/pins/{pin}/`; `label` is its link in the navigation, if any.

    The view raises MirrorError, which the visitor sees as a page too.
    """

    route: str
    view: Callable[[Visit], Awaitable[Shown]]
    label: str | None = None

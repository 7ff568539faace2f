"""A page for people: what a view is told about its visitor, and what it returns for a template to show."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from .metrics import Snapshot

T = TypeVar("T")


class Part(NamedTuple, Generic[T]):
    """A page of a list: its rows, its number, which counts from 1, and of how many."""

    rows: Sequence[T]
    page: int
    pages: int


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

    def part(self, found: Sequence[T], size: int) -> Part[T]:
        """Return the page of a list, in pages of `size` rows, that is asked for with `?page=`."""
        pages, text = max(1, -(-len(found) // size)), self.query.get("page", "")
        page = min(max(1, int(text)), pages) if text.isascii() and text.isdecimal() and len(text) < 7 else 1
        return Part(found[(page - 1) * size : page * size], page, pages)


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

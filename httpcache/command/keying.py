"""`httpcache key`: its commands are declared here; `issuing` does what they are for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import click

from .rows import Rows
from .running import with_store

_LIMITS = {
    "--pins": ("PREFIX", "open these pins, by their names without a date; repeatable"),
    "--registries": ("NAME", "open these registries and groups (pypi: the one behind the dates); repeatable"),
}
_ENDS = {
    "--expires": ("WHEN", "end it after 90d (days) or 12w (weeks), or at a date"),
    "--rate": ("N/PERIOD", "at most so many requests in a period: 10/s, 600/min, 10000/h"),
}

Declared = tuple[str, Callable[..., int], str, Sequence[click.Parameter]]
"""The name of a command, what it runs, its help, and its arguments besides those of the store."""


def commands(as_json: click.Parameter) -> Iterator[Declared]:
    """Yield the commands of the group."""
    name = click.Argument(["name"])
    options = [
        *(click.Option([each], metavar=metavar, multiple=True, help=text) for each, (metavar, text) in _LIMITS.items()),
        click.Option(["--read-only"], is_flag=True, help="give it only what is frozen or known already"),
        *(click.Option([each], metavar=metavar, help=text) for each, (metavar, text) in _ENDS.items()),
    ]
    yield "add", _add, "make an access key, and print it this once", [name, *options]
    everything = click.Option(["--all", "everything"], is_flag=True, help="also those that were revoked")
    yield "list", _list, "list the access keys", [as_json, everything]
    yield "revoke", _revoke, "revoke an access key: it ends at once, everywhere", [name]


def _add(
    name: str,
    pins: Sequence[str],
    registries: Sequence[str],
    read_only: bool,
    expires: str | None,
    rate: str | None,
    **where: Any,
) -> int:
    from . import issuing

    wanted = issuing.wanted(name, pins=pins, registries=registries, read_only=read_only, expires=expires, rate=rate)
    return with_store(where, partial(issuing.add, wanted=wanted))


def _list(as_json: bool, everything: bool, **where: Any) -> int:
    from . import issuing

    return with_store(where, partial(issuing.show, rows=Rows(as_json), everything=everything))


def _revoke(name: str, **where: Any) -> int:
    from . import issuing

    return with_store(where, partial(issuing.revoke, name=name))

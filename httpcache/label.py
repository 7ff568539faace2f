"""Build labels: what a build takes through a labelled address is recorded for it, and nothing else is different.

    /2023-11-18--build-42/requests/           is /2023-11-18/requests/, taken by build-42
    /internal/live--build-42/requests/        is /internal/live/requests/
    /tools-2023-11-18--build-42/https://...   is /tools-2023-11-18/https://...
    /2023-11-18--build-42/-/files/...         is /files/...: any address behind "/-"

The last form is that of the links in what is answered, so that a build stays in its label: it is a root path of its
own.
"""

from __future__ import annotations

import re
from collections.abc import Container
from typing import NamedTuple
from urllib.parse import unquote

from .errors import BadAddress

LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._]|-(?!-)){0,62}[A-Za-z0-9]|[A-Za-z0-9]")
"""A label: up to 64 characters, of which the first and last are letters or digits."""
MARK = "--"
_LABELLED = re.compile(r"(live(?:-\d{1,4}d)?|.*?\d{4}-\d{1,2}-\d{1,2}(?:T.*?Z)?)--(.*)", re.ASCII)
_SPAN = re.compile(r"\d+[A-Za-z]", re.ASCII)
_BEHIND = "-/"
_LONGEST = 300  # characters of a segment that is read: pins have at most 100


class Labelled(NamedTuple):
    """A labelled address.

    `label`: that of the build. `through`: the pin or index that it uses, like "tools-2023-11-18" or "internal/live".
    `path`: the raw path without the label. `root`: what stands in front of the path of each link in the answer.
    """

    label: str
    through: str
    path: str
    root: str


def read_label(path: str, names: Container[str], pins: Container[str]) -> Labelled | None:
    """Read the label in the raw path of an address, None if it has none. Raises BadAddress if it is not valid.

    `names` are the first segments below which there are indexes. `pins` are pins whose names have the form of a
    labelled one, and which are older than labels: they stay pins.
    """
    found = _split(path, names, pins)
    if not found:
        return None
    name, index, label, slash, rest = found
    if not LABEL.fullmatch(label):
        raise BadAddress(
            f"{label[:100]!r} is not a valid build label: use up to 64 letters, digits, '.', '_' and single '-', "
            f"for example /{name}{index}--build-42/"
        )
    if index == "live" and _SPAN.fullmatch(label):
        raise BadAddress(
            f"/{name}live--{label}/ may be a cooldown with a hyphen too many: write /{name}live-{label}/, or use a "
            "build label that does not look like a number of days"
        )
    if rest.startswith(_BEHIND):
        path = f"/{rest.removeprefix(_BEHIND)}"
        if _split(path, names, pins):
            raise BadAddress("the address has two build labels: use one")
    else:
        path = f"/{name}{index}{slash}{rest}"
    return Labelled(label, unquote(f"{name}{index}"), path, f"/{name}{index}{MARK}{label}/{_BEHIND.rstrip('/')}")


def _split(path: str, names: Container[str], pins: Container[str]) -> tuple[str, str, str, str, str] | None:
    """Return the parts of a labelled address, None for any other: name with its slash, index, label, slash, rest."""
    first, slash, rest = path.removeprefix("/").partition("/")
    name = ""
    if first in names:
        name = f"{first}/"
        first, slash, rest = rest.partition("/")
    found = None if first in pins else _labelled(first)
    return (name, *found, slash, rest) if found else None


def is_reserved(name: str) -> bool:
    """Whether a name has the form of a labelled pin or index, valid or not."""
    return _labelled(name) is not None


def _labelled(segment: str) -> tuple[str, str] | None:
    found = _LABELLED.fullmatch(segment) if len(segment) <= _LONGEST else None
    return (found[1], found[2]) if found else None

"""The settings of the adapter: what is behind the dated and live indexes, and how it is captured."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from httpcache.errors import BadAddress
from httpcache.kinds import SWITCH, Kind
from httpcache.settings import UPSTREAMS, Section, Setting, Settings
from httpcache.target import read_address
from pypi_adapter.registry.scope import ALL, LISTED, REQUESTED, Scope

SECTION = Section("PyPI, and registries like it", UPSTREAMS)


def read_index(text: str) -> str:
    """Read the URL of a simple index; return it with a slash at its end. Raises ValueError, which shows no secret."""
    try:
        return read_address(text.rstrip("/") + "/").wire
    except BadAddress:  # its message is about requests
        raise ValueError("not the URL of a simple index: use http or https, without a user name or a query") from None


def read_scope(text: str) -> Scope:
    """Read the scope of a capture: `requested`, `all`, or the name of a file with one project per line.

    In the file, `#` begins a comment. Raises ValueError with a text that says what to write.
    """
    from packaging.utils import InvalidName, canonicalize_name  # a file of names is rare

    if text in (REQUESTED, ALL):
        return Scope(text)
    try:
        lines = Path(text).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{text!r} is not a capture scope: write requested, all, or the name of a file with one project per line "
            f"({getattr(error, 'strerror', None) or error})"
        ) from error
    written = [name for line in lines if (name := line.partition("#")[0].strip())]
    if not written:
        raise ValueError(f"{text} contains no project names: write one per line")
    try:
        return Scope(LISTED, tuple(sorted({canonicalize_name(name, validate=True) for name in written})))
    except InvalidName as error:
        raise ValueError(f"{text}: {error}: write one project name per line") from error


def place_scope(text: str, folder: Path) -> str:
    """Return the text of a scope in the settings file, with the file that it may name in the settings file's folder."""
    return text if text in (REQUESTED, ALL) else str(folder / text)


def _read_second_look(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 6):
        raise ValueError(f"{text!r} is not a number of minutes: use up to five digits")
    return int(text) * 60


UPSTREAM: Setting[str | None] = Setting(
    "pypi-upstream",
    Kind("URL", read_index),
    "the simple index behind the dated and live addresses",
    SECTION,
    None,
    "PyPI's",
)
CAPTURE = Setting(
    "pypi-capture",
    Kind("SCOPE", read_scope, place=place_scope),
    "which projects of PyPI a capture covers: requested, all, or a file of names",
    SECTION,
    Scope(REQUESTED),
)
SECOND_LOOK = Setting(
    "pypi-second-look",
    Kind("MINUTES", _read_second_look, lambda value: f"{value // 60}", "minutes", (int,)),
    "how long a project, or nearly all of its files, must be missing before the loss counts, if nothing else "
    "confirms it",
    SECTION,
    15 * 60,
)
READ_AHEAD = Setting(
    "pypi-read-ahead",
    SWITCH,
    "off: fetch nothing before a client asks for it; on: also what pip and uv will ask for next",
    SECTION,
    True,
)


def upstream_of(settings: Settings) -> str:
    """Return the URL of the simple index behind the dated and live addresses."""
    from distlib.index import DEFAULT_INDEX  # imports much that only this needs

    return UPSTREAM.of(settings) or urljoin(DEFAULT_INDEX, "/simple/")


SETTINGS: tuple[Setting[Any], ...] = (UPSTREAM, CAPTURE, SECOND_LOOK, READ_AHEAD)

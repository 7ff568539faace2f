"""Fills the templates. Everything is escaped, an unknown name is an error, and nothing is asked of another host."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from importlib.resources import files
from typing import Any, NamedTuple
from urllib.parse import quote

from jinja2 import ChoiceLoader, Environment, PackageLoader, PrefixLoader, StrictUndefined
from markupsafe import Markup, escape

from httpcache.errors import plain
from httpcache.units import short_size, span

PACKAGE = "httpcache.pages"
STATIC = "/-/static/"
_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}


class Asset(NamedTuple):
    """A stylesheet, script or image: its bytes, its media type, and the beginning of its sha256 in hex."""

    data: bytes
    media_type: str
    digest: str


def assets() -> dict[str, Asset]:
    """Return the static files by name."""
    found = {}
    for path in files(PACKAGE).joinpath("static").iterdir():
        data = path.read_bytes()
        kind = _TYPES.get(path.name.rpartition(".")[2])
        if kind:
            found[path.name] = Asset(data, kind, sha256(data).hexdigest()[:16])
    return found


def environment(static: Mapping[str, Asset], packages: Mapping[str, str]) -> Environment:
    """Return the templates of the mirror, and those of adapters below their prefix.

    `packages` are the packages with a folder `templates`, by prefix. To be rendered, each needs `root`, the root path.
    """
    added = PrefixLoader({prefix: PackageLoader(name) for prefix, name in packages.items()})
    made = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=ChoiceLoader([PackageLoader(PACKAGE), added]),
    )
    made.globals["static"] = lambda name: f"{STATIC}{name}?{static[name].digest}"
    made.filters |= {
        "size": short_size,
        "span": span,
        "count": lambda number: f"{number:,}",
        "time": time_element,
        "segment": lambda text: quote(text, safe=""),
        "marked": marked,
    }
    return made


def _shown(value: Any) -> Any:
    """Escape what could change how a text is read: control characters, and those that change its direction."""
    return plain(value) if type(value) is str else value


def time_element(seconds: float) -> Markup:
    """Return an instant (seconds since the epoch) to the second in UTC, or what it is if no calendar has it."""
    try:
        text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return escape(seconds)
    return Markup('<time datetime="{}Z">{}</time>').format(text.replace(" ", "T"), text)


def marked(text: str, part: str) -> Markup:
    """Return a text in which each occurrence of a part is an element of its own, so that a script can replace it."""
    element = Markup("<span data-date>{}</span>").format(part)
    return element.join(text.split(part))

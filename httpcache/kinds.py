"""The kinds of values that a setting can have: how each is read from text, and written. Readers raise ValueError."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Generic, TypeVar

from .errors import BadAddress
from .fields import why_not
from .login import check_hash
from .target import canonical_url, check_pin, origin, pin_prefix
from .units import exact_size, exact_span, parse_size, parse_span

T = TypeVar("T")

_PREFIX = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)*")
_YES, _NO = ("1", "true", "t", "yes", "y", "on"), ("0", "false", "f", "no", "n", "off")


def _as_it_is(text: str, folder: Path) -> str:
    return text


@dataclass(frozen=True)
class Kind(Generic[T]):
    """How values are read and written.

    `metavar` stands for the value in help; "" is a flag, an option without a value. `read` raises ValueError with a
    text that says how to write it. `write` returns what `read` reads. `unit` is added where values are shown. `natives`
    are the types of TOML, besides strings, that a value in the file may have. `place` rewrites a text of the file that
    is relative to the file's folder.
    """

    metavar: str
    read: Callable[[str], T]
    write: Callable[[T], str] = str
    unit: str = ""
    natives: tuple[type, ...] = ()
    place: Callable[[str, Path], str] = _as_it_is

    @property
    def is_flag(self) -> bool:
        """Whether it is an option without a value."""
        return not self.metavar


def text(metavar: str) -> Kind[str]:
    """Return a kind for any text."""
    return Kind(metavar, str)


def choice(metavar: str, choices: Sequence[str]) -> Kind[str]:
    """Return a kind for one of several words."""

    def read(text: str) -> str:
        if text in choices:
            return text
        near = get_close_matches(text, choices, 1)
        raise ValueError(f"{text!r} is not one of {', '.join(choices)}{f': did you mean {near[0]}?' if near else ''}")

    return Kind(metavar, read)


def _read_switch(text: str) -> bool:
    if text.lower() in (*_YES, *_NO):
        return text.lower() in _YES
    raise ValueError(f"{text!r} is not a boolean: use 1 or 0")


def _write_switch(value: bool) -> str:
    return "on" if value else "off"


def _read_port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise ValueError(f"{text!r} is not a port: use 1 to 65535")
    return int(text)


def _read_count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 2**31:
        raise ValueError(f"{text!r} is not a positive whole number: use 1 or more")
    return int(text)


def _read_size(text: str) -> int:
    found = parse_size(text)
    if found is None:
        raise ValueError(f"{text!r} is not a size: use a number of bytes, or one followed by K, M or G")
    return found


def _read_header_size(text: str) -> int:
    """Read a size for the head of a message, within the lower and upper limits of the HTTP libraries."""
    found = _read_size(text)
    if not 8 * 1024 <= found <= 96 * 1024:
        raise ValueError(f"{text!r} is out of range: use 8K to 96K")
    return found


def _read_seconds(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < 1e9:
        raise ValueError(f"{text!r} is not a duration: use a number of seconds above 0")
    return found


def _read_minutes(text: str) -> float:
    try:
        return 60 * _read_seconds(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a duration: use a number of minutes above 0") from None


def _read_span(text: str) -> float:
    found = parse_span(text)
    if found is None:
        raise ValueError(f"{text!r} is not a number of days or weeks: write it like 180d or 26w")
    return found


def _write_number(value: float) -> str:
    return f"{value:.15g}"


def _read_prefix(text: str) -> str:
    if text and not text.startswith("/"):
        raise ValueError(f"{text!r} does not begin with a slash")
    if not _PREFIX.fullmatch(text.rstrip("/")):
        raise ValueError(
            f"{text!r} is not a valid prefix: use letters, digits, '.', '_', '~' and '-' between its slashes"
        )
    return text.rstrip("/")


def _read_network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a network: use one like 10.1.2.0/24 ({error})") from error


def _read_binding(text: str) -> tuple[str, str]:
    name, _, url = text.partition("=")
    try:
        return _read_pin(name), origin(canonical_url(url))
    except BadAddress as error:
        raise ValueError(
            f"{text!r} is not a binding: use PREFIX=ORIGIN, like gitlab=https://gitlab.example.com ({error.text})"
        ) from error


def _read_kept_header(text: str) -> str:
    reason = why_not(text.lower())
    if reason:
        raise ValueError(f"{text!r} cannot be kept: {reason}")
    return text.lower()


def _read_pin(text: str) -> str:
    """Read the name of a pin without its date."""
    try:
        found = pin_prefix(check_pin(text))
    except BadAddress as error:
        raise ValueError(error.text) from error
    if found != text:
        raise ValueError(f"{text!r} ends in a date: use {found!r}, which stands for all its dates")
    return found


def _in_folder(text: str, folder: Path) -> str:
    return str(folder / text)


FLAG = Kind("", _read_switch, _write_switch, natives=(bool,))
SWITCH = Kind("on/off", _read_switch, _write_switch, natives=(bool,))
PORT = Kind("PORT", _read_port, natives=(int,))
COUNT = Kind("N", _read_count, natives=(int,))
SIZE = Kind("SIZE", _read_size, exact_size, "bytes", (int,))
HEADER_SIZE = Kind("SIZE", _read_header_size, exact_size, "bytes", (int,))
SECONDS = Kind("SECONDS", _read_seconds, _write_number, "seconds", (int, float))
SPAN = Kind("SPAN", _read_span, exact_span)
MINUTES = Kind("MINUTES", _read_minutes, lambda value: _write_number(value / 60), "minutes", (int, float))
PREFIX = Kind("/PREFIX", _read_prefix)
NETWORK = Kind("CIDR", _read_network)
BINDING = Kind("PREFIX=ORIGIN", _read_binding, "=".join)
PIN = Kind("PREFIX", _read_pin)
HEADER = Kind("NAME", str.lower)
KEPT_HEADER = Kind("NAME", _read_kept_header)
FOLDER = Kind("DIR", Path, place=_in_folder)
FILE = Kind("FILE", Path, place=_in_folder)
PASSWORD_HASH = Kind("HASH", check_hash)

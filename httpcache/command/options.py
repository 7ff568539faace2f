"""Options of the command: read from the command line, else from the environment, else their default."""

from __future__ import annotations

import argparse
import re
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from ipaddress import ip_network
from typing import Any

from httpcache.errors import BadAddress
from httpcache.fields import why_not
from httpcache.target import canonical_url, check_pin, origin, pin_prefix
from httpcache.units import parse_size

_PREFIX = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)*")


class Options:
    """Adds options to a parser; `--allow-network` is also `HTTPCACHE_ALLOW_NETWORK` in the environment."""

    def __init__(self, parser: argparse.ArgumentParser, environment: Mapping[str, str]) -> None:
        self._parser = parser
        self._environment = environment

    def one(self, name: str, default: object, read: Callable[[str], object], **more: Any) -> None:
        """Add an option with one value. Raises ArgumentTypeError for a variable that cannot be read."""
        given = self._environment.get(_variable(name))
        value = default if given is None else _read(name, read, given)
        self._parser.add_argument(f"--{name}", default=value, type=read, **more)

    def many(self, name: str, read: Callable[[str], object], **more: Any) -> None:
        """Add an option that can be repeated; its values can also be separated by commas."""

        def read_all(text: str) -> list[object]:
            return [read(part.strip()) for part in text.split(",") if part.strip()]

        default = _read(name, read_all, self._environment.get(_variable(name), ""))
        self._parser.add_argument(f"--{name}", action="extend", default=default, type=read_all, **more)

    def flag(self, name: str, **more: Any) -> None:
        """Add an option without a value. Raises ArgumentTypeError for a variable that is neither yes nor no."""
        given = _read(name, _switch, self._environment.get(_variable(name), ""))
        self._parser.add_argument(f"--{name}", action="store_true", default=given, **more)


def mistyped(environment: Mapping[str, str], names: Iterable[str]) -> list[str]:
    """Return a warning for each variable that is nearly that of an option: `HTTPCACHE_WORKER` for `workers`."""
    known = {_variable(name) for name in names}
    unknown = sorted(name for name in environment if name.startswith("HTTPCACHE_") and name not in known)
    return [
        f"{name} is no variable that it knows, and changes nothing: is {near[0]} meant?"
        for name in unknown
        if (near := get_close_matches(name, known, 1, 0.9))
    ]


def _variable(name: str) -> str:
    return f"HTTPCACHE_{name.upper().replace('-', '_')}"


def _read(name: str, read: Callable[[str], object], text: str) -> object:
    try:
        return read(text)
    except ArgumentTypeError as error:
        raise ArgumentTypeError(f"{_variable(name)}: {error}") from error


def _switch(text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("", "0", "false", "no", "off"):
        return False
    raise ArgumentTypeError(f"{text!r} is neither yes nor no: write 1 or 0")


def one_of(*choices: str) -> Callable[[str], str]:
    """Return a reader of a text that is one of these."""

    def read(text: str) -> str:
        if text not in choices:
            raise ArgumentTypeError(f"{text!r} is none of {', '.join(choices)}")
        return text

    return read


def port(text: str) -> int:
    """Read a TCP port."""
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise ArgumentTypeError(f"{text!r} is no port: use 1 to 65535")
    return int(text)


def count(text: str) -> int:
    """Read a number of things, at least one."""
    if not text.isdecimal() or not 0 < int(text) < 2**31:
        raise ArgumentTypeError(f"{text!r} is no number of that: use 1 or more")
    return int(text)


def size(text: str) -> int:
    """Read a number of bytes: `65536`, `64K`, `128M`, `32G`."""
    found = parse_size(text)
    if found is None:
        raise ArgumentTypeError(f"{text!r} is no size: use a number of bytes, or one with K, M or G behind it")
    return found


def header_size(text: str) -> int:
    """Read a size for the head of a message: what the HTTP libraries can hold bounds it on both sides."""
    found = size(text)
    if not 8 * 1024 <= found <= 96 * 1024:
        raise ArgumentTypeError(f"{text!r} is no size for a head: use 8K to 96K")
    return found


def seconds(text: str) -> float:
    """Read a time in seconds, fractions allowed."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < 1e9:
        raise ArgumentTypeError(f"{text!r} is no time: use a number of seconds above 0")
    return found


def minutes(text: str) -> float:
    """Read a time in minutes; return it in seconds."""
    try:
        return 60 * seconds(text)
    except ArgumentTypeError:
        raise ArgumentTypeError(f"{text!r} is no time: use a number of minutes above 0") from None


def prefix(text: str) -> str:
    """Read the path under which a proxy in front shows the mirror."""
    if text and not text.startswith("/"):
        raise ArgumentTypeError(f"{text!r} does not begin with a slash")
    if not _PREFIX.fullmatch(text.rstrip("/")):
        raise ArgumentTypeError(
            f"{text!r} is no prefix: use letters, digits, '.', '_', '~' and '-' between its slashes"
        )
    return text.rstrip("/")


def network(text: str) -> object:
    """Read a network: `10.1.2.0/24`."""
    try:
        return ip_network(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is no network: {error}") from error


def binding(text: str) -> tuple[str, str]:
    """Read a binding: `gitlab=https://gitlab.example.com`."""
    name, _, url = text.partition("=")
    try:
        return pin_name(name), origin(canonical_url(url))
    except BadAddress as error:
        raise ArgumentTypeError(
            f"{text!r} binds no pin: use PREFIX=ORIGIN, for example gitlab=https://gitlab.example.com ({error.text})"
        ) from error


def kept_header(text: str) -> str:
    """Read the name of a header that is to be kept; return it in lower case."""
    reason = why_not(text.lower())
    if reason:
        raise ArgumentTypeError(f"{text!r} cannot be kept: {reason}")
    return text.lower()


def pin_name(text: str) -> str:
    """Read the name of a pin without its date."""
    try:
        found = pin_prefix(check_pin(text))
    except BadAddress as error:
        raise ArgumentTypeError(error.text) from error
    if found != text:
        raise ArgumentTypeError(f"{text!r} has a date: name the pin without it, {found!r}, and all its dates are meant")
    return found

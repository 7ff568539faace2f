"""Options of the command, read from the command line, else from the environment, else set to their default."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from ipaddress import ip_network
from itertools import chain
from typing import Any

import click
from click.core import ParameterSource

from httpcache.errors import BadAddress
from httpcache.fields import why_not
from httpcache.target import canonical_url, check_pin, origin, pin_prefix
from httpcache.units import parse_size

_PREFIX = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)*")


class Option(click.Option):
    """An option with one value; `--allow-network` is also `HTTPCACHE_ALLOW_NETWORK` in the environment.

    `read` converts a string to the value, including the default. It raises BadParameter.
    """

    def __init__(self, name: str, metavar: str | None, read: Any, text: str, default: Any = None, **more: Any) -> None:
        more |= {"metavar": metavar, "type": read, "help": text, "default": default, "show_default": bool(default)}
        super().__init__([f"--{name}"], envvar=_variable(name), **more)

    def get_error_hint(self, ctx: click.Context | None) -> str:
        """Return the name of the option, or of the variable if the value came from there."""
        is_variable = ctx and ctx.get_parameter_source(self.name or "") is ParameterSource.ENVIRONMENT
        return str(self.envvar) if is_variable else self.opts[0]


class ListOption(Option):
    """An option that can be repeated or take comma-separated values; those of the variable come first."""

    def __init__(self, name: str, metavar: str, read: Callable[[str], object], text: str) -> None:
        def read_all(text: str) -> list[object]:
            return [read(part.strip()) for part in text.split(",") if part.strip()]

        def join(context: click.Context, option: click.Parameter, lists: Iterable[list[object]]) -> tuple[object, ...]:
            return tuple(chain(*lists))

        super().__init__(name, metavar, read_all, text, multiple=True, callback=join)

    def consume_value(self, ctx: click.Context, opts: Mapping[str, Any]) -> tuple[Any, ParameterSource]:
        """Return the values of the variable, followed by those of the command line."""
        value, source = super().consume_value(ctx, opts)
        if source is ParameterSource.COMMANDLINE:
            value = (*(self.value_from_envvar(ctx) or ()), *value)
        return value, source


class _Switch(click.types.BoolParamType):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bool:
        """Parse the value of a flag's variable. Raises BadParameter."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"{value!r} is not a boolean: use 1 or 0", param, ctx)


def flag(name: str, text: str) -> Option:
    """Return an option without a value."""
    return Option(name, None, _Switch(), text, default=False, is_flag=True)


def mistyped(environment: Mapping[str, str], names: Iterable[str]) -> list[str]:
    """Return a warning for each variable that looks like a misspelled option: `HTTPCACHE_WORKER` for `workers`."""
    known = {_variable(name) for name in names}
    unknown = sorted(name for name in environment if name.startswith("HTTPCACHE_") and name not in known)
    return [
        f"ignoring the unknown environment variable {name}: did you mean {near[0]}?"
        for name in unknown
        if (near := get_close_matches(name, known, 1, 0.9))
    ]


def _variable(name: str) -> str:
    return f"HTTPCACHE_{name.upper().replace('-', '_')}"


def port(text: str) -> int:
    """Parse a TCP port."""
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise click.BadParameter(f"{text!r} is not a port: use 1 to 65535")
    return int(text)


def count(text: str) -> int:
    """Parse a count of at least 1."""
    if not text.isdecimal() or not 0 < int(text) < 2**31:
        raise click.BadParameter(f"{text!r} is not a positive whole number: use 1 or more")
    return int(text)


def size(text: str) -> int:
    """Parse a number of bytes: `65536`, `64K`, `128M`, `32G`."""
    found = parse_size(text)
    if found is None:
        raise click.BadParameter(f"{text!r} is not a size: use a number of bytes, or one followed by K, M or G")
    return found


def header_size(text: str) -> int:
    """Parse a size for the head of a message, within the lower and upper limits of the HTTP libraries."""
    found = size(text)
    if not 8 * 1024 <= found <= 96 * 1024:
        raise click.BadParameter(f"{text!r} is out of range: use 8K to 96K")
    return found


def seconds(text: str) -> float:
    """Parse a time in seconds, fractions allowed."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < 1e9:
        raise click.BadParameter(f"{text!r} is not a duration: use a number of seconds above 0")
    return found


def minutes(text: str) -> float:
    """Parse a time in minutes; return it in seconds."""
    try:
        return 60 * seconds(text)
    except click.BadParameter:
        raise click.BadParameter(f"{text!r} is not a duration: use a number of minutes above 0") from None


def prefix(text: str) -> str:
    """Parse the path prefix under which a reverse proxy exposes the mirror."""
    if text and not text.startswith("/"):
        raise click.BadParameter(f"{text!r} does not begin with a slash")
    if not _PREFIX.fullmatch(text.rstrip("/")):
        raise click.BadParameter(
            f"{text!r} is not a valid prefix: use letters, digits, '.', '_', '~' and '-' between its slashes"
        )
    return text.rstrip("/")


def network(text: str) -> object:
    """Parse a network: `10.1.2.0/24`."""
    try:
        return ip_network(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not a network: use one like 10.1.2.0/24 ({error})") from error


def binding(text: str) -> tuple[str, str]:
    """Parse a binding of a pin prefix to an origin: `gitlab=https://gitlab.example.com`."""
    name, _, url = text.partition("=")
    try:
        return pin_name(name), origin(canonical_url(url))
    except BadAddress as error:
        raise click.BadParameter(
            f"{text!r} is not a binding: use PREFIX=ORIGIN, like gitlab=https://gitlab.example.com ({error.text})"
        ) from error


def kept_header(text: str) -> str:
    """Parse the name of a header to keep; return it in lower case."""
    reason = why_not(text.lower())
    if reason:
        raise click.BadParameter(f"{text!r} cannot be kept: {reason}")
    return text.lower()


def pin_name(text: str) -> str:
    """Parse the name of a pin; return it without its date."""
    try:
        found = pin_prefix(check_pin(text))
    except BadAddress as error:
        raise click.BadParameter(error.text) from error
    if found != text:
        raise click.BadParameter(f"{text!r} ends in a date: use {found!r}, which stands for all its dates")
    return found

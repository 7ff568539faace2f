"""Options of the command for settings, read from the command line or from the environment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from itertools import chain
from typing import Any, cast

import click
from click.core import ParameterSource

from httpcache.kinds import FLAG
from httpcache.settings import Setting

GIVEN = "httpcache.given"
"""Where the context of a command keeps what was given for its settings: by name, values and where they come from."""


class Option(click.Option):
    """The option and the variable of a setting. What is given is kept in the context, for `in_force`.

    A flag has a second option that turns it off. A list can be repeated, or take values with commas between them; the
    values of the variable come first.
    """

    def __init__(self, setting: Setting[Any]) -> None:
        self.setting = setting
        usual = f"  [default: {setting.usual_text}]" if setting.usual_text and not setting.kind.is_flag else ""
        super().__init__(
            [f"{setting.option}/--no-{setting.name}" if setting.kind.is_flag else setting.option],
            envvar=setting.variable,
            metavar=setting.kind.metavar or None,
            type=_Switch() if setting.kind.is_flag else _Reader(setting),
            help=setting.description + usual,
            default=None,
            multiple=setting.is_list,
            expose_value=False,
            callback=_keep,
        )

    def get_error_hint(self, ctx: click.Context | None) -> str:
        """Return the name of the option, or of the variable if the value came from there."""
        is_variable = ctx and ctx.get_parameter_source(self.name or "") is ParameterSource.ENVIRONMENT
        return self.setting.variable if is_variable else self.setting.option

    def consume_value(self, ctx: click.Context, opts: Mapping[str, Any]) -> tuple[Any, ParameterSource]:
        """Return the value; of a list, those of the variable followed by those of the command line."""
        value, source = super().consume_value(ctx, opts)
        if self.setting.is_list and source is ParameterSource.COMMANDLINE:
            value = (*(self.value_from_envvar(ctx) or ()), *value)
        return value, source


class _Reader(click.ParamType[Any]):
    """Reads what a setting says, for click."""

    def __init__(self, setting: Setting[Any]) -> None:
        self.setting = setting
        self.name = setting.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read a text. Raises BadParameter."""
        read = self.setting.kind.read
        try:
            return read_list(self.setting, value) if self.setting.is_list else read(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _Switch(click.types.BoolParamType):
    """Reads the variable of a flag; on the command line it is a bool already."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bool:
        """Read a text. Raises BadParameter."""
        try:
            return value if isinstance(value, bool) else FLAG.read(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def read_list(setting: Setting[Any], text: str) -> list[object]:
    """Read values with commas between them. Raises ValueError."""
    return [setting.kind.read(part.strip()) for part in text.split(",") if part.strip()]


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Keep what was given for a setting: (value, where it comes from)."""
    option = cast(Option, parameter)
    setting = option.setting
    source = context.get_parameter_source(option.name or "")
    origins = []
    if source is ParameterSource.ENVIRONMENT or (setting.is_list and option.value_from_envvar(context)):
        origins.append(setting.variable)
    if source is ParameterSource.COMMANDLINE:
        origins.append(setting.option)
    if origins:
        read = tuple(chain(*value)) if setting.is_list else value
        context.meta.setdefault(GIVEN, {})[setting.name] = read, tuple(origins)


def mistyped(environment: Mapping[str, str], known: Iterable[str]) -> list[str]:
    """Return a warning for each variable that looks like a misspelled one: `HTTPCACHE_WORKER`."""
    names = set(known)
    unknown = sorted(name for name in environment if name.startswith("HTTPCACHE_") and name not in names)
    return [
        f"ignoring the unknown environment variable {name}: did you mean {near[0]}?"
        for name in unknown
        if (near := get_close_matches(name, names, 1, 0.9))
    ]

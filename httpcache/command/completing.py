"""Completes commands in a shell: prints the script for it, and finds the pins that it completes (click's mechanism)."""

from __future__ import annotations

from collections.abc import Sequence

import click
from click.shell_completion import BashComplete, CompletionItem, FishComplete, ZshComplete

from httpcache.adapter import Adapter
from httpcache.errors import MirrorError
from httpcache.settings import declared
from httpcache.store.totals import totals

from .in_force import find
from .options import GIVEN

_SCRIPTS = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}
VARIABLE = "_HTTPCACHE_COMPLETE"
"""The variable by which a shell asks the command what could come next."""


def script(program: click.Command, shell: str) -> str:
    """Return what a shell evaluates to complete the program's commands, options and pins."""
    return _SCRIPTS[shell](program, {}, "httpcache", VARIABLE).source()


def pins(
    installed: Sequence[Adapter], context: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem[str]]:
    """Return the pins of the store in a folder that begin so; none if it cannot be read: a shell shows no error."""
    settings = [declared()["data"], declared()["index"]]
    try:
        where = find(settings, context.meta.get(GIVEN, {}), context.params.get("config"), installed).found
        if where["index"].value:  # the shell would wait for another machine
            return []
        return [CompletionItem(each.pin) for each in totals(where["data"].value) if each.pin.startswith(incomplete)]
    except (MirrorError, OSError):
        return []

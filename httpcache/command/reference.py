"""Prints the reference page of the settings, docs/settings.md: `python -m httpcache.command.reference`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from httpcache.adapter import Adapter, adapters
from httpcache.settings import SERVER, STORE, UPSTREAMS, Setting

from .in_force import every

HEAD = """# Settings

<!-- Written by `make settings-page` from what the program knows of its settings: change it there. -->

Everything that can be set has one name: `allow-network` is a key of the settings file, `HTTPCACHE_ALLOW_NETWORK` a
variable, and `--allow-network` an option. `--config FILE` or `HTTPCACHE_CONFIG` names the file.
[Operating](operating.md#settings) says how they go together, and what a running server can change.

Sizes are bytes, or bytes with K, M, G or T (1024, 1024², …): `32G`. Times are numbers of seconds or minutes, as the
name behind them says. Numbers, `true` and `false` need no quotes in the file. A **list** takes several values: in the
file `["a", "b"]`, in a variable or an option with commas between them, and an option can be repeated. A flag,
such as `--cors`, is turned off with `--no-cors`. *Restart*: a
[running server](operating.md#change-settings-while-it-runs) does not change it.
"""
READERS = {
    STORE: "Every command that opens the store takes these.",
    UPSTREAMS: "`httpcache serve` and `httpcache capture` take these.",
    SERVER: "Only `httpcache serve` takes these.",
}


def page(installed: Sequence[Adapter]) -> str:
    """Return the page (Markdown)."""
    return "\n".join([HEAD, *_body(installed)])


def _body(installed: Sequence[Adapter]) -> Iterator[str]:
    for section, settings in groupby(every(installed), lambda setting: setting.section):
        yield f"## {section.title}\n\n{READERS[section.readers]}\n\n| option | default | |\n|---|---|---|"
        yield from map(_row, settings)
        yield ""


def _row(setting: Setting[Any]) -> str:
    kind = setting.kind
    option = f"{setting.option}`, `--no-{setting.name}" if kind.is_flag else f"{setting.option} {kind.metavar}"
    usual = setting.usual_text if setting.usual or not setting.usual_text else f"`{setting.usual_text}`"
    notes = [setting.description]
    notes += ["**list**"] * setting.is_list + ["*restart*"] * setting.is_fixed
    cells = [f"`{option}`", usual, "; ".join(notes)]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.stdout.write(page(list(adapters())))

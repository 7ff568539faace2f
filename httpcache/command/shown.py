"""Shows the settings in force, and where each value comes from: the default, file and line, variable or option."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from httpcache.adapter import Adapter
from httpcache.errors import redact
from httpcache.settings import Setting

from .in_force import Found, InForce, every

_LOGIN = re.compile(r"(?<=://)\S*@")  # also one that is not encoded as it should be
SET = "(set)"
"""Stands for a secret."""


def rows(in_force: InForce, installed: Sequence[Adapter]) -> Iterator[tuple[Setting[Any], str, list[str]]]:
    """Yield each setting that is in force, its value, and where that comes from. No secrets."""
    for setting in every(installed):
        if found := in_force.found.get(setting.name):
            yield setting, in_words(setting, found), list(found.origins) or ["default"]


def lines(in_force: InForce, installed: Sequence[Adapter]) -> Iterator[str]:
    """Yield the settings for people, by section."""
    yield f"settings file: {in_force.file.path.absolute() if in_force.file.path else 'none'}"
    title = ""
    for setting, value, origins in rows(in_force, installed):
        if setting.section.title != title:
            title = setting.section.title
            yield ""
            yield title
        unit = f" {setting.kind.unit}" if value and setting.kind.unit else ""
        yield f"  {setting.name:27} {(value or '-') + unit:32} {', '.join(origins)}"
    for key in _tables(in_force, installed):
        yield f"  [{key}] {in_force.file.where(key)}"


def as_json(in_force: InForce, installed: Sequence[Adapter]) -> str:
    """Return the same for programs: the file, the settings, and the tables of the file with their lines."""
    settings = [
        {"name": setting.name, "value": value or None, "unit": setting.kind.unit or None, "from": origins}
        for setting, value, origins in rows(in_force, installed)
    ]
    path = in_force.file.path
    tables = {key: in_force.file.where(key) for key in _tables(in_force, installed)}
    return json.dumps(
        {"file": str(path.absolute()) if path else None, "settings": settings, "tables": tables},
        indent=2,
        ensure_ascii=False,
    )


def _tables(in_force: InForce, installed: Sequence[Adapter]) -> list[str]:
    """Return the keys of the file that are no settings: the tables of adapters."""
    names = {setting.name for setting in every(installed)}
    return [key for key in in_force.file.document if key not in names]


def in_words(setting: Setting[Any], found: Found) -> str:
    """Return a value, as an operator would write it, without secrets."""
    text = setting.usual if not found.origins and setting.usual else setting.write(found.value)
    if not text:
        return ""
    return SET if setting.is_secret else redact(_LOGIN.sub("", text))

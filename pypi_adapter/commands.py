"""The commands that the adapter adds. They are declared here; `operations` and `importing` do what they are for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from httpcache.adapter import Argument, Command, Row

if TYPE_CHECKING:
    from httpcache.store.store import Store


def _operations() -> ModuleType:
    """Import what a command needs when it runs: all of them are declared whenever one runs."""
    from . import operations

    return operations


async def _import_history(store: Store, given: Mapping[str, Any]) -> Sequence[Row]:
    from .importing.importing import import_history

    return await import_history(store, given)


_SUBJECT = Argument("subject", "evil, 'evil>=1.2,<2', sha256:<64 hex digits> or evil@sha256:<64 hex digits>", "SUBJECT")

_REGISTRY = Argument("--registry", "a registry of the settings file (default: PyPI)", "NAME")

COMMANDS = (
    Command(
        "history",
        "show what was observed about a project, and when",
        (Argument("project", "the name of the project", "PROJECT"), _REGISTRY),
        lambda store, given: _operations().history(store, given),
        lists=True,
    ),
    Command(
        "import-history",
        "begin the logs of projects that were not observed yet with what was uploaded, and maybe deleted, before",
        (
            Argument("file", "table of uploads: .jsonl, .csv or .parquet", "FILE"),
            Argument("projects", "projects to import (default: all in the table)", "[PROJECT]...", many=True),
            Argument("--files", "address below which the files are whose path the table has", "URL"),
            _REGISTRY,
        ),
        _import_history,
        lists=True,
    ),
    Command(
        "moved",
        "record that a registry has moved to another address",
        (
            Argument("registry", "pypi, or a registry of the settings file", "REGISTRY"),
            Argument("url", "the new address of its index", "URL"),
        ),
        lambda store, given: _operations().moved(store, given),
    ),
    Command(
        "captures",
        "list the completed captures of a registry",
        (_REGISTRY, Argument("--changes", "name the projects that each one has changed")),
        lambda store, given: _operations().captures(store, given),
        lists=True,
    ),
    Command(
        "undo-future",
        "list what was recorded about a registry while the clock was ahead, or remove it",
        (_REGISTRY, Argument("--yes", "remove it")),
        lambda store, given: _operations().undo_future(store, given),
        alone=True,
    ),
    Command(
        "block",
        "withhold a project, some of its versions, or a file by its digest",
        (_SUBJECT, Argument("--reason", "why it is withheld", "TEXT")),
        lambda store, given: _operations().block(store, given),
    ),
    Command(
        "allow",
        "exempt a project, some of its versions, or a file by its digest from all blocks",
        (_SUBJECT, Argument("--reason", "why it may be served", "TEXT", required=True)),
        lambda store, given: _operations().allow(store, given),
    ),
    Command(
        "unblock",
        "remove a rule set by block or allow",
        (_SUBJECT,),
        lambda store, given: _operations().unblock(store, given),
    ),
    Command(
        "blocks",
        "list the rules in force that were set by block and allow",
        (Argument("--all", "include rules that were removed or replaced"),),
        lambda store, given: _operations().blocks(store, given),
        lists=True,
    ),
)

"""What `httpcache` finds through the entry point: Python package indexes, dated, live and pinned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from distlib.index import DEFAULT_INDEX
from packaging.utils import canonicalize_name
from starlette.types import ASGIApp

from httpcache.adapter import Argument, Bound, Command, Option
from httpcache.errors import BadAddress, MirrorError, NotFound
from httpcache.incoming import Incoming
from httpcache.mirror import Mirror
from httpcache.progress import Progress
from httpcache.settings import Settings
from httpcache.store import Store
from httpcache.target import canonical_url

from .capture import Capture
from .catalog import Catalog
from .commands import COMMANDS
from .dated import Dated
from .ledger import Ledger
from .page import File, ProjectStatus
from .passes import REQUESTED, Scope, read_scope
from .policy import Policy, read_policy
from .registry import Registry, read_entries
from .rescue import Rescue
from .rewrite import Pinned
from .rulebook import Rulebook
from .timeline import render, timeline

PYPI = "pypi"


async def history_of(store: Store, given: Mapping[str, Any]) -> list[str]:
    """Return the time line of a project. Raises NotFound, StoreError."""
    project = given["project"]
    name = canonicalize_name(project)
    entries = await read_entries(store, PYPI, name)
    if not entries:
        raise NotFound(f"{project!r} has not been observed: ask for it first, for example at /live/")
    return render(timeline(entries, await Ledger(store, PYPI, name).read()))


class PypiAdapter:
    """See `httpcache.adapter.Adapter`."""

    options = (
        Option("pypi-upstream", "URL", "the simple index behind the dated and live addresses (PyPI's)"),
        Option("pypi-capture", "SCOPE", "what a capture covers: requested (the default), all, or a file of names"),
        Option("pypi-rules", "FILE", "what is withheld from these, and what has no cooldown (TOML)"),
    )

    commands = (
        Command(
            "history",
            "tell what was observed of a project, and when",
            (Argument("project", "of the dated index", "PROJECT"),),
            history_of,
        ),
        *COMMANDS,
    )

    def check(self, settings: Settings) -> None:
        """Raise MirrorError where the address of the index cannot be one, or the rules cannot be read."""
        try:
            _index(settings)
        except BadAddress as error:
            raise BadAddress(
                "--pypi-upstream takes the http or https address of a simple index, without a user"
            ) from error
        _policy(settings)
        _scope(settings)

    def bind(self, mirror: Mirror) -> Bound:
        """Return the adapter at work on a mirror."""
        registry = Registry(PYPI, _index(mirror.settings), mirror)
        rulebook = Rulebook(mirror.store, _policy(mirror.settings))

        async def withheld(project: str, file: File, status: ProjectStatus | None) -> str | None:
            return (await rulebook.current()).withheld(project, file, status)

        rescue = Rescue(registry, mirror, withheld)
        registry.on_missed = rescue.start
        captures = [Capture(registry, Catalog(registry, mirror), rescue, _scope(mirror.settings))]
        return _Bound([Dated(registry, mirror, rulebook), Pinned(mirror)], captures)

    def usage(self, address: str, date: str) -> Sequence[tuple[str, str]]:
        """Return the lines for pip and uv."""
        return [
            ("pip", f"pip install -i {address}/{date}/ PACKAGE"),
            ("uv", f"uv pip install --index-url {address}/{date}/ PACKAGE"),
            ("Poetry", f"poetry source add --priority=primary mirror {address}/{date}/"),
        ]


def _index(settings: Settings) -> str:
    """Return the address of the simple index, with a slash at its end. Raises BadAddress."""
    given = settings.adapters.get("pypi_upstream") or urljoin(DEFAULT_INDEX, "/simple/")
    return canonical_url(given.rstrip("/") + "/")


def _policy(settings: Settings) -> Policy:
    path = settings.adapters.get("pypi_rules")
    return read_policy(Path(path)) if path else Policy()


def _scope(settings: Settings) -> Scope:
    return read_scope(settings.adapters.get("pypi_capture", REQUESTED), Path())


class _Bound:
    """See `httpcache.adapter.Bound`."""

    def __init__(self, parts: Sequence[Dated | Pinned], captures: Sequence[Capture]) -> None:
        self._parts = parts
        self._captures = captures

    async def answer(self, incoming: Incoming) -> ASGIApp | None:
        """Return the first answer of the parts. Raises MirrorError."""
        for part in self._parts:
            response = await part.answer(incoming)
            if response is not None:
                return response
        return None

    async def capture(self, progress: Progress) -> Sequence[str]:
        """Make a pass over each registry. Raises MirrorError."""
        lines, failed = [], []
        for capture in self._captures:
            try:
                lines.append(capture.told(await capture.run(progress)))
            except MirrorError as error:
                failed.append(f"{capture.name}: {error.text}")
        if failed:
            raise MirrorError("; ".join([*failed, *lines]))
        return lines

    async def captured(self) -> int | None:
        """Return when the oldest of the registries' last passes began (microseconds), None where one has none."""
        found = [await capture.last() for capture in self._captures]
        return None if None in found else min(instant for instant in found if instant is not None)

"""`httpcache copy`, `export` and `import`: their options, and what they print."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from httpcache.adapter import Adapter
from httpcache.errors import MirrorError
from httpcache.settings import Location

from .rows import Rows, say
from .running import progress, with_store

if TYPE_CHECKING:
    from httpcache.store.store import Store


def copy(source: str, target: str) -> int:
    """Copy a mirror to another store. Raises MirrorError."""
    from tempfile import TemporaryDirectory

    import anyio

    from httpcache.store.opening import opened

    from . import copying

    async def work() -> copying.Outcome:
        with TemporaryDirectory(prefix="httpcache-") as folder:
            places = [copying.location(text, Path(folder) / name) for name, text in (("from", source), ("to", target))]
            if places[0].is_embedded and not (places[0].data / "VERSION").exists():
                raise MirrorError(f"{places[0].data} is not the data folder of a mirror")
            async with opened(places[0]) as one, opened(places[1]) as other:
                return await copying.copy(one, other, progress())

    outcome = anyio.run(work)
    for line in outcome.problems:
        say(f"httpcache: {line}", sys.stderr)
    say(copying.summary(outcome))
    return 1 if outcome.problems else 0


def export_params() -> Iterator[click.Parameter]:
    """Yield what `httpcache export` takes besides the settings of the store."""
    file = click.Path(path_type=Path)
    text = "pins, and indexes with a date or without: tools-2024-01-02, pypi@2024-01-02, team"
    yield click.Argument(["selected"], metavar="PIN|INDEX@DATE...", nargs=-1, required=True, help=text)
    yield click.Argument(["path"], metavar="FILE", type=file)
    yield click.Option(["--since"], metavar="DATE", default="", help="leave out what was frozen or observed before")
    text = "leave out what this manifest or earlier archive has"
    yield click.Option(["--have"], metavar="MANIFEST", type=file, help=text)
    yield click.Option(["--sign"], metavar="KEY", type=file, help="sign with this key of OpenSSH")
    yield click.Option(["--manifest-only"], is_flag=True, help="write only what is here, for --have elsewhere")


def export(
    installed: Sequence[Adapter],
    selected: Sequence[str],
    path: Path,
    since: str,
    have: Path | None,
    sign: Path | None,
    manifest_only: bool,
    as_json: bool,
    **where: Any,
) -> int:
    """Write pins and indexes to a file. Raises MirrorError."""
    from . import carrying

    wanted = carrying.Wanted(selected, path, since, have, sign, manifest_only)
    file, shown = click.get_current_context().obj.file, progress()

    async def work(store: Store) -> int:
        found = await carrying.export(store, wanted=wanted, adapters=installed, file=file, progress=shown)
        Rows(as_json).add(found.text, **found.values)
        return 0

    return with_store(where, work)


def import_params() -> Iterator[click.Parameter]:
    """Yield what `httpcache import` takes besides the settings of the store."""
    file = click.Path(path_type=Path)
    yield click.Argument(["path"], metavar="FILE", type=file, help="the archive, or - for standard input")
    text = "only if it is signed by one of these (the allowed signers of OpenSSH)"
    yield click.Option(["--trust"], metavar="FILE", type=file, help=text)


def import_(path: Path, trust: Path | None, as_json: bool, **where: Any) -> int:
    """Take in a file that was exported. Raises MirrorError."""
    from httpcache.store.layout import prepare

    from . import carrying

    location, shown = Location(**where), progress()
    if location.is_embedded:
        prepare(location.data)

    async def work(store: Store) -> int:
        found = await carrying.take(store, path=path, trust=trust, progress=shown)
        Rows(as_json).add(found.text, **found.values)
        return 0

    return with_store(where, work)

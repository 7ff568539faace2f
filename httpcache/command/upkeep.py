"""Commands on the store: what they are given is handed to the modules that do the work."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from httpcache.adapter import Adapter, Command
from httpcache.errors import MirrorError
from httpcache.settings import Location

from . import listing, users
from .rows import Rows, say
from .running import check_there, progress, settings, with_store

if TYPE_CHECKING:
    from httpcache.store.store import Store


def ls(pin: str | None, as_json: bool, **where: Any) -> int:
    """List the pins, or what is frozen under one. Raises MirrorError."""
    location, rows = Location(**where), Rows(as_json)
    if pin is None and location.is_embedded:  # needs no event loop, and little that has to be imported
        from httpcache.store.totals import totals

        check_there(location)
        return listing.pins(totals(location.data), rows)
    from . import maintenance

    return with_store(where, partial(maintenance.ls, rows=rows, pin=pin))


def builds(label: str | None, as_json: bool, **where: Any) -> int:
    """List the builds, or what one took. Raises MirrorError."""
    from .builds import builds

    return with_store(where, partial(builds, rows=Rows(as_json), label=label))


def sbom(
    installed: Sequence[Adapter],
    labels: tuple[str, ...],
    compare: bool,
    form: str,
    mirror: str,
    as_json: bool,
    data: Path,
    index: str | None,
    blobs: str | None,
    local_cache: int,
    **options: Any,
) -> int:
    """Print the bill of materials of a build, or compare two builds. Raises MirrorError."""
    from . import sbom

    if len(labels) != 1 + compare:
        raise click.UsageError("name two builds after --compare" if compare else "name one build, or two to --compare")
    own = settings(installed)

    async def work(store: Store) -> int:
        if compare:
            return await sbom.compare(store, own, installed, Rows(as_json), before=labels[0], after=labels[1])
        return await sbom.write(store, own, installed, label=labels[0], form=form, mirror=mirror)

    return with_store({"data": data, "index": index, "blobs": blobs, "local_cache": local_cache}, work)


def sbom_params() -> Sequence[click.Parameter]:
    """Return the arguments of `sbom` besides the settings."""
    form = click.Choice(["cyclonedx", "spdx"])
    what_for = "address of the mirror for the addresses in it (default: paths alone)"
    return [
        click.Argument(["labels"], metavar="BUILD [BUILD]", nargs=-1),
        click.Option(["--format", "form"], type=form, default="cyclonedx", show_default=True, help="in JSON"),
        click.Option(["--compare"], is_flag=True, help="what the second build took and the first did not, and so on"),
        click.Option(["--mirror"], metavar="URL", envvar="HTTPCACHE_MIRROR", default="", help=what_for),
    ]


def stats(as_json: bool, **where: Any) -> int:
    """Print what is frozen under each pin, and how it is used. Raises MirrorError."""
    from .stats import stats

    return with_store(where, partial(stats, rows=Rows(as_json)))


def show(installed: Sequence[Adapter], address: str, as_json: bool, **where: Any) -> int:
    """Show what is known about an address. Raises MirrorError."""
    from .showing import show

    file = click.get_current_context().obj.file
    return with_store(where, partial(show, adapters=installed, file=file, rows=Rows(as_json), address=address))


def verify(
    installed: Sequence[Adapter],
    as_json: bool,
    repair: bool,
    resume: bool,
    data: Path,
    index: str | None,
    blobs: str | None,
    local_cache: int,
    **options: Any,
) -> int:
    """Read every entry and body; with `repair`, fetch what is damaged again. Raises MirrorError."""
    from .verifying import STATE, verify

    own = settings(installed) if repair else None
    state = None if index else data / STATE
    if own and own.offline:
        raise MirrorError("--repair sends requests to upstreams: run it without --offline")
    if resume and not state:
        raise MirrorError("--resume is for a store in a folder: leave it out")
    how = partial(verify, rows=Rows(as_json), progress=progress(), state=state, resume=resume)

    async def work(store: Store) -> int:
        if not own:
            return await how(store)
        from .repairing import repairing

        async with repairing(store, own, installed) as mend:
            return await how(store, repair=mend)

    return with_store({"data": data, "index": index, "blobs": blobs, "local_cache": local_cache}, work)


def gc(as_json: bool, dry_run: bool, **where: Any) -> int:
    """Remove the bodies that no entry names. Raises MirrorError."""
    from .collecting import collect

    return with_store(where, partial(collect, rows=Rows(as_json), dry_run=dry_run))


def forget(address_or_pin: str | None, yes: bool, unused_for: str | None, keep_last: int | None, **where: Any) -> int:
    """Remove frozen copies: what is named, what was not used, or what is older. Raises MirrorError."""
    from . import maintenance, retention

    if unused_for is not None and keep_last is None:
        pin = address_or_pin.strip("/") if address_or_pin else None
        seconds = retention.span(unused_for)
        return with_store(where, partial(retention.forget_unused, seconds=seconds, pin=pin, yes=yes))
    if address_or_pin is None or unused_for is not None:
        raise click.UsageError("name an address or a pin, and one of --unused-for and --keep-last at most")
    if keep_last is not None:
        return with_store(
            where, partial(retention.forget_older, prefix=address_or_pin.strip("/"), keep=keep_last, yes=yes)
        )
    return with_store(where, partial(maintenance.forget, address_or_pin=address_or_pin, yes=yes))


def upgrade(index: str | None) -> int:
    """Make the tables of the index at a PostgreSQL address, or bring them up to date. Raises MirrorError."""
    if not index:
        raise MirrorError("name the PostgreSQL database with --index, postgresql://user@host/database")
    try:
        from httpcache.store import postgres_schema  # an embedded store needs none of what it imports
    except ImportError as error:
        raise MirrorError(f"--index needs {error.name}: install 'freezing-mirror[cluster]'") from error
    say("the index is up to date" if postgres_schema.upgrade(index) else "there was nothing to do")
    return 0


def added(
    command: Command,
    data: Path,
    index: str | None,
    blobs: str | None,
    local_cache: int,
    as_json: bool = False,
    **given: Any,
) -> int:
    """Run an adapter's command on the store. Raises MirrorError."""

    async def work(store: Store) -> int:
        rows = Rows(as_json)
        with users.alone(data) if command.alone else nullcontext():
            found = await command.run(store, given)
        for row in found:
            rows.add(row.text, **row.values)
        return 1 if any(row.failed for row in found) else 0

    return with_store({"data": data, "index": index, "blobs": blobs, "local_cache": local_cache}, work)

"""`httpcache export` and `import`: what is frozen goes to another mirror in one file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

from httpcache.adapter import Adapter, Progress, Row
from httpcache.archive import checking, collecting, importing, layout, signing, writing
from httpcache.archive.collecting import Chosen, Collection
from httpcache.errors import MirrorError
from httpcache.settings_file import SettingsFile
from httpcache.store.errors import mapped
from httpcache.store.scratch import scratch
from httpcache.store.store import Store
from httpcache.units import short_size


class Wanted(NamedTuple):
    """What an export was asked for: the pins and indexes, the archive's file, and how."""

    selected: Sequence[str]
    path: Path
    since: str = ""
    have: Path | None = None
    sign: Path | None = None
    manifest_only: bool = False


async def export(
    store: Store, *, wanted: Wanted, adapters: Sequence[Adapter], file: SettingsFile, progress: Progress
) -> Row:
    """Write an archive, or a manifest alone; return what it is. Raises MirrorError."""
    chosen = sorted({Chosen.read(text) for text in wanted.selected})
    since = _instant(wanted.since) if wanted.since else 0.0
    with mapped(), scratch(store.spool, collecting.TABLES) as database:
        found = Collection(store, database, since=since, brief=wanted.manifest_only)
        have = _take_in(found, wanted.have) if wanted.have else ""
        for each in chosen:
            settle = not (wanted.manifest_only or store.read_only)
            await found.add(each, adapters, file, settle=settle)
        made = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        header = found.header(made, chosen, wanted.since, have)
        if wanted.manifest_only:
            with writing.complete(wanted.path) as part:
                part.truncate()
                part.writelines(found.lines())
        else:
            await _archive(store, wanted, found, header, progress)
    return _summary(header, wanted)


def _take_in(found: Collection, path: Path) -> str:
    """Note what the other side has; return the sha256 of its manifest. Raises MirrorError."""
    try:
        file, size = collecting.manifest(path)
    except OSError as error:
        raise MirrorError(f"{path} cannot be read: {error.strerror}") from error
    with file:
        place = file.tell()
        found.has(file, size)
        return layout.digest_of_range(file, place, size)


async def _archive(store: Store, wanted: Wanted, found: Collection, header: layout.Header, progress: Progress) -> None:
    sign = partial(signing.sign, key=wanted.sign) if wanted.sign else None
    with writing.complete(wanted.path) as part:
        begun = writing.begun(part)
        if begun:
            writing.check_same(begun, header, signed=bool(sign), part=writing.part_of(wanted.path))
        else:
            begun = writing.begin(part, header, found.lines(), sign)
        with progress.over("exported bodies", max(begun.header.bodies, 1)) as advance:
            await writing.bodies(store, part, begun, advance)


def _summary(header: layout.Header, wanted: Wanted) -> Row:
    private = f"; {header.private:,} private copies stay here" if header.private else ""
    what = "manifest of" if wanted.manifest_only else "exported"
    return Row(
        f"{what} {header.records:,} frozen answers and {header.logs:,} logs, "
        f"{short_size(header.bytes)} of frozen files, to {wanted.path}{private}",
        {
            "file": f"{wanted.path}",
            "records": header.records,
            "logs": header.logs,
            "bodies": header.bodies,
            "bytes": header.bytes,
            "private": header.private,
        },
    )


async def take(store: Store, *, path: Path, trust: Path | None, progress: Progress) -> Row:
    """Check an archive, then import it; return what was done. `-` is standard input. Raises MirrorError."""
    with ExitStack() as stack:
        stack.enter_context(mapped())
        file = stack.enter_context(importing.seekable(_source(path, stack), store.spool))
        database = stack.enter_context(scratch(store.spool, checking.TABLES))
        with progress.over("checked bodies", max(writing.expected(file), 1)) as advance:
            archive = await checking.check(store, file, database, trust, advance)
        with progress.over("imported records", max(archive.header.records, 1)) as advance:
            outcome = await importing.apply(store, file, archive, database, advance)
    return importing.summary(archive, outcome)


def _source(path: Path, stack: ExitStack) -> BinaryIO:
    if str(path) == "-":
        return sys.stdin.buffer
    try:
        return stack.enter_context(path.open("rb"))
    except OSError as error:
        raise MirrorError(f"{path} cannot be read: {error.strerror}") from error


def _instant(text: str) -> float:
    """Read a date or an instant in UTC; return seconds since the epoch. Raises MirrorError."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise MirrorError(
            f"{text!r} is neither a date nor an instant: write 2024-01-02 or 2024-01-02T12:00:00Z"
        ) from error
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()

"""`httpcache audit`: shows that no history was rewritten, in a store, or from outside with nothing but addresses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from httpcache.adapter import Adapter
from httpcache.errors import MirrorError, NotFound, StoreError

from .rows import Rows, instant
from .running import progress, with_store

if TYPE_CHECKING:
    from httpcache.audit.findings import Finding
    from httpcache.audit.note import Checkpoint, Key
    from httpcache.audit.remote import RemoteLog
    from httpcache.settings_file import SettingsFile
    from httpcache.store.store import Store

    from .asking import Asker

FINE = "nothing was changed, removed, reordered or added"


def params() -> Iterator[click.Parameter]:
    """Yield what the command takes besides the store."""
    text = "address of a mirror to audit from outside, instead of a store; of two, to compare them"
    yield click.Argument(["mirrors"], metavar="[MIRROR [MIRROR]]", nargs=-1, help=text)
    file = click.Path(path_type=Path)
    text = "a checkpoint that was kept: nothing before it may have changed"
    yield click.Option(["--since"], metavar="FILE", type=file, help=text)
    text = "show that this project's page follows from its log (with --at); of two mirrors: compare this project only"
    yield click.Option(["--project"], metavar="[REGISTRY/]NAME", help=text)
    yield click.Option(["--at"], metavar="DATE", help="the date or instant of the page of --project")


def audit(
    installed: Sequence[Adapter],
    mirrors: Sequence[str],
    since: Path | None,
    project: str | None,
    at: str | None,
    as_json: bool,
    **where: Any,
) -> int:
    """Audit a store or a mirror, or compare two mirrors; return 1 if anything is found. Raises MirrorError."""
    told = _Told(Rows(as_json))
    if len(mirrors) > 2:
        raise click.UsageError("name one mirror to audit it, or two to compare them")
    if len(mirrors) == 2:
        if since or at:
            raise click.UsageError("--since and --at are about one mirror")
        return _compare(mirrors, project, installed, told)
    if bool(project) != bool(at) or (project and not mirrors):
        raise click.UsageError("a page has a mirror, a --project and a date: name all three")
    if mirrors:
        return _outside(mirrors[0], since, (project, at) if project and at else None, installed, told)
    file = click.get_current_context().obj.file

    async def work(store: Store) -> int:
        return await _inside(store, installed, file, since, told)

    return with_store(where, work)


class _Told:
    """Prints findings, and counts those that are no notes."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.found = 0

    def add(self, finding: Finding) -> None:
        values = finding._asdict()
        self.rows.add(str(finding), finding=values.pop("text"), **values)
        self.found += not finding.is_note

    def end(self, text: str, values: Mapping[str, Any]) -> int:
        """Print what it came to; return the exit code."""
        outcome = f"{self.found:,} findings" if self.found else FINE
        self.rows.total(f"{text}: {outcome}", {**values, "findings": self.found})
        return 1 if self.found else 0


# --- a store


async def _inside(
    store: Store, installed: Sequence[Adapter], file: SettingsFile, since: Path | None, told: _Told
) -> int:
    from httpcache.audit.local import LocalAudit
    from httpcache.audit.tree_log import TreeLog

    async def names() -> Mapping[bytes, str]:
        return {
            sha256(name.encode()).digest(): name for adapter in installed async for name in _names(adapter, store, file)
        }

    log = TreeLog(store)
    audit = LocalAudit(store, names, _kept(since, await log.key()) if since else None)
    with progress().over("leaves", max(await log.size(), 1)) as advance:
        async for finding in audit.findings(advance):
            told.add(finding)
    seen = audit.seen
    text = f"{seen.leaves:,} leaves, {seen.entries:,} entries of {seen.logs:,} logs, {seen.checkpoints:,} checkpoints"
    return told.end(text, {**vars(seen), "root": seen.root.hex()})


async def _names(adapter: Adapter, store: Store, file: SettingsFile) -> AsyncIterator[str]:
    try:
        async for name in adapter.log_names(store, file):
            yield name
    except StoreError:  # what tells the names is damaged itself
        return


def _kept(path: Path, key: Key | None) -> Checkpoint:
    """Read a checkpoint from a file. Raises MirrorError."""
    from httpcache.audit.note import BadNote, read

    if key is None:
        raise MirrorError("this store has signed no checkpoint yet: --since needs one of this very log")
    try:
        return read(_text(path), key)
    except BadNote as error:
        raise MirrorError(f"{path}: {error}") from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise MirrorError(f"{path} cannot be read: {error.strerror}") from error


# --- a mirror, from outside


def _outside(
    mirror: str, since: Path | None, page: tuple[str, str] | None, installed: Sequence[Adapter], told: _Told
) -> int:
    from .asking import Asker

    asker = Asker(mirror)
    log = _remote(asker)
    kept = _text(since) if since else None
    retold = None
    if page:
        retold = next(filter(None, (adapter.retold(asker, *page) for adapter in installed)), None)
        if retold is None:
            raise MirrorError(f"{page[0]!r} is in no index with dates: only those can be audited")
    events = log.events(retold.log) if retold else []  # after the page, which may have been observed for this request
    if not _begun(log, kept, told):
        return told.end("the log of the mirror", _told_of(None))
    if retold:
        for finding in log.check(retold.log, events):
            told.add(finding)
        there = [event for event in events if event.value is not None]
        old = len(there) if log.since is None else sum(event.leaf < log.since.size for event in there)
        values = [event.value or b"" for event in there]
        for finding in retold.findings(values, old, log.since.time if log.since else None):
            told.add(finding)
    point = log.checkpoint
    about = f"{len(events):,} entries of {retold.log} and their page, " if retold else ""
    continued = f", which continue the {log.since.size:,} of {instant(log.since.time)}" if log.since else ""
    text = f"{about}{point.size:,} leaves signed by {point.origin} at {instant(point.time)}{continued}"
    return told.end(text, _told_of(point))


def _told_of(point: Checkpoint | None) -> dict[str, Any]:
    """Return what programs are told of a checkpoint that can be gone by."""
    if point is None:
        return dict.fromkeys(("log", "leaves", "time", "root"))
    return {"log": point.origin, "leaves": point.size, "time": instant(point.time), "root": point.root.hex()}


def _remote(asker: Asker) -> RemoteLog:
    from httpcache.audit.remote import RemoteLog

    return RemoteLog(lambda path: asker.read(f"{asker.url}/-/log/{path}", "*/*").body)


def _begun(log: RemoteLog, kept: str | None, told: _Told) -> bool:
    """Whether the log has a checkpoint that can be gone by; tell what is wrong with it."""
    wrong = list(log.begin(kept))
    for finding in wrong:
        told.add(finding)
    return not wrong


# --- two mirrors


def _compare(mirrors: Sequence[str], only: str | None, installed: Sequence[Adapter], told: _Told) -> int:
    from httpcache.audit.findings import Finding

    from .asking import Asker

    askers = [Asker(mirror) for mirror in mirrors]
    logs = [_remote(asker) for asker in askers]
    names = [set(log.names()) for log in logs]
    if only:
        wanted = {name for adapter in installed for name in adapter.logs_of(only)}
        names = [wanted & each for each in names]
        if not any(names):
            raise NotFound(f"no mirror shows a log of {only}: it was not asked for it, or shows it to nobody")
    for name in sorted(names[0] ^ names[1]):
        asker = askers[name in names[1]]
        text = f"the log {name} is only at {asker.url}"
        told.add(Finding("only", text, "the other mirror was not asked for it", name, is_note=True))
    common = sorted(names[0] & names[1])
    events = [[log.events(name) for name in common] for log in logs]  # before the checkpoint, which has them then
    if all(_begun(log, None, told) for log in logs):
        for name, *both in zip(common, *events, strict=True):
            for log, each in zip(logs, both, strict=True):
                for finding in log.check(name, each):
                    told.add(finding)
            one, other = ([event.value for event in each if event.value is not None] for each in both)
            if one != other:
                told.add(_apart(name, one, other, installed))
    return told.end(f"{len(common):,} logs that both mirrors have", {"logs": len(common)})


def _apart(name: str, one: Sequence[bytes], other: Sequence[bytes], installed: Sequence[Adapter]) -> Finding:
    """Return from which entry on two logs differ, and whether what is served does."""
    from httpcache.audit.findings import Finding

    least = min(len(one), len(other))
    entry = next((number for number in range(least) if one[number] != other[number]), least)
    if entry == least:
        text = f"the log {name} has {len(one)} entries at the first mirror and {len(other)} at the other, alike so far"
        return Finding("longer", text, "one has looked more often", name, entry, is_note=True)
    found = next((found for adapter in installed if (found := adapter.told_apart(name, one, other)) is not None), "")
    text = f"the log {name} differs from entry {entry} on"
    if not found:
        text += ", and its pages are the same at every instant that both know"
        return Finding("differs", text, "they have looked at other times", name, entry, is_note=True)
    return Finding(
        "differs", f"{text}, and {found}", "one of the two looked later, or was told something else", name, entry
    )

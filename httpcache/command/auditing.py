"""`httpcache audit`: shows that no history was rewritten, in a store, or from outside with nothing but addresses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from httpcache.adapter import Adapter
from httpcache.errors import MirrorError, StoreError

from .rows import Rows
from .running import progress, with_store

if TYPE_CHECKING:
    from httpcache.audit.findings import Finding
    from httpcache.audit.note import Checkpoint, Key
    from httpcache.settings_file import SettingsFile
    from httpcache.store.store import Store


def params() -> Iterator[click.Parameter]:
    """Yield what the command takes besides the store."""
    file = click.Path(path_type=Path)
    text = "a checkpoint that was kept: nothing before it may have changed"
    yield click.Option(["--since"], metavar="FILE", type=file, help=text)


def audit(installed: Sequence[Adapter], since: Path | None, as_json: bool, **where: Any) -> int:
    """Audit a store; return 1 if anything is found. Raises MirrorError."""
    rows = Rows(as_json)
    file = click.get_current_context().obj.file

    async def work(store: Store) -> int:
        return await _local(store, installed, file, since, rows)

    return with_store(where, work)


async def _local(store: Store, installed: Sequence[Adapter], file: SettingsFile, since: Path | None, rows: Rows) -> int:
    from httpcache.audit.local import LocalAudit
    from httpcache.audit.tree_log import TreeLog

    async def names() -> Mapping[bytes, str]:
        return {
            sha256(name.encode()).digest(): name for adapter in installed async for name in _names(adapter, store, file)
        }

    log = TreeLog(store)
    audit = LocalAudit(store, names, _kept(since, await log.key()) if since else None)
    found = 0
    with progress().over("leaves", max(await log.size(), 1)) as advance:
        async for finding in audit.findings(advance):
            _tell(rows, finding)
            found += not finding.is_note
    seen = audit.seen
    text = (
        f"{seen.leaves:,} leaves, {seen.entries:,} entries of {seen.logs:,} logs, {seen.checkpoints:,} checkpoints: "
        f"{f'{found:,} findings' if found else 'nothing was changed, removed, reordered or added'}"
    )
    rows.total(text, {**vars(seen), "root": seen.root.hex(), "findings": found})
    return 1 if found else 0


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
        return read(path.read_text(encoding="utf-8"), key)
    except OSError as error:
        raise MirrorError(f"{path} cannot be read: {error.strerror}") from error
    except (BadNote, UnicodeDecodeError) as error:
        raise MirrorError(f"{path}: {error}") from error


def _tell(rows: Rows, finding: Finding) -> None:
    values = finding._asdict()
    rows.add(str(finding), finding=values.pop("text"), **values)

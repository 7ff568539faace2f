"""Copies a mirror from one store to another: from a folder to PostgreSQL and an object store, or back.

Every entry is copied under its key, and every body is compared with its digest on the way. What the target has already
is left out, so a copy that was interrupted goes on where it stopped, and a second one takes what came since. A body is
there before its record, so the target can serve what it has at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import NamedTuple

import anyio
import anyio.to_thread

from httpcache.adapter import Progress
from httpcache.errors import MirrorError, StoreError
from httpcache.settings import Location
from httpcache.store import keys
from httpcache.store.record import Record, decode
from httpcache.store.store import Store
from httpcache.units import short_size

AT_ONCE = 8  # bodies


class Outcome(NamedTuple):
    """What became of a copy.

    `copied`: entries; `size`: bytes of their bodies; `left`: entries that were there; `problems`: a line for each entry
    that could not be copied.
    """

    copied: int
    size: int
    left: int
    problems: list[str]


def location(text: str, folder: Path) -> Location:
    """Parse a store as the command takes it: a folder, or the URLs of an index and of blobs with a comma between.

    `folder` is for what a node keeps on its own disk.
    """
    index, comma, blobs = text.partition(",")
    return Location(folder, index, blobs) if comma else Location(Path(text))


async def copy(source: Store, target: Store, progress: Progress) -> Outcome:
    """Copy all entries and bodies that the target lacks. Raises StoreError."""
    await _check_secret(source, target)
    work = _Copy(source, target)
    total = sum(pin.entries for pin in await source.index.pins())
    with progress.over("copied records", max(total, 1)) as advance:
        after = ""
        while page := await source.index.keys("", after):
            await work.page(page, advance)
            after = page[-1]
    return Outcome(work.copied, work.size, work.left, work.problems)


async def _check_secret(source: Store, target: Store) -> None:
    """Give the target the source's secret, by which it is known whose a private copy is. Raises StoreError."""
    secret = await source.get(keys.SECRET)
    if secret is not None and await target.add(keys.SECRET, secret) != secret:
        raise StoreError("the target is another mirror, which has been in use: copy to an empty store")


class _Copy:
    def __init__(self, source: Store, target: Store) -> None:
        self._source = source
        self._target = target
        self.copied = self.size = self.left = 0
        self.problems: list[str] = []

    async def page(self, page: Sequence[str], advance: Callable[[], None]) -> None:
        """Copy a page of entries: records at once, since their bodies take long, all others in their order."""
        there = dict(zip(page, await self._target.get_many(page), strict=True))
        limiter = anyio.CapacityLimiter(AT_ONCE)

        async def record(key: str) -> None:
            async with limiter:
                await self._entry(key, there[key])
                advance()

        async with anyio.create_task_group() as tasks:
            for key in page:
                if key.startswith(keys.OF_MERKLE_LOG):  # the target has its own
                    continue
                if key.startswith(keys.RECORDS):
                    tasks.start_soon(record, key)
                else:
                    await self._entry(key, there[key])

    async def _entry(self, key: str, there: bytes | None) -> None:
        try:
            value = await self._source.get(key)
            if value is None:  # it was removed in the meantime
                return
            if there is None:
                there = await self._add(key, value)
                self.copied += 1
            else:
                self.left += 1
            if there != value:
                self.problems.append(f"{key}: the target has another value, which is left as it is")
        except MirrorError as error:
            self.problems.append(f"{key}: {error.text}")

    async def _add(self, key: str, value: bytes) -> bytes:
        if not key.startswith(keys.RECORDS):
            return await self._target.add(key, value)
        entry = decode(value)
        if not isinstance(entry, Record):
            await self._target.freeze_absence(key, entry)
        else:
            await self._body(key, entry)
        return await self._target.get(key) or b""

    async def _body(self, key: str, record: Record) -> None:
        with NamedTemporaryFile(dir=self._target.spool, suffix=".copy", delete=False) as file:
            path, sum_ = Path(file.name), sha256()
            try:
                async for chunk in self._source.read_body(record.digest, record.size, 0, record.size):
                    sum_.update(chunk)
                    await anyio.to_thread.run_sync(file.write, chunk)
                file.flush()
                if sum_.hexdigest() != record.digest:
                    raise StoreError(f"the bytes of {record.url} are damaged at the source, and are not copied")
                await self._target.freeze(key, record, path)
            finally:
                path.unlink(missing_ok=True)  # noqa: ASYNC240
        self.size += record.size


def summary(outcome: Outcome) -> str:
    """Return a line about a copy."""
    return (
        f"copied {outcome.copied:,} entries and {short_size(outcome.size)} of frozen files; "
        f"{outcome.left:,} entries were there already"
    )

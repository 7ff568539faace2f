"""Records what a process gives to builds.

It is noted in memory, and added to the store every second and at the end. So nothing is lost when a server is stopped,
and a kill loses the last second. No request waits for it; what cannot be written is tried again.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from httpcache.credentials import PUBLIC
from httpcache.errors import MirrorError
from httpcache.repeated import repeated

from .builds import Builds, File, UsedIndex, Uses
from .record import Record

log = logging.getLogger("httpcache")

EVERY = 1.0  # seconds between two additions of a process
LAST = 10.0  # seconds for the last one, at shutdown
NOTED = 100_000  # different files and indexes that a process notes until it can add them
_PRODUCT = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,40}(?:/[A-Za-z0-9!#$%&'*+.^_`|~-]{1,40})?")


class Recorder:
    """Notes what this process gives to builds, and adds it to the builds of its store."""

    def __init__(self, builds: Builds, kept_for: float) -> None:
        """`kept_for`: seconds for which a build is kept after its last use."""
        self._builds = builds
        self._kept_for = kept_for
        self._noted = Uses({}, {})
        self._fails = self._is_full = False

    def note(self, label: str, through: str, client: str, record: Record | None) -> None:
        """Note an answer to a build: with a record, that the file was taken; `client` is a `User-Agent`."""
        if len(self._noted.files) + len(self._noted.indexes) >= NOTED:
            if not self._is_full:
                log.error("builds take more than can be recorded: what build %s took is not recorded in full", label)
            self._is_full = True
            return
        now = time.time()
        used = UsedIndex(label, through)
        first, _ = self._noted.indexes.get(used, (now, now))
        self._noted.indexes[used] = first, now
        if record:
            product = _PRODUCT.match(client)
            file = File(
                label, through, record.pin, record.url, record.target, record.digest, record.size,
                record.scope != PUBLIC, product[0] if product else "",
            )  # fmt: skip
            self._noted.files.setdefault(file, now)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Add to the builds inside the block, and a last time at its end."""
        try:
            async with repeated(self._add, EVERY, LAST):
                yield
        finally:
            if self._noted.indexes:
                labels = ", ".join(sorted({used.build for used in self._noted.indexes})[:10])
                log.error("what builds took in the end could not be recorded: %s", labels)

    async def _add(self) -> None:
        noted = self._noted
        if not noted.indexes:
            return
        self._noted = Uses({}, {})
        added = False
        try:
            await self._builds.add(noted)
            added = True
            await self._builds.prune(time.time() - self._kept_for)
        except MirrorError as error:
            if not self._fails:
                log.warning("what builds take cannot be recorded for now, and is kept in memory: %s", error.text)
            self._fails = True
        else:
            self._fails = self._is_full = False
        finally:
            if not added:
                self._put_back(noted)

    def _put_back(self, noted: Uses) -> None:
        """Take back what was not added: it is older than what was noted since."""
        for used, (first, last) in noted.indexes.items():
            _, since = self._noted.indexes.get(used, (first, last))
            self._noted.indexes[used] = first, since
        self._noted.files.update(noted.files)

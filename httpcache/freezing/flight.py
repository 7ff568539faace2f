"""Single-flight: the state of a download in progress, and its readers."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from copy import copy
from dataclasses import dataclass, field

import anyio

from httpcache.errors import MirrorError
from httpcache.store.file_reader import read_file
from httpcache.store.record import Record
from httpcache.upstream.client import Headers

from .download import Download, Expected
from .spool import Head


@dataclass(frozen=True)
class PassedThrough:
    """An upstream response that is passed on without being kept: its status, a few headers, the start of its body.

    `sent` are the credential headers of the request. `hit`: the response came from the cache, not from the upstream.
    `record`: what it leads to, if it sends the client to the object store.
    """

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    sent: Headers = field(default=(), repr=False)
    hit: bool = False
    record: Record | None = None


class Flight:
    """A download in progress. Each change of state wakes all waiters."""

    def __init__(self, download: Download, record_key: str, expected: Expected, recalled: Record | None = None) -> None:
        """`download` is that of the first client; `record_key` is the store key of the record.

        `recalled`: the record, if it is frozen already and its body comes from another machine of the store.
        """
        self.download = download
        self.record_key = record_key
        self.expected = expected
        self.recalled = recalled
        self.head: Head | None = None
        self.unkept = ""
        self.followed = False
        self.available = 0  # bytes in the part file
        self.record: Record | None = None
        self.passed: PassedThrough | None = None
        self.error: MirrorError | None = None
        self.done = False
        self.fd = -1
        self._changed = anyio.Event()

    def begin(self, head: Head, fd: int, *, unkept: str = "", followed: bool = False) -> None:
        """Note that the head has arrived; the body can be read through `fd`.

        `unkept`: why the response will not be frozen, or "". `followed`: another process fetches it.
        """
        self.head, self.fd, self.unkept, self.followed = head, fd, unkept, followed
        self._wake()

    def advance(self, available: int) -> None:
        """Note how many bytes of the body are available."""
        if available != self.available:
            self.available = available
            self._wake()

    def finish(
        self, *, record: Record | None = None, passed: PassedThrough | None = None, error: MirrorError | None = None
    ) -> None:
        """End the flight with a record, a response to pass on, an error, or (if not to be kept) just the bytes."""
        self.record, self.passed, self.error, self.done = record, passed, error, True
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        self._wake()

    def raise_error(self) -> None:
        """Raise the error that ended the flight, if any: a copy for each reader, with its own traceback."""
        if self.error:
            raise copy(self.error)

    async def changed(self) -> None:
        """Wait for the next change."""
        await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


class FlightReader:
    """One client's view of a flight whose head has arrived. It must be closed.

    `collapsed`: it joined a flight that another request had started (RFC 9211 section 2.7). `verified`: the bytes will
    be checked against a digest. `digest`: their sha256 in hex, if known before they arrive, else None. `unkept`: why
    the response will not be frozen, or "". `recalled`: it is frozen already, and comes from another machine of the
    store.
    """

    def __init__(self, flight: Flight, head: Head, *, collapsed: bool) -> None:
        self.head = head
        self.collapsed = collapsed
        digests = flight.expected.digests
        self.verified = bool(digests)
        self.digest = digests[0].value if len(digests) == 1 and digests[0].algorithm == "sha256" else None
        self.unkept = flight.unkept
        self.recalled = flight.recalled is not None
        self._flight = flight
        self._fd = os.dup(flight.fd)

    @property
    def record(self) -> Record | None:
        """The record, once the body is frozen."""
        return self._flight.record

    def close(self) -> None:
        """Close the file descriptor."""
        os.close(self._fd)

    async def finished(self) -> Record | None:
        """Wait for the end and return the record, or None if the response is not kept. Raises MirrorError."""
        while not self._flight.done:
            await self._flight.changed()
        self._flight.raise_error()
        return self._flight.record

    async def ends_within(self, size: int) -> bool:
        """Wait for the end, or until the body is known to exceed `size` bytes. Returns whether it has ended."""
        if self.head.length is not None and self.head.length > size:
            return False
        while not self._flight.done and self._flight.available <= size:
            await self._flight.changed()
        return self._flight.done

    async def reached(self, place: int) -> bool:
        """Wait until the byte at this offset is available, or the download has ended."""
        while not self._flight.done and self._flight.available <= place + 1:
            await self._flight.changed()
        return True

    async def read(self, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes]:
        """Yield the bytes from `start` to `stop` (exclusive) as they arrive, the last one after the record is stored.

        Raises MirrorError if the download fails; the connection to the client must then be broken.
        """
        flight = self._flight
        while True:
            flight.raise_error()
            done, end = flight.done, flight.available
            if stop is not None:
                end = min(end, stop)
            if not done and end == (flight.available if stop is None else stop):
                end -= 1
            if start < end:
                async for chunk in read_file(self._fd, start, end):
                    yield chunk
                start = end
            elif done:
                return
            else:
                await flight.changed()

"""Single-flight downloads: concurrent requests share one download (no cache stampede), streamed to each, frozen once.

A download belongs to the mirror, not to a request: it is a *flight*, a task of its own that goes on when the client
that started it disconnects. Requests that come while it is under way join it and read its bytes from the spool at
their own pace. The order of the steps is what makes it safe:

    claim     one process of the machine fetches, the others follow its part file (`spool`)
    look      another process may have frozen it in the meantime
    ask       the upstream; a response that must not be kept is passed on, and the flight ends
    spool     every byte to the part file, and through the hash
    check     the announced length, the digest announced by the index; with neither, fetch again and compare
    freeze    blob, then record; the first writer of the record wins
    finish    only now does any reader get the last byte
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from httpcache.credentials import PUBLIC
from httpcache.errors import BadUpstream, Busy, Damaged, MirrorError, OtherBytes
from httpcache.executors import prestarted_executor
from httpcache.fields import named
from httpcache.metrics import DOWNLOADS, ENDED, FROZEN_BYTES, SHARED, Metrics, Sample
from httpcache.store.base import Condition
from httpcache.store.errors import store_error
from httpcache.store.record import KEPT_HEADERS, Record, damaged, decode, hops, shown
from httpcache.store.store import Store
from httpcache.upstream.client import UpstreamResponse

from .download import Digest, Download, Expected
from .flight import Flight, FlightReader, PassedThrough
from .spool import Claim, Head, Holder, Spool
from .writer import Writer

log = logging.getLogger("httpcache")

FREEZES = frozenset({200})
STREAMED = frozenset({200, 203})  # responses whose body is streamed, though not always kept
PASSED_HEADERS = ("content-type", "content-encoding", "content-language", "www-authenticate", "retry-after")
PASSED_BODY = 64 * 1024  # bytes of a response that is not kept
WRITERS = 8  # threads that write part files
POLL, MAX_POLL = 0.02, 0.25  # seconds between checks of another process's download
BEAT = 2.0  # seconds between heartbeats of a process that downloads
TURN, TURN_CHECK = 2.0, 0.1  # seconds to wait for another machine's download, and between checks of it
HUNG = 5 * BEAT  # seconds without a heartbeat, after which it counts as hung


class Downloads:
    """Runs flights and freezes their results."""

    def __init__(self, store: Store, spool: Spool, max_flights: int, metrics: Metrics) -> None:
        """`max_flights`: downloads under way or waiting for a slot; each holds at least one file descriptor."""
        self._metrics = metrics
        self._store = store
        self._spool = spool
        self._max_flights = max_flights
        self._flights: dict[str, Flight] = {}
        self._claims: set[Claim] = set()  # of the downloads that this process does itself
        self._writers = prestarted_executor(WRITERS, "spool-write")
        self._tasks: TaskGroup

    @asynccontextmanager
    async def running(self, over: Callable[[], Awaitable[object]]) -> AsyncIterator[None]:
        """Run flights inside the block; on exit, wait for those under way until `over` returns."""
        async with anyio.create_task_group() as self._tasks:
            self._tasks.start_soon(self._beat)
            yield
            async with anyio.create_task_group() as waiting:
                waiting.start_soon(_cancel_after, over, waiting.cancel_scope)
                while pending := [flight for flight in self._flights.values() if not flight.done]:
                    await pending[0].changed()
                waiting.cancel_scope.cancel()
            self._tasks.cancel_scope.cancel()
        self._writers.shutdown()

    async def open(
        self, download: Download, record_key: str, expected: Expected
    ) -> Record | FlightReader | PassedThrough:
        """Return the record, or the response as soon as its head is known. Raises MirrorError.

        The record is frozen under `record_key`. Requests with the same credentials share one download.
        """
        return await self._join(download.flight_key(record_key), Flight(download, record_key, expected))

    async def recall(
        self, download: Download, record_key: str, record: Record
    ) -> Record | FlightReader | PassedThrough:
        """Like `open`, for a record whose body is on another machine of the store: all share one stream of it.

        Raises Damaged if it is not there, or has other bytes.
        """
        expected = Expected((Digest("sha256", record.digest),), record.size)
        flight_key = hashlib.sha256(f"recall {record_key} {record.digest}".encode()).hexdigest()
        return await self._join(flight_key, Flight(download, record_key, expected, record))

    async def _join(self, flight_key: str, new: Flight) -> Record | FlightReader | PassedThrough:
        """Board the flight with this key, or start the new one."""
        download = new.download
        flight = self._flights.get(flight_key)
        while flight and not flight.done:  # a flight that has ended stays registered while it cleans up
            outcome = await self._board(flight, download)
            if outcome:
                self._metrics.count(SHARED)
                return outcome
            if flight.unkept:
                break
            flight = self._flights.get(flight_key)
        flight = self._start(flight_key, new)
        outcome = await self._board(flight, download, own=True)
        if outcome is None:
            raise BadUpstream("the response ended before it could be passed on: try again")
        return outcome

    async def _board(
        self, flight: Flight, download: Download, *, own: bool = False
    ) -> Record | FlightReader | PassedThrough | None:
        """Return a flight's result for a request, or None if it only answers the request that started it."""
        while flight.head is None and not flight.done:
            await flight.changed()
        if flight.unkept and not own:
            return None
        while flight.head and not flight.done and not download.answers(flight.head.varies, flight.head.headers):
            await flight.changed()
        flight.raise_error()
        if flight.head and not flight.done:
            return FlightReader(flight, flight.head, collapsed=not own or flight.followed)
        return flight.record or (flight.passed if flight.download.accept == download.accept else None)

    def _start(self, key: str, flight: Flight) -> Flight:
        if len(self._flights) >= self._max_flights:
            raise Busy("too many downloads at once: try again later")
        self._flights[key] = flight
        self._tasks.start_soon(self._fly, key, flight)
        return flight

    async def _fly(self, key: str, flight: Flight) -> None:
        label = str(flight.download.target)
        error = MirrorError("the mirror was stopped during a download: try again")
        try:
            while not flight.done:
                claim = self._spool.claim(key)  # no thread: the client is waiting, and so short a piece of work is not
                if claim is None:
                    await self._follow(key, flight)
                else:
                    await self._lead(flight, claim)
        except MirrorError as failed:
            error = failed
            if not error.logged:
                log.warning("%s", failed.text if label in failed.text else f"{label}: {failed.text}")
            error.logged = True
        except OSError as failed:
            error = store_error(failed)
            error.logged = True
            log.error("%s: %s", label, error.text)
        except asyncio.CancelledError:
            log.warning(
                "%s: cut off after %d bytes because the mirror is stopping; nothing was kept",
                label,
                flight.available,
            )
            raise
        except Exception:
            error = MirrorError("internal error of the mirror: see its log")
            error.logged = True
            log.exception("%s", label)
        finally:
            if self._flights.get(key) is flight:
                del self._flights[key]
            if not flight.done:
                flight.finish(error=error)
            self._metrics.count(ENDED, _result(flight))

    def under_way(self) -> Iterator[Sample]:
        """Yield how many downloads wait for an answer, receive one, or follow another process."""
        states = Counter({"waiting": 0, "receiving": 0, "following": 0})
        for flight in self._flights.values():
            states["following" if flight.followed else "receiving" if flight.head else "waiting"] += 1
        for state, count in states.items():
            yield Sample(DOWNLOADS, (state,), count)

    async def _beat(self) -> None:
        while True:
            await anyio.sleep(BEAT)
            for claim in self._claims:
                claim.beat()

    async def _lead(self, flight: Flight, claim: Claim) -> None:
        self._claims.add(claim)
        try:
            if flight.recalled:
                await self._recall(flight, claim, flight.recalled)
                return
            async with self._turn(flight):
                record = await flight.download.find(flight.record_key)
                if record:
                    flight.finish(record=record)
                else:
                    await self._fetch(flight, claim)
        finally:
            self._claims.discard(claim)
            if flight.record:  # its part has been moved, or is small: nothing that takes long is removed
                claim.release()
            else:
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(claim.release)

    @asynccontextmanager
    async def _turn(self, flight: Flight) -> AsyncIterator[None]:
        """Wait while another machine fetches the same for this store, but no longer than TURN seconds.

        Its bytes can only be had when they are all there. So who waits longer, for a large file, fetches for itself,
        and has the first byte soon; whoever ends first wins.
        """
        ends = anyio.current_time() + TURN
        while True:
            async with self._store.index.lease(flight.record_key) as is_ours:
                if is_ours or anyio.current_time() >= ends or await flight.download.find(flight.record_key):
                    yield
                    return
            await anyio.sleep(TURN_CHECK)

    async def _fetch(self, flight: Flight, claim: Claim) -> None:
        async with flight.download.send() as answer:
            if answer.status not in STREAMED:
                flight.finish(passed=await pass_on(answer))
                return
            _check_size(flight.download, answer.length or 0)
            head = _head(answer, claim, flight.download)
            delimited = answer.is_delimited
            body = await self._spooled(flight, claim, head, answer.body, flight.download.unkept(answer))
        _check(flight, head, body, delimited=delimited)
        if not flight.unkept and not delimited and not flight.expected.digests:
            await self._fetch_and_compare(flight.download, body)
        flight.finish(record=None if flight.unkept else await self._freeze(flight, claim, head, body))

    async def _recall(self, flight: Flight, claim: Claim, record: Record) -> None:
        """Bring the body of a record from another machine of the store, unless another process has done so."""
        if self._store.condition(record.digest, record.size) is Condition.REMOTE:
            try:
                body = await _begun(self._store.recall(record.digest))
            except Damaged:
                self._store.note_damage(record.digest, record.size)
                raise
            place = claim.part.name
            head = Head(
                200, record.headers, record.final, record.size, record.scope, record.varies, record.place, place,
                str(flight.download.target),
            )  # fmt: skip
            sums = await self._spooled(flight, claim, head, body, "")
            if (sums.size, sums.sha256) != (record.size, record.digest):
                self._store.note_damage(record.digest, record.size)
                raise damaged(record)
            await self._store.keep(record.digest, claim.part)
        flight.finish(record=record)

    async def _spooled(
        self, flight: Flight, claim: Claim, head: Head, body: AsyncIterator[bytes], unkept: str
    ) -> _Sums:
        sums = _Sums(flight.expected.digests)
        with claim.part.open("xb", buffering=0) as file:
            flight.begin(head, os.open(claim.part, os.O_RDONLY), unkept=unkept)
            first = None if unkept else partial(claim.publish, head)
            writer = Writer(self._writers, file.fileno(), first, sums.update, flight.advance)
            async with writer.running():
                async for chunk in body:
                    _check_size(flight.download, writer.taken + len(chunk))
                    await writer.take(chunk)
        return sums

    async def _fetch_and_compare(self, download: Download, body: _Sums) -> None:
        """Fetch a body that was ended by closing the connection again: nothing else detects truncation.

        RFC 9112 section 6.3: the length of such a body is what was received before the close.
        """
        second = _Sums(())
        async with download.send() as answer:
            async for chunk in answer.body:
                _check_size(download, second.size + len(chunk))
                await anyio.to_thread.run_sync(second.update, chunk)
        if answer.status not in FREEZES or second.sha256 != body.sha256:
            raise BadUpstream(
                f"{download.target} came without a length, and with different bytes when it was fetched again; "
                "nothing was kept"
            )

    async def _freeze(self, flight: Flight, claim: Claim, head: Head, body: _Sums) -> Record:
        target, want = flight.download.target, flight.download.want
        record = Record(
            target=target.key,
            pin=target.pin,
            url=shown(target),
            final=head.url,
            digest=body.sha256,
            size=body.size,
            created=time.time(),
            scope=head.scope,
            headers=head.headers,
            varies=head.varies,
            place=head.place,
            through=head.through,
        )
        if want.verify:
            await want.verify(record, claim.part)
        winner = await self._store.freeze(flight.record_key, record, claim.part)
        if not isinstance(winner, Record) or winner.digest != record.digest:
            raise BadUpstream(f"{target} was frozen with other bytes in the meantime: try again to get those")
        self._metrics.count(FROZEN_BYTES, by=record.size)
        log.info("froze %s (%d bytes, sha256 %s)", target, record.size, record.digest)
        if want.on_frozen:
            await want.on_frozen(winner)
        return winner

    async def _follow(self, key: str, flight: Flight) -> None:
        """Follow another process's download. Returns if it ends or hangs before its head has arrived."""
        watch = _Watch(self._spool, key)
        while (found := await anyio.to_thread.run_sync(self._spool.follow, key)) is None:
            if not await watch.goes_on():
                return
        head, fd = found
        flight.begin(head, fd, followed=True)
        while await watch.goes_on():
            flight.advance(os.fstat(fd).st_size)
        flight.advance(os.fstat(fd).st_size)
        value = await self._store.get(flight.record_key)
        record = decode(value) if value else None
        if not isinstance(record, Record) or not await anyio.to_thread.run_sync(self._has_bytes_of, fd, record):
            raise BadUpstream(f"{flight.download.target}: the download was interrupted: try again")
        flight.finish(record=record)

    def _has_bytes_of(self, fd: int, record: Record) -> bool:
        """Whether an open part file became the blob of a record, or else is equal to it."""
        with suppress(FileNotFoundError):
            if os.path.samestat(self._store.blob_path(record.digest).stat(), os.fstat(fd)):
                return True
        with os.fdopen(os.dup(fd), "rb") as part:
            part.seek(0)
            return hashlib.file_digest(part, "sha256").hexdigest() == record.digest


def _result(flight: Flight) -> str:
    """Return how a flight ended, as the metrics tell it."""
    if flight.error:
        return "failed"
    if flight.unkept or flight.passed:
        return "passed_on"
    if flight.recalled:
        return "recalled"
    return "followed" if flight.followed else "frozen"


async def _begun(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Return the same chunks, after the first one has arrived: what fails before that is an error response."""
    first = await anext(chunks, b"")

    async def whole() -> AsyncIterator[bytes]:
        yield first
        async for chunk in chunks:
            yield chunk

    return whole()


async def _cancel_after(over: Callable[[], Awaitable[object]], scope: anyio.CancelScope) -> None:
    await over()
    scope.cancel()


class _Watch:
    """Checks from time to time whether another process is still downloading."""

    def __init__(self, spool: Spool, key: str) -> None:
        self._spool = spool
        self._key = key
        self._began = self._changed = anyio.current_time()
        self._last: Holder | None = None

    async def goes_on(self) -> bool:
        """Wait a little, then check. A hung process loses the download to the next process that claims it.

        The longer a download takes, the less often it is checked: a follower is late by at most 5 % of its time.
        """
        await anyio.sleep(min(max(POLL, (anyio.current_time() - self._began) / 20), MAX_POLL))
        holder = self._spool.holder(self._key)  # no thread needed: three system calls, no disk access
        if holder != self._last:
            self._last, self._changed = holder, anyio.current_time()
        if holder is None or anyio.current_time() < self._changed + HUNG:
            return holder is not None
        log.error("a process has held a download for %.0f s without a heartbeat: taking it over", HUNG)
        self._spool.take_over(self._key, holder)
        return False


def _head(answer: UpstreamResponse, claim: Claim, download: Download) -> Head:
    headers = named(answer.headers, KEPT_HEADERS) | answer.kept
    final = answer.base.partition("?")[0]
    varies = download.accept if _vary(answer) & {"accept", "*"} else ""
    scope = download.scope(answer)
    place = "" if scope == PUBLIC else download.place(answer)
    return Head(
        answer.status, headers, final, answer.length, scope, varies, place, claim.part.name, str(download.target),
        hops(answer.through),
    )  # fmt: skip


def _vary(answer: UpstreamResponse) -> set[str]:
    return {name.strip().lower() for name in answer.headers.get("vary", "").split(",")}


class _Sums:
    """The running size and digests of a body: sha256, and those that were announced."""

    def __init__(self, announced: tuple[Digest, ...]) -> None:
        self.size = 0
        names = {"sha256", *(digest.algorithm for digest in announced)}
        self._hashes = {name: hashlib.new(name, usedforsecurity=False) for name in names}

    def update(self, chunk: bytes) -> None:
        self.size += len(chunk)
        for digest in self._hashes.values():
            digest.update(chunk)

    @property
    def sha256(self) -> str:
        return self._hashes["sha256"].hexdigest()

    def has(self, digest: Digest) -> bool:
        return self._hashes[digest.algorithm].hexdigest() == digest.value


def _check_size(download: Download, size: int) -> None:
    if size > download.limit:
        raise BadUpstream(
            f"{download.target} is larger than {download.limit} bytes (--max-file, --max-page); nothing was kept"
        )


def _check(flight: Flight, head: Head, body: _Sums, *, delimited: bool) -> None:
    """Raise BadUpstream if a body is not what was announced: OtherBytes if it cannot be truncated."""
    target, expected = flight.download.target, flight.expected
    if head.length is not None and body.size != head.length:
        raise BadUpstream(f"{target}: got {body.size} bytes, but {head.length} were announced; nothing was kept")
    wrong = OtherBytes if delimited else BadUpstream
    if expected.size is not None and body.size != expected.size:
        raise wrong(f"{target}: got {body.size} bytes, but {expected.size} were announced; nothing was kept")
    if expected.digests and not any(map(body.has, expected.digests)):
        wanted = " or ".join(f"{digest.algorithm} {digest.value}" for digest in expected.digests)
        raise wrong(f"{target}: the bytes have sha256 {body.sha256}, but {wanted} was announced; nothing was kept")


async def pass_on(answer: UpstreamResponse) -> PassedThrough:
    """Return what to pass on of a response that is not kept. Raises BadUpstream if its status makes no sense."""
    if answer.status in (204, 205, 206, 304) or answer.status < 200:
        raise BadUpstream(f"{answer.url.partition('?')[0]} answered a plain GET with {answer.status}")
    headers = named(answer.headers, PASSED_HEADERS) | answer.kept
    return PassedThrough(answer.status, headers, await beginning(answer, PASSED_BODY), answer.sent)


async def beginning(answer: UpstreamResponse, limit: int) -> bytes:
    """Return the first `limit` bytes of a response's body."""
    body = bytearray()
    async for chunk in answer.body:
        body += chunk
        if len(body) >= limit:
            break
    return bytes(body[:limit])


async def is_body(answer: UpstreamResponse, sha256: str, size: int) -> bool:
    """Whether a response's body has this digest and size. Stops reading when it gets longer."""
    if answer.length not in (None, size):
        return False
    sums = _Sums(())
    async for chunk in answer.body:
        if sums.size + len(chunk) > size:
            return False
        await anyio.to_thread.run_sync(sums.update, chunk)
    return sums.sha256 == sha256

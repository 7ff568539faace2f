"""Answers a Target with the frozen copy if the client may read it, or freezes one first.

What was fetched with credentials is private to them. The record of a private copy has the scope of the credentials that
fetched it; other credentials are checked with the upstream, and then stored as a grant. So a token can be rotated, and
two teams can share one copy, without anyone reading what the upstream would not send them.
"""

from __future__ import annotations

import hmac
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path

import anyio
from anyio.abc import TaskGroup

from httpcache.credentials import PUBLIC, Credentials
from httpcache.errors import BadUpstream, Damaged, DamagedBody, MirrorError, Refused, UpstreamError
from httpcache.lru import SizedLRU
from httpcache.metrics import Metrics
from httpcache.settings import Settings
from httpcache.store import keys
from httpcache.store.base import Condition
from httpcache.store.record import Absence, Record, damaged, decode, shown
from httpcache.store.store import Store
from httpcache.target import Target, pin_prefix
from httpcache.upstream.client import UpstreamClient, UpstreamResponse
from httpcache.upstream.sign_in import challenge

from .access import Likeness, Proof, Verdict, is_page, proof, verdict
from .challenges import StoredChallenges
from .download import ANY, NOBODY, Digest, Download, Expected, Want
from .downloads import FREEZES, STREAMED, Downloads, beginning, is_body, pass_on
from .flight import FlightReader, PassedThrough
from .spool import Spool

__all__ = ["ANY", "NOBODY", "Expected", "Mirror", "Want", "running"]

log = logging.getLogger("httpcache")

NEGATIVE_SECONDS = 10.0  # how long a plain file's 404 is cached, so that many requests become one
NEGATIVE_ENTRIES = 1000  # of up to 64 KB each
FLIGHTS = 4  # downloads that may be under way or waiting, per connection
SHUTDOWN_SECONDS = 20.0  # grace period for downloads under way
CHECKED_FIRST = 64 * 1024 * 1024  # bytes; larger blobs are verified while they are served, before the last byte
PRIVATE = b"this copy is private: send the credentials that it was fetched with, or others that may read it\n"


class Mirror:
    """Combines settings, store, downloads and upstream client with the rules of who may read what."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        cache: Downloads,
        upstream: UpstreamClient,
        secret: bytes,
        tasks: TaskGroup,
    ) -> None:
        """`secret` is the key of the scopes, kept in the store. `tasks` runs the work passed to `start`."""
        self.settings = settings
        self.store = store
        self.cache = cache
        self.upstream = upstream
        self.metrics = upstream.metrics
        self._secret = secret
        self._tasks = tasks
        self._bindings: dict[str, set[str]] = {}
        for prefix, origin in settings.bindings:
            self._bindings.setdefault(prefix, set()).add(origin)
        self._missing: SizedLRU[str, tuple[PassedThrough, float]] = SizedLRU(NEGATIVE_ENTRIES)

    def credentials(self, target: Target, given: Credentials) -> Credentials:
        """Return the client's credentials that may be sent for a target.

        Under a pin that the settings bind, they are only sent to its origins. A login in the URL is for its origin, and
        takes precedence over `Authorization`.
        """
        prefix = pin_prefix(target.pin)
        origins = self._bindings.get(prefix)
        if origins is not None and target.origin not in origins:
            given = NOBODY
        if target.login:
            given = given.with_login(target.login)
        return replace(given, prefix=prefix, bound=bool(target.login or origins))

    def start(self, work: Callable[[], Awaitable[object]]) -> None:
        """Run background work. Its errors are logged; it is cancelled when the mirror stops."""
        self._tasks.start_soon(_logged, work)

    async def answer(self, target: Target, want: Want) -> Record | FlightReader | PassedThrough:
        """Return the frozen copy of a target, or freeze one and return it while it arrives. Raises MirrorError.

        Damage to a copy of more than CHECKED_FIRST bytes may only be noticed while reading: see `read` and `whole`.
        """
        download = self._download(target, want)
        outcome = await self._outcome(download)
        if isinstance(outcome, PassedThrough) and not outcome.hit and outcome.status in (404, 410):
            await self._remember(download, outcome)
        return outcome

    def _download(self, target: Target, want: Want) -> Download:
        return Download(
            target,
            want,
            self.store,
            self.upstream,
            self.settings,
            self._secret,
            lambda record: self._is_sound(record, CHECKED_FIRST),
        )

    async def _outcome(self, download: Download) -> Record | FlightReader | PassedThrough:
        """Like `answer`. A returned record was in the store at some time after the call, even if removed since."""
        while True:
            key, record = await download.locate()
            absence = await self._absence(download)
            found = await self._verdict(download, record, absence)
            if found is Verdict.ABSENT and absence:
                body = b"the upstream had no such page when it was first requested under this pin: use another pin\n"
                return PassedThrough(absence.status, {"content-type": "text/plain; charset=utf-8"}, body, hit=True)
            if record:
                granted = await self._granted(download, key, record, found)
                return await self._recalled(download, key, record) if granted is record else granted
            outcome = self._remembered(download) or await self._fetched(download, key)
            if not isinstance(outcome, Record):
                return outcome

    async def _granted(self, download: Download, key: str, record: Record, found: Verdict) -> Record | PassedThrough:
        if found is Verdict.ASK:
            refusal = await self._refusal(download, record)
            if refusal:
                return refusal
            found = Verdict.SERVE if await self._is_sound(record, CHECKED_FIRST) else Verdict.MEND
        if found is Verdict.MEND:
            await self._mend(download, key, record)
        return record

    async def _recalled(self, download: Download, key: str, record: Record) -> Record | FlightReader | PassedThrough:
        """Return a record that this client may read, or its body as it arrives from another machine of the store."""
        if self.store.condition(record.digest, record.size) is not Condition.REMOTE:
            return record
        location = await self.store.presigned(record.digest) if self._can_redirect(download, record) else None
        if location:
            return PassedThrough(307, {"location": location}, hit=True, record=record)
        try:
            return await self.cache.recall(download, key, record)
        except Damaged:
            await self._mend(download, key, record)
            return record

    def _can_redirect(self, download: Download, record: Record) -> bool:
        """Whether the client may have a body from the object store itself. Pages are read here, to be rewritten."""
        above = self.settings.redirect_above
        is_large = above is not None and record.size >= above
        return is_large and download.want.may_redirect and record.scope == PUBLIC and not is_page(record)

    async def _verdict(self, download: Download, record: Record | None, absence: Absence | None) -> Verdict:
        return verdict(
            record,
            absence,
            download.scopes(),
            open_to_all=self._is_shared(download.target),
            granted=record is not None and await self._is_granted(download, record),
            sound=record is None or await self._is_sound(record, CHECKED_FIRST),
        )

    async def _is_sound(self, record: Record, limit: int | None = None) -> bool:
        """Whether a record's bytes are undamaged, as far as reading at most `limit` bytes can tell."""
        condition = self.store.condition(record.digest, record.size)
        is_read_now = condition is Condition.UNREAD and (limit is None or record.size <= limit)
        if is_read_now or (condition is Condition.REMOTE and limit is None):
            return await self.store.check(record.digest, record.size)
        return condition is not Condition.BROKEN

    async def _mend(self, download: Download, key: str, record: Record) -> None:
        """Fetch the bytes of a damaged copy again, and accept only the same ones. Raises DamagedBody."""
        log.error("%s: the frozen bytes are damaged or missing; fetching the same ones again", download.target)
        reason = "the upstream no longer has them"
        try:
            same = download.with_accept(record.varies) if record.varies else download
            expected = Expected((Digest("sha256", record.digest),), record.size)
            outcome = await self.cache.open(same, key, expected)
            if isinstance(outcome, FlightReader):
                outcome = await self.landed(download.target, outcome)
            if isinstance(outcome, Record) and outcome.digest == record.digest:
                return
        except MirrorError as error:
            reason = error.text
        raise DamagedBody(
            f"the frozen bytes of {download.target} are damaged or missing (sha256 {record.digest}): restore the "
            "data folder from a backup, or remove the record with `httpcache forget`. They were not fetched again: "
            f"{reason}"
        )

    async def _fetched(self, download: Download, key: str) -> Record | FlightReader | PassedThrough:
        expected = await download.want.expect() if download.want.expect else Expected()
        return await self.cache.open(download, key, expected)

    async def record_key(self, target: Target, want: Want) -> str | None:
        """Return the store's key of a target's record, or None if there is no record."""
        key, record = await self._download(target, want).locate()
        return key if record else None

    async def drop(self, target: Target, want: Want) -> None:
        """Remove a record that was kept before it could be checked and turned out to be wrong."""
        key = await self.record_key(target, want)
        if key:
            await self.store.remove(key)

    async def kept(self, target: Target, want: Want) -> Record | None:
        """Return the frozen copy, if any, without access checks: only for checks of its bytes. Asks no upstream."""
        _, record = await self._download(target, want).locate()
        return record if record and await self._is_sound(record) else None

    async def lookup(self, target: Target, want: Want) -> Record | None:
        """Return the frozen copy if this client is known to be allowed to read it, or None. Asks no upstream."""
        download = self._download(target, want)
        _, record = await download.locate()
        if record is None or not await self._may_read(download, record):
            return None
        return record if await self._is_sound(record) else None

    async def whole(self, target: Target, want: Want) -> Record | PassedThrough:
        """Like `answer`, but wait until the copy is complete and verified. Raises MirrorError."""
        outcome = await self.answer(target, want)
        if isinstance(outcome, FlightReader):
            await self.landed(target, outcome)
            return await self.whole(target, want)  # it may have been removed since
        if isinstance(outcome, Record) and not await self._is_sound(outcome):
            return await self.whole(target, want)  # the damage is known now, and will be repaired
        return outcome

    async def read(self, record: Record, limit: int | None = None) -> bytes:
        """Return the bytes of a record, at most `limit`. Raises Damaged if they are not what was frozen."""
        if not await self._is_sound(record):
            raise damaged(record)
        stop = record.size if limit is None else min(limit, record.size)
        return b"".join([chunk async for chunk in self.store.read_body(record.digest, record.size, 0, stop)])

    async def landed(self, target: Target, live: FlightReader) -> Record:
        """Wait until a download is frozen, and close its reader. Raises MirrorError."""
        try:
            record = await live.finished()
        finally:
            live.close()
        if record is None:
            raise BadUpstream(f"{target} cannot be frozen: {live.unkept}")
        return record

    async def _refusal(self, download: Download, record: Record) -> PassedThrough | None:
        """Return the response that refuses a client a private copy, or None if the upstream sends it to the client.

        The client's login is sent with the first request: since the copy is private, it is needed.
        """
        credentials = replace(download.want.credentials, bound=True)
        anonymous = credentials.levels == ((),)
        try:
            async with download.send(credentials) as answer:
                found = await (self._bytes(record, answer) if anonymous else self._likeness(download, record, answer))
                if answer.status not in STREAMED and not (anonymous and _is_away(answer.status)):
                    return await pass_on(answer)
            if found is Likeness.LIKE and await self._is_like_for_anonymous(download, record):
                found = Likeness.OTHER
        except UpstreamError:
            if not anonymous:
                raise
            found = Likeness.OTHER
        if found is not Likeness.OTHER:
            if answer.sent:
                await self.store.add(download.grant_key(record, download.sent_scope(answer)), b"1")
            return None
        if anonymous:
            return await self._challenge(download.target)
        raise Refused(
            f"{download.target} is private, and with your credentials the upstream sends something else "
            "(for example a sign-in page), or what every client gets"
        )

    async def _challenge(self, target: Target) -> PassedThrough:
        header = challenge(target.origin, await self.upstream.realm(target.url, pin_prefix(target.pin)))
        headers = {"content-type": "text/plain; charset=utf-8", "www-authenticate": header}
        return PassedThrough(401, headers, PRIVATE, hit=True)

    async def _likeness(self, download: Download, record: Record, answer: UpstreamResponse) -> Likeness:
        """Compare a response with a private copy, as far as `proof` requires."""
        if answer.status not in FREEZES:
            return Likeness.OTHER
        match proof(record, download.place(answer), answer.headers.get("content-type", "")):
            case Proof.NOTHING:
                return Likeness.LIKE
            case Proof.PAGE if download.want.is_same:
                body = await beginning(answer, self.settings.max_page + 1)
                if sha256(body).hexdigest() == record.digest:
                    return Likeness.SAME
                if len(body) <= self.settings.max_page and await download.want.is_same(record, answer, body):
                    return Likeness.LIKE
                return Likeness.OTHER
            case _:
                return await self._bytes(record, answer)

    async def _bytes(self, record: Record, answer: UpstreamResponse) -> Likeness:
        is_same = answer.status in FREEZES and await is_body(answer, record.digest, record.size)
        return Likeness.SAME if is_same else Likeness.OTHER

    async def _is_like_for_anonymous(self, download: Download, record: Record) -> bool:
        """Whether anonymous clients get the current version: then getting it proves no right to the frozen one."""
        async with download.send(NOBODY) as answer:
            found = await self._likeness(download, record, answer)
            return found is Likeness.LIKE and await self._bytes(record, answer) is not Likeness.SAME

    async def _may_read(self, download: Download, record: Record) -> bool:
        """Whether this client is known to be allowed to read a record."""
        return await self._verdict(download, record, None) is not Verdict.ASK

    async def _is_granted(self, download: Download, record: Record) -> bool:
        """Whether there is a grant for these credentials. A request without credentials has none."""
        if record.scope == PUBLIC:
            return False
        keys = [download.grant_key(record, name) for name in download.scopes() if name != PUBLIC]
        return any(await self.store.get_many(keys))

    def _is_shared(self, target: Target) -> bool:
        return pin_prefix(target.pin) in self.settings.shared

    async def _absence(self, download: Download) -> Absence | None:
        """Return the frozen absence of a target, if any."""
        if not download.want.freeze_absence:
            return None
        settled = await self.upstream.settled(download.target.url, download.want.credentials)
        value = await self.store.get(download.absence_key(settled))
        entry = decode(value) if value else None
        return entry if isinstance(entry, Absence) else None

    def _remembered(self, download: Download) -> PassedThrough | None:
        """Return the briefly cached 404 or 410 of a target, if any."""
        remembered = self._missing.get(download.key)
        if download.want.skip_remembered or not remembered or remembered[1] <= time.monotonic():
            return None
        return replace(remembered[0], hit=True)

    async def _remember(self, download: Download, passed: PassedThrough) -> None:
        if download.want.freeze_absence:
            absence = Absence(
                download.target.key, download.target.pin, shown(download.target), passed.status, time.time()
            )
            await self.store.freeze_absence(download.absence_key(passed.sent), absence)
            return
        self._missing.put(download.key, (passed, time.monotonic() + NEGATIVE_SECONDS))


@asynccontextmanager
async def running(
    settings: Settings,
    store: Store,
    spool: Path,
    agent: str = "",
    over: Callable[[], Awaitable[object]] | None = None,
    metrics: Metrics | None = None,
) -> AsyncIterator[Mirror]:
    """Run a mirror on a store; on exit, wait for downloads under way, within a bound.

    `agent` is a comment for the `User-Agent` (RFC 9110 section 10.1.5) sent to upstreams. `over` returns when to stop
    waiting for downloads; the default is after `SHUTDOWN_SECONDS`. `metrics`: where to count.
    """
    secret = await store.add(keys.SECRET, secrets.token_bytes(32))
    name = f"httpcache-{hmac.new(secret, b'CDN-Loop', 'sha256').hexdigest()[:16]}"
    metrics = metrics or Metrics()
    upstream = UpstreamClient(settings, StoredChallenges(store), name, metrics, agent)
    cache = Downloads(store, Spool(spool), FLIGHTS * settings.max_connections, metrics)
    try:
        with metrics.telling(cache.under_way):
            async with (
                cache.running(over or partial(anyio.sleep, SHUTDOWN_SECONDS)),
                anyio.create_task_group() as tasks,
            ):
                yield Mirror(settings, store, cache, upstream, secret, tasks)
                tasks.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await upstream.aclose()


def _is_away(status: int) -> bool:
    """Whether a status means that the upstream did not process the request."""
    return status == 429 or status >= 500


async def _logged(work: Callable[[], Awaitable[object]]) -> None:
    try:
        await work()
    except MirrorError as error:
        log.warning("%s", error.text)
    except Exception:
        log.exception("background work failed")

"""Answers a Target: with the frozen copy if this client may read it, or by freezing one.

What was fetched with credentials is private to them. The record of a private copy carries the scope of the credentials
that fetched it; other credentials are checked with the upstream, and have a grant from then on. So a token can be
rotated, and two teams share one copy, without anybody reading what the upstream would not give them.
"""

from __future__ import annotations

import hmac
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import anyio
from anyio.abc import TaskGroup

from .accept import admits
from .cache import FREEZES, Cache, Job, pass_on
from .credentials import PUBLIC, Credentials, scope
from .errors import BadUpstream, Damaged, MirrorError, Refused
from .flight import Digest, Live, Passed
from .record import Absence, Record, damaged, decode, encode, shown
from .settings import Settings
from .spool import Spool
from .store import Condition, Store
from .target import Target, canonical_url, pin_prefix
from .upstream import Answer, Headers, Origins, Upstream

log = logging.getLogger("httpcache")

NEGATIVE_SECONDS = 10.0  # a plain file's 404 is remembered so long, so that a storm of requests is one request
NEGATIVE_ENTRIES = 1000  # of up to 64 KB each
FLIGHTS = 4  # times as many downloads as connections may be under way or wait
SHUTDOWN_SECONDS = 20.0  # what is being downloaded may still end
CHECKED_FIRST = 64 * 1024 * 1024  # bytes; larger blobs are checked while they are served, up to the last byte
REPRESENTATIONS = 4  # of a target, for all: who takes none of these has one under its own `Accept`
ANY = "*/*"
NOBODY = Credentials()


@dataclass(frozen=True)
class Expected:
    """What indexes announced of a file: digests, one of which is right; the size in bytes."""

    digests: tuple[Digest, ...] = ()
    size: int | None = None


@dataclass(frozen=True)
class Want:
    """How a target is wanted.

    `accept` is the request's `Accept`, the one header besides credentials that an upstream gets to see. `admits` tells
    of which content types an answer will do (empty where it has none), where these are not those that `accept` admits.
    `source` asks
    for the target where that is not simply a GET of its URL. `expect` finds what an index announced, and is only called
    when the target is about to be fetched; `verify` and `frozen` are those of a Job. `freeze_absence`: a 404 or 410 is
    kept for ever too, as a registry's "no such project" is. `anew`: the upstream is asked although it said a moment
    ago that there is nothing.
    """

    accept: str = ANY
    admits: Callable[[str], bool] | None = None
    credentials: Credentials = NOBODY
    source: Callable[[], AbstractAsyncContextManager[Answer]] | None = None
    expect: Callable[[], Awaitable[Expected]] | None = None
    verify: Callable[[Record, Path], Awaitable[None]] | None = None
    frozen: Callable[[Record], Awaitable[None]] | None = None
    freeze_absence: bool = False
    anew: bool = False


class Mirror:
    """The parts together: settings, store, cache and upstream, and the rules of who may read what."""

    def __init__(
        self, settings: Settings, store: Store, cache: Cache, upstream: Upstream, secret: bytes, tasks: TaskGroup
    ) -> None:
        """`secret` is the key of the scopes: the store's own. `tasks` runs what `start` is given."""
        self.settings = settings
        self.store = store
        self.cache = cache
        self.upstream = upstream
        self._secret = secret
        self._tasks = tasks
        self._bindings: dict[str, set[str]] = {}
        for prefix, origin in settings.bindings:
            self._bindings.setdefault(prefix, set()).add(origin)
        self._missing: OrderedDict[str, tuple[Passed, float]] = OrderedDict()

    def credentials(self, target: Target, given: Credentials) -> Credentials:
        """Return those of a client's credentials that a target may be asked with.

        Under a pin that the settings bind, they are for its origins alone.
        """
        origins = self._bindings.get(pin_prefix(target.pin))
        if origins is None:
            return given
        return replace(given, bound=True) if target.origin in origins else NOBODY

    def start(self, work: Callable[[], Awaitable[object]]) -> None:
        """Run work that no request waits for. Its errors go to the log; the end of the mirror cuts it off."""
        self._tasks.start_soon(_logged, work)

    async def answer(self, target: Target, want: Want) -> Record | Live | Passed:
        """Return the frozen copy of a target, or freeze one and return it as it arrives. Raises MirrorError.

        A copy of more than CHECKED_FIRST bytes may turn out to be damaged while it is read: see `read` and `whole`.
        """
        ask = _Ask(self, target, want, self._secret)
        outcome = await self._outcome(ask)
        if isinstance(outcome, Passed) and not outcome.hit and outcome.status in (404, 410):
            await self._remember(ask, outcome)
        return outcome

    async def _outcome(self, ask: _Ask) -> Record | Live | Passed:
        """Return what `answer` does. A record is what the store had after this was called, whatever was removed."""
        key, record = await ask.locate()
        while record is None:
            outcome = await self._absence(ask, None) or await self._fetched(ask, key)
            if not isinstance(outcome, Record):
                return outcome
            key, record = await ask.locate()
        outcome = await self._absence(ask, record) or await self._permitted(ask, record)
        if isinstance(outcome, Record) and not await self._is_sound(outcome, CHECKED_FIRST):
            await self._mend(ask, key, record)
        return outcome

    async def _is_sound(self, record: Record, limit: int | None = None) -> bool:
        """Whether a record has its bytes, as far as that can be told without reading more than `limit` bytes."""
        condition = self.store.condition(record.digest, record.size)
        if condition is Condition.UNREAD and (limit is None or record.size <= limit):
            return await self.store.check(record.digest, record.size)
        return condition is not Condition.BROKEN

    async def _mend(self, ask: _Ask, key: str, record: Record) -> None:
        """Fetch the bytes of a damaged copy again: the very same ones, or none. Raises Damaged."""
        log.error("%s: the frozen bytes are damaged or missing; asking the upstream for the same ones", ask.target)
        reason = "the upstream has none"
        try:
            ask = _Ask(self, ask.target, replace(ask.want, accept=record.varies or ask.want.accept), self._secret)
            job = ask.job(key, Expected((Digest("sha256", record.digest),), record.size))
            outcome = await self.cache.open(job)
            if isinstance(outcome, Live):
                outcome = await self.landed(ask.target, outcome)
            if isinstance(outcome, Record) and outcome.digest == record.digest:
                return
        except MirrorError as error:
            reason = error.text
        raise Damaged(
            f"the frozen bytes of {ask.target} are damaged or missing: restore the file {record.digest} below blobs/ "
            f"from a copy, or remove the record with `httpcache forget`. They were not fetched again: {reason}"
        )

    async def _fetched(self, ask: _Ask, key: str) -> Record | Live | Passed:
        expected = await ask.want.expect() if ask.want.expect else Expected()
        return await self.cache.open(ask.job(key, expected))

    async def record_key(self, target: Target, want: Want) -> str | None:
        """Return the key under which the store has the record of a target, None where it has none."""
        key, record = await _Ask(self, target, want, self._secret).locate()
        return key if record else None

    async def drop(self, target: Target, want: Want) -> None:
        """Take back a record that was kept before it could be checked, and has turned out wrong."""
        key = await self.record_key(target, want)
        if key:
            await self.store.remove(key)

    async def frozen(self, target: Target, want: Want) -> Record | None:
        """Return the frozen copy if there is one that this client is known to be allowed to read. Asks no upstream."""
        ask = _Ask(self, target, want, self._secret)
        _, record = await ask.locate()
        if record is None or not await self._may_read(ask, record):
            return None
        return record if await self._is_sound(record) else None

    async def whole(self, target: Target, want: Want) -> Record | Passed:
        """Like `answer`, but wait until everything is frozen, and checked to be what was frozen. Raises MirrorError."""
        outcome = await self.answer(target, want)
        if isinstance(outcome, Live):
            await self.landed(target, outcome)
            return await self.whole(target, want)  # what is there now: it may have been removed since
        if isinstance(outcome, Record) and not await self._is_sound(outcome):
            return await self.whole(target, want)  # it is known by now, and will be mended
        return outcome

    async def read(self, record: Record, limit: int | None = None) -> bytes:
        """Return the bytes of a record, or so many of them. Raises Damaged where they are not what was frozen."""
        if not await self._is_sound(record):
            raise damaged(record)
        stop = record.size if limit is None else min(limit, record.size)
        return b"".join([chunk async for chunk in self.store.read_blob(record.digest, 0, stop)])

    async def landed(self, target: Target, live: Live) -> Record:
        """Wait until a download has been frozen, and close it. Raises MirrorError."""
        try:
            record = await live.finished()
        finally:
            live.close()
        if record is None:
            raise BadUpstream(f"{target} cannot be frozen: {live.unkept}")
        return record

    async def _permitted(self, ask: _Ask, record: Record) -> Record | Passed:
        """Return a record to those who may read it, and to the others what the upstream says to them."""
        if await self._may_read(ask, record):
            return record
        async with ask.send() as answer:
            if answer.status not in FREEZES:
                return await pass_on(answer)
            if not _is_the_same(answer, record):
                raise Refused(
                    f"{ask.target} is private, and what the upstream answers to your credentials is another thing "
                    "(a sign-in page, for example)"
                )
            await self.store.add(_grant(ask.target, ask.scope(answer)), b"1")
        return record

    async def _may_read(self, ask: _Ask, record: Record) -> bool:
        scopes = ask.scopes()
        if record.scope == PUBLIC or record.scope in scopes or self._is_shared(ask.target):
            return True
        for name in scopes:
            if await self.store.get(_grant(ask.target, name)):
                return True
        return False

    def _is_shared(self, target: Target) -> bool:
        return pin_prefix(target.pin) in self.settings.shared

    async def _absence(self, ask: _Ask, found: Record | None) -> Passed | None:
        """Return what is remembered of a target that was not there.

        A frozen absence holds against a record that came later, and so cannot be undone by a request of another kind;
        but in a shared pin all read what those with credentials have fetched.
        """
        if found and found.scope != PUBLIC and self._is_shared(ask.target):
            return None
        if ask.want.freeze_absence:
            settled = await self.upstream.settled(ask.target.url, ask.want.credentials)
            value = await self.store.get(ask.absence_key(settled))
            entry = decode(value) if value else None
            if isinstance(entry, Absence) and (found is None or entry.created <= found.created):
                body = b"the upstream had no such page when this pin was first asked for it\n"
                return Passed(entry.status, {"content-type": "text/plain; charset=utf-8"}, body, hit=True)
        remembered = self._missing.get(ask.key)
        if found is None and not ask.want.anew and remembered and remembered[1] > time.monotonic():
            return replace(remembered[0], hit=True)
        return None

    async def _remember(self, ask: _Ask, passed: Passed) -> None:
        if ask.want.freeze_absence:
            absence = Absence(ask.target.key, ask.target.pin, shown(ask.target), passed.status, time.time())
            await self.store.add(ask.absence_key(passed.sent), encode(absence))
            return
        self._missing[ask.key] = (passed, time.monotonic() + NEGATIVE_SECONDS)
        while len(self._missing) > NEGATIVE_ENTRIES:
            self._missing.popitem(last=False)


@asynccontextmanager
async def running(settings: Settings, store: Store, spool: Path, agent: str = "") -> AsyncIterator[Mirror]:
    """Run a mirror on a store; at the end, downloads under way are waited for, within a bound.

    `agent` is a comment for the `User-Agent` (RFC 9110 section 10.1.5) that upstreams get to see.
    """
    secret = await store.add("m/secret", secrets.token_bytes(32))
    name = f"httpcache-{hmac.new(secret, b'CDN-Loop', 'sha256').hexdigest()[:16]}"
    upstream = Upstream(settings, Origins(store), name, agent)
    cache = Cache(store, Spool(spool), FLIGHTS * settings.max_connections)
    try:
        async with cache.running(SHUTDOWN_SECONDS), anyio.create_task_group() as tasks:
            yield Mirror(settings, store, cache, upstream, secret, tasks)
            tasks.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await upstream.aclose()


async def _logged(work: Callable[[], Awaitable[object]]) -> None:
    try:
        await work()
    except MirrorError as error:
        log.warning("%s", error.text)
    except Exception:
        log.exception("work beside the requests failed")


class _Ask:
    """One client's wish for one target."""

    def __init__(self, mirror: Mirror, target: Target, want: Want, secret: bytes) -> None:
        self.target = target
        self.want = want
        self._mirror = mirror
        self._accept = ",".join(part.strip() for part in want.accept.lower().split(",")) or ANY
        self._secret = secret
        self._everything = scope(secret, target.origin, want.credentials.levels[-1])
        self.key = _hash(target.key, self._accept, self._everything)

    def absence_key(self, sent: Headers) -> str:
        """An absence says nothing to those who ask with other credentials."""
        return f"r/{_hash(self.target.key, 'absent', scope(self._secret, self.target.origin, sent))}"

    def scopes(self) -> frozenset[str]:
        return self.want.credentials.scopes(self._secret, self.target.origin)

    def scope(self, answer: Answer) -> str:
        return scope(self._secret, self.target.origin, answer.sent)

    async def find(self, key: str) -> Record | None:
        """What was frozen already ends a download, unless it is to be mended."""
        entry = await self._entry(key)
        return entry if entry and await self._mirror._is_sound(entry, CHECKED_FIRST) else None

    async def locate(self) -> tuple[str, Record | None]:
        """Return the first record that answers this request, with its key; or the key that one is to be frozen under.

        What was frozen first answers all who take its type (a server may disregard `Accept`: RFC 9110 section 12.4.1).
        Only for the others there are more, of which again the first that will do is the answer for ever.
        """
        for key in self._keys():
            entry = await self._entry(key)
            if entry is None or self.answers(entry.varies, entry.headers):
                break
        return key, entry

    def _keys(self) -> Iterator[str]:
        yield f"r/{self.target.key}"
        for number in range(1, REPRESENTATIONS):
            yield f"r/{_hash(self.target.key, 'representation', str(number))}"
        yield f"r/{_hash(self.target.key, 'accept', self._accept)}"

    async def _entry(self, key: str) -> Record | None:
        value = await self._mirror.store.get(key)
        entry = decode(value) if value else None
        return entry if isinstance(entry, Record) else None

    def answers(self, varies: str, headers: Mapping[str, str]) -> bool:
        """Whether an answer with these headers is one to this request; `varies` is that of its record."""
        if varies in ("", self._accept):
            return True
        kind = headers.get("content-type", "")
        return self.want.admits(kind) if self.want.admits else admits(self._accept, kind)

    async def verify(self, record: Record, file: Path) -> None:
        if self.want.verify:
            await self.want.verify(record, file)

    async def frozen(self, record: Record) -> None:
        if self.want.frozen:
            await self.want.frozen(record)

    def job(self, key: str, expected: Expected) -> Job:
        """Return the download of this target, whose record is to have this key."""
        return Job(
            key=_hash(key, self._everything),
            record=key,
            accept=self._accept,
            label=str(self.target),
            target=self.target.key,
            pin=self.target.pin,
            url=shown(self.target),
            ask=self.send,
            find=lambda: self.find(key),
            answers=lambda head: self.answers(head.varies, head.headers),
            scope=self.scope,
            unkept=_unkept,
            verify=self.verify,
            frozen=self.frozen,
            limit=self._mirror.settings.max_file,
            digests=expected.digests,
            size=expected.size,
        )

    def send(self) -> AbstractAsyncContextManager[Answer]:
        if self.want.source:
            return self.want.source()
        accept = (("Accept", self._accept),)
        return self._mirror.upstream.ask(self.target.wire, headers=accept, credentials=self.want.credentials)


def _unkept(answer: Answer) -> str:
    """Return why an answer may not be frozen, nothing where it may."""
    if answer.status == 203:  # RFC 9110 section 15.3.4
        return "the answer is not the upstream's own (status 203)"
    return ""


def _is_the_same(answer: Answer, record: Record) -> bool:
    """Whether an answer is of the resource that a record is of, which may have changed since.

    Many sites answer 200 to everybody and mean "sign in": at another place, or with HTML in the place of a file.
    """
    if answer.url.partition("?")[0] != canonical_url(record.final):
        return False
    return _is_html(record.headers.get("content-type", "")) or not _is_html(answer.headers.get("content-type", ""))


def _is_html(content_type: str) -> bool:
    return content_type.strip().lower().startswith("text/html")


def _grant(target: Target, scope: str) -> str:
    return f"g/{target.key}/{scope or 'public'}"


def _hash(*parts: str) -> str:
    return sha256("\n".join(parts).encode()).hexdigest()

"""A download for one client: which records answer it, how to ask the upstream, and what may be kept."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from httpcache import only_if_cached
from httpcache.accept import admits
from httpcache.credentials import Credentials, scope
from httpcache.settings import Settings
from httpcache.store import keys
from httpcache.store.record import Record, decode
from httpcache.store.store import Store
from httpcache.target import Target
from httpcache.upstream.client import Headers, UpstreamClient, UpstreamResponse
from httpcache.upstream.sign_in import is_misplaced

REPRESENTATIONS = 4  # shared ones of a target; a client that accepts none gets one under its own `Accept`
ANY = "*/*"
NOBODY = Credentials()


class Digest(NamedTuple):
    """A digest that an index announced: a `hashlib` algorithm name, and the value in lower-case hex."""

    algorithm: str
    value: str

    def is_of(self, body: bytes) -> bool:
        """Whether the body has this digest."""
        return hashlib.new(self.algorithm, body, usedforsecurity=False).hexdigest() == self.value


@dataclass(frozen=True)
class Expected:
    """What indexes announced about a file: digests, one of which must match, and the size in bytes."""

    digests: tuple[Digest, ...] = ()
    size: int | None = None


@dataclass(frozen=True)
class Want:
    """How a client wants a target.

    `accept` is the request's `Accept`, the only header besides credentials that is sent to the upstream. `admits` tells
    whether a content type ("" if there is none) is acceptable, if that is not decided by `accept`. `agent` is the
    client's product, for upstreams whose response depends on it; it is sent after the mirror's own in `User-Agent`.
    `source` fetches the target with the given credentials, if a GET of its URL is not enough. `expect` finds out what
    an index announced; called only before a fetch. `verify` checks the bytes (a draft of the record, the file) before
    they are frozen, and raises BadUpstream to reject them; `on_frozen` is called with the record afterwards. `is_same`
    tells whether the body of a response is a newer version of what is frozen, so that a client that gets one may read
    the other. `freeze_absence`: freeze a 404 or 410 too, such as a registry's "no such project". `skip_remembered`:
    ask the upstream even if it has just answered that the target does not exist. `may_redirect`: the client wants the
    body, and can be sent elsewhere for it.
    """

    accept: str = ANY
    admits: Callable[[str], bool] | None = None
    credentials: Credentials = NOBODY
    agent: str = ""
    source: Callable[[Credentials], AbstractAsyncContextManager[UpstreamResponse]] | None = None
    expect: Callable[[], Awaitable[Expected]] | None = None
    verify: Callable[[Record, Path], Awaitable[None]] | None = None
    on_frozen: Callable[[Record], Awaitable[None]] | None = None
    is_same: Callable[[Record, UpstreamResponse, bytes], Awaitable[bool]] | None = None
    freeze_absence: bool = False
    skip_remembered: bool = False
    may_redirect: bool = False


class Download:
    """A target as one client wants it, and what is needed to freeze it.

    `is_sound` tells whether a record's bytes are undamaged. `secret` is the key of the scopes, kept in the store.
    """

    def __init__(
        self,
        target: Target,
        want: Want,
        store: Store,
        upstream: UpstreamClient,
        settings: Settings,
        secret: bytes,
        is_sound: Callable[[Record], Awaitable[bool]],
    ) -> None:
        self.target = target
        self.want = want
        self._store = store
        self._upstream = upstream
        self._settings = settings
        self.limit = settings.max_file  # bytes
        self._secret = secret
        self._is_sound = is_sound
        self.accept = ",".join(part.strip() for part in want.accept.lower().split(",")) or ANY
        self._everything = scope(secret, target.origin, want.credentials.levels[-1])
        self.key = _hash(target.key, self.accept, self._everything)

    def absence_key(self, sent: Headers) -> str:
        """Return the key of a frozen absence, which applies only to requests with the same credentials."""
        return absence_key(self.target.key, scope(self._secret, self.target.origin, sent))

    def scopes(self) -> frozenset[str]:
        return self.want.credentials.scopes(self._secret, self.target.origin)

    def sent_scope(self, answer: UpstreamResponse) -> str:
        """Return the scope of the credentials that a response was requested with."""
        return scope(self._secret, self.target.origin, answer.sent)

    def scope(self, answer: UpstreamResponse) -> str:
        """Return the scope of a response's content; derived content has the scope of its source."""
        return self.sent_scope(answer) if answer.scope is None else answer.scope

    def place(self, answer: UpstreamResponse) -> str:
        """Return a keyed hash of the URL that a response came from, including its query."""
        return hmac.new(self._secret, f"place\n{answer.url}".encode(), "sha256").hexdigest()

    def grant_key(self, record: Record, scope: str) -> str:
        """Return the key of the grant that lets the credentials of a scope read one private copy."""
        return keys.grant(self.target.key, record.digest, scope)

    async def find(self, key: str) -> Record | None:
        """Return the record under a key if it is frozen and undamaged, or None."""
        entry = await self._entry(key)
        return entry if entry and await self._is_sound(entry) else None

    async def locate(self) -> tuple[str, Record | None]:
        """Return the key and the first record that answers this request, or the key to freeze one under and None.

        What was frozen first answers every client that accepts its type (a server may disregard `Accept`: RFC 9110
        section 12.4.1). Other clients have further representations, of which the first acceptable one answers for ever.
        """
        for key in self._keys():
            entry = await self._entry(key)
            if entry is None or self.answers(entry.varies, entry.headers):
                break
        return key, entry

    def _keys(self) -> Iterator[str]:
        yield keys.record(self.target.key)
        for number in range(1, REPRESENTATIONS):
            yield keys.record(_hash(self.target.key, "representation", str(number)))
        yield keys.record(_hash(self.target.key, "accept", self.accept))

    async def _entry(self, key: str) -> Record | None:
        value = await self._store.get(key)
        entry = decode(value) if value else None
        return entry if isinstance(entry, Record) else None

    def answers(self, varies: str, headers: Mapping[str, str]) -> bool:
        """Whether a response with these headers answers this request; `varies` is from its record."""
        if varies in ("", self.accept):
            return True
        kind = headers.get("content-type", "")
        return self.want.admits(kind) if self.want.admits else admits(self.accept, kind)

    def flight_key(self, record_key: str) -> str:
        """Return the single-flight key: requests for this record with the same key share one download.

        Who wants only what is stored shares none: it waits for no upstream, and fails for nobody else.
        """
        stored = (only_if_cached.DIRECTIVE,) if only_if_cached.is_asked() else ()
        return _hash(record_key, self._everything, *stored)

    def unkept(self, answer: UpstreamResponse) -> str:
        """Return why a response may not be frozen, or "" if it may."""
        if answer.status == 203:
            return "status 203 is not the upstream's own answer"  # RFC 9110 section 15.3.4
        if is_misplaced(answer.requested, answer.url, answer.headers.get("content-type", "")):
            return "HTML from another URL instead of a file"
        if self._settings.respect_no_store:
            cached = {
                part.strip().lower().partition("=")[0] for part in answer.headers.get("cache-control", "").split(",")
            }
            if cached & {"no-store", "private"}:
                return "the upstream forbids storing it"
        return ""

    def send(self, credentials: Credentials | None = None) -> AbstractAsyncContextManager[UpstreamResponse]:
        """Send the request to the upstream, with these credentials or else the client's."""
        credentials = credentials or self.want.credentials
        if self.want.source:
            return self.want.source(credentials)
        accept = (("Accept", self.accept),)
        return self._upstream.ask(self.target.wire, headers=accept, credentials=credentials, agent=self.want.agent)

    def with_accept(self, accept: str) -> Download:
        """Return a copy for a client that sends this `Accept`."""
        want = replace(self.want, accept=accept)
        return Download(self.target, want, self._store, self._upstream, self._settings, self._secret, self._is_sound)


def absence_key(target: str, scope: str) -> str:
    """Return the key of the absence of a target (its key) for who sends credentials of this scope."""
    return keys.record(_hash(target, "absent", scope))


def _hash(*parts: str) -> str:
    return sha256("\n".join(parts).encode()).hexdigest()

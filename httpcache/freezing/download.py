"""A download as one client wants it: which records answer it, how the upstream is asked, what may be kept."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from httpcache.accept import admits
from httpcache.credentials import Credentials, scope
from httpcache.settings import Settings
from httpcache.store import keys
from httpcache.store.base import Store
from httpcache.store.record import Record, decode
from httpcache.target import Target
from httpcache.upstream.client import Headers, UpstreamClient, UpstreamResponse
from httpcache.upstream.sign_in import is_misplaced

REPRESENTATIONS = 4  # of a target, for all: who takes none of these has one under its own `Accept`
ANY = "*/*"
NOBODY = Credentials()


class Digest(NamedTuple):
    """A digest that an index announced: a name that `hashlib` knows, and the value in lower-case hex."""

    algorithm: str
    value: str

    def is_of(self, body: bytes) -> bool:
        """Whether bytes have it."""
        return hashlib.new(self.algorithm, body, usedforsecurity=False).hexdigest() == self.value


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
    `agent` is the product of a client in whose place the upstream is asked, for those that answer others otherwise; it
    stands behind the mirror's own in `User-Agent`. `source` asks for the target with the credentials that it is given,
    where that is not simply a GET of its URL. `expect` finds what an index announced, and is only called when the
    target is about to be fetched. `verify` looks at the bytes (a draft of the record, the file) before they are frozen,
    and raises BadUpstream to refuse them; `on_frozen` is told the record. `is_same` tells whether the body of an answer
    is of the very thing that is frozen and has changed since, so that who gets the one may read the other.
    `freeze_absence`: a 404 or 410 is kept for ever too, as a registry's "no such project" is. `anew`: the upstream is
    asked although it said a moment ago that there is nothing.
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
    anew: bool = False


class Download:
    """A target as one client wants it, and what freezing it takes.

    `is_sound` tells whether a record has its bytes. `secret` is the key of the scopes: the store's own.
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
        """An absence says nothing to those who ask with other credentials."""
        return keys.record(_hash(self.target.key, "absent", scope(self._secret, self.target.origin, sent)))

    def scopes(self) -> frozenset[str]:
        return self.want.credentials.scopes(self._secret, self.target.origin)

    def sent_scope(self, answer: UpstreamResponse) -> str:
        """Return the scope of the credentials that an answer was asked for with."""
        return scope(self._secret, self.target.origin, answer.sent)

    def scope(self, answer: UpstreamResponse) -> str:
        """Return the scope of what an answer brings: what is derived has that of what it is made from."""
        return self.sent_scope(answer) if answer.scope is None else answer.scope

    def place(self, answer: UpstreamResponse) -> str:
        """Return what stands for the address that an answer came from, with its query: a keyed hash."""
        return hmac.new(self._secret, f"place\n{answer.url}".encode(), "sha256").hexdigest()

    def grant_key(self, record: Record, scope: str) -> str:
        """Return the key of the right to read one private copy with the credentials of a scope."""
        return keys.grant(self.target.key, record.digest, scope)

    async def find(self, key: str) -> Record | None:
        """What was frozen already ends a download, unless it is to be mended."""
        entry = await self._entry(key)
        return entry if entry and await self._is_sound(entry) else None

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
        yield keys.record(self.target.key)
        for number in range(1, REPRESENTATIONS):
            yield keys.record(_hash(self.target.key, "representation", str(number)))
        yield keys.record(_hash(self.target.key, "accept", self.accept))

    async def _entry(self, key: str) -> Record | None:
        value = await self._store.get(key)
        entry = decode(value) if value else None
        return entry if isinstance(entry, Record) else None

    def answers(self, varies: str, headers: Mapping[str, str]) -> bool:
        """Whether an answer with these headers is one to this request; `varies` is that of its record."""
        if varies in ("", self.accept):
            return True
        kind = headers.get("content-type", "")
        return self.want.admits(kind) if self.want.admits else admits(self.accept, kind)

    def flight_key(self, record_key: str) -> str:
        """Return what those share whose download is one, if it is to be frozen under this key."""
        return _hash(record_key, self._everything)

    def unkept(self, answer: UpstreamResponse) -> str:
        """Return why an answer may not be frozen, nothing where it may."""
        if answer.status == 203:
            return "status 203 is not the upstream's own answer"  # RFC 9110 section 15.3.4
        if is_misplaced(answer.asked, answer.url, answer.headers.get("content-type", "")):
            return "HTML from another address in the place of a file"
        if self._settings.respect_no_store:
            cached = {
                part.strip().lower().partition("=")[0] for part in answer.headers.get("cache-control", "").split(",")
            }
            if cached & {"no-store", "private"}:
                return "the upstream forbids to store it"
        return ""

    def send(self, credentials: Credentials | None = None) -> AbstractAsyncContextManager[UpstreamResponse]:
        """Ask the upstream, with the client's credentials or these."""
        credentials = credentials or self.want.credentials
        if self.want.source:
            return self.want.source(credentials)
        accept = (("Accept", self.accept),)
        return self._upstream.ask(self.target.wire, headers=accept, credentials=credentials, agent=self.want.agent)

    def with_accept(self, accept: str) -> Download:
        """Return the same wish as who sends this `Accept` has it."""
        want = replace(self.want, accept=accept)
        return Download(self.target, want, self._store, self._upstream, self._settings, self._secret, self._is_sound)


def _hash(*parts: str) -> str:
    return sha256("\n".join(parts).encode()).hexdigest()

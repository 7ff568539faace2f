"""The client for upstreams: sends GET requests, follows redirects itself, and maps failures to the mirror's errors."""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from time import perf_counter
from typing import Protocol

import anyio
import httpcore
import httpx

from httpcache import __version__, only_if_cached, trace
from httpcache.credentials import Credentials
from httpcache.errors import BadAddress, BadUpstream, MirrorError, NotStored, Offline, TimedOut, Unreachable, redact
from httpcache.fields import absolute_links, named
from httpcache.metrics import UPSTREAM_BYTES, UPSTREAM_CUT, UPSTREAM_DURATION, UPSTREAM_REQUESTS, Metrics
from httpcache.settings import Settings
from httpcache.target import origin, read_url, resolve

from . import transport
from .limits import Pace, Slots
from .sign_in import challenged_realm, is_page_from_elsewhere

REDIRECTS = frozenset({301, 302, 303, 307, 308})
_USER = re.compile(r"\A((?:https?:)?//)[^/?#\\]*@", re.IGNORECASE)
CONTROL = re.compile(r"[\x00-\x1f\x7f]")  # not allowed in header values (RFC 9110 section 5.5)

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class UpstreamResponse:
    """A response from an upstream, with its body not read yet.

    `url` is the canonical address after redirects, `wire` its spelling as sent, and `requested` the canonical address
    before redirects. `body` yields the bytes as received, without undoing any content coding. `sent` are the credential
    headers that the request began with. `kept` are the headers that are kept because the settings name them, and
    `Link`. `ends_itself`: the body alone tells whether it is complete or was cut off. `scope` is that of the record
    that the response was made from, or None if it came from an upstream. `through` are the addresses between the first
    one and the last, each of which redirected to the next, as sent.
    """

    status: int
    headers: httpx.Headers
    url: str
    body: AsyncIterator[bytes]
    sent: Headers = ()
    wire: str = ""
    kept: dict[str, str] = field(default_factory=dict)
    ends_itself: bool = False
    requested: str = ""
    scope: str | None = None
    through: tuple[str, ...] = ()

    @property
    def base(self) -> str:
        """The base URL of relative links: the address as it was sent."""
        return self.wire or self.url

    @property
    def length(self) -> int | None:
        """The `Content-Length` in bytes (RFC 9110 section 8.6), or None if there is none."""
        text = self.headers.get("content-length", "")
        return int(text) if text.isdecimal() else None

    @property
    def is_delimited(self) -> bool:
        """Whether a complete body can be told from a broken connection (RFC 9112 section 6.3)."""
        return self.ends_itself or "content-length" in self.headers or "transfer-encoding" in self.headers

    async def read(self, limit: int, name: str) -> bytes:
        """Return the whole body. Raises BadUpstream, which calls it `name`, if it is longer than `limit` bytes."""
        body = bytearray()
        async for chunk in self.body:
            body += chunk
            if len(body) > limit:
                raise BadUpstream(f"{name} is longer than {limit} bytes")
        return bytes(body)


def with_body(status: int, headers: dict[str, str], body: bytes, url: str, sent: Headers = ()) -> UpstreamResponse:
    """Return a response with this body, as if an upstream had sent it."""

    async def chunks() -> AsyncIterator[bytes]:
        yield body

    return UpstreamResponse(status, httpx.Headers(headers), url, chunks(), sent)


class Challenges(Protocol):
    """Remembers which origins have asked for credentials; `prefix` is the name of a pin without its date."""

    async def realm(self, url: str, prefix: str) -> str | None:
        """Return the realm that the origin of a URL has asked for, "" if it named none, None if it has not asked."""

    async def note(self, url: str, prefix: str, realm: str) -> None:
        """Remember that the origin of a URL has asked for credentials for this realm."""


class UpstreamClient:
    """Sends requests to upstreams within the limits of the settings.

    `name` identifies this mirror in `CDN-Loop` (RFC 8586). `agent` is a comment for `User-Agent`.
    """

    def __init__(
        self, settings: Settings, challenges: Challenges, name: str, metrics: Metrics, agent: str = ""
    ) -> None:
        self.name = name
        self.metrics = metrics
        self._settings = settings
        self._challenges = challenges
        self._product = f"httpcache/{__version__} {agent}".rstrip()
        self._own_headers = (("User-Agent", self._product), ("Accept-Encoding", "identity"), ("CDN-Loop", name))
        self._guarded = transport.guarded(settings)
        self._trusted = transport.trusted(settings)
        # Separate slots, so that requests to untrusted hosts cannot keep the operator's registry waiting.
        self._guarded_slots = Slots(settings.max_connections, settings.max_connections_per_origin)
        self._trusted_slots = Slots(settings.max_connections, settings.max_connections)
        self._timeout = {
            "connect": settings.connect_timeout,
            "read": settings.stall_timeout,
            "write": settings.stall_timeout,
            "pool": settings.stall_timeout,
        }

    @property
    def is_crowded(self) -> bool:
        """Whether all connections to the operator's upstreams are in use."""
        return self._trusted_slots.are_taken

    async def aclose(self) -> None:
        """Close every connection."""
        await self._guarded.aclose()
        await self._trusted.aclose()

    @asynccontextmanager
    async def ask(
        self,
        url: str,
        *,
        headers: Headers = (),
        credentials: Credentials | None = None,
        agent: str = "",
        trusted: bool = False,
    ) -> AsyncIterator[UpstreamResponse]:
        """Send a GET, follow redirects, and yield the response, whatever its status.

        `url` and each `Location` are sent exactly as spelled. `headers` are sent unchanged, replacing the mirror's own
        of the same name; `agent` is a product that follows the mirror's own in `User-Agent`. `credentials` are tried in
        turn (Basic only after a challenge, unless it is known to be for this origin) and sent only to the origin of
        `url`. `trusted` addresses come from the operator or one of the operator's upstreams, and are exempt from the
        SSRF guard. Raises NotStored, Offline, Refused, Unreachable, TimedOut, Busy, BadUpstream.
        """
        if only_if_cached.is_asked():
            raise NotStored(f"no frozen copy of {redact(url)} is available to you, and {only_if_cached.reason()}")
        if self._settings.offline:
            raise Offline(f"no frozen copy of {redact(url)} is available to you, and this mirror is offline")
        credentials = credentials or Credentials()
        agents = (("User-Agent", f"{self._product} {agent}"),) if agent else ()
        pace = Pace(self._settings.deadline, self._settings.stall_timeout, self._settings.min_rate)
        for number, level in enumerate(credentials.levels, 1):
            async with self._follow(url, (*agents, *headers), level, trusted, pace) as answer:
                challenged = await self._is_challenge(answer, credentials)
                if number == len(credentials.levels) or not challenged:
                    yield answer
                    return

    async def settled(self, url: str, credentials: Credentials) -> Headers:
        """Return the credential headers with which a 404 for `url` is final: without Basic if it would not be tried."""
        return credentials.levels[-1 if await self._answers_404(url, credentials) else 0]

    async def realm(self, url: str, prefix: str) -> str | None:
        """Return the realm that the origin of a URL has asked for; see Challenges."""
        return await self._challenges.realm(url, prefix)

    async def _answers_404(self, url: str, credentials: Credentials) -> bool:
        if len(credentials.levels) == 1:
            return False
        return await self._challenges.realm(url, credentials.prefix) is not None

    async def _is_challenge(self, answer: UpstreamResponse, credentials: Credentials) -> bool:
        """Return whether a response asks for a login.

        Besides 401 and 403, that is what sites show to anonymous users: another server's page (203), or HTML from
        another address. A 404 counts if its origin has asked for credentials under this pin before.
        """
        if answer.status == 401 and any(credentials.levels):
            realm = challenged_realm(answer.headers.get("www-authenticate", ""))
            await self._challenges.note(answer.requested, credentials.prefix, realm or "")
        if answer.status == 404:
            return await self._answers_404(answer.requested, credentials)
        kind = answer.headers.get("content-type", "")
        return answer.status in (401, 403, 203) or is_page_from_elsewhere(answer.requested, answer.url, kind)

    @asynccontextmanager
    async def _follow(
        self, url: str, headers: Headers, level: Headers, trusted: bool, pace: Pace
    ) -> AsyncIterator[UpstreamResponse]:
        here, sent = url, level
        visited: set[tuple[str, Headers]] = set()
        asked: list[str] = []
        kept: dict[str, str] = {}  # model hubs describe the file in the headers of a redirect
        for _ in range(self._settings.max_redirects + 1):
            visited.add((here, sent))
            asked.append(here)
            async with self._get(here, (*headers, *sent), trusted, pace) as response:
                kept |= named(response.headers, self._settings.keep_headers)
                location = response.headers.get("location")
                if response.status_code not in REDIRECTS or location is None:
                    body = self._body(response, here, pace)
                    kept |= _links(response.headers, here)
                    first = read_url(url).url
                    final = first if here == url else read_url(here).url
                    yield UpstreamResponse(
                        response.status_code, response.headers, final, body, level, here, kept, requested=first,
                        through=tuple(asked[1:-1]),
                    )  # fmt: skip
                    return
                here = _redirected(here, location)
            if origin(here) != origin(url):
                sent = ()  # not restored later: another origin must not choose where credentials are sent
            if (here, sent) in visited:
                raise BadUpstream(f"{redact(url)} redirects in a loop, through {redact(here)}")
        raise BadUpstream(f"{redact(url)} redirects more than {self._settings.max_redirects} times (--max-redirects)")

    @asynccontextmanager
    async def _get(self, url: str, headers: Headers, trusted: bool, pace: Pace) -> AsyncIterator[httpx.Response]:
        slots = self._trusted_slots if trusted else self._guarded_slots
        async with slots.turn(origin(url)):
            with self._counted(url), trace.to_upstream(url) as parent, _mapped(url):
                response = await pace.wait(lambda: self._sent(url, headers, trusted, parent))
            self.metrics.count(UPSTREAM_REQUESTS, self.metrics.origin(origin(url)), f"{response.status_code // 100}xx")
            try:
                self._check_head(response, url)
                yield response
            finally:
                with anyio.CancelScope(shield=True):
                    await response.aclose()

    @contextmanager
    def _counted(self, url: str) -> Iterator[None]:
        """Count a request that gets no answer, and the time until the answer of any other."""
        name, began = self.metrics.origin(origin(url)), perf_counter()
        try:
            yield
        except MirrorError as error:
            self.metrics.count(UPSTREAM_REQUESTS, name, type(error).__name__)
            raise
        self.metrics.time(UPSTREAM_DURATION, name, seconds=perf_counter() - began)

    async def _sent(self, url: str, headers: Headers, trusted: bool, parent: str) -> httpx.Response:
        """Send a request, and retry once if the connection broke before the response, as idle connections do.

        A GET is idempotent, so RFC 9110 section 9.2.2 allows the retry.
        """
        replaced = {name.lower() for name, _ in headers}
        all_own = (*self._own_headers, (trace.PARENT, parent)) if parent else self._own_headers
        own = ((name, value) for name, value in all_own if name.lower() not in replaced)
        request = httpx.Request(
            "GET",
            _server(origin(url)),
            headers=[(name.encode("ascii"), value.encode("latin-1")) for name, value in (*own, *headers)],
            extensions={"timeout": self._timeout, transport.TARGET: url[len(origin(url)) :].encode("ascii")},
        )
        use = self._trusted if trusted else self._guarded
        try:
            return await use.handle_async_request(request)
        except (httpcore.RemoteProtocolError, httpcore.ReadError, httpcore.WriteError):
            return await use.handle_async_request(request)

    async def _body(self, response: httpx.Response, url: str, pace: Pace) -> AsyncIterator[bytes]:
        chunks, name = response.aiter_raw(), self.metrics.origin(origin(url))
        try:
            with _mapped(url):
                while chunk := await pace.wait(lambda: anext(chunks, b"")):
                    pace.count(len(chunk))
                    self.metrics.count(UPSTREAM_BYTES, name, by=len(chunk))
                    yield chunk
        except MirrorError as error:
            self.metrics.count(UPSTREAM_CUT, name, type(error).__name__)
            raise

    def _check_head(self, response: httpx.Response, url: str) -> None:
        size = sum(len(name) + len(value) for name, value in response.headers.raw)
        if size > self._settings.max_header:
            raise BadUpstream(
                f"{redact(url)} answered with more than {self._settings.max_header} bytes of headers (--max-header)"
            )


@lru_cache(maxsize=1000)
def _server(origin: str) -> httpx.URL:
    """Parse an origin once: that takes httpx as long as all else that it does for a request."""
    return httpx.URL(origin)


def _redirected(here: str, location: str) -> str:
    """Return the URL that a `Location` leads to, spelled as it was, with non-ASCII bytes percent-encoded.

    Userinfo in it is dropped: an upstream must not choose which credentials are sent. Raises BadUpstream.
    """
    try:
        if CONTROL.search(location):
            raise BadAddress("it contains a control character")
        reference = _USER.sub(r"\1", location.encode("latin-1").decode("utf-8", "surrogateescape"))
        found = resolve(here, reference).wire
        _server(origin(found))
        return found
    except (BadAddress, httpx.InvalidURL) as error:
        raise BadUpstream(f"{redact(here)} redirects to an address that cannot be followed") from error


def _links(headers: httpx.Headers, here: str) -> dict[str, str]:
    links = absolute_links(headers["link"], here) if "link" in headers else ""
    return {"link": links} if links else {}


@contextmanager
def _mapped(url: str) -> Iterator[None]:
    """Raise the mirror's own error for any error of the HTTP client; this is the only place that does so."""
    shown = redact(url)
    try:
        yield
    except (httpcore.TimeoutException, httpx.TimeoutException) as error:
        raise TimedOut(f"{shown} was too slow: {_cause(error)}") from error
    except TimedOut as error:
        raise TimedOut(f"{shown} was too slow: {error.text}") from error
    except (httpcore.NetworkError, httpx.NetworkError, ssl.SSLError, OSError) as error:
        raise Unreachable(f"{shown} cannot be reached: {_cause(error)}") from error
    except (httpcore.ProtocolError, httpx.ProtocolError, httpx.StreamError) as error:
        raise BadUpstream(f"{shown} closed the connection early or does not speak HTTP: {_cause(error)}") from error
    except (httpx.InvalidURL, UnicodeError) as error:  # a host that begins with xn-- but is not a valid name (RFC 5891)
        raise BadAddress(f"{shown[:200]} is not a URL that can be requested: {_cause(error)}") from error
    except (httpcore.UnsupportedProtocol, httpcore.ProxyError, httpcore.ConnectionNotAvailable) as error:
        raise Unreachable(f"{shown} cannot be requested: {_cause(error)}") from error


def _cause(error: Exception) -> str:
    return str(error) or type(error).__name__

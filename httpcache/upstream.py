"""Asks upstreams: one GET at a time, redirects by hand, every failure mapped to the mirror's errors here.

There is no client object: httpx's would keep cookies between requests, follow redirects with credentials and read the
environment. A transport, a request and a response are all that is needed.
"""

from __future__ import annotations

import ssl
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import anyio
import httpcore
import httpx

from .credentials import Credentials
from .errors import BadAddress, BadUpstream, Offline, TimedOut, Unreachable, redact
from .guard import Guard, GuardedBackend
from .target import canonical_url, origin

OUR_HEADERS = (("User-Agent", "httpcache/0.1"), ("Accept-Encoding", "identity"))
REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAX_REDIRECTS = 10
TIMEOUT = {"connect": 10.0, "read": 60.0, "write": 30.0, "pool": 60.0}  # seconds
MAX_CONNECTIONS = 200
MAX_IDLE_CONNECTIONS = 32
IDLE_SECONDS = 30.0
MAX_CHALLENGED = 10_000  # origins of which it is remembered that they have asked for credentials

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Answer:
    """What an upstream answered, its body still to be read.

    `url` is the address after redirects; `body` yields the bytes as they came, no content coding undone.
    `sent` are the credential headers that the address was asked with.
    """

    status: int
    headers: httpx.Headers
    url: str
    body: AsyncIterator[bytes]
    sent: Headers = ()

    @property
    def length(self) -> int | None:
        """The announced length of the body in bytes (RFC 9110 section 8.6), None where none was announced."""
        text = self.headers.get("content-length", "")
        return int(text) if text.isdecimal() else None


class Upstream:
    """The connections to upstreams: guarded ones for addresses from requests, trusted ones for the operator's own."""

    def __init__(self, guard: Guard, *, offline: bool = False, tls: ssl.SSLContext | None = None) -> None:
        self._offline = offline
        tls = tls or ssl.create_default_context()
        plain = httpcore.AnyIOBackend()
        self._guarded = _Transport(_pool(tls, GuardedBackend(guard, plain)))
        self._trusted = _Transport(_pool(tls, plain))
        self._challenged: OrderedDict[str, None] = OrderedDict()

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
        trusted: bool = False,
    ) -> AsyncIterator[Answer]:
        """Send a GET and give its answer, whatever its status, redirects followed.

        `headers` are sent as they are. `credentials` are tried in turn (Basic only after a 401 or 403, or after a 404
        of an origin that has challenged before) and go to the origin of `url` alone. `trusted` addresses come from
        the operator or from an upstream of the operator's, and pass the guard.
        Raises Offline, Refused, Unreachable, TimedOut, BadUpstream.
        """
        if self._offline:
            raise Offline(f"{redact(url)} is not frozen here for you, and this mirror is offline")
        credentials = credentials or Credentials()
        for number, level in enumerate(credentials.levels, 1):
            async with self._follow(url, headers, level, trusted) as answer:
                challenged = self._is_challenge(url, answer.status)
                if number == len(credentials.levels) or not challenged:
                    yield answer
                    return

    def settled(self, url: str, credentials: Credentials) -> Headers:
        """Return the credential headers with which a 404 for `url` is final: without Basic where it is never tried."""
        return credentials.levels[-1 if origin(url) in self._challenged else 0]

    def _is_challenge(self, url: str, status: int) -> bool:
        if status == 401:
            self._challenged[origin(url)] = None
            while len(self._challenged) > MAX_CHALLENGED:
                self._challenged.popitem(last=False)
        return status in (401, 403) or (status == 404 and origin(url) in self._challenged)

    @asynccontextmanager
    async def _follow(self, url: str, headers: Headers, level: Headers, trusted: bool) -> AsyncIterator[Answer]:
        here, sent = url, level
        for _ in range(MAX_REDIRECTS + 1):
            async with self._get(here, (*headers, *sent), trusted) as response:
                location = response.headers.get("location")
                if response.status_code not in REDIRECTS or location is None:
                    yield Answer(response.status_code, response.headers, here, _body(response, here), level)
                    return
                here = _redirected(here, location)
            if origin(here) != origin(url):
                sent = ()  # for good: an origin that was passed through must not choose where they go
        raise BadUpstream(f"{redact(url)} redirects more than {MAX_REDIRECTS} times")

    @asynccontextmanager
    async def _get(self, url: str, headers: Headers, trusted: bool) -> AsyncIterator[httpx.Response]:
        transport = self._trusted if trusted else self._guarded
        with _mapped(url):
            request = httpx.Request(
                "GET",
                url,
                headers=[(name.encode("ascii"), value.encode("latin-1")) for name, value in (*OUR_HEADERS, *headers)],
                extensions={"timeout": TIMEOUT, "target": _request_target(url)},
            )
            response = await transport.handle_async_request(request)
        try:
            yield response
        finally:
            with anyio.CancelScope(shield=True):
                await response.aclose()


class _Transport(httpx.AsyncBaseTransport):
    """A transport of httpx over a connection pool of httpcore that has our network backend."""

    def __init__(self, pool: httpcore.AsyncConnectionPool) -> None:
        self._pool = pool

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        response = await self._pool.handle_async_request(
            httpcore.Request(
                request.method,
                httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                headers=request.headers.raw,
                extensions=request.extensions,
            )
        )
        return httpx.Response(
            response.status,
            headers=response.headers,
            stream=_Stream(response),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        await self._pool.aclose()


class _Stream(httpx.AsyncByteStream):
    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._response.aiter_stream():
            yield chunk

    async def aclose(self) -> None:
        await self._response.aclose()


def _pool(tls: ssl.SSLContext, backend: httpcore.AsyncNetworkBackend) -> httpcore.AsyncConnectionPool:
    return httpcore.AsyncConnectionPool(
        ssl_context=tls,
        max_connections=MAX_CONNECTIONS,
        max_keepalive_connections=MAX_IDLE_CONNECTIONS,
        keepalive_expiry=IDLE_SECONDS,
        retries=1,
        network_backend=backend,
    )


def _request_target(url: str) -> bytes:
    """Return path and query as our canonical form has them: httpx would quote them its own way."""
    return url[len(origin(url)) :].encode("ascii")


def _redirected(here: str, location: str) -> str:
    try:
        url = httpx.URL(here).join(location)
        path, _, query = url.raw_path.decode("ascii").partition("?")
        return canonical_url(f"{url.scheme}://{url.netloc.decode('ascii')}{path}", query)
    except Exception as error:
        raise BadUpstream(f"{redact(here)} redirects to an address that cannot be followed") from error


async def _body(response: httpx.Response, url: str) -> AsyncIterator[bytes]:
    with _mapped(url):
        async for chunk in response.aiter_raw():
            yield chunk


@contextmanager
def _mapped(url: str) -> Iterator[None]:
    """Turn every error of the HTTP client into one of the mirror's: the only place where that is done."""
    shown = redact(url)
    try:
        yield
    except (httpcore.TimeoutException, httpx.TimeoutException) as error:
        raise TimedOut(f"{shown} was too slow: {_cause(error)}") from error
    except (httpcore.NetworkError, httpx.NetworkError, ssl.SSLError, OSError) as error:
        raise Unreachable(f"{shown} cannot be reached: {_cause(error)}") from error
    except (httpcore.ProtocolError, httpx.ProtocolError, httpx.StreamError) as error:
        raise BadUpstream(f"{shown} broke off or does not speak HTTP: {_cause(error)}") from error
    except httpx.InvalidURL as error:
        raise BadAddress(f"{shown[:200]} is no address that can be asked: {_cause(error)}") from error
    except (httpcore.UnsupportedProtocol, httpcore.ProxyError, httpcore.ConnectionNotAvailable) as error:
        raise Unreachable(f"{shown} cannot be asked: {_cause(error)}") from error


def _cause(error: Exception) -> str:
    return str(error) or type(error).__name__

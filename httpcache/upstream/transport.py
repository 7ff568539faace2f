"""Connections to upstreams: guarded for URLs from requests, unguarded for the operator's own; through a proxy if set.

Does not use httpx.AsyncClient, which would keep cookies between requests, follow redirects with credentials and read
the environment. A transport, a request and a response are all that is needed.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any
from urllib.parse import unquote

import httpcore
import httpx

from httpcache.errors import BadAddress
from httpcache.settings import Settings
from httpcache.target import DEFAULT_PORTS

from .bulk import Body
from .guard import Guard, GuardedBackend
from .network_backend import IN_HEAD, SocketBackend

IDLE_SECONDS = 30.0
CHECK_INTERVAL = 1.0  # seconds between two checks of an idle connection
TARGET = "httpcache.target"  # request extension: the path and query as sent on the wire


class Transport(httpx.AsyncBaseTransport):
    """An httpx transport over an httpcore connection pool with our network backend.

    `guard` checks the host when the pool cannot, because a proxy makes the connection.
    """

    def __init__(self, pool: httpcore.AsyncConnectionPool, guard: Guard | None = None) -> None:
        self._pool = pool
        self._guard = guard

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request. Raises Refused, and httpcore's exceptions."""
        url = request.url
        if self._guard:
            await self._guard.check_name(url.host, url.port or DEFAULT_PORTS[url.scheme])
        inner = httpcore.Request(
            request.method,
            # httpx would percent-encode the target in its own way
            httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=request.extensions[TARGET]),
            headers=request.headers.raw,
            extensions={"timeout": request.extensions["timeout"]},
        )
        token = IN_HEAD.set(True)
        try:
            response = await self._pool.handle_async_request(inner)
        finally:
            IN_HEAD.reset(token)
        answer = httpx.Response(
            response.status, headers=response.headers, stream=_Stream(response), extensions=response.extensions
        )
        answer.headers.encoding = "latin-1"  # non-ASCII bytes are opaque (RFC 9110 section 5.5): keep them
        return answer

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pool.aclose()


class _Stream(httpx.AsyncByteStream):
    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._response.aiter_stream():
            yield chunk

    async def aclose(self) -> None:
        await self._response.aclose()


def guarded(settings: Settings) -> Transport:
    """Return the transport for URLs from requests."""
    guard = Guard(settings.allow_networks, settings.allow_ports)
    if settings.proxy:
        return Transport(_pool(settings, SocketBackend()), guard)
    return Transport(_pool(settings, GuardedBackend(guard, SocketBackend())))


def trusted(settings: Settings) -> Transport:
    """Return the transport for the operator's own URLs."""
    return Transport(_pool(settings, SocketBackend()))


class _Assigning(httpcore.AsyncConnectionPool):
    """A pool that looks at each connection once for each request, and lets any number of idle ones wait.

    For each idle connection, httpcore asks all connections whether they are idle, and once there are more than may wait
    idle, it closes each that becomes so: with 50 requests at once, most of the time went into that and TLS handshakes.
    """

    def _assign_requests_to_connections(self) -> list[httpcore.AsyncConnectionInterface]:
        """Give connections to waiting requests; return those to close."""
        self._connections[:] = [each for each in self._connections if not each.is_closed()]
        closing = [each for each in self._connections if each.has_expired()]
        self._connections[:] = [each for each in self._connections if each not in closing]
        for waiting in self._requests:
            if not waiting.is_queued():
                continue
            origin = waiting.request.url.origin
            free = next(
                (each for each in self._connections if each.can_handle_request(origin) and each.is_available()), None
            )
            if free is None and len(self._connections) >= self._max_connections:
                idle = next((each for each in self._connections if each.is_idle()), None)
                if idle is None:
                    continue
                self._connections.remove(idle)
                closing.append(idle)
            if free is None:
                free = self.create_connection(origin)
                self._connections.append(free)
            waiting.assign_to_connection(free)
        return closing


class _Pool(_Assigning):
    def create_connection(self, origin: httpcore.Origin) -> httpcore.AsyncConnectionInterface:
        return _Connection(super().create_connection(origin))


class _ProxyPool(_Assigning, httpcore.AsyncHTTPProxy):
    def create_connection(self, origin: httpcore.Origin) -> httpcore.AsyncConnectionInterface:
        return _Connection(super().create_connection(origin))


class _Connection(httpcore.AsyncConnectionInterface):
    """A connection that reads large bodies fast (see `bulk`), and is not reused if extra bytes followed a response.

    These would be taken for the response to the next request (RFC 9112 section 9.2), and frozen under its URL. httpcore
    only notices those that are still in the socket.

    For each request, the pool asks every connection twice whether it has expired, and httpcore checks the socket each
    time. Here, that is done once per second, and for the connection that is about to be used.
    """

    def __init__(self, inner: httpcore.AsyncConnectionInterface) -> None:
        self._inner = inner
        self._checked = 0.0

    def has_expired(self) -> bool:
        now = time.monotonic()
        if now < self._checked + CHECK_INTERVAL:
            return False
        self._checked = now
        return self._is_spent()

    def _is_spent(self) -> bool:
        return self._inner.has_expired() or (self._inner.is_idle() and self._has_leftover())

    def _has_leftover(self) -> bool:
        connection = self._http11()
        return connection is not None and bool(connection._h11_state.trailing_data[0])

    def _http11(self) -> httpcore.AsyncHTTP11Connection | None:
        """Return the connection itself, inside those that connect first; None while it is not connected."""
        inner: Any = self._inner
        while hasattr(inner, "_connection"):
            inner = inner._connection
        return inner  # type: ignore[no-any-return]

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:
        if self._inner.is_idle() and self._is_spent():
            await self._inner.aclose()
            raise httpcore.ConnectionNotAvailable  # makes the pool take another one
        response = await self._inner.handle_async_request(request)
        if connection := self._http11():
            response.stream = Body(response.stream, connection, request.extensions["timeout"]["read"])
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()

    def info(self) -> str:
        return self._inner.info()

    def can_handle_request(self, origin: httpcore.Origin) -> bool:
        return self._inner.can_handle_request(origin)

    def is_available(self) -> bool:
        return self._inner.is_available()

    def is_idle(self) -> bool:
        return self._inner.is_idle()

    def is_closed(self) -> bool:
        return self._inner.is_closed()


def check(settings: Settings) -> None:
    """Check the proxy and the CA bundle before the server starts. Raises BadAddress if one cannot be used."""
    _tls_context(settings)
    if settings.proxy:
        _proxy_address(settings.proxy)


def _pool(settings: Settings, backend: httpcore.AsyncNetworkBackend) -> httpcore.AsyncConnectionPool:
    tls = _tls_context(settings)
    kind: Callable[..., httpcore.AsyncConnectionPool] = _Pool
    if settings.proxy:
        url, auth = _proxy_address(settings.proxy)
        kind = partial(_ProxyPool, url, proxy_auth=auth)
        if url.startswith("https:"):
            kind = partial(kind, proxy_ssl_context=tls)
    return kind(
        ssl_context=tls,
        max_connections=settings.max_connections,
        keepalive_expiry=IDLE_SECONDS,
        retries=1,
        network_backend=backend,
    )


def _tls_context(settings: Settings) -> ssl.SSLContext:
    """Return a TLS context with the system's trust store, or with the CA bundle instead.

    Raises BadAddress if the bundle cannot be read.
    """
    try:
        return ssl.create_default_context(cafile=settings.ca_bundle)
    except OSError as error:  # ssl.SSLError is one
        raise BadAddress(f"--ca-bundle {settings.ca_bundle} cannot be used: {error.strerror or error}") from error


def _proxy_address(text: str) -> tuple[str, tuple[bytes, bytes] | None]:
    """Return a proxy's URL without userinfo, and its user and password. Raises BadAddress, naming no secret."""
    wrong = BadAddress("--proxy is not the URL of an HTTP proxy: use http://[user:password@]host:port")
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        raise wrong from None
    if url.scheme not in ("http", "https") or not url.host or url.path not in ("", "/") or url.query:
        raise wrong
    auth = (unquote(url.username).encode(), unquote(url.password).encode()) if url.userinfo else None
    return str(url.copy_with(userinfo=None)), auth

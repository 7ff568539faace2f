"""The ASGI application: the mirror's own pages, the adapters' addresses, and `/<pin>/<upstream-url>`."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from time import perf_counter
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.requests import Request as StarletteRequest
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from httpcache import logs, only_if_cached, trace
from httpcache.access_keys import IN_ADDRESS
from httpcache.adapter import Adapter, Bound
from httpcache.errors import BadAddress, Loop, MirrorError, names
from httpcache.freezing.mirror import Mirror, Want, running
from httpcache.keys.current import CurrentKeys
from httpcache.keys.rates import Rates
from httpcache.metrics import ERRORS, Metrics
from httpcache.pages.gate import Gate
from httpcache.pages.rendering import STATIC
from httpcache.pages.site import Site
from httpcache.request import Request
from httpcache.settings import Settings
from httpcache.store.opening import opened
from httpcache.store.recorder import Recorder
from httpcache.store.usage import Journal
from httpcache.target import looks_like_url, split_path

from . import endpoints
from .access_log import AccessLog
from .accounting import OWN, PINNED, UNKNOWN, Accounts, Sent
from .cors import Cors
from .door import Door, Guarded, without_key
from .endpoints import PROBES
from .error_log import ErrorLog
from .exposition import Exposition
from .git import SMART, answer_git, is_git
from .labels import MARK, Labels, older_pins
from .merkle import MerkleLog
from .proxies import TrustedProxies
from .response_cache import ResponseCache
from .responses import Cacheable, FrozenResponse, LiveResponse, answer_with, error_response
from .sending import text
from .sharing import Sharing

log = logging.getLogger("httpcache")

LENGTH = len(IN_ADDRESS)
READ_ONLY = "this mirror is read-only: use GET or HEAD"
ADMIN = "httpcache.admin"
"""In the scope of a request that came to the port of the mirror's own pages (`--admin-port`)."""


class Front:
    """Answers every address except the mirror's own pages: each adapter is tried in turn, then the generic mirror."""

    def __init__(self, mirror: Mirror, adapters: Sequence[Bound], accounts: Accounts, labels: Labels) -> None:
        self._mirror = mirror
        self._labels = labels
        self._accounts = accounts
        self._adapters = adapters
        for name in names():  # before the first of each: Prometheus sees no increase from nothing to 1
            mirror.metrics.count(ERRORS, name, by=0)
        self._error_log = ErrorLog()
        self._ready = ResponseCache(mirror.store.generation, mirror.settings.credential_headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        began = perf_counter()
        try:
            if MARK in scope["raw_path"]:
                scope = self._labels.taken_out(scope)
            key = self._ready.key(scope)
            ready = self._ready.find(key) if key else None
            if ready is None:
                generation = self._ready.generation()
                response = await self._answer(scope)
                if key and isinstance(response, Cacheable):
                    ready = await response.ready(scope)
                if key and ready:
                    ready = self._accounts.counted(ready, self._kind(scope))
                    self._ready.keep(key, generation, ready)
                if ready is None:
                    await self._send(response, scope, receive, send, began)
                    return
            await send(ready.start)
            await send(ready.body)
            self._accounts.ready(ready, scope, perf_counter() - began)
        except MirrorError as error:  # raised before the response is made
            await self._send(self._failed(error), scope, receive, send, began)

    async def refuse(self, error: MirrorError, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request with an error."""
        await self._send(self._failed(error), scope, receive, send, perf_counter())

    async def _send(self, response: ASGIApp, scope: Scope, receive: Receive, send: Send, began: float) -> None:
        sent = Sent(send)
        try:
            try:
                await response(scope, receive, sent)
            except MirrorError as error:  # raised before it starts; if a body fails later, the connection breaks
                await self._failed(error)(scope, receive, sent)
        finally:
            self._accounts.made(self._kind(scope), sent, scope, perf_counter() - began, response)

    def _kind(self, scope: Scope) -> str:
        """Return what a request is for, as the metrics tell it."""
        path = scope["raw_path"].decode("utf-8", "surrogateescape")
        for adapter in self._adapters:
            kind = adapter.kind(path)
            if kind:
                return kind
        return PINNED if looks_like_url(split_path(path).rest) else UNKNOWN

    async def _answer(self, scope: Scope) -> ASGIApp:
        if scope["method"] not in ("GET", "HEAD"):
            why = f"{READ_ONLY}. {SMART}" if scope["path"].endswith("/git-upload-pack") else READ_ONLY
            self._error_log.log(405, why)
            return text(405, why, {"allow": "GET, HEAD"})
        request = Request.read(scope, self._mirror.settings)
        trace.begin(request.headers.get(trace.PARENT, ""))
        only_if_cached.begin(scope["headers"], read_only=request.rights.read_only)
        try:
            _check_host(scope)
            self._check_loop(request)
            response = await self._found(request)
            if isinstance(response, FrozenResponse | LiveResponse):
                for adapter in self._adapters:
                    shown = await adapter.shown(request, response.outcome, response.status)
                    if shown is not None:
                        return shown
            return response
        except MirrorError as error:
            return self._failed(error)

    def _failed(self, error: MirrorError) -> ASGIApp:
        self._mirror.metrics.count(ERRORS, type(error).__name__)
        if not error.logged:
            self._error_log.log(error.status, error.text)
        return error_response(error)

    async def _found(self, request: Request) -> ASGIApp:
        if is_git(request):
            return await answer_git(self._mirror, request)
        for adapter in self._adapters:
            response = await adapter.answer(request)
            if response is not None:
                return response
        target = request.target
        credentials = self._mirror.credentials(target, request.credentials)
        outcome = await self._mirror.answer(
            target, Want(request.accept, credentials=credentials, may_redirect=request.is_get)
        )
        return answer_with(self._mirror.store, outcome, pinned=request.pinned, slashed=request.slashed)

    def _check_loop(self, request: Request) -> None:
        """Raise Loop if this mirror's own name is in CDN-Loop: it is requesting from itself (RFC 8586)."""
        names = request.headers.get("cdn-loop", "").split(",")
        if self._mirror.upstream.name in (name.partition(";")[0].strip() for name in names):
            raise Loop("this request came from this mirror itself: the upstream address leads back here")


def _check_host(scope: Scope) -> None:
    """Raise BadAddress unless there is exactly one Host header (RFC 9112 section 3.2).

    The server passes an empty one if the request had none.
    """
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    if scope["http_version"] == "1.1" and (len(hosts) != 1 or not hosts[0]):
        raise BadAddress("the request must have exactly one Host header, and it must name a host")


class RootPath:
    """Strips the root path from every request, once, and answers 404 to any path that is not below it.

    The prefix is compared literally: a path that a proxy in front blocks must not be reachable under another spelling.
    Health probes on the machine itself omit the prefix.
    """

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app = app
        self._root_path = root_path.encode()
        self._elsewhere = text(404, f"this mirror is served below {root_path}/ (--root-path): put that in front")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and scope["raw_path"] not in PROBES:
            prefix, slash, raw = scope["raw_path"].partition(self._root_path + b"/")
            if prefix or not slash:
                await self._elsewhere(scope, receive, send)
                return
            raw = b"/" + raw
            scope = {**scope, "path": unquote(raw), "raw_path": raw}
        await self._app(scope, receive, send)


def _elsewhere(settings: Settings, scope: Scope) -> ASGIApp | None:
    """Return the answer to a request that came to the wrong one of the two ports, None to any other."""
    path = scope["raw_path"]
    if ADMIN in scope:
        is_own = path == b"/" or path.startswith(b"/-/")
        return None if is_own else text(404, "only the mirror's own pages are at this port (--admin-port)")
    is_here = path == b"/" or path in PROBES or path.startswith(STATIC.encode())
    if settings.admin_port is None or is_here:
        return None
    return text(404, "this page is at another port, which the operator has chosen (--admin-port)")


def _traced(app: ASGIApp) -> ASGIApp:
    """Return the application with its requests recorded. Raises MirrorError if what that needs is not installed."""
    try:
        from .telemetry import Traced
    except ImportError as error:
        raise MirrorError(f"--traces needs {error.name}: install 'freezing-mirror[otel]'") from error
    return Traced(app)


def build(
    settings: Settings,
    adapters: Sequence[Adapter],
    over: Callable[[], Awaitable[object]] | None = None,
    sharing: Sharing | None = None,
) -> ASGIApp:
    """Return the application. Nothing is opened until its lifespan starts.

    `over` returns when to stop waiting for unfinished downloads at shutdown (see `mirror.running`). `sharing` has the
    metrics of this process and of the others of the server, None if it is alone.
    """

    shared = sharing or Sharing(Metrics(), None)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        logs.start(settings.log_level, settings.log_format)
        async with AsyncExitStack() as stack:
            store = await stack.enter_async_context(opened(settings.location))
            journal = Journal(store.usage)
            await stack.enter_async_context(journal.running())
            recorder = Recorder(store.builds, settings.keep_builds)
            await stack.enter_async_context(recorder.running())
            mirror = await stack.enter_async_context(
                running(settings, store, store.spool, over=over, metrics=shared.metrics)
            )
            bound = [adapter.bind(mirror) for adapter in adapters]
            app.state.accounts = Accounts(mirror.metrics, journal, recorder)
            labels = Labels([name for each in bound for name in each.indexes], await older_pins(store))
            app.state.front = Front(mirror, bound, app.state.accounts, labels)
            app.state.exposition = Exposition(store, bound, shared)
            gate = Gate(settings)
            app.state.merkle = MerkleLog(store, bound, gate, settings)
            app.state.site = Site(mirror, adapters, bound, gate, shared.all)
            if settings.require_keys:
                rates = stack.enter_context(closing(Rates(shared.folder)))
                app.state.door = Door(CurrentKeys(store), rates, gate.opens)
            app.state.store = store
            yield

    async def front(scope: Scope, receive: Receive, send: Send) -> None:
        await app.state.front(scope, receive, send)

    async def site(scope: Scope, receive: Receive, send: Send) -> None:
        await app.state.site(scope, receive, send)

    takes_off_keys = not settings.require_keys  # then a key in the address does no harm

    async def outermost(scope: Scope, receive: Receive, send: Send) -> None:
        """Route the mirror's own addresses and the lifespan through Starlette; all others bypass it, for speed."""
        if takes_off_keys and scope["type"] == "http" and scope["raw_path"][:LENGTH] == IN_ADDRESS:
            scope, _ = without_key(scope)
        is_own = scope["type"] != "http" or scope["raw_path"] == b"/" or scope["raw_path"].startswith(b"/-/")
        await (own if is_own or ADMIN in scope else front)(scope, receive, send)

    async def own(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        began, sent = perf_counter(), Sent(send)
        try:
            await (_elsewhere(settings, scope) or app)(scope, receive, sent)
        finally:
            app.state.accounts.made(OWN, sent, scope, perf_counter() - began)

    async def measures(request: StarletteRequest) -> Response:
        site, exposition = app.state.site, app.state.exposition
        answer: Response = await site.refused(request) or await exposition(request)
        return answer

    async def merkle(request: StarletteRequest) -> Response:
        answer: Response = await app.state.merkle(request)
        return answer

    app = Starlette(
        routes=[
            Route("/-/health", endpoints.health),
            Route("/-/ready", endpoints.ready),
            Route("/-/metrics", measures),
            Route("/-/log/{path:path}", merkle),
        ],
        lifespan=lifespan,
    )
    app.router.default = site
    app.router.redirect_slashes = False

    async def refuse(error: MirrorError, scope: Scope, receive: Receive, send: Send) -> None:
        await app.state.front.refuse(error, scope, receive, send)

    inner: ASGIApp = Guarded(outermost, lambda: app.state.door, refuse) if settings.require_keys else outermost
    kept_on = settings.root_path and not settings.root_path_stripped
    served: ASGIApp = RootPath(inner, settings.root_path) if kept_on else inner
    if settings.cors:
        served = Cors(served, settings.credential_headers, settings.keep_headers)
    if settings.traces:
        served = _traced(served)
    if settings.access_log:
        served = AccessLog(served)
    return TrustedProxies(served, settings.trusted_proxies)

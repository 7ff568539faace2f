"""The pages as an ASGI application: it finds the page of a path, and sends it, or an error as a page or as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import compile_path
from starlette.types import Receive, Scope, Send

from httpcache.adapter import Adapter, Bound
from httpcache.errors import MirrorError, NotFound
from httpcache.freezing.mirror import Mirror
from httpcache.login import USER
from httpcache.metrics import Snapshot
from httpcache.page import Page, Shown, Visit
from httpcache.request import HOST, ROOT
from httpcache.settings import OFF, Settings

from . import activity, builds, entries, pins
from .gate import CHALLENGE, Gate
from .home import home
from .rendering import STATIC, assets, environment

HEADERS = {
    "cache-control": "private, no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
}


@dataclass(frozen=True)
class _Error:
    status: int
    title: str
    text: str


class Site:
    """The pages at `/` and under `/-/`."""

    def __init__(
        self,
        mirror: Mirror,
        installed: Sequence[Adapter],
        bound: Sequence[Bound],
        gate: Gate,
        numbers: Callable[[], Sequence[Snapshot]],
    ) -> None:
        """`numbers` returns what all processes of the server have counted."""
        self._numbers = numbers
        self._settings = mirror.settings
        self._installed = installed
        self._gate = gate
        self._static = assets()
        packages = {
            name: f"{name}.pages" for name in sorted({page_package(adapter) for adapter in bound if adapter.pages})
        }
        self._templates = environment(self._static, packages)
        own = [*pins.pages(mirror), *entries.pages(mirror, bound), *builds.pages(mirror)]
        pages = (
            []
            if self._settings.pages == OFF
            else [*own, *(page for each in bound for page in each.pages), *activity.pages(mirror)]
        )
        self._templates.globals["links"] = [(page.label, page.route) for page in pages if page.label]
        self._routes = [(compile_path(page.route), page) for page in pages]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope)
        try:
            response = await self._answer(request)
        except MirrorError as error:
            response = self._failed(request, error)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        path = request.scope["path"]
        if request.method not in ("GET", "HEAD"):
            allow = {"allow": "GET, HEAD"}
            return self._error(request, 405, "this mirror is read-only: use GET or HEAD", allow)
        if path.startswith(STATIC):
            return self._asset(request, path.removeprefix(STATIC))
        if path == "/":
            return self._rendered(request, home(self._visit(request, {}), self._installed))
        sees_all = await self._gate.opens(request.headers.get("authorization"))
        if self._gate.is_closed and not sees_all:
            return self._refusal(request)
        found = self._find(path)
        if found:
            page, parts = found
            return self._rendered(request, await page.view(self._visit(request, parts, sees_all=sees_all)))
        if self._find(f"{path}/"):
            where = f"{_root(request, self._settings)}{quote(path)}/"
            query = request.scope["query_string"].decode("latin-1")
            return RedirectResponse(f"{where}?{query}" if query else where, 308, HEADERS)
        raise NotFound("there is no such page: the start page says what there is")

    async def refused(self, request: Request) -> Response | None:
        """Return the answer to who has to log in first, None to anybody else: the metrics have the pages' login."""
        is_open = not self._gate.is_closed or await self._gate.opens(request.headers.get("authorization"))
        return None if is_open else self._refusal(request)

    def _refusal(self, request: Request) -> Response:
        return self._error(request, 401, f"log in as {USER} to see the pages and metrics of this mirror", CHALLENGE)

    def _find(self, path: str) -> tuple[Page, Mapping[str, str]] | None:
        for (pattern, _, _), page in self._routes:
            found = pattern.match(path)
            if found:
                return page, found.groupdict()
        return None

    def _visit(self, request: Request, parts: Mapping[str, str], *, sees_all: bool = False) -> Visit:
        return Visit(own_address(request, self._settings), parts, dict(request.query_params), sees_all, self._numbers)

    def _asset(self, request: Request, name: str) -> Response:
        """Send a static file; its address has its digest, so it may be kept for ever."""
        asset = self._static.get(name)
        if asset is None:
            raise NotFound("there is no such file")
        is_current = request.url.query == asset.digest
        lasting = "public, max-age=31536000, immutable" if is_current else "no-cache"
        return Response(asset.data, headers={**HEADERS, "content-type": asset.media_type, "cache-control": lasting})

    def _rendered(self, request: Request, shown: Shown, headers: Mapping[str, str] | None = None) -> Response:
        template = self._templates.get_template(shown.template)
        address = own_address(request, self._settings)
        root = _root(request, self._settings)
        body = template.render(page=shown.page, path=request.scope["path"], address=address, root=root)
        return HTMLResponse(body, shown.status, {**HEADERS, **(headers or {})})

    def _failed(self, request: Request, error: MirrorError) -> Response:
        return self._error(request, error.status, error.text, error.headers)

    def _error(self, request: Request, status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
        """Return an error as a page to a browser, as text to anybody else."""
        if "text/html" not in request.headers.get("accept", ""):
            return PlainTextResponse(f"{text}\n", status, {**HEADERS, **(headers or {})})
        error = _Error(status, HTTPStatus(status).phrase, text)
        return self._rendered(request, Shown("error.html", error, status), headers)


def page_package(adapter: Bound) -> str:
    """Return the package of an adapter, whose room `pages` has its templates."""
    return type(adapter).__module__.partition(".")[0]


def own_address(request: Request, settings: Settings) -> str:
    """Return the mirror's address as this client has it; a `Host` that is none does not count."""
    host = request.headers.get("host", "")
    if not HOST.fullmatch(host):
        host = f"{settings.host}:{settings.port}"
    return f"{request.scope['scheme']}://{host}{_root(request, settings)}"


def _root(request: Request, settings: Settings) -> str:
    """Return what stands in front of every path: the root path, and the access key if the address has one."""
    root: str = settings.root_path + request.scope.get(ROOT, "")
    return root

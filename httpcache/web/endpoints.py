"""The mirror's own pages: usage instructions, and the health and readiness checks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from html import escape

import anyio
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from httpcache.adapter import Adapter, today, usage
from httpcache.errors import MirrorError
from httpcache.request import HOST
from httpcache.settings import Settings
from httpcache.store import keys

READY_SECONDS = 2.0
"""Seconds for the store to answer; load balancers do not wait long for a readiness check."""

_HEADERS = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
}


def home(settings: Settings, adapters: Sequence[Adapter]) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint for `/`: usage instructions that contain the mirror's own address."""

    async def page(request: Request) -> Response:
        host = request.headers.get("host", "")
        if not HOST.fullmatch(host):
            host = f"{settings.host}:{settings.port}"
        scheme = "https" if request.headers.get("x-forwarded-proto") == "https" else request.url.scheme
        address = f"{scheme}://{host}{settings.root_path}"
        rows = "\n".join(
            f"<dt>{escape(title)}</dt><dd><pre>{escape(line)}</pre></dd>"
            for title, line in usage(address, adapters, today())
        )
        return HTMLResponse(_PAGE.format(rows=rows, date=today()), headers=_HEADERS)

    return page


async def health(request: Request) -> Response:
    """Answer 200 whenever the process is running."""
    return PlainTextResponse("ok\n", headers=_HEADERS)


async def ready(request: Request) -> Response:
    """Answer 200 if the store can be read, 503 otherwise."""
    try:
        with anyio.fail_after(READY_SECONDS):
            await request.app.state.store.get(keys.SECRET)
    except TimeoutError:
        text = f"the store has not answered within {READY_SECONDS:.0f} seconds\n"
        return PlainTextResponse(text, 503, headers=_HEADERS)
    except MirrorError as error:
        return PlainTextResponse(error.text + "\n", 503, headers=_HEADERS)
    return PlainTextResponse("ready\n", headers=_HEADERS)


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>httpcache: a mirror that makes builds repeatable</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem }}
pre {{ background: #8881; padding: .5rem .75rem; overflow-x: auto }} dd {{ margin: 0 }} dt {{ font-weight: 600 }}
</style>
</head>
<body>
<h1>This mirror makes builds repeatable</h1>
<p>Whatever it has answered once under a date or a pin, it answers for ever: the same bytes, even if the upstream
changes them.</p>
<dl>
{rows}
</dl>
<p>A date means 00:00:00 UTC of that day, so the newest date you can use is today's ({date}).
Under a pin, <code>/&lt;name&gt;-&lt;date&gt;/&lt;URL&gt;</code>, the first request freezes what the upstream sends.
The <code>Cache-Status</code> header of each response says what the mirror did.</p>
</body>
</html>
"""

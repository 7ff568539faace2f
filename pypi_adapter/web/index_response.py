"""Makes responses of index pages: content negotiation, links to the mirror, and cache headers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import anyio.to_thread
from starlette.types import ASGIApp

from httpcache.errors import NotAcceptable
from httpcache.store.usage import Subject
from httpcache.web.content_coding import Body
from httpcache.web.responses import BytesResponse
from pypi_adapter.simple.html_page import to_html
from pypi_adapter.simple.json_page import to_json
from pypi_adapter.simple.model import File, Page, ProjectList, map_files
from pypi_adapter.simple.negotiation import MediaType, choose

# A page of links: nothing on it may run, but the linked files may be downloaded.
PAGE_POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox allow-downloads"


async def index_response(
    names: ProjectList,
    accept: str,
    *,
    prefix: str,
    cache_control: str,
    cache_status: str,
    subject: Subject,
    lasting: bool,
) -> ASGIApp:
    """Return a project list as a response in the media type that `accept` prefers (PEP 691).

    `prefix` is the address of the index. For `subject` and `lasting` see BytesResponse. Raises NotAcceptable.
    """
    media_type = chosen(accept)
    body = await rendered(names, media_type, lambda file: file, prefix)
    return page_response(media_type, body, cache_control, cache_status, subject=subject, lasting=lasting)


async def rendered(
    page: Page | ProjectList,
    media_type: MediaType,
    link: Callable[[File], File | None],
    prefix: str,
    others: Sequence[str] = (),
) -> Body:
    """Render a page in a media type.

    `link` returns a file with the address at which the mirror serves it, or None to leave it out. `prefix` is the
    address of the index, for the links of a project list. For `others` see `to_html`.
    """
    return Body(await anyio.to_thread.run_sync(_render, page, media_type, link, prefix, others))


def chosen(accept: str) -> MediaType:
    """Return the media type that `accept` prefers. Raises NotAcceptable."""
    media_type = choose(accept)
    if media_type is None:
        raise NotAcceptable(
            f"this page is available as {', '.join(MediaType)}: send an Accept header that allows one of them "
            "(content negotiation)"
        )
    return media_type


def page_response(
    media_type: MediaType,
    body: Body,
    cache_control: str,
    cache_status: str,
    *,
    subject: Subject | None,
    lasting: bool,
) -> BytesResponse:
    """Return a rendered page as a response. For `subject` and `lasting` see BytesResponse."""
    content_type = media_type.value if media_type is MediaType.JSON else f"{media_type.value}; charset=utf-8"
    headers = {"vary": "Accept, Accept-Encoding", "cache-status": cache_status, "content-security-policy": PAGE_POLICY}
    return BytesResponse(body, content_type, cache_control, headers, subject=subject, lasting=lasting)


def _render(
    page: Page | ProjectList,
    media_type: MediaType,
    link: Callable[[File], File | None],
    prefix: str,
    others: Sequence[str],
) -> bytes:
    if isinstance(page, Page):
        page = map_files(page, link)
    return to_json(page) if media_type is MediaType.JSON else to_html(page, prefix, others)

"""An index page in either of its forms: which one it is, and read. Pure."""

from __future__ import annotations

import codecs

from .html_page import parse_html
from .json_page import parse_json
from .page import BadPage, Page, ProjectList


def parse(body: bytes, content_type: str | None, url: str) -> Page | ProjectList:
    """Read an index page.

    The first byte that is no space tells JSON from HTML, for many registries send a wrong content type; the
    content type decides where that byte tells nothing. `url` is the address that the body came from, after
    redirects: links are relative to it. Left out are links other than http and https, and files whose name
    could leave a folder. Raises `BadPage`.
    """
    body = body.removeprefix(codecs.BOM_UTF8)
    if _is_json(body, content_type or ""):
        return parse_json(body, url)
    return parse_html(body, content_type or "", url)


def _is_json(body: bytes, content_type: str) -> bool:
    first = body[:1].strip() or body.lstrip()[:1]
    if not first:
        raise BadPage("the body is empty")
    if first in b"{<":
        return first == b"{"
    declared = content_type.lower()
    if "json" in declared or "html" in declared:
        return "json" in declared
    raise BadPage(f"neither JSON nor HTML: it is {content_type or 'untyped'} and starts with {first!r}")

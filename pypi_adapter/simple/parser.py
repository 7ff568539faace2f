"""Parses an index page, HTML or JSON, and detects which it is. Pure."""

from __future__ import annotations

import codecs

from .html_page import Asked, parse_html
from .json_page import parse_json
from .model import BadPage, Page, ProjectList

_BOMS = {  # the longer ones first: the one of UTF-16 is a prefix of one of UTF-32
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_WIDE: dict[tuple[bool, ...], str] = {  # by which of the first four bytes are not zero
    (True, False, False, False): "utf-32-le",
    (False, False, False, True): "utf-32-be",
    (True, False, True, False): "utf-16-le",
    (False, True, False, True): "utf-16-be",
}


def parse(body: bytes, content_type: str | None, url: str, asked: Asked = None) -> Page | ProjectList:
    """Parse an index page.

    The first byte that is not whitespace distinguishes JSON from HTML, because many registries send a wrong content
    type; the content type decides only if that byte is inconclusive. `url` is the address that the body came from,
    after redirects: links are relative to it. `asked` is what was requested, which HTML alone does not tell. Links
    other than http and https, files whose name could escape a folder, and what cannot be read (`Page.unread`) are left
    out. Raises `BadPage`.
    """
    body, content_type = narrow(body.removeprefix(codecs.BOM_UTF8), content_type or "")
    if _is_json(body, content_type):
        return parse_json(body, url)
    return parse_html(body, content_type, url, asked)


def narrow(body: bytes, content_type: str) -> tuple[bytes, str]:
    """Return a body in UTF-16 or UTF-32 as UTF-8, with its content type.

    The encoding is detected by a byte order mark, or by the positions of the zero bytes in the first characters, which
    are ASCII in every page (RFC 4627 section 3).
    """
    bom, name = next((found for found in _BOMS.items() if body.startswith(found[0])), (b"", ""))
    name = name or _WIDE.get(tuple(byte != 0 for byte in body[:4]), "")
    if not name:
        return body, content_type
    return body[len(bom) :].decode(name, "replace").encode(), f"{content_type.partition(';')[0]}; charset=utf-8"


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

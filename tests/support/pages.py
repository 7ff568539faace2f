"""Reads the mirror's pages for people as a browser would."""

from __future__ import annotations

import re
from html import unescape

from lxml import etree

BROWSER = {"Accept": "text/html,application/xhtml+xml"}
LINKS = ("href", "src", "action", "formaction", "data", "xlink:href")


def rows(text: str) -> list[str]:
    """The first cells of the table of a page: addresses, or names."""
    found = re.findall(r'<(?:td|th scope="row") class="wide"><a href="[^"]*">(.*?)</a>', text)
    return [unescape(each) for each in found]


def link(text: str, label: str) -> str | None:
    """Where a link of a page leads."""
    found = re.search(rf'<a (?:rel="\w+" )?href="([^"]*)">{label}</a>', text)
    return unescape(found[1]) if found else None


def entry_links(text: str) -> list[str]:
    """The addresses of the entries that a page lists."""
    return re.findall(r'href="(/-/entry/[0-9a-f]{64}/)"', text)


def check_inert(text: str, *, root: str = "") -> None:
    """Nothing on a page runs, is styled from inside it, or leads a browser elsewhere by itself, whatever it shows."""
    for element in etree.fromstring(text, etree.HTMLParser()).iter():
        if not isinstance(element.tag, str):
            continue
        assert element.tag not in ("style", "img", "iframe", "object", "embed", "base"), element.tag
        assert element.tag != "meta" or "http-equiv" not in element.attrib
        assert element.tag != "script" or (element.get("src", "").startswith(f"{root}/-/static/") and not element.text)
        for name, value in element.attrib.items():
            assert not str(name).startswith("on"), name
            assert name != "style"
            if name in LINKS:
                assert re.match(rf"{re.escape(root)}/(?!/)|[?#]", str(value)), value

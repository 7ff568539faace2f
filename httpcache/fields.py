"""Pure: which upstream response headers an operator can choose to keep, and the targets of a `Link` (RFC 8288)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from .errors import BadAddress
from .target import resolve

MAX_LINKS = 50  # of one response; each grows by the name of the pin

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_LINK = re.compile(r"[ \t,]*<([^<>]*)>")
_PARAMETER = re.compile(
    r"""[ \t]*;[ \t]*(?:([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:[ \t]*=[ \t]*("(?:[^"\\]|\\.)*"|[^\s",;<>]+))?)?"""
)
_LOADED = frozenset({  # by browsers, without anyone following a link
    "compression-dictionary", "dns-prefetch", "expect", "icon", "import", "manifest", "modulepreload", "pingback",
    "preconnect", "prefetch", "preload", "prerender", "stylesheet",
})  # fmt: skip
_END = re.compile(r"[ \t]*(?:,|$)")
_ALWAYS = re.compile(r"content-(?:type|encoding|language|disposition)|last-modified|link")
_NEVER = re.compile(
    r"connection|keep-alive|te|trailer|transfer-encoding|upgrade|proxy-.*"  # hop-by-hop: RFC 9110 section 7.6.1
    r"|.*cookie2?|.*authenticat.*|.*authoriz.*|clear-site-data|.*-token"  # credentials, and data of one client
    r"|content-length|content-range|content-location|accept-ranges|etag|vary|location|allow|retry-after|refresh"
    r"|age|date|expires|pragma|.*cache-control|cache-status|server|via|warning|cdn-loop"  # the mirror sends its own
    r"|content-security-policy.*|x-content-type-options|x-frame-options|x-xss-protection|referrer-policy"
    r"|access-control-.*|cross-origin-.*|origin-agent-cluster|permissions-policy|feature-policy|timing-allow-origin"
    r"|strict-transport-security|public-key-pins.*|expect-ct|alt-svc|nel|report.*|sec-.*|service-worker-allowed|sourcemap"
    r"|x-sourcemap|speculation-rules|no-vary-search|x-dns-prefetch-control|accept-ch|critical-ch"  # for browsers
    r"|x-accel-.*|x-sendfile|x-lighttpd-send.*|x-reproxy-.*|surrogate-.*|x-http-method.*|forwarded|x-forwarded-.*"
)  # and for proxies: nginx serves any file that X-Accel-Redirect names


def why_not(name: str) -> str | None:
    """Return why a header (its name in lower case) cannot be kept, or None if it can."""
    if not _NAME.fullmatch(name):
        return "it is not a valid header name"
    if _ALWAYS.fullmatch(name):
        return "it is always kept"
    if _NEVER.fullmatch(name):
        return "it is about one connection or one client, tells browsers or proxies what to do, or is the mirror's own"
    return None


def named(headers: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """Return the headers with these names whose values are valid (RFC 9110 section 5.5)."""
    found = {name: headers[name] for name in names if name in headers}
    return {name: value for name, value in found.items() if not _CONTROL.search(value)}


def absolute_links(value: str, base: str) -> str:
    """Return a `Link` with absolute URLs, in their own spelling.

    Leaves out links that are malformed or cannot be followed, and those that make a browser load something by itself.
    `base` is the URL of the response, which the links are relative to (section 3.2).
    """

    def whole(reference: str) -> str | None:
        try:
            return resolve(base, reference.encode("latin-1").decode("utf-8", "surrogateescape")).wire
        except (BadAddress, UnicodeError):
            return None

    return "" if _CONTROL.search(value) else map_links(value, whole)


def map_links(value: str, change: Callable[[str], str | None]) -> str:
    """Return a `Link` with its targets changed, without those for which `change` returns None."""
    kept: list[str] = []
    for reference, parameters, relations in _links(value):
        target = None if _LOADED & relations else change(reference)
        if target is not None and len(kept) < MAX_LINKS:
            kept.append(f"<{target.replace('<', '%3C').replace('>', '%3E')}>{parameters}")
    return ", ".join(kept)


def _links(value: str) -> Iterable[tuple[str, str, frozenset[str]]]:
    """Yield the target, parameters and relations of each link (appendix B.2).

    After a malformed link, parsing goes on at the next comma.
    """
    place = 0
    while place >= 0 and (found := _LINK.match(value, place)):
        start = place = found.end()
        relations: list[str] = []
        while parameter := _PARAMETER.match(value, place):
            place = parameter.end()
            if (parameter[1] or "").lower() == "rel":
                relations += (parameter[2] or "").strip('"').lower().split()
        if end := _END.match(value, place):
            yield found[1].strip(), value[start:place], frozenset(relations)
            place = end.end()
        else:
            place = value.find(",", place)


def essence(content_type: str) -> str:
    """Return the media type of a `Content-Type` in lower case, without its parameters."""
    return content_type.partition(";")[0].strip().lower()

"""Pure: recognizes how upstreams ask clients to sign in: with a challenge, or with a page instead of the file.

Many sites answer 200 and mean "sign in", at another URL or with a page instead of a file. Such a response must neither
be frozen as the file nor grant access to a private copy of it.
"""

from __future__ import annotations

import re

from httpcache.fields import essence

_EXTENSION = re.compile(r"\.(?=[0-9_-]*[a-z])([a-z0-9_-]{1,10})\Z", re.IGNORECASE)
# Extensions of URLs that normally return HTML.
_PAGES = frozenset(
    {"html", "htm", "xhtml", "xht", "shtml", "php", "phtml", "asp", "aspx", "jsp", "jsf", "do", "cgi", "pl"}
)
LONGEST = 1000  # characters of a challenge that are parsed
_NAME = re.compile(r"[-_.]+")
_REALM = re.compile(
    r'\bbasic\s[^,]*?\brealm\s*=\s*("(?:[^"\\\x00-\x1f\x7f]|\\[ -~]){0,200}"|[\w.-]{1,200})', re.IGNORECASE
)


def leads_elsewhere(requested: str, url: str) -> bool:
    """Whether redirects led to another resource. `/simple/a.b` and `/simple/a-b/` count as the same one."""
    return _name(url) != _name(requested)


def is_page_from_elsewhere(requested: str, url: str, content_type: str) -> bool:
    """Whether a response is HTML from another URL: it may be a sign-in page."""
    return essence(content_type) in ("text/html", "application/xhtml+xml") and leads_elsewhere(requested, url)


def is_misplaced(requested: str, url: str, content_type: str) -> bool:
    """Whether a response is HTML from another URL instead of a file: usually a sign-in page.

    `requested` is the requested URL; False unless it ends in the name of a file that is not a page. `url` is where
    redirects led to.
    """
    extension = _EXTENSION.search(requested.partition("?")[0].rpartition("/")[2])
    if not extension or extension[1].lower() in _PAGES:
        return False
    return is_page_from_elsewhere(requested, url, content_type)


def challenge(origin: str, realm: str | None) -> str:
    """Return the `WWW-Authenticate` for a private copy (RFC 7617), with the upstream's realm if it is known."""
    return f"Basic realm={realm or _quoted(origin)}"


def challenged_realm(www_authenticate: str) -> str | None:
    """Return the realm of a Basic challenge, quoted as in the header, or None if there is no such challenge."""
    found = _REALM.search(www_authenticate[:LONGEST])
    return (found[1] if found[1].startswith('"') else _quoted(found[1])) if found else None


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "").replace('"', "") + '"'


def _name(url: str) -> str:
    last = url.partition("?")[0].rstrip("/").rpartition("/")[2]
    return _NAME.sub("-", last).lower()

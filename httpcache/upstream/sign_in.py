"""Pure: how upstreams ask strangers to sign in: by a challenge, or by a page in the place of what was asked for.

Many sites answer 200 to everybody and mean "sign in": at another address, or with a page in the place of a file. Such
an answer must neither be frozen as the file nor open a private copy of it.
"""

from __future__ import annotations

import re

from httpcache.fields import essence

_EXTENSION = re.compile(r"\.(?=[0-9_-]*[a-z])([a-z0-9_-]{1,10})\Z", re.IGNORECASE)
# What programs name their pages by.
_PAGES = frozenset(
    {"html", "htm", "xhtml", "xht", "shtml", "php", "phtml", "asp", "aspx", "jsp", "jsf", "do", "cgi", "pl"}
)
LONGEST = 1000  # characters of a challenge that are read
_NAME = re.compile(r"[-_.]+")
_REALM = re.compile(
    r'\bbasic\s[^,]*?\brealm\s*=\s*("(?:[^"\\\x00-\x1f\x7f]|\\[ -~]){0,200}"|[\w.-]{1,200})', re.IGNORECASE
)


def leads_elsewhere(asked: str, url: str) -> bool:
    """Whether redirects led from an address to another thing. `/simple/a.b` and `/simple/a-b/` are the same one."""
    return _name(url) != _name(asked)


def is_page_from_elsewhere(asked: str, url: str, content_type: str) -> bool:
    """Whether an answer is HTML from another address: it may be a page to sign in."""
    return essence(content_type) in ("text/html", "application/xhtml+xml") and leads_elsewhere(asked, url)


def is_misplaced(asked: str, url: str, content_type: str) -> bool:
    """Whether an answer is HTML from another address in the place of a file: a page to sign in, as a rule.

    `asked` is the address that was asked for and ends in the name of a file that is no page; `url` is where redirects
    led to.
    """
    extension = _EXTENSION.search(asked.partition("?")[0].rpartition("/")[2])
    if not extension or extension[1].lower() in _PAGES:
        return False
    return is_page_from_elsewhere(asked, url, content_type)


def challenge(origin: str, realm: str | None) -> str:
    """Return the `WWW-Authenticate` of a private copy (RFC 7617): the realm is the upstream's, if that is known."""
    return f"Basic realm={realm or _quoted(origin)}"


def challenged_realm(www_authenticate: str) -> str | None:
    """Return the realm of a challenge for Basic as it stands in the header, None where there is none."""
    found = _REALM.search(www_authenticate[:LONGEST])
    return (found[1] if found[1].startswith('"') else _quoted(found[1])) if found else None


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "").replace('"', "") + '"'


def _name(url: str) -> str:
    last = url.partition("?")[0].rstrip("/").rpartition("/")[2]
    return _NAME.sub("-", last).lower()

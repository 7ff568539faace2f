"""Pure: what an upstream's answer is worth. Whether it may be frozen, what it proves, and who may read what is frozen.

Many sites answer 200 to everybody and mean "sign in": at another address, or with a page in the place of a file. Such
an answer must neither be frozen as the file nor open a private copy of it.
"""

from __future__ import annotations

import re
from collections.abc import Set
from enum import Enum, auto

from .credentials import PUBLIC
from .record import Absence, Record

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


class Verdict(Enum):
    """What is to be done for a request, by what is frozen of its target."""

    FETCH = auto()  # nothing is
    ABSENT = auto()  # that there is nothing
    ASK = auto()  # a private copy: the upstream says whether this client may read it
    MEND = auto()  # a copy whose bytes are damaged
    SERVE = auto()


def verdict(
    record: Record | None, absence: Absence | None, scopes: Set[str], *, open_to_all: bool, granted: bool, sound: bool
) -> Verdict:
    """Decide about a target by its record, a frozen absence, and the scopes of the client's credentials.

    A frozen absence holds against a record that came later, and so cannot be undone by a request of another kind; but
    what is `open_to_all` (in a shared pin) all may read that one has fetched with credentials. `granted`: the upstream
    has given the very thing to these credentials. `sound`: the record has its bytes.
    """
    shared = open_to_all and record is not None and record.scope != PUBLIC
    if absence and not shared and (record is None or absence.created <= record.created):
        return Verdict.ABSENT
    if record is None:
        return Verdict.FETCH
    if not (record.scope == PUBLIC or record.scope in scopes or open_to_all or granted):
        return Verdict.ASK
    return Verdict.SERVE if sound else Verdict.MEND


class Proof(Enum):
    """What has to be the same before an upstream's 200 is of the thing that a private copy is of."""

    NOTHING = auto()  # it is of that by its place and kind; its bytes may have changed since
    BYTES = auto()
    PAGE = auto()  # the bytes, or what an adapter knows of the page in them


class Likeness(Enum):
    """What an upstream's answer is to a private copy."""

    OTHER = auto()
    LIKE = auto()  # of the same thing, as it is by now: it tells of a right if strangers do not get the like
    SAME = auto()  # the very bytes


def proof(record: Record, place: str, content_type: str) -> Proof:
    """Return what is still to be proved by an answer 200 with this type from this place (a keyed hash of its address).

    A redirect that was not there when the copy was frozen leads elsewhere. A page in the place of anything can be one
    for strangers.
    """
    if place != record.place:
        return Proof.BYTES
    kind, frozen = _kind(content_type), _kind(record.headers.get("content-type", ""))
    if _is_page(kind):
        return Proof.PAGE if _is_page(frozen) else Proof.BYTES
    return Proof.NOTHING if not kind or not frozen or kind == frozen else Proof.BYTES


def leads_elsewhere(asked: str, url: str) -> bool:
    """Whether redirects led from an address to another thing. `/simple/a.b` and `/simple/a-b/` are the same one."""
    return _name(url) != _name(asked)


def is_page_from_elsewhere(asked: str, url: str, content_type: str) -> bool:
    """Whether an answer is HTML from another address: it may be a page to sign in."""
    return _kind(content_type) in ("text/html", "application/xhtml+xml") and leads_elsewhere(asked, url)


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


def _kind(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _is_page(kind: str) -> bool:
    """Whether a content type is one in which a site can tell strangers to sign in, or that there was an error."""
    return kind in ("text/html", "application/json", "text/json", "text/xml", "application/xml") or kind.endswith(
        ("+html", "+json", "+xml")
    )

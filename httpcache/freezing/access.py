"""Pure: who may read a frozen copy, and which upstream responses prove that a client may read a private one."""

from __future__ import annotations

from collections.abc import Set
from enum import Enum, auto

from httpcache.credentials import PUBLIC
from httpcache.fields import essence
from httpcache.store.record import Absence, Record


class Verdict(Enum):
    """What to do for a request, depending on what is frozen for its target."""

    FETCH = auto()  # nothing is frozen
    ABSENT = auto()  # an absence is frozen
    ASK = auto()  # a private copy: ask the upstream whether this client may read it
    MEND = auto()  # a copy whose bytes are damaged: fetch them again
    SERVE = auto()


def verdict(
    record: Record | None, absence: Absence | None, scopes: Set[str], *, open_to_all: bool, granted: bool, sound: bool
) -> Verdict:
    """Decide by a target's record, a frozen absence, and the scopes of the client's credentials.

    A frozen absence takes precedence over a later record, so a request of another kind cannot undo it. But in a shared
    pin (`open_to_all`), every client may read what one has fetched with credentials. `granted`: the upstream has sent
    the same content to these credentials. `sound`: the record's bytes are undamaged.
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
    """What must still match before an upstream's 200 counts as the resource of a private copy."""

    NOTHING = auto()  # its place and type suffice; the bytes may have changed since
    BYTES = auto()
    PAGE = auto()  # the bytes, or the page in them as an adapter understands it


class Likeness(Enum):
    """How an upstream's response compares with a private copy."""

    OTHER = auto()
    LIKE = auto()  # the same resource, maybe changed since: grants access if anonymous clients do not get the like
    SAME = auto()  # the same bytes


def proof(record: Record, place: str, content_type: str) -> Proof:
    """Return what a 200 with this type from this place (a keyed hash of its URL) still has to prove.

    A redirect that did not exist when the copy was frozen leads elsewhere. A page instead of anything else can be one
    for anonymous clients.
    """
    if place != record.place:
        return Proof.BYTES
    kind, frozen = essence(content_type), essence(record.headers.get("content-type", ""))
    if _is_page(kind):
        return Proof.PAGE if _is_page(frozen) else Proof.BYTES
    return Proof.NOTHING if not kind or not frozen or kind == frozen else Proof.BYTES


def is_page(record: Record) -> bool:
    """Whether a frozen response may be an index page: it has the type of one, or none."""
    kind = essence(record.headers.get("content-type", ""))
    return not kind or kind.startswith("text/") or _is_page(kind)


def _is_page(kind: str) -> bool:
    """Whether a site can use a content type for a sign-in page or an error message."""
    return kind in ("text/html", "application/json", "text/json", "text/xml", "application/xml") or kind.endswith(
        ("+html", "+json", "+xml")
    )

"""Pure: who may read what is frozen, and which answer of an upstream proves that a client may read a private copy."""

from __future__ import annotations

from collections.abc import Set
from enum import Enum, auto

from httpcache.credentials import PUBLIC
from httpcache.fields import essence
from httpcache.store.record import Absence, Record


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
    kind, frozen = essence(content_type), essence(record.headers.get("content-type", ""))
    if _is_page(kind):
        return Proof.PAGE if _is_page(frozen) else Proof.BYTES
    return Proof.NOTHING if not kind or not frozen or kind == frozen else Proof.BYTES


def _is_page(kind: str) -> bool:
    """Whether a content type is one in which a site can tell strangers to sign in, or that there was an error."""
    return kind in ("text/html", "application/json", "text/json", "text/xml", "application/xml") or kind.endswith(
        ("+html", "+json", "+xml")
    )

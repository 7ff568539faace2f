"""The page of one frozen entry: everything that its record knows, and where to look an address up."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from urllib.parse import unquote, urlsplit

from httpcache.adapter import Bound, Listing, Story
from httpcache.credentials import PUBLIC
from httpcache.errors import BadAddress, Damaged, NotFound, redact, without_first_key
from httpcache.fields import map_links
from httpcache.freezing.mirror import Mirror
from httpcache.page import Page, Shown, Visit
from httpcache.store import keys
from httpcache.store.base import Condition
from httpcache.store.record import LEFT_OUT, Entry, Record, decode, shown
from httpcache.store.usage import Reader, Used
from httpcache.target import Target, looks_like_url, origin, parse_target, pin_prefix, split_path

from .gate import is_listed
from .listing import Row, with_use

_HASH = re.compile(r"[0-9a-f]{64}")
LISTED = 50  # index pages
_MOST = 100  # entries of one address: its query's values are not kept, so they look alike
_CONDITIONS = {
    Condition.SOUND: "verified",
    Condition.UNREAD: "not read yet by this process; it is verified before the last byte is sent",
    Condition.REMOTE: "in the object store, not on this node",
    Condition.BROKEN: "damaged or missing",
}


@dataclass(frozen=True)
class One:
    """An entry: its address below the mirror, and what its record knows; an absence has no `record`.

    `final` is where the response came from, if that was another address, and `through` the redirects on the way to it:
    to who has not logged in only their origins.
    `listed` are index pages that list the file, at most LISTED, and `withheld` is who withholds it and why.
    `readers` are its last clients, None for who has not logged in.
    """

    name: str
    pin: str
    url: str
    address: str | None
    created: float
    record: Record | None
    status: int | None
    final: str | None
    through: Sequence[str]
    condition: str
    headers: Mapping[str, str]
    is_private: bool
    used: Used | None
    listed: Sequence[Listing]
    withheld: str | None
    readers: Sequence[Reader] | None


@dataclass(frozen=True)
class Lookup:
    """The address that was looked for, what is `wrong` with it, and the entries that have it, by their hash."""

    address: str
    wrong: str
    rows: Sequence[Row]


def pages(mirror: Mirror, bound: Sequence[Bound]) -> Sequence[Page]:
    """Return the pages of entries."""
    return [
        Page("/-/entry/", partial(_lookup, mirror), "Find"),
        Page("/-/entry/{name}/", partial(_entry, mirror, bound)),
    ]


async def _entry(mirror: Mirror, bound: Sequence[Bound], visit: Visit) -> Shown:
    name = visit.parts["name"]
    key = keys.record(name)
    value = await mirror.store.get(key) if _HASH.fullmatch(name) else None
    entry = decode(value) if value else None
    if entry is None or not is_listed(key, entry, mirror.settings, sees_all=visit.sees_all):
        raise NotFound("there is no such entry, or it is private")
    record = entry if isinstance(entry, Record) else None
    all_private = visit.sees_all or pin_prefix(entry.pin) in mirror.settings.shared
    story = await _story(bound, Target(entry.pin, entry.url), record.digest if record else "")
    page = One(
        name=name,
        pin=entry.pin,
        url=entry.url,
        address=None if "?" in entry.url else f"/{entry.pin}/{entry.url}",
        created=entry.created,
        record=record,
        status=None if isinstance(entry, Record) else entry.status,
        final=_final(record, sees_all=visit.sees_all) if record else None,
        through=_through(record, sees_all=visit.sees_all) if record else (),
        condition=await _condition(mirror, record) if record else "",
        headers=_headers(record.headers) if record else {},
        is_private=record is not None and record.scope != PUBLIC,
        used=(await mirror.store.usage.entries([entry.target])).get(entry.target),
        listed=[each for each in story.listed if all_private or not each.is_private][:LISTED],
        withheld=story.withheld,
        readers=await mirror.store.usage.readers(entry.target) if visit.sees_all else None,
    )
    return Shown("entry.html", page)


async def _story(bound: Sequence[Bound], target: Target, digest: str) -> Story:
    for adapter in bound:
        found = await adapter.story(target, digest)
        if found:
            return found
    return Story((), None)


async def _condition(mirror: Mirror, record: Record) -> str:
    """Return in words what is known about a body; a small one is read."""
    try:
        if await mirror.store.small_body(record.digest, record.size) is not None:
            return "in the index, verified just now"
    except Damaged:
        return _CONDITIONS[Condition.BROKEN]
    return _CONDITIONS[mirror.store.condition(record.digest, record.size)]


def _final(record: Record, *, sees_all: bool) -> str | None:
    """Return where a response came from, None if that is the address that was asked for.

    The paths of some storage hosts have a token in them.
    """
    if record.final == record.url.partition("?")[0]:
        return None
    return record.final if sees_all else origin(record.final)


def _through(record: Record, *, sees_all: bool) -> Sequence[str]:
    return [address if sees_all or address == LEFT_OUT else origin(address) for address in record.through]


def _headers(headers: Mapping[str, str]) -> Mapping[str, str]:
    return {name: map_links(value, redact) if name == "link" else value for name, value in headers.items()}


async def _lookup(mirror: Mirror, visit: Visit) -> Shown:
    address = without_first_key(visit.query.get("address", "").strip())
    rows: list[tuple[str, Entry]] = []
    wrong = ""
    if address:
        try:
            target = _target(address, without_first_key(visit.address), mirror.settings.root_path)
        except BadAddress as error:
            return Shown("lookup.html", Lookup(redact(address), error.text, ()), 400)
        for place, value in await mirror.store.index.records(target.pin, address=shown(target), limit=_MOST):
            entry = decode(value)
            if is_listed(place.key, entry, mirror.settings, sees_all=visit.sees_all):
                rows.append((place.key.removeprefix(keys.RECORDS), entry))
        rows.sort(key=lambda row: row[1].target != target.key)
        wrong = "" if rows else "Nothing that you may see is frozen at this address."
    found = await with_use(mirror.store, rows)
    return Shown("lookup.html", Lookup(redact(address), wrong, found), 404 if wrong else 200)


def _target(address: str, own: str, root: str) -> Target:
    """Parse an address on the mirror, with or without the mirror's own. Raises BadAddress."""
    path = address.removeprefix(own)
    if looks_like_url(path):
        path = urlsplit(path)._replace(scheme="", netloc="").geturl().removeprefix(root)
    path, _, query = path.lstrip("/").partition("?")
    pin, rest, _ = split_path(path)
    if looks_like_url(rest):
        return parse_target(path, query)
    if not rest:
        raise BadAddress("write the address of a file on this mirror: /<pin>/<URL>")
    return Target(pin, unquote(rest))

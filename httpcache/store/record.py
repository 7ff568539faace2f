"""The records of frozen responses, and how they are encoded."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from httpcache.errors import DamagedBody, StoreError, redact
from httpcache.target import Target

from .base import Columns
from .errors import RESTORE

# The response headers that describe the body (RFC 9110 section 8) and are served with it for ever.
KEPT_HEADERS = (
    "content-type",
    "content-encoding",
    "content-language",
    "content-disposition",
    "last-modified",
)

HOPS, HOPS_BYTES = 20, 4096  # redirects that a record names, and the length of their addresses in all
LEFT_OUT = "…"  # stands for the redirects after those


class Record(msgspec.Struct, frozen=True, tag="record", omit_defaults=True):
    """A frozen response. A blob without a record does not exist.

    `target` is the key of the Target; `digest` is the sha256 of the body in hex, which names its blob; `size` is in
    bytes; `url` is the requested address and `final` the address that the response came from, both without the values
    of their queries; `created` is in seconds since the epoch; `scope` is PUBLIC, or tells which credentials fetched it;
    `headers` has those of KEPT_HEADERS, those that the settings name, and `link` with absolute URLs; `varies` is the
    `Accept` of the request, if the upstream varies the response by it; `place` stands for `final` with the values of
    its query, if the scope is not PUBLIC; `through` are the addresses on the way from `url` to `final`, see `hops`.
    """

    target: str
    pin: str
    url: str
    final: str
    digest: str
    size: int
    created: float
    scope: str = ""
    headers: dict[str, str] = {}
    varies: str = ""
    place: str = ""
    through: tuple[str, ...] = ()

    @property
    def etag(self) -> str:
        """The strong entity tag (RFC 9110 section 8.8.3): the digest."""
        return f'"{self.digest}"'


class Absence(msgspec.Struct, frozen=True, tag="absence", omit_defaults=True):
    """A frozen "does not exist"; `status` is what the upstream answered, 404 or 410."""

    target: str
    pin: str
    url: str
    status: int
    created: float


Entry = Record | Absence

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Entry] = msgspec.msgpack.Decoder(Entry)


def encode(entry: Entry) -> bytes:
    """Encode an entry for the store."""
    return _encoder.encode(entry)


def decode(value: bytes) -> Entry:
    """Decode an entry. Raises StoreError if the bytes cannot be decoded."""
    try:
        return _decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StoreError(f"a record of the store cannot be read ({error}): {RESTORE}") from error


def columns(entry: Entry) -> Columns:
    """Return what the index lists, counts and finds an entry by."""
    if isinstance(entry, Record):
        return Columns(entry.pin, entry.url, entry.digest, entry.size)
    return Columns(entry.pin, entry.url)


def shown(target: Target) -> str:
    """Return the address of a target as records store it: without the values of its query."""
    return redact(target.url)


def hops(urls: Sequence[str]) -> tuple[str, ...]:
    """Return the addresses of redirects as records keep them: without their queries, and LEFT_OUT for too many."""
    kept: list[str] = []
    room = HOPS_BYTES
    for url in urls:
        address = url.partition("?")[0]
        room -= len(address)
        if len(kept) == HOPS or room < 0:
            return (*kept, LEFT_OUT)
        kept.append(address)
    return tuple(kept)


def damaged(record: Record) -> DamagedBody:
    """Return the error for a record whose blob is damaged or missing."""
    return DamagedBody(
        f"the frozen bytes of {record.url} are damaged or missing: request it again, and they are fetched again if "
        "the upstream still has the same ones"
    )

"""What is kept of a frozen answer, and how it is written down."""

from __future__ import annotations

import msgspec

from httpcache.errors import Damaged, StoreError, redact
from httpcache.target import Target

# The headers of an answer that describe its bytes (RFC 9110 section 8) and are served with them for ever.
KEPT_HEADERS = (
    "content-type",
    "content-encoding",
    "content-language",
    "content-disposition",
    "last-modified",
)


class Record(msgspec.Struct, frozen=True, tag="record", omit_defaults=True):
    """A frozen answer. What has no record does not exist.

    `target` is the key of the Target; `digest` the sha256 of the body in hex, which names its blob; `size` is in
    bytes; `url` is what was asked for and `final` where the answer came from, both without the values of queries;
    `created` is in seconds since the epoch; `scope` is PUBLIC or tells which credentials fetched it; `headers` has the
    names of KEPT_HEADERS, those that the settings named, and `link` with whole addresses; `varies` is the `Accept` that
    it was asked for with, where the upstream varies it by that; `place` stands for `final` with the
    values of its query, where the scope is not PUBLIC.
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

    @property
    def etag(self) -> str:
        """The strong entity tag (RFC 9110 section 8.8.3): the digest."""
        return f'"{self.digest}"'


class Absence(msgspec.Struct, frozen=True, tag="absence", omit_defaults=True):
    """A frozen "there is no such project": the status the upstream gave, 404 or 410."""

    target: str
    pin: str
    url: str
    status: int
    created: float


Entry = Record | Absence

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Entry] = msgspec.msgpack.Decoder(Entry)


def encode(entry: Entry) -> bytes:
    """Write an entry as bytes for a store."""
    return _encoder.encode(entry)


def decode(value: bytes) -> Entry:
    """Read an entry. Raises StoreError where the bytes are not one."""
    try:
        return _decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StoreError(f"a record of the store cannot be read ({error}): restore the store from a copy") from error


def shown(target: Target) -> str:
    """Return the address of a target as records keep it: without the values of its query."""
    return redact(target.url)


def damaged(record: Record) -> Damaged:
    """Return the error for a record whose bytes are not what was frozen."""
    return Damaged(
        f"the frozen bytes of {record.url} are damaged or missing: ask for it again, and they are fetched again where "
        "the upstream still has the same ones"
    )

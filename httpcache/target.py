"""Addresses: turns the raw path of a request into a Target, and a Target into its canonical path.

    /nvidia-2024-01-02/https://pypi.ngc.nvidia.com/tensorrt/?x=1
     └── pin ────────┘ └── upstream URL ──────────────────┘
    /nvidia-2024-01-02/raw/https://pypi.ngc.nvidia.com/tensorrt/?x=1
                      └── the upstream's own bytes, which no adapter rewrites

Clients mangle URLs: Python's `urljoin` and nginx merge the slashes of `https://`, pip percent-encodes its colon, and
each client has its own idea of which characters of a path to encode. All spellings of a URL are one Target here. The
upstream receives the spelling that was given: encoding a reserved character, or decoding one, can name another
resource (RFC 3986 section 2.2) and breaks signed URLs.
"""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass, field
from datetime import date
from hashlib import sha256
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import quote_from_bytes, unquote_to_bytes

from .errors import BadAddress, redact, without_first_key, without_keys

_PIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_DATED = re.compile(r".*?(\d{4}-\d{1,2}-\d{1,2})")
_SCHEME = re.compile(r"(https?)(?::|%3A)(?:/|%2F)+", re.IGNORECASE)
_WITH_USER = re.compile(
    rf"(?P<before>/*{_SCHEME.pattern})(?P<authority>[^/?#\\]*(?:@|%40)[^/?#\\]*+)(?!\\)", re.IGNORECASE
)
_NOT_IN_HOST = re.compile(r"[/?#\\]")
_QUOTED_COLON = re.compile("%3A", re.IGNORECASE)
_RAW = re.compile(rf"/*raw/+(?={_SCHEME.pattern})", re.IGNORECASE)
_ABSOLUTE = re.compile(r"https?://[^/?]", re.IGNORECASE)
_ANY_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:@]*)(?::([0-9]{0,5}))?")
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
# What canonicalization changes in a query: escapes, and bytes that are not allowed (RFC 3986 section 3.4).
_QUERY_PARTS = re.compile(rb"%([0-9A-Fa-f]{2})|[^A-Za-z0-9!$&'()*+,;=:@/?._~-]")
DEFAULT_PORTS = {"http": 80, "https": 443}
# What is not allowed in a request target (RFC 9112 section 3.2), and what some servers read as a slash.
_NOT_SENT = re.compile(rb"[^!-~]|[#\\]")
PORT = r"(?:[1-9]\d{0,3}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d\d|655[0-2]\d|6553[0-5])"
"""A regular expression for a port from 1 to 65535 without leading zeros, with re.ASCII."""
# A URL that is canonical already, as most links are: a fast path. One with a default port is not.
_CANONICAL = re.compile(
    rf"https?://[a-z0-9]{{1,60}}(?:[.-][a-z0-9]{{1,60}}){{0,3}}(?::(?!(?:80|443)/){PORT})?"
    r"(?:/(?!\.{1,2}(?:/|\Z))[\w!$&'()*,;=:@.~-]*)+",
    re.ASCII,
)
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
# RFC 3986 pchar, less "+": object stores read a bare "+" in a path as a space, so it travels as %2B.
_PATH_SAFE = "!$&'()*,;=:@-._~"


class Parts(NamedTuple):
    """The parts of a URL of the mirror, as they were spelled: the pin, and what follows it.

    `raw`: the request is for the upstream's own bytes, which no adapter may rewrite.
    """

    pin: str
    rest: str
    raw: bool


class Address(NamedTuple):
    """An upstream URL: `url` is its canonical form, `wire` the spelling that is sent to the upstream."""

    url: str
    wire: str


@dataclass(frozen=True)
class Target:
    """What a request names: an upstream URL, as frozen under a pin.

    `pin` is the name of the pin; `url` is the canonical upstream URL, without userinfo and fragment. `wire` is the
    spelling that is sent to the upstream, and `login` the `Authorization` for a user and password in the URL (RFC
    7617); neither is part of the target's identity.
    """

    pin: str
    url: str
    wire: str = field(default="", repr=False, compare=False)
    login: str = field(default="", repr=False, compare=False)
    key: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.wire:
            object.__setattr__(self, "wire", self.url)
        object.__setattr__(self, "key", sha256(f"{self.pin}\n{self.url}".encode()).hexdigest())

    @property
    def origin(self) -> str:
        """Scheme, host and port (RFC 6454), without the port if it is the scheme's default."""
        return origin(self.url)

    @property
    def path(self) -> str:
        """The path of this target on the mirror, below the root path: `/<pin>/<url>`."""
        return f"/{self.pin}/{self.url}"

    def __str__(self) -> str:
        return f"/{self.pin}/{redact(self.url)}"


def parse_target(raw_path: str, query: str = "") -> Target:
    """Parse `/<pin>/<upstream-url>` or `/<pin>/raw/<upstream-url>`; both name the same target, which is frozen once.

    `raw_path` is the path from the request line, still percent-encoded; `query` is what follows the `?`. A user and
    password before the host, `https://user:password@host/`, are the login for that origin.
    Raises BadAddress with a text that says how to write the address.
    """
    pin, rest, _ = split_path(raw_path)
    rest, login = _split_login(rest)
    return Target(check_pin(pin), *read_address(rest, query), login)


def _split_login(raw: str) -> tuple[str, str]:
    """Split the user and password from an upstream URL; return the rest, and a value for `Authorization` (RFC 7617).

    Some clients percent-encode the colon and the `@`; user and password are decoded once more in any case.
    """
    found = _WITH_USER.match(raw)
    if not found:
        return raw, ""
    before, authority = found["before"], found["authority"]
    if "@" not in authority:
        authority = unquote_to_bytes(_encode(authority)).decode("utf-8", "surrogateescape")
    userinfo, _, host = authority.rpartition("@")
    if not host or _NOT_IN_HOST.search(host):
        raise BadAddress("the upstream URL has a user name but no host after it: write https://user:password@host/path")
    userinfo = userinfo if ":" in userinfo else _QUOTED_COLON.sub(":", userinfo, count=1)
    user, _, password = userinfo.partition(":")
    plain = b":".join(unquote_to_bytes(_encode(part)) for part in (user, password))
    login = "" if plain == b":" else f"Basic {b64encode(plain).decode()}"
    return f"{before}{host}{raw[found.end() :]}", login


def split_path(raw_path: str) -> Parts:
    """Split the raw path of a request into its parts, without validating them."""
    pin, _, rest = raw_path.removeprefix("/").partition("/")
    raw = _RAW.match(rest)
    return Parts(pin, rest[raw.end() :], True) if raw else Parts(pin, rest, False)


def looks_like_url(raw: str) -> bool:
    """Whether the part of a path after its first segment is an upstream URL, in any spelling that clients use."""
    return _SCHEME.match(raw.lstrip("/")) is not None


def check_pin(name: str) -> str:
    """Return the name of a pin unchanged. Raises BadAddress if it is not valid.

    A name that ends in something shaped like a date must end in a valid date: `nvidia-2024-02-30` is a typo, and
    everything under it would be frozen for ever under a wrong name.
    """
    if not _PIN.fullmatch(name):
        raise BadAddress(
            f"{name[:100]!r} is not a valid pin name: use up to 100 letters, digits, '.', '_' and '-', "
            "for example /nvidia-2024-01-02/https://pypi.ngc.nvidia.com/"
        )
    dated = _DATED.fullmatch(name)
    if dated and not _is_date(dated[1]):
        raise BadAddress(f"the pin {name!r} ends in {dated[1]!r}, which is not a date: write YYYY-MM-DD")
    return name


def pin_prefix(pin: str) -> str:
    """Return the name of a pin without its date: `nvidia` for `nvidia-2024-01-02`."""
    dated = _DATED.fullmatch(pin)
    return pin[: dated.start(1)].rstrip("-._") if dated else pin


def canonical_url(raw: str, query: str = "") -> str:
    """Return the canonical form of an upstream URL: see `read_address`."""
    return read_address(raw, query).url


def read_address(raw: str, query: str = "") -> Address:
    """Return the canonical form of an upstream URL, and the spelling to send.

    `raw` is the URL without its query, in any spelling that clients use (`https:/h/x`, `https%3A/h/x`, ...). The
    canonical form is normalized by RFC 3986 section 6.2.2: case, percent-encoding, dot segments; a fragment is dropped.
    In the spelling to send, path and query stay as given, except that dot segments are removed and characters that HTTP
    does not allow are percent-encoded. Raises BadAddress if it is not an http or https URL, or has a user name.
    """
    if not query and _CANONICAL.fullmatch(raw):
        return Address(raw, raw)
    raw = raw.lstrip("/").partition("#")[0]
    found = _SCHEME.match(raw)
    if not found:
        shown = "" if "@" in raw or "%" in raw else f" (and {raw[:100]!r} is not one)"  # it may contain a password
        raise BadAddress(
            f"the pin must be followed by a complete upstream URL{shown}, "
            "for example /mypin-2024-01-02/https://example.com/file.tar.gz"
        )
    scheme = found[1].lower()
    authority, slash, path = raw[found.end() :].partition("/")
    if "?" in authority + path:
        raise BadAddress("the URL has a '?' in its path: write it as %3F")
    server = f"{scheme}://{_canonical_authority(scheme, authority)}"
    url, wire = _both_paths(slash + path)
    return Address(f"{server}{url}{_canonical_query(query)}", f"{server}{wire}{query and '?'}{_sendable(query)}")


def read_url(text: str) -> Address:
    """Parse an upstream URL with its query: see `read_address`. A trailing `?` is kept in the spelling to send."""
    base, mark, query = text.partition("#")[0].partition("?")
    found = read_address(base, query)
    return found if query else found._replace(wire=found.wire + mark)


def resolve(base: str, reference: str) -> Address:
    """Resolve a reference against the URL of the document it is in (RFC 3986 section 5.2.2).

    Percent-encoding is left as it is. Raises BadAddress.
    """
    path = base.partition("?")[0]
    reference = reference.partition("#")[0]
    if _ABSOLUTE.match(reference):
        return read_url(reference)
    if _ANY_SCHEME.match(reference) or reference.startswith("///"):
        raise BadAddress("the URL has no host, or is not http or https")
    if reference.startswith("//"):
        return read_url(f"{path.partition(':')[0]}:{reference}")
    if reference.startswith("/"):
        return read_url(origin(base) + reference)
    if reference.startswith("?"):
        return read_url(path + reference)
    return read_url(path[: path.rindex("/") + 1] + reference if reference else base)


def origin(url: str) -> str:
    """Return the origin (RFC 6454) of a canonical URL: `https://example.com`, `http://127.0.0.1:8000`."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0].partition('?')[0]}"


def _canonical_authority(scheme: str, raw: str) -> str:
    try:
        text = unquote_to_bytes(_encode(raw)).decode()
    except UnicodeDecodeError:
        raise BadAddress("the host of the upstream URL is not valid UTF-8") from None
    if "@" in text:
        raise BadAddress(
            "the upstream URL has a user name: send it as credentials for the mirror instead, "
            "for example curl -u user:password http://mirror/<pin>/https://host/path"
        )
    found = _AUTHORITY.fullmatch(text)
    if not found:
        raise BadAddress(f"{text[:200]!r} is not a host, or a host with a port")
    host, port = _canonical_host(found[1]), int(found[2] or DEFAULT_PORTS[scheme])
    if not 0 < port < 65536:
        raise BadAddress(f"{port} is not a port: use 1 to 65535")
    return host if port == DEFAULT_PORTS[scheme] else f"{host}:{port}"


def _canonical_host(host: str) -> str:
    if not host.isascii():
        try:
            host = host.encode("idna").decode()
        except UnicodeError:
            raise BadAddress(f"{host[:200]!r} is not a host name") from None
    host = host.lower().removesuffix(".")
    if len(host) > 253 or not (_HOST.fullmatch(host) or _is_ip_literal(host)):
        raise BadAddress(f"{host[:200]!r} is not a host name")
    return host


def _is_ip_literal(host: str) -> bool:
    try:
        return host.startswith("[") and ip_address(host[1:-1]).version == 6
    except ValueError:
        return False


def _both_paths(raw: str) -> tuple[str, str]:
    """Return the canonical form of a path and the spelling to send, both without dot segments, encoded or not."""
    kept: list[tuple[str, str]] = []
    segment = ""
    for part in raw.split("/")[1:]:  # RFC 3986 section 5.2.4
        segment = quote_from_bytes(unquote_to_bytes(_encode(part)), _PATH_SAFE)
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append((segment, _sendable(part)))
    if segment in (".", ".."):
        kept.append(("", ""))
    return "/" + "/".join(url for url, _ in kept), "/" + "/".join(wire for _, wire in kept)


def _sendable(text: str) -> str:
    """Percent-encode what is not allowed in a request target, and nothing else."""
    return _NOT_SENT.sub(lambda found: b"%%%02X" % found[0][0], _encode(text)).decode("ascii")


def _canonical_query(raw: str) -> str:
    """Normalize the percent-encoding; `+` and `%2B` differ in a query, and stay as they are."""
    quoted = _QUERY_PARTS.sub(_requote, _encode(raw)).decode("ascii")
    return f"?{quoted}" if quoted else ""


def _requote(found: re.Match[bytes]) -> bytes:
    """Decode an unreserved character, or encode what has to be encoded, including a stray `%`."""
    byte = int(found[1], 16) if found[1] else found[0][0]
    return bytes([byte]) if byte in _UNRESERVED else b"%%%02X" % byte


def _encode(text: str) -> bytes:
    """Return the bytes of the request; those that are not UTF-8 were decoded as surrogates."""
    return text.encode("utf-8", "surrogateescape")


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def shown_address(path: bytes, query: bytes) -> str:
    """Return the address of a request for a log, without secrets: those of its target, or of what is no address."""
    raw, values = without_first_key(path.decode("latin-1")) or "/", query.decode("latin-1")
    try:
        return without_keys(str(parse_target(raw, values)))
    except BadAddress:
        if "@" in raw or "%40" in raw:  # possibly a user and password
            first = raw.split("/")[1] if raw.startswith("/") else ""
            return "/…" if "@" in first or "%40" in first else f"/{first}/…"
        return without_keys(redact(f"{raw}?{values}" if values else raw))

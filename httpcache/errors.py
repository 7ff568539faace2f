"""The mirror's exceptions, each with the HTTP status that the client receives.

    MirrorError                     500
    ├── BadAddress                  400  the address is not valid; the text says how to write it
    ├── KeyNeeded                   401  the request has no valid access key
    ├── Refused                     403  the SSRF guard, a rule or the client's key does not allow the target
    ├── NotFound                    404
    ├── NotAcceptable               406
    ├── TooMany                     429  the client has sent too many requests, or too many wrong keys
    ├── Loop                        508  the request came from this mirror itself
    ├── UpstreamError               502
    │   ├── Unreachable             502  DNS, the connection or TLS failed
    │   ├── BadUpstream             502  it answered, but the answer cannot be kept
    │   │   └── OtherBytes          502  it has a file, but not the announced one
    │   ├── Busy                    503  too many upstream requests at once
    │   ├── UnderWay                503  still being fetched; takes longer than clients wait
    │   ├── TimedOut                504
    │   ├── Offline                 504  the mirror runs with --offline
    │   └── NotStored               504  the client wants only what is stored
    └── StoreError                  503  the store cannot be read or written
        ├── Damaged                 503  what is stored is not what was written
        │   └── DamagedBody         503  a body is; the next request may find it mended
        └── StoreFull               507

Texts name the target and the cause, but never a credential or a query: apply `redact` to every URL in a text.
"""

from __future__ import annotations

import math
import re

# Control characters of terminals (ECMA-48), characters that change the direction of text (UAX 9), and surrogates.
_OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_LOGIN = re.compile(r"[^\s/'\"@]*(?::|%3a)[^\s/'\"@]*(?:@|%40)", re.IGNORECASE)
_KEY_BEFORE = re.compile(r"/k/hck_[^/\s?'\"]*(?=[/\s?'\"]|\Z)")
_KEY = re.compile(r"hck_[A-Za-z0-9_-]{8,}")
_USERINFO = re.compile(r"\A([A-Za-z][A-Za-z0-9+.-]*://)[^/?#]*@")


class MirrorError(Exception):
    """An error with an HTTP status and a text for the client.

    `headers` are sent with the response, for example `Retry-After`. `problem`: the text is sent as problem details (RFC
    9457), which uv shows to its user. `logged`: the error has been logged already, or need not be.
    """

    status = 500
    problem = False
    logged = False

    def __init__(self, text: str, *, headers: dict[str, str] | None = None) -> None:
        self.text = plain(text)
        super().__init__(self.text)
        self.headers = headers or {}


class BadAddress(MirrorError):
    """The address is not valid (400)."""

    status = 400


class KeyNeeded(MirrorError):
    """The request has no valid access key (401, RFC 9110 section 15.5.2)."""

    status = 401

    def __init__(self, text: str) -> None:
        super().__init__(text, headers={"www-authenticate": 'Basic realm="httpcache", Bearer'})


class Refused(MirrorError):
    """The SSRF guard, a rule or the client's key does not allow the target (403)."""

    status = 403


class NotFound(MirrorError):
    """What was requested does not exist here (404)."""

    status = 404


class NotAcceptable(MirrorError):
    """No representation matches the request's `Accept` (406, RFC 9110 section 15.5.7)."""

    status = 406


class TooMany(MirrorError):
    """The client has sent too many requests, or too many wrong keys (429, RFC 6585 section 4)."""

    status = 429

    def __init__(self, text: str, seconds: float) -> None:
        super().__init__(text, headers={"retry-after": str(max(1, math.ceil(seconds)))})


class Loop(MirrorError):
    """The request came from this mirror itself (508, RFC 5842 section 7.2; RFC 8586)."""

    status = 508


class UpstreamError(MirrorError):
    """The upstream could not be reached, or its response could not be used (502)."""

    status = 502


class Unreachable(UpstreamError):
    """No connection to the upstream: DNS, network or TLS failed (502)."""


class BadUpstream(UpstreamError):
    """The upstream answered, but the answer cannot be kept (502)."""


class OtherBytes(BadUpstream):
    """The upstream sent a complete body, but not the announced one (502)."""


class Busy(UpstreamError):
    """Too many upstream requests are under way (503)."""

    status = 503

    def __init__(self, text: str) -> None:
        super().__init__(text, headers={"retry-after": "10"})


class UnderWay(UpstreamError):
    """What was requested is being fetched, which takes longer than clients wait (503)."""

    status = 503

    def __init__(self, text: str) -> None:
        super().__init__(text, headers={"retry-after": "15"})


class TimedOut(UpstreamError):
    """The upstream was too slow (504)."""

    status = 504


class Offline(UpstreamError):
    """The target is not frozen and the mirror is offline (504, RFC 9111 section 5.2.1.7)."""

    status = 504


class NotStored(UpstreamError):
    """The target is not frozen, and the client has asked for nothing else (504, RFC 9111 section 5.2.1.7).

    There is nothing to log: it is what the client wants to know.
    """

    status = 504
    logged = True


class StoreError(MirrorError):
    """The store cannot be read or written (503)."""

    status = 503


class Damaged(StoreError):
    """What is stored is not what was written (503)."""


class DamagedBody(Damaged):
    """The bytes of a body are missing, or not those that were frozen (503): a later request may find them mended."""

    def __init__(self, text: str) -> None:
        super().__init__(text, headers={"retry-after": "10"})


class StoreFull(StoreError):
    """The store has no space left (507)."""

    status = 507


def names(kind: type[MirrorError] = MirrorError) -> list[str]:
    """Return the names of an error and of all that are kinds of it."""
    return [kind.__name__, *(name for each in kind.__subclasses__() for name in names(each))]


def plain(text: str) -> str:
    """Escape terminal control characters, as `\\x1b`. For every text from outside that people will see."""
    if text.isprintable():  # nearly every text is, and then it has none
        return text
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """Escape a text so that it is one line without terminal control characters."""
    return plain(text).replace("\n", "\\n")


def without_logins(text: str) -> str:
    """Remove what looks like a login, `user:password@`, from a text, wherever a client has written it."""
    return _LOGIN.sub("…@", text)


def without_first_key(address: str) -> str:
    """Remove the access key, `/k/<key>`, that an address of the mirror begins with, behind the root path."""
    return _KEY_BEFORE.sub("", address) if "/k/hck_" in address else address


def without_keys(text: str) -> str:
    """Remove access keys from a text, and what they begin addresses with."""
    return _KEY.sub("hck_…", without_first_key(text)) if "hck_" in text else text


def redact(url: str) -> str:
    """Remove the userinfo and the query's values from a URL, for error texts and logs.

    The names of the query's parameters stay, so that different targets can be told apart.
    """
    url = _USERINFO.sub(r"\1", url)
    base, mark, query = url.partition("?")
    if not mark:
        return base
    names = [pair.partition("=")[0] for pair in query.split("&")]
    return (
        base
        + "?"
        + "&".join(f"{name}=…" if "=" in pair else "…" for name, pair in zip(names, query.split("&"), strict=True))
    )

"""The errors of the mirror, each with the HTTP status that a client gets.

    MirrorError                     500
    ├── BadAddress                  400  the address names no target; the text says how to write it
    ├── Refused                     403  the network guard, or a rule, does not allow the target
    ├── NotFound                    404
    ├── NotAcceptable               406
    ├── Loop                        508  the request came from this mirror itself
    ├── UpstreamError               502
    │   ├── Unreachable             502  no connection, no name, TLS failed
    │   ├── BadUpstream             502  it answered, but not with what can be kept
    │   │   └── OtherBytes          502  it has something, but not what was announced
    │   ├── Busy                    503  too many exchanges with upstreams at once
    │   ├── UnderWay                503  it is being fetched, and takes longer than a client waits
    │   ├── TimedOut                504
    │   └── Offline                 504  the mirror was told not to ask upstreams
    └── StoreError                  503  the store cannot be read or written
        ├── Damaged                 503  what is on disk is not what was frozen
        └── StoreFull               507

Texts name the target and the cause, never a credential or a query: use `redact` on every address that goes into one.
"""

from __future__ import annotations

import re

# What a terminal obeys (ECMA-48), what turns the direction of text (Unicode UAX 9), and what is no character at all.
_OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_USERINFO = re.compile(r"\A([A-Za-z][A-Za-z0-9+.-]*://)[^/?#]*@")


class MirrorError(Exception):
    """An error with a status and a text for the client.

    `headers` are sent with the answer, for example `Retry-After`. `problem`: the text is sent as problem details (RFC
    9457), which uv shows to its user. `told`: it is in the log already.
    """

    status = 500
    problem = False
    told = False

    def __init__(self, text: str, *, headers: dict[str, str] | None = None) -> None:
        self.text = plain(text)
        super().__init__(self.text)
        self.headers = headers or {}


class BadAddress(MirrorError):
    """The address names no target (400)."""

    status = 400


class Refused(MirrorError):
    """The guard or a rule does not allow the target (403)."""

    status = 403


class NotFound(MirrorError):
    """There is no such thing here (404)."""

    status = 404


class NotAcceptable(MirrorError):
    """No representation fits the request's `Accept` (406, RFC 9110 section 15.5.7)."""

    status = 406


class Loop(MirrorError):
    """The request came from this mirror itself (508, RFC 5842 section 7.2; RFC 8586)."""

    status = 508


class UpstreamError(MirrorError):
    """The upstream could not be asked, or not understood (502)."""

    status = 502


class Unreachable(UpstreamError):
    """No connection to the upstream: name, network or TLS (502)."""


class BadUpstream(UpstreamError):
    """The upstream answered, but not with something that can be kept (502)."""


class OtherBytes(BadUpstream):
    """The upstream has a body there, whole, but not the one that was announced (502)."""


class Busy(UpstreamError):
    """Too many exchanges with upstreams are under way (503)."""

    status = 503

    def __init__(self, text: str) -> None:
        super().__init__(text, headers={"retry-after": "10"})


class UnderWay(UpstreamError):
    """What was asked for is being fetched, which takes longer than a client waits for an answer (503)."""

    status = 503

    def __init__(self, text: str) -> None:
        super().__init__(text, headers={"retry-after": "15"})


class TimedOut(UpstreamError):
    """The upstream was too slow (504)."""

    status = 504


class Offline(UpstreamError):
    """The target is not frozen and the mirror is offline (504, RFC 9111 section 5.2.1.7)."""

    status = 504


class StoreError(MirrorError):
    """The store cannot be read or written (503)."""

    status = 503


class Damaged(StoreError):
    """What is on disk is not what was frozen (503)."""


class StoreFull(StoreError):
    """The store has no room left (507)."""

    status = 507


def plain(text: str) -> str:
    """Write what a terminal would obey as escapes, `\\x1b`: for every text of a stranger that people get to see."""
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """Write a text so that it is one line, in which nothing is obeyed by a terminal."""
    return plain(text).replace("\n", "\\n")


def redact(url: str) -> str:
    """Take the userinfo and the query's values out of an address, for texts and logs.

    The names of the query's parameters stay, so that two targets can be told apart.
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

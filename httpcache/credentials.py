"""A client's credentials: the headers that carry them, the order to try them in, and the scope of what they fetched."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from .access_keys import key_of
from .errors import without_keys

AUTHORIZATION = "authorization"
DEFAULT_HEADERS = ("x-api-key", "private-token", "job-token", "deploy-token", "x-jfrog-art-api")
PUBLIC = ""


@dataclass(frozen=True)
class Credentials:
    """The credentials of a request: header names in lower case with their values.

    `given` were set deliberately for this request (Bearer, X-Api-Key, ...) and are sent on the first try. `basic` is a
    Basic `Authorization`, which installers send to every index on a host, so it is only sent after a challenge.
    `bound`: the credentials are known to belong to this origin, so all are sent on the first try. `prefix` is the name
    of the pin they are used under, without its date.
    """

    given: tuple[tuple[str, str], ...] = ()
    basic: str | None = None
    bound: bool = False
    prefix: str = ""

    @cached_property
    def levels(self) -> tuple[tuple[tuple[str, str], ...], ...]:
        """The sets of headers to try, in this order."""
        if self.basic is None:
            return (self.given,)
        everything = (*self.given, (AUTHORIZATION, self.basic))
        return (everything,) if self.bound else (self.given, everything)

    def with_login(self, basic: str) -> Credentials:
        """Return a copy with another Basic `Authorization`."""
        return replace(self, given=tuple(pair for pair in self.given if pair[0] != AUTHORIZATION), basic=basic)

    def scopes(self, secret: bytes, origin: str) -> frozenset[str]:
        """Return the scopes whose copies these credentials may read without asking the upstream."""
        return frozenset(scope(secret, origin, level) for level in self.levels)


def read_credentials(headers: Mapping[str, str], names: Iterable[str]) -> Credentials:
    """Extract the credentials from a request's headers. `names` are the custom headers that can carry them.

    A key of this mirror is none of them: it is not for an upstream.
    """
    found = ((name, headers[name]) for name in sorted(names) if name in headers)
    given = tuple((name, value) for name, value in found if without_keys(value) == value)
    authorization = headers.get(AUTHORIZATION)
    if authorization is None or key_of(authorization):
        return Credentials(given)
    if authorization.partition(" ")[0].lower() == "basic":
        return Credentials(given, authorization)
    return Credentials((*given, (AUTHORIZATION, authorization)))


def scope(secret: bytes, origin: str, sent: Iterable[tuple[str, str]]) -> str:
    """Return the scope of what was fetched from an origin with these headers: an HMAC, or PUBLIC if there are none.

    `secret` is the store's key; without it, a scope reveals nothing about the credentials.
    """
    lines = [f"{name}: {value}" for name, value in sent]
    if not lines:
        return PUBLIC
    return hmac.new(secret, "\n".join([origin, *lines]).encode(), "sha256").hexdigest()

"""The credentials of a client: which headers carry them, which of them to try, and the scope of what they fetched."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

AUTHORIZATION = "authorization"
DEFAULT_HEADERS = ("x-api-key", "private-token", "job-token", "deploy-token", "x-jfrog-art-api")
PUBLIC = ""


@dataclass(frozen=True)
class Credentials:
    """What a request carries to prove who asks: header names in lower case with their values.

    `given` were set on purpose for this request (Bearer, X-Api-Key, ...) and go with the first try; `basic` is a Basic
    `Authorization`, which installers send to every index of a host, and which therefore only answers a challenge.
    `bound`: it is known that they are for this very origin, so all go with the first try. `prefix` is the name of the
    pin, without its date, under which they are used.
    """

    given: tuple[tuple[str, str], ...] = ()
    basic: str | None = None
    bound: bool = False
    prefix: str = ""

    @cached_property
    def levels(self) -> tuple[tuple[tuple[str, str], ...], ...]:
        """The sets of headers to try, one after the other."""
        if self.basic is None:
            return (self.given,)
        everything = (*self.given, (AUTHORIZATION, self.basic))
        return (everything,) if self.bound else (self.given, everything)

    def with_login(self, basic: str) -> Credentials:
        """Return these with another `Authorization`, of the scheme Basic."""
        return replace(self, given=tuple(pair for pair in self.given if pair[0] != AUTHORIZATION), basic=basic)

    def scopes(self, secret: bytes, origin: str) -> frozenset[str]:
        """The scopes whose copies these credentials may read without asking the upstream."""
        return frozenset(scope(secret, origin, level) for level in self.levels)


def read_credentials(headers: Mapping[str, str], names: Iterable[str]) -> Credentials:
    """Take the credentials out of a request's headers; `names` are the custom headers that carry some."""
    given = tuple((name, headers[name]) for name in sorted(names) if name in headers)
    authorization = headers.get(AUTHORIZATION)
    if authorization is None:
        return Credentials(given)
    if authorization.partition(" ")[0].lower() == "basic":
        return Credentials(given, authorization)
    return Credentials((*given, (AUTHORIZATION, authorization)))


def scope(secret: bytes, origin: str, sent: Iterable[tuple[str, str]]) -> str:
    """Return the scope of what was fetched from an origin with these headers: an HMAC, or PUBLIC for no headers.

    `secret` is the key of the store; without it a scope says nothing about the credentials.
    """
    lines = [f"{name}: {value}" for name, value in sent]
    if not lines:
        return PUBLIC
    return hmac.new(secret, "\n".join([origin, *lines]).encode(), "sha256").hexdigest()

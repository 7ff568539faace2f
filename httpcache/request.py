"""A request as the mirror sees it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from starlette.datastructures import Headers
from starlette.types import Scope

from .credentials import Credentials, read_credentials
from .errors import BadAddress
from .settings import Settings
from .target import Target, canonical_url, parse_target, split_path

HOST = re.compile(r"[A-Za-z0-9.-]+(:\d{1,5})?|\[[0-9A-Fa-f:]+\](:\d{1,5})?")


@dataclass(frozen=True)
class Request:
    """A GET or HEAD to the mirror.

    `path` is the raw path below the root path, still quoted; `query` what followed the `?`; `root` the root path.
    """

    scope: Scope
    path: str
    query: str
    root: str
    headers: Mapping[str, str]
    credentials: Credentials

    @classmethod
    def read(cls, scope: Scope, settings: Settings) -> Request:
        """Take a request apart."""
        path = scope["raw_path"].decode("utf-8", "surrogateescape")
        headers = Headers(scope=scope)
        credentials = read_credentials(headers, settings.credential_headers)
        query = scope["query_string"].decode("utf-8", "surrogateescape")
        return cls(scope, path, query, settings.root_path, headers, credentials)

    @cached_property
    def target(self) -> Target:
        """What it asks the generic mirror for. Raises BadAddress."""
        return parse_target(self.path, self.query)

    @property
    def raw(self) -> bool:
        """Whether the upstream's own bytes are asked for: `/<pin>/raw/<upstream-url>`. No adapter rewrites these."""
        return split_path(self.path).raw

    @property
    def pinned(self) -> str:
        """What the addresses of links begin with, so that they stay in the pin."""
        parts = split_path(self.path)
        return f"{self.root}/{parts.pin}/{'raw/' if parts.raw else ''}"

    def slashed(self, final: str) -> str | None:
        """Return this address with a slash behind its path, where the upstream redirected to that; None otherwise.

        `final` is where the answer came from. Relative links on a page mean something else without the slash.
        """
        asked = self.target.url.partition("?")[0]
        if asked.endswith("/") or canonical_url(final) != f"{asked}/":
            return None
        path, mark, query = self.target.wire.partition("?")
        return f"{self.pinned}{path}/{mark}{query}"

    @property
    def origin(self) -> str:
        """The origin (RFC 6454) that the client asked, for answers that go to this client alone.

        Raises BadAddress where the request names no host.
        """
        host = self.headers.get("host", "")
        if not HOST.fullmatch(host):
            raise BadAddress("the request names no host of this mirror: send it in a Host header")
        is_tls = self.headers.get("x-forwarded-proto", self.scope.get("scheme")) == "https"
        return f"{'https' if is_tls else 'http'}://{host}"

    @property
    def accept(self) -> str:
        """The request's `Accept`; everything is accepted where there is none (RFC 9110 section 12.5.1)."""
        return self.headers.get("accept", "*/*")

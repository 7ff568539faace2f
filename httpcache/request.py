"""A client's request, parsed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from starlette.datastructures import Headers
from starlette.types import Scope

from .access_keys import ALL, RIGHTS, Rights, key_of
from .credentials import Credentials, read_credentials
from .errors import BadAddress
from .login import password_of
from .settings import Settings
from .target import Target, canonical_url, parse_target, split_path

ROOT = "httpcache.root"
"""In the scope of a request whose path had more in front of it: what that was, as it is in front of every link too."""
HOST = re.compile(r"[A-Za-z0-9.-]+(:\d{1,5})?|\[[0-9A-Fa-f:]+\](:\d{1,5})?")


@dataclass(frozen=True)
class Request:
    """A GET or HEAD to the mirror.

    `path` is the raw path below the root path, still percent-encoded; `query` is what follows the `?`. `root` stands in
    front of the path, and of every link in the answer; `root_path`, that of the settings, is the beginning of it.
    `rights` are those of the client's access key.
    """

    scope: Scope
    path: str
    query: str
    root: str
    root_path: str
    headers: Mapping[str, str]
    credentials: Credentials
    rights: Rights = ALL

    @classmethod
    def read(cls, scope: Scope, settings: Settings) -> Request:
        """Parse an ASGI scope. The login of the pages for people is not among the credentials."""
        path = scope["raw_path"].decode("utf-8", "surrogateescape")
        headers = Headers(scope=scope)
        credentials = read_credentials(headers, settings.credential_headers)
        if credentials.basic and password_of(credentials.basic) is not None:
            credentials = replace(credentials, basic=None)
        query = scope["query_string"].decode("utf-8", "surrogateescape")
        root = settings.root_path + scope.get(ROOT, "")
        return cls(scope, path, query, root, settings.root_path, headers, credentials, scope.get(RIGHTS, ALL))

    @cached_property
    def target(self) -> Target:
        """The target that the request names. Raises BadAddress, and Refused if its key does not open the pin."""
        target = parse_target(self.path, self.query)
        if key_of(target.login):
            raise BadAddress(
                "an access key of this mirror is not for the upstream: put it before the pin, /k/<key>/..."
            )
        self.rights.check_pin(target.pin)
        return target

    @property
    def is_get(self) -> bool:
        """Whether it is for the body too."""
        return bool(self.scope["method"] == "GET")

    @property
    def raw(self) -> bool:
        """Whether it is for the upstream's own bytes (`/<pin>/raw/<upstream-url>`), which no adapter rewrites."""
        return split_path(self.path).raw

    @property
    def pinned(self) -> str:
        """The prefix of links that stay in the pin."""
        parts = split_path(self.path)
        return f"{self.root}/{parts.pin}/{'raw/' if parts.raw else ''}"

    def link(self, path: str) -> str:
        """Return a link to a path of the mirror, given with the root path, as it is in the answer."""
        return self.root + path.removeprefix(self.root_path)

    def slashed(self, final: str) -> str | None:
        """Return this URL with a slash after its path if that is where the upstream redirected to, or None.

        `final` is the URL that the response came from. Without the slash, relative links would resolve wrongly.
        """
        asked = self.target.url.partition("?")[0]
        if asked.endswith("/") or canonical_url(final) != f"{asked}/":
            return None
        path, mark, query = self.target.wire.partition("?")
        return f"{self.pinned}{path}/{mark}{query}"

    @property
    def origin(self) -> str:
        """The mirror's origin (RFC 6454) as this client addresses it, for responses to this client alone.

        Raises BadAddress if the request has no valid Host.
        """
        host = self.headers.get("host", "")
        if not HOST.fullmatch(host):
            raise BadAddress("the request has no valid Host header: send one with the address of this mirror")
        return f"{self.scope['scheme']}://{host}"

    @property
    def accept(self) -> str:
        """The request's `Accept`; without one, everything is accepted (RFC 9110 section 12.5.1)."""
        return self.headers.get("accept", "*/*")

"""Believes what reverse proxies say of the client and its scheme (X-Forwarded-For, X-Forwarded-Proto), if trusted."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address

from starlette.types import ASGIApp, Receive, Scope, Send

FOR, PROTO = b"x-forwarded-for", b"x-forwarded-proto"
REMEMBERED = 4096  # addresses


class TrustedProxies:
    """Puts the client and the scheme that a trusted proxy tells into the scope.

    Everything else reads these from the scope alone, so what others say in such headers changes nothing. Whoever can
    open a Unix socket is trusted.
    """

    def __init__(self, app: ASGIApp, networks: Sequence[IPv4Network | IPv6Network]) -> None:
        self._app = app
        self._networks = networks
        self._trusts = lru_cache(REMEMBERED)(self._is_trusted)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            host = scope["client"][0] if scope["client"] else ""  # no host: a Unix socket
            if not host or self._trusts(host):
                for name, _ in scope["headers"]:
                    if name in (FOR, PROTO):
                        scope = self._told(scope)
                        break
        await self._app(scope, receive, send)

    def _told(self, scope: Scope) -> Scope:
        """Return the scope with what a trusted proxy says."""
        addresses, schemes = (
            [
                part.strip()
                for key, value in scope["headers"]
                if key == name
                for part in value.decode("latin-1").split(",")
            ]
            for name in (FOR, PROTO)
        )
        client = next((each for each in reversed(addresses) if not self._trusts(each)), None)
        told = {**scope}
        if client and _is_address(client):
            told["client"] = (client, 0)
        if schemes and schemes[0].lower() in ("http", "https"):
            told["scheme"] = schemes[0].lower()
        return told

    def _is_trusted(self, address: str) -> bool:
        try:
            found = ip_address(address.partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(found, "ipv4_mapped", None) or found
        return any(mapped in network for network in self._networks)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True

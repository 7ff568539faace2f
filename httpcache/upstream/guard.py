"""The SSRF guard: decides at connect time which IP addresses a URL from a request may reach.

It is in the connection layer, below redirects and DNS: it resolves the name, checks every address, and connects to a
checked address, so that DNS rebinding cannot change the address between check and use (TOCTOU).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import anyio
import httpcore

from httpcache.errors import Refused, TimedOut, Unreachable

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

RESOLVE_SECONDS = 10.0
PORTS = frozenset({80, 443})

# Not public, but `is_global` is true in some or all versions of Python: Azure's metadata service, IETF protocol
# assignments (including Oracle's metadata service), 6to4 relays, IPv6 protocol assignments (RFC 2928), documentation
# (RFC 9637).
_ALSO_INSIDE: tuple[Network, ...] = (
    IPv4Network("168.63.129.16/32"),
    IPv4Network("192.0.0.0/24"),
    IPv4Network("192.88.99.0/24"),
    IPv6Network("2001::/23"),
    IPv6Network("3fff::/20"),
)
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")


def is_public(address: Address) -> bool:
    """Whether an address is on the public internet, including embedded IPv4 ones (RFC 6890, 4291, 3056, 4380, 6052)."""
    return all(_is_public(form) for form in _forms(address))


def _is_public(address: Address) -> bool:
    if any(address in network for network in _ALSO_INSIDE if network.version == address.version):
        return False
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    return address.is_global and not address.is_multicast


def _forms(address: Address) -> list[Address]:
    """Return the address, or the IPv4 addresses that it embeds."""
    if isinstance(address, IPv4Address):
        return [address]
    if address.ipv4_mapped:
        return [address.ipv4_mapped]
    if address in _NAT64:
        return [IPv4Address(int(address) & 0xFFFFFFFF)]
    if address.sixtofour:
        return [address.sixtofour]
    if address.teredo:
        return list(address.teredo)
    return [address]


class Guard:
    """Allows public addresses on ports 80 and 443, and whatever the operator adds.

    `allowed`: networks to allow on every port (`--allow-network`). `ports`: additional ports for public addresses
    (`--allow-port`).
    """

    def __init__(self, allowed: Iterable[Network] = (), ports: Iterable[int] = ()) -> None:
        self._allowed = tuple(allowed)
        self._ports = PORTS | frozenset(ports)

    def check(self, host: str, address: Address, port: int) -> None:
        """Raise Refused, naming the option that would allow it, unless connecting to the address is allowed."""
        if self._is_allowed(address):
            return
        if not is_public(address):
            raise Refused(
                f"{host} is on a network that this mirror does not fetch from ({address}), to prevent SSRF; "
                f"its operator can allow it with --allow-network {address}"
            )
        self._check_port(host, port)

    async def check_name(self, host: str, port: int) -> None:
        """Check a host that a proxy will connect to. Raises Refused.

        A name that cannot be resolved here is allowed: often only the proxy can resolve it.
        """
        try:
            addresses = await resolve(host, port)
        except (Unreachable, TimedOut):
            self._check_port(host, port)
            return
        for address in addresses:
            self.check(host, address, port)

    def _check_port(self, host: str, port: int) -> None:
        if port not in self._ports:
            listed = ", ".join(map(str, sorted(self._ports)))
            raise Refused(
                f"port {port} of {host} is not one that this mirror fetches from ({listed}); "
                f"its operator can allow it with --allow-port {port}"
            )

    def _is_allowed(self, address: Address) -> bool:
        return self._lists(address) or all(map(self._lists, _forms(address)))

    def _lists(self, address: Address) -> bool:
        return any(address in network for network in self._allowed if network.version == address.version)


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """An httpcore network backend that connects only where the guard allows it."""

    def __init__(self, guard: Guard, inner: httpcore.AsyncNetworkBackend) -> None:
        self._guard = guard
        self._inner = inner

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 (httpcore's signature)
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve the host, check every address, and connect to the first that answers.

        Raises Refused, Unreachable, and httpcore's connection errors.
        """
        addresses = await resolve(host, port)
        for address in addresses:
            self._guard.check(host, address, port)
        failed: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in addresses:
            try:
                return await self._inner.connect_tcp(str(address), port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 (httpcore's signature)
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Refuse: no upstream is on a Unix socket."""
        raise Refused("this mirror does not fetch from Unix sockets")

    async def sleep(self, seconds: float) -> None:
        """Sleep (httpcore's retries use it)."""
        await self._inner.sleep(seconds)


# A separate pool: lookups that hang must not take threads from the lookups of the operator's registry.
_RESOLVERS = ThreadPoolExecutor(64, "resolve")


async def resolve(host: str, port: int) -> Sequence[Address]:
    """Return a host's addresses, without duplicates, in the resolver's order. Raises Unreachable, TimedOut."""
    ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    try:
        with anyio.fail_after(RESOLVE_SECONDS):
            found = await asyncio.get_running_loop().run_in_executor(_RESOLVERS, ask)
    except TimeoutError as error:
        raise TimedOut(f"the name {host} was not resolved within {RESOLVE_SECONDS:.0f} seconds") from error
    except (socket.gaierror, UnicodeError) as error:
        raise Unreachable(f"the name {host} cannot be resolved: {error}") from error
    return list(dict.fromkeys(ip_address(str(sockaddr[0]).partition("%")[0]) for *_, sockaddr in found))

"""The network guard. Nothing here can send to an inside address: where one is named, the network is a fake."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from socket import AF_INET, AF_INET6, IPPROTO_TCP, SOCK_STREAM, gaierror
from tempfile import TemporaryDirectory

import anyio
import httpcore
import pytest
from hypothesis import given
from hypothesis import strategies as st

from httpcache.errors import BadAddress, BadUpstream, MirrorError, Refused, Unreachable
from httpcache.settings import Settings
from httpcache.target import canonical_url, origin
from httpcache.upstream import transport
from httpcache.upstream.guard import Address, Guard, GuardedBackend, is_public
from tests.support import http
from tests.support.inprocess import asking
from tests.support.mirror import Mirror
from tests.support.upstream import Upstream, redirect

PUBLIC = ["1.1.1.1", "8.8.8.8", "151.101.0.223", "2606:4700::1111", "2a04:4e42::223"]
PUBLIC_WRAPPED = ["::ffff:8.8.8.8", "2002:808:808::1", "64:ff9b::808:808"]
INSIDE = {
    "this host (127/8, 0/8, ::1, ::)": [
        "127.0.0.1",
        "127.0.0.53",
        "127.255.255.254",
        "::1",
        "0.0.0.0",
        "0.1.2.3",
        "::",
    ],
    "10/8 (RFC 1918)": ["10.0.0.0", "10.0.0.1", "10.255.255.255"],
    "172.16/12 (RFC 1918)": ["172.16.0.1", "172.17.0.1", "172.31.255.255"],
    "192.168/16 (RFC 1918)": ["192.168.0.0", "192.168.1.1", "192.168.255.255"],
    "unique local (RFC 4193)": ["fc00::1", "fd12::1", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
    "link-local": ["169.254.0.1", "169.254.255.254", "fe80::1", "febf::1", "fe80::5efe:a00:1"],
    "metadata: AWS, GCP, Azure and others": ["169.254.169.254", "fd00:ec2::254", "fd20:ce::254", "169.254.169.253"],
    "metadata: ECS, Azure's wire server, Alibaba, Oracle": [
        "169.254.170.2",
        "168.63.129.16",
        "100.100.100.200",
        "192.0.0.192",
    ],
    "carrier-grade NAT, 100.64/10 (RFC 6598)": ["100.64.0.1", "100.96.0.1", "100.127.255.255"],
    "multicast and broadcast": ["224.0.0.1", "232.0.0.1", "233.252.0.1", "239.255.255.255", "255.255.255.255"],
    "multicast in IPv6": ["ff01::1", "ff02::1", "ff05::2", "ff0e::1", "ffff::1"],
    "reserved, 240/4": ["240.0.0.1", "255.255.255.254"],
    "IETF protocols, 192.0.0/24 (RFC 6890)": ["192.0.0.1", "192.0.0.8", "192.0.0.9", "192.0.0.170", "192.0.0.255"],
    "documentation (RFC 5737)": ["192.0.2.1", "198.51.100.1", "203.0.113.1"],
    "documentation in IPv6 (RFC 3849, 9637)": ["2001:db8::1", "2001:db8:ffff::1", "3fff::1", "3fff:fff::1"],
    "benchmarks (RFC 2544, 5180)": ["198.18.0.1", "198.19.255.255", "2001:2::1"],
    "ORCHID (RFC 4843, 7343) and drone IDs (RFC 9374)": ["2001:10::1", "2001:20::1", "2001:30::1"],
    "discard (RFC 6666), dummy (RFC 9780), segments (RFC 9602)": ["100::1", "100:0:0:1::1", "5f00::1"],
    "6to4 relays, site-local, unassigned": ["192.88.99.1", "fec0::1", "feff::1", "4000::1", "1fff::1"],
    "v4-mapped": ["::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:168.63.129.16"],
    "v4-mapped, less usual": ["::ffff:0.0.0.0", "::ffff:100.64.0.1", "::ffff:224.0.0.1", "::ffff:192.0.0.192"],
    "6to4": [
        "2002:7f00:1::",
        "2002:a00:1::1",
        "2002:a9fe:a9fe::",
        "2002:a83f:8110::",
        "2002:c0a8:101::",
        "2002:6440:1::",
    ],
    "Teredo: its server, its client": ["2001:0:a00:1::f7f7:f7f7", "2001:0:808:808::f5ff:fffe", "2001::1"],
    "NAT64": ["64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b::a9fe:a9fe", "64:ff9b::a83f:8110", "64:ff9b::6440:1"],
    "NAT64 to multicast, broadcast, nothing": ["64:ff9b::e000:1", "64:ff9b::ffff:ffff", "64:ff9b::"],
    "local NAT64 (RFC 8215), also of public addresses": ["64:ff9b:1::1", "64:ff9b:1::808:808", "64:ff9b:1:ffff::a00:1"],
    "v4-compatible and translated (RFC 4291, 2765)": [
        "::10.0.0.1",
        "::169.254.169.254",
        "::8.8.8.8",
        "::ffff:0:10.0.0.1",
        "::ffff:0:8.8.8.8",
    ],
}
ALL_INSIDE = [address for group in INSIDE.values() for address in group]
SPELLED = {
    "127.1": "127.0.0.1",
    "127.0.1": "127.0.0.1",
    "2130706433": "127.0.0.1",
    "0x7f000001": "127.0.0.1",
    "0x7F.0x0.0x0.0x1": "127.0.0.1",
    "0x7f.1": "127.0.0.1",
    "017700000001": "127.0.0.1",
    "127.0.0.1.": "127.0.0.1",
    "%31%32%37.0.0.1": "127.0.0.1",
    "１２７.０.０.１": "127.0.0.1",
    "10.1": "10.0.0.1",
    "167772161": "10.0.0.1",
    "0xa9fea9fe": "169.254.169.254",
    "2852039166": "169.254.169.254",
    "169.254.43518": "169.254.169.254",
    "0": "0.0.0.0",
    "[0:0:0:0:0:0:0:1]": "::1",
    "[0:0:0:0:0:ffff:7f00:1]": "::ffff:7f00:1",
    "[::FFFF:169.254.169.254]": "::ffff:a9fe:a9fe",
}
"""Ways to write an address, with what a resolver makes of them."""
OCTAL = ["0177.0.0.1", "012.0.0.01", "0251.0376.0251.0376"]
"""Four octal numbers, which no URL of RFC 3986 has and which programs read in two ways."""


class Recording(httpcore.AsyncNetworkBackend):
    """A network without wires: notes whom it was told to connect to, and answers with one response."""

    def __init__(
        self, response: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", failing: Iterable[str] = ()
    ) -> None:
        self.connected: list[tuple[str, int]] = []
        self._response = response
        self._failing = frozenset(failing)

    async def connect_tcp(self, host: str, port: int, *args: object, **kwargs: object) -> httpcore.AsyncNetworkStream:
        self.connected.append((host, port))
        if host in self._failing:
            raise httpcore.ConnectError(f"{host} does not answer")
        return httpcore.AsyncMockStream([self._response])

    async def sleep(self, seconds: float) -> None:
        """Do not."""


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[list[str]]]:
    """What names resolve to: for each its answers, one after the other, the last for ever. No other name resolves."""
    known: dict[str, list[list[str]]] = {}

    def getaddrinfo(host: str | bytes, port: int, **_: object) -> list[tuple[object, ...]]:
        host = host.decode() if isinstance(host, bytes) else host
        answers = known.get(host)
        if answers is None:
            try:
                addresses = [str(ip_address(host.strip("[]")))]
            except ValueError:
                raise gaierror(-2, "Name or service not known") from None
        else:
            addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        return [
            (AF_INET6 if ":" in address else AF_INET, SOCK_STREAM, IPPROTO_TCP, "", (address, port))
            for address in addresses
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return known


def connect(guard: Guard, host: str, port: int = 443, network: Recording | None = None) -> list[tuple[str, int]]:
    """Whom a connection to a host reaches."""
    network = network or Recording()
    anyio.run(GuardedBackend(guard, network).connect_tcp, host, port)
    return network.connected


def refused(guard: Guard, host: str, port: int = 443) -> str:
    """The text of a refusal, after which nothing was sent anywhere."""
    network = Recording()
    with pytest.raises(Refused) as raised:
        anyio.run(GuardedBackend(guard, network).connect_tcp, host, port)
    assert network.connected == []
    return raised.value.text


# Addresses


@pytest.mark.parametrize("address", PUBLIC + PUBLIC_WRAPPED)
def test_public_addresses(address: str) -> None:
    assert is_public(ip_address(address))
    Guard().check("host", ip_address(address), 443)


@pytest.mark.parametrize("address", ALL_INSIDE)
def test_inside_addresses(address: str) -> None:
    """Whatever the version of Python: its `is_global` differs from one to the next."""
    assert not is_public(ip_address(address))
    with pytest.raises(Refused) as raised:
        Guard().check("host", ip_address(address), 443)
    assert raised.value.status == 403
    assert raised.value.text.startswith("host is on a network that this mirror does not fetch from")
    assert f"--allow-network {ip_address(address)}" in raised.value.text


@pytest.mark.parametrize("address", ALL_INSIDE)
def test_the_setting_that_a_refusal_names_allows_it(address: str) -> None:
    Guard([ip_network(address)]).check("host", ip_address(address), 443)


@given(st.ip_addresses())
def test_every_address_is_refused_in_the_same_way_or_passes(address: Address) -> None:
    """No address is an error of another kind; what passes is global unicast in each form that it carries."""
    try:
        Guard().check("host", address, 443)
    except Refused:
        return
    assert not address.is_private
    assert not address.is_multicast


@given(st.ip_addresses(v=4), st.sampled_from(["::ffff:0:0", "64:ff9b::", "2002::", "2001::"]))
def test_what_wraps_an_inside_address_is_inside(address: IPv4Address, prefix: str) -> None:
    """Random addresses in the forms of IPv6 that carry one: these are never better than what they carry."""
    shift = 80 if prefix == "2002::" else 0
    flipped = 0xFFFFFFFF if prefix == "2001::" else 0  # Teredo has the client's address inverted
    wrapped = IPv6Address(int(IPv6Address(prefix)) | ((int(address) ^ flipped) << shift))
    assert is_public(address) or not is_public(wrapped)


@pytest.mark.parametrize(
    ("network", "address", "allowed"),
    [
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", True),  # public anyway
        ("10.0.0.0/8", "192.168.0.1", False),
        ("10.0.0.0/8", "::ffff:10.1.2.3", True),
        ("10.0.0.0/8", "127.0.0.1", False),
        ("fd00::/8", "fd12::1", True),
        ("fd00::/8", "fe80::1", False),
        ("169.254.169.254/32", "169.254.169.254", True),
        ("0.0.0.0/0", "::1", False),
        ("::/0", "10.0.0.1", False),
    ],
)
def test_an_operator_allows_networks(network: str, address: str, allowed: bool) -> None:
    guard = Guard([ip_network(network)])
    if allowed:
        guard.check("host", ip_address(address), 443)
    else:
        with pytest.raises(Refused):
            guard.check("host", ip_address(address), 443)


@pytest.mark.parametrize("port", [22, 25, 79, 81, 6379, 8080, 8443])
def test_other_ports(port: int) -> None:
    with pytest.raises(Refused, match=f"{port}.*--allow-port {port}"):
        Guard().check("host", ip_address("8.8.8.8"), port)
    Guard([ip_network("8.8.8.0/24")]).check("host", ip_address("8.8.8.8"), port)
    Guard(ports=[port]).check("host", ip_address("8.8.8.8"), port)


@pytest.mark.parametrize(("form", "address"), SPELLED.items())
def test_every_way_to_write_an_address(form: str, address: str) -> None:
    """The machine's own resolver reads these; no name server is asked."""
    host = origin(canonical_url(f"http://{form}/")).removeprefix("http://").strip("[]")
    written = ip_address(address)  # Python 3.13 writes the IPv4 address in an IPv6 one in decimal
    assert f"({written})" in refused(Guard(), host, 80)


@pytest.mark.parametrize("form", OCTAL)
def test_octal_numbers_are_no_address(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Recording()
    with pytest.raises(BadAddress):
        ask(monkeypatch, network, canonical_url(f"http://{form}/"))
    assert network.connected == []


@pytest.mark.parametrize(
    "host", ["[::1%25lo]", "[fe80::1%25eth0]", "[::1%lo]", "[10.0.0.1]", "[::1]x", "::1", "user@a"]
)
def test_what_is_no_host_of_a_url(host: str) -> None:
    with pytest.raises(BadAddress):
        canonical_url(f"http://{host}/")


# Names


@pytest.mark.parametrize("inside", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fd00::1"])
@pytest.mark.parametrize("first", [True, False])
def test_one_bad_address_of_several_is_enough(first: bool, inside: str, names: dict[str, list[list[str]]]) -> None:
    names["mixed.example"] = [[inside, "8.8.8.8"] if first else ["8.8.8.8", inside]]
    assert inside in refused(Guard(), "mixed.example")


@pytest.mark.parametrize("address", ALL_INSIDE)
def test_a_name_of_an_inside_address(address: str, names: dict[str, list[list[str]]]) -> None:
    """The text says which name and which address, for whoever wonders."""
    names["inside.example"] = [[address]]
    text = refused(Guard(), "inside.example", 80)
    assert "inside.example" in text
    assert f"({ip_address(address)})" in text


@pytest.mark.parametrize("name", ["metadata.google.internal", "metadata", "instance-data", "kubernetes.default.svc"])
def test_names_that_only_the_inside_has(name: str, names: dict[str, list[list[str]]]) -> None:
    """They are judged by what they resolve to, here and there."""
    names[name] = [["169.254.169.254"]]
    assert name in refused(Guard(), name, 80)
    del names[name]
    with pytest.raises(Unreachable):
        connect(Guard(), name, 80)


def test_one_question_for_each_connection(names: dict[str, list[list[str]]]) -> None:
    """Between check and connect nobody is asked again: the third answer would be taken by the third connection."""
    names["rebind.example"] = [["8.8.8.8"], ["8.8.4.4"], ["127.0.0.1"]]
    assert connect(Guard(), "rebind.example") == [("8.8.8.8", 443)]
    assert connect(Guard(), "rebind.example") == [("8.8.4.4", 443)]
    refused(Guard(), "rebind.example")


def test_a_second_try_is_checked_too(names: dict[str, list[list[str]]]) -> None:
    """The first connection fails, and by then the name means something else."""
    names["rebind.example"] = [["8.8.8.8"], ["127.0.0.1"]]
    network = Recording(failing=["8.8.8.8"])
    with pytest.raises(httpcore.ConnectError):
        connect(Guard(), "rebind.example", network=network)
    refused(Guard(), "rebind.example")
    assert network.connected == [("8.8.8.8", 443)]


def test_it_connects_to_an_address_that_was_checked(names: dict[str, list[list[str]]]) -> None:
    """Never to the name: it may mean something else the next time (rebinding)."""
    names["rebind.example"] = [["8.8.8.8"], ["127.0.0.1"]]
    assert connect(Guard(), "rebind.example") == [("8.8.8.8", 443)]
    refused(Guard(), "rebind.example")


def test_it_tries_every_address(names: dict[str, list[list[str]]]) -> None:
    names["two.example"] = [["2606:4700::1111", "8.8.8.8"]]
    network = Recording(failing=["2606:4700::1111"])
    assert connect(Guard(), "two.example", network=network) == [("2606:4700::1111", 443), ("8.8.8.8", 443)]
    with pytest.raises(httpcore.ConnectError):
        connect(Guard(), "two.example", network=Recording(failing=["2606:4700::1111", "8.8.8.8"]))


def test_a_name_without_address(names: dict[str, list[list[str]]]) -> None:
    with pytest.raises(Unreachable, match=r"nowhere\.example"):
        connect(Guard(), "nowhere.example")


def test_an_address_with_a_scope(names: dict[str, list[list[str]]]) -> None:
    names["scoped.example"] = [["fe80::1%eth0"]]
    refused(Guard(), "scoped.example")


def test_unix_sockets() -> None:
    with pytest.raises(Refused):
        anyio.run(GuardedBackend(Guard(), Recording()).connect_unix_socket, "/run/socket")


# The whole client on the fake network


def ask(monkeypatch: pytest.MonkeyPatch, network: Recording, url: str, *, trusted: bool = False) -> int:
    """The status of a URL, asked through the guard on a network that is not there."""
    monkeypatch.setattr(transport, "SocketBackend", lambda: network)

    async def asked(data: Path) -> int:
        async with asking(Settings(data)) as asker, asker.ask(url, trusted=trusted) as answer:
            return answer.status

    with TemporaryDirectory() as folder:
        return anyio.run(asked, Path(folder))


@pytest.mark.parametrize("host", ["10.0.0.1", "[::1]", "[::ffff:169.254.169.254]", "metadata.example"])
def test_the_client_is_guarded(host: str, monkeypatch: pytest.MonkeyPatch, names: dict[str, list[list[str]]]) -> None:
    names["metadata.example"] = [["169.254.169.254"]]
    network = Recording()
    with pytest.raises(Refused):
        ask(monkeypatch, network, f"http://{host}/latest/meta-data/")
    assert network.connected == []


def test_the_client_reaches_what_is_public(monkeypatch: pytest.MonkeyPatch, names: dict[str, list[list[str]]]) -> None:
    names["public.example"] = [["8.8.8.8"]]
    network = Recording()
    assert ask(monkeypatch, network, "http://public.example/") == 200
    assert network.connected == [("8.8.8.8", 80)]


@pytest.mark.parametrize(
    ("location", "error"),
    [
        ("http://10.0.0.1/", Refused),
        ("http://[::1]/", Refused),
        ("//169.254.169.254/latest", Refused),
        ("http://inside.example/", Refused),
        ("http://public.example:6379/", Refused),
        ("ftp://public.example/", BadUpstream),
        ("file:///etc/passwd", BadUpstream),
    ],
)
def test_a_redirect_to_the_inside(
    location: str,
    error: type[MirrorError],
    monkeypatch: pytest.MonkeyPatch,
    names: dict[str, list[list[str]]],
) -> None:
    """Each hop is guarded like the first."""
    names |= {"public.example": [["8.8.8.8"]], "inside.example": [["192.168.0.1"]]}
    head = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
    network = Recording(head.encode())
    with pytest.raises(error):
        ask(monkeypatch, network, "http://public.example/")
    assert network.connected == [("8.8.8.8", 80)]


def test_a_name_that_changes_between_redirects(
    monkeypatch: pytest.MonkeyPatch, names: dict[str, list[list[str]]]
) -> None:
    names["rebind.example"] = [["8.8.8.8"], ["127.0.0.1"]]
    network = Recording(
        b"HTTP/1.1 302 Found\r\nLocation: http://rebind.example/again\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    )
    with pytest.raises(Refused):
        ask(monkeypatch, network, "http://rebind.example/")
    assert network.connected == [("8.8.8.8", 80)]


# Over the server


@pytest.fixture
def guarded(mirror: Callable[..., Mirror], monkeypatch: pytest.MonkeyPatch) -> Mirror:
    """A mirror that may fetch from no inside network."""
    options = Mirror._options

    def guarded_options(self: Mirror) -> list[str]:
        found = options(self)
        at = found.index("--allow-network")
        return found[:at] + found[at + 2 :]

    monkeypatch.setattr(Mirror, "_options", guarded_options)
    return mirror()


def test_the_server_refuses_the_inside(upstreams: Callable[..., Upstream], guarded: Mirror) -> None:
    """Loopback only, which is where the tests' upstreams are; the text names the setting that would allow it."""
    upstream: Upstream = upstreams()
    upstream.pages["/file"] = b"inside"
    port = upstream.port
    hosts = ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"]
    for host in hosts:
        answer = http.get(guarded.pin("inside", f"http://{host}:{port}/file"))
        assert answer.status_code == 403, host
        assert "--allow-network" in answer.text
        assert answer.headers["cache-control"] == "no-store"
    assert upstream.count() == 0


def test_the_server_allows_what_it_was_told_to_and_no_more(
    upstreams: Callable[..., Upstream], server: Mirror, pin: str
) -> None:
    """127.0.0.0/8 is allowed: a redirect to the other loopback is not."""
    upstream: Upstream = upstreams()
    upstream.pages["/away"] = redirect(f"http://[::1]:{upstream.port}/file")
    answer = http.get(server.pin(pin, f"{upstream.url}/away"))
    assert answer.status_code == 403
    assert "::1" in answer.text

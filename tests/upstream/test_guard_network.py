"""The network guard of the real server, in a network of its own where every address leads to a listener of the test.

The server runs in an empty network namespace. Its one interface is the loopback, and a route makes every address of
IPv4 and IPv6 one of this machine's, so nothing can leave it; but what the guard lets through is connected to, answered
and counted. A name server there gives names the addresses that a row needs.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import re
import shutil
import socket
import string
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import quote, unquote

import pytest

from tests.support.mirror import Mirror
from tests.support.tally import tally
from tests.upstream.test_guard import ALL_INSIDE, OCTAL, PUBLIC, PUBLIC_WRAPPED, SPELLED

PATIENCE = 15.0
"""Seconds that one answer may take: what is refused is refused at once."""
PORTS = (80, 443, 22, 25, 6379, 8080)
UNROUTED = {"::", "0.0.0.0", "0.1.2.3", "255.255.255.255"}  # and multicast: nobody can connect to these
NAMES = {
    "public.example": ["8.8.8.8"],
    "public6.example": ["2606:4700::1111"],
    "inside.example": ["10.0.0.1"],
    "metadata.google.internal": ["169.254.169.254"],
    "instance-data.ec2.internal": ["169.254.169.254"],
    "metadata": ["169.254.169.254"],
    "mixed.example": ["8.8.8.8", "10.0.0.1"],
    "mixed-reversed.example": ["10.0.0.1", "8.8.8.8"],
    "mixed6.example": ["8.8.8.8", "fd00:ec2::254"],
    "mapped.example": ["::ffff:169.254.169.254"],
    "nat64.example": ["64:ff9b::a9fe:a9fe"],
}
REBINDING = {"rebind.example": ["8.8.8.8", "127.0.0.1"], "rebind2.example": ["8.8.8.8", "127.0.0.1"]}
"""Names that mean the next of these addresses at each question."""


@dataclass(frozen=True)
class Row:
    """A request to `/pin/<url>` and what must come of it.

    `texts` are parts of the answer; `reached` are the addresses that were connected to. `allowing` are options of the
    server in place of none.
    """

    url: str
    status: int
    texts: tuple[str, ...] = ()
    reached: tuple[str, ...] = ()
    allowing: tuple[str, ...] = ()


@dataclass
class Seen:
    """What came of a row."""

    status: int
    text: str
    reached: list[str] = field(default_factory=list)


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _refused(url: str, *texts: str, reached: tuple[str, ...] = ()) -> Row:
    return Row(url, 403, ("--allow-network", *texts), reached)


def _hops(count: int, last: str) -> str:
    """A public address that redirects so many times and then to `last`."""
    return f"http://public.example/{count}/{last}"


NETWORK = ("--allow-network", "10.0.0.0/8", "--allow-network", "fd00::/8")
REFUSED = [
    *(_refused(f"http://{_bracketed(address)}/x") for address in ALL_INSIDE),
    *(_refused(f"http://{form}/x", address) for form, address in SPELLED.items()),
    *(_refused(f"http://{name}/x", name) for name in NAMES if not name.startswith("public")),
    *(_refused(f"http://10.0.0.1:{port}/x") for port in PORTS),
    *(_refused(f"https://{_bracketed(address)}/x") for address in ("10.0.0.1", "::1", "169.254.169.254")),
    # what stands in front of the @ is a login (RFC 3986 section 3.2.1), whatever it looks like
    *(
        _refused(f"http://{user}@10.0.0.1/x")
        for user in ("user:word", "8.8.8.8", "8.8.8.8%40", "8.8.8.8%23", "8.8.8.8%2F", "8.8.8.8%5C")
    ),
    _refused("http://localhost/x", "localhost"),
    _refused("http://LOCALHOST./x", "localhost"),
]
OTHER_PORTS = [
    Row(f"http://{host}:{port}/x", 403, ("--allow-port", str(port)))
    for host in ("public.example", "8.8.8.8", "[2606:4700::1111]")
    for port in PORTS[2:]
]
UNREADABLE = [
    Row(url, 400)
    for url in (
        "ftp://8.8.8.8/x",
        "file:///etc/passwd",
        "unix:///run/docker.sock",
        "http+unix://%2Frun%2Fdocker.sock/x",
        "gopher://10.0.0.1:6379/_INFO",
        "data:text/plain,x",
        "http://10.0.0.1%2F.public.example/x",
        "http://10.0.0.1%5C.public.example/x",
        "http://10.0.0.1%00.public.example/x",
        "http://10.0.0.1%20.public.example/x",
        "http://10.0.0.1%0d%0aHost:%20x/x",
        "http://[fe80::1%25lo]/x",
        "http://[::1%25lo]/x",
        "http://[::1%2525lo]/x",
        "http://[10.0.0.1]/x",
        "http://[v1.a]/x",
        "http://[]/x",
        *(f"http://{form}/x" for form in OCTAL),
        "http://10.0.0.1:99999/x",
        "http://10.0.0.1:-1/x",
    )
]
REDIRECTS = [
    *(_refused(_hops(hops, f"http://{host}/x"), host.strip("[]"), reached=("8.8.8.8",) * hops)
      for hops in (1, 2, 3) for host in ("10.0.0.1", "127.0.0.1", "[::1]", "169.254.169.254", "inside.example")),
    *(_refused(_hops(1, f"http://{form}/x"), address, reached=("8.8.8.8",))
      for form, address in SPELLED.items() if form.isascii() and "%" not in form),
    Row(_hops(1, "http://public.example:6379/x"), 403, ("--allow-port", "6379"), ("8.8.8.8",)),
    *(Row(_hops(1, url), 502, (), ("8.8.8.8",))
      for url in ("ftp://public.example/x", "file:///etc/passwd", "unix:///run/x", "http://[fe80::1%25lo]/x",
                  *(f"http://{form}/x" for form in OCTAL))),
]  # fmt: skip
REBOUND = [
    Row("http://rebind.example/x", 200, ("ok",), ("8.8.8.8",)),
    _refused("http://rebind2.example/1/http://rebind2.example/x", "127.0.0.1", reached=("8.8.8.8",)),
]
GIVEN = [
    *(Row(f"http://{_bracketed(address)}/x", 200, ("ok",), (address,)) for address in PUBLIC),
    Row("http://[::ffff:8.8.8.8]/x", 200, ("ok",), ("8.8.8.8",)),
    *(Row(f"http://[{address}]/x", 200, ("ok",), (address,)) for address in PUBLIC_WRAPPED[1:]),
    *(Row(f"http://{name}/x", 200, ("ok",), tuple(NAMES[name])) for name in ("public.example", "public6.example")),
    Row(_hops(2, "http://public6.example/x"), 200, ("ok",), ("8.8.8.8", "8.8.8.8", "2606:4700::1111")),
    Row(_hops(1, "http://user:word@public.example/x"), 200, ("ok",), ("8.8.8.8", "8.8.8.8")),  # the user is dropped
    Row("http://nowhere.example/x", 502, ("nowhere.example",)),
    Row("http:///nowhere.example/x", 502, ("nowhere.example",)),  # clients and proxies merge and add slashes
]
ALLOWED = [
    Row("http://10.0.0.1/x", 200, ("ok",), ("10.0.0.1",), NETWORK),
    Row("http://10.1.2.3:6379/x", 200, ("ok",), ("10.1.2.3",), NETWORK),
    Row("http://[::ffff:10.0.0.1]/x", 200, ("ok",), ("10.0.0.1",), NETWORK),
    Row("http://[fd00:ec2::254]/x", 200, ("ok",), ("fd00:ec2::254",), NETWORK),
    Row(_hops(1, "http://inside.example/x"), 200, ("ok",), ("8.8.8.8", "10.0.0.1"), NETWORK),
    Row("http://192.168.1.1/x", 403, ("--allow-network",), (), NETWORK),
    Row("http://127.0.0.1/x", 403, ("--allow-network",), (), NETWORK),
    Row("http://metadata.google.internal/x", 403, ("--allow-network",), (), NETWORK),
    Row("http://public.example:8080/x", 200, ("ok",), ("8.8.8.8",), ("--allow-port", "8080")),
    Row("http://public.example:6379/x", 403, ("--allow-port", "6379"), (), ("--allow-port", "8080")),
    Row("http://10.0.0.1:8080/x", 403, ("--allow-network",), (), ("--allow-port", "8080")),
]
PROXY = ("--proxy", "http://127.0.0.1:8080")
BY_PROXY = [
    Row("http://public.example/x", 200, ("ok",), ("127.0.0.1",), PROXY),
    Row("http://known-to-the-proxy.example/x", 200, ("ok",), ("127.0.0.1",), PROXY),
    *(
        Row(f"http://{host}/x", 403, ("--allow-network",), (), PROXY)
        for host in ("10.0.0.1", "127.1", "[::1]", "[::ffff:10.0.0.1]", "localhost", "inside.example", "mixed.example")
    ),
    Row("https://10.0.0.1/x", 403, ("--allow-network",), (), PROXY),
    Row(_hops(2, "http://10.0.0.1/x"), 403, ("--allow-network", "10.0.0.1"), ("127.0.0.1",) * 2, PROXY),
    Row("http://public.example:6379/x", 403, ("--allow-port", "6379"), (), PROXY),
]
OWN = ("--allow-network", "127.0.0.0/8")
LOOPS = [
    _refused("http://127.0.0.1:{port}/-/health"),
    _refused("http://localhost:{port}/other/http://public.example/x"),
    Row("http://127.0.0.1:{port}/other/http://public.example/x", 508, (), (), OWN),
    Row("http://127.0.0.1/1/http://127.0.0.1:{port}/other/http://public.example/x", 508, (), ("127.0.0.1",), OWN),
    Row("http://127.0.0.1/loop/{port}", 508, (), ("127.0.0.1",), OWN),
]
GROUPS = [REFUSED, OTHER_PORTS, UNREADABLE, REDIRECTS, REBOUND, GIVEN, ALLOWED, BY_PROXY, LOOPS]
ROWS = [row for group in GROUPS for row in group]


# Outside: pytest


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[Row, Seen]:
    """Every row, tried once in one namespace."""
    found = json.loads(_inside(tmp_path_factory.mktemp("guard")))
    assert found["unexpected"] == []
    tally("inside addresses that the guard alone kept out", found["reachable"])
    assert found["reachable"] >= len(ALL_INSIDE) / 2, "this network is too empty to show anything"
    return {row: Seen(**seen) for row, seen in zip(ROWS, found["rows"], strict=True)}


def _inside(folder: Path) -> str:
    """Run this module in new namespaces, which end with it and all that it started."""
    if not sys.platform.startswith("linux") or not shutil.which("unshare"):
        pytest.skip("network namespaces and `unshare` (util-linux) are needed, which Linux has")
    command = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if os.geteuid():
        command.append("--map-root-user")
    tried = subprocess.run([*command, "true"], capture_output=True, text=True, timeout=30)
    if tried.returncode:
        pytest.skip(f"no namespaces of one's own are permitted here: {tried.stderr.strip()}")
    ran = subprocess.run(
        [*command, sys.executable, "-m", "tests.upstream.test_guard_network", str(folder)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert ran.returncode == 0, ran.stderr[-4000:]
    return ran.stdout


@pytest.mark.parametrize("row", ROWS, ids=lambda row: " ".join((*row.allowing, row.url)))
def test_the_guard(row: Row, results: dict[Row, Seen]) -> None:
    """What is refused is never connected to, and the answer names the setting that would allow it."""
    seen = results[row]
    tally("addresses asked of a guarded server")
    assert seen.status == row.status, seen.text
    assert tuple(seen.reached) == row.reached
    for text in row.texts:
        assert text in seen.text


# Inside: the namespace


def main(folder: Path) -> None:
    """Try every row, one after the other, and print what came of them as JSON."""
    _open_network()
    _use_name_server(folder)
    with _listeners() as reached, _name_server():
        reachable = sum(_connects(address) for address in ALL_INSIDE)
        reached.clear()
        rows: dict[Row, Seen] = {}
        for number, options in enumerate(dict.fromkeys(row.allowing for row in ROWS)):
            with _server(folder / f"{number}", options) as server:
                for row in ROWS:
                    if row.allowing == options:
                        rows[row] = _try(server, row, reached)
    done = [asdict(rows[row]) for row in ROWS]
    print(json.dumps({"rows": done, "reachable": reachable, "unexpected": [str(place) for place in reached]}))


def _open_network() -> None:
    """Bring the loopback up, and make every address one of this machine's (`ip route add local default dev lo`)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        up = struct.pack("16sh14x", b"lo", 0x1 | 0x40)  # IFF_UP, IFF_RUNNING
        fcntl.ioctl(any_socket, 0x8914, up)  # SIOCSIFFLAGS
    for family in (socket.AF_INET, socket.AF_INET6):
        _netlink(_local_route(family))


def _local_route(family: int) -> bytes:
    """RTM_NEWROUTE: no destination bits, table and type `local`, scope `host`, out of the loopback."""
    message = struct.pack("=BBBBBBBBI", family, 0, 0, 0, 255, 3, 254, 2, 0)
    message += struct.pack("=HHi", 8, 4, socket.if_nametoindex("lo"))  # RTA_OIF
    return struct.pack("=IHHII", 16 + len(message), 24, 0x1 | 0x4 | 0x400, 1, 0) + message  # REQUEST, ACK, CREATE


def _netlink(message: bytes) -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as kernel:
        kernel.send(message)
        error = struct.unpack("=i", kernel.recv(4096)[16:20])[0]
    if error:
        raise OSError(-error, os.strerror(-error))


def _use_name_server(folder: Path) -> None:
    """Give the namespace a resolver's configuration of its own."""
    for name, text in {
        "resolv.conf": "nameserver 127.0.0.53\noptions timeout:1 attempts:1\n",
        "hosts": "127.0.0.1 localhost\n",
        "nsswitch.conf": "hosts: files dns\n",
    }.items():
        (folder / name).write_text(text)
        subprocess.run(["mount", "--bind", folder / name, Path("/etc", name).resolve()], check=True)


@contextmanager
def _listeners() -> Iterator[list[str]]:
    """Listen on every address at some ports; what was connected to is noted before it is answered."""
    reached: list[str] = []
    listening = []
    for family, anywhere in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        for port in PORTS:
            listener = socket.socket(family, socket.SOCK_STREAM)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind((anywhere, port))
            listener.listen(64)
            listening.append(listener)
            threading.Thread(target=_accept, args=(listener, reached), daemon=True).start()
    yield reached
    for listener in listening:
        listener.close()


def _accept(listener: socket.socket, reached: list[str]) -> None:
    with suppress(OSError):
        while True:
            connection = listener.accept()[0]
            reached.append(str(ip_address(connection.getsockname()[0])))
            with connection, suppress(OSError):
                _respond(connection)


def _respond(connection: socket.socket) -> None:
    """`/<n>/<url>` redirects so many times, the last time to the URL; `/loop/<port>` to itself through the mirror."""
    connection.settimeout(PATIENCE)
    target = unquote([*connection.recv(65536).split(b" "), b""][1].decode())
    target = re.sub(r"^http://[^/]*", "", target)  # as one asks a proxy
    hops = re.fullmatch(r"/(\d)/(.*)", target)
    location = ""
    if hops:
        number, last = int(hops[1]), hops[2]
        location = last if number == 1 else f"http://public.example/{number - 1}/{last}"
    elif target.startswith("/loop/"):
        location = f"http://127.0.0.1:{target.removeprefix('/loop/')}/pin/http://127.0.0.1{target}"
    head = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\n" if location else "HTTP/1.1 200 OK\r\n"
    connection.sendall(f"{head}Content-Length: 2\r\nConnection: close\r\n\r\nok".encode())


@contextmanager
def _name_server() -> Iterator[None]:
    asked: dict[str, int] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.53", 53))
        threading.Thread(target=_answer_names, args=(server, asked), daemon=True).start()
        yield


def _answer_names(server: socket.socket, asked: dict[str, int]) -> None:
    with suppress(OSError):
        while True:
            question, client = server.recvfrom(4096)
            server.sendto(_named(question, asked), client)


def _named(message: bytes, asked: dict[str, int]) -> bytes:
    """The answer to a question for A (1) or AAAA (28) records, with no time to live (RFC 1035)."""
    labels, at = [], 12
    while message[at]:
        labels.append(message[at + 1 : at + 1 + message[at]].decode())
        at += 1 + message[at]
    name, kind = ".".join(labels).lower(), int.from_bytes(message[at + 1 : at + 3])
    addresses = NAMES.get(name)
    if name in REBINDING:
        addresses = [REBINDING[name][min(asked.get(name, 0), 1)]]
        asked[name] = asked.get(name, 0) + (kind == 1)
    fitting = [parsed for parsed in map(ip_address, addresses or ()) if kind == (1 if parsed.version == 4 else 28)]
    records = b"".join(
        b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 0, len(parsed.packed)) + parsed.packed for parsed in fitting
    )
    flags = 0x8180 if addresses else 0x8183  # NXDOMAIN
    return message[:2] + struct.pack(">HHHHH", flags, 1, len(fitting), 0, 0) + message[12 : at + 5] + records


def _connects(address: str) -> bool:
    """Whether one who has no guard reaches it here."""
    parsed = ip_address(address)
    if address in UNROUTED or parsed.is_multicast:
        return False
    with socket.socket(socket.AF_INET6 if parsed.version == 6 else socket.AF_INET) as client:
        client.settimeout(2)
        try:
            client.connect((address, 80))
        except OSError:
            return False
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        return client.recv(100).startswith(b"HTTP/1.1 200")


class _Guarded(Mirror):
    """A mirror without the network that the tests' own upstreams need."""

    def _options(self) -> list[str]:
        options = super()._options()
        at = options.index("--allow-network")
        return options[:at] + options[at + 2 :]


@contextmanager
def _server(folder: Path, options: tuple[str, ...]) -> Iterator[Mirror]:
    server = _Guarded(folder, "http://127.0.0.1:9/simple/", options)
    try:
        yield server.start()
    except AssertionError as error:  # an option that it does not know: its rows tell
        print(error, file=sys.stderr)
        yield server
    finally:
        server.kill()


def _try(server: Mirror, row: Row, reached: list[str]) -> Seen:
    reached.clear()
    url = row.url.format(port=server.port)
    path = f"/pin/{url}"
    seen = _ask(server, path)
    if row.status in (400, 403) and not row.reached:  # decided anew each time, whatever was remembered
        again = _ask(server, path)
        seen = again if again.status == seen.status else Seen(0, f"{seen} at first, and then {again}")
    seen.reached = reached.copy()
    reached.clear()
    return seen


def _ask(server: Mirror, path: str) -> Seen:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    try:
        connection.request("GET", quote(path, safe=string.punctuation), headers={"Accept": "*/*"})
        answer = connection.getresponse()
        return Seen(answer.status, answer.read().decode(errors="replace"))
    except OSError as error:
        return Seen(0, repr(error))
    finally:
        connection.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else scratch))

"""Where the server listens: TLS with HTTP/2 and renewed certificates, Unix sockets, IPv6; and what it refuses."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from httpcache.command.listening import RENEWED_SECONDS
from tests.support import http
from tests.support.clients import PIP, UV, Clients
from tests.support.command import run, told
from tests.support.mirror import Mirror, free_port
from tests.support.packages import wheel
from tests.support.registries import PyPI
from tests.support.upstream import Response, Upstream

BIG = os.urandom(3_000_000)


class Certificate:
    """A certificate of an authority of its own, in files."""

    def __init__(self, folder: Path) -> None:
        self.cert, self.key, self.authority = folder / "cert.pem", folder / "key.pem", folder / "ca.pem"
        self._ca = trustme.CA()
        self._ca.cert_pem.write_to_path(str(self.authority))
        self.issue()

    def issue(self) -> None:
        """Replace the files by those of a new certificate, as `certbot` does."""
        issued = self._ca.issue_cert("127.0.0.1", "localhost")
        issued.private_key_pem.write_to_path(str(self.key))
        for number, blob in enumerate(issued.cert_chain_pems):
            blob.write_to_path(str(self.cert), append=number > 0)

    @property
    def options(self) -> tuple[str, ...]:
        """Those of the server."""
        return ("--tls-cert", str(self.cert), "--tls-key", str(self.key))

    def served(self, port: int) -> bytes:
        """The certificate that a client is shown."""
        context = ssl.create_default_context(cafile=str(self.authority))
        with (
            socket.create_connection(("127.0.0.1", port), 5) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
        ):
            return secure.getpeercert(binary_form=True) or b""


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return Certificate(tmp_path)


def curl(*arguments: str | Path) -> str:
    """What curl prints."""
    ran = subprocess.run(["curl", "-q", "-sS", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def soon(condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
    """Return when the condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.1)


@pytest.fixture
def secure(certificate: Certificate, tmp_path: Path, pypi: PyPI) -> Iterator[Mirror]:
    running = Mirror(tmp_path / "mirror", pypi.url)
    running.start(*certificate.options, ready=False)
    address = f"https://127.0.0.1:{running.port}/-/ready"
    soon(
        lambda: subprocess.run(["curl", "-sk", address], capture_output=True, check=False).stdout == b"ready\n", "ready"
    )
    try:
        yield running
    finally:
        running.stop()
    assert "Traceback" not in running.log()


@pytest.mark.parametrize("version", ["1.1", "2"])
def test_tls(version: str, secure: Mirror, certificate: Certificate, upstream: Upstream, tmp_path: Path) -> None:
    upstream.pages["/file"] = Response(BIG)
    address = f"https://127.0.0.1:{secure.port}/tls-2024-01-02/{upstream.url}/file"
    options = ("--cacert", certificate.authority, f"--http{version}")
    for _ in range(3):
        found = curl(*options, "-o", tmp_path / "got", "-w", "%{http_version} %{http_code}", address)
        assert found == f"{version} 200"
        assert (tmp_path / "got").read_bytes() == BIG
    found = curl(*options, "-r", "1000-1999", "-o", tmp_path / "got", "-w", "%{http_code}", address)
    assert found == "206"
    assert (tmp_path / "got").read_bytes() == BIG[1000:2000]
    assert f"https://127.0.0.1:{secure.port}/" in curl(*options, f"https://127.0.0.1:{secure.port}/")


def test_installers_by_tls(secure: Mirror, certificate: Certificate, pypi: PyPI, clients: Clients) -> None:
    demo = wheel("demo", "1.0")
    pypi.upload(demo, "2024-01-01T00:00:00Z")
    index = f"https://127.0.0.1:{secure.port}/2024-01-04/"
    trusted = {"REQUESTS_CA_BUNDLE": str(certificate.authority), "SSL_CERT_FILE": str(certificate.authority)}
    home = clients.place()
    for client in ([*PIP, "install"], [UV, "pip", "install", "--python", PIP[0]]):
        target = home / client[0].rpartition("/")[2]
        where = ("--index-url", index, "--target", target)
        clients.run(*client, *where, demo.name, home=home, environment=trusted).checked()
        assert list(target.glob("demo-1.0.dist-info"))


def test_a_certificate_is_renewed_while_clients_are_answered(
    secure: Mirror, certificate: Certificate, upstream: Upstream
) -> None:
    """A pair that does not fit, as while the files are being replaced, changes nothing."""
    upstream.pages["/file"] = Response(b"body")
    address = f"https://127.0.0.1:{secure.port}/tls-2024-01-02/{upstream.url}/file"
    first = certificate.served(secure.port)
    ended, wrong = threading.Event(), []

    def ask() -> None:
        while not ended.is_set():
            ran = subprocess.run(["curl", "-q", "-sSk", address], capture_output=True, check=False)
            if ran.stdout != b"body":
                wrong.append((ran.returncode, ran.stdout, ran.stderr))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        old_key = certificate.key.read_bytes()
        certificate.issue()
        new_key = certificate.key.read_bytes()
        certificate.key.write_bytes(old_key)
        time.sleep(2 * RENEWED_SECONDS)
        assert certificate.served(secure.port) == first
        certificate.key.write_bytes(new_key)
        soon(lambda: certificate.served(secure.port) != first, "the new certificate")
    finally:
        ended.set()
        asking.join()
    assert wrong == []
    assert "the certificate stays the one from before" in secure.log()


@pytest.fixture
def unix(tmp_path: Path) -> Iterator[tuple[Mirror, Path]]:
    path = tmp_path / "s"
    running = Mirror(tmp_path / "mirror")
    running.start("--unix-socket", str(path), ready=False)
    ready = ["curl", "-s", "--unix-socket", str(path), "http://mirror/-/ready"]
    soon(lambda: subprocess.run(ready, capture_output=True, check=False).stdout == b"ready\n", "ready")
    yield running, path
    running.kill()


def test_a_unix_socket(unix: tuple[Mirror, Path], upstream: Upstream, tmp_path: Path) -> None:
    """It has no port; it goes with the server; and what a proxy says there is believed."""
    running, path = unix
    upstream.pages["/file"] = Response(BIG)
    address = f"http://mirror.example/unix-2024-01-02/{upstream.url}/file"
    for _ in range(3):
        curl("--unix-socket", path, "-o", tmp_path / "got", address)
        assert (tmp_path / "got").read_bytes() == BIG
    page = curl("--unix-socket", path, "-H", "X-Forwarded-Proto: https", "http://mirror.example/")
    assert "https://mirror.example/" in page
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", running.port), 1)
    running.stop()
    assert not path.exists()
    assert "Traceback" not in running.log()


def test_a_socket_that_a_killed_server_left(unix: tuple[Mirror, Path]) -> None:
    running, path = unix
    line = told(run("serve", "--unix-socket", path, "--data", running.folder / "other"))
    assert "a program listens there" in line
    running.kill()
    assert path.is_socket()
    running.start("--unix-socket", str(path), ready=False)
    ready = ["curl", "-s", "--unix-socket", str(path), "http://mirror/-/ready"]
    soon(lambda: subprocess.run(ready, capture_output=True, check=False).stdout == b"ready\n", "ready")


def test_ipv6(tmp_path: Path, upstream: Upstream) -> None:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
    upstream.pages["/file"] = Response(b"body")
    running = Mirror(tmp_path)
    running.start("--host", "::1", ready=False)
    base = f"http://[::1]:{running.port}"
    ready = ["curl", "-sg", f"{base}/-/ready"]
    soon(lambda: subprocess.run(ready, capture_output=True, check=False).stdout == b"ready\n", "ready")
    assert f"httpcache serves {base} " in running.log()
    for _ in range(2):
        assert http.get(f"{base}/six-2024-01-02/{upstream.url}/file").content == b"body"
    running.stop()


WRONG = {
    "no key": (["--tls-cert", "cert.pem"], "--tls-cert needs --tls-key"),
    "no certificate": (["--tls-key", "key.pem"], "--tls-key needs --tls-cert"),
    "a file that is not there": (["--tls-cert", "none", "--tls-key", "key.pem"], "none cannot be read: No such file"),
    "a file that is none": (["--tls-cert", "text", "--tls-key", "key.pem"], "are no certificate and its private key"),
    "another key": (["--tls-cert", "cert.pem", "--tls-key", "other.pem"], "(KEY_VALUES_MISMATCH)"),
    "a key with a password": (["--tls-cert", "cert.pem", "--tls-key", "locked.pem"], "(the key has a password)"),
    "a file in place of a socket": (["--unix-socket", "text"], "text: it is a file"),
    "a folder that is not there": (["--unix-socket", "none/s"], "its folder is missing"),
    "a path that is too long": (["--unix-socket", "s" * 120], "its path is longer than"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_it_does_not_start_on(
    case: str, certificate: Certificate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").write_text("text")
    (tmp_path / "other").mkdir()
    (tmp_path / "other.pem").write_bytes(Certificate(tmp_path / "other").key.read_bytes())
    locking = ["openssl", "rsa", "-aes128", "-passout", "pass:secret", "-in", "key.pem", "-out", "locked.pem"]
    if case == "a key with a password":
        subprocess.run(["openssl", "pkey", *locking[2:]], check=True, capture_output=True)
    arguments, wanted = WRONG[case]
    assert wanted in told(run("serve", "--port", f"{free_port()}", *arguments))

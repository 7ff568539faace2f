"""An apt repository with one package, and the real apt-get."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.support.clients import Clients
from tests.support.upstream import Upstream


def skip_without() -> None:
    """Skip the test on a machine without apt."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        pytest.skip("this machine has no apt-get")


def publish(upstream: Upstream, folder: Path, version: str, *, signed: bool = False) -> None:
    """Serve a repository below `/deb/` with this version of the package `thing`, and nothing else.

    `signed`: it has an `InRelease`, as Debian's have.
    """
    tree = folder / f"tree-{version}"
    (tree / "DEBIAN").mkdir(parents=True)
    control = f"Package: thing\nVersion: {version}\nArchitecture: all\nMaintainer: A <a@example.com>\n"
    (tree / "DEBIAN/control").write_text(f"{control}Description: a thing\n")
    deb = folder / f"thing_{version}_all.deb"
    subprocess.run(["dpkg-deb", "-b", "--root-owner-group", tree, deb], check=True, capture_output=True)
    body = deb.read_bytes()
    digest, size = hashlib.sha256(body).hexdigest(), len(body)
    packages = f"{control}Filename: ./{deb.name}\nSize: {size}\nSHA256: {digest}\nDescription: a thing\n\n".encode()
    digest, size = hashlib.sha256(packages).hexdigest(), len(packages)
    release = f"Date: Mon, 01 Jan 2024 00:00:00 UTC\nSHA256:\n {digest} {size} Packages\n".encode()
    upstream.pages = {"/deb/./Release": release, "/deb/Release": release, f"/deb/{deb.name}": body}
    upstream.pages |= {"/deb/Packages": packages, "/deb/./Packages": packages}
    if signed:
        upstream.pages["/deb/./InRelease"] = upstream.pages["/deb/InRelease"] = _clearsigned(release)


def _clearsigned(text: bytes) -> bytes:
    """The text, signed in line by a new key."""
    with TemporaryDirectory() as home:
        gpg = ["gpg", "--homedir", home, "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]
        try:
            subprocess.run([*gpg, "--quick-gen-key", "builds@example.com", "ed25519", "sign"], check=True)
            return subprocess.run([*gpg, "--clearsign"], input=text, capture_output=True, check=True).stdout
        finally:
            subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=True)


def download(clients: Clients, repository: str) -> list[Path]:
    """`apt-get update` and `download` from this address of a repository; return what came."""
    home = clients.place()
    for folder in ("lists/partial", "archives/partial", "etc/preferences.d"):
        (home / folder).mkdir(parents=True)
    (home / "status").touch()
    (home / "sources.list").write_text(f"deb [trusted=yes] {repository} ./\n")
    options = {
        "Dir::Etc": home / "etc",
        "Dir::Etc::SourceList": home / "sources.list",
        "Dir::Etc::SourceParts": "-",
        "Dir::State": home,
        "Dir::State::Lists": home / "lists",
        "Dir::State::Status": home / "status",
        "Dir::Cache": home,
        "Dir::Cache::Archives": home / "archives",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Acquire::Retries": "0",
    }
    given = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    clients.run("apt-get", *given, "update", "--error-on=any", home=home).checked()
    clients.run("apt-get", *given, "download", "thing", home=home).checked()
    return list(home.glob("*.deb"))

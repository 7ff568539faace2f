"""What docs/clients.md says of tools other than installers of Python packages: with the real git and apt-get."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.clients import Clients
from tests.support.mirror import Mirror
from tests.support.upstream import Response, Upstream


def git(where: Path, *arguments: str) -> str:
    """Run git in a folder, with no settings but these."""
    settings = ("-c", "user.name=A", "-c", "user.email=a@example.com", "-c", "init.defaultBranch=main")
    ran = subprocess.run(["git", *settings, *arguments], cwd=where, capture_output=True, text=True, check=True)
    return ran.stdout.strip()


def put(upstream: Upstream, folder: Path, prefix: str) -> None:
    """Serve the files of a folder, and nothing else."""
    upstream.pages = {
        f"{prefix}/{path.relative_to(folder)}": path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize("packed", [False, True])
def test_a_git_repository_served_as_files(
    packed: bool, upstream: Upstream, server: Mirror, pin: str, tmp_path: Path, clients: Clients
) -> None:
    """The same commit for ever: after a push, with the repository emptied, with its server gone."""
    work, bare = tmp_path / "work", tmp_path / "repo.git"
    work.mkdir()
    git(work, "init", "-q")
    git(work, "commit", "-q", "--allow-empty", "-m", "one")

    def publish() -> str:
        shutil.rmtree(bare, ignore_errors=True)
        git(tmp_path, "clone", "-q", "--bare", "work", "repo.git")
        if packed:
            git(bare, "gc", "-q")
        git(bare, "update-server-info")
        put(upstream, bare, "/repo.git")
        return git(work, "rev-parse", "HEAD")

    def clone() -> str:
        home = clients.place()
        address = server.pin(pin, f"{upstream.url}/repo.git")
        clients.run("git", "clone", "-q", address, "clone", home=home).checked()
        return git(home / "clone", "rev-parse", "HEAD")

    first = publish()
    assert clone() == first
    git(work, "commit", "-q", "--allow-empty", "-m", "two")
    assert publish() != first
    assert clone() == first
    upstream.empty()
    assert clone() == first
    upstream.stop()
    assert clone() == first
    assert all(seen.headers["user-agent"].startswith("httpcache/") for seen in upstream.requests)


def test_git_is_told_why_a_smart_server_cannot_be_frozen(
    upstream: Upstream, server: Mirror, pin: str, clients: Clients
) -> None:
    upstream.otherwise = lambda request: Response(b"upgrade\n", 403 if "service" not in request.target else 200)
    ran = clients.run("git", "clone", server.pin(pin, f"{upstream.url}/repo.git"), home=clients.place())
    assert ran.code != 0
    assert "git update-server-info" in ran.errors
    posted = clients.curl("-d", "x", server.pin(pin, f"{upstream.url}/repo.git/git-upload-pack"))
    assert "git update-server-info" in posted.output


def test_apt_behind_a_pin(upstream: Upstream, server: Mirror, pin: str, tmp_path: Path, clients: Clients) -> None:
    """`apt-get update` and `download` get what was there first, whatever happens to the repository."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        pytest.skip("this machine has no apt-get")

    def publish(version: str) -> None:
        tree = tmp_path / f"tree-{version}"
        (tree / "DEBIAN").mkdir(parents=True)
        control = f"Package: thing\nVersion: {version}\nArchitecture: all\nMaintainer: A <a@example.com>\n"
        (tree / "DEBIAN/control").write_text(f"{control}Description: a thing\n")
        deb = tmp_path / f"thing_{version}_all.deb"
        subprocess.run(["dpkg-deb", "-b", "--root-owner-group", tree, deb], check=True, capture_output=True)
        body = deb.read_bytes()
        digest, size = hashlib.sha256(body).hexdigest(), len(body)
        packages = f"{control}Filename: ./{deb.name}\nSize: {size}\nSHA256: {digest}\nDescription: a thing\n\n".encode()
        digest, size = hashlib.sha256(packages).hexdigest(), len(packages)
        release = f"Date: Mon, 01 Jan 2024 00:00:00 UTC\nSHA256:\n {digest} {size} Packages\n".encode()
        upstream.pages = {"/deb/./Release": release, "/deb/Release": release, f"/deb/{deb.name}": body}
        upstream.pages |= {"/deb/Packages": packages, "/deb/./Packages": packages}

    def download() -> list[str]:
        home = clients.place()
        for folder in ("lists/partial", "archives/partial", "etc/preferences.d"):
            (home / folder).mkdir(parents=True)
        (home / "status").touch()
        (home / "sources.list").write_text(f"deb [trusted=yes] {server.pin(pin, upstream.url)}/deb ./\n")
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
        return [path.name for path in home.glob("*.deb")]

    publish("1.0")
    assert download() == ["thing_1.0_all.deb"]
    publish("2.0")
    assert download() == ["thing_1.0_all.deb"]
    assert all(seen.headers["user-agent"].startswith("httpcache/") for seen in upstream.requests)

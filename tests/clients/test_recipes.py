"""What docs/clients.md says of tools other than installers of Python packages: with the real git and apt-get."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import apt
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
    apt.skip_without()

    def download() -> list[str]:
        return [path.name for path in apt.download(clients, f"{server.pin(pin, upstream.url)}/deb")]

    apt.publish(upstream, tmp_path, "1.0")
    assert download() == ["thing_1.0_all.deb"]
    apt.publish(upstream, tmp_path, "2.0")
    assert download() == ["thing_1.0_all.deb"]
    assert all(seen.headers["user-agent"].startswith("httpcache/") for seen in upstream.requests)

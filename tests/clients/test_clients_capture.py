"""The capture and what a registry deletes between two passes: real clients, and what the commands say of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.capture import AT_ONCE
from tests.support.clients import ClientError, Clients, pins
from tests.support.command import run
from tests.support.config import configured, table
from tests.support.index import ask, filenames, instant
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.registries import PyPI, Registry
from tests.support.rescued import unlist

OLD = "2024-01-01T00:00:00Z"
LIB_1, LIB_2, LIB_3 = (wheel("lib", f"{number}.0") for number in (1, 2, 3))
OTHER = wheel("other", "1.0")
DISTS = (LIB_1, LIB_2, LIB_3, OTHER)
DELETED = (LIB_3, OTHER)  # a release, and a project with all that it has

RESCUED = "2 deleted files rescued"
NAMES = "lib\nother\n"


def lines(server: Mirror, *arguments: str) -> list[str]:
    """What a command beside the server prints, less the times in front."""
    told = run(*arguments, "--data", server.data)
    assert told.returncode == 0, told.stderr
    return [re.sub(r"^[0-9TZ:.-]+  ", "", line) for line in told.stdout.splitlines()]


def capture(server: Mirror, *arguments: str | Path) -> str:
    """Make a pass beside the server; return its summary."""
    made = run("capture", "--data", server.data, "--pypi-upstream", server.pypi_upstream, *AT_ONCE, *arguments)
    assert made.returncode == 0, made.stderr
    return made.stdout


def check(client: str, clients: Clients, server: Mirror, registry: str, before: str, after: str) -> None:
    """What was deleted can be installed of an instant before the deletion, and of no later one."""
    then, later = (server.at(f"{registry}{moment}") for moment in (before, after))
    assert clients.install(client, then, ["lib"]) == pins(LIB_3)
    assert clients.install(client, then, ["other"]) == pins(OTHER)
    assert clients.install(client, later, ["lib"]) == pins(LIB_2)
    for gone in ("lib==3.0", "other"):
        with pytest.raises(ClientError):
            clients.install(client, later, [gone])
    assert filenames(f"{later}other/") == []


@pytest.mark.parametrize("client", ["pip", "uv"])
def test_pypi(client: str, pypi: PyPI, mirror: Callable[..., Mirror], clients: Clients) -> None:
    """No client has asked for anything before the registry itself is gone."""
    for dist in DISTS:
        pypi.upload(dist, OLD)
    server = mirror(pypi)
    everything = ("--pypi-capture", "all")
    assert "2 of 2 projects had changed" in capture(server, *everything)
    before = instant()
    unlist(pypi, *DELETED)
    assert RESCUED in capture(server, *everything)
    pypi.files.pages.clear()
    after = instant()
    capture(server, *everything)
    pypi.index.stop()
    check(client, clients, server, "", before, after)
    assert ["rescued" in line for line in lines(server, "captures")] == [False, True, False]
    history = lines(server, "history", "lib")
    assert f"{LIB_3.filename}: gone" in history
    assert f"{LIB_3.filename}: rescued ({len(LIB_3.data)} bytes)" in history
    assert "project gone" in lines(server, "history", "other")


@pytest.mark.parametrize("client", ["pip", "uv"])
def test_a_named_registry_without_upload_times(
    client: str, registry: Callable[..., Registry], pypi: PyPI, clients: Clients, tmp_path: Path
) -> None:
    """It has no list either, as GitLab: the projects are those in a file of names beside the configuration."""
    named = registry("gitlab")
    named.upload(*DISTS)
    folder = tmp_path / "mirror"
    folder.mkdir()
    (folder / "names.txt").write_text(NAMES)
    config = table("registry", name="internal", index=named.url, capture="names.txt")
    unseen = instant()
    with configured(folder, config, pypi.url) as server:
        options = ("--config", folder / "mirror.toml")
        assert "internal: 2 of 2 projects had changed" in capture(server, *options)
        before = instant()
        for dist in DELETED:
            named.upstream.pages[named.file_path(dist)] = dist.data
            del named.dists[dist.filename]
        assert RESCUED in capture(server, *options)
        named.upstream.pages.clear()
        check(client, clients, server, "internal/", before, instant())
        assert ask(server.at(f"internal/{unseen}") + "lib/").status_code == 400, "nobody knows what was there"
        told = lines(server, "captures", "--registry", "internal")
        assert [RESCUED in line for line in told] == [False, True]
        history = lines(server, "history", "lib", "--registry", "internal")
        assert f"{LIB_3.filename}: gone" in history
        assert f"{LIB_3.filename}: rescued ({len(LIB_3.data)} bytes)" in history
        assert run("history", "lib", "--data", server.data).returncode == 1, "PyPI's project of that name is another"

"""The live PyPI with real clients: the index of now, the files from the mirror."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.clients import PIP, Clients, pins
from tests.support.mirror import Mirror
from tests.support.packages import Dist, wheel
from tests.support.registries import JSON, PyPI

OLD = wheel("some-lib", "1.0")
NEW = wheel("some-lib", "1.1")
INSTALLERS = ["pip", "oldpip", "uv"]


def ago(**span: float) -> str:
    return (datetime.now(UTC) - timedelta(**span)).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.mark.parametrize("client", INSTALLERS)
def test_live_follows_the_index(client: str, pypi: PyPI, mirror: Callable[..., Mirror], clients: Clients) -> None:
    pypi.upload(OLD, ago(days=30))
    index = mirror(pypi).at("live")
    assert clients.install(client, index, ["some-lib"]) == pins(OLD)
    pypi.upload(NEW, ago(minutes=1))
    assert clients.install(client, index, ["some-lib"]) == pins(NEW)
    pypi.yank(NEW)
    assert clients.install(client, index, ["some-lib"]) == pins(OLD)


@pytest.mark.parametrize("client", INSTALLERS)
def test_files_come_from_the_mirror(client: str, pypi: PyPI, mirror: Callable[..., Mirror], clients: Clients) -> None:
    pypi.upload(OLD, ago(days=30))
    index = mirror(pypi).at("live")
    assert clients.install(client, index, ["some-lib"]) == pins(OLD)
    pypi.files.empty()
    assert clients.install(client, index, ["some-lib"]) == pins(OLD)
    pypi.files.stop()
    for other in INSTALLERS:
        assert clients.install(other, index, ["some-lib"]) == pins(OLD), other


def test_a_file_outlives_the_index(pypi: PyPI, mirror: Callable[..., Mirror], clients: Clients) -> None:
    """The address of a file that a live page named is good when both upstreams are gone."""
    pypi.upload(OLD, ago(days=30))
    server = mirror(pypi)
    page = clients.curl("-H", f"Accept: {JSON}", server.at("live") + "some-lib/").checked().output
    link = next(part for part in page.split('"') if part.endswith(OLD.filename) and "/files/" in part)
    assert link == f"/files/some-lib/{OLD.sha256}/{OLD.filename}"
    assert clients.pip_install(server.at("live"), ["some-lib"]) == pins(OLD)
    for upstream in pypi.upstreams:
        upstream.empty()
        upstream.stop()
    address = f"{server.same(link)}#sha256={OLD.sha256}"
    installed = clients.pip_install(server.at("live"), [f"some-lib @ {address}"], None, "--no-deps")
    assert installed == pins(OLD)


@pytest.mark.parametrize(("address", "wanted"), [("live", NEW), ("live-1d", NEW), ("live-7d", OLD), ("live-29d", OLD)])
def test_a_cooldown_leaves_the_young_out(
    address: str, wanted: Dist, pypi: PyPI, mirror: Callable[..., Mirror], clients: Clients
) -> None:
    pypi.upload(OLD, ago(days=30))
    pypi.upload(NEW, ago(days=3))
    index = mirror(pypi).at(address)
    for client in INSTALLERS:
        assert clients.install(client, index, ["some-lib"]) == pins(wanted), client


def test_live_and_dated_share_files(pypi: PyPI, mirror: Callable[..., Mirror], clients: Clients) -> None:
    pypi.upload(OLD, "2024-01-01T00:00:00Z")
    server = mirror(pypi)
    assert clients.pip_install(server.at("live"), ["some-lib"]) == pins(OLD)
    pypi.files.stop()
    assert clients.pip_install(server.at("2024-01-02"), ["some-lib"]) == pins(OLD)


def test_pip_download_and_pip_index(pypi: PyPI, mirror: Callable[..., Mirror], clients: Clients) -> None:
    """Other commands that people point at an index."""
    pypi.upload(OLD, ago(days=30))
    pypi.upload(NEW, ago(days=3))
    index = mirror(pypi).at("live")
    home = clients.place()
    versions = clients.run(*PIP, "index", "versions", "some-lib", "--index-url", index, home=home).checked()
    assert "1.1, 1.0" in versions.output
    clients.run(*PIP, "download", "--index-url", index, "some-lib==1.0", home=home).checked()
    assert (home / OLD.filename).read_bytes() == OLD.data

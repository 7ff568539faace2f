"""What the registry has deleted, with real clients: before that instant it installs, after it nobody sees it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.clients import ClientError, Clients, pins
from tests.support.index import document, filenames, instant
from tests.support.inside import until
from tests.support.mirror import Mirror
from tests.support.packages import sdist, wheel
from tests.support.registries import PyPI
from tests.support.rescued import outcomes, unlist

OLD = "2024-01-01T00:00:00Z"
LIB_1, LIB_2 = wheel("some-lib", "1.0"), wheel("some-lib", "2.0")
SOURCE = sdist("sources", "1.0")
APP = wheel("app", "1.0", ["some-lib"])


@pytest.fixture
def deleted(pypi: PyPI, mirror: Callable[..., Mirror]) -> Callable[[str], tuple[Mirror, str, str]]:
    """Let a mirror see a deletion (of a release, a project, one that is an sdist), and let the files go after it.

    Returns the mirror, an instant before and one after. No client has asked for a file.
    """

    def delete(what: str) -> tuple[Mirror, str, str]:
        for dist in (LIB_1, LIB_2, SOURCE, APP):
            pypi.upload(dist, OLD)
        server = mirror(pypi)
        before = instant()
        for project in ("some-lib", "sources", "app"):
            document(f"{server.at(before)}{project}/")
        gone = {"release": [LIB_2], "project": [LIB_1, LIB_2], "sdist": [SOURCE]}[what]
        unlist(pypi, *gone)
        filenames(f"{server.at('live')}{gone[0].name}/")
        until(lambda: len(outcomes(server.data, gone[0].name)) == len(gone), "the rescues")
        pypi.files.pages.clear()
        return server, before, instant()

    return delete


@pytest.mark.parametrize("client", ["pip", "oldpip", "uv"])
def test_a_release(client: str, deleted: Callable[[str], tuple[Mirror, str, str]], clients: Clients) -> None:
    server, before, after = deleted("release")
    assert clients.install(client, server.at(before), ["app"]) == pins(APP, LIB_2)
    assert clients.install(client, server.at(before), ["some-lib==2.0"]) == pins(LIB_2)
    assert clients.install(client, server.at(after), ["app"]) == pins(APP, LIB_1)
    with pytest.raises(ClientError):
        clients.install(client, server.at(after), ["some-lib==2.0"])


@pytest.mark.parametrize("client", ["pip", "uv"])
def test_a_project(client: str, deleted: Callable[[str], tuple[Mirror, str, str]], clients: Clients) -> None:
    server, before, after = deleted("project")
    assert clients.install(client, server.at(before), ["some-lib"]) == pins(LIB_2)
    with pytest.raises(ClientError):
        clients.install(client, server.at(after), ["some-lib"])
    for late in ("live", after):
        assert filenames(f"{server.at(late)}some-lib/") == []


def test_an_sdist(deleted: Callable[[str], tuple[Mirror, str, str]], clients: Clients) -> None:
    """uv reads the metadata out of it."""
    server, before, after = deleted("sdist")
    assert clients.uv_compile(server.at(before), ["sources"], only_binary=()) == pins(SOURCE)
    with pytest.raises(ClientError):
        clients.uv_compile(server.at(after), ["sources"], only_binary=())

"""The harness itself: every client installs straight from the fakes, and the fakes keep their word."""

from __future__ import annotations

import threading
import zipfile
from collections.abc import Callable
from io import BytesIO
from itertools import cycle
from typing import Any

import httpx
import pytest

from tests.support.clients import ClientError, Clients, Pin
from tests.support.packages import sdist, wheel
from tests.support.registries import JSON, SHAPES, PyPI, Registry
from tests.support.upstream import CUT, Response, Upstream

LIB = wheel("Some_Lib", "1.2", requires_python=">=3.8")
APP = wheel("app", "1.0", ["some-lib>=1"])
WANTED = {"app": Pin("1.0", frozenset([APP.sha256])), "some-lib": Pin("1.2", frozenset([LIB.sha256]))}


@pytest.fixture
def filled(pypi: PyPI) -> PyPI:
    """A PyPI with an app that needs a lib."""
    pypi.upload(LIB, "2024-01-01T10:00:00Z")
    pypi.upload(APP, "2024-01-02T10:00:00.123456Z")
    return pypi


def test_packages_have_the_same_bytes_every_time() -> None:
    assert wheel("app", "1.0", ["some-lib>=1"]).data == APP.data
    assert sdist("app", "1.0").sha256 == sdist("app", "1.0").sha256
    assert wheel("app", "1.0", salt="other").sha256 != APP.sha256
    with zipfile.ZipFile(BytesIO(LIB.data)) as archive:
        assert archive.testzip() is None
        assert archive.read("some_lib-1.2.dist-info/METADATA") == LIB.metadata


@pytest.mark.parametrize("client", ["pip_install", "old_pip_install", "uv_install"])
def test_clients_install_from_the_fake_pypi(client: str, filled: PyPI, clients: Clients) -> None:
    assert getattr(clients, client)(filled.url, ["app"]) == WANTED


def test_poetry_locks_and_installs(filled: PyPI, clients: Clients) -> None:
    assert clients.poetry_install(filled.url, clients.poetry_lock(filled.url, ["app"])) == WANTED


def test_pdm_locks_and_installs(filled: PyPI, clients: Clients) -> None:
    assert clients.pdm_install(clients.pdm_lock(filled.url, ["app"])) == WANTED


# Each client with two shapes or three: through the mirror each client meets every shape.
@pytest.mark.parametrize(
    ("client", "shape"), list(zip(cycle(["pip_install", "old_pip_install", "uv_install"]), SHAPES, strict=False))
)
def test_clients_install_from_every_registry_shape(
    client: str, shape: str, registry: Callable[..., Registry], clients: Clients
) -> None:
    lib = wheel("some-lib", "1.2+cu121")
    index = registry(shape)
    index.upload(lib)
    assert getattr(clients, client)(index.url, ["some-lib"]) == {"some-lib": Pin("1.2+cu121", frozenset([lib.sha256]))}


def test_clients_reach_nothing_but_this_machine(clients: Clients) -> None:
    with pytest.raises(ClientError, match="No matching distribution"):
        clients.pip_install("https://index.invalid/simple/", ["app"])
    with pytest.raises(ClientError, match="tunnel"):
        clients.uv_install("https://index.invalid/simple/", ["app"])


def test_pypi_changes_over_time(filled: PyPI) -> None:
    def page() -> Any:
        return httpx.get(filled.url + "app/", headers={"Accept": JSON}).json()

    before = page()
    filled.yank(APP, "broken")
    newer = wheel("app", "1.1")
    filled.upload(newer, "2024-02-01T00:00:00Z")
    after = page()
    assert [file["yanked"] for file in after["files"]] == ["broken", False]
    assert after["versions"] == ["1.0", "1.1"]
    assert after["meta"]["_last-serial"] == before["meta"]["_last-serial"] + 2
    filled.delete(APP)
    filled.delete(newer)
    assert httpx.get(filled.url + "app/").status_code == 404
    assert httpx.get(filled.url + "Some_Lib").headers["location"] == "/simple/some-lib/"


def test_upstream_asks_for_credentials(upstreams: Callable[..., Upstream]) -> None:
    upstream = upstreams(auth=("user", "pass"), tokens={"Private-Token": "t"})
    upstream.pages["/x"] = b"content"
    url = f"{upstream.url}/x"
    assert httpx.get(url).headers["www-authenticate"].startswith("Basic ")
    assert httpx.get(url, auth=("user", "pass")).content == b"content"
    assert httpx.get(url, headers={"Private-Token": "t"}).content == b"content"
    assert upstream.count("/x", "GET") == 3


@pytest.mark.parametrize(
    ("asked", "status", "body", "content_range"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=8-", 206, b"89", "bytes 8-9/10"),
        ("bytes=-2", 206, b"89", "bytes 8-9/10"),
        ("bytes=10-", 416, b"", "bytes */10"),
    ],
)
def test_upstream_serves_ranges(asked: str, status: int, body: bytes, content_range: str, upstream: Upstream) -> None:
    upstream.pages["/x"] = b"0123456789"
    response = httpx.get(f"{upstream.url}/x", headers={"Range": asked})
    assert (response.status_code, response.content) == (status, body)
    assert response.headers["content-range"] == content_range


def test_upstream_stalls_cuts_and_comes_back(upstream: Upstream) -> None:
    release = threading.Event()
    upstream.pages["/slow"] = Response([b"first", release, b"second"])
    upstream.pages["/cut"] = Response([b"first", CUT], headers={"Content-Length": "100"})
    with httpx.stream("GET", f"{upstream.url}/slow") as response:
        chunks = response.iter_raw()
        assert next(chunks) == b"first"
        release.set()
        assert next(chunks) == b"second"
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"{upstream.url}/cut")
    upstream.stop()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{upstream.url}/slow")
    upstream.start()
    assert httpx.get(f"{upstream.url}/slow").content == b"firstsecond"
    upstream.empty()
    assert httpx.head(f"{upstream.url}/slow").status_code == 404

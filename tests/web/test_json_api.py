"""PyPI's JSON API as of an instant: what pip-compile takes the hashes from, so that it downloads no files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

import pytest

from tests.support import http
from tests.support.config import configured, table
from tests.support.index import ago, document
from tests.support.mirror import Mirror
from tests.support.packages import Dist, sdist, wheel
from tests.support.registries import PyPI
from tests.support.upstream import Response, Upstream

ONE, SOURCE = wheel("Some.Thing", "1.0", requires_python=">=3.7"), sdist("Some.Thing", "1.0")
TWO, NEXT, LATER = wheel("Some.Thing", "2.0"), wheel("Some.Thing", "3.0rc1"), wheel("Some.Thing", "4.0")
DATE = ago(days=5)[:10]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PyPI, Mirror]]:
    """A PyPI with a project of which 4.0 came after `DATE`, as a registry `own` and in a group `all` too."""
    with Upstream() as index, Upstream(ranges=True) as files:
        pypi = PyPI(index, files)
        for dist in (ONE, SOURCE, TWO, NEXT):
            pypi.upload(dist, ago(days=9))
        pypi.upload(LATER, ago(days=2))
        pypi.yank(TWO, "broken")
        config = table("registry", name="own", index=pypi.url) + table("group", name="all", registries=["own", "pypi"])
        with configured(tmp_path_factory.mktemp("json"), config, pypi.url) as server:
            yield pypi, server


def hashes(base: str, name: str, version: str) -> set[str]:
    """The digests that pip-tools takes, by the address that it and pip's `PackageIndex` make of an index."""
    answer = http.get(f"{urljoin(base, 'pypi')}/{name}/json")
    assert answer.headers["content-type"] == "application/json", answer.text
    kinds = ("bdist_wheel", "sdist")
    files = answer.json()["releases"][version]
    return {file["digests"]["sha256"] for file in files if file["packagetype"] in kinds}


def digests(*dists: Dist) -> set[str]:
    return {dist.sha256 for dist in dists}


@pytest.mark.parametrize("base", [f"{DATE}", f"{DATE}/simple", "live", "live-3d", f"own/{DATE}", "all/live"])
def test_pip_compile_finds_the_hashes_and_downloads_nothing(base: str, place: tuple[PyPI, Mirror]) -> None:
    pypi, server = place
    before = len(pypi.files.requests)
    index = server.at(base)
    assert hashes(index, "some-thing", "1.0") == digests(ONE, SOURCE)
    assert hashes(index, "Some.Thing", "3.0rc1") == digests(NEXT)
    releases = http.get(f"{index}pypi/some-thing/json").json()["releases"]
    assert list(releases) == ["1.0", "2.0", "3.0rc1"] + (["4.0"] if base in ("live", "all/live") else [])
    assert len(pypi.files.requests) == before
    for path in ("some-thing/json", "pypi/some-thing/json/", "pypi/Some.Thing/json"):
        assert http.get(f"{index}{path}").json()["releases"] == releases


def test_what_it_says(place: tuple[PyPI, Mirror]) -> None:
    pypi, server = place
    found = http.get(f"{server.at(DATE)}pypi/some-thing/json").json()
    assert found["info"] == {
        "name": "some-thing", "version": "1.0", "requires_python": ">=3.7", "yanked": False, "yanked_reason": None,
    }  # fmt: skip
    by_name = {file["filename"]: file for file in found["urls"]}
    assert set(by_name) == {ONE.filename, SOURCE.filename}
    at = pypi.release(ONE).at
    assert by_name[ONE.filename] == {
        "filename": ONE.filename,
        "url": f"{server.url}/files/some-thing/{ONE.sha256}/{ONE.filename}",
        "digests": {"sha256": ONE.sha256},
        "size": len(ONE.data),
        "packagetype": "bdist_wheel",
        "python_version": "py3",
        "requires_python": ">=3.7",
        "upload_time": at[:19],
        "upload_time_iso_8601": at,
        "yanked": False,
        "yanked_reason": None,
    }
    assert by_name[SOURCE.filename]["python_version"] == "source"
    assert http.get(by_name[ONE.filename]["url"]).content == ONE.data


def test_files_have_the_addresses_that_pip_makes_of_the_page(place: tuple[PyPI, Mirror]) -> None:
    """pip-tools compares them. They are made of the `Host`, so the answer is not to be stored."""
    _, server = place
    page = document(f"{server.at(DATE)}some-thing/")
    linked = {urljoin(f"{server.at(DATE)}some-thing/", file["url"]) for file in page["files"]}
    answer = http.get(f"{server.at(DATE)}pypi/some-thing/json")
    assert {file["url"] for files in answer.json()["releases"].values() for file in files} == linked
    assert answer.headers["cache-control"] == "no-store"
    for headers, start in (
        ({"Host": "mirror.example", "X-Forwarded-Proto": "https"}, "https://mirror.example/files/"),
        ({"Host": "mirror.example:8443"}, "http://mirror.example:8443/files/"),
        ({"Host": "evil.example/x?y"}, "/files/"),
    ):
        urls = http.get(f"{server.at(DATE)}pypi/some-thing/json", headers=headers).json()["urls"]
        assert all(file["url"].startswith(start) for file in urls)


def test_one_version(place: tuple[PyPI, Mirror]) -> None:
    _, server = place
    for version in ("2.0", "2", "2.0.0"):
        found = http.get(f"{server.at(DATE)}pypi/some-thing/{version}/json").json()
        assert (found["info"]["version"], found["info"]["yanked"], found["info"]["yanked_reason"]) == (
            "2.0",
            True,
            "broken",
        )
        assert [file["filename"] for file in found["urls"]] == [TWO.filename]
        assert "releases" not in found
    for path in (
        "pypi/some-thing/4.0/json",
        "pypi/some-thing/x/json",
        "pypi/nothing/json",
        "nothing/json",
        "some-thing/1.0/json",
    ):
        assert http.get(f"{server.at(DATE)}{path}").status_code == 404
    assert http.get(f"{server.at('2023-1-8')}pypi/some-thing/json").status_code == 400
    assert http.get(f"{server.at('live')}pypi/some-thing/4.0/json").json()["info"]["version"] == "4.0"


def test_without_a_sha256_it_is_not_to_be_had(tmp_path: Path, upstream: Upstream) -> None:
    """pip-compile then hashes the files, as it does without this."""
    page = b'<h1>Links for thing</h1><a href="/thing-1.0.tar.gz#md5=0123">x</a>'
    upstream.pages["/simple/thing/"] = Response(page, 200, {"Content-Type": "text/html"})
    with configured(
        tmp_path, table("registry", name="own", index=f"{upstream.url}/simple/"), "http://127.0.0.1:9/"
    ) as server:
        assert http.get(f"{server.at('own/live')}pypi/thing/json").status_code == 404

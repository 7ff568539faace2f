"""The pages of labelled builds, and what `forget` says of them; private files are counted and not named."""

from __future__ import annotations

from collections.abc import Callable

from tests.support import http
from tests.support.command import run
from tests.support.inside import until
from tests.support.mirror import Mirror
from tests.support.pages import check_inert, entry_links, rows
from tests.support.upstream import Response, Upstream

SECRET = "team-secret-plan"


def eventually(server: Mirror, path: str, wanted: list[str]) -> str:
    """The text of a page once its rows are these: builds are written each second."""
    until(lambda: rows(http.get(f"{server.url}{path}").text) == wanted, path)
    return http.get(f"{server.url}{path}").text


def test_builds_are_listed_with_what_they_took(
    upstream: Upstream, upstreams: Callable[..., Upstream], mirror: Callable[..., Mirror]
) -> None:
    server = mirror()
    assert "No build has used a label yet" in http.get(f"{server.url}/-/builds/").text
    closed = upstreams(auth=("user", "pass"))
    closed.pages[f"/{SECRET}"] = b"private"
    upstream.otherwise = lambda request: Response(request.target.encode())
    pin, hostile = "tools-2024-01-02", "/<script>alert(1)</script>"
    for label, paths in {"build-1": ["/a"], "build-2": ["/a", "/b", hostile]}.items():
        for path in paths:
            assert http.get(f"{server.url}/{pin}--{label}/{upstream.url}{path}").status_code == 200
    login = {"Authorization": closed.basic()}
    assert http.get(f"{server.url}/{pin}--build-1/{closed.url}/{SECRET}", headers=login).status_code == 200
    eventually(server, "/-/builds/?q=2", ["build-2"])
    listed = http.get(f"{server.url}/-/builds/").text
    assert sorted(rows(listed)) == ["build-1", "build-2"]
    assert pin in listed
    assert rows(http.get(f"{server.url}/-/builds/?q=none").text) == []

    one = eventually(server, "/-/builds/build-1/", [f"/{pin}/{upstream.url}/a"])
    assert "1 private file is not named here" in one
    assert SECRET not in one
    assert f"{upstream.url}/a" in http.get(server.url + entry_links(one)[0]).text
    assert "httpcache sbom build-1" in one
    two = http.get(f"{server.url}/-/builds/build-2/").text
    assert len(rows(two)) == 3
    check_inert(two)
    assert http.get(f"{server.url}/-/builds/none/").status_code == 404

    told = run("forget", f"/{pin}/{upstream.url}/a", "--data", server.data, stdin="n\n").stdout
    assert "taken by labelled builds: build-1, build-2\n" in told
    told = run("forget", "--keep-last", "0", "tools", "--data", server.data).stdout
    assert "taken by labelled builds: build-1, build-2\n" in told


def test_many_builds_have_several_pages(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    server = mirror()
    upstream.pages["/a"] = b"a"
    labels = [f"n-{number:03}" for number in range(203)]
    for label in labels:
        http.get(f"{server.url}/tools-2024-01-02--{label}/{upstream.url}/a").raise_for_status()
    eventually(server, "/-/builds/?q=n-202", ["n-202"])
    found = [rows(http.get(f"{server.url}/-/builds/?page={page}").text) for page in (1, 2)]
    assert [len(part) for part in found] == [200, 3]
    assert sorted(found[0] + found[1]) == labels

"""Addresses of dated and live indexes as people and clients write them: slashes too many, `simple` behind them."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from tests.support import http
from tests.support.clients import Clients, pins
from tests.support.config import configured, table
from tests.support.index import PIP, ago, ask, document, filenames
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.registries import JSON, PyPI
from tests.support.upstream import Response, Upstream, redirect

THING, SIMPLE = wheel("thing", "1.0"), wheel("simple", "1.0")
DATE = ago(days=1)[:10]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirror]:
    """A mirror of PyPI, of a registry `torch` and of a group of both; PyPI has a `simple`."""
    with Upstream() as index, Upstream(ranges=True) as files, Upstream() as other, Upstream(ranges=True) as others:
        pypi, torch = PyPI(index, files), PyPI(other, others)
        pypi.upload(SIMPLE, ago(days=9))
        torch.upload(THING, ago(days=9))
        pypi.upload(THING, ago(days=9))
        config = table("registry", name="torch", index=torch.url)
        config += table("group", name="both", registries=["torch", "pypi"])
        folder = tmp_path_factory.mktemp("forms")
        with configured(folder, config, pypi.url) as server:
            yield server


BASES = [DATE, f"{DATE}T10:00:00Z", "live", "live-3d", f"torch/{DATE}", "torch/live", "both/live"]


@pytest.mark.parametrize("base", BASES)
def test_slashes_too_many_lead_to_the_one_address(base: str, served: Mirror) -> None:
    first, _, rest = base.rpartition("/")
    middle = f"/{first}//{rest}" if first else f"//{rest}"
    table = {
        f"/{base}//thing/": f"/{base}/thing/",
        f"/{base}///thing//": f"/{base}/thing/",
        f"/{base}/thing//": f"/{base}/thing/",
        f"/{base}//Thing": f"/{base}/thing/",
        f"/{base}//": f"/{base}/",
        f"{middle}/thing/": f"/{base}/thing/",
        f"/{base}//simple/thing/": f"/{base}/simple/thing/",
        f"/{base}/simple//thing/": f"/{base}/simple/thing/",
        f"/{base}/simple/Thing": f"/{base}/simple/thing/",
        f"/{base}/simple": f"/{base}/simple/",
    }
    found = {path: ask(f"{served.url}{path}") for path in table}
    assert {path: (answer.status_code, answer.headers.get("location")) for path, answer in found.items()} == {
        path: (307, location) for path, location in table.items()
    }
    assert http.get(f"{served.url}/{base}//thing/", headers={"Accept": JSON}, follow_redirects=True).status_code == 200


@pytest.mark.parametrize("base", BASES)
def test_behind_simple_is_the_same(base: str, served: Mirror) -> None:
    """The very same page, for lock files are to stay as they are."""
    address = served.at(base)
    assert document(f"{address}simple/thing/") == document(f"{address}thing/")
    assert ask(f"{address}simple/thing/", "text/html").text == ask(f"{address}thing/", "text/html").text
    assert ask(f"{address}simple/nothing/").status_code == 404
    assert ask(f"{address}simple/thing/more/").status_code == 404
    assert ask(f"{address}simple/simple/thing/").status_code == 404


@pytest.mark.parametrize("base", BASES)
def test_a_project_of_that_name_is_a_project(base: str, served: Mirror) -> None:
    """`/<date>/simple/` is the list where the registry has no such project."""
    address = served.at(base)
    if base.startswith("torch"):
        listed = document(f"{address}simple/")
        assert [project["name"] for project in listed["projects"]] == ["thing"]
        assert f'href="/{base}/simple/thing/"' in ask(f"{address}simple/", "text/html").text
        assert ask(f"{address}simple/simple/").status_code == 404
    else:
        assert filenames(f"{address}simple/") == [SIMPLE.filename]
        assert filenames(f"{address}simple/simple/") == [SIMPLE.filename]


@pytest.mark.parametrize("path", ["//thing/", "//", "/files//thing/", "//simple/thing/"])
def test_other_slashes_lead_nowhere(path: str, served: Mirror) -> None:
    assert 400 <= ask(f"{served.url}{path}").status_code < 500


def test_clients_install_from_both(served: Mirror, clients: Clients) -> None:
    for index in (served.at(f"{DATE}/simple"), f"{served.url}//{DATE}//simple/"):
        assert clients.pip_install(index, ["thing"]) == pins(THING)
        assert clients.uv_compile(index, ["thing", "simple"]) == pins(THING, SIMPLE)


def test_a_list_that_is_refused_comes_from_the_logs(tmp_path: Path, upstream: Upstream) -> None:
    """At `/live/` as at a date; what is gone is not on it."""
    page = '<h1>Links for x</h1><a href="/{0}-1.0.tar.gz" data-upload-time="2024-01-01T00:00:00Z">{0}</a>'
    for name in ("one", "two"):
        upstream.pages[f"/whl/{name}/"] = Response(page.format(name).encode(), 200, {"Content-Type": "text/html"})
    upstream.pages["/whl/"] = Response(b"no", 403, {})
    with configured(
        tmp_path, table("registry", name="torch", index=f"{upstream.url}/whl/"), "http://127.0.0.1:9/"
    ) as server:
        assert document(server.at("torch/live"))["projects"] == []
        for name in ("one", "two", "three"):
            ask(f"{server.at('torch/live')}{name}/")
        expected = [{"name": "one"}, {"name": "two"}]
        for address in ("torch/live", "torch/live/simple", f"torch/{DATE}"):
            assert document(server.at(address))["projects"] == expected
        del upstream.pages["/whl/two/"]
        ask(f"{server.at('torch/live')}two/")
        assert document(server.at("torch/live"))["projects"] == expected[:1]
        assert document(server.at(f"torch/{DATE}"))["projects"] == expected


def test_names_that_a_directory_listing_cuts(mirror: Callable[..., Mirror], upstream: Upstream) -> None:
    """The name is in the link: the text is cut, or the link has `index.html` behind it."""
    long = "a-project-with-a-name-that-is-much-longer-than-nginx-shows-of-it"
    upstream.pages["/simple/"] = Response(
        f'<title>Index of /simple/</title><a href="../">../</a><a href="{long}/">{long[:47]}..&gt;</a>'
        '<a href="x/index.html">x</a><a href="?C=M;O=A">Last modified</a>'.encode(),
        200,
        {"Content-Type": "text/html"},
    )
    running = mirror(pypi_upstream=f"{upstream.url}/simple/")
    assert document(running.at("live"))["projects"] == [{"name": long}, {"name": "x"}]
    assert f'<a href="/live/{long}/">{long}</a>' in ask(running.at("live"), "text/html").text


def test_an_index_that_redirects_to_https_is_to_be_written_so(
    tmp_path: Path, upstreams: Callable[..., Upstream]
) -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    plain, secure = upstreams(), upstreams(tls=context)
    for path in ("/simple/", "/simple/thing/"):
        plain.pages[path] = redirect(f"{secure.url}{path}")
        secure.pages[path] = Response(b"<h1>Links for thing</h1>", 200, {"Content-Type": "text/html"})
    config = table("registry", name="torch", index=f"{plain.url}/simple/")
    options = ("--ca-bundle", str(tmp_path / "ca.pem"))
    with configured(tmp_path / "mirror", config, "http://127.0.0.1:9/", *options) as server:
        for address in ("torch/live/thing", "torch/live"):
            answer = ask(server.at(address), PIP)
            assert (answer.status_code, "use https in the address of its index" in answer.text) == (502, True)

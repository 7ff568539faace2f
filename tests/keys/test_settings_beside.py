"""Access keys beside other settings: turned on at SIGHUP, a root path, a port and a password for the pages, CORS."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import httpx
import pytest

from httpcache.login import USER, make_hash
from tests.support import http
from tests.support.inside import until
from tests.support.keys import FORMS, ask, make
from tests.support.mirror import Mirror, free_port
from tests.support.upstream import Response, Upstream

PASSWORD: Final = "a password of the pages"
LOGIN: Final = {"Authorization": httpx.BasicAuth(USER, PASSWORD)._auth_header}
PIN: Final = "/mirror/tools-2024-01-02"


@dataclass
class Place:
    """A mirror, the address of its pages, the URL of an upstream, and two keys."""

    server: Mirror
    pages: str
    upstream: str
    whole: str
    limited: str


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder, admin = tmp_path_factory.mktemp("place"), free_port()
    (folder / "mirror.toml").write_text(
        f'root-path = "/mirror"\ncors = true\npages = "password"\npages-password-hash = "{make_hash(PASSWORD)}"\n'
        f"admin-port = {admin}\n"
    )
    server = Mirror(folder / "mirror", arguments=["--config", str(folder / "mirror.toml"), "--workers", "2"])
    with Upstream() as upstream:
        upstream.pages["/file"] = b"bytes"
        upstream.pages["/page/"] = Response(b"<a href=x-1.tar.gz>x</a>", headers={"Content-Type": "text/html"})
        try:
            server.start()
            address = f"{server.url}{PIN}/{upstream.url}/file"
            assert http.get(address).headers["access-control-allow-origin"] == "*"
            keys = make(server.data), make(server.data, pins=["tools"])
            with (folder / "mirror.toml").open("a") as file:
                file.write("require-keys = true\n")
            assert server.process is not None
            server.process.send_signal(signal.SIGHUP)
            until(lambda: all(http.get(address).status_code == 401 for _ in range(8)), "the keys")
            yield Place(server, f"http://127.0.0.1:{admin}", upstream.url, *keys)
            server.stop()
        finally:
            server.kill()


@pytest.mark.parametrize("form", FORMS)
def test_a_key_is_behind_the_root_path(form: str, place: Place) -> None:
    """`/mirror/k/<key>/...`, as all addresses are, and so are all links; in front of it there is nothing."""
    key, path = place.whole, f"/tools-2024-01-02/{place.upstream}/page/"
    if form == "address":
        page = http.get(f"{place.server.url}/mirror/k/{key}{path}", headers={"Accept": "text/html"})
        assert f'href="/mirror/k/{key}/tools-2024-01-02/{place.upstream}/page/x-1.tar.gz"' in page.text
        assert http.get(f"{place.server.url}/k/{key}/mirror{path}").status_code == 404
        assert f"/mirror/k/{key}/-/static/" in http.get(f"{place.server.url}/mirror/k/{key}/").text
    else:
        page = ask(place.server.url, f"/mirror{path}", key, form, Accept="text/html")
        assert f'href="{PIN}/{place.upstream}/page/x-1.tar.gz"' in page.text


def test_web_pages_of_other_origins_read_nothing(place: Place) -> None:
    for headers in ({}, {"Authorization": f"Bearer {place.whole}"}):
        for path in ("/mirror", f"/mirror/k/{place.whole}"):
            answer = http.get(
                f"{place.server.url}{path}/tools-2024-01-02/{place.upstream}/file", headers={"Origin": "x", **headers}
            )
            assert (answer.status_code, "access-control-allow-origin" in answer.headers) in ((200, False), (401, True))
            assert answer.status_code == 401 or answer.headers["cache-control"].startswith("private")


@pytest.mark.parametrize("path", ["/mirror/-/pins/", "/mirror/-/metrics", "/mirror/-/activity/"])
def test_pages_and_metrics_have_a_password(path: str, place: Place) -> None:
    """Who logs in with it needs no key, at the port of the pages too; a key does not replace it."""
    assert http.get(f"{place.pages}{path}", headers=LOGIN).status_code == 200
    assert http.get(f"{place.pages}{path}").status_code == 401
    wrong = httpx.BasicAuth(USER, "another password")._auth_header
    assert http.get(f"{place.pages}{path}", headers={"Authorization": wrong}).status_code == 401
    answer = ask(place.pages, path, place.whole)
    assert (answer.status_code, "httpcache pages" in answer.headers["www-authenticate"]) == (401, True)
    assert ask(place.pages, path, place.limited).status_code == 403
    both = f"{place.pages}{path.replace('/mirror', f'/mirror/k/{place.whole}')}"
    assert http.get(both, headers=LOGIN).status_code == 200


def test_the_password_of_the_pages_opens_nothing_else(place: Place) -> None:
    """Neither what is frozen, nor another address; probes are open at both ports."""
    for path in (f"{PIN}/{place.upstream}/file", "/mirror/live/x/", "/mirror/nothing", "/mirror/favicon.ico"):
        assert http.get(f"{place.server.url}{path}", headers=LOGIN).status_code == 401
    assert http.get(f"{place.server.url}/mirror/", headers=LOGIN).status_code == 200
    for url in (place.server.url, place.pages):
        assert [http.get(f"{url}{path}").status_code for path in ("/-/health", "/mirror/-/ready")] == [200, 200]
        assert http.get(f"{url}/mirror/").status_code == 401

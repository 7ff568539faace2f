"""The pages of captures, rules, registries and activity: what is told, and to whom."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from html import unescape
from pathlib import Path

import httpx
import pytest

from httpcache.command.progress import Lines
from httpcache.metrics import UPSTREAM_DURATION, UPSTREAM_REQUESTS, Metrics
from httpcache.pages.upstreams import by_origin
from httpcache.under_way import FILE, Noted, works
from tests.support import http
from tests.support.inside import until
from tests.support.lived import NAME, command, lived
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.pages import check_inert
from tests.support.registries import PyPI
from tests.support.upstream import Request, Response, Upstream

HASH = "scrypt:14:8:5:AAAAAAAAAAAAAAAAAAAAAA==:kSQ1bJYPD8Jgs7OVgip9Bc7Nv0GJkSsREzrHDUV_bZ4="
LOGIN = ("httpcache-pages", "correct horse")
CLOSED = ("--pages", "password", "--pages-password-hash", HASH)


def text_of(server: Mirror, path: str, *, login: bool = False) -> str:
    """The text of a page, after a look at what it is made of."""
    got = http.get(server.url + path, auth=LOGIN if login else None)
    assert got.status_code == 200
    check_inert(got.text)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", got.text)).split())


def test_captures_rules_and_registries(pypi: PyPI, mirror: Callable[..., Mirror]) -> None:
    server = lived(pypi, mirror)
    captures = text_of(server, "/-/captures/")
    assert "1 complete capture of pypi" in captures
    assert "requested" in captures
    pypi.upload(wheel(NAME, "9.0"), "2026-01-01T00:00:00Z")
    command(server, "capture")
    latest, first = re.findall(r'href="(/-/captures/\d[^"]+)"', http.get(f"{server.url}/-/captures/").text)
    assert "0 of 1 projects had changed" in text_of(server, first)
    assert "1 of 1 projects had changed" in text_of(server, latest)
    (diff,) = re.findall(r'href="(/-/projects/[^"]+diff[^"]+)"', unescape(http.get(server.url + latest).text))
    assert "New releases 9.0" in text_of(server, diff)
    assert http.get(f"{server.url}/-/captures/2024-01-02T00:00:00Z/").status_code == 404
    rules = text_of(server, "/-/rules/")
    assert "demo-lib <2.2,>=2 steals credentials <script>" in rules
    assert "demo-lib ==2.1 checked by hand" in rules
    assert "Nothing." in text_of(server, "/-/rules/?q=zzz")
    registries = text_of(server, "/-/registries/")
    assert pypi.url in registries
    assert "none failed" in registries
    assert "1 projects" in registries
    pypi.index.stop()
    assert http.get(f"{server.url}/live/other/").status_code == 502
    until(lambda: "1 failed" in text_of(server, "/-/registries/"), "the failure")


def test_nothing_yet(server: Mirror) -> None:
    assert "None has been completed yet" in text_of(server, "/-/captures/")
    assert "None was given" in text_of(server, "/-/rules/")
    assert http.get(f"{server.url}/-/captures/?registry=absent").status_code == 404


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_download_under_way(workers: str, upstreams: Callable[..., Upstream], mirror: Callable[..., Mirror]) -> None:
    """Of whichever worker; of a private one everything but its name, for who has not logged in."""
    public, closed = upstreams(), upstreams(auth=("user", "pass"))
    server, knowing = mirror("--workers", workers), mirror(*CLOSED)
    release = threading.Event()
    for upstream, name in ((public, "open-file"), (closed, "secret-file")):
        upstream.pages[f"/{name}"] = Response(
            (b"x" * 50_000, release, b"x" * 50_000), headers={"Content-Length": "100000"}
        )
    threads = [
        threading.Thread(
            target=http.get, args=(each.pin("p", url),), kwargs={"headers": {"Authorization": closed.basic()}}
        )
        for each in (server, knowing)
        for url in (f"{public.url}/open-file", f"{closed.url}/secret-file")
    ]
    try:
        for thread in threads:
            thread.start()
        until(lambda: "a private copy 50 KB 100 KB 50 %" in text_of(server, "/-/activity/"), "the private download")
        until(
            lambda: f"/p/{public.url}/open-file 50 KB 100 KB" in text_of(server, "/-/activity/"), "the public download"
        )
        assert "secret-file" not in text_of(server, "/-/activity/")
        until(lambda: "secret-file 50 KB" in text_of(knowing, "/-/activity/", login=True), "its name")
    finally:
        release.set()
        for thread in threads:
            thread.join()
    assert "Downloads under way None." in text_of(server, "/-/activity/")


def test_errors_and_upstreams_are_for_who_has_logged_in(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    server, knowing = mirror(), mirror(*CLOSED)
    upstream.pages["/broken"] = Response(b"", 500)
    upstream.pages["/cut"] = Response(b"x", headers={"Content-Length": "100"})
    for each in (server, knowing):
        http.get(each.pin("p", f"{upstream.url}/broken"))
        with pytest.raises(httpx.HTTPError):
            http.get(each.pin("p", f"{upstream.url}/cut")).raise_for_status()
    assert f"{upstream.url}" not in text_of(server, "/-/activity/")
    told = text_of(knowing, "/-/activity/", login=True)
    assert f"{upstream.url} 2 1 (50.0 %) 5xx: 1" in told
    assert "/cut" in told


def test_errors_are_those_of_all_workers(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    """Whichever worker answered with one, and whichever makes the page; the newest is the first."""
    server = mirror("--workers", "2", *CLOSED)
    paths = [f"/broken-{number}" for number in range(12)]
    for path in paths:
        upstream.pages[path] = Response(b"x", headers={"Content-Length": "100"})
        with pytest.raises(httpx.HTTPError):
            http.get(server.pin("p", upstream.url + path)).raise_for_status()

    def told() -> list[str]:
        found = re.findall(r"/broken-\d+", text_of(server, "/-/activity/", login=True))
        return list(dict.fromkeys(found))

    for _ in range(4):
        until(lambda: told() == paths[::-1], "the errors of the other worker")


def test_a_capture_is_noted_while_it_runs(tmp_path: Path) -> None:
    """By its own process alone; afterwards, and after one that was killed, there is none."""
    assert works(tmp_path) is None
    noted = Noted(Lines(), tmp_path)
    assert works(tmp_path) == []
    with noted.over("capture of pypi", 10) as advance:
        for _ in range(3):
            advance()
        found = works(tmp_path)
        assert found is not None
        assert (found[0].title, found[0].total) == ("capture of pypi", 10)
        assert 1 <= found[0].done <= 3
    found = works(tmp_path)
    assert found is not None
    assert found[0].done == 3
    assert found[0].left(found[0].began + 30) == 70
    noted.close()
    assert works(tmp_path) is None
    for wrong in (
        b"",
        b"{",
        b'{"pid":-1,"works":[]}',
        b'{"pid":0,"works":[]}',
        b'{"pid":999999999,"works":[]}',
        b"\xff",
    ):
        (tmp_path / FILE).write_bytes(wrong)
        assert works(tmp_path) is None


def test_upstreams_are_summed_over_processes() -> None:
    snapshots = []
    for _ in range(2):
        metrics = Metrics()
        for result in ("2xx", "2xx", "5xx", "TimedOut", "4xx"):
            metrics.count(UPSTREAM_REQUESTS, "https://a", result)
            metrics.time(UPSTREAM_DURATION, "https://a", seconds=0.5)
        snapshots.append(metrics.snapshot(0.0))
    found = by_origin(snapshots)
    assert list(found) == ["https://a"]
    assert (found["https://a"].requests, found["https://a"].failed, found["https://a"].rate) == (10, 4, 40.0)
    assert found["https://a"].causes == {"5xx": 2, "TimedOut": 2}
    assert found["https://a"].seconds == pytest.approx(0.5)
    assert by_origin([]) == {}


def test_a_capture_under_way(pypi: PyPI, mirror: Callable[..., Mirror]) -> None:
    """How far the command is that runs beside the server; nothing is left of it afterwards."""
    server = lived(pypi, mirror)
    page, release = pypi.index.otherwise, threading.Event()

    def waiting(request: Request) -> Response:
        release.wait(30)
        return page(request)

    pypi.set_status(NAME, "active")
    pypi.index.pages[f"/simple/{NAME}/"] = waiting
    capturing = threading.Thread(target=command, args=(server, "capture"))
    capturing.start()
    try:
        until(lambda: "capture of pypi: 0 of 1" in text_of(server, "/-/activity/"), "the capture")
    finally:
        release.set()
        capturing.join()
    assert "Capture under way None." in text_of(server, "/-/activity/")
    assert "2 complete captures" in text_of(server, "/-/captures/")
    assert not (server.data / FILE).exists()

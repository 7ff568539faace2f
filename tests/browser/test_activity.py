"""What goes on, in a real browser, for who has logged in: downloads with their rate, upstreams, and the last errors."""

from __future__ import annotations

import threading
from collections.abc import Callable

from tests.support import http
from tests.support.browser import SHAPES, Tab
from tests.support.inside import until
from tests.support.mirror import Mirror
from tests.support.upstream import Response, Upstream

HASH = "scrypt:14:8:5:AAAAAAAAAAAAAAAAAAAAAA==:kSQ1bJYPD8Jgs7OVgip9Bc7Nv0GJkSsREzrHDUV_bZ4="
LOGIN = {"username": "httpcache-pages", "password": "correct horse"}


def test_a_download_errors_and_readers(
    upstream: Upstream, tab: Callable[..., Tab], mirror: Callable[..., Mirror]
) -> None:
    server, release = mirror("--pages", "password", "--pages-password-hash", HASH), threading.Event()
    headers = {"Content-Length": "2000000", "Content-Type": "application/gzip"}
    upstream.pages["/large.tar.gz"] = Response((b"x" * 700_000, release, b"x" * 1_300_000), headers=headers)
    upstream.pages["/small.tar.gz"] = b"small"
    http.get(server.pin("tools-2026-01-02", f"{upstream.url}/small.tar.gz"))
    http.get(server.pin("tools-2026-01-02", "http://127.0.0.1:1/<b>nobody</b>"))
    asking = threading.Thread(target=http.get, args=(server.pin("tools-2026-01-02", f"{upstream.url}/large.tar.gz"),))
    asking.start()
    try:
        until(lambda: bool(list((server.data / "spool").glob("*.head"))), "the download")
        for shape in SHAPES:
            seen = tab(shape, http_credentials=LOGIN)
            seen.open(f"{server.url}/-/activity/")
            seen.shoot("activity-at-work")
            assert seen.page.get_by_role("progressbar").count() == 1
            assert "nobody" in seen.page.get_by_role("region", name="Last errors").inner_text()
            assert seen.page.locator("b").count() == 0
            assert seen.barriers() == []
            assert not seen.overflows()
        page = seen.page
        page.get_by_role("link", name="Look again").press("Enter")
        page.wait_for_load_state()
        entry = f"{server.url}/-/entry/?address=/tools-2026-01-02/{upstream.url}/small.tar.gz"
        page.goto(entry)
        page.get_by_role("link", name="small.tar.gz").click()

        def is_read() -> bool:
            page.reload()
            return bool(page.get_by_role("region", name="Readers").count() == 1)

        until(is_read, "the journal")
        seen.shoot("entry-with-readers")
        assert seen.barriers() == []
    finally:
        release.set()
        asking.join()

"""The pages of pins and entries in a real browser: found by mouse and by keyboard, and nothing of a name runs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support import http
from tests.support.browser import SHAPES, Tab
from tests.support.mirror import Mirror
from tests.support.upstream import Response, Upstream, redirect


@pytest.fixture
def filled(upstream: Upstream, mirror: Callable[..., Mirror]) -> Mirror:
    """A mirror with some pins, and one of several pages."""
    server = mirror()
    names = {"toolchain-2026-01-15": 130, "cuda-2025-11-02": 4, "models-2026-02-28": 7, "apt-bookworm-2026-02-01": 31}
    upstream.otherwise = lambda request: Response(
        b"x" * (len(request.path) * 997), headers={"Content-Type": "application/gzip"}
    )
    upstream.pages["/moved.tar.gz"] = redirect("/dist/moved-1.0.tar.gz")
    for pin, count in names.items():
        for number in range(count):
            url = f"{upstream.url}/dist/project-{number % 7}/project-{number % 7}-{number}.tar.gz"
            http.get(server.pin(pin, url))
    http.get(server.pin("cuda-2025-11-02", f"{upstream.url}/moved.tar.gz"))
    http.get(server.pin("cuda-2025-11-02", f"{upstream.url}/<script>document.title='hacked'</script>"))
    return server


def test_from_the_pins_to_an_entry(tab: Callable[..., Tab], filled: Mirror) -> None:
    """By mouse; each page in each shape is looked at by axe."""
    for shape in SHAPES:
        seen = tab(shape)
        page = seen.page
        page.goto(f"{filled.url}/-/pins/")
        for name, label in {
            "pins": "Pins",
            "pins-by-entries": "Entries",
            "pin": "cuda-2025-11-02",
            "entry": "moved.tar.gz",
        }.items():
            page.get_by_role("link", name=label).first.click()
            page.wait_for_load_state()
            seen.shoot(name)
            assert seen.barriers() == []
            assert not seen.overflows()
        assert "redirected" in page.inner_text("main")
        assert seen.console == []
        assert all(url.startswith(filled.url) for url in seen.requests)


def test_a_search_by_keyboard(tab: Callable[..., Tab], filled: Mirror) -> None:
    page = tab().page
    page.goto(f"{filled.url}/-/pins/toolchain-2026-01-15/")
    page.get_by_label("Address").focus()
    page.keyboard.type("project-3-")
    page.keyboard.press("Tab")
    page.keyboard.type("contains")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url("**how=contains**")
    assert page.get_by_role("row").count() == 1 + 130 // 7 + 1
    page.goto(f"{filled.url}/-/pins/toolchain-2026-01-15/")
    assert page.get_by_role("row").count() == 101
    page.get_by_role("link", name="Next").press("Enter")
    page.wait_for_url("**after=**")
    assert page.get_by_role("row").count() == 31


def test_an_address_is_looked_up(tab: Callable[..., Tab], filled: Mirror, upstream: Upstream) -> None:
    seen = tab()
    page = seen.page
    page.goto(f"{filled.url}/-/entry/")
    page.get_by_label("Address").fill(f"{filled.url}/cuda-2025-11-02/{upstream.url}/moved.tar.gz")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="moved.tar.gz").click()
    assert page.get_by_role("heading", level=1).inner_text() == f"{upstream.url}/moved.tar.gz"
    page.goto(f"{filled.url}/-/entry/?address=/cuda-2025-11-02/http://127.0.0.1:1/nothing")
    assert page.get_by_role("alert").is_visible()
    assert seen.barriers() == []


def test_a_hostile_name_does_not_run(tab: Callable[..., Tab], filled: Mirror) -> None:
    seen = tab()
    seen.open(f"{filled.url}/-/pins/cuda-2025-11-02/")
    seen.page.get_by_role("link", name="hacked").click()
    assert seen.page.title() != "hacked"
    assert seen.console == []


def test_a_login(tab: Callable[..., Tab], mirror: Callable[..., Mirror]) -> None:
    """The browser sends it, and then every page is there."""
    stored = "scrypt:14:8:5:AAAAAAAAAAAAAAAAAAAAAA==:kSQ1bJYPD8Jgs7OVgip9Bc7Nv0GJkSsREzrHDUV_bZ4="
    server = mirror("--pages", "password", "--pages-password-hash", stored)
    right = tab(http_credentials={"username": "httpcache-pages", "password": "correct horse"})
    assert right.open(f"{server.url}/-/pins/").status == 200
    assert right.page.get_by_role("heading", level=1).inner_text() == "Pins"

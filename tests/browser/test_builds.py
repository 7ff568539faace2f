"""The pages of labelled builds in a real browser."""

from __future__ import annotations

from collections.abc import Callable

from tests.support import http
from tests.support.browser import SHAPES, Tab
from tests.support.inside import until
from tests.support.mirror import Mirror
from tests.support.upstream import Response, Upstream


def test_from_the_builds_to_a_file(tab: Callable[..., Tab], upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    """By mouse and by keyboard; each page in each shape is looked at by axe."""
    server = mirror()
    upstream.otherwise = lambda request: Response(b"x" * 5000)
    for number in range(12):
        url = f"{upstream.url}/dist/a-project-with-a-long-name/a-project-with-a-long-name-{number}.tar.gz"
        http.get(f"{server.url}/tools-2026-01-02--nightly-{number % 2}/{url}").raise_for_status()
    until(lambda: "nightly-1" in http.get(f"{server.url}/-/builds/").text, "the builds")
    for shape in SHAPES:
        seen = tab(shape)
        page = seen.page
        page.goto(f"{server.url}/")
        with page.expect_navigation():
            page.get_by_role("link", name="Builds").click()
        page.get_by_label("Label").fill("nightly-1")
        with page.expect_navigation():
            page.keyboard.press("Enter")
        for name, label in {"builds": "nightly-1", "build": "long-name-11"}.items():
            seen.shoot(name)
            assert seen.barriers() == []
            assert not seen.overflows()
            with page.expect_navigation():
                page.get_by_role("link", name=label).first.click()
        assert "SHA-256" in page.inner_text("main")
        assert seen.console == []

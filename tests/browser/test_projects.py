"""The pages about indexes in a real browser: each opened, worked by mouse and keyboard, and looked at by axe."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.browser import SHAPES, Tab
from tests.support.lived import NAME, command, lived
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.registries import PyPI


def test_the_pages_of_a_project(pypi: PyPI, tab: Callable[..., Tab], mirror: Callable[..., Mirror]) -> None:
    server = lived(pypi, mirror)
    for shape in SHAPES:
        seen = tab(shape)
        page = seen.page
        page.goto(f"{server.url}/-/projects/")
        seen.shoot("projects")
        page.get_by_role("link", name=NAME).click()
        page.wait_for_load_state()
        seen.shoot("project")
        assert seen.barriers() == []
        assert not seen.overflows()
        assert page.get_by_role("img", name=f"Time line of {NAME}").is_visible()
        page.get_by_role("textbox", name="At", exact=True).fill("2020-06-01")
        page.get_by_role("textbox", name="At", exact=True).press("Enter")
        page.wait_for_url("**at=2020-06-01**")
        assert page.get_by_role("region", name="Releases at that instant").get_by_role("row").count() == 7
        page.get_by_role("textbox", name="From").fill("2020-06-01")
        page.get_by_role("textbox", name="To").fill("2023-06-01")
        page.get_by_role("button", name="Compare").click()
        page.wait_for_url("**/diff**")
        seen.shoot("compared")
        assert "New releases" in page.inner_text("main")
        assert seen.barriers() == []
        assert not seen.overflows()
        assert page.title() != "hacked"
        assert seen.console == []
        assert all(url.startswith(server.url) for url in seen.requests)


def test_captures_rules_registries_and_activity(
    pypi: PyPI, tab: Callable[..., Tab], mirror: Callable[..., Mirror]
) -> None:
    """By the links at the top, with the keyboard; from a capture to a project, and to what differs there."""
    server = lived(pypi, mirror)
    pypi.upload(wheel(NAME, "9.0"), "2026-01-01T00:00:00Z")
    command(server, "capture")
    for shape in SHAPES:
        seen = tab(shape)
        page = seen.page
        page.goto(f"{server.url}/")
        for name in ("Captures", "Rules", "Registries", "Activity"):
            page.get_by_role("navigation", name="Pages").get_by_role("link", name=name).press("Enter")
            page.wait_for_url(f"**/-/{name.lower()}/")
            seen.shoot(name.lower())
            assert seen.barriers() == []
            assert not seen.overflows()
        page.goto(f"{server.url}/-/captures/")
        page.get_by_role("region", name="Captures").get_by_role("link").first.press("Enter")
        page.wait_for_url("**/-/captures/2*/")
        seen.shoot("capture")
        assert seen.barriers() == []
        assert not seen.overflows()
        page.get_by_role("link", name=f"What changed in {NAME} since the capture before").press("Enter")
        page.wait_for_url("**/diff?from=**")
        assert "New releases 9.0" in " ".join(page.inner_text("main").split())
        assert page.title() != "hacked"
        assert seen.console == []


def test_what_differs_of_a_list(pypi: PyPI, tab: Callable[..., Tab], mirror: Callable[..., Mirror]) -> None:
    """A list is pasted, two dates compared, and the instants between them looked at; all with the keyboard."""
    server = lived(pypi, mirror)
    for shape in SHAPES:
        seen = tab(shape)
        page = seen.page
        page.goto(f"{server.url}/")
        page.get_by_role("navigation", name="Pages").get_by_role("link", name="Compare").press("Enter")
        page.wait_for_url("**/-/diff/")
        page.get_by_role("textbox", name="Projects").fill(f"{NAME}>=1,<7\nabsent")
        page.get_by_role("textbox", name="From").fill("2020-06-01")
        page.get_by_role("textbox", name="To").fill("2023-06-01")
        page.get_by_role("textbox", name="To").press("Enter")
        page.wait_for_url("**/-/diff/?**")
        seen.shoot("differences")
        assert page.get_by_role("region", name=f"Files of {NAME} that differ").get_by_role("row").count() == 13
        assert page.get_by_role("button", name="Copy: Markdown").is_visible()
        assert seen.barriers() == []
        assert not seen.overflows()
        page.get_by_role("link", name="At which instants that happened").press("Enter")
        page.wait_for_url("**/-/bisect/?**")
        seen.shoot("bisect")
        assert page.get_by_role("region", name="What happened").get_by_role("row").count() == 13
        assert "--good 2020-06-01 --bad 2023-06-01" in page.inner_text("main")
        assert seen.barriers() == []
        assert not seen.overflows()
        assert page.title() != "hacked"
        assert seen.console == []
        assert all(url.startswith(server.url) for url in seen.requests)

"""The start page in a real browser: by mouse, by keyboard, without scripts, and what axe says of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.browser import SHAPES, Tab
from tests.support.mirror import Mirror

CLIENTS = ["pip", "uv", "Poetry", "PDM", "pipenv", "conda", "Docker", "curl", "wget", "apt", "npm", "pnpm", "Yarn"]


@pytest.mark.parametrize("shape", SHAPES)
def test_it_shuts_nobody_out(shape: str, tab: Callable[..., Tab], server: Mirror) -> None:
    seen = tab(shape)
    seen.open(f"{server.url}/")
    seen.shoot("home")
    assert seen.barriers() == []
    assert not seen.overflows()
    assert seen.console == []
    assert all(url.startswith(server.url) for url in seen.requests)


def test_tabs_by_mouse(tab: Callable[..., Tab], server: Mirror) -> None:
    page = tab().page
    page.goto(f"{server.url}/")
    tabs = page.get_by_role("tab")
    assert tabs.all_inner_texts() == CLIENTS
    for name in CLIENTS:
        page.get_by_role("tab", name=name, exact=True).click()
        panel = page.get_by_role("tabpanel")
        assert panel.count() == 1
        assert name in panel.inner_text()
        assert server.url in panel.inner_text()
    page.goto(f"{server.url}/#npm")
    page.reload()
    assert page.get_by_role("tabpanel").get_attribute("id") == "npm"


def test_tabs_by_keyboard(tab: Callable[..., Tab], server: Mirror) -> None:
    """Arrow keys move and wrap around, Home and End jump; the tab key leaves the list for the lines."""
    page = tab().page
    page.goto(f"{server.url}/")
    page.get_by_role("tab", name="pip", exact=True).focus()
    for key, chosen in [
        ("ArrowRight", "uv"),
        ("ArrowLeft", "pip"),
        ("ArrowLeft", "yarn"),
        ("Home", "pip"),
        ("End", "yarn"),
    ]:
        page.keyboard.press(key)
        assert page.evaluate("document.activeElement.id") == f"tab-{chosen}"
        assert page.get_by_role("tabpanel").get_attribute("id") == chosen
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('[role=tabpanel]').id") == "yarn"


def test_the_first_stop_leads_to_the_content(tab: Callable[..., Tab], server: Mirror) -> None:
    page = tab().page
    page.goto(f"{server.url}/")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_a_date_changes_all_lines(tab: Callable[..., Tab], server: Mirror) -> None:
    page = tab().page
    page.goto(f"{server.url}/")
    page.get_by_label("As of").fill("2024-01-02")
    assert page.get_by_role("status").inner_text() in ("", "All lines are as of 2024-01-02")
    for client in ("pip", "uv", "curl", "npm"):
        page.get_by_role("tab", name=client, exact=True).click()
        assert "2024-01-02" in page.get_by_role("tabpanel").inner_text()
    assert f"{server.url}/2024-01-02/" in page.inner_text("dl")
    page.reload()
    assert page.get_by_label("As of").input_value() == "2024-01-02"


@pytest.mark.parametrize("clipboard", ["given", "refused"])
def test_copy(clipboard: str, tab: Callable[..., Tab], server: Mirror) -> None:
    """Also where the browser gives no clipboard, as over http from another machine."""
    seen = tab(permissions=["clipboard-read", "clipboard-write"])
    page = seen.page
    if clipboard == "refused":
        page.add_init_script("Object.defineProperty(navigator, 'clipboard', {value: undefined, configurable: true})")
    page.goto(f"{server.url}/?date=2024-01-02")
    page.get_by_role("button", name="Copy: Lines for pip, 1").press("Enter")
    page.get_by_role("status").filter(has_text="Copied").wait_for(state="attached")
    other = page.context.new_page()
    other.goto(f"{server.url}/")
    copied = other.evaluate("navigator.clipboard.readText()")
    assert copied == f"pip install -i {server.url}/2024-01-02/ PACKAGE"


def test_without_scripts(tab: Callable[..., Tab], server: Mirror) -> None:
    """Everything can be read, and the date is a form."""
    seen = tab(java_script_enabled=False)
    page = seen.page
    page.goto(f"{server.url}/")
    for name in CLIENTS:
        assert page.locator(f"#{name.lower()} pre").first.is_visible()
    assert page.get_by_role("button", name="Copy").count() == 0
    page.get_by_label("As of").fill("2024-01-02")
    page.get_by_role("button", name="Show").click()
    assert page.url == f"{server.url}/?date=2024-01-02"
    assert f"{server.url}/2024-01-02/ PACKAGE" in page.locator("#pip").inner_text()
    seen.shoot("home-without-scripts")


def test_a_wrong_date(tab: Callable[..., Tab], server: Mirror) -> None:
    seen = tab()
    seen.open(f"{server.url}/?date=2999-01-01")
    assert "in the future" in seen.page.get_by_role("alert").inner_text()
    assert seen.barriers() == []


@pytest.mark.parametrize("shape", SHAPES)
def test_an_error_is_a_page(shape: str, tab: Callable[..., Tab], server: Mirror) -> None:
    seen = tab(shape)
    answer = seen.open(f"{server.url}/-/nothing/<script>alert(1)</script>")
    assert answer.status == 404
    assert seen.page.get_by_role("heading", level=1).inner_text().startswith("Not Found")
    assert seen.barriers() == []
    seen.shoot("error")

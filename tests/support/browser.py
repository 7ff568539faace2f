"""A real headless Chromium that opens the mirror's pages, and axe-core, which looks for what shuts people out."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

CHROMIUM: Final = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SHOTS: Final = os.environ.get("SCREENSHOTS")
"""A folder for screenshots, if somebody wants to look at them."""
SHAPES: Final = {
    "light": {"color_scheme": "light", "viewport": {"width": 1200, "height": 900}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1200, "height": 900}},
    "phone": {"color_scheme": "light", "viewport": {"width": 375, "height": 740}},
}


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser; the test is skipped where there is none (`make browser-tools`)."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: make browser-tools")
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make browser-tools")
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Tab:
    """One page of the browser, in one shape; it notes every request, and every word of the console."""

    def __init__(self, browser: Any, shape: str = "light", **options: Any) -> None:
        self.shape = shape
        self._context = browser.new_context(**{**SHAPES[shape], **options})
        self.page = self._context.new_page()
        self.page.set_default_timeout(20_000)
        self.requests: list[str] = []
        self.console: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.console.append(message.text))
        self.page.on("pageerror", lambda error: self.console.append(str(error)))

    def open(self, url: str) -> Any:
        """Open an address and return what answered."""
        return self.page.goto(url)

    def shoot(self, name: str) -> None:
        """Keep a picture of the whole page, if somebody wants to look at it."""
        if SHOTS:
            self.page.screenshot(path=Path(SHOTS) / f"{name}-{self.shape}.png", full_page=True)

    def barriers(self) -> list[str]:
        """What axe finds that is serious or critical: the rule, and where."""
        axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
        found = axe.run(self.page).response["violations"]
        return [
            f"{rule['id']}: {node['html']}: {node['failureSummary']}"
            for rule in found
            if rule["impact"] in ("serious", "critical")
            for node in rule["nodes"]
        ]

    def overflows(self) -> bool:
        """Whether the page is wider than the window."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))

    def close(self) -> None:
        """Close it."""
        self._context.close()

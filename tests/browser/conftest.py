"""One browser for the tests of a module.

It is driven from an event loop that runs as long as the browser: no other loop can run then in this process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.browser import Tab, chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, headless."""
    with chromium() as started:
        yield started


@pytest.fixture
def tab(browser: Any) -> Iterator[Callable[..., Tab]]:
    """Open tabs: `tab("dark")`, `tab(java_script_enabled=False)`."""
    opened: list[Tab] = []

    def start(shape: str = "light", **options: Any) -> Tab:
        opened.append(Tab(browser, shape, **options))
        return opened[-1]

    yield start
    for each in opened:
        each.close()

"""Content negotiation: what real clients send, and what nobody should."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypi_adapter.simple.negotiation import MediaType, choose, is_installer

JSON, HTML, LEGACY = MediaType.JSON, MediaType.HTML, MediaType.LEGACY
PIP = f"{JSON}, {HTML}; q=0.1, text/html; q=0.01"
UV = f"{JSON}, {HTML};q=0.2, text/html;q=0.01"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (None, LEGACY),
        ("", LEGACY),
        ("  ", LEGACY),
        ("*/*", LEGACY),
        ("*/*;q=0.1", LEGACY),
        (PIP, JSON),
        (UV, JSON),
        (BROWSER, LEGACY),
        ("text/html", LEGACY),
        (str(JSON), JSON),
        (str(HTML), HTML),
        (str(JSON).upper(), JSON),
        ("application/vnd.pypi.simple.latest+json", JSON),
        ("application/vnd.pypi.simple.latest+html", HTML),
        (f"{JSON};q=0.2, {HTML};q=0.3", HTML),
        (f"{HTML}, {JSON}", JSON),
        (f"text/html, {JSON}", JSON),
        (f"text/html;q=0.9, {JSON};q=0.8", LEGACY),
        ("application/*", JSON),
        ("text/*", LEGACY),
        ("text/*, */*;q=0.5", LEGACY),
        (f"*/*, {HTML}", HTML),
        (f"*/*, {JSON};q=0", LEGACY),
        ("*/*, text/html;q=0", JSON),
        (f"*/*, text/*;q=0, {JSON};q=0", HTML),
        (f"application/*;q=0.1, {JSON};q=0, text/html;q=0.05", HTML),
        (f"{JSON};q=0, {JSON};q=0.5", JSON),
        (f"{JSON};q=0.5, {JSON};q=0", JSON),
        ("text/*, application/*", JSON),
        ("text/html; charset=utf-8; q=0.5", LEGACY),
        ("text/html ; Q = 1.000", LEGACY),
        ("application/json", None),
        ("application/vnd.pypi.simple.v2+json", None),
        ("text/html;q=0", None),
        ("*/*;q=0", None),
        ("text/plain, image/png", None),
        (f"{JSON};q=0.5, text/html;q=much", JSON),
        (f"{JSON};q=0.5, text/html;q=2", JSON),
        (f"{JSON};q=0.5, text/html;q=nan", JSON),
        (",,;;=,/,", None),
        ("garbage", LEGACY),
    ],
)
def test_choose(accept: str | None, form: MediaType | None) -> None:
    assert choose(accept) is form


@pytest.mark.parametrize(
    ("accept", "installer"),
    [
        (PIP, True),
        (UV, True),
        ("text/html", True),
        ("application/vnd.pypi.simple.v2+json", True),
        ("application/vnd.pypi.simple.latest+html", True),
        (BROWSER, False),
        ("text/html, */*", False),
        ("*/*", False),
        ("", False),
        (None, False),
    ],
)
def test_is_installer(accept: str | None, installer: bool) -> None:
    assert is_installer(accept) is installer


header = st.text() | st.lists(
    st.sampled_from([*MediaType, "*/*", "text/*", "q=0", ";", ";q=", "0.5", ",", "=", "/", "é"])
).map("".join)


@given(header)
def test_any_header_is_answered(accept: str) -> None:
    assert choose(accept) in (*MediaType, None)
    assert is_installer(accept) in (True, False)


@given(st.dictionaries(st.sampled_from(list(MediaType)), st.integers(0, 1000), min_size=1))
def test_the_heaviest_of_exactly_named_forms_wins(weights: dict[MediaType, int]) -> None:
    form = choose(", ".join(f"{name};q={weight / 1000}" for name, weight in weights.items()))
    if form is None:
        assert set(weights.values()) == {0}
    else:
        assert weights[form] == max(weights.values()) > 0

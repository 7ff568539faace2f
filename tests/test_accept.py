"""Whether an `Accept` admits a content type: RFC 9110 section 12.5.1, and what clients send."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from httpcache.accept import admits

JSON = "application/vnd.pypi.simple.v1+json"
BAZEL = "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"
PIP = f"{JSON}, application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01"


@pytest.mark.parametrize(
    ("accept", "content_type", "admitted"),
    [
        ("*/*", JSON, True),
        (BAZEL, JSON, True),
        (BROWSER, JSON, True),
        (PIP, JSON, True),
        (PIP, "Text/HTML; charset=utf-8", True),
        (PIP, "application/json", False),
        ("text/html", JSON, False),
        ("text/*", "text/plain", True),
        ("text/*", "textual/plain", False),
        ("text/*;q=0, */*", "text/plain", False),
        ("*/*, text/plain;q=0", "text/plain", False),
        ("*/*, text/plain;q=0", "text/html", True),
        ("*/*;q=0", "text/html", False),
        ("text/html;q=0, text/html", "text/html", True),
        ("text/html ; Q=0.5", "text/html", True),
        ("application/json;version=1", "application/json; version=1; charset=utf-8", True),
        ("application/json;version=1", 'application/json;VERSION="1"', True),
        ("application/json;version=1", "application/json; version=2", False),
        ("application/json;version=1", "application/json", False),
        ("application/json, application/json;version=2;q=0", "application/json;version=2", False),
        ('application/json;profile="a,b;c", text/plain', "text/plain", True),
        ('application/json;profile="a,b;c"', 'application/json; profile="a,b;c"', True),
        ("text/plain;q=much", "text/html", True),
        ("text/plain, text/html;q=2", "text/html", False),
        ("", JSON, True),
        ("garbage", JSON, True),
        (",,;;=,/,", "text/html", False),
        ("application/x", "", True),
        ("application/x", "garbage", True),
        ("application/x", "; charset=utf-8", True),
    ],
)
def test_admits(accept: str, content_type: str, admitted: bool) -> None:
    assert admits(accept, content_type) is admitted


TYPES = st.sampled_from(["a/a", "a/b", "b/b", "b/a;x=1"])


@given(st.lists(st.tuples(TYPES | st.sampled_from(["a/*", "*/*"]), st.sampled_from(["", ";q=0", ";q=0.5"]))), TYPES)
def test_the_order_of_ranges_says_nothing(ranges: list[tuple[str, str]], content_type: str) -> None:
    parts = ["".join(pair) for pair in ranges]
    assert admits(",".join(parts), content_type) is admits(",".join(reversed(parts)), content_type)


@given(st.text(), st.text())
def test_nothing_is_an_error(accept: str, content_type: str) -> None:
    assert admits(accept, content_type) in (True, False)


@pytest.mark.parametrize("piece", [",", ";", '"', "a/a;", 'a/a;x="', "\\", '"\\'])
def test_a_long_header_takes_no_long_time(piece: str) -> None:
    assert admits(piece * 60_000, "a/b" + ";" * 60_000) in (True, False)

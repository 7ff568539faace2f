"""Conditions over the wire: lists in several lines, conditions of a first fetch, dates as clients write them."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

import pytest

from tests.support.mirror import Mirror
from tests.support.rawupstream import Got, ask
from tests.support.upstream import Response, Upstream

BODY = b"0123456789"
ETAG = f'"{sha256(BODY).hexdigest()}"'
MODIFIED = "Tue, 02 Jan 2024 03:04:05 GMT"

Get = Callable[..., Got]


@pytest.fixture
def get(upstream: Upstream, server: Mirror, pin: str) -> Get:
    """Ask for one file with these header lines."""
    upstream.pages["/x"] = Response(BODY, headers={"Last-Modified": MODIFIED})
    target = f"/{pin}/{upstream.url}/x"

    def send(*lines: str, method: str = "GET") -> Got:
        head = (f"{method} {target} HTTP/1.1", "Host: mirror", "Connection: close", *lines, "", "")
        return ask(server.port, "\r\n".join(head).encode(), method)

    return send


CONDITIONS = [
    (["If-None-Match: \"x\"", f"If-None-Match: {ETAG}"], 304), (["If-None-Match: \"x\"", "If-None-Match: \"y\""], 200),
    (["If-None-Match: \"x\"", f"If-None-Match: W/{ETAG}"], 304), ([f"If-Match: {ETAG}", "If-Match: \"x\""], 200),
    (["If-Match: \"x\"", f"If-Match: {ETAG}"], 200), (["If-Match: \"x\"", "If-Match: \"y\""], 412),
    (["If-Match: *"], 200),
    ([f"If-None-Match: {ETAG}", "If-Modified-Since: Mon, 01 Jan 2024 00:00:00 GMT"], 304),
    (["If-None-Match: \"x\"", f"If-Modified-Since: {MODIFIED}"], 200),
    ([f"If-Modified-Since: {MODIFIED}"], 304), (["If-Modified-Since: Tuesday, 02-Jan-24 03:04:05 GMT"], 304),
    (["If-Modified-Since: Tue Jan  2 03:04:05 2024"], 304), (["If-Modified-Since: Tue, 02 Jan 2024 03:04:04 GMT"], 200),
    (["If-Modified-Since: yesterday"], 200), (["If-Modified-Since: 0"], 200), (["If-Unmodified-Since: 0"], 200),
    (["If-Unmodified-Since: Tue, 02 Jan 2024 03:04:04 GMT"], 412),
    (["Range: bytes=0-1", f"If-Range: {ETAG}"], 206), (["Range: bytes=0-1", "Range: bytes=2-3"], 200),
    (["Range: bytes=0-1", f"If-Range: W/{ETAG}"], 200),
    (["Range: bytes=0-1", f"If-Range: {ETAG}", "If-Range: \"x\""], 200),
]  # fmt: skip


def test_conditions_of_a_frozen_file(get: Get) -> None:
    assert get().status == 200
    for lines, status in CONDITIONS:
        got = get(*lines)
        assert got.status == status, lines
        assert got.body == {200: BODY, 206: BODY[:2], 304: b""}.get(status, got.body)


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([f"If-Match: {ETAG}"], 200),
        (['If-Match: "x"'], 412),
        (["If-Match: *"], 200),
        ([f"If-Match: {ETAG}", "Range: bytes=0-1"], 206),
    ],
)
def test_a_condition_of_the_first_fetch(lines: list[str], status: int, get: Get) -> None:
    """What is not known before the last byte is waited for."""
    assert get(*lines).status == status
    assert get(*lines).status == status

"""A login in any place of an address, right or wrong: it is told to nobody but the client."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from httpcache.errors import without_logins
from tests.support.mirror import Mirror
from tests.support.rawupstream import get

PLACES = [
    "/{}/x", "//{}/x", "/{}", "/pin/{}/", "/2024-01-02/{}/", "/files/{}/x/y", "/-/{}", "/http://{}/x", "/https:{}/x",
    "/pin/https:{}", "/live/{}/", "/pin/raw/{}/", "/pin/https://{}:9/x", "/pin/https://{}%20st/", "/2024-02-30:{}/y",
    "/2024-01-02/pypi/{}/json", "/-/pins/{}/", "/-/entry/{}/", "/-/projects/{}/",
    "/{}/info/refs?service=git-upload-pack",
]  # fmt: skip
FORMS = ["user:S3CRET@host", "user%3AS3CRET%40host", "user%3aS3CRET@host", ":S3CRET@host", "u:a:S3CRET@h"]


def test_no_log_has_it(mirror: Callable[..., Mirror]) -> None:
    running = mirror()
    for place in PLACES:
        for form in FORMS:
            assert get(running.url + place.format(form)).status >= 400
    running.stop()
    assert "answered 400" in running.log()
    assert [line for line in running.log().splitlines() if "S3CRET" in line] == []


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("'user:pw@host' is no pin", "'…@host' is no pin"),
        ("/a/user%3Apw%40host/b", "/a/…@host/b"),
        ("https://user:pw@host/x", "https://…@host/x"),
        ("write to a@example.com at 10:30", "write to a@example.com at 10:30"),
        ("the pin 'tools-2024-01-02T10:30:00Z'", "the pin 'tools-2024-01-02T10:30:00Z'"),
        ("demo==1.0 @ https://example.com", "demo==1.0 @ https://example.com"),
    ],
)
def test_what_looks_like_a_login(text: str, wanted: str) -> None:
    assert without_logins(text) == wanted

"""Content codings of the mirror's own pages: which one a header gets, and that each holds the page."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from httpcache import zstd
from httpcache.web.content_coding import IDENTITY, WORTHWHILE, Body, choose
from tests.support.index import ask
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.registries import JSON, PyPI

DECODE: dict[str, Callable[[bytes], bytes]] = {
    IDENTITY: lambda body: body,
    "gzip": lambda body: zlib.decompress(body, wbits=zlib.MAX_WBITS | 16),
    "zstd": zstd.decompress,
}


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        ("", "identity"),
        ("identity", "identity"),
        ("gzip, deflate", "gzip"),
        ("gzip, br, zstd", "zstd"),
        ("GZIP;Q=0.5", "gzip"),
        ("gzip;q=1.0, zstd;q=0.9", "gzip"),
        ("*", "zstd"),
        ("*;q=0.1, identity", "identity"),
        ("zstd;q=0, *", "gzip"),
        ("br", "identity"),
        ("gzip;q=0", "identity"),
        ("gzip;q=2, zstd;q=nan, x;y", "identity"),
        ("gzip;level=9", "identity"),
    ],
)
def test_the_coding_that_a_header_gets(header: str, coding: str) -> None:
    assert choose(header) == coding


@given(st.binary(max_size=3 * WORTHWHILE), st.sampled_from(sorted(DECODE)))
def test_each_form_holds_the_page(plain: bytes, coding: str) -> None:
    async def check() -> None:
        body = Body(plain)
        form = await body.encoded(coding)
        assert form.coding == (coding if len(plain) >= WORTHWHILE else IDENTITY)
        assert DECODE[form.coding](form.body) == plain
        assert await body.encoded(coding) is form
        assert (await Body(plain).encoded(coding)).etag == form.etag

    anyio.run(check)


def test_a_page_is_one_and_the_same_in_every_coding(pypi: PyPI, mirror: Callable[..., Mirror]) -> None:
    for number in range(20):
        pypi.upload(wheel("demo", f"1.{number}"), "2023-06-01T00:00:00Z")
    address = mirror(pypi).at("2024-01-02/demo")
    tags = set()
    for header, coding in {"identity": None, "gzip, deflate": "gzip", "gzip, br, zstd": "zstd"}.items():
        for _ in range(2):  # the second is kept ready
            answer = ask(address, JSON, **{"Accept-Encoding": header})
            assert answer.headers.get("content-encoding") == coding
            assert answer.headers["vary"] == "Accept, Accept-Encoding"
            assert int(answer.headers["content-length"]) == answer.num_bytes_downloaded
            if coding != "zstd":  # httpx reads it only where the zstandard package is installed
                assert len(answer.json()["files"]) == 20
        tag = answer.headers["etag"]
        tags.add(tag)
        again = ask(address, JSON, **{"Accept-Encoding": header, "If-None-Match": tag})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert len(tags) == 3

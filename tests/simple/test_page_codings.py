"""What an index page can be wrapped in: content codings and wide characters, undone within bounds."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from httpcache.upstream.decoding import BadCoding, decoded
from pypi_adapter.simple.model import BadPage, Page
from pypi_adapter.simple.parser import parse

LIMIT = 1_000_000
HTML = '<html><head><meta charset="iso-8859-1"></head><a href="x-1.zip" data-yanked="é">x</a></html>'
JSON = (
    '{"meta": {"api-version": "1.0"}, "name": "x", "files": [{"filename": "x-1.zip", "url": "x-1.zip", "hashes": {}}]}'
)


def raw_deflate(body: bytes) -> bytes:
    """RFC 1951 without the frame of zlib."""
    squeeze = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return squeeze.compress(body) + squeeze.flush()


UNDONE = [
    (None, lambda body: body),
    ("", lambda body: body),
    (",", lambda body: body),
    ("identity", lambda body: body),
    (" Identity , IDENTITY", lambda body: body),
    ("utf-8", lambda body: body),
    ("aws-chunked", lambda body: body),
    ("br", lambda body: body),  # said, and not done
    ("gzip", lambda body: body),
    ("deflate", lambda body: body),
    ("gzip", gzip.compress),
    ("x-gzip", gzip.compress),
    ("GZIP", gzip.compress),
    ("aws-chunked,gzip", gzip.compress),
    ("gzip, identity", gzip.compress),
    ("gzip", lambda body: gzip.compress(body[:9]) + gzip.compress(body[9:])),
    ("gzip", lambda body: gzip.compress(body) + bytes(512)),
    ("gzip", lambda body: gzip.compress(body) + b"\r\nbehind it"),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
    ("gzip, gzip", lambda body: gzip.compress(gzip.compress(body))),
    ("gzip,gzip", gzip.compress),  # said twice, and done once
    ("deflate, gzip", lambda body: gzip.compress(zlib.compress(body))),
    ("gzip, deflate", lambda body: raw_deflate(gzip.compress(body))),
]


@pytest.mark.parametrize("text", [HTML, JSON], ids=["html", "json"])
@pytest.mark.parametrize(("coding", "pack"), UNDONE)
def test_codings(coding: str, pack: Callable[[bytes], bytes], text: str) -> None:
    assert decoded(pack(text.encode()), coding, LIMIT) == text.encode()


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzip.compress(bytes(LIMIT + 1))),
        ("gzip", gzip.compress(bytes(LIMIT)) + gzip.compress(b"1")),
        ("deflate", zlib.compress(bytes(LIMIT + 1))),
        ("deflate", raw_deflate(bytes(LIMIT + 1))),
        ("gzip, gzip", gzip.compress(gzip.compress(bytes(LIMIT + 1)))),
        ("gzip", gzip.compress(HTML.encode())[:-9]),
        ("gzip", gzip.compress(HTML.encode())[:-4] + b"1234"),
        ("deflate", zlib.compress(HTML.encode())[:-9]),
        ("gzip" + ", gzip" * 5, b""),
    ],
)
def test_what_is_cut_or_too_long(coding: str, body: bytes) -> None:
    with pytest.raises(BadCoding):
        decoded(body, coding, LIMIT)


@given(st.binary(max_size=200), st.lists(st.sampled_from(["gzip", "deflate", "br", "identity"]), max_size=5))
def test_anything(body: bytes, names: list[str]) -> None:
    """Whatever is packed comes out; whatever is not is left, or an error."""
    packers: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}
    packed = body
    for name in names:
        packed = packers.get(name, bytes)(packed)
    assert decoded(packed, ", ".join(names), LIMIT) == body
    with suppress(BadCoding):
        assert len(decoded(body, ", ".join(names), LIMIT)) <= LIMIT


WIDE = {
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
    "utf-32-be": codecs.BOM_UTF32_BE,
    "utf-8": codecs.BOM_UTF8,
}


CHARSETS = ("", "; charset=utf-16", "; charset=iso-8859-1", '; charset="UTF-16LE"')


@pytest.mark.parametrize(
    ("name", "marked", "said"),
    [
        (name, marked, said)
        for name in WIDE
        for marked in (True, False)
        for said in CHARSETS
        if name != "utf-8" or (marked and "8859" not in said)  # of other bytes in UTF-8 the header has a say
    ],
)
def test_wide_characters(name: str, marked: bool, said: str) -> None:
    """The bytes tell: neither what the header says of them nor the page itself has a say then."""
    for text, kind in ((HTML, "text/html"), (JSON, "application/json"), (HTML, ""), (JSON, "")):
        body = (WIDE[name] if marked else b"") + text.encode(name)
        page = parse(body, kind + said, "http://h/simple/x/")
        assert isinstance(page, Page)
        assert [file.filename for file in page.files] == ["x-1.zip"]
        if name != "utf-8":
            assert page.files[0].yanked == ("é" if text is HTML else False)


@given(st.binary(max_size=64))
def test_no_bytes_break_it(body: bytes) -> None:
    """They are a page, or the error for what is none."""
    for bom in (b"", *WIDE.values()):
        with suppress(BadPage):
            parse(bom + body, None, "http://h/")

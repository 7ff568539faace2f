"""Every fuzz target with where to begin: seeds, words that inputs are made of, and inputs that once broke it."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from httpcache.freezing.spool import Head
from httpcache.store.record import Absence, Record, encode
from tests.fuzz import adapter, app, generic

Words = tuple[bytes, ...]


@dataclass(frozen=True)
class Target:
    """One target. `seeds` hold, `found` once did not; `words` make inputs that get past the first check."""

    run: Callable[[bytes], None]
    seeds: Words
    words: Words
    found: Words = ()


def _words(text: str) -> Words:
    """Words with blanks between them, and some bytes that every reader stumbles over."""
    return (*(word.encode() for word in text.split(" ")), b"\0", b" ", b"\n", b"\xff", "é".encode())


def _rows(*rows: str) -> Words:
    """Seeds as texts: `|` stands between fields."""
    return tuple(row.replace("|", "\0").encode() for row in rows)


def _wheel(compression: int = zipfile.ZIP_DEFLATED, name: str = "thing-1.0.dist-info/METADATA") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as wheel:
        wheel.writestr(name, "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n")
    return file.getvalue()


def _zip64(wheel: bytes, place: int) -> bytes:
    """A wheel whose directory says, as ZIP64 has it, that the member is at `place`."""
    at = wheel.index(b"PK\x01\x02")
    end = wheel.index(b"PK\x05\x06")
    entry = bytearray(wheel[at:end])
    extra = b"\x01\x00\x08\x00" + place.to_bytes(8, "little")
    entry[30:32] = len(extra).to_bytes(2, "little")
    entry[42:46] = b"\xff" * 4
    tail = bytearray(wheel[end:])
    tail[12:16] = (len(entry) + len(extra)).to_bytes(4, "little")
    return wheel[:at] + bytes(entry) + extra + bytes(tail)


_RECORD = Record("0" * 64, "pin", "https://example.com/x", "https://example.com/x", "1" * 64, 3, 1.5, "s", {"a": "b"})
_HEAD = Head(200, {"content-type": "text/plain"}, "https://example.com/", 3, "", "", "", f"{'0' * 64}.0.part")
_JSON_PAGE = (
    b'{"meta": {"api-version": "1.1", "_last-serial": 7, "tracks": ["https://example.org/"]}, "name": "thing", '
    b'"versions": ["1.0"], "files": [{"filename": "thing-1.0.tar.gz", "url": "../../f/thing-1.0.tar.gz?a=b#sha256=ab",'
    b' "hashes": {"sha256": "cd"}, "size": 1, "upload-time": "2024-01-02T03:04:05Z", "yanked": "because", '
    b'"core-metadata": {"sha256": "ef"}, "gpg-sig": true, "provenance": "https://example.org/p", '
    b'"requires-python": ">=3.8"}], "project-status": {"status": "archived", "reason": "old"}, '
    b'"alternate-locations": ["https://example.org/"]}'
)
_HTML_PAGE = (
    b"<!DOCTYPE html><html><head><meta name='pypi:repository-version' content='1.0'><base href='/f/'>"
    b"<meta name='pypi:project-status' content='archived'><!--SERIAL 7--></head><body><a href='thing-1.0.zip?a=b#sha256"
    b"=ab' data-requires-python='&gt;3' data-yanked='&quot;' data-core-metadata='sha256=cd' data-gpg-sig='true' "
    b"data-provenance='https://example.org/p'>thing-1.0.zip</a><br></body></html>"
)
_URLS = _words(
    "/ // : @ % %25 %2F %3A %40 %3F %23 ? & = # . .. + %2B ~ [ ] ::1 https:// http:/ https%3A//example.com pin "
    "pin-2024-01-02 2024-02-30 example.com EXAMPLE.com. user:S3CRET@ 127.0.0.1 :443 :80 :65536 xn-- ß \\ file.whl "
    ".metadata ?sig=1"
)
_MARKUP = _words(
    "<a href= <a\thref=' ' \" > < </a> thing-1.zip data-yanked= data-core-metadata= sha256= <base\thref=' // / [ ] : "
    "#sha256=ab & ; % %2F .. <!-- --> <table> <meta\tname=' content=' pypi:project-status &quot; &#10; &#xD800; &#0; "
    "javascript: http:// https:// <title> </title> <script> ]]> Links\tfor <p>"
)
_DATES = _words(
    "live live- d 7 - 2024 2024-01-02 T Z 15:30:00 .123456 + : 0 9999-12-31 0001-01-01 24:00 W01 24 t z , +00:00"
)

TARGETS: Final[dict[str, Target]] = {
    "addresses": Target(
        generic.addresses,
        _rows(
            "/pin-2024-01-02/https://example.com/a/b?c=d|c=d",
            "/pin/https%3A//EXAMPLE.com:443/%7Ea/../b%2fc|a=%zz&b",
            "/pin/http:/[2001:DB8::1]:8080/x",
            "/pin/http://user:S3CRET@example.com/",
            "/pin/http://bücher.example/",
        ),
        _URLS,
        (b"/pin/http://example.com//user@x", b"/pin/ssh://git:S3CRET%40example.com/x"),
    ),
    "redacted": Target(
        generic.redacted,
        _rows("user:|a/b|sig|abc", "|", "a%40b:|//x|a&b|=?#", "u:|@//|a|&x=&y"),
        _words("user : % %40 / // ? # & = ; + . http:// https:// : []"),
        (b"@", b"user:pass@word"),
    ),
    "conditions": Target(
        generic.conditions,
        _rows(
            'abc|bytes=0-1,3-|"abc"|W/"abc"|Tue, 02 Jan 2024 03:04:05 GMT|||Tue, 02 Jan 2024 03:04:05 GMT',
            "a|bytes=-5||*|||",
            '|bytes=0-||||"abc"|',
        ),
        _words(
            'bytes= bytes - , 0 1 99 999999999999999999 -1 0-0 "abc" W/"abc" * Tue, 02 Jan 2024 0001 9999 '
            "03:04:05 GMT +9999 -0000 +2400 a abc"
        ),
    ),
    "credentials": Target(
        generic.credentials,
        _rows(
            "authorization|Basic dTpw|x-api-key|abcdef",
            "Authorization|Bearer abcdef|Private-Token|1",
            "x-our-key|k|authorization|basic",
        ),
        _words("authorization Basic basic\tBearer dTpw x-api-key private-token job-token x-our-key : ="),
    ),
    "records": Target(
        generic.records,
        (encode(_RECORD), encode(Absence("0" * 64, "pin", "https://example.com/x", 404, 1.5))),
        (b"\x8a", b"\xa4type", b"\xa6record", b"\xa7absence", b"\xa6target", b"\xa3pin", b"\xc0", b"\xcb", b"\xff"),
        (encode(_RECORD).replace(b"\xa3pin\xa3pin", b"\xa3pin\xa3\xffin"),),
    ),
    "heads": Target(
        generic.heads,
        (msgspec.msgpack.encode(_HEAD),),
        (b"\x87", b"\xa6status", b"\xa7headers", b"\xa4part", b"\xa6../../", b"\xc0", b"\xcc\xc8", b"\xa0", b"\x80"),
        (b"", b"\xc0", msgspec.msgpack.encode(msgspec.structs.replace(_HEAD, part="/dev/null"))),
    ),
    "redirects": Target(
        generic.redirects,
        _rows("|/other?x=y#z", "a|//example.org/%7e", "ab|https://u:p@example.org/", "abc|../x y", "|?", "|#"),
        _URLS,
    ),
    "answers": Target(
        generic.answers,
        _rows(
            "Content-Length|12|Vary|Accept, *|Content-Type|text/html",
            "content-length|٣",
            "content-length|1, 1",
            "content-length|99999999999999999999",
            'Link|<?page=2>; rel="next", </a>; title="b, <c>"; rel=last',
        ),
        _words(
            "content-length vary link <?a> <//h/ > ;rel=next content-type Accept , * "
            "0 1 99999999999999999999 +1 -1 1_0 ² ٣"
        ),
    ),
    "requests": Target(
        app.requests,
        _rows(
            *app.FROZEN,
            *(f"{app.ROOT}{path}|{app.JSON}|bytes=0-1,3-4" for path in app.FROZEN),
            "/2024-01-02/Thing/",
            "/2024-01-02/thing|text/html",
            f"/live/|{app.JSON}",
            "/live-7d/a/",
            f"/files/thing/{'0' * 64}/thing-1.0-py3-none-any.whl.metadata",
            "/|||||evil.example",
            "/-/health",
            "/pin/https://example.com/f/thing-1.0-py3-none-any.whl?a=b.metadata",
            '/pin/https://example.com/file|h||"x", *|Tue, 02 Jan 2024 03:04:05 GMT',
        ),
        (
            *_URLS,
            *_DATES,
            b"files",
            b"bytes=0-1",
            b"*/*",
            b"text/html",
            app.JSON.encode(),
            b"thing",
            b"/mirror",
            b"/pin/https://example.com/",
            b"simple/",
            b"h",
            b'"x"',
            b"*",
            b",",
            b"-/ready",
        ),
    ),
    "html_pages": Target(
        adapter.html_pages,
        (_HTML_PAGE, b"<a href='../x/'>x</a>"),
        _MARKUP,
        (b"<a href='x-1.zip' data-core-metadata='SHA256=AB'>", b"<meta name='pypi:project-status'><a href='x-1.zip'>"),
    ),
    "json_pages": Target(
        adapter.json_pages,
        (_JSON_PAGE, b'{"meta": {}, "projects": [{"name": "Frob"}, {"name": "../x"}]}'),
        _words(
            '{"files":[ {"projects":[ {"name":" {"filename":" ","url":" ","hashes":{ } ]} "} \\ud800 \\u0000 \\" '
            '"yanked":true "provenance":" thing-1.zip .. / \\u2028 https://example.com/ // javascript: <script> " , : 1'
        ),
    ),
    "codings": Target(
        adapter.codings,
        (b"gzip\0" + gzip.compress(b"<a>", mtime=0), b"x-gzip\0", b"identity\0abc", b"br\0abc"),
        (b"gzip", b"\0", b"\x1f\x8b\x08", b"\0\0\0\0", b"\xff", b"identity", b"deflate", b", "),
    ),
    "wheels": Target(
        adapter.wheels,
        (
            *map(_wheel, (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)),
            _wheel(name="other-1.0.dist-info/METADATA"),
            _zip64(_wheel(), 0),
            _zip64(_wheel(), 2**64 - 1),
            b"PK\x05\x06" + bytes(18),
        ),
        (b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07", b"\xff\xff\xff\xff", b"\0\0"),
    ),
    "moments": Target(
        adapter.moments,
        _rows("2024-01-02", "2024-01-02T15:30:00Z", "live", "live-7d", "2024-1-2", "0001-01-01T00:00:00.000001Z"),
        _DATES,
    ),
    "accepts": Target(
        adapter.accepts,
        _rows(app.JSON, "text/html;q=0.1, */*;q=0", "text/*; q=nan, application/*;q=1e-9"),
        _words(
            "application/ vnd.pypi.simple. v1+json v1+html latest+ text/html */* text/* ;q= 0 1 0.5 nan inf 1e9 , ;"
        ),
    ),
}

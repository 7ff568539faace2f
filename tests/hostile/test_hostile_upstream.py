"""Hostile and broken upstreams, byte by byte: what a client gets of each, what is frozen, and what comes after.

One mirror with short limits answers all rows. A row is what an origin sends; each of them ends with the same questions:
is the next request to that origin answered by its own answer, is the next honest answer at that address served and
frozen, and are those bytes still there when the upstream changes again.
"""

from __future__ import annotations

import gzip
import json
import random
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import repeat
from pathlib import Path
from typing import Any

import anyio
import pytest

from httpcache.store.local import LocalStore
from httpcache.store.record import Record, decode
from httpcache.upstream.network_backend import READ
from tests.support.clients import NOWHERE
from tests.support.inside import checked_records, processes, until
from tests.support.mirror import Mirror
from tests.support.rawupstream import Drip, End, Got, RawUpstream, Script, Step, answer, chunks, get, head
from tests.support.tally import tally

LIMITS = (
    "--stall-timeout", "1", "--min-rate", "1K", "--deadline", "3", "--connect-timeout", "2", "--max-file", "1M",
    "--max-page", "200K", "--max-header", "16K", "--max-redirects", "5",
)  # fmt: skip
MEGABYTE = 1024 * 1024
GROWTH = 80 * MEGABYTE
"""Of the mirror's memory over all rows, at its highest; an endless answer that is held in memory is larger."""

BODY = bytes(range(256)) * 8
HONEST, CHANGED, NEXT = b"an honest answer\n", b"the upstream has changed\n", b"another file\n"
POISON = answer(b"poison\n", "Content-Type: text/plain")
SQUEEZED = gzip.compress(BODY)
RANDOM = random.Random(1).randbytes(MEGABYTE)
CHUNKED = "Transfer-Encoding: chunked"


@dataclass(frozen=True)
class Row:
    """What an origin sends, and what is right.

    `scripts` are played in turn for `path`, which is asked for, `more` for others. `statuses` are those that the client
    may see, `body` is its whole body where it is 200 (and where it is passed on, if not None), `headers` are what it
    has to see. `cut`: a broken connection is right too, since a head may be out before the fault shows. `freezes`: a
    200 is kept. `text` is in the text of an error, `requests` is how many it took.
    """

    scripts: tuple[Script, ...]
    statuses: tuple[int, ...] = (200,)
    body: bytes | None = BODY
    headers: Mapping[str, bytes] = field(default_factory=dict)
    cut: bool = False
    freezes: bool = True
    text: str = ""
    requests: int | None = None
    path: str = "/dir/file"
    more: Mapping[str, Script] = field(default_factory=dict)

    def check(self, got: Got) -> None:
        """Assert that a client got what is right."""
        if not got.whole:
            assert self.cut, f"broken off: {got}"
            return
        assert got.status in self.statuses, (got.lines, got.text[:300])
        for name, value in self.headers.items():
            assert got.headers[name] == value
        if got.status in (502, 504):
            assert "/dir/file" in got.text or "/hop" in got.text
            assert self.text in got.text
        elif self.body is not None:
            assert got.body == self.body
        if got.status != 200:
            assert got.headers["cache-control"] == b"no-store"


def whole(identity: str, *scripts: Script, **more: object) -> object:
    """The client gets all of it, and it is frozen."""
    return pytest.param(Row(scripts, **more), id=identity)  # type: ignore[arg-type]


def refused(identity: str, *scripts: Script, status: int = 502, **more: object) -> object:
    """An error with a text; nothing is kept."""
    return pytest.param(Row(scripts, (status,), freezes=False, **more), id=identity)  # type: ignore[arg-type]


def broken(identity: str, *scripts: Script, status: int = 502, **more: object) -> object:
    """An error with a text, or a broken connection where the fault shows late; nothing is kept."""
    return pytest.param(Row(scripts, (status,), cut=True, freezes=False, **more), id=identity)  # type: ignore[arg-type]


def passed(identity: str, status: str, *lines: str | bytes, **more: object) -> object:
    """An answer that is handed on and not kept."""
    script = [answer(b"said\n", *lines, status=status), End.KEEP]
    row = Row((script,), (int(status[:3]),), b"said\n", freezes=False, **more)  # type: ignore[arg-type]
    return pytest.param(row, id=identity)


def endless(start: bytes, block: bytes) -> Script:
    """More than any limit, as fast as it is taken."""

    def steps() -> Iterator[Step]:
        yield start
        yield from repeat(block, 256 * MEGABYTE // len(block))

    return steps


def headed(*lines: str | bytes) -> list[Step]:
    """The body behind a head that is made of these lines and a length."""
    return [answer(BODY, *lines), End.KEEP]


def chunk(size: bytes) -> Script:
    """The body as one chunk with a size line of its own, and the last chunk."""
    return [head(CHUNKED), size, b"\r\n", BODY, b"\r\n0\r\n\r\n"]


def to(location: str | bytes, *lines: str) -> Script:
    """A redirect."""
    encoded = location if isinstance(location, bytes) else location.encode()
    return [answer(b"", b"Location: " + encoded, *lines, status="302 Found"), End.KEEP]


LENGTH = [
    broken("shorter than announced", [head("Content-Length: 4096"), BODY], text="/dir/file"),
    broken("shorter by one byte", [head(f"Content-Length: {len(BODY) + 1}"), BODY]),
    broken("announced and nothing came", [head("Content-Length: 2048")]),
    # RFC 9112 section 6.3: the length is the body. What is behind it is no answer to anything (section 9.2).
    whole("longer than announced", [answer(BODY) + b"more", End.KEEP]),
    whole("another answer behind the length", [answer(BODY) + POISON, End.KEEP]),
    whole("another answer behind the last chunk", [head(CHUNKED) + chunks(BODY) + POISON, End.KEEP]),
    whole("another answer behind an empty body", [answer(b"") + POISON, End.KEEP], body=b""),
    whole("an interim answer behind the length", [answer(BODY) + b"HTTP/1.1 100 Continue\r\n\r\n", End.KEEP]),
    whole("line ends behind the length", [answer(BODY) + b"\r\n\r\n", End.KEEP]),
    # RFC 9110 section 8.6: equal ones may be taken for one; RFC 9112 section 6.3: any other is not to be used.
    whole("two equal lengths", [head("Content-Length: 2048", "Content-Length: 2048"), BODY, End.KEEP]),
    whole("a list of equal lengths", [head("Content-Length: 2048, 2048"), BODY, End.KEEP]),
    whole("space around the length", [head("Content-Length:  \t 2048 "), BODY, End.KEEP]),
    refused("two different lengths", [head("Content-Length: 2048", "Content-Length: 2047"), BODY]),
    refused("a list of different lengths", [head("Content-Length: 2048, 2047"), BODY]),
    *(
        refused(f"the length is {value!r}", [head(f"Content-Length: {value}".encode()), BODY])
        for value in ("-1", "+2048", "", "two", "0x800", "2_048", "2048.0", "2048;", "\u0662", f"{10**30}", "2048 2048")
    ),
    broken("the length is 10**19", [head(f"Content-Length: {10**19}"), BODY]),
    # RFC 9112 section 6.3: the chunks rule, and such a message ought to be handled as an error.
    whole(
        "chunked and the right length",
        [head("Content-Length: 2048", CHUNKED), chunks(BODY), End.KEEP],
        statuses=(200, 502),
    ),
    broken("chunked and a length too small", [head("Content-Length: 5", CHUNKED), chunks(BODY), End.KEEP]),
    broken("chunked and a length too large", [head(CHUNKED, "Content-Length: 4096"), chunks(BODY), End.KEEP]),
    whole("nothing, by its length", [answer(b""), End.KEEP], body=b""),
    whole("nothing, chunked", [head(CHUNKED), chunks(), End.KEEP], body=b""),
]

ENDS = [
    broken("closed in the middle of a chunk", [head(CHUNKED), b"1000\r\n", BODY]),
    broken("closed in the line of a chunk", [head(CHUNKED), b"800\r\n", BODY, b"\r\n1"]),
    broken("closed between chunks", [head(CHUNKED), chunks(BODY).removesuffix(b"0\r\n\r\n")]),
    broken("closed before the line end of a chunk", [head(CHUNKED), chunks(BODY).removesuffix(b"\r\n0\r\n\r\n")]),
    broken("closed in the last chunk", [head(CHUNKED), chunks(BODY).removesuffix(b"\r\n\r\n")]),
    broken("reset in the middle", [head("Content-Length: 4096"), BODY, End.RST]),
    broken("reset in a chunk", [head(CHUNKED), b"1000\r\n", BODY, End.RST]),
    broken("reset instead of the last chunk", [head(CHUNKED), b"800\r\n", BODY, b"\r\n", End.RST]),
    refused("reset before the head", [End.RST]),
    refused("reset in the head", [b"HTTP/1.1 200 OK\r\nContent-Le", End.RST]),
    refused("closed before the head", [End.FIN]),
    refused("closed in the head", [b"HTTP/1.1 200 OK\r\nContent-Length: 2048\r\n"]),
    # RFC 9112 section 8: a body without length is whole when it ends, which a broken one does too. So it has to come
    # twice and be the same.
    whole("closed without a length", [head(), BODY], requests=2),
    whole("closed without a length, HTTP/1.0", [head(version="HTTP/1.0"), BODY], requests=2),
    whole("closed without a length, HTTP/1.0 keep-alive", [head("Connection: keep-alive", version="HTTP/1.0"), BODY]),
    whole("closed without a length, empty", [head()], body=b"", requests=2),
    broken("closed without a length, the second is shorter", [head(), BODY], [head(), BODY[:-1]]),
    broken("closed without a length, the second is longer", [head(), BODY], [head(), BODY, b"!"]),
    broken("closed without a length, the second is different", [head(), BODY], [head(), bytes(len(BODY))]),
    broken("closed without a length, the second is reset", [head(), BODY], [head(), BODY, End.RST]),
    broken("closed without a length, the second is refused", [head(), BODY], [answer(status="403 Forbidden")]),
    broken("closed without a length, the second is nothing", [head(), BODY], [End.FIN]),
    broken("reset without a length", [head(), BODY, End.RST]),
    whole("HTTP/1.0 with a length", [answer(BODY, version="HTTP/1.0")]),
    # RFC 9112 section 6.1: faulty framing, also if a length is there; to be read at most once.
    whole("HTTP/1.0 in chunks", [head(CHUNKED, version="HTTP/1.0"), chunks(BODY), End.KEEP], statuses=(200, 502)),
]

SLOW = [
    refused("never a byte", [End.STALL], status=504, text="--stall-timeout"),
    refused("nothing behind the status line", [b"HTTP/1.1 200 OK\r\n", End.STALL], status=504),
    broken("nothing behind the head", [head("Content-Length: 2048"), End.STALL], status=504),
    broken("nothing from the middle on", [head("Content-Length: 4096"), BODY, End.STALL], status=504),
    broken("nothing from the middle of a chunk on", [head(CHUNKED), b"1000\r\n", BODY, End.STALL], status=504),
    broken("nothing instead of the last chunk", [head(CHUNKED), b"800\r\n", BODY, b"\r\n", End.STALL], status=504),
    broken("nothing instead of the end", [head(), BODY, End.STALL], status=504),
    # A byte now and then is no progress: the minimum rate counts, in the head as in the body.
    refused("the head byte by byte", [Drip([bytes([byte]) for byte in answer(BODY)], 0.05)], status=504, text="slow"),
    refused("the head line by line", [b"HTTP/1.1 200 OK\r\n", Drip([b"X: y\r\n"] * 200, 0.05)], status=504),
    broken(
        "the body byte by byte", [head("Content-Length: 2048"), Drip([b"x"] * 200, 0.05)], status=504, text="--min-rate"
    ),
    broken("the body byte by byte in chunks", [head(CHUNKED), Drip([b"1\r\nx\r\n"] * 200, 0.05)], status=504),
    refused("interim answers now and then", [Drip([b"HTTP/1.1 102 Processing\r\n\r\n"] * 200, 0.05)], status=504),
    broken(
        "an error byte by byte", [head("Content-Length: 2048", status="500 X"), Drip([b"x"] * 200, 0.05)], status=504
    ),
    # Steady, and faster than the minimum rate, but it does not end.
    broken(
        "longer than the whole deadline",
        [head(CHUNKED), Drip([b"400\r\n%b\r\n" % BODY[:1024]] * 99, 0.1)],
        status=504,
        text="--deadline",
    ),
    whole("in pieces and in time", [head(CHUNKED), Drip([b"800\r\n%b\r\n" % BODY, b"0\r\n\r\n"], 0.1)]),
]

LARGE = [
    whole("just the largest file", [answer(RANDOM), End.KEEP], body=RANDOM),
    whole("just the largest file in chunks", [head(CHUNKED), chunks(RANDOM[:9], RANDOM[9:]), End.KEEP], body=RANDOM),
    refused(
        "a file too large, announced", endless(head(f"Content-Length: {MEGABYTE + 1}"), BODY * 32), text="--max-file"
    ),
    broken("a file too large in chunks", [head(CHUNKED), chunks(RANDOM, b"!"), End.KEEP], text="--max-file"),
    broken("a file without end in chunks", endless(head(CHUNKED), chunks(BODY * 32).removesuffix(b"0\r\n\r\n"))),
    broken("a file without end and length", endless(head(), BODY * 32)),
    # All but the end of these is read past the parser (bulk.py).
    whole("a large file in two pieces", [answer(RANDOM)[:-5], Drip([RANDOM[-5:]], 0.1), End.KEEP], body=RANDOM),
    whole("another answer behind a large file", [answer(RANDOM) + POISON, End.KEEP], body=RANDOM),
    whole("more than was announced of a large file", [answer(RANDOM[:-9]) + RANDOM[-9:], End.KEEP], body=RANDOM[:-9]),
    refused("a large file and chunked too", [head(CHUNKED, f"Content-Length: {len(RANDOM)}"), RANDOM, End.KEEP]),
    *(
        broken(f"a large file that ends after {size} bytes: {end.value}", [answer(RANDOM)[: size - MEGABYTE], end])
        for size in (1, READ, MEGABYTE - READ - 1, MEGABYTE - READ, MEGABYTE - READ + 1, MEGABYTE - 1)
        for end in (End.FIN, End.RST)
    ),
    broken("a large file that stalls", [answer(RANDOM)[: -MEGABYTE // 2], End.STALL], status=504),
    whole("a head that is not too large", headed("X-Padding: " + "x" * 12000)),
    refused("a head of one long line", headed("X-Padding: " + "x" * 20000), text="--max-header"),
    refused("a head of many lines", headed(*[f"X-{number}: y" for number in range(2500)]), text="--max-header"),
    refused("a line without end in the head", endless(b"HTTP/1.1 200 OK\r\nX: ", b"x" * 1000)),
    refused("lines without end in the head", endless(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 100)),
    refused("a status line without end", endless(b"HTTP/1.1 200 ", b"OK" * 1000)),
    broken("trailers without end", endless(head(CHUNKED) + b"800\r\n" + BODY + b"\r\n0\r\n", b"X: y\r\n" * 100)),
    broken("a chunk extension of a megabyte", chunk(b"800;x=" + b"y" * MEGABYTE)),
    broken("a chunk extension without end", endless(head(CHUNKED) + b"800;", b"y" * 1000)),
    broken(
        "an error without end",
        endless(head(CHUNKED, status="500 X"), chunks(BODY).removesuffix(b"0\r\n\r\n")),
        status=500,
        body=None,
    ),
]

CODINGS = [
    # The mirror asks for identity. What comes coded is kept as it came, with its name (RFC 9110 section 8.4), unless it
    # is a distribution file (test_file_codings.py).
    whole(
        "gzip",
        [answer(SQUEEZED, "Content-Encoding: gzip"), End.KEEP],
        body=SQUEEZED,
        headers={"content-encoding": b"gzip"},
    ),
    whole("gzip twice", headed("Content-Encoding: gzip, gzip"), headers={"content-encoding": b"gzip, gzip"}),
    whole(
        "gzip in two lines",
        headed("Content-Encoding: gzip", "Content-Encoding: gzip"),
        headers={"content-encoding": b"gzip, gzip"},
    ),
    whole(
        "gzip as the coding of a file that is gzip",
        [answer(SQUEEZED, "Content-Type: application/x-tar", "Content-Encoding: gzip"), End.KEEP],
        path="/dir/file-1.0.tar.gz",
        body=SQUEEZED,
    ),
    whole("gzip that is none", headed("Content-Encoding: gzip"), headers={"content-encoding": b"gzip"}),
    whole("br that is none", headed("Content-Encoding: br"), headers={"content-encoding": b"br"}),
    whole("a coding that nobody knows", headed("Content-Encoding: x-evil"), headers={"content-encoding": b"x-evil"}),
    # RFC 9112 section 6.1: a transfer coding other than chunked was not asked for (no TE), and is not undone here.
    refused("an unknown transfer coding", [head("Transfer-Encoding: evil"), BODY]),
    refused("gzip and chunked", [head("Transfer-Encoding: gzip, chunked"), chunks(SQUEEZED), End.KEEP]),
    refused("chunked twice", [head("Transfer-Encoding: chunked, chunked"), chunks(BODY), End.KEEP]),
    refused("chunked in two lines", [head(CHUNKED, CHUNKED), chunks(BODY), End.KEEP]),
    refused("identity", [head("Transfer-Encoding: identity", "Content-Length: 2048"), BODY, End.KEEP]),
    refused("an empty transfer coding", [head("Transfer-Encoding:", "Content-Length: 2048"), BODY, End.KEEP]),
    refused("a vertical tab before chunked", [head(b"Transfer-Encoding: \x0bchunked"), chunks(BODY), End.KEEP]),
    whole("chunked in capitals", [head("transfer-encoding: CHUNKED"), chunks(BODY), End.KEEP]),
    whole("one byte in each chunk", [head(CHUNKED), chunks(*[b"x"] * 3000), End.KEEP], body=b"x" * 3000),
    whole("a chunk extension", chunk(b'800;a=b;c="d"')),
    whole("zeros before the size of a chunk", chunk(b"0000800")),
    *(
        broken(f"the size of a chunk is {size!r}", chunk(size))
        for size in (b"-800", b"+800", b"", b"0x800", b"8g", b"800,800", b"F" * 17, b"F" * 20, b"F" * 21, b"8 00")
    ),
    broken("more in a chunk than its size says", chunk(b"7FE")),
    broken("less in a chunk than its size says", chunk(b"802")),
    broken("chunks with bare line feeds", [head(CHUNKED), b"800\n", BODY, b"\n0\n\n"]),
    # RFC 9112 section 7.1.2: trailers are not merged into the head.
    whole(
        "a cookie in a trailer",
        [head(CHUNKED), b"800\r\n", BODY, b"\r\n0\r\nSet-Cookie: a=b\r\nContent-Type: text/html\r\n\r\n", End.KEEP],
    ),
]

STATUSES = [
    # Answers to another question than a plain GET: RFC 9110 sections 15.3.5 to 15.3.7, 15.4.5.
    refused(
        "206 that was not asked for", [answer(BODY, "Content-Range: bytes 0-2047/4096", status="206 Part"), End.KEEP]
    ),
    refused("206 of everything", [answer(BODY, "Content-Range: bytes 0-2047/2048", status="206 Part"), End.KEEP]),
    refused("204", [head(status="204 No Content"), End.KEEP]),
    refused("205", [answer(b"", status="205 Reset Content"), End.KEEP]),
    refused("304 that was not asked for", [head('ETag: "x"', status="304 Not Modified"), End.KEEP]),
    refused("101", [head("Upgrade: evil", "Connection: upgrade", status="101 Switching Protocols"), BODY]),
    whole("100 before it", [head(status="100 Continue"), *headed()]),
    whole("103 before it", [head("Link: </x>; rel=preload", "Set-Cookie: a=b", status="103 Early Hints"), *headed()]),
    whole("ten interim answers before it", [head(status="102 Processing") * 10, *headed()]),
    refused("interim answers without end", endless(b"", head(status="102 Processing") * 100), status=504),
    whole("203", [answer(BODY, status="203 Non-Authoritative Information"), End.KEEP], statuses=(203,), freezes=False),
    passed("201", "201 Created"),
    passed("202", "202 Accepted"),
    passed("400", "400 Bad Request"),
    passed(
        "401", "401 Unauthorized", 'WWW-Authenticate: Basic realm="x"', headers={"www-authenticate": b'Basic realm="x"'}
    ),
    passed("402", "402 Payment Required"),
    passed("403", "403 Forbidden"),
    passed("407", "407 Proxy Authentication Required", "Proxy-Authenticate: Basic"),
    passed("416", "416 Range Not Satisfiable"),
    passed("429", "429 Too Many Requests", "Retry-After: 7", headers={"retry-after": b"7"}),
    passed("451", "451 Unavailable For Legal Reasons", "Set-Cookie: a=b"),
    passed("500", "500 Internal Server Error"),
    refused("502", [answer(b"said of /dir/file", status="502 Bad Gateway"), End.KEEP], text="said of"),
    passed("503", "503 Service Unavailable", "Retry-After: 120", headers={"retry-after": b"120"}),
    passed("599", "599 What"),
    passed("300 with a place", "300 Multiple Choices", "Location: /hop"),
    passed("302 without a place", "302 Found"),
    # RFC 9110 section 15: a status outside of 100 to 599 is invalid, and means a failure of the server.
    whole("999", [answer(b"/dir/file", status="999 X"), End.KEEP], statuses=(502, 999), body=None, freezes=False),
    *(
        refused(f"the status is {text!r}", [answer(BODY, status=text)])
        for text in ("000 X", "1000 X", "20 X", "-200 X", "2OO X", "", "+20 X")
    ),
    broken("an error that is cut", [head("Content-Length: 4096", status="500 X"), BODY]),
]

HEADS = [
    refused("HTTP/0.9", [b"<html>" + BODY]),
    refused("the start of HTTP/2", [b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x80"]),
    refused("the preface of HTTP/2", [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]),
    refused("another protocol", [b"SSH-2.0-OpenSSH_9.6\r\n"]),
    refused("noise", [random.Random(2).randbytes(5000)]),
    refused("zeros", [bytes(5000)]),
    refused("a request for an answer", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"]),
    refused("no name of a protocol", [answer(BODY, version="ICY")]),
    refused("two spaces before the status", [answer(BODY, version="HTTP/1.1 ")]),
    whole("no reason", [answer(BODY, status="200"), End.KEEP]),
    whole("markup for a reason", [answer(BODY, status="200 <script>alert(1)</script>"), End.KEEP]),
    # RFC 9112 section 2.2: one line feed may end a line.
    whole("bare line feeds", [answer(BODY, "Content-Type: text/plain").replace(b"\r\n", b"\n", 3), End.KEEP]),
    # RFC 9112 section 2.2 and RFC 9110 section 5.5: neither a bare CR nor NUL stands in a field.
    refused("a bare CR in a value", headed(b"Content-Type: text/plain\rX-Evil: 1")),
    refused("NUL in a value", headed(b"Content-Type: text/\x00plain")),
    refused("a tab of the other kind in a value", headed(b"Content-Type: text/\x0bplain")),
    # RFC 9112 section 5.2: a fold may be replaced by spaces.
    whole(
        "a folded value",
        headed("Content-Type: text/plain;\r\n charset=utf-8"),
        headers={"content-type": b"text/plain; charset=utf-8"},
    ),
    refused("a fold before the first field", [b"HTTP/1.1 200 OK\r\n X-Evil: 1\r\n", answer(BODY)[17:]]),
    # RFC 9112 section 5.1: space between the name and the colon is what smugglers use.
    refused("space behind a name", headed("Content-Type : text/html")),
    refused("space in a name", headed("Content Type: text/html")),
    refused("space behind the name of the coding", [head("Transfer-Encoding : chunked"), chunks(BODY)]),
    refused("no name", headed(": text/html")),
    refused("no colon", headed("Content-Type")),
    refused("markup for a name", headed("<script>: x")),
    # RFC 9110 section 5.5: the bytes from 0x80 are opaque, and go on as they came.
    *(
        whole(
            f"{name} in a value",
            headed(b"Content-Disposition: attachment; filename=" + value),
            headers={"content-disposition": b"attachment; filename=" + value},
        )
        for name, value in {
            "UTF-8": "é☃.txt".encode(),
            "Latin-1": b"\xe9.txt",
            "neither": b"\xff\xfe\x80\xc3.txt",
        }.items()
    ),
    # U+560A and U+560D: code points whose low bytes are LF and CR.
    whole("line ends in low bytes", headed("Content-Type: text/plain; x=嘍嘊X-Evil:嘠1".encode())),
    whole("quoted line ends", headed('Content-Type: text/plain; x="%0d%0aX-Evil: 1\\r\\nX-Evil: 2"')),
    # RFC 9110 section 5.5: other control characters are invalid; to take them out or to refuse them is right.
    *(
        whole(
            f"the control character {byte} in a value",
            headed(b"Content-Type: text/plain; x=" + bytes([byte])),
            statuses=(200, 502),
        )
        for byte in (1, 8, 27, 31, 127)
    ),
    whole(
        "a hostile file name",
        headed("Content-Disposition: attachment; filename=\"../../etc/passwd\\\"; filename*=UTF-8''%2e%2e%2fx%0d%0a"),
    ),
    whole("two types", headed("Content-Type: text/html", "Content-Type: image/png")),
    whole("an empty type", headed("Content-Type:")),
    whole("a date that is none", headed("Last-Modified: <script>alert(1)</script>")),
    whole("a type of 10 KB", headed("Content-Type: text/plain; x=" + "y" * 10000)),
    # What speaks to browsers, proxies and caches is not the upstream's to say in the mirror's name.
    whole(
        "headers that are not the upstream's to give",
        headed(
            "Set-Cookie: a=b",
            "Set-Cookie: c=d; Domain=127.0.0.1",
            "X-Accel-Redirect: /etc/passwd",
            "X-Sendfile: /etc/passwd",
            "Access-Control-Allow-Origin: *",
            'Clear-Site-Data: "*"',
            "Refresh: 0; url=http://127.0.0.1:9/",
            "Link: </x>; rel=preload",
            'Alt-Svc: h2="127.0.0.1:9"',
            "Strict-Transport-Security: max-age=9",
            "Service-Worker-Allowed: /",
            "Content-Location: /x",
            "Proxy-Authenticate: Basic",
            "Keep-Alive: timeout=9999",
            "Upgrade: h2c",
            "Trailer: X",
            "SourceMap: /x",
            "Via: 1.1 evil",
            "Content-Security-Policy: default-src *",
            "X-Cache-Status: hit",
            "Age: 99999999999999999999",
            "NEL: {}",
            "Warning: 299 - x",
        ),
    ),
    whole("a range of a whole answer", headed("Content-Range: bytes 0-2047/4096")),  # RFC 9110 section 14.4: ignored
    whole("hostile validators", headed('ETag: W/"x', "Cache-Control: no-store", "Expires: -1", "Accept-Ranges: none")),
    whole("it varies by a cookie", headed("Vary: Cookie")),
    whole("it varies by Accept", headed("Vary: Accept")),
    whole("it varies by a list", headed("Vary: Origin,,accept-encoding ,")),
    whole("it varies by everything", headed("Vary: *")),
    whole("it varies by everything in a list", headed("Vary: Accept-Encoding", "Vary: *")),
    passed(
        "a challenge with a quote in it", "401 Unauthorized", 'WWW-Authenticate: Basic realm="x\\", Evil", X-Evil: 1'
    ),
    passed(
        "two challenges",
        "401 Unauthorized",
        "WWW-Authenticate: Negotiate",
        'WWW-Authenticate: Basic realm="x"',
        headers={"www-authenticate": b'Negotiate, Basic realm="x"'},
    ),
    passed(
        "a folded challenge",
        "401 Unauthorized",
        "WWW-Authenticate: Basic\r\n realm=x",
        headers={"www-authenticate": b"Basic realm=x"},
    ),
    passed(
        "a challenge with line ends in low bytes",
        "401 Unauthorized",
        "WWW-Authenticate: Basic realm=嘍嘊X-Evil:嘠1".encode(),
    ),
    whole(
        "a control character in a challenge",
        [answer(b"said\n", b"WWW-Authenticate: Basic realm=\x01", status="401 X"), End.KEEP],
        statuses=(401, 502),
        body=None,
        freezes=False,
    ),
    passed("an hour that is none", "503 X", "Retry-After: <script>"),
]

CHAIN = {f"/hop{number}": to(f"/hop{number + 1}") for number in range(1, 9)}
REDIRECTS = [
    whole("a chain as long as the limit", to("/hop4"), more=CHAIN | {"/hop8": headed()}, requests=1),
    refused(
        "a chain longer than the limit",
        to("/hop3"),
        more=CHAIN | {"/hop8": headed()},
        text="redirects more than 5 times (--max-redirects)",
    ),
    refused("a loop of one", to("/dir/file"), text="redirects in a loop"),
    refused("a loop of two", to("/hop"), more={"/hop": to("/dir/file")}, text="redirects in a loop"),
    refused("to nowhere on this machine", to(f"{NOWHERE}/hop")),
    *(
        refused(f"to {location[:30]!r}", to(location))
        for location in (
            "ftp://127.0.0.1/x",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "data:text/plain,x",
            "gopher://127.0.0.1/",
            "http://",
            "http:///x",
            "http://[::1",
            "http://127.0.0.1:99999/",
            "http://127.0.0.1:x/",
            "//",
            "http://a b/",
            "http://.../",
            "unix:/run/x",
            "http://" + "a" * 5000,
            "about:blank",
        )
    ),
    whole("a cookie on the way", to("/hop", "Set-Cookie: a=b; Path=/"), more={"/hop": headed("Set-Cookie: c=d")}),
    whole("quoted line ends in the place", to("/hop%0d%0aX-Evil:1"), more={"/hop%0d%0aX-Evil:1": headed()}),
    whole("a fragment in the place", to("/hop#x"), more={"/hop": headed()}),
    whole("dots in the place", to("/../../a/./../hop"), more={"/hop": headed()}),
    refused(
        "the end of the way is refused",
        to("/hop"),
        status=403,
        body=b"no",
        more={"/hop": [answer(b"no", status="403 X")]},
    ),
    broken("the end of the way is cut", to("/hop"), more={"/hop": [head("Content-Length: 4096"), BODY]}),
    refused("a stall on the way", to("/hop"), more={"/hop": [End.STALL]}, status=504),
    whole(
        "a body on the way without end",
        endless(head("Location: /hop", CHUNKED, status="302 X"), chunks(BODY).removesuffix(b"0\r\n\r\n")),
        more={"/hop": headed()},
    ),
]

ROWS = [*LENGTH, *ENDS, *SLOW, *LARGE, *CODINGS, *STATUSES, *HEADS, *REDIRECTS]


# One mirror for all


def peak(mirror: Mirror) -> int:
    """The most bytes of memory that the processes of a mirror have ever had."""
    status = "".join(Path(f"/proc/{pid}/status").read_text() for pid in processes(mirror))
    return 1024 * sum(map(int, re.findall(r"VmHWM:\s+(\d+) kB", status)))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirror]:
    """A mirror with short limits. At its end: the processes of its start, no mistakes in the log, sound records."""
    running = Mirror(tmp_path_factory.mktemp("hostile"), None, LIMITS).start()
    workers, before = processes(running), peak(running)
    yield running
    try:
        assert processes(running) == workers
        assert peak(running) - before < GROWTH
        running.stop()
        assert not any(word in running.log() for word in ("Traceback", "panicked", "internal error"))
        checked_records(running.data)
        assert list((running.data / "spool").iterdir()) == []
    finally:
        running.kill()


@pytest.fixture
def raw() -> Iterator[RawUpstream]:
    """An origin of its own for each test, which has never seen a cookie."""
    with RawUpstream() as origin:
        yield origin
        assert not [seen for seen in origin.requests if "cookie" in seen.headers]


def frozen(mirror: Mirror, pin: str) -> list[str]:
    """The digests of what is frozen under a pin; `hostile` checks their bytes at its end."""

    async def read() -> list[str]:
        store = LocalStore(mirror.data)
        try:
            found = [decode(value) async for _, value in store.entries("r/")]
        finally:
            store.close()
        return [entry.digest for entry in found if isinstance(entry, Record) and entry.pin == pin]

    return anyio.run(read)


def digests(*bodies: bytes) -> list[str]:
    return [sha256(body).hexdigest() for body in bodies]


def whole_of(address: str) -> bytes:
    """The body of a whole 200 with a clean head."""
    got = get(address)
    assert got.whole, got
    assert got.status == 200, got.text
    assert got.headers
    return got.body


def later(raw: RawUpstream, path: str, address: str, expected: bytes) -> None:
    """The upstream turns honest, and changes again: the right bytes, both times; whole, as a head and in ranges."""
    raw.honest(path, HONEST)
    assert whole_of(address) == expected
    raw.honest(path, CHANGED)
    assert whole_of(address) == expected
    described = get(address, "HEAD").headers
    assert described["content-length"] == b"%d" % len(expected)
    ranged = get(address, Range="bytes=0-0")
    assert (ranged.status, ranged.body) == ((206, expected[:1]) if expected else (416, ranged.body))
    assert ranged.headers


@pytest.mark.parametrize("row", ROWS)
def test_what_an_origin_may_send(row: Row, hostile: Mirror, raw: RawUpstream, pin: str) -> None:
    path = row.path
    raw.play(path, *row.scripts)
    for target, script in row.more.items():
        raw.play(target, script)
    address = hostile.pin(pin, raw.url + path)
    got = get(address)
    row.check(got)
    kept = row.freezes and got.whole and got.status == 200
    assert frozen(hostile, pin) == (digests(got.body) if kept else [])
    assert row.requests in (None, raw.count(path))
    raw.honest("/next", NEXT)
    assert whole_of(hostile.pin(pin, f"{raw.url}/next")) == NEXT, "answered by what another answer left behind"
    later(raw, path, address, got.body if kept else HONEST)
    tally("hostile rows")


# What needs more than a row


def test_an_absence_is_remembered_for_a_moment_only(hostile: Mirror, raw: RawUpstream, pin: str) -> None:
    """404 and 410 of a file, of which the mirror remembers for ten seconds that it is not there."""
    statuses = {"/missing": "404 Not Found", "/gone": "410 Gone"}
    for path, status in statuses.items():
        raw.play(path, [answer(b"said\n", status=status), End.KEEP])
        got = get(hostile.pin(pin, raw.url + path))
        assert (got.status, got.body) == (int(status[:3]), b"said\n")
        assert got.headers["cache-control"] == b"no-store"
        raw.honest(path, HONEST)
    for path in statuses:
        address = hostile.pin(pin, raw.url + path)
        until(lambda address=address: get(address).status == 200, "an absence to be forgotten")  # type: ignore[misc]
        later(raw, path, address, HONEST)
        tally("hostile rows")


def test_an_answer_on_an_idle_connection_answers_nothing(hostile: Mirror, raw: RawUpstream, pin: str) -> None:
    """It has come before the next request is sent, so it cannot be the answer to it."""
    release, sent = threading.Event(), threading.Event()

    def steps() -> Iterator[Step]:
        yield answer(BODY)
        yield release
        yield POISON
        sent.set()
        yield End.KEEP

    raw.play("/file", steps)
    address = hostile.pin(pin, f"{raw.url}/file")
    assert whole_of(address) == BODY
    release.set()
    assert sent.wait(30)
    raw.honest("/next", NEXT)
    assert whole_of(hostile.pin(pin, f"{raw.url}/next")) == NEXT
    later(raw, "/file", address, BODY)
    tally("hostile rows")


def test_an_honest_connection_is_used_again(hostile: Mirror, raw: RawUpstream, pin: str) -> None:
    """What the rows say of connections would mean nothing if every request had its own."""
    for number in range(3):
        raw.honest(f"/{number}", BODY)
        assert whole_of(hostile.pin(pin, f"{raw.url}/{number}")) == BODY
    assert {seen.connection for seen in raw.requests} == {1}


def test_a_redirect_to_a_signed_address_keeps_the_secret(hostile: Mirror, raw: RawUpstream, pin: str) -> None:
    """It is not in the log, not in the data folder, not in what a client sees; nor is it when the way fails."""
    secret = "s3cr3t-0123456789"
    signed = f"/store/file?X-Signature={secret}&X-Expires=1"
    raw.play("/file", to(f"{raw.url}{signed}"))
    address = hostile.pin(pin, f"{raw.url}/file")
    raw.play(signed, [head("Content-Length: 4096"), End.RST])
    seen = [get(address)]
    raw.play(signed, [answer(BODY), End.KEEP])
    seen += [get(address), get(address), get(address, "HEAD")]
    assert [got.body for got in seen[1:]] == [BODY, BODY, b""]
    told = b"".join(b"".join((*got.lines, got.body)) for got in seen).decode("latin-1")
    files = [file.read_bytes() for file in hostile.data.rglob("*") if file.is_file()]
    assert secret not in told + hostile.log()
    assert not any(secret.encode() in content for content in files)
    assert [(record.final, record.url) for record in checked_records(hostile.data) if record.pin == pin] == [
        (f"{raw.url}/store/file", f"{raw.url}/file")
    ]
    later(raw, "/file", address, BODY)
    tally("hostile rows")


def test_a_redirect_with_a_user_name_sends_none(hostile: Mirror, raw: RawUpstream, pin: str) -> None:
    """An origin must not choose what credentials the mirror sends elsewhere, and none may be in texts."""
    raw.play("/file", to(f"http://user:pa55w0rd@127.0.0.1:{raw.port}/hop"))
    raw.play("/hop", headed())
    got = get(hostile.pin(pin, f"{raw.url}/file"))
    assert got.status in (200, 502)
    assert got.headers
    assert not any("authorization" in seen.headers for seen in raw.requests)
    assert "pa55w0rd" not in got.text + hostile.log()
    later(raw, "/file", hostile.pin(pin, f"{raw.url}/file"), BODY if got.status == 200 else HONEST)
    tally("hostile rows")


@pytest.mark.parametrize("host", ["0.0.0.0", "[::1]", "[::]", "[::ffff:0.0.0.0]"])
def test_a_redirect_does_not_pass_the_guard(host: str, hostile: Mirror, raw: RawUpstream, pin: str) -> None:
    """Addresses of this machine that are outside of the allowed network; nothing could leave the machine."""
    raw.play("/file", to(f"http://{host}:{raw.port}/hop"))
    raw.play("/hop", headed())
    got = get(hostile.pin(pin, f"{raw.url}/file"))
    assert got.status == 403, got
    assert got.headers
    assert raw.count("/hop") == 0
    later(raw, "/file", hostile.pin(pin, f"{raw.url}/file"), HONEST)
    tally("hostile rows")


@pytest.mark.parametrize("announced", ["hashes", "fragment", "size"])
def test_what_an_index_announced_is_held_to(announced: str, hostile: Mirror, raw: RawUpstream, pin: str) -> None:
    """Wrong bytes under the right name, and a right length: an error with a text, then the right bytes."""
    name = "proj-1.0.tar.gz"
    digest = sha256(HONEST).hexdigest()
    listed: dict[str, Any] = {"filename": name, "url": f"/{name}", "hashes": {"sha256": digest}}
    if announced == "size":
        listed |= {"hashes": {}, "size": len(HONEST) + 1}
    html = f'<!DOCTYPE html><title>Links for proj</title><a href="/{name}#sha256={digest}">{name}</a>'
    page = json.dumps({"meta": {"api-version": "1.0"}, "name": "proj", "files": [listed]}).encode()
    kind = "text/html" if announced == "fragment" else "application/vnd.pypi.simple.v1+json"
    raw.honest("/simple/proj/", html.encode() if announced == "fragment" else page, f"Content-Type: {kind}")
    index = hostile.pin(pin, f"{raw.url}/simple/proj/")
    assert get(index, Accept="application/vnd.pypi.simple.v1+json").status == 200
    address = hostile.pin(pin, f"{raw.url}/{name}")
    wrong: tuple[Script, ...] = ([answer(HONEST[::-1]), End.KEEP], [head(CHUNKED), chunks(HONEST[::-1]), End.KEEP])
    for script in wrong:
        raw.play(f"/{name}", script)
        got = get(address)
        assert not got.whole or (got.status == 502 and "announced" in got.text), got
    if announced == "size":
        raw.honest(f"/{name}", HONEST)
        assert get(address).status != 200 or not get(address).whole
        assert frozen(hostile, pin)[1:] == []
    else:
        later(raw, f"/{name}", address, HONEST)
    tally("hostile rows")

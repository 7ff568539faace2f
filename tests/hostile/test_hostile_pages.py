"""Index pages from hands of strangers: what installers see of them, behind a pin and in the dated and live indexes.

Each page is asked for in every view and form. It is a valid page without what is hostile, or an error with a text; what
is on it is escaped; and the next honest page of the project is served.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import lxml.html
import pytest

from tests.support.inside import checked_records, processes
from tests.support.mirror import Mirror
from tests.support.rawupstream import End, Got, RawUpstream, Script, answer, ask, chunks, get, head
from tests.support.tally import tally

LIMITS = ("--stall-timeout", "2", "--deadline", "20", "--max-page", "2M", "--max-file", "8M")
MEGABYTE = 1024 * 1024
GROWTH = 200 * MEGABYTE
"""Of the mirror's memory over all pages, at its highest: a parsed page of 2 MB takes many times its size."""

JSON, HTML, TEXT = "application/vnd.pypi.simple.v1+json", "application/vnd.pypi.simple.v1+html", "text/html"
SHA256 = "ab" * 32
ELEMENTS: Final = {"html", "head", "meta", "title", "body", "h1", "a", "br"}
ATTRIBUTES: Final = {
    "meta": {"charset", "name", "content"},
    "a": {
        "href", "data-requires-python", "data-yanked", "data-core-metadata", "data-dist-info-metadata", "data-gpg-sig",
        "data-provenance", "data-upload-time",
    },
}  # fmt: skip
MARKUP = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>&quot;\r\n"


def entry(filename: str, **fields: object) -> dict[str, Any]:
    """A file as a page lists it."""
    known = {"filename": filename, "url": f"/files/{quote(filename, safe='', errors='replace')}"}
    return {**known, "hashes": {"sha256": SHA256}, "size": 5, "upload-time": "2020-01-01T00:00:00Z", **fields}


GOOD, ODD, HONEST = "good-1.0.tar.gz", "odd-1.0.tar.gz", "honest-1.0.tar.gz"


def page(*files: object, meta: object = None, **fields: object) -> bytes:
    """A project's page with the good file and others."""
    document = {
        "meta": meta or {"api-version": "1.1"},
        "name": "x",
        "files": [entry(GOOD), *files],
        "versions": ["1.0"],
    }
    return json.dumps({**document, **fields}).encode("utf-8", "surrogatepass")


def markup(*parts: str, start: str = "") -> bytes:
    """A page in HTML with the good file behind other parts."""
    link = f'<a href="/files/{GOOD}#sha256={SHA256}">{GOOD}</a><br>'
    return f"<!DOCTYPE html><html><head>{start}<title>Links for x</title></head><body>{''.join(parts)}{link}".encode()


def linked(href: str, attributes: str = "", text: str = ODD) -> str:
    """An anchor with this address, which is not escaped."""
    return f'<a href="{href}" {attributes}>{text}</a><br>'


@dataclass(frozen=True)
class Row:
    """A page. `may`: names besides the good one that may stand on it. `page`: whether it must be one, None if either.

    `script` is what the origin sends where that is not just the body. `raw`: behind a pin it is no index page but some
    page of the web, which is given as it came, boxed in for browsers. `timed`: its files have upload times, as far as
    the kind has any.
    """

    body: bytes
    kind: str = JSON
    may: frozenset[str] = frozenset()
    page: bool | None = None
    raw: bool = False
    script: Script | None = None
    timed: bool = True

    @property
    def is_timed(self) -> bool:
        """Whether a date before the first observation can be had: HTML has no times."""
        return self.timed and self.kind == JSON


def valid(identity: str, body: bytes, kind: str = JSON, *may: str) -> object:
    """A page with the good file on it."""
    return pytest.param(Row(body, kind, frozenset(may), page=True), id=identity)


def refused(identity: str, body: bytes, kind: str = JSON, *, raw: bool = False, script: Script | None = None) -> object:
    """An error in every view."""
    return pytest.param(Row(body, kind, page=False, raw=raw, script=script), id=identity)


def either(identity: str, body: bytes, kind: str = JSON, *may: str) -> object:
    """A page without what is hostile, or an error."""
    return pytest.param(Row(body, kind, frozenset(may)), id=identity)


def bomb(start: bytes) -> bytes:
    """A page in gzip that is a thousand times as long."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    block = b" " * MEGABYTE
    return squeeze.compress(start) + b"".join(squeeze.compress(block) for _ in range(200)) + squeeze.flush()


BOMB = bomb(b'{"meta": {"api-version": "1.0"}, "files": [')
LARGE = page(*[entry(f"odd-{number}.tar.gz") for number in range(20_000)])
GZIP = gzip.compress(page())

BODIES = [
    refused("longer than the limit", LARGE),
    refused(
        "longer than the limit in chunks",
        LARGE,
        script=[head("Transfer-Encoding: chunked", f"Content-Type: {JSON}"), chunks(LARGE), End.KEEP],
    ),
    refused("a gzip bomb", BOMB, script=[answer(BOMB, "Content-Encoding: gzip", f"Content-Type: {JSON}"), End.KEEP]),
    refused(
        "a bomb in a bomb",
        BOMB,
        script=[answer(gzip.compress(BOMB), "Content-Encoding: gzip, gzip", f"Content-Type: {JSON}"), End.KEEP],
    ),
    pytest.param(
        Row(page(), page=True, script=[answer(GZIP, "Content-Encoding: gzip", f"Content-Type: {JSON}"), End.KEEP]),
        id="gzip",
    ),
    refused(
        "gzip that is cut",
        page(),
        script=[answer(GZIP[:-9], "Content-Encoding: gzip", f"Content-Type: {JSON}"), End.KEEP],
    ),
    pytest.param(
        Row(page(), page=True, script=[answer(page(), "Content-Encoding: gzip", f"Content-Type: {JSON}"), End.KEEP]),
        id="gzip that is none",
    ),
    pytest.param(
        Row(page(), page=True, script=[answer(page(), "Content-Encoding: br", f"Content-Type: {JSON}"), End.KEEP]),
        id="br that is none",
    ),
    refused(
        "br", page(), script=[answer(b"\x1b" + page()[:9], "Content-Encoding: br", f"Content-Type: {JSON}"), End.KEEP]
    ),
    refused("cut", page(), script=[answer(page(), f"Content-Type: {JSON}")[:-9]]),
    refused("reset", page(), script=[answer(page(), f"Content-Type: {JSON}")[:-9], End.RST]),
    refused("cut JSON of the right length", page()[:-9]),
    refused("nothing", b""),
    refused("spaces", b" " * 1000),
    refused("not UTF-8", page(entry(ODD)).replace(b"odd", b"\xff\xfe")),
    valid("UTF-16 with a mark", page().decode().encode("utf-16")),
    valid("UTF-32", page().decode().encode("utf-32-be")),
    either("UTF-8 with a mark", b"\xef\xbb\xbf" + page()),
    refused("NUL in JSON", page(entry(ODD)).replace(b"odd", b"o\x00d")),
    refused("HTML that says it is JSON", b"{" + markup()),
    either("JSON that says it is HTML", page(), HTML),
    refused("another type", page()[1:], "image/png", raw=True),
    refused("no page at all", b"MZ" + bytes(1000), "application/octet-stream", raw=True),
    refused("a page of the web", b"<html><script>alert(1)</script><p>Sign in", TEXT, raw=True),
    valid("HTML in UTF-16", markup().decode().encode("utf-16"), TEXT),
    valid("HTML in UTF-16 by its type", markup().decode().encode("utf-16"), HTML),
    valid(
        "HTML that is not UTF-8",
        markup(linked("/files/\udcff.tar.gz").replace("\udcff", "@")).replace(b"@", b"\xff\xfe"),
        TEXT,
        "\ufffd\ufffd.tar.gz",
    ),
    valid("HTML with NUL", markup(linked("/files/o\x00dd.tar.gz")), TEXT, "o\ufffddd.tar.gz"),
    either("a charset that is a bomb", markup(), "text/html; charset=unicode_escape"),
    either("a charset that nobody knows", markup(), "text/html; charset=zip"),
]

DEEP = [
    either("lists in lists", b'{"meta": {"api-version": "1.0"}, "files": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    either("lists in lists beside", page()[:-1] + b', "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    either("objects in objects beside", page()[:-1] + b', "x": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}"),
    refused("lists without end", b"[" * 1_000_000),
    either("elements in elements", markup("<div>" * 100_000), TEXT),
    either("links in links", markup('<a href="x">' * 20_000), TEXT),
    either("tables in tables", markup("<table><tr><td>" * 20_000), TEXT),
    either("lists in lists of HTML", markup("<ul><li>" * 50_000, "</li></ul>" * 50_000), TEXT),
    either("20,000 metas", markup(start='<meta name="pypi:tracks" content="x">' * 20_000), TEXT),
]

SHAPES = [
    either("not a number", page().replace(b"5", b"NaN")),
    either("infinity", page().replace(b"5", b"Infinity")),
    either("a number of 10,000 digits", page().replace(b": 5", b": " + b"9" * 10_000)),
    either("an exponent", page().replace(b": 5", b": 1e999999999")),
    either("names twice", b'"filename": "../x.tar.gz", "hashes"'.join(page(entry(ODD)).rsplit(b'"hashes"', 1))),
    either("files twice", page()[:-1] + b', "files": [], "files": ' + json.dumps([entry(GOOD)]).encode() + b"}"),
    either("a lone surrogate", page(entry(ODD, **{"requires-python": "\ud800"})), JSON, ODD),
    refused("a list", b"[" + page() + b"]"),
    refused("a text", b'"page"', JSON),
    refused("null", b"null", JSON),
    refused("an error in JSON", b'{"message": "no"}'),
    refused("the version 2.0", page(meta={"api-version": "2.0"})),
    refused("the version 2.0 in HTML", markup(start='<meta name="pypi:repository-version" content="2.0">'), HTML),
    refused("the version of markup", page(meta={"api-version": MARKUP})),
    valid("the version 1.99", page(meta={"api-version": "1.99"})),
    valid("the version 1.99 in HTML", markup(start='<meta name="pypi:repository-version" content="1.99">'), TEXT),
]

HOSTILE_HTML = [
    valid("a script", markup("<script>document.write('<a href=x>')</script>", "<img src=x onerror=alert(1)>"), TEXT),
    valid("a base elsewhere", markup(start='<base href="http://127.0.0.1:9/elsewhere/">'), TEXT),
    either("a base that is a script", markup(start='<base href="javascript:alert(1)//">'), TEXT),
    either("a base that is nothing", markup(start='<base href="http://[">'), TEXT),
    valid("a refresh", markup(start='<meta http-equiv="refresh" content="0; url=http://127.0.0.1:9/">'), TEXT),
    *(
        valid(f"a link to {href[:24]!r}", markup(linked(href)), TEXT)
        for href in (
            f"javascript:alert(1)//{ODD}",
            f"data:text/html,x/{ODD}",
            f"JaVaScRiPt:x/{ODD}",
            f"java\tscript:x/{ODD}",
            f"&#106;avascript:x/{ODD}",
            f"vbscript:x/{ODD}",
            f"file:///etc/{ODD}",
            f"ftp://127.0.0.1/{ODD}",
            f"http://[::1/{ODD}",
            "http://",
            "//",
            "",
            "?x",
            "#x",
            "/files/..",
            "/files/%2e%2e",
            "/files/..%2f..%2fodd.tar.gz",
            "/files/..%5c..%5codd.tar.gz",
            "/files/%00.tar.gz",
            "/files/%0a.tar.gz",
            "/files/%7f.tar.gz",
        )
    ),
    either(
        "a link with quotes",
        markup(linked("/files/odd&quot; onclick=&quot;alert(1)-1.0.tar.gz")),
        TEXT,
        'odd" onclick="alert(1)-1.0.tar.gz',
    ),
    either("a link with markup", markup(linked("/files/%3Cscript%3E-1.0.tar.gz")), TEXT, "<script>-1.0.tar.gz"),
    either("a link with line ends", markup(linked("/files/o\r\nd\nd-1.0.tar.gz")), TEXT, ODD),
    either("a link with user info", markup(linked(f"http://u:pa55w0rd@127.0.0.1:9/{ODD}")), TEXT, ODD),
    either("a link to a port that is none", markup(linked(f"http://127.0.0.1:99999/{ODD}")), TEXT, ODD),
    either(
        "attributes with markup",
        markup(
            linked(
                f"/files/{ODD}",
                "data-requires-python='&quot;><script>x</script>' data-yanked='\"><b>' data-gpg-sig='<' "
                "data-provenance='javascript:x' data-core-metadata='<b>=<c>'",
            )
        ),
        TEXT,
        ODD,
    ),
    either(
        "a status with markup",
        markup(
            start='<meta name="pypi:project-status" content="&quot;><script>x</script>">'
            '<meta name="pypi:project-status-reason" content="<b>">'
        ),
        TEXT,
    ),
    either("a comment that does not end", markup() + b"<!-- SERIAL 99999999999999999 ", TEXT),
    either("a serial of 18 nines", markup() + b"<!-- SERIAL 999999999999999999 -->", TEXT),
]

NAMES = {
    "../../etc/passwd.tar.gz": False,
    "..%2f..%2fodd.tar.gz": True,
    "/etc/odd.tar.gz": False,
    "..\\..\\odd.tar.gz": False,
    "C:\\odd.tar.gz": False,
    "C:odd-1.0.tar.gz": True,
    "o\x00dd.tar.gz": False,
    "o\ndd.tar.gz": False,
    "o\x7fdd.tar.gz": False,
    "..": False,
    ".": False,
    "": False,
    " ": True,
    "o\u0085dd.tar.gz": False,
    "．．／odd.tar.gz": True,
    "\u202egz.tar.ddo": True,
    "odd\u200b-1.0.tar.gz": True,
    "con": True,
    "con.tar.gz": True,
    ".tar.gz": True,
    "~/odd.tar.gz": False,
    "-rf.tar.gz": True,
    "odd.tar.gz?x=y": True,
    "odd.tar.gz#x": True,
    "<script>alert(1)</script>.tar.gz": False,
    "<b>-1.0.tar.gz": True,
    '"onclick="x".tar.gz': True,
    "%00.tar.gz": True,
    "odd.tar.gz.metadata": True,
    "$(id).tar.gz": True,
    "x" * 10_000 + ".tar.gz": True,
    "\U0001f600.tar.gz": True,
    "a" * 300 + "-1.0-py3-none-any.whl": True,
    "---.whl": True,
    "odd.whl": True,
    "é-1.0.tar.gz": True,
}
"""Names of files, and whether one may stand on a page: none with a separator or a control character in it."""

FIELDS: Final[Mapping[str, list[Any]]] = {
    "size": [-1, 2**63, 2**64, 10**400, 0.5, "5"],
    "upload-time": [
        "yesterday",
        "",
        "9999-12-31T23:59:59Z",
        "0000-00-00T00:00:00Z",
        "2020-01-01T00:00:00+99:99",
        MARKUP,
    ],
    "yanked": ["", MARKUP, "x" * 10_000, 0, [[]]],
    "hashes": [
        {"sha256": "xyz"},
        {"sha256": "ab" * 31},
        {"sha256": MARKUP},
        {"<b>": "x"},
        {"sha256": None},
        {"sha256": SHA256.upper()},
        {"md5": "0"},
        {"": ""},
    ],
    "url": [
        "",
        "//",
        "http://[",
        "javascript:alert(1)",
        f"http://u:pa55w0rd@127.0.0.1:9/{ODD}",
        "/x\n.tar.gz",
        "/../../x",
        "data:,x",
        "http://127.0.0.1:99999/x",
        "http://" + "a" * 9000 + "/x",
    ],
    "requires-python": [MARKUP, "not a specifier", "x" * 10_000, "\x00"],
    "core-metadata": [{"sha256": "xyz"}, {"sha256": MARKUP}, {}, {"<b>": "<c>"}],
    "dist-info-metadata": [{"sha256": "xyz"}, {MARKUP: "x"}],
    "gpg-sig": ["true"],
    "provenance": [MARKUP, "javascript:alert(1)", "//x", "http://u:pa55w0rd@127.0.0.1/x"],
    "filename": list(NAMES),
}
WRONG: Final[tuple[object, ...]] = (None, 5, 0.5, True, "x", [], [None], {}, {"x": {"y": []}}, [[[[[[[[[[]]]]]]]]]])
DOCUMENT: Final[Mapping[str, list[Any]]] = {
    "meta": [
        {"api-version": "1.1", "tracks": [MARKUP, "javascript:x"]},
        {"api-version": "1.0", "_last-serial": MARKUP},
    ],
    "name": [MARKUP, "../../etc", "\x00", "x" * 10_000],
    "files": [[None], [5], ["x"], [[]], [{}]],
    "versions": [[MARKUP], [None], ["x" * 10_000]],
    "project-status": [{"status": MARKUP, "reason": MARKUP}, {"status": "quarantined"}, {"status": 5}],
    "alternate-locations": [[MARKUP, "javascript:x"], [5]],
}
META: Final = ("api-version", "_last-serial", "tracks")


# One mirror, and one origin for all projects


@pytest.fixture(scope="module")
def strangers() -> Iterator[RawUpstream]:
    """The origin of every page: each project is at `/simple/<project>/`."""
    with RawUpstream() as origin:
        yield origin


def peak(mirror: Mirror) -> int:
    """The most bytes of memory that the processes of a mirror have ever had."""
    status = "".join(Path(f"/proc/{pid}/status").read_text() for pid in processes(mirror))
    return 1024 * sum(map(int, re.findall(r"VmHWM:\s+(\d+) kB", status)))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory, strangers: RawUpstream) -> Iterator[Mirror]:
    """A mirror of that origin. At its end: the processes of its start, no mistakes in the log, nothing odd on disk."""
    folder = tmp_path_factory.mktemp("pages")
    running = Mirror(folder, f"{strangers.url}/simple/", LIMITS).start()
    workers, before = processes(running), peak(running)
    yield running
    try:
        assert processes(running) == workers
        assert peak(running) - before < GROWTH
        running.stop()
        assert not any(word in running.log() for word in ("Traceback", "panicked", "internal error"))
        assert "pa55w0rd" not in running.log()
        checked_records(running.data)
        assert {path.name for path in folder.iterdir()} == {"data", "log"}
        files = [str(path.relative_to(running.data)) for path in running.data.rglob("*") if path.is_file()]
        assert [name for name in files if not _ON_DISK.fullmatch(name)] == []
    finally:
        running.kill()


_PROJECT = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_ON_DISK = re.compile(
    r"VERSION|(users\.)?lock|reserve|index/(changes|(index|usage)\.db(-wal|-shm)?)|blobs/[0-9a-f]{2}/[0-9a-f]{64}"
)


# What a client sees


def names_on(got: Got) -> list[str] | None:
    """The names of the files on a page, after checking that it is a valid one; None for an error with a text."""
    kind = got.headers["content-type"].decode()
    assert "pa55w0rd" not in got.text
    if got.status == 502:
        assert kind.startswith("text/plain")
        assert len(got.text) > 20
        return None
    assert (got.whole, got.status) == (True, 200), got.text[:300]
    if kind.startswith(JSON):
        return [checked_file(file)["filename"] for file in checked_document(got.body)["files"]]
    assert kind.startswith((HTML, TEXT)), kind
    return names_in_html(got.body)


def checked_document(body: bytes) -> dict[str, Any]:
    """A page of PEP 691, its own fields checked."""
    document: dict[str, Any] = json.loads(body, parse_constant=lambda text: pytest.fail(text))
    assert set(document) <= {"meta", "name", "files", "versions", "project-status", "alternate-locations"}
    assert re.fullmatch(r"1\.\d", document["meta"]["api-version"])
    assert isinstance(document["name"], str)
    for texts in (
        document.get("versions", []),
        document.get("alternate-locations", []),
        document["meta"].get("tracks", []),
    ):
        assert all(isinstance(text, str) for text in texts)
    assert all(isinstance(text, str) for text in document.get("project-status", {}).values())
    return document


def checked_file(file: dict[str, Any]) -> dict[str, Any]:
    """A file of PEP 691, with an address on the mirror."""
    assert re.fullmatch(r"/[!-~]+", file["url"]), file
    assert not file["url"].startswith("//")
    assert not re.search(r"[\x00-\x1f\x7f-\x9f/\\]", file["filename"])
    assert all(isinstance(value, str) for item in file["hashes"].items() for value in item)
    assert isinstance(file.get("size", 0), int)
    assert 0 <= file.get("size", 0) < 2**63
    assert isinstance(file.get("yanked", ""), bool | str)
    assert isinstance(file.get("requires-python", ""), str)
    assert isinstance(file.get("upload-time", ""), str)
    assert isinstance(file.get("core-metadata", {}), bool | dict)
    return file


def names_in_html(body: bytes) -> list[str]:
    """The names on a page of PEP 503, on which nothing may be that the mirror does not write itself."""
    root = lxml.html.document_fromstring(body, parser=lxml.html.HTMLParser(encoding="utf-8", huge_tree=True))
    names = []
    for element in root.iter():
        assert element.tag in ELEMENTS, element
        assert set(element.attrib) <= ATTRIBUTES.get(element.tag, set()), element.attrib
        if element.tag == "a":
            href = element.get("href", "")
            assert re.fullmatch(r"/[!-~]+", href), href
            assert not href.startswith("//")
            names.append(element.text or "")
    return names


def check_everywhere(row: Row, project: str, hostile: Mirror, strangers: RawUpstream, pin: str) -> None:
    """Ask for a hostile page in every view and form; then for the honest one that follows."""
    path = f"/simple/{project}/"
    strangers.play(path, row.script or [answer(row.body, f"Content-Type: {row.kind}"), End.KEEP])
    today = datetime.now(UTC).date().isoformat()
    views = {"pin": hostile.pin(pin, strangers.url + path), "live": f"{hostile.url}/live/{project}/"}
    views["date"] = f"{hostile.url}/{today}/{project}/"
    outcomes: dict[str, bool] = {}
    for view, address in views.items():
        for accept in (JSON, HTML, TEXT):
            got = get(address, Accept=accept)
            if view == "pin" and row.raw and got.status == 200:
                check_raw(got, row)
                outcomes[view] = True
                continue
            if view == "date" and not row.is_timed and got.status == 400:
                continue  # without times nothing is known of what was there before it was first seen
            assert got.body != row.body, "an installer got the page as it came"
            names = names_on(got)
            assert outcomes.setdefault(view, names is not None) is (names is not None), (
                "one form fails, another does not"
            )
            check_names(row, view, names)
    fresh = f"{pin}b" if outcomes["pin"] else pin
    honest_page_follows(project, path, hostile, strangers, fresh, today, timed=row.is_timed)


def check_names(row: Row, view: str, names: list[str] | None) -> None:
    """Assert that a page shows the good file and nothing that it may not, or that it is refused where it should be."""
    if names is None:
        assert row.page is not True, "refused, though it can be read"
        return
    assert row.page is not False, f"not refused: {names}"
    assert set(names) <= {GOOD, *row.may}
    assert len(set(names)) == len(names)
    if view != "date" or row.is_timed:
        assert GOOD in names


def check_raw(got: Got, row: Row) -> None:
    """Assert that a page of the web is as it came, and cannot act in a browser as if it were the mirror."""
    assert got.body == row.body
    assert b"sandbox" in got.headers["content-security-policy"]
    assert got.headers["x-content-type-options"] == b"nosniff"


def honest_page_follows(
    project: str, path: str, hostile: Mirror, strangers: RawUpstream, pin: str, today: str, *, timed: bool
) -> None:
    """The project's next page is honest: every view shows it."""
    strangers.honest(path, page(entry(HONEST)), f"Content-Type: {JSON}")
    for address in (hostile.pin(pin, strangers.url + path), f"{hostile.url}/live/{project}/"):
        names = names_on(get(address, Accept=JSON))
        assert names is not None
        assert {GOOD, HONEST} <= set(names), "the honest page is not shown"
    dated = get(f"{hostile.url}/{today}/{project}/", Accept=JSON)
    assert dated.status in ((200,) if timed else (200, 400))  # see `check_everywhere`


# Pages


@pytest.mark.parametrize("row", [*BODIES, *DEEP, *SHAPES, *HOSTILE_HTML])
def test_a_page_from_strangers(row: Row, hostile: Mirror, strangers: RawUpstream, pin: str) -> None:
    check_everywhere(row, f"p-{pin}", hostile, strangers, pin)
    tally("hostile pages")


def test_a_page_that_takes_a_parser_long(mirror: Callable[..., Mirror], strangers: RawUpstream, pin: str) -> None:
    """An element of very many attributes, each of which a parser compares with all others: it ends, either way.

    100,000 of them are a page of 700 KB, and 10^10 comparisons.
    """
    attributes = " ".join(f"a{number}" for number in range(100_000))
    strangers.honest("/simple/long/", markup(f"<p {attributes}>"), f"Content-Type: {TEXT}")
    strangers.honest("/simple/short/", page(), f"Content-Type: {JSON}")
    running = mirror()
    try:
        address = running.pin(pin, f"{strangers.url}/simple/")
        got = get(f"{address}long/", Accept=JSON)
        assert names_on(got) in (None, [GOOD])
        assert names_on(get(f"{address}short/", Accept=JSON)) == [GOOD]
    finally:
        running.kill()  # it may be busy for minutes
    tally("hostile pages")


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_of_a_file(field: str, hostile: Mirror, strangers: RawUpstream, pin: str) -> None:
    """Each field of a file replaced by what it must not be."""
    for number, value in enumerate([*WRONG, *FIELDS[field]]):
        name = value if field == "filename" and isinstance(value, str) else ODD
        may = {name} if field != "filename" or NAMES.get(name, True) else set()
        row = Row(page(entry(ODD) | {field: value}), may=frozenset(may), timed=field != "upload-time")
        check_everywhere(row, f"file-{field}-{number}", hostile, strangers, f"{pin}-{number}x")
        tally("hostile pages")


@pytest.mark.parametrize("field", DOCUMENT)
def test_a_field_of_a_page(field: str, hostile: Mirror, strangers: RawUpstream, pin: str) -> None:
    """Each field of a page replaced by what it must not be."""
    for number, value in enumerate([*WRONG, *DOCUMENT[field]]):
        if field == "files" and value in ([], None):
            continue  # an empty page, which is an honest one
        if value == {"status": "quarantined"}:
            continue  # withheld, as it should be
        row = Row(page(**{field: value}))
        if field == "files" and value == [{}]:
            row = Row(row.body, page=False)
        check_everywhere(row, f"page-{field}-{number}", hostile, strangers, f"{pin}-{number}x")
        tally("hostile pages")


@pytest.mark.parametrize("field", META)
def test_a_field_of_the_meta(field: str, hostile: Mirror, strangers: RawUpstream, pin: str) -> None:
    """Each field of a page's meta replaced by what it must not be."""
    for number, value in enumerate(WRONG):
        row = Row(page(meta={"api-version": "1.0"} | {field: value}))
        check_everywhere(row, f"meta-{field.strip('_')}-{number}", hostile, strangers, f"{pin}-{number}x")
        tally("hostile pages")


@pytest.mark.parametrize("kind", [JSON, TEXT])
def test_a_list_of_projects(kind: str, hostile: Mirror, strangers: RawUpstream, pin: str) -> None:
    """Names that no project can have (PEP 508) are not on the list; every link stays on the mirror."""
    names = ["good", *NAMES, MARKUP, "javascript:alert(1)", "x" * 10_000, "..", "/", "//127.0.0.1:9", "\ufeff"]
    body = json.dumps({"meta": {"api-version": "1.0"}, "projects": [{"name": name} for name in names]}).encode()
    if kind == TEXT:
        links = [f'<a href="{quote(name)}/">{name.replace("<", "&lt;")}</a>' for name in names]
        body = f'<html><meta name="pypi:repository-version" content="1.0"><body>{"".join(links)}'.encode()
    strangers.honest("/simple/", body, f"Content-Type: {kind}")
    for address in (hostile.pin(pin, f"{strangers.url}/simple/"), f"{hostile.url}/live/"):
        listed = get(address, Accept=JSON)
        assert listed.status == 200, listed.text
        listed_names = [project["name"] for project in json.loads(listed.body)["projects"]]
        assert "good" in listed_names
        assert [name for name in listed_names if not _PROJECT.fullmatch(name)] == []
        for accept in (HTML, TEXT):
            assert "good" in names_in_html(get(address, Accept=accept).body)
        tally("hostile pages")


# Requests


TRICKS = [
    "/files/good/{sha}/../../x",
    "/files/good/{sha}/..%2f..%2fx",
    "/files/good/{sha}/%2e%2e/%2e%2e/VERSION",
    "/files/good/{sha}/..%2f..%2f..%2f..%2fetc%2fpasswd",
    "/files/good/{sha}/%2fetc%2fpasswd",
    "/files/good/{sha}/",
    "/files/good/{sha}/good-1.0.tar.gz%00",
    "/files/good/{sha}/%00",
    "/files/good/{sha}%2fgood-1.0.tar.gz",
    "/files/",
    "/files/good/{sha}/..%5c..%5cx.tar.gz",
    "/files/good/{sha}/good-1.0.tar.gz/",
    "/files/good/{sha}//good-1.0.tar.gz",
    "/files/../VERSION",
    "/files/..%2fVERSION",
    "/files/%2e%2e/index/index.db",
    "/files/good/../../lock/x.tar.gz",
    "/files/%00/{sha}/x.tar.gz",
    "/files/%ff%fe/{sha}/x.tar.gz",
    "/files/good/%ff/x.tar.gz",
    "/files/good/{sha}/%ff.tar.gz",
    "/files/good/{sha}/{long}.tar.gz",
    "/files/{long}/{sha}/x.tar.gz",
    "/files/good/{long}/x.tar.gz",
    "/files/good/../x.tar.gz",
    "/files/good/..%2f..%2fblobs/x.tar.gz",
    "/files/..%2f..%2fblobs/{sha}/x.tar.gz",
    "/files/good/{sha}/x.tar.gz%0d%0aX-Evil:1",
    "/files/good/{sha}/x.tar.gz.metadata.metadata",
    "/files/good/{sha}/.metadata",
    "/files/good/id-{sha}/good-1.0.tar.gz",
    "/files/good/{sha}/%E2%80%AEx.tar.gz",
    "/files/good/{sha}/x%u002e.tar.gz",
    "/files/good/{sha}/%.tar.gz",
    "/files/good/{sha}/%c0%ae.tar.gz",
    "/blobs/ab/{sha}",
    "/index/index.db",
    "/VERSION",
    "/spool/",
    "/lock",
    "/../VERSION",
    "/..%2fVERSION",
    "//etc/passwd",
    "/%2fetc/passwd",
    "/live/../VERSION",
    "/live/..%2f..%2fetc%2fpasswd/",
    "/live/%2e%2e/",
    "/live/%00/",
    "/live/%ff/",
    "/live/a%0d%0ab/",
    "/live/good/../x/",
    "/live/good%2f..%2fx/",
    "/live/-/",
    "/live/.a/",
    "/live/a%20b/",
    "/live/%EF%BC%8E/",
    "/live/<script>/",
    "/2020-01-01/..%2fx/",
    "/live/good/extra/",
    "/2020-13-01/good/",
    "/9999-12-31/good/",
    "/2020-01-01T99:00:00Z/good/",
    "/live--1d/good/",
    "/live-{long}d/good/",
    "/..%2f..%2fpin/http://127.0.0.1/x",
    "/pin%00/http://127.0.0.1/x",
    "/{long}/http://127.0.0.1/x",
    "/pin/http://127.0.0.1%00/x",
    "/pin/http://127.0.0.1:0/x",
    "/pin/file:///etc/passwd",
    "/pin/http:",
    "/pin/http://",
    "/-/../VERSION",
    "/-/%2e%2e/VERSION",
    "/-/nothing",
    "/pin/",
    "/pin",
    "/%70in/%2e%2e/x",
]


@pytest.mark.parametrize("trick", TRICKS)
@pytest.mark.parametrize("accept", ["*/*", JSON])
def test_a_path_that_means_another_file(trick: str, accept: str, hostile: Mirror, strangers: RawUpstream) -> None:
    """A 4xx with a clean head: never a mistake of the mirror, never a file of the store."""
    strangers.honest("/simple/good/", page(), f"Content-Type: {JSON}")
    target = trick.format(sha=SHA256, long="x" * 5000)
    request = f"GET {target} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
    got = ask(hostile.port, request.encode("latin-1"))
    assert 400 <= got.status < 500, (got.lines, got.text[:300])
    assert b"SQLite" not in got.body
    tally("hostile paths")


# At the end, since it keeps the mirror busy for minutes


def test_a_page_of_20_000_links(hostile: Mirror, strangers: RawUpstream, pin: str) -> None:
    """The honest page that follows does not have them, so the mirror goes on to rescue each of them."""
    names = [f"odd-{number}.tar.gz" for number in range(20_000)]
    row = Row(markup(*[f'<a href="/f/{name}">{name}</a>' for name in names]), TEXT, frozenset(names), page=True)
    check_everywhere(row, f"p-{pin}", hostile, strangers, pin)
    tally("hostile pages")

"""Index pages: what real registries write, what hostile ones could, and that rendering loses nothing."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from httpcache.errors import plain
from pypi_adapter.simple.html_page import to_html
from pypi_adapter.simple.json_page import to_json
from pypi_adapter.simple.model import BadPage, File, Page, ProjectList, ProjectStatus, is_distribution, map_files
from pypi_adapter.simple.parser import parse
from tests.support.examples import examples

DATA = Path(__file__).parents[1] / "data"
URL = "https://example.com/simple/holygrail/"
JSON = "application/vnd.pypi.simple.v1+json"


def page_of(body: str | bytes, url: str = URL, content_type: str | None = None) -> Page:
    page = parse(body.encode() if isinstance(body, str) else body, content_type, url)
    assert isinstance(page, Page)
    return page


def html_file(attributes: str, url: str = URL) -> File:
    (file,) = page_of(f"<a {attributes}>x</a>", url).files
    return file


# --- the two forms


def test_html_with_everything() -> None:
    page = page_of((DATA / "simple-full.html").read_bytes(), content_type="text/html; charset=utf-8")
    assert page == Page(
        name="holygrail",
        files=(
            File(
                filename="holygrail-1.0.tar.gz",
                url="https://files.example.org/h/holygrail-1.0.tar.gz",
                hashes={"sha256": "ab01"},
                requires_python=">=3.7,<4",
                yanked='Had a "hole"',
                gpg_sig=True,
            ),
            File(
                filename="holygrail-1.0-py3-none-any.whl",
                url="https://files.example.org/h/holygrail-1.0-py3-none-any.whl",
                hashes={"md5": "cd02"},
                yanked=True,
                core_metadata={"sha256": "ef03"},
                provenance="https://example.org/p.json",
            ),
            File(
                filename="holygrail-1.0-py2.7.egg",
                url="https://files.example.org/h/holygrail-1.0-py2.7.egg",
                hashes={},
                core_metadata=True,
                gpg_sig=False,
            ),
        ),
        serial=4711,
        status=ProjectStatus("archived", "found & <kept>"),
        tracks=("https://example.org/simple/holygrail/",),
        alternate_locations=("https://example.org/a/holygrail/", "https://example.org/b/holygrail/"),
    )
    assert parse(to_html(page), "text/html", URL) == msgspec.structs.replace(page, serial=None)


def test_json_with_everything() -> None:
    page = page_of((DATA / "simple-full.json").read_bytes(), content_type=JSON)
    assert page == Page(
        name="holygrail",
        files=(
            File(
                filename="holygrail-1.0.tar.gz",
                url="https://files.example.org/h/holygrail-1.0.tar.gz",
                hashes={"sha256": "ab01", "blake2b_256": "ff"},
                requires_python=">=3.7",
                size=123456,
                upload_time="2024-01-02T03:04:05.678900Z",
                yanked="Had a vulnerability",
                gpg_sig=True,
            ),
            File(
                filename="holygrail-1.0-py3-none-any.whl",
                url="https://example.com/files/holygrail-1.0-py3-none-any.whl?token=a%2Fb",
                hashes={"sha256": "cd02"},
                size=1337,
                core_metadata={"sha256": "ef03"},
                provenance="https://example.org/p.json",
            ),
        ),
        versions=("1.0", "1.1.dev0"),
        serial=4711,
        status=ProjectStatus("deprecated", "haunted"),
        tracks=("https://example.org/simple/holygrail/",),
        alternate_locations=("https://example.org/a/holygrail/",),
    )
    assert msgspec.json.decode(to_json(page)) == {
        "meta": {"api-version": "1.4", "tracks": ["https://example.org/simple/holygrail/"]},
        "alternate-locations": ["https://example.org/a/holygrail/"],
        "name": "holygrail",
        "project-status": {"status": "deprecated", "reason": "haunted"},
        "versions": ["1.0", "1.1.dev0"],
        "files": [
            {
                "filename": "holygrail-1.0.tar.gz",
                "url": "https://files.example.org/h/holygrail-1.0.tar.gz",
                "hashes": {"sha256": "ab01", "blake2b_256": "ff"},
                "requires-python": ">=3.7",
                "size": 123456,
                "upload-time": "2024-01-02T03:04:05.678900Z",
                "yanked": "Had a vulnerability",
                "gpg-sig": True,
            },
            {
                "filename": "holygrail-1.0-py3-none-any.whl",
                "url": "https://example.com/files/holygrail-1.0-py3-none-any.whl?token=a%2Fb",
                "hashes": {"sha256": "cd02"},
                "size": 1337,
                "core-metadata": {"sha256": "ef03"},
                "provenance": "https://example.org/p.json",
            },
        ],
    }


def test_html_rendering_is_as_written_here() -> None:
    file = File(
        filename="a&b-1.0.tar.gz",
        url="/files/a%26b-1.0.tar.gz?x=1&y='2'",
        hashes={"md5": "1", "sha256": "2"},
        requires_python=">=3.7",
        yanked='"><script>\r\n',
        core_metadata={"blake2b_256": "0", "sha256": "3"},
    )
    page = Page("a<b", (file,), status=ProjectStatus("quarantined", '"x"'), tracks=("https://example.org/",))
    assert to_html(page).decode() == (
        '<!DOCTYPE html>\n<html>\n<head>\n<meta charset="utf-8">\n'
        '<meta name="pypi:repository-version" content="1.4">\n'
        '<meta name="pypi:tracks" content="https://example.org/">\n'
        '<meta name="pypi:project-status" content="quarantined">\n'
        '<meta name="pypi:project-status-reason" content="&quot;x&quot;">\n'
        "<title>Links for a&lt;b</title>\n</head>\n<body>\n<h1>Links for a&lt;b</h1>\n"
        '<a href="/files/a%26b-1.0.tar.gz?x=1&amp;y=&#x27;2&#x27;#sha256=2" data-requires-python="&gt;=3.7"'
        ' data-yanked="&quot;&gt;&lt;script&gt;&#13;&#10;"'
        ' data-core-metadata="sha256=3" data-dist-info-metadata="sha256=3">a&amp;b-1.0.tar.gz</a><br>\n'
        "</body>\n</html>\n"
    )


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (JSON, b'{"files": []}'),
        ("application/json", b'{"files": []}'),
        ("text/plain", b' \r\n{"files": []}'),
        ("text/html", b'{"files": []}'),
        (None, b'\xef\xbb\xbf{"files": []}'),
        ("text/html", b"<html>Links for p</html>"),
        ("application/vnd.pypi.simple.v1+html", b"no files yet"),
        ("application/octet-stream", b"\n<html>Links for p</html>"),
        (JSON, b"<html>Links for p</html>"),
        (None, b"\xef\xbb\xbf<html>Links for p</html>"),
    ],
)
def test_the_body_decides_what_it_is(content_type: str | None, body: bytes) -> None:
    assert parse(body, content_type, "https://example.com/simple/Holy_.Grail/") == Page("holy-grail")


@pytest.mark.parametrize(
    "body",
    [
        "",
        " \n",
        "\x00",
        "not found",
        "<!-- nothing -->",
        "{",
        "{}",
        '{"detail": "not found"}',
        '{"files": {}}',
        '{"files": [{"filename": "x"}]}',
        '{"files": [{"filename": "x", "url": 1}]}',
        '{"files": [], "x": ' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"files": [], "meta": {"api-version": "2.0"}}',
        '{"files": [], "meta": {"api-version": "10.0"}}',
        '{"files": [], "meta": {"api-version": "one"}}',
        '<meta name="pypi:repository-version" content="2.0"><a href="x-1.zip">x</a>',
        b'{"files": [], "name": "\xff"}',
    ],
)
def test_bad_pages(body: str | bytes) -> None:
    with pytest.raises(BadPage):
        page_of(body)


def test_an_array_is_no_page() -> None:
    with pytest.raises(BadPage, match=r"Expected `object`"):
        page_of("[]", content_type=JSON)


def test_null_is_absent() -> None:
    nulls = dict.fromkeys(
        (
            "hashes",
            "requires-python",
            "size",
            "upload-time",
            "yanked",
            "core-metadata",
            "gpg-sig",
            "provenance",
        )
    )
    document = {
        "meta": {"api-version": None, "_last-serial": None, "tracks": None},
        "name": None,
        "versions": None,
        "project-status": None,
        "alternate-locations": None,
        "files": [{"filename": "x-1.zip", "url": "x-1.zip", **nulls}],
    }
    assert page_of(msgspec.json.encode(document)) == Page("holygrail", (File("x-1.zip", URL + "x-1.zip", {}),))


@pytest.mark.parametrize(
    ("serial", "parsed"), [(7, 7), ("7", 7), ("", None), ("x", None), (-1, None), ("٣", None), (10**30, None)]
)
def test_serial(serial: int | str, parsed: int | None) -> None:
    body = msgspec.json.encode({"files": [], "meta": {}}).replace(
        b"{}",
        f'{{"_last-serial": {serial if isinstance(serial, int) else chr(34) + serial + chr(34)}}}'.encode(),
    )
    assert page_of(body).serial == parsed


@pytest.mark.parametrize(
    ("said", "parsed"),
    [
        ({}, None),
        ({"core-metadata": False, "dist-info-metadata": True}, False),
        ({"core-metadata": None, "dist-info-metadata": True}, True),
        ({"core-metadata": {"sha256": "a"}, "dist-info-metadata": True}, {"sha256": "a"}),
        ({"dist-info-metadata": {}}, False),
        ({"data-dist-info-metadata": {"sha256": "a"}}, None),
    ],
)
def test_core_metadata_in_json(said: dict[str, object], parsed: object) -> None:
    (file,) = page_of(msgspec.json.encode({"files": [{"filename": "x", "url": "x", **said}]})).files
    assert file.core_metadata == parsed


def test_core_metadata_in_html() -> None:
    for value, parsed in {"true": True, "": True, "false": False, "sha256=a": {"sha256": "a"}}.items():
        assert html_file(f'href=x-1.zip data-dist-info-metadata="{value}"').core_metadata == parsed
    assert html_file("href=x-1.zip data-dist-info-metadata=true data-core-metadata=false").core_metadata is False
    assert html_file("href=x-1.zip").core_metadata is None


@pytest.mark.parametrize(
    ("page", "version"),
    [
        (Page("p"), "1.0"),
        (Page("p", versions=()), "1.1"),
        (Page("p", (File("f", "u", {}),), versions=("1",)), "1.0"),
        (Page("p", (File("f", "u", {}, size=0),)), "1.0"),
        (Page("p", (File("f", "u", {}, size=0),), versions=("1",)), "1.1"),
        (Page("p", versions=(), tracks=("u",)), "1.2"),
        (Page("p", versions=(), alternate_locations=("u",)), "1.2"),
        (Page("p", (File("f", "u", {}, size=0, provenance="p"),), versions=("1",)), "1.3"),
        (Page("p", versions=(), status=ProjectStatus("active")), "1.4"),
        (Page("p", status=ProjectStatus("active")), "1.0"),
    ],
)
def test_api_version_is_honest(page: Page, version: str) -> None:
    assert msgspec.json.decode(to_json(page))["meta"]["api-version"] == version


def test_status_without_sizes_is_1_4_in_html_which_has_none() -> None:
    assert b'"pypi:repository-version" content="1.4"' in to_html(Page("p", status=ProjectStatus("active")))


def test_status_reason_alone_means_active() -> None:
    body = '{"files": [], "project-status": {"reason": "why"}}'
    assert page_of(body).status == ProjectStatus("active", "why")
    assert page_of('<meta name="pypi:project-status-reason" content=why>').status == ProjectStatus("active", "why")
    assert page_of('{"files": [], "project-status": {}}').status is None


def test_map_files() -> None:
    def moved(file: File) -> File | None:
        return None if file.filename == "b" else msgspec.structs.replace(file, url=f"/{file.filename}")

    page = Page("p", tuple(File(name, "u", {}) for name in "abc"), versions=("1",))
    assert map_files(page, moved) == Page("p", (File("a", "/a", {}), File("c", "/c", {})), versions=("1",))


@pytest.mark.parametrize("name", ["p-1-py3-none-any.whl", "p-1.TAR.GZ", "p-1.zip", "p-1-py2.7.egg", "p-1.win32.exe"])
def test_is_distribution(name: str) -> None:
    assert is_distribution(name)
    assert not is_distribution(f"{name}.metadata")
    assert not is_distribution(f"{name}.asc")


# --- links


@pytest.mark.parametrize(
    ("url", "href", "resolved"),
    [
        # NVIDIA: relative to the page
        (
            "https://example.com/nvidia-cublas/", "nvidia_cublas-1-py3-none-any.whl",
            "https://example.com/nvidia-cublas/nvidia_cublas-1-py3-none-any.whl",
        ),
        # PyTorch: relative to the root, a local version, no hash
        (
            "https://example.com/whl/cu121/torch/",
            "/whl/cu121/torch-2.1.0%2Bcu121-cp311-cp311-linux_x86_64.whl",
            "https://example.com/whl/cu121/torch-2.1.0%2Bcu121-cp311-cp311-linux_x86_64.whl",
        ),
        # GitLab: absolute
        (
            URL, "https://example.com/api/v4/projects/1/packages/pypi/files/ab/x-1.0.tar.gz",
            "https://example.com/api/v4/projects/1/packages/pypi/files/ab/x-1.0.tar.gz",
        ),
        # Artifactory
        (
            "https://example.com/api/pypi/py/simple/x/", "../../packages/ab/x-1.0.tar.gz",
            "https://example.com/api/pypi/py/packages/ab/x-1.0.tar.gz",
        ),
        # devpi
        (
            "https://example.com/team/dev/+simple/x/", "../../+f/ab0/123/x-1.0%2Bl.zip",
            "https://example.com/team/dev/+f/ab0/123/x-1.0%2Bl.zip",
        ),
        # pages without a trailing slash, with a query, on another host or scheme
        ("https://example.com/simple/x", "x-1.zip", "https://example.com/simple/x-1.zip"),
        ("https://example.com/simple/x/?a=/b", "x-1.zip", "https://example.com/simple/x/x-1.zip"),
        (URL, "//files.example.org/x-1.zip", "https://files.example.org/x-1.zip"),
        ("http://example.com:8080/s/x/", "//files.example.org:81/x-1.zip", "http://files.example.org:81/x-1.zip"),
        (URL, "http://files.example.org/x-1.zip", "http://files.example.org/x-1.zip"),
        (URL, "HTTPS://Files.Example.ORG/x-1.zip", "https://Files.Example.ORG/x-1.zip"),
        # encodings and queries stay as they are; what must be quoted is
        (URL, "a%20b/x-1+l.zip?sig=a%2Fb+c%3D&amp;t=1", URL + "a%20b/x-1+l.zip?sig=a%2Fb+c%3D&t=1"),
        (URL, "https://user:pa%40ss@example.org/x-1.zip", "https://example.org/x-1.zip"),
        (URL, " a b/x-1.zip\n", URL + "a%20b/x-1.zip"),
        (URL, "x\n-1.zip", URL + "x-1.zip"),
        (URL, "é/x-1.zip", URL + "%C3%A9/x-1.zip"),
        (URL, "../../../../x-1.zip", "https://example.com/x-1.zip"),
        (URL, "./x-1.zip", URL + "x-1.zip"),
    ],
)  # fmt: skip
def test_link_shapes(url: str, href: str, resolved: str) -> None:
    assert html_file(f'href="{href}"', url).url == resolved
    link = href.replace("&amp;", "&")
    body = msgspec.json.encode({"files": [{"filename": "x-1.zip", "url": link + "#sha256=ab", "hashes": {}}]})
    (file,) = page_of(body, url).files
    assert (file.url, file.hashes) == (resolved, {"sha256": "ab"})


@pytest.mark.parametrize(
    "href",
    [
        "",
        "#x-1.zip",
        "mailto:x-1.zip",
        "javascript:x-1.zip",
        "data:,x-1.zip",
        "ftp://example.org/x-1.zip",
        "file:///x-1.zip",
        "http://?x-1.zip",
        "http://x-1.zip",
        "http://[::1/x-1.zip",
        "http://example.org:x-1.zip",
        "x-1.zip/",
        "x-1.zip/..",
        "?f=x-1.zip",
        "..%2Fx-1.zip",
        "..%5Cx-1.zip",
        "..\\x-1.zip",
        "x%00-1.zip",
        "x%0A-1.zip",
        "%C2%85x-1.zip",
        "x-1.zip.asc",
        "x-1.whl.metadata",
    ],
)
def test_not_a_file(href: str) -> None:
    assert page_of(f'<p>Links for p <a href="{href}">click here!</a>').files == ()


@pytest.mark.parametrize("url", ["", "#x", "ftp://example.org/x", "http://?x", "https://:80/x", "http://[::1/x"])
def test_unusable_addresses_in_json(url: str) -> None:
    assert page_of(msgspec.json.encode({"files": [{"filename": "x-1.zip", "url": url}]})).files == ()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "a\0", "a\n", "\x7f", "../x-1.zip"])
def test_unsafe_names_in_json(name: str) -> None:
    body = msgspec.json.encode({"files": [{"filename": name, "url": "x-1.zip"}]})
    assert page_of(body).files == ()


@pytest.mark.parametrize(
    ("base", "resolved"),
    [
        ("/files/", "https://example.com/files/x-1.zip"),
        ("../packages/index.html", "https://example.com/simple/packages/x-1.zip"),
        ("//example.org/", "https://example.org/x-1.zip"),
        ("https://example.org/a/b", "https://example.org/a/x-1.zip"),
        ("", URL + "x-1.zip"),
        ("javascript:0", URL + "x-1.zip"),
    ],
)
def test_base(base: str, resolved: str) -> None:
    page = page_of(f'<base target="_top"><base href="{base}"><base href="/no/"><a href="x-1.zip">x</a>')
    assert page.files[0].url == resolved


@pytest.mark.parametrize(
    ("fragment", "hashes"),
    [
        ("sha256=AB", {"sha256": "ab"}),
        ("egg=x&sha512=cd", {"sha512": "cd"}),
        ("md5=1&sha1=2", {"md5": "1", "sha1": "2"}),
        ("sha3_256=1", {"sha3_256": "1"}),
        ("blake2b=1", {"blake2b": "1"}),
        ("egg=x", {}),
        ("sha256=xyz", {}),
        ("sha256=", {}),
        ("nosha256=ab", {}),
    ],
)
def test_hash_fragments(fragment: str, hashes: dict[str, str]) -> None:
    file = html_file(f'href="x-1.zip#{fragment}"')
    assert (file.url, file.hashes) == (URL + "x-1.zip", hashes)


# --- project lists


def test_project_lists() -> None:
    projects = ProjectList(("Frob", "spam.spam"), serial=9)
    body = '{"meta": {"_last-serial": "9"}, "projects": [{"name": "Frob", "x": 1}, {"name": "spam.spam"}]}'
    assert parse(body.encode(), JSON, URL) == projects
    assert msgspec.json.decode(to_json(projects)) == {
        "meta": {"api-version": "1.0"},
        "projects": [{"name": "Frob"}, {"name": "spam.spam"}],
    }
    unserialled = msgspec.structs.replace(projects, serial=None)
    assert parse(to_html(projects), "text/html", URL) == unserialled
    assert b'<a href="spam-spam/">spam.spam</a><br>\n' in to_html(projects)
    assert b'<a href="/a&amp;b/spam-spam/">spam.spam</a><br>\n' in to_html(projects, "/a&b/")


def test_directory_listing_as_project_list() -> None:
    body = (
        '<h1>Index of /simple</h1><a href="?C=N;O=D">Name</a>'
        '<a href="../">../</a><a href="/">Parent Directory</a>'
        '<a href="frob/">frob/</a> <a href="/simple/Spam/">Spam</a><a href="eggs">eggs</a>'
    )
    assert parse(body.encode(), "text/html", URL, ProjectList) == ProjectList(("frob", "Spam", "eggs"))


def test_hostile_project_names_are_escaped() -> None:
    html = to_html(ProjectList(('"><script>', "../../x"))).decode()
    assert "<script>" not in html
    assert 'href="-%2F-%2Fx/"' in html


# --- hostile HTML


@pytest.mark.parametrize("opening", ["<div>", "<a href='y-1.zip'><table>", "<font>"])
def test_deep_nesting_is_never_half_a_page(opening: str) -> None:
    page = page_of(opening * 100_000 + "<a href='x-1.zip'>x</a>")
    assert page.files[-1].filename == "x-1.zip"
    assert len(page.files) == (100_001 if "href" in opening else 1)


def test_anchors_in_anchors_do_not_nest() -> None:
    assert len(page_of("<a href='x-1.zip'>" * 10_000).files) == 10_000


def test_huge_attributes() -> None:
    page = page_of(f"<a href='{'x' * 11_000_000}'>y</a><a href='x-1.zip' data-yanked='{'y' * 11_000_000}'>z</a>")
    assert page.files[0].yanked == "y" * 11_000_000


def test_nul_and_bytes_that_are_no_utf_8() -> None:
    page = page_of(b"<html>\0<a hr\0ef='no-1.zip'>\xff</a><a href='x-1.zip' data-yanked='\xe9\0\xff'>x</a>")
    assert [file.yanked for file in page.files] == ["\ufffd\ufffd\ufffd"]


@pytest.mark.parametrize(
    ("content_type", "head"),
    [
        ("text/html; charset=ISO-8859-1", b""),
        ("text/html", b'<meta charset="windows-1252">'),
        ("text/html", b'<meta http-equiv="Content-Type" content="text/html; charset=latin1">'),
    ],
)
def test_charset(content_type: str, head: bytes) -> None:
    (file,) = page_of(head + b"<a href='x-1.zip' data-yanked='\xe9'>x</a>", content_type=content_type).files
    assert file.yanked == "é"


def test_unknown_charsets_are_read_as_utf_8() -> None:
    body = "<a href='x-1.zip' data-yanked='é'>x</a>"
    for charset in ("zlib", "punycode", "utf-16", "unicode_escape", "nonsense", "UTF-8"):
        assert page_of(body, content_type=f"text/html; charset={charset}").files[0].yanked == "é"


def test_entities_are_not_expanded() -> None:
    body = (
        "<?xml version='1.0' encoding='utf-16'?>"
        "<!DOCTYPE html [<!ENTITY x SYSTEM 'file:///etc/hostname'><!ENTITY y 'yyy'>]>"
        "<a href='x-1.zip' data-yanked='&x;&y;'>x</a>"
    )
    assert page_of(body).files[0].yanked == "&x;&y;"


def test_every_truncation_is_read_or_refused() -> None:
    body = (DATA / "simple-full.html").read_bytes()
    whole = page_of(body)
    for end in range(0, len(body), 7):
        try:
            page = page_of(body[:end], content_type="text/html")
        except BadPage:
            continue
        assert len(page.files) <= len(whole.files)


def read_or_refused(body: bytes, content_type: str | None) -> None:
    try:
        page = parse(body, content_type, URL)
    except BadPage:
        return
    to_json(page), to_html(page)


@given(st.binary() | st.text().map(str.encode), st.sampled_from([None, "text/html", JSON, "text/plain"]))
def test_any_body_is_read_or_refused(body: bytes, content_type: str | None) -> None:
    read_or_refused(body, content_type)


TOKENS = [
    "<a href='", "<a href=", "'", '"', ">", "<", "</a>", "x-1.zip", "data-yanked=", "<base href=", "//", "[", "]",
    ":", "#sha256=", "ab", "&", ";", "%", "%2F", "..", "/", "\0", "é", "<!--", "-->", "<table>", "<meta name=",
]  # fmt: skip


@given(st.lists(st.sampled_from(TOKENS)).map("".join))
def test_any_markup_is_read_or_refused(body: str) -> None:
    read_or_refused(body.encode(), "text/html")


# --- round trips

text = st.text(st.characters(codec="utf-8"))
hostile = text | st.sampled_from(["\"'><&;\r\n\t", "&amp;", "&lt;", "</a>", "<!--", "-->", "\ufeff", "]]>", "\0"])
word = hostile.filter(bool)
shown = hostile.map(plain)  # what terminals obey is escaped where it is read
shown_word = shown.filter(bool)
filename = hostile.filter(lambda s: s not in ("", ".", "..") and not set(s) & set("/\\")).filter(
    lambda s: all(c > "\x1f" and not "\x7f" <= c <= "\x9f" for c in s)
)
path = st.text("abcXYZ019-_.~+%é&=;,'@ ", max_size=20)
hashes = st.dictionaries(st.sampled_from(["sha256", "md5", "blake2b", "x"]), st.text("0123456789abcdef", min_size=1))
times = st.datetimes().map(lambda moment: f"{moment.isoformat()}Z")  # as PEP 700 has them
files = st.builds(
    File,
    filename=filename,
    url=path.map(lambda p: "https://files.example.org/" + quote(p, safe="/+%&=;,'@")),
    hashes=hashes,
    requires_python=st.none() | shown_word,
    size=st.none() | st.integers(0, 2**63 - 1),
    upload_time=st.none() | times,
    yanked=st.booleans() | shown_word,
    core_metadata=st.none() | st.booleans() | hashes.filter(bool),
    gpg_sig=st.none() | st.booleans(),
    provenance=st.none() | path.map(lambda p: "https://example.org/" + quote(p, safe="/+%&=;,'@")),
)
strings = st.lists(hostile, max_size=3).map(tuple)
pages = st.builds(
    Page,
    name=word,
    files=st.lists(files, max_size=5).map(tuple),
    versions=st.none() | strings,
    serial=st.none(),
    status=st.none() | st.builds(ProjectStatus, shown_word, st.none() | shown),
    tracks=strings,
    alternate_locations=strings,
)
few = settings(max_examples=examples(60), suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])


@few
@given(pages)
def test_json_round_trip(page: Page) -> None:
    body = to_json(page)
    assert parse(body, JSON, URL) == page
    assert to_json(page_of(body)) == body
    shuffled = map_files(page, lambda file: msgspec.structs.replace(file, hashes=dict(reversed(file.hashes.items()))))
    assert to_json(shuffled) == body


def carried_by_html(file: File) -> File:
    """What is left of a file in HTML: one hash, no size, an address that ends with the name."""

    def best(digests: dict[str, str]) -> dict[str, str]:
        return next(({n: digests[n]} for n in ("sha256", "blake2b", "md5") if n in digests), {})

    metadata = best(file.core_metadata) or True if isinstance(file.core_metadata, dict) else file.core_metadata
    return msgspec.structs.replace(file, hashes=best(file.hashes), size=None, core_metadata=metadata or None)


def as_xml_text(value: str) -> str:
    """Strings without what an HTML parser replaces."""
    return plain("".join(c for c in value if (c >= " " or c in "\t\r\n") and not "\x7f" <= c <= "\x9f"))


html_text = hostile.map(as_xml_text)
html_word = html_text.filter(bool)
html_pages = st.builds(
    Page,
    name=st.just("holygrail"),
    files=st.lists(
        st.builds(
            lambda name, file: msgspec.structs.replace(file, filename=name, url=f"{URL}{quote(name, safe='+')}?a=b&c"),
            filename.map(as_xml_text).map(lambda name: f"{name}-1.0.tar.gz"),
            st.builds(
                File,
                filename=st.just(""),
                url=st.just(""),
                hashes=hashes,
                requires_python=st.none() | html_word,
                size=st.none() | st.integers(0, 9),
                upload_time=st.none() | times,
                yanked=st.booleans() | html_word,
                core_metadata=st.none() | st.booleans() | hashes.filter(bool),
                gpg_sig=st.none() | st.booleans(),
                provenance=st.none() | path.map(lambda p: "https://example.org/" + quote(p)),
            ),
        ),
        min_size=1,
        max_size=5,
    ).map(tuple),
    status=st.none() | st.builds(ProjectStatus, html_word, st.none() | html_text),
    tracks=st.lists(html_text, max_size=3).map(tuple),
    alternate_locations=st.lists(html_text, max_size=3).map(tuple),
)


@few
@given(html_pages)
def test_json_to_html_to_json_keeps_what_html_can_carry(page: Page) -> None:
    body = to_html(page_of(to_json(page)))
    read = page_of(body)
    assert read == map_files(page, carried_by_html)
    assert to_html(read) == body
    assert page_of(to_json(read)) == read


@few
@given(pages)
def test_html_of_hostile_strings_has_one_line_per_file_and_no_foreign_markup(page: Page) -> None:
    lines = to_html(page).decode().split("\n")
    assert sum(line.startswith("<a href=") for line in lines) == len(page.files)
    assert sum(line.count("<a") for line in lines) == len(page.files)


@pytest.mark.parametrize("body", ["<html></html>", "<h1>Down for maintenance</h1>", "<p>\ufffd\ufffd"])
def test_html_that_is_no_index_page(body: str) -> None:
    with pytest.raises(BadPage, match="no links"):
        page_of(body)

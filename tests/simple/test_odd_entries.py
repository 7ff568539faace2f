"""One odd entry of an index page costs that entry, or a field of it: never the page, nor a file that was there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypi_adapter.history.history import History, Observation
from pypi_adapter.simple.model import BadPage, File, Page, ProjectList, ProjectStatus, Unread
from pypi_adapter.simple.parser import parse
from tests.support.clients import Clients, pins
from tests.support.index import document, filenames, instant, json_page
from tests.support.mirror import Mirror
from tests.support.packages import Dist, wheel
from tests.support.registries import JSON
from tests.support.upstream import Response, Upstream

URL = "https://example.com/simple/thing/"
GOOD, ODD = "good-1.0.tar.gz", "thing-1.0-py3-none-any.whl"
AT = "2024-01-02T03:04:05.678900Z"
DIGEST, OTHER = "ab" * 32, "cd" * 32
NESTED: Any = [[[[{"x": [{}]}]]]]
WRONG = [
    0,
    5,
    -1,
    0.5,
    1e300,
    True,
    False,
    "",
    "x",
    [],
    [None],
    {},
    {"x": None},
    {"x": {"y": []}},
    NESTED,
    "\ud800",
    10**400,
]
"""Every JSON type, empty and not, and what some readers of JSON stumble over."""


def entry(name: str, **fields: object) -> dict[str, Any]:
    known = {"filename": name, "url": f"../../files/{name}", "hashes": {"sha256": DIGEST}, "size": 5, "upload-time": AT}
    return {**known, **{field.replace("_", "-"): value for field, value in fields.items()}}


def body(*files: object, **fields: object) -> bytes:
    document = {"meta": {"api-version": "1.1", "_last-serial": 7}, "name": "thing", "versions": ["1.0"], "files": files}
    return json.dumps(document | {name.replace("_", "-"): value for name, value in fields.items()}).encode()


def read(*files: object, **fields: object) -> Page:
    page = parse(body(*files, **fields), JSON, URL)
    assert isinstance(page, Page)
    return page


def odd(field: str, value: object) -> tuple[Page, File | None]:
    """The page with such an entry beside a good one, and the file that was made of it."""
    page = read(entry(GOOD), entry(ODD, **{field: value}))
    assert page.files[0] == File(GOOD, f"https://example.com/files/{GOOD}", {"sha256": DIGEST}, size=5, upload_time=AT)
    assert page.versions == ("1.0",)
    assert page.serial == 7
    return page, page.files[1] if len(page.files) > 1 else None


RIGHT: dict[str, list[str]] = {
    "requires-python": ["''", "'x'"],
    "size": ["0", "5"],
    "upload-time": ["''"],
    "yanked": ["True", "False", "''", "'x'"],
    "core-metadata": ["True", "False", "{}"],
    "dist-info-metadata": ["True", "False", "{}"],
    "gpg-sig": ["True", "False"],
    "provenance": ["''"],
    "hashes": ["{}"],
}
"""The optional fields of a file, and which of `WRONG` are right for each."""


@pytest.mark.parametrize("field", RIGHT)
@pytest.mark.parametrize("value", WRONG, ids=lambda value: repr(value)[:20])
def test_a_field_that_cannot_be_read_is_absent(field: str, value: object) -> None:
    page, file = odd(field, value)
    assert file is not None
    name = {"dist-info-metadata": "core_metadata"}.get(field, field.replace("-", "_"))
    if repr(value) in RIGHT[field]:
        assert page.unread is None
    else:
        assert page.unread == Unread(fields={ODD: (name,)})
        plain = odd(field, None)[1]
        assert file == plain or (name == "core_metadata" and file.core_metadata is None)
        assert odd(field, None)[0].unread is None


@pytest.mark.parametrize(
    ("field", "value", "read"),
    [
        ("hashes", {"sha256": None, "md5": "ab"}, {"md5": "ab"}),
        ("hashes", {"sha256": 5}, {}),
        ("hashes", {"sha256": "xyz"}, {}),
        ("hashes", {"sha256": DIGEST, "blake2b_256": None}, {"sha256": DIGEST}),
        ("hashes", {"sha256": [DIGEST], "\ud800": "ab"}, {}),
        ("core-metadata", {"sha256": None}, None),
        ("core-metadata", {"sha256": DIGEST, "md5": 5}, {"sha256": DIGEST}),
        ("size", "12", None),
        ("size", 2**63, None),
        ("yanked", [], False),
        ("yanked", ["reason"], False),
        ("gpg-sig", "false", None),
        ("provenance", {}, None),
        ("provenance", "javascript:x", None),
        ("upload-time", "yesterday", None),
        ("upload-time", 1704164645, None),
    ],
)
def test_what_can_be_read_of_a_field_is_kept(field: str, value: object, read: object) -> None:
    page, file = odd(field, value)
    name = field.replace("-", "_")
    assert getattr(file, name) == read
    assert page.unread == Unread(fields={ODD: (name,)})


@pytest.mark.parametrize(
    ("link", "to"),
    [
        ("https://TOKEN@files.example/a/x.whl", "https://files.example/a/x.whl"),
        ("https://user:pa55@files.example:8443/x.whl?a=b@c", "https://files.example:8443/x.whl?a=b@c"),
        ("//user@files.example/x.whl", "https://files.example/x.whl"),
        ("https://a%40b:c%3Ad@files.example/x.whl", "https://files.example/x.whl"),
        ("https://a@b@files.example/x.whl", "https://files.example/x.whl"),
        ("  https://files.example/a b.whl\t\n", "https://files.example/a%20b.whl"),
        ("https://files.example/@scope/x.whl", "https://files.example/@scope/x.whl"),
        ("x@y.whl", f"{URL}x@y.whl"),
    ],
)
def test_user_info_and_white_space_are_taken_out_of_links(link: str, to: str) -> None:
    page = read(entry(ODD, url=link, provenance=link), meta={"tracks": [link]}, alternate_locations=[link])
    assert [file.url for file in page.files] == [to]
    assert "pa55" not in repr(page)
    assert "TOKEN" not in repr(page)
    html = parse(f'<a href="{link}">x</a><a href="{GOOD}">y</a>'.encode(), "text/html", URL)
    assert isinstance(html, Page)
    assert html.files[0].url == to


UNUSABLE: list[object] = [
    None, 5, "x", [], {}, {"filename": None, "url": None}, {"url": 5}, {"filename": {}, "url": "\ud800.whl"},
]  # fmt: skip


@pytest.mark.parametrize("item", UNUSABLE, ids=repr)
def test_an_entry_without_a_name_is_left_out_and_could_be_any_file(item: object) -> None:
    page = read(entry(GOOD), item)
    assert [file.filename for file in page.files] == [GOOD]
    assert page.unread is not None
    assert page.unread.nameless


NO_LINKS: list[object] = [None, 5, [], {}, "", "\ud800", "#x", "javascript:x", "data:,x"]


@pytest.mark.parametrize(
    "item",
    [
        *({"filename": ODD, "url": url} for url in NO_LINKS),
        *(
            {"filename": ODD, "url": url}
            for url in (
                "https://h:99999/x",
                "https://h:0/x",
                "https://h:x/x",
                "http://[::1/x",
                "ftp://h/x",
                "http://",
            )
        ),
        {"filename": ODD},
        {"url": f"https://h/{ODD}#sha256={DIGEST}"},
        {"filename": 5, "url": f"https://h/{ODD}?x=/y"},
    ],
    ids=repr,
)
def test_an_entry_that_cannot_be_used_is_left_out_by_its_name(item: object) -> None:
    page = read(entry(GOOD), item)
    assert [file.filename for file in page.files] == [GOOD]
    assert page.unread == Unread(frozenset([ODD]))


@pytest.mark.parametrize("value", WRONG, ids=lambda value: repr(value)[:20])
@pytest.mark.parametrize("field", ["meta", "name", "versions", "project-status", "alternate-locations", "extra"])
def test_a_field_of_the_page_that_cannot_be_read_is_absent(field: str, value: object) -> None:
    page = read(entry(GOOD), **{field: value})
    assert [file.filename for file in page.files] == [GOOD]
    assert isinstance(page.name, str)
    assert all(isinstance(text, str) for text in (*(page.versions or ()), *page.tracks, *page.alternate_locations))


@pytest.mark.parametrize(
    ("fields", "attribute", "read_as"),
    [
        ({"versions": [None, "1.0", 5, "2.0"]}, "versions", ("1.0", "2.0")),
        ({"versions": "1.0"}, "versions", None),
        ({"alternate_locations": ["https://h/", None]}, "alternate_locations", ("https://h/",)),
        ({"project_status": {"status": 5, "reason": "why"}}, "status", ProjectStatus("active", "why")),
        ({"project_status": "archived"}, "status", None),
        ({"meta": {"api-version": 1.0, "_last-serial": 7}}, "serial", 7),
        ({"meta": {"api-version": 1, "_last-serial": "8"}}, "serial", 8),
        ({"meta": {"api-version": [], "_last-serial": "8"}}, "serial", 8),
        ({"meta": {"_last-serial": [8]}}, "serial", None),
        ({"meta": {"_last-serial": 10**30}}, "serial", None),
        ({"meta": {"tracks": "https://h/"}}, "tracks", ()),
        ({"meta": {"tracks": [5, "https://h/"]}}, "tracks", ("https://h/",)),
        ({"name": 5}, "name", "thing"),
    ],
)
def test_what_can_be_read_of_the_page_is_kept(fields: dict[str, object], attribute: str, read_as: object) -> None:
    assert getattr(read(entry(GOOD), **fields), attribute) == read_as


@pytest.mark.parametrize(
    "broken",
    [
        body(5), body(None, [], {}), body({"filename": "x"}), body(files={}), body(files="x"), body(files=5),
        body(meta={"api-version": "2.0"}), body(meta={"api-version": 2.0}), body(meta={"api-version": 2}),
        body(files=None), b"[]", b"5", b"null", b'{"projects": [5, {}]}', b'{"projects": 5}', body()[:-1],
    ],
)  # fmt: skip
def test_a_page_of_which_nothing_can_be_read_is_none(broken: bytes) -> None:
    """An empty page in its place would be frozen."""
    with pytest.raises(BadPage):
        parse(broken, JSON, URL)


def test_a_name_on_a_list_that_cannot_be_read_is_left_out() -> None:
    projects = [
        {"name": "a"},
        {"name": None},
        {"name": 5},
        "b",
        None,
        {"name": "c", "_last-serial": "x"},
        {"name": "../d"},
    ]
    assert parse(json.dumps({"projects": projects}).encode(), JSON, URL) == ProjectList(("a", "c"), unread=True)
    assert parse(b'{"projects": [{"name": "a"}, {"name": "../d"}]}', JSON, URL) == ProjectList(("a",))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = ["filename", "url", *RIGHT]


@given(st.dictionaries(st.sampled_from(FIELDS), json_values))
def test_any_entry_costs_no_other(fields: dict[str, object]) -> None:
    page = read(entry(GOOD), {**entry(ODD), **fields})
    assert page.files[0].filename == GOOD
    assert page.versions == ("1.0",)


# --- HTML


@pytest.mark.parametrize(
    ("attributes", "field", "value"),
    [
        ("data-yanked", "yanked", True),
        ('data-yanked=""', "yanked", True),
        ('data-yanked="false"', "yanked", "false"),
        ("DATA-YANKED=why", "yanked", "why"),
        ('data-gpg-sig="yes"', "gpg_sig", None),
        ('data-gpg-sig="TRUE"', "gpg_sig", None),
        ('data-core-metadata="sha256=xyz"', "core_metadata", True),
        ('data-core-metadata="="', "core_metadata", True),
        ('data-provenance="javascript:x"', "provenance", None),
        ('data-provenance="https://user:pa55@h/p"', "provenance", "https://h/p"),
        ('data-requires-python=""', "requires_python", None),
        ('data-upload-time="soon"', "upload_time", None),
        ('data-upload-time=""', "upload_time", None),
        (f'data-upload-time="{AT}"', "upload_time", AT),
        ('title="x" title="y" onclick="z" =""', "yanked", False),
    ],
)
def test_odd_attributes(attributes: str, field: str, value: object) -> None:
    page = parse(f'<a href="{GOOD}">x</a><a {attributes} href="{ODD}">y</a>'.encode(), "text/html", URL)
    assert isinstance(page, Page)
    assert [file.filename for file in page.files] == [GOOD, ODD]
    assert getattr(page.files[1], field) == value


@pytest.mark.parametrize(
    "anchor",
    [
        f'<a href="https://h:99999/{ODD}">x</a>',
        f'<a href="https://h:x/{ODD}">x</a>',
        f'<a href="http://[::1/{ODD}">x</a>',
        f'<a href="ftp://h/{ODD}">x</a>',
        f'<a href="javascript:x">{ODD}</a>',
        f'<a href="javascript:{ODD}">{ODD}</a>',
        f'<a href="">{ODD}</a>',
        f"<a>{ODD}</a>",
        f'<a href="   "> {ODD} </a>',
    ],
)
def test_a_link_that_leads_nowhere_is_left_out_by_its_name(anchor: str) -> None:
    page = parse(f'<a href="{GOOD}">x</a>{anchor}'.encode(), "text/html", URL)
    assert isinstance(page, Page)
    assert [file.filename for file in page.files] == [GOOD]
    assert page.unread == Unread(frozenset([ODD]))


LISTING = '<title>Index of /simple/thing/</title><a href="?C=N;O=D">Name</a><a href="../">../</a>'


@pytest.mark.parametrize(
    "markup",
    [
        LISTING,
        f'{LISTING}<a href="1.0/">1.0/</a><a href="old/">old/</a>',
        f'{LISTING}<a href="README">README</a>',
        "<h1>Directory listing for /x/</h1><a href=old/>old/</a>",
        f'<a href="{ODD}.asc">{ODD}.asc</a>',
        f'<a href="{ODD}.metadata">{ODD}.metadata</a><a href="old/">old</a>',
        f'<a href="{GOOD}.sig">x</a><a href="{GOOD}.sha256">y</a>',
        f'<a href="https://h:99999/{ODD}">{ODD}</a><a href="old/">old</a>',
        "Links for thing",
    ],
)
@pytest.mark.parametrize("asked", [None, Page])
def test_a_page_without_files_is_no_list_of_projects(markup: str, asked: type[Page] | None) -> None:
    page = parse(markup.encode(), "text/html", URL, asked)
    assert isinstance(page, Page)
    assert page.files == ()


@pytest.mark.parametrize(
    "markup",
    [
        "<title>Sign in</title><a href=/help>Help</a><a href=/login>Login</a>",
        "<h1>Down</h1><a href='mailto:x@example.com'>mail</a>",
        "",
    ],
)
def test_a_page_that_shows_nothing_of_an_index_is_not_a_project_without_files(markup: str) -> None:
    with pytest.raises(BadPage):
        parse(f"<html>{markup}".encode(), "text/html", URL, Page)


@pytest.mark.parametrize(
    ("anchor", "name"),
    [
        ('<a href="a-very-long-name-of-a-project/">a-very-long-name-of..&gt;</a>', "a-very-long-name-of-a-project"),
        ('<a href="a-very-long-name/">a-very-long…</a>', "a-very-long-name"),
        ('<a href="a-very-long-name/">a-very-...</a>', "a-very-long-name"),
        ('<a href="x/index.html">x</a>', "x"),
        ('<a href="https://example.com/simple/x/index.html#top">x</a>', "x"),
        ('<a href="x.y/?a=b">X.Y</a>', "X.Y"),
        ('<a href="x%2Ey/">x.y</a>', "x.y"),
        ('<a href="/simple/right/">wrong</a>', "right"),
        ('<a href="/simple/x">x</a>', "x"),
        ('<a href="zip.zip/">zip.zip</a>', "zip.zip"),
        ('<a href="sim">sim</a>', "sim"),
        ('<a href="../">x</a>', None),
        ('<a href="/">x</a>', None),
        ('<a href="./">x</a>', None),
        ('<a href="index.html">x</a>', None),
        ('<a href="?C=N">Name</a>', None),
        ('<a href="#x">x</a>', None),
        ('<a href="help/">Read this first</a>', None),
        ('<a href="mailto:x">x</a>', None),
        ('<a href="https://h:99999/x/">x</a>', None),
    ],
)
def test_names_on_a_list_are_those_of_the_links(anchor: str, name: str | None) -> None:
    listing = f'<title>Index of /simple/</title><a href="other/">other/</a>{anchor}'
    found = parse(listing.encode(), "text/html", "https://example.com/simple/", ProjectList)
    assert found == ProjectList(("other", name) if name else ("other",))


# --- what is not read is not gone


def times(*pages: Page | None) -> History:
    """A history of these observations, a second apart."""
    history = History()
    for number, page in enumerate(pages):
        history.extend(history.observe(Observation(2_000_000_000_000_000 + number * 1_000_000, page)))
    return history


FULL: dict[str, Any] = {
    "requires-python": ">=3.7", "yanked": "why", "gpg-sig": True, "provenance": "https://h/p",
    "core-metadata": {"sha256": OTHER},
}  # fmt: skip


@pytest.mark.parametrize("field", [*RIGHT, "url", "filename"])
@pytest.mark.parametrize("value", [{"x": {}}, [[]], 0.5])
def test_a_field_that_cannot_be_read_any_more_keeps_its_value(field: str, value: object) -> None:
    whole = read(entry(GOOD), entry(ODD, **FULL))
    history = times(whole, read(entry(GOOD), {**entry(ODD, **FULL), field: value}))
    assert history.missing() == []
    latest = history.latest()
    assert latest is not None
    assert latest.files == whole.files
    assert not times(whole, whole).observe(Observation(3_000_000_000_000_000, read(entry(GOOD), entry(ODD)))).missed


def test_other_fields_are_read_beside_one_that_cannot_be() -> None:
    """A registry whose `gpg-sig` is always odd still yanks, and still deletes."""
    first, second = (entry(ODD, gpg_sig="false", yanked=yanked) for yanked in (False, "broken"))
    latest = times(read(entry(GOOD), first), read(second)).latest()
    assert latest is not None
    assert [(file.filename, file.yanked) for file in latest.files] == [(ODD, "broken")]


@pytest.mark.parametrize("item", UNUSABLE, ids=repr)
def test_behind_an_entry_without_a_name_nothing_is_gone(item: object) -> None:
    whole = read(entry(GOOD), entry(ODD))
    history = times(whole, read(entry(GOOD), item))
    assert history.missing() == []
    history.extend(history.observe(Observation(2_100_000_000_000_000, read(entry(GOOD)))))
    assert [missing.file.filename for missing in history.missing()] == [ODD]


def test_content_that_was_replaced_is_seen_though_a_digest_cannot_be_read() -> None:
    replaced = entry(ODD, hashes={"sha256": OTHER, "md5": None})
    history = times(read(entry(ODD)), read(replaced))
    assert [missing.file.hashes for missing in history.missing()] == [{"sha256": DIGEST}]


@pytest.mark.parametrize("status", [5, "archived", {"status": 5}, {"status": []}])
def test_a_status_that_cannot_be_read_keeps_its_value(status: object) -> None:
    known = {"status": "quarantined", "reason": "malware"}
    history = times(read(entry(ODD), project_status=known), read(entry(ODD), project_status=status))
    assert history.status == ProjectStatus("quarantined", "malware")
    assert times(read(entry(ODD), project_status=known), read(entry(ODD))).status is None


# --- the real server


def test_a_file_whose_entry_cannot_be_read_stays_at_every_date(
    mirror: Callable[..., Mirror], upstream: Upstream
) -> None:
    first, second = entry("thing-1.0.tar.gz"), entry("thing-2.0.tar.gz", hashes={"sha256": OTHER})
    upstream.pages["/simple/thing/"] = json_page(
        {"meta": {"api-version": "1.1"}, "name": "thing", "files": [first, second]}
    )
    running = mirror(pypi_upstream=f"{upstream.url}/simple/")
    both = ["thing-1.0.tar.gz", "thing-2.0.tar.gz"]
    assert filenames(running.at("live/thing")) == both
    for broken in ({**second, "url": 5}, {**second, "hashes": 5, "size": "x"}, None):
        upstream.pages["/simple/thing/"] = json_page({"name": "thing", "files": [first, broken]})
        assert filenames(running.at("live/thing")) == both
        assert document(running.at(f"{instant()}/thing"))["files"] == document(running.at("live/thing"))["files"]
    upstream.pages["/simple/thing/"] = json_page({"name": "thing", "files": [first]})
    assert filenames(running.at("live/thing")) == both[:1]


ODDITIES: dict[str, dict[str, object]] = {
    "gpg-sig": {"gpg_sig": "false"},
    "size": {"size": "12"},
    "provenance": {"provenance": {}},
    "yanked": {"yanked": []},
    "null hash": {"hashes": {"sha256": None}},
    "time": {"upload_time": "2024-01-02 03:04:05"},
    "white space": {"white space": True},
    "user info": {"user info": True},
}
PAGES: dict[str, dict[str, object]] = {
    "api-version": {"meta": {"api-version": 1.0}},
    "versions": {"versions": [None]},
    "status": {"project-status": "archived"},
    "no url": {},
    "null": {},
}


@pytest.fixture(scope="module")
def odd_pages() -> Iterator[tuple[Upstream, Dist]]:
    """A registry with a project for each oddity; each has the same wheel."""
    dist = wheel("thing", "1.0")
    with Upstream(ranges=True) as upstream:
        upstream.pages[f"/files/{dist.filename}"] = Response(dist.data, 200, {})
        for name in (*ODDITIES, *PAGES):
            fields = dict(ODDITIES.get(name, {}))
            file = entry(dist.filename, hashes={"sha256": dist.sha256}, size=len(dist.data))
            file["url"] = f"{upstream.url}/files/{dist.filename}"
            if fields.pop("white space", False):
                file["url"] = f" {file['url']}\n"
            if fields.pop("user info", False):
                file["url"] = file["url"].replace("://", "://TOKEN@")
            file |= {field.replace("_", "-"): value for field, value in fields.items()}
            unusual: dict[str, list[object]] = {"no url": [{"filename": "thing-2.0.tar.gz"}], "null": [None]}
            page = {
                "meta": {"api-version": "1.1"},
                "name": "thing",
                "files": [file, *unusual.get(name, [])],
                **PAGES.get(name, {}),
            }
            upstream.pages[f"/{name.replace(' ', '-')}/thing/"] = json_page(page)
        yield upstream, dist


@pytest.mark.parametrize("name", [*ODDITIES, *PAGES])
def test_uv_installs_behind_a_pin(
    name: str, odd_pages: tuple[Upstream, Dist], server: Mirror, pin: str, clients: Clients
) -> None:
    upstream, dist = odd_pages
    index = server.pin(pin, f"{upstream.url}/{name.replace(' ', '-')}/")
    assert clients.uv_compile(index, ["thing"]) == pins(dist)
    assert "TOKEN" not in json.dumps(document(f"{index}thing/"))


def test_pip_installs_behind_a_pin(
    odd_pages: tuple[Upstream, Dist], server: Mirror, pin: str, clients: Clients
) -> None:
    upstream, dist = odd_pages
    for name in ("yanked", "null"):
        assert clients.pip_install(server.pin(f"{name}{pin}", f"{upstream.url}/{name}/"), ["thing"]) == pins(dist)

"""The dated and live indexes and their files over plain HTTP: the real server in front of a PyPI that changes."""

from __future__ import annotations

import gzip
import hashlib
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, unquote

import httpx
import pytest

from tests.support import http
from tests.support.index import (
    BROWSER,
    PIP,
    POETRY,
    UV,
    ago,
    ask,
    document,
    filenames,
    hrefs,
    html_page,
    instant,
    json_file,
    json_files,
    json_page,
    shared_pypi,
)
from tests.support.mirror import Mirror
from tests.support.packages import Dist, sdist, wheel
from tests.support.registries import HTML, JSON, PyPI
from tests.support.upstream import Request, Response, Upstream

DATE = "2024-01-02"
BEFORE = "2024-01-01T12:00:00Z"
THING = wheel("Some.Thing", "1.0")
LATER = wheel("some-thing", "1.1")
PAGE = f"/{DATE}/some-thing/"
SIMPLE = "/simple/some-thing/"
LEGACY = "text/html"
_projects = itertools.count()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PyPI, Mirror]]:
    with shared_pypi(tmp_path_factory.mktemp("shared")) as both:
        yield both


@pytest.fixture
def project() -> str:
    """A name that no other test uses."""
    return f"project-{next(_projects)}"


@pytest.fixture
def filled(pypi: PyPI) -> PyPI:
    pypi.upload(THING, BEFORE)
    return pypi


def link(dist: Dist) -> str:
    """The address of a file below the mirror's."""
    return f"/files/{dist.name}/{dist.sha256}/{quote(dist.filename, safe='')}"


def observed(server: Mirror, project: str = "some-thing") -> str:
    """The instant after an observation: what it showed is how the project stood then."""
    ask(server.at("live") + f"{project}/")
    return instant()


# --- forms and validators


FORMS = {
    PIP: JSON,
    UV: JSON,
    POETRY: JSON,
    BROWSER: LEGACY,
    "*/*": LEGACY,
    "text/html": LEGACY,
    "text/*": LEGACY,
    "application/*": JSON,
    HTML: HTML,
    JSON.upper(): JSON,
    JSON.replace("v1", "latest"): JSON,
    HTML.replace("v1", "latest"): HTML,
    f"{JSON};q=0, */*": LEGACY,
    f"{JSON};q=0.1, {HTML};q=0.2": HTML,
    f"{LEGACY};q=0, {HTML};q=0, */*;q=0.1": JSON,
    "application/json": None,
    JSON.replace("v1", "v2"): None,
    f"{JSON};q=0": None,
    "*/*;q=0": None,
}


@pytest.mark.parametrize(("where", "upstream_form"), [(DATE, "JSON"), ("live", "JSON"), ("live", "HTML")])
def test_the_form_that_is_asked_for(
    where: str, upstream_form: str, filled: PyPI, mirror: Callable[..., Mirror]
) -> None:
    """PEP 691, whatever form the upstream has. Nothing that fits is a 406 that names what could be had."""
    if upstream_form == "HTML":
        filled.index.pages[SIMPLE] = html_page(f"{filled.file_url(THING)}#sha256={THING.sha256}")
    address = mirror(filled).at(where) + "some-thing/"
    answers = {accept: ask(address, accept) for accept in FORMS}
    found = {accept: answer.headers["content-type"].partition(";")[0] for accept, answer in answers.items()}
    assert found == {accept: form or "text/plain" for accept, form in FORMS.items()}
    for accept, answer in answers.items():
        assert answer.status_code == (200 if FORMS[accept] else 406), accept
        if FORMS[accept] is None:
            assert JSON in answer.text
            continue
        assert answer.headers["vary"] == "Accept, Accept-Encoding"
        if FORMS[accept] == JSON:
            assert [file["filename"] for file in answer.json()["files"]] == [THING.filename]
            assert answer.json()["files"][0]["url"] == link(THING)
        else:
            assert "charset=utf-8" in answer.headers["content-type"]
            assert hrefs(answer.content) == [f"{link(THING)}#sha256={THING.sha256}"]
    assert http.get(address, headers={"Accept": ""}).headers["content-type"].startswith(LEGACY)


@pytest.mark.parametrize(
    ("where", "caching"),
    [(DATE, "public, max-age=31536000, immutable"), ("live", "public, max-age=60"), ("live-3d", "public, max-age=60")],
)
def test_validators_and_caching(where: str, caching: str, filled: PyPI, mirror: Callable[..., Mirror]) -> None:
    address = mirror(filled).at(where) + "some-thing/"
    tags = {}
    for accept in (JSON, HTML, LEGACY):
        page = ask(address, accept)
        tags[accept] = page.headers["etag"]
        assert page.headers["cache-control"] == caching
        head = http.head(address, headers={"Accept": accept})
        assert (head.status_code, head.content) == (200, b"")
        for name in ("content-type", "content-length", "etag", "vary", "cache-control"):
            assert head.headers[name] == page.headers[name], name
        for method in ("GET", "HEAD"):
            same = http.request(method, address, headers={"Accept": accept, "If-None-Match": page.headers["etag"]})
            assert (same.status_code, same.content) == (304, b"")
            for name in ("etag", "vary", "cache-control"):  # RFC 9110 section 15.4.5
                assert same.headers[name] == page.headers[name], name
        other = ask(address, accept, **{"If-None-Match": '"other"'})
        assert (other.status_code, other.content) == (200, page.content)
    assert tags[JSON] != tags[HTML]
    assert ask(address, JSON, **{"If-None-Match": tags[HTML]}).status_code == 200


def test_the_tag_of_a_live_page_changes_with_it(filled: PyPI, mirror: Callable[..., Mirror]) -> None:
    address = mirror(filled).at("live") + "some-thing/"
    tag = ask(address).headers["etag"]
    assert ask(address, **{"If-None-Match": tag}).status_code == 304
    filled.upload(LATER, ago(hours=1))
    changed = ask(address, **{"If-None-Match": tag})
    assert changed.status_code == 200
    assert len(changed.json()["files"]) == 2


# --- addresses


REDIRECTS = {
    f"/{DATE}/Some.Thing": f"/{DATE}/some-thing/",
    f"/{DATE}/Some.Thing/": f"/{DATE}/some-thing/",
    f"/{DATE}/some-thing": f"/{DATE}/some-thing/",
    f"/{DATE}/some__-.thing/": f"/{DATE}/some-thing/",
    f"/{DATE}/S%6Fme%2EThing/": f"/{DATE}/some-thing/",
    "/live/Some_Thing": "/live/some-thing/",
    "/live-7d/Some_Thing": "/live-7d/some-thing/",
    "/2024-01-02T15:30:00Z/Some_Thing/": "/2024-01-02T15:30:00Z/some-thing/",
    "/2024-01-02T15%3A30%3A00Z/Some_Thing/": "/2024-01-02T15%3A30%3A00Z/some-thing/",
}


@pytest.mark.parametrize("root", ["", "/prefix"])
def test_names_are_normalised_by_a_temporary_redirect(root: str, filled: PyPI, mirror: Callable[..., Mirror]) -> None:
    """The redirect is path-absolute, temporary, and asks no upstream."""
    server = mirror(filled, *(["--root-path", root] if root else []))
    for path, location in REDIRECTS.items():
        for method in ("GET", "HEAD"):
            answer = http.request(method, server.url + root + path)
            assert answer.status_code in (302, 307), path
            assert answer.headers["location"] == root + location, path
            assert "immutable" not in answer.headers["cache-control"], path
    assert filled.index.count() == 0
    assert ask(f"{server.url}{root}/{DATE}/some-thing/").status_code == 200


@pytest.mark.parametrize("stripped", [True, False])
def test_a_root_path(
    stripped: bool, filled: PyPI, upstreams: Callable[..., Upstream], mirror: Callable[..., Mirror]
) -> None:
    """Behind a proxy that strips the prefix and behind one that does not: the links have it."""
    server = mirror(filled, "--root-path", "/prefix", *(["--root-path-stripped"] if stripped else []))
    other = upstreams()
    other.pages["/simple/thing/"] = html_page("thing-1.0.tar.gz")
    pinned = f"/pinned-{DATE}/{other.url}/simple/thing/"
    front = server.url + ("" if stripped else "/prefix")
    assert document(f"{front}{PAGE}")["files"][0]["url"] == f"/prefix{link(THING)}"
    assert hrefs(ask(f"{front}{PAGE}", HTML).content) == [f"/prefix{link(THING)}#sha256={THING.sha256}"]
    assert http.get(f"{front}{link(THING)}").content == THING.data
    assert http.get(f"{front}{link(THING)}.metadata").content == THING.metadata
    assert hrefs(ask(f"{front}/{DATE}/", HTML).content) == [f"/prefix/{DATE}/some-thing/"]
    assert hrefs(ask(f"{front}{pinned}", HTML).content) == [f"/prefix{pinned}thing-1.0.tar.gz"]


@pytest.mark.parametrize(
    "path",
    [
        f"/{DATE}/some-thing/more/",
        f"/{DATE}/-thing/",
        f"/{DATE}/some%2Fthing/",
        f"/{DATE}/%2e%2e/",
        f"/{DATE}/some%20thing/",
        f"/{DATE}/sömething/",
        "/live/some-thing/1.0/json",
    ],
)
def test_no_such_page(path: str, server: Mirror) -> None:
    assert ask(server.url + path).status_code == 404


def tomorrow(form: str) -> str:
    return (datetime.now(UTC) + timedelta(days=1)).strftime(form)


@pytest.mark.parametrize(
    "segment",
    [
        "2024-02-30",
        "2023-02-29",
        "2024-13-01",
        "2024-00-10",
        "0000-01-01",
        "2024-1-2",
        "2024-01-2",
        "2024-01-02T15:30:00",
        "2024-01-02T15:30:00+00:00",
        "2024-01-02T25:30:00Z",
        "2024-02-30T15:30:00Z",
        "2024-01-02t15:30:00z",
        "2024-01-02%2015:30:00Z",
        "2024-01-02T",
        "2024-01-02Tfoo/bar",
    ],
)
def test_what_is_no_date(segment: str, server: Mirror) -> None:
    """400, with a text that says how to write it."""
    for rest in ("", "/", "/some-thing/", "/some-thing"):
        answer = ask(f"{server.url}/{segment}{rest}")
        assert answer.status_code == 400, (rest, answer.text)
        assert DATE in answer.text or "YYYY" in answer.text


@pytest.mark.parametrize("form", ["%Y-%m-%d", "%Y-%m-%dT00:00:00Z", "%Y-%m-%dT%H%%3A%M%%3A%SZ"])
def test_the_future(form: str, server: Mirror) -> None:
    """400, with a text that names the newest date."""
    for segment in (tomorrow(form), tomorrow(form).replace(str(datetime.now(UTC).year), "9999")):
        days = {datetime.now(UTC).date().isoformat()}
        answer = ask(f"{server.url}/{segment}/some-thing/")
        days.add(datetime.now(UTC).date().isoformat())
        assert answer.status_code == 400
        assert any(day in answer.text for day in days), answer.text


def test_dates_and_instants(filled: PyPI, mirror: Callable[..., Mirror]) -> None:
    """A date is its 00:00:00 UTC; an instant is exact, and says the same in every quoting."""
    filled.upload(LATER, "2024-01-02T15:30:00Z")
    server = mirror(filled)
    both = sorted([THING.filename, LATER.filename])
    expected = {
        "2024-01-01": [],
        "2024-01-01T11:59:59Z": [],
        "2024-01-01T12:00:01Z": [THING.filename],
        "2024-01-02": [THING.filename],
        "2024-01-02T15:29:59.999999Z": [THING.filename],
        "2024-01-02T15:30:01Z": both,
        "2024-01-02T15%3A30%3A01Z": both,
        "2024-01-02T15%3a30%3a01Z": both,
        "2024-01-03": both,
        datetime.now(UTC).date().isoformat(): both,
        instant(): both,
    }
    assert {when: filenames(f"{server.url}/{when}/some-thing/") for when in expected} == expected


# --- what is passed on


def everything(files: str) -> dict[str, object]:
    """A page with all that the rules have, of two files."""
    return {
        "meta": {"api-version": "1.4", "_last-serial": 7, "tracks": ["https://example.org/simple/thing/"]},
        "name": "Thing",
        "alternate-locations": ["https://example.com/simple/thing/"],
        "project-status": {"status": "archived", "reason": "done & over"},
        "versions": ["0.9", "1.0", "1.1"],
        "x-unknown": {"of": "later rules"},
        "files": [
            {
                "filename": "thing-1.0-py3-none-any.whl",
                "url": f"{files}/thing-1.0-py3-none-any.whl",
                "hashes": {"sha256": "ab" * 32, "blake2b_256": "cd" * 32},
                "requires-python": ">=3.8, <4",
                "size": 123,
                "upload-time": "2024-01-01T00:00:00.123456Z",
                "yanked": "bad <build>",
                "core-metadata": {"sha256": "ef" * 32},
                "dist-info-metadata": {"sha256": "ef" * 32},
                "provenance": "https://example.org/provenance.json",
                "gpg-sig": False,
            },
            {
                "filename": "thing-1.1.tar.gz",
                "url": f"{files}/thing-1.1.tar.gz",
                "hashes": {"sha256": "12" * 32},
                "requires-python": None,
                "size": 456,
                "upload-time": "2024-01-03T00:00:00.000000Z",
                "yanked": False,
                "core-metadata": False,
            },
        ],
    }


def test_all_that_the_rules_have_is_passed_on(pypi: PyPI, mirror: Callable[..., Mirror]) -> None:
    """PEP 592, 629, 658, 691, 700, 708, 740, 792; versions are those of the files that are listed."""
    pypi.index.pages["/simple/thing/"] = json_page(everything(pypi.files.url))
    server = mirror(pypi)
    first = {
        "filename": "thing-1.0-py3-none-any.whl",
        "url": f"/files/thing/{'ab' * 32}/thing-1.0-py3-none-any.whl",
        "hashes": {"sha256": "ab" * 32, "blake2b_256": "cd" * 32},
        "requires-python": ">=3.8, <4",
        "size": 123,
        "upload-time": "2024-01-01T00:00:00.123456Z",
        "yanked": "bad <build>",
        "core-metadata": {"sha256": "ef" * 32},
        "provenance": "https://example.org/provenance.json",
        "gpg-sig": False,
    }
    second = {
        "filename": "thing-1.1.tar.gz",
        "url": f"/files/thing/{'12' * 32}/thing-1.1.tar.gz",
        "hashes": {"sha256": "12" * 32},
        "size": 456,
        "upload-time": "2024-01-03T00:00:00.000000Z",
    }
    whole = {
        "meta": {"api-version": "1.4", "tracks": ["https://example.org/simple/thing/"]},
        "name": "thing",
        "alternate-locations": ["https://example.com/simple/thing/"],
        "project-status": {"status": "archived", "reason": "done & over"},
    }
    assert document(server.at("2024-01-02") + "thing/") == whole | {"versions": ["1.0"], "files": [first]}
    both = whole | {"versions": ["1.0", "1.1"], "files": [first, second]}
    assert document(server.at("2024-01-04") + "thing/") == document(server.at("live") + "thing/") == both
    page = ask(server.at("2024-01-04") + "thing/", HTML).text
    for said in (
        '<meta name="pypi:repository-version" content="1.4">',
        '<meta name="pypi:tracks" content="https://example.org/simple/thing/">',
        '<meta name="pypi:alternate-locations" content="https://example.com/simple/thing/">',
        '<meta name="pypi:project-status" content="archived">',
        '<meta name="pypi:project-status-reason" content="done &amp; over">',
        'data-yanked="bad &lt;build&gt;"',
        'data-requires-python="&gt;=3.8, &lt;4"',
        f'data-core-metadata="sha256={"ef" * 32}"',
        f'data-dist-info-metadata="sha256={"ef" * 32}"',
        'data-provenance="https://example.org/provenance.json"',
    ):
        assert said in page, said
    assert page.count("data-yanked") == page.count("data-core-metadata") == 1


@pytest.mark.parametrize("form", ["JSON", "HTML"])
def test_nothing_is_made_up(form: str, project: str, shared: tuple[PyPI, Mirror]) -> None:
    """What the upstream does not say is not on the page; but every wheel has metadata here, and no sdist has."""
    pypi, server = shared
    urls = [
        f"{pypi.files.url}/{project}-1.0.tar.gz",
        f"{pypi.files.url}/{project.replace('-', '_')}-1.0-py3-none-any.whl",
    ]
    page = json_page(json_files(*map(json_file, urls))) if form == "JSON" else html_page(*urls)
    pypi.index.pages[f"/simple/{project}/"] = page
    for when in ("live", observed(server, project)):
        found = document(server.at(when) + f"{project}/")
        assert found["meta"] == {"api-version": "1.0"}
        assert set(found) <= {"meta", "name", "files", "versions"}
        assert found.get("versions", ["1.0"]) == ["1.0"]
        for file, url, metadata in zip(found["files"], urls, [{}, {"core-metadata": True}], strict=True):
            assert file.pop("url").startswith(f"/files/{project}/id-")
            assert file == {"filename": url.rpartition("/")[2], "hashes": {}, **metadata}
    assert ask(server.at(DATE) + f"{project}/").status_code == 400  # nothing says what was there before


def test_a_gzipped_page(project: str, shared: tuple[PyPI, Mirror]) -> None:
    """Some servers compress though identity was asked for; through a pin that is understood."""
    pypi, server = shared
    body = gzip.compress(f'<a href="/{project}-1.0.tar.gz">a file</a>'.encode())
    headers = {"Content-Type": LEGACY, "Content-Encoding": "gzip"}
    pypi.index.pages[f"/simple/{project}/"] = Response(body, 200, headers)
    assert filenames(server.at("live") + f"{project}/") == [f"{project}-1.0.tar.gz"]


@pytest.mark.parametrize("coding", ["", "gzip", "br"])
def test_a_first_page_that_is_no_index_page(coding: str, project: str, shared: tuple[PyPI, Mirror]) -> None:
    """A maintenance page, or bytes that cannot be read, with status 200: taken for a page without files it would keep
    all files out of every earlier date for ever.
    """
    pypi, server = shared
    body = b"<!DOCTYPE html><html><body><h1>Down for maintenance</h1></body></html>"
    body = {"": body, "gzip": gzip.compress(body), "br": b"\x8b\x1e\x80\x03"}[coding]
    headers = {"Content-Type": LEGACY} | ({"Content-Encoding": coding} if coding else {})
    pypi.index.pages[f"/simple/{project}/"] = Response(body, 200, headers)
    assert ask(server.at(DATE) + f"{project}/").status_code == 502
    del pypi.index.pages[f"/simple/{project}/"]
    pypi.upload(wheel(project, "1.0"), BEFORE)
    assert len(filenames(server.at(DATE) + f"{project}/")) == 1


def test_links_are_relative_to_where_redirects_end(
    pypi: PyPI, upstreams: Callable[..., Upstream], mirror: Callable[..., Mirror]
) -> None:
    other = upstreams()
    pypi.index.pages["/simple/thing/"] = Response(b"", 302, {"Location": f"{other.url}/moved/thing/"})
    other.pages["/moved/thing/"] = html_page("../files/thing-1.0.tar.gz")
    other.pages["/moved/files/thing-1.0.tar.gz"] = b"the file"
    server = mirror(pypi)
    (file,) = document(server.at("live") + "thing/")["files"]
    assert http.get(server.same(file["url"])).content == b"the file"


# --- what an instant gave it gives for ever


def test_a_project_that_was_absent_stays_absent(pypi: PyPI, mirror: Callable[..., Mirror]) -> None:
    """It was not there at an instant that was asked for, so an upload with an older time does not put it there."""
    server = mirror(pypi)
    asked = instant()
    assert ask(server.at(DATE) + "some-thing/").status_code == 404
    assert ask(server.at(asked) + "some-thing/").status_code == 404
    pypi.upload(THING, BEFORE)
    after = observed(server)
    for when, names in {after: [THING.filename], "live": [THING.filename], asked: [], DATE: []}.items():
        assert filenames(server.at(when) + "some-thing/") == names, when
    server.restart("--offline")
    assert ask(server.at(DATE) + "some-thing/").status_code == 404
    assert filenames(server.at(after) + "some-thing/") == [THING.filename]


@pytest.mark.parametrize("whole", [False, True], ids=["a file", "the project"])
def test_what_is_deleted_was_there_before(whole: bool, filled: PyPI, mirror: Callable[..., Mirror]) -> None:
    filled.upload(LATER, BEFORE)
    server = mirror(filled)
    before = instant()
    with_it = ask(server.at(before) + "some-thing/").content
    filled.delete(LATER)
    if whole:
        filled.delete(THING)
    after = observed(server)
    left = [] if whole else [THING.filename]
    assert filenames(server.at(after) + "some-thing/") == filenames(server.at("live") + "some-thing/") == left
    assert ask(server.at(before) + "some-thing/").content == with_it
    assert sorted([THING.filename, LATER.filename]) == filenames(server.at(DATE) + "some-thing/")
    if not whole:
        assert document(server.at(after) + "some-thing/")["versions"] == ["1.0"]
    filled.upload(LATER, BEFORE)  # and comes back
    again = observed(server)
    assert LATER.filename in filenames(server.at(again) + "some-thing/")
    assert filenames(server.at(after) + "some-thing/") == left


def test_what_was_fetched_is_served_after_it_is_deleted(filled: PyPI, mirror: Callable[..., Mirror]) -> None:
    server = mirror(filled)
    ask(server.at(DATE) + "some-thing/")
    assert http.get(server.url + link(THING)).content == THING.data
    filled.delete(THING)
    assert filenames(server.at("live") + "some-thing/") == []
    assert http.get(server.url + link(THING)).content == THING.data
    assert http.get(server.url + link(THING) + ".metadata").content == THING.metadata


def test_yanks_and_status_are_as_of_the_instant(filled: PyPI, mirror: Callable[..., Mirror]) -> None:
    server = mirror(filled)
    moments = [instant()]
    pages = [document(server.at(moments[0]) + "some-thing/")]
    changes: tuple[Callable[[], object], ...] = (
        lambda: filled.yank(THING, "broken"),
        lambda: filled.set_status("some-thing", "archived", "done"),
        lambda: filled.yank(THING, False),
        lambda: filled.set_status("some-thing", "deprecated"),
    )
    for change in changes:
        change()
        moments.append(observed(server))
        pages.append(document(server.at(moments[-1]) + "some-thing/"))
    assert [page["files"][0].get("yanked", False) for page in pages] == [False, "broken", "broken", False, False]
    archived, deprecated = {"status": "archived", "reason": "done"}, {"status": "deprecated"}
    assert [page.get("project-status") for page in pages] == [None, None, archived, archived, deprecated]
    assert [document(server.at(when) + "some-thing/") for when in moments] == pages
    assert document(server.at(DATE) + "some-thing/") == pages[0]


def test_a_file_uploaded_again_with_other_bytes_is_another_file(filled: PyPI, mirror: Callable[..., Mirror]) -> None:
    server = mirror(filled)
    before = instant()
    (old,) = document(server.at(before) + "some-thing/")["files"]
    other = wheel("Some.Thing", "1.0", salt="other")
    filled.upload(other, BEFORE)
    after = observed(server)
    (new,) = document(server.at(after) + "some-thing/")["files"]
    assert (old["url"], new["url"]) == (link(THING), link(other))
    assert document(server.at(before) + "some-thing/")["files"] == [old]
    assert document(server.at(DATE) + "some-thing/")["files"] == [old]
    assert http.get(server.same(new["url"])).content == other.data


def test_every_answer_survives_a_restart(filled: PyPI, mirror: Callable[..., Mirror]) -> None:
    """Byte for byte, also when the upstream has changed, and without it."""
    server = mirror(filled)
    places = list(itertools.product([DATE, "2023-01-01", instant()], ["some-thing", "absent"], [JSON, HTML, LEGACY]))
    paths = {f"{server.at(when)}{name}/": accept for when, name, accept in places}

    def answers() -> list[tuple[int, bytes, str | None]]:
        found = [ask(address, accept) for address, accept in paths.items()]
        return [(answer.status_code, answer.content, answer.headers.get("etag")) for answer in found]

    before = answers()
    assert {status for status, _, _ in before} == {200, 404}
    assert answers() == before
    filled.upload(LATER, BEFORE)
    filled.upload(wheel("absent", "1.0"), BEFORE)
    filled.yank(THING, "broken")
    ask(server.at("live") + "some-thing/")
    ask(server.at(instant()) + "absent/")
    assert answers() == before
    server.kill()
    server.start()
    assert answers() == before
    for upstream in filled.upstreams:
        upstream.stop()
    server.restart("--offline", "--workers", "2")
    assert answers() == before


def test_two_workers_observe_at_once_and_agree(filled: PyPI, mirror: Callable[..., Mirror]) -> None:
    """While the project changes, many ask for many instants: whatever was answered stays."""
    server = mirror(filled, "--workers", "2")
    releases = [wheel("some-thing", f"2.{number}") for number in range(12)]

    def fetch(when: str) -> tuple[str, bytes]:
        answer = ask(server.at(when) + "some-thing/", JSON)
        assert answer.status_code == 200, answer.text
        return when, answer.content

    answers: list[tuple[str, bytes]] = []
    with ThreadPoolExecutor(8) as pool:
        for release in releases:
            coming = [pool.submit(fetch, instant()) for _ in range(6)]
            filled.upload(release, BEFORE)  # with a time long ago, so that only the log tells when it was there
            coming += [pool.submit(fetch, instant()) for _ in range(2)]
            answers += [future.result() for future in coming]
    assert len({page for _, page in answers}) > len(releases) / 2
    assert [fetch(when) for when, _ in answers] == answers
    server.restart("--offline")
    assert [fetch(when) for when, _ in answers] == answers
    counts = [page.count(b'"filename"') for _, page in sorted(answers)]
    assert counts == sorted(counts)


# --- what is no observation


def page_with(headers: dict[str, str], pypi: PyPI) -> Callable[[Request], Response]:
    """The PyPI's own page, with more headers."""

    def answer(request: Request) -> Response:
        response = pypi._page(request)
        return replace(response, headers={**response.headers, **headers})

    return answer


def test_a_page_older_than_the_instant_is_refused(filled: PyPI, mirror: Callable[..., Mirror]) -> None:
    """A cache on the way says with `Age` that its page shows an earlier instant (RFC 9111 section 5.1)."""
    server = mirror(filled)
    when = instant()
    filled.index.pages[SIMPLE] = page_with({"Age": "600"}, filled)
    refused = ask(server.at(when) + "some-thing/")
    assert refused.status_code == 502
    assert int(refused.headers["retry-after"]) > 0
    assert "older" in refused.text
    assert filenames(server.at(DATE) + "some-thing/") == [THING.filename]  # that one it is new enough for
    del filled.index.pages[SIMPLE]
    filled.upload(LATER, ago(minutes=5))
    assert len(filenames(server.at(when) + "some-thing/")) == 2


@pytest.mark.parametrize(
    "broken",
    [
        "an older serial",
        "empty for no reason",
        "empty HTML",
        "a list of projects",
        "an error",
        "forbidden",
        "no page",
        "nothing",
        "half a page",
        "API version 2",
        "a redirect to nowhere",
    ],
)
def test_what_is_no_page_changes_nothing(
    broken: str, project: str, shared: tuple[PyPI, Mirror], mirror: Callable[..., Mirror]
) -> None:
    """502 for what the answer would have been needed for; covered instants are answered; then all is well again.

    A page that is older than what is known, or empty for no reason, says nothing new: live stays as it was.
    """
    pypi, server = shared
    if broken in ("an older serial", "empty for no reason"):  # which is believed later, or at once where nobody waits
        server = mirror(pypi, "--pypi-second-look", "15")
    pypi.upload(wheel(project, "1.0"), BEFORE)
    pypi.upload(wheel(project, "1.1"), BEFORE)
    covered = instant()
    both = filenames(server.at(covered) + f"{project}/")
    assert len(both) == 2
    serial = pypi.serials[project]
    pypi.index.pages[f"/simple/{project}/"] = {
        "an older serial": json_page(
            {"meta": {"api-version": "1.1", "_last-serial": serial - 1}, "name": project, "files": []}
        ),
        "empty for no reason": json_page(json_files()),
        "empty HTML": html_page(),
        "a list of projects": json_page({"meta": {"api-version": "1.0"}, "projects": [{"name": project}]}),
        "an error": Response(b"sorry", 500),
        "forbidden": Response(b"no", 403),
        "no page": Response(b"not an index page", 200, {"Content-Type": "text/plain"}),
        "nothing": Response(b"", 200, {"Content-Type": JSON}),
        "half a page": Response(b'{"meta": {"api-version": "1.0"}, "fil', 200, {"Content-Type": JSON}),
        "API version 2": json_page({"meta": {"api-version": "2.0"}, "name": project, "files": []}),
        "a redirect to nowhere": Response(b"", 302, {"Location": "ftp://127.0.0.1/"}),
    }[broken]
    uncovered = instant()
    stale = broken in ("an older serial", "empty for no reason")
    if stale:
        assert filenames(server.at("live") + f"{project}/") == both
    for when in (uncovered,) if stale else (uncovered, "live", "live-1d"):
        answer = ask(server.at(when) + f"{project}/")
        assert answer.status_code == 502, (when, answer.text)
        assert answer.headers["cache-control"] == "no-store"
    assert filenames(server.at(covered) + f"{project}/") == filenames(server.at(DATE) + f"{project}/") == both
    del pypi.index.pages[f"/simple/{project}/"]
    for when in (uncovered, "live", covered):
        assert filenames(server.at(when) + f"{project}/") == both


def test_an_upstream_that_is_down(filled: PyPI, mirror: Callable[..., Mirror]) -> None:
    server = mirror(filled)
    covered = instant()
    page = ask(server.at(covered) + "some-thing/").content
    filled.index.stop()
    uncovered = instant()
    for path in (f"{uncovered}/some-thing", "live/some-thing", f"{DATE}/other"):
        answer = ask(server.at(path))
        assert answer.status_code in (502, 504)
        assert "cannot be reached" in answer.text
    assert ask(server.at(covered) + "some-thing/").content == page
    assert ask(server.at(DATE) + "some-thing/").status_code == 200
    filled.index.start()
    for path in (f"{uncovered}/some-thing", "live/some-thing"):
        assert filenames(server.at(path)) == [THING.filename]
    assert ask(server.at(DATE) + "other/").status_code == 404
    server.restart("--offline")
    assert ask(server.at(covered) + "some-thing/").content == page
    for path in (f"{instant()}/some-thing", "live/some-thing", f"{DATE}/never-asked"):
        assert ask(server.at(path)).status_code == 504


def test_one_observation_covers_all_earlier_instants(filled: PyPI, mirror: Callable[..., Mirror]) -> None:
    server = mirror(filled)
    for when in ("2024-05-05", "2024-03-03", DATE, "2020-01-01"):
        ask(server.at(when) + "some-thing/")
    assert filled.index.count() == filled.index.count(SIMPLE) == 1


# --- live


def test_live_and_its_cooldown(filled: PyPI, mirror: Callable[..., Mirror]) -> None:
    """The youngest are left out, and their versions with them; live asks every time and dates do not change."""
    filled.upload(LATER, ago(days=3, minutes=-1))
    server = mirror(filled)
    expected = {"live": 2, "live-0d": 2, "live-1d": 2, "live-2d": 2, "live-3d": 1, "live-9999d": 0}
    assert {when: len(filenames(server.at(when) + "some-thing/")) for when in expected} == expected
    assert document(server.at("live-3d") + "some-thing/")["versions"] == ["1.0"]
    before = instant()
    assert len(filenames(server.at(before) + "some-thing/")) == 2
    filled.upload(wheel("some-thing", "3.0"), ago(days=300))
    assert len(filenames(server.at("live") + "some-thing/")) == 3
    assert len(filenames(server.at("live-1d") + "some-thing/")) == 2, "it was not there yesterday, whatever it says"
    assert len(filenames(server.at(before) + "some-thing/")) == 2
    for path in ("live-d", "live-1", "live-12345d", "live-1w", "live--1d", "alive"):
        assert ask(f"{server.at(path)}some-thing/").status_code == 400, path
    assert ask(server.at("live") + "absent/").status_code == 404


# --- files


def test_a_file_of_any_date(filled: PyPI, mirror: Callable[..., Mirror]) -> None:
    """One address at all dates, one request to the upstream, and everything that frozen bytes have."""
    server = mirror(filled)
    urls = {document(server.at(when) + "some-thing/")["files"][0]["url"] for when in (DATE, instant(), "live")}
    assert urls == {link(THING)}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(http.get, [server.url + link(THING)] * 8))
    assert {answer.content for answer in answers} == {THING.data}
    again = http.get(server.url + link(THING))
    assert again.headers["etag"] == f'"{THING.sha256}"'
    assert again.headers["cache-control"] == "public, max-age=31536000, immutable"
    part = http.get(server.url + link(THING), headers={"Range": "bytes=-10"})
    assert (part.status_code, part.content) == (206, THING.data[-10:])
    assert http.get(server.url + link(THING), headers={"If-None-Match": f'"{THING.sha256}"'}).status_code == 304
    assert filled.files.count() == 1


def test_a_lock_file_from_elsewhere(filled: PyPI, mirror: Callable[..., Mirror]) -> None:
    """A fresh mirror knows the file's address from nothing but the registry's page."""
    filled.upload(source := sdist("some-thing", "1.0"), BEFORE)
    for dist, suffix, data in [
        (THING, "", THING.data),
        (THING, ".metadata", THING.metadata),
        (source, "", source.data),
    ]:
        fresh = mirror(filled)
        answer = http.get(fresh.url + link(dist) + suffix)
        assert (answer.status_code, answer.content) == (200, data)


def test_a_name_of_a_project_has_many_spellings_but_its_file_one_address(
    filled: PyPI, mirror: Callable[..., Mirror]
) -> None:
    """A lock file or a person may spell it otherwise; the file is fetched once."""
    server = mirror(filled)
    for spelling in ("some-thing", "Some.Thing", "some_thing"):
        answer = http.get(f"{server.url}/files/{spelling}/{THING.sha256}/{THING.filename}", follow_redirects=True)
        assert (answer.status_code, answer.content) == (200, THING.data)
    assert filled.files.count() == 1


def test_an_unknown_file(filled: PyPI, mirror: Callable[..., Mirror]) -> None:
    server = mirror(filled)
    filled.upload(source := sdist("some-thing", "1.0"), BEFORE)
    for path in (
        f"/files/some-thing/{'0' * 64}/{THING.filename}",
        f"/files/some-thing/{THING.sha256}/other-1.0-py3-none-any.whl",
        f"/files/other/{THING.sha256}/{THING.filename}",
        f"/files/some-thing/{THING.sha256}/",
        f"/files/some-thing/{THING.sha256}",
        f"/files/some-thing/{THING.sha256}/{THING.filename}/more",
        f"{link(source)}.metadata",
        "/files/",
        "/files",
        "/files/%2e%2e/%2e%2e/%2e%2e",
    ):
        assert http.get(server.url + path).status_code == 404, path
    assert filled.files.count() == 0


def test_bytes_that_are_not_the_announced_ones(pypi: PyPI, mirror: Callable[..., Mirror]) -> None:
    """They never complete at a client and nothing is kept; the next honest answer is."""
    dists = []
    for number, padding in itertools.product(range(3), (0, 3_000_000)):
        dists.append(dist := wheel(f"thing-{number}-{padding}", "5.0", padding=padding))
        pypi.upload(dist, BEFORE)
        other = wheel(f"thing-{number}-{padding}", "5.0", salt="tampered", padding=padding)
        wrong = [other.data, dist.data[:-1], b"<html>log in first</html>"][number]
        pypi.files.pages[pypi.release(dist).path] = wrong
    server = mirror(pypi)
    for dist in dists * 2:
        try:
            answer = http.get(server.url + link(dist))
        except httpx.RemoteProtocolError:
            continue  # it had begun: the connection breaks, so that the client knows
        assert answer.status_code == 502
    assert server.log().count("nothing was kept") == len(dists) * 2
    server.restart("--offline")
    for dist in dists:
        assert http.get(server.url + link(dist)).status_code == 504
    server.restart("--workers", "1")
    pypi.files.pages.clear()
    for dist in dists * 2:
        assert http.get(server.url + link(dist)).content == dist.data
        assert pypi.files.count(pypi.release(dist).path) == 3


def test_wrong_bytes_of_a_small_file_are_a_502_that_says_so(filled: PyPI, mirror: Callable[..., Mirror]) -> None:
    server = mirror(filled)
    filled.files.pages[filled.release(THING).path] = b"tampered"
    answer = http.get(server.url + link(THING))
    assert answer.status_code == 502
    assert THING.sha256 in answer.text or "announced" in answer.text


def test_a_file_host_that_is_down_or_has_lost_the_file(filled: PyPI, mirror: Callable[..., Mirror]) -> None:
    """Not a 404 for ever: when it is back the file is."""
    server = mirror(filled)
    filled.files.pages[filled.release(THING).path] = Response(b"sorry", 503, {"Retry-After": "7"})
    refused = http.get(server.url + link(THING))
    assert refused.status_code in (502, 503)
    filled.files.stop()
    assert http.get(server.url + link(THING)).status_code == 502
    filled.files.start()
    filled.files.pages.clear()
    assert http.get(server.url + link(THING)).content == THING.data


@pytest.mark.parametrize("spelled", ["+", "%2B", "%2b"])
def test_a_plus_in_a_name(spelled: str, project: str, shared: tuple[PyPI, Mirror]) -> None:
    """Local versions, as PyTorch has them, in every quoting."""
    pypi, server = shared
    dist = wheel(project, "1.0+cu121")
    path = pypi.upload(dist, BEFORE).path  # as the page spells it
    (file,) = document(server.at(DATE) + f"{project}/")["files"]
    assert (file["filename"], unquote(file["url"])) == (dist.filename, unquote(link(dist)))
    address = server.url + unquote(link(dist)).replace("+", spelled)
    assert http.get(address).content == dist.data
    assert http.get(f"{address}.metadata").content == dist.metadata
    assert http.get(server.same(file["url"])).content == dist.data
    assert pypi.files.count(path) == 1


@pytest.mark.parametrize(
    ("form", "named"), [("JSON", []), ("JSON", ["md5", "sha512"]), ("HTML", []), ("HTML", ["md5"])]
)
def test_a_registry_without_sha256(form: str, named: list[str], pypi: PyPI, mirror: Callable[..., Mirror]) -> None:
    """Its files have an address too, which is the same on every mirror, and stay when the upstream is gone."""
    dist = wheel("thing", "1.0")
    hashes = {name: hashlib.new(name, dist.data).hexdigest() for name in named}
    url = f"{pypi.files.url}/{dist.filename}"
    page = json_page(json_files(json_file(url, hashes=hashes)))
    if form == "HTML":
        page = html_page(url + "".join(f"#{name}={digest}" for name, digest in hashes.items()))
    pypi.index.pages["/simple/thing/"] = page
    pypi.files.pages["/" + dist.filename] = dist.data
    server = mirror(pypi)
    when = observed(server, "thing")
    (file,) = document(server.at(when) + "thing/")["files"]
    assert file["hashes"] == hashes
    assert http.get(server.same(file["url"])).content == dist.data
    assert http.get(server.same(file["url"]) + ".metadata").content == dist.metadata
    if form == "JSON" and named:
        assert http.get(mirror(pypi).same(file["url"])).content == dist.data
    for upstream in pypi.upstreams:
        upstream.stop()
    assert http.get(server.same(file["url"])).content == dist.data
    assert document(server.at(when) + "thing/")["files"] == [file]


@pytest.mark.parametrize("name", ["sha512", "sha384", "md5"])
def test_every_digest_that_is_announced_is_checked(name: str, project: str, shared: tuple[PyPI, Mirror]) -> None:
    """Design, "Freezing" 2: "digest as the index announced where one did"."""
    pypi, server = shared
    path = f"/{project}-1.0.tar.gz"
    honest = {name: hashlib.new(name, b"honest").hexdigest()}
    pypi.index.pages[f"/simple/{project}/"] = json_page(json_files(json_file(pypi.files.url + path, hashes=honest)))
    pypi.files.pages[path] = b"tampered"
    (file,) = document(server.at("live") + f"{project}/")["files"]
    with suppress(httpx.RemoteProtocolError):
        assert http.get(server.same(file["url"])).status_code == 502
    pypi.files.pages[path] = b"honest"
    assert http.get(server.same(file["url"])).content == b"honest"


def test_a_digest_in_upper_case(project: str, shared: tuple[PyPI, Mirror]) -> None:
    """Hex is hex: the fragments of HTML pages are read in either case, and so is JSON."""
    pypi, server = shared
    dist = wheel(project, "1.0")
    entry = json_file(f"{pypi.files.url}/{dist.filename}", hashes={"sha256": dist.sha256.upper()})
    pypi.index.pages[f"/simple/{project}/"] = json_page(json_files(entry))
    pypi.files.pages["/" + dist.filename] = dist.data
    (file,) = document(server.at("live") + f"{project}/")["files"]
    answer = http.get(server.same(file["url"]))
    assert (answer.status_code, answer.content) == (200, dist.data)

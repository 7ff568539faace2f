"""The list of projects over plain HTTP, dated and live."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support import http
from tests.support.index import BROWSER, PIP, ask, document, hrefs, html_page, instant, json_page
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.registries import HTML, JSON, PyPI
from tests.support.upstream import Page, Response

BEFORE = "2024-01-01T12:00:00Z"
DATE = "2024-01-02"


@pytest.fixture
def filled(pypi: PyPI) -> PyPI:
    pypi.upload(wheel("Some.Thing", "1.0"), BEFORE)
    pypi.upload(wheel("app", "1.0"), BEFORE)
    return pypi


def names(server: Mirror, where: str) -> list[str]:
    """The projects on a list."""
    return [project["name"] for project in document(server.at(where))["projects"]]


def observed(server: Mirror) -> str:
    """The instant after an observation: what it showed is what was known then."""
    names(server, "live")
    return instant()


def listing(*projects: str, serial: int | None = None, **headers: str) -> Response:
    """An upstream's list."""
    meta: Mapping[str, object] = {"api-version": "1.0"} | ({} if serial is None else {"_last-serial": serial})
    return json_page({"meta": meta, "projects": [{"name": name} for name in projects]}, **headers)


@pytest.mark.parametrize("root", ["", "/prefix"])
def test_forms_and_links(root: str, filled: PyPI, mirror: Callable[..., Mirror]) -> None:
    """JSON and HTML by `Accept`, names normalised, links path-absolute, with and without a slash behind the date."""
    server = mirror(filled, *(["--root-path", root, "--root-path-stripped"] if root else []))
    filled.index.pages["/simple/"] = listing("Some.Thing", "app")
    for where in (DATE, "live", "live-7d", "2024-01-02T15:30:00Z", "2024-01-02T15%3A30%3A00Z"):
        for address in (f"{server.url}/{where}/", f"{server.url}/{where}"):
            found = {accept: ask(address, accept) for accept in (PIP, JSON, HTML, "*/*", BROWSER)}
            kinds = [answer.headers["content-type"].partition(";")[0] for answer in found.values()]
            assert kinds == [JSON, JSON, HTML, "text/html", "text/html"]
            assert found[JSON].json()["projects"] == [{"name": "app"}, {"name": "some-thing"}]
            assert found[JSON].json()["meta"]["api-version"] == "1.0"
            for accept in (HTML, "*/*", BROWSER):
                links = hrefs(found[accept].content)
                assert links == [f"{root}/{where}/app/", f"{root}/{where}/some-thing/"]
                assert '<meta name="pypi:repository-version"' in found[accept].text
            for answer in found.values():
                assert answer.headers["vary"] == "Accept, Accept-Encoding"
            assert ask(address, "application/json").status_code == 406
            head = http.head(address, headers={"Accept": JSON})
            assert (head.headers["etag"], head.content) == (found[JSON].headers["etag"], b"")
            assert ask(address, JSON, **{"If-None-Match": found[JSON].headers["etag"]}).status_code == 304


@pytest.mark.parametrize("form", ["JSON", "HTML"])
def test_names_at_instants(form: str, filled: PyPI, mirror: Callable[..., Mirror]) -> None:
    """Between observations: what was known then, whatever came later, and after a restart without the upstream."""
    if form == "HTML":
        filled.index.pages["/simple/"] = lambda _: page_of(filled)
    server = mirror(filled)
    moments = [observed(server)]
    filled.upload(wheel("newcomer", "1.0"), BEFORE)
    moments.append(observed(server))
    filled.delete(wheel("app", "1.0"))
    moments.append(observed(server))
    filled.upload(wheel("app", "1.0"), BEFORE)
    moments.append(observed(server))
    expected = [
        ["app", "some-thing"],
        ["app", "newcomer", "some-thing"],
        ["newcomer", "some-thing"],
        ["app", "newcomer", "some-thing"],
    ]
    assert [names(server, when) for when in moments] == expected
    assert names(server, DATE) == expected[0]
    filled.index.stop()
    server.restart("--offline", "--workers", "2")
    assert [names(server, when) for when in moments] == expected
    assert names(server, DATE) == expected[0]
    assert ask(server.at("live")).status_code == ask(server.at(instant())).status_code == 504


def page_of(pypi: PyPI) -> Response:
    """The list as HTML."""
    anchors = "".join(f'<a href="/simple/{name}/">{name}</a>' for name in sorted(pypi.projects))
    return Response(f"<html><body>{anchors}</body></html>".encode(), 200, {"Content-Type": "text/html"})


def test_what_an_instant_gave_it_gives_for_ever(filled: PyPI, mirror: Callable[..., Mirror]) -> None:
    """Two workers observe at once while projects come and go."""
    server = mirror(filled, "--workers", "2")

    def fetch(when: str) -> tuple[str, list[str]]:
        return when, names(server, when)

    answers: list[tuple[str, list[str]]] = []
    with ThreadPoolExecutor(6) as pool:
        for number in range(8):
            coming = [pool.submit(fetch, instant()) for _ in range(4)]
            filled.upload(wheel(f"new-{number}", "1.0"), BEFORE)
            coming.append(pool.submit(fetch, instant()))
            answers += [future.result() for future in coming]
    assert [fetch(when) for when, _ in answers] == answers
    server.restart("--offline")
    assert [fetch(when) for when, _ in answers] == answers
    sizes = [len(listed) for _, listed in sorted(answers)]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) > 4


REFUSED: dict[str, Page] = {
    "an empty list": listing(),
    "an empty page": html_page(),
    "a project's page": json_page({"meta": {"api-version": "1.0"}, "name": "app", "files": []}),
    "an error": Response(b"", 500),
    "nothing": Response(b"", 200, {"Content-Type": JSON}),
    "no list": Response(b"not found", 404),
    "half a list": Response(b'{"projects": [{"name"', 200, {"Content-Type": JSON}),
    "an older serial": listing("app", serial=10),
}
NOT_BELIEVED = ("an empty list", "no list", "an older serial")  # live goes on with what is known


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_list(kind: str, pypi: PyPI, mirror: Callable[..., Mirror]) -> None:
    """502 where it would have been needed; what was known is known; then all is well again."""
    pypi.index.pages["/simple/"] = listing("app", "thing", serial=20)
    server = mirror(pypi, "--pypi-second-look", "15")
    known = observed(server)
    assert names(server, known) == ["app", "thing"]
    pypi.index.pages["/simple/"] = REFUSED[kind]
    unknown = instant()
    assert ask(server.at(unknown)).status_code == 502
    if kind in NOT_BELIEVED:
        assert names(server, "live") == ["app", "thing"]
    else:
        assert ask(server.at("live")).status_code == 502
    assert names(server, known) == names(server, DATE) == ["app", "thing"]
    pypi.index.pages["/simple/"] = listing("app", "thing", serial=20)
    assert names(server, unknown) == names(server, "live") == ["app", "thing"]


def test_a_list_older_than_the_instant_is_refused(pypi: PyPI, mirror: Callable[..., Mirror]) -> None:
    """An answer for an instant needs an observation at or after it; `Age` says how old a list is (RFC 9111)."""
    server = mirror(pypi)
    when = instant()
    pypi.index.pages["/simple/"] = listing("app", Age="600")
    refused = ask(server.at(when))
    assert refused.status_code == 502, refused.text
    assert int(refused.headers["retry-after"]) > 0
    pypi.index.pages["/simple/"] = listing("app", "newcomer")
    assert names(server, DATE) == ["app"]
    assert names(server, when) == ["app"]


def test_an_answer_from_an_old_list_stays(pypi: PyPI, mirror: Callable[..., Mirror]) -> None:
    """The theorem of the design, for lists: what was answered for an instant is not changed by a later observation."""
    server = mirror(pypi)
    when = instant()
    pypi.index.pages["/simple/"] = listing("app", Age="600")
    first = ask(server.at(when), JSON)
    pypi.index.pages["/simple/"] = listing("app", "newcomer", Age="300")
    second = ask(server.at(when), JSON)
    pypi.index.pages["/simple/"] = listing("app", "newcomer", "third")
    third = ask(server.at(when), JSON)
    bodies = [answer.content for answer in (first, second, third) if answer.status_code == 200]
    assert bodies
    assert len(set(bodies)) == 1, bodies


def test_projects_known_from_the_log_alone(pypi: PyPI, mirror: Callable[..., Mirror]) -> None:
    """Issue 2: "names known at that instant from the log and, where the upstream's list was observed, from it"."""
    pypi.upload(wheel("app", "1.0"), BEFORE)
    server = mirror(pypi)
    assert ask(server.at(DATE) + "app/").status_code == 200
    pypi.index.pages["/simple/"] = Response(b"this registry has no list", 404)
    answer = ask(server.at(DATE), JSON)
    assert answer.status_code == 200, answer.text
    assert answer.json()["projects"] == [{"name": "app"}]


def test_one_list_covers_all_earlier_instants(filled: PyPI, mirror: Callable[..., Mirror]) -> None:
    server = mirror(filled)
    for where in ("2024-05-05", DATE, "2020-01-01"):
        assert names(server, where) == ["app", "some-thing"]
    assert filled.index.count("/simple/") == 1


def test_unknown_first_segments(server: Mirror) -> None:
    for path in ("2024-02-30", "2024-02-30/", "live-x", "2024"):
        assert ask(f"{server.url}/{path}").status_code == 400

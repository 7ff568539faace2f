"""Links that are signed anew each time that a page is asked for: one file, one address here, no line in the log."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest

from httpcache.store.local import LocalStore
from httpcache.store.log import Log
from tests.support import http
from tests.support.index import ago, document, html_page, instant, json_file, json_files, json_page, shared_pypi
from tests.support.inside import until
from tests.support.mirror import Mirror
from tests.support.packages import Dist, wheel
from tests.support.registries import PyPI
from tests.support.rescued import outcomes
from tests.support.upstream import NOT_FOUND, Request, Response, Upstream

POLLS = 12

# How a link is signed, and what the page says of the file beside it. `{n}` is the number of the answer.
HASHES: dict[str, dict[str, object]] = {
    "sha256": {"hashes": "sha256"},
    "md5": {"hashes": "md5"},
    "a size": {"size": True},
    "nothing": {},
}
SIGNED = {
    "a query": "{files}/f/{name}?Expires=99{n}&Signature=s{n}",
    "a query with a file's number": "{files}/f/{name}?id=7&X-Amz-Signature=s{n}",
    "hosts by turns": "{turn}/f/{name}?Signature=s{n}",
    "a token in the path": "{files}/t/s{n}/{name}",
    "a token in the path, hosts by turns": "{turn}/t/s{n}/{name}",
}
ROWS = [
    (link, says)
    for link, says in itertools.product(SIGNED, HASHES)
    if "path" not in link or says != "nothing"  # nothing tells then that it is the same file
]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PyPI, Mirror]]:
    with shared_pypi(tmp_path_factory.mktemp("shared")) as found:
        yield found


_projects = itertools.count()


@dataclass
class Signing:
    """A registry of one project whose file can be fetched with the newest link alone."""

    index: Upstream
    files: tuple[Upstream, Upstream]
    link: str
    says: str
    form: str = "JSON"
    project: str = field(default_factory=lambda: f"signed{next(_projects)}")
    asked: int = 0
    uploaded: str = field(default_factory=lambda: ago(days=2))

    def __post_init__(self) -> None:
        self.dist: Dist | None = wheel(self.project, "1.0")
        self.index.pages[f"/simple/{self.project}/"] = self.page
        for upstream in self.files:
            upstream.otherwise = self.file

    def page(self, request: Request) -> Response:
        self.asked += 1
        dist = self.dist
        if dist is None:
            return json_page(json_files(json_file(f"{self.files[0].url}/f/{self.project}-0.9.tar.gz")))
        turn = self.files[self.asked % 2].url
        url = SIGNED[self.link].format(files=self.files[0].url, turn=turn, name=dist.filename, n=self.asked)
        says: dict[str, object] = {}
        if self.says in ("sha256", "md5"):
            says["hashes"] = {self.says: hashlib.new(self.says, dist.data).hexdigest()}
        if self.says == "a size":
            says["size"] = len(dist.data)
        if self.form == "HTML":
            return html_page(f"{url}#{self.says}={says['hashes'][self.says]}" if "hashes" in says else url)  # type: ignore[index]
        return json_page(json_files(json_file(url, **{"upload-time": self.uploaded} | says)))

    def file(self, request: Request) -> Response:
        """The newest signature opens it, and no other."""
        if self.dist is None or self.dist.filename not in request.path:
            return NOT_FOUND
        return Response(self.dist.data if f"s{self.asked}" in self.words(request) else b"expired", self.status(request))

    def status(self, request: Request) -> int:
        return 200 if f"s{self.asked}" in self.words(request) else 403

    @staticmethod
    def words(request: Request) -> list[str]:
        return request.target.replace("/", "=").replace("&", "=").split("=")


@pytest.fixture
def signing(shared: tuple[PyPI, Mirror], upstreams: Any) -> Any:
    pypi, _ = shared
    return lambda link, says, form="JSON": Signing(pypi.index, (upstreams(), upstreams()), link, says, form)


def log_of(server: Mirror, project: str) -> list[bytes]:
    store = LocalStore(server.data)
    try:
        return anyio.run(Log(store, f"pypi/{project}").read)
    finally:
        store.close()


def links(server: Mirror, when: str, project: str) -> set[str]:
    return {file["url"] for file in document(server.at(when) + f"{project}/")["files"]}


@pytest.mark.parametrize(("link", "says"), ROWS)
def test_polls_are_one_file(link: str, says: str, shared: tuple[PyPI, Mirror], signing: Any) -> None:
    _, server = shared
    registry = signing(link, says)
    found = [links(server, "live", registry.project) for _ in range(POLLS)]
    assert found == [found[0]] * POLLS
    assert len(found[0]) == 1
    assert len(log_of(server, registry.project)) == 1
    at = instant()
    assert links(server, at, registry.project) == found[0]
    assert http.get(server.same(found[0].pop())).content == registry.dist.data, "the newest link is used"


@pytest.mark.parametrize("says", ["sha256", "nothing"])
def test_polls_of_html_are_one_file(says: str, shared: tuple[PyPI, Mirror], signing: Any) -> None:
    _, server = shared
    registry = signing("a query", says, "HTML")
    found = [links(server, "live", registry.project) for _ in range(POLLS)]
    assert found == [found[0]] * POLLS
    assert len(log_of(server, registry.project)) == 1


@pytest.mark.parametrize("says", HASHES)
def test_a_link_that_has_expired_is_asked_for_anew(
    says: str, shared: tuple[PyPI, Mirror], signing: Any, tmp_path: Any
) -> None:
    """By a mirror that has only what its log says, as after a restart; metadata by ranges too."""
    _, server = shared
    registry = signing("a query", says)
    (link,) = links(server, "live", registry.project)
    server.restart()
    registry.asked += 1  # a page that somebody else was given
    before = registry.asked
    metadata = http.get(server.same(link) + ".metadata")
    assert metadata.content == registry.dist.metadata
    assert http.get(server.same(link)).content == registry.dist.data
    assert registry.asked - before <= 2
    assert len(log_of(server, registry.project)) == 1


def test_a_refused_link_of_which_there_is_no_newer(shared: tuple[PyPI, Mirror], signing: Any) -> None:
    """The host's own answer is passed on, and the registry is not asked for its page again and again."""
    _, server = shared
    registry = signing("a query", "sha256")
    registry.status = lambda request: 403
    (link,) = links(server, "live", registry.project)
    asked = registry.asked
    for _ in range(4):
        assert http.get(server.same(link)).status_code == 403
    assert registry.asked - asked <= 3


def test_a_file_that_is_removed_is_rescued_from_the_newest_link(shared: tuple[PyPI, Mirror], signing: Any) -> None:
    _, server = shared
    registry = signing("a query", "sha256")
    dist = registry.dist
    for _ in range(3):
        links(server, "live", registry.project)
    newest = f"s{registry.asked}"
    registry.dist = None
    for upstream in registry.files:
        upstream.otherwise = lambda request: Response(dist.data) if newest in request.target else NOT_FOUND
    links(server, "live", registry.project)
    until(lambda: bool(outcomes(server.data, registry.project)), "the outcome")
    assert [each.outcome for each in outcomes(server.data, registry.project)] == ["rescued"]


@pytest.mark.parametrize("says", ["md5", "sha1", "sha512", "md5 and sha1", "a size"])
def test_other_content_at_the_same_address(says: str, shared: tuple[PyPI, Mirror]) -> None:
    """Without a sha256: old and new have an address each, and the old one keeps its bytes."""
    pypi, server = shared
    project = f"replaced{next(_projects)}"
    old, new = wheel(project, "1.0", salt="old"), wheel(project, "1.0", salt="a new one, and longer")
    url = f"{pypi.files.url}/{project}/{old.filename}"

    def publish(dist: Dist) -> None:
        names = [] if says == "a size" else says.split(" and ")
        said = {"hashes": {name: hashlib.new(name, dist.data).hexdigest() for name in names}}
        size = {"size": len(dist.data)} if says == "a size" else {}
        pypi.index.pages[f"/simple/{project}/"] = json_page(json_files(json_file(url, **said, **size)))
        pypi.files.pages[f"/{project}/{old.filename}"] = dist.data

    publish(old)
    (first,) = links(server, "live", project)
    assert http.get(server.same(first)).content == old.data
    at = instant()
    assert links(server, at, project) == {first}
    publish(new)
    (second,) = links(server, "live", project)
    assert second != first
    assert http.get(server.same(second)).content == new.data
    assert http.get(server.same(first)).content == old.data
    assert links(server, at, project) == {first}

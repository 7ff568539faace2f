"""Links on a frozen page that have expired: the file is fetched from where its page links it now, the page stays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from tests.support import http
from tests.support.clients import Clients, pins
from tests.support.index import PIP, ask, document, html_page, json_file, json_files, json_page
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.upstream import NOT_FOUND, Request, Response, Upstream

THING = wheel("thing", "1.0")
OTHER = wheel("thing", "1.0", salt="another")
NAME = THING.filename
LINKS = {
    "a query": "{files}/f/{name}?Expires=9&Signature=s{n}",
    "a token in the path": "{files}/t/s{n}/{name}",
    "another host": "{turn}/f/{name}?s=s{n}",
}


@dataclass
class Signing:
    """An index whose newest link alone leads to the file; `count` pages were given."""

    index: Upstream
    files: tuple[Upstream, Upstream]
    link: str = LINKS["a query"]
    digest: bool = True
    form: str = "HTML"
    status: int = 403
    count: int = 0
    data: bytes = THING.data
    more: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.index.pages["/simple/thing/"] = self.page
        for upstream in self.files:
            upstream.otherwise = self.file

    def page(self, request: Request) -> Response:
        self.count += 1
        url = self.link.format(files=self.files[0].url, turn=self.files[self.count % 2].url, name=NAME, n=self.count)
        if self.form == "JSON":
            hashes = {"sha256": THING.sha256} if self.digest else {}
            return json_page(json_files(json_file(url, hashes=hashes, size=len(THING.data))))
        return html_page(f"{url}#sha256={THING.sha256}" if self.digest else url)

    def file(self, request: Request) -> Response:
        known = f"s{self.count}" in request.target.replace("/", "=").replace("&", "=").split("=")
        if not known or request.path.endswith(".metadata"):
            return Response(b"<Error>expired</Error>", self.status, {"Content-Type": "application/xml", **self.more})
        return Response(self.data)


@pytest.fixture
def signing(upstream: Upstream, upstreams: Callable[..., Upstream]) -> Callable[..., Signing]:
    return lambda **options: Signing(upstream, (upstreams(), upstreams()), **options)


def page_of(server: Mirror, pin: str, upstream: Upstream) -> str:
    return server.pin(pin, f"{upstream.url}/simple/thing/")


def linked(server: Mirror, page: str) -> str:
    """The file that the page links."""
    return server.same(document(page)["files"][0]["url"])


ROWS = [
    *((link, True, "HTML", status) for link in LINKS for status in (403, 404)),
    *(("a query", True, "JSON", status) for status in (400, 401, 410)),
    ("a query", False, "HTML", 403),
    ("another host", False, "HTML", 403),
    ("a token in the path", False, "JSON", 403),  # the same name and size
]


@pytest.mark.parametrize(("link", "digest", "form", "status"), ROWS)
def test_the_file_is_fetched_from_where_it_is_now(
    link: str,
    digest: bool,
    form: str,
    status: int,
    signing: Callable[..., Signing],
    upstream: Upstream,
    server: Mirror,
    pin: str,
) -> None:
    signed = signing(link=LINKS[link], digest=digest, form=form, status=status)
    page = page_of(server, pin, upstream)
    frozen = ask(page).content
    address = linked(server, page)
    upstream.requests.clear()
    http.get(f"{upstream.url}/simple/thing/")  # the first link has expired
    assert http.get(address).content == THING.data
    assert http.get(f"{address}.metadata").content == THING.metadata
    assert ask(page).content == frozen
    asked = upstream.count()
    for each in (upstream, *signed.files):
        each.stop()
    assert http.get(address).content == THING.data
    assert upstream.count() == asked


def test_metadata_alone(signing: Callable[..., Signing], upstream: Upstream, server: Mirror, pin: str) -> None:
    """An installer asks for it first."""
    signing(form="JSON")
    page = page_of(server, pin, upstream)
    address = linked(server, page)
    http.get(f"{upstream.url}/simple/thing/")
    path, _, query = address.partition("?")
    assert http.get(f"{path}.metadata?{query}").content == THING.metadata


@pytest.mark.parametrize(
    "what", ["gone", "another file", "page away", "page gone", "no page", "other path", "still there"]
)
def test_where_it_is_nowhere(
    what: str, signing: Callable[..., Signing], upstream: Upstream, server: Mirror, pin: str
) -> None:
    """The client gets the upstream's status, with a text that says what has happened and what to do."""
    signed = signing(status=404 if what == "other path" else 403, digest=what != "other path")
    signed.more = {"Retry-After": "7"}
    page = page_of(server, pin, upstream)
    address = linked(server, page)
    pages = {
        "gone": html_page("other-1.zip"),
        "another file": html_page(f"{signed.files[0].url}/f/{NAME}?s=s1#sha256={OTHER.sha256}"),
        "page gone": NOT_FOUND,
        "no page": Response(b"sign in", 200, {"Content-Type": "text/plain"}),
        "other path": html_page(f"{signed.files[0].url}/elsewhere/{NAME}?s=s1"),
    }
    upstream.pages["/simple/thing/"] = pages.get(what, upstream.pages["/simple/thing/"])
    if what == "page away":
        upstream.stop()
    if what == "still there":
        upstream.pages["/simple/thing/"] = html_page(f"{address.partition(pin + '/')[2]}#sha256={THING.sha256}")
    signed.count += 1
    answer = http.get(address)
    assert (answer.status_code, answer.headers["retry-after"]) == (signed.status, "7")
    if what == "still there":
        assert answer.text == "<Error>expired</Error>"
    else:
        for part in ("has expired, or the file is gone", "Use a new pin, which freezes the page as it is now", NAME):
            assert part in answer.text
        assert "Signature=s" not in answer.text
    assert all("elsewhere" not in request.target for request in signed.files[0].requests)


def test_the_bytes_must_be_those_that_the_frozen_page_announced(
    signing: Callable[..., Signing], upstream: Upstream, server: Mirror, pin: str
) -> None:
    signed = signing()
    address = linked(server, page_of(server, pin, upstream))
    http.get(f"{upstream.url}/simple/thing/")
    signed.data = OTHER.data
    assert http.get(address).status_code == 502
    signed.data = THING.data
    assert http.get(address).content == THING.data


def test_a_challenge_is_passed_on_as_it_is(
    signing: Callable[..., Signing], upstream: Upstream, server: Mirror, pin: str
) -> None:
    """Who is asked for a login has no expired link: the page is not asked again for that."""
    signed = signing(status=401)
    signed.more = {"WWW-Authenticate": 'Basic realm="files"'}
    address = linked(server, page_of(server, pin, upstream))
    signed.count += 1
    answer = http.get(address)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Basic realm="files"')
    assert upstream.count() == 1


def test_a_file_that_no_page_lists(
    signing: Callable[..., Signing], upstream: Upstream, server: Mirror, pin: str
) -> None:
    signed = signing()
    answer = http.get(server.pin(pin, f"{signed.files[0].url}/f/{NAME}?Signature=s9"))
    assert (answer.status_code, answer.text) == (403, "<Error>expired</Error>")
    assert upstream.count() == 0


def test_credentials_go_to_the_origin_in_the_address_alone(
    signing: Callable[..., Signing], upstream: Upstream, server: Mirror, pin: str
) -> None:
    """Not to that of the page, and not to another host that it links now."""
    signed = signing(link=LINKS["another host"])
    address = linked(server, page_of(server, pin, upstream))
    for _ in range(2):  # so that it is the other host's turn next
        http.get(f"{upstream.url}/simple/thing/")
    assert http.get(address, headers={"Authorization": "Bearer secret"}).content == THING.data
    first, second = signed.files[1], signed.files[0]
    asked = [request for request in first.requests if "range" not in request.headers]  # without: for the page
    assert {request.headers.get("authorization") for request in asked} == {"Bearer secret"}
    assert {request.headers.get("authorization") for request in (*second.requests, *upstream.requests)} == {None}
    assert second.count() == 1


def test_a_private_page_gives_a_private_file(upstreams: Callable[..., Upstream], server: Mirror, pin: str) -> None:
    """What it links now is found with its credentials, and read with them alone."""
    index = upstreams(tokens={"Private-Token": "t"})
    signed = Signing(index, (index, index), link="/f/{name}?s=s{n}")
    index.pages.clear()

    def answer(request: Request) -> Response:
        return signed.page(request) if request.path == "/simple/thing/" else signed.file(request)

    index.otherwise = answer
    token = {"Private-Token": "t"}
    page = page_of(server, pin, index)
    address = server.same(document(page, **token)["files"][0]["url"])
    http.get(f"{index.url}/simple/thing/", headers=token)
    assert http.get(address, headers=token).content == THING.data
    assert http.get(address).status_code == 401


@pytest.mark.parametrize("client", ["pip", "uv"])
def test_real_clients(
    client: str, signing: Callable[..., Signing], upstream: Upstream, server: Mirror, pin: str, clients: Clients
) -> None:
    signing()
    index = server.pin(pin, f"{upstream.url}/simple/")
    assert ask(f"{index}thing/", PIP).status_code == 200
    http.get(f"{upstream.url}/simple/thing/")
    assert clients.install(client, index, ["thing"]) == pins(THING)

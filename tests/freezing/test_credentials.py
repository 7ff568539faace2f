"""Credentials: what goes to which upstream, who may read what they fetched, and that they are written down nowhere."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import pytest

from httpcache.credentials import PUBLIC, Credentials, read_credentials, scope
from tests.support import http
from tests.support.clients import Clients
from tests.support.command import run
from tests.support.inside import checked_records
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.registries import Registry
from tests.support.upstream import Request, Response, Upstream, redirect

BODY = b"private bytes"
USER, PASSWORD = "robot", "pass-S3CRET-word"
BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
TOKENS = {
    "Authorization": "Bearer token-S3CRET",
    "X-Api-Key": "key-S3CRET",
    "Private-Token": "private-S3CRET",
    "Job-Token": "job-S3CRET",
    "X-JFrog-Art-Api": "jfrog-S3CRET",
}


def sent(upstream: Upstream, header: str) -> list[str | None]:
    """What each request that reached the upstream carried in a header."""
    return [request.headers.get(header.lower()) for request in upstream.requests]


# The first fetch


@pytest.mark.parametrize("refusal", [401, 403])
def test_basic_answers_a_challenge(
    refusal: int, upstreams: Callable[..., Upstream], server: Mirror, pin: str, clients: Clients
) -> None:
    """Tried without, then with; curl's -u is what a user has."""
    upstream = upstreams(auth=(USER, PASSWORD), refusal=refusal)
    upstream.pages["/file"] = BODY
    address = server.pin(pin, f"{upstream.url}/file")
    fetched = clients.curl("-f", "-u", f"{USER}:{PASSWORD}", address).checked()
    assert fetched.output.encode() == BODY
    assert sent(upstream, "Authorization") == [None, BASIC]


def test_basic_is_not_sent_to_who_does_not_ask_for_it(upstream: Upstream, server: Mirror, pin: str) -> None:
    """pip sends the credentials of one index to all on the same host name: the copy is everybody's."""
    upstream.pages["/file"] = BODY
    address = server.pin(pin, f"{upstream.url}/file")
    assert http.get(address, auth=(USER, PASSWORD)).content == BODY
    assert http.get(server.pin(pin, f"{upstream.url}/absent"), auth=(USER, PASSWORD)).status_code == 404
    assert sent(upstream, "Authorization") == [None, None]
    assert http.get(address).content == BODY


def test_a_404_hides_what_is_private_only_where_there_was_a_challenge(
    upstreams: Callable[..., Upstream], server: Mirror, pin: str
) -> None:
    upstream = upstreams(auth=(USER, PASSWORD), refusal=404)
    upstream.pages["/file"] = BODY
    address = server.pin(pin, f"{upstream.url}/file")
    assert http.get(address, auth=(USER, PASSWORD)).status_code == 404
    assert sent(upstream, "Authorization") == [None]
    for wrong, tried in ((None, False), (("who", "what"), True)):
        upstream.refusal = 401
        http.get(server.pin(pin, f"{upstream.url}/other"), auth=wrong)
        upstream.refusal = 404
        later = server.pin(pin.replace("-01-02", "-01-03"), f"{upstream.url}/file?{tried}")
        assert (http.get(later, auth=(USER, PASSWORD)).content == BODY) is tried
    assert http.get(server.pin(f"other-{pin}", f"{upstream.url}/file"), auth=(USER, PASSWORD)).status_code == 404


@pytest.mark.parametrize("header", TOKENS)
def test_what_is_set_on_purpose_is_sent_at_once(
    header: str, upstreams: Callable[..., Upstream], server: Mirror, pin: str, clients: Clients
) -> None:
    upstream = upstreams(tokens={header: TOKENS[header]})
    upstream.pages["/file"] = BODY
    address = server.pin(pin, f"{upstream.url}/file")
    fetched = clients.curl("-f", "-H", f"{header}: {TOKENS[header]}", address).checked()
    assert fetched.output.encode() == BODY
    assert sent(upstream, header) == [TOKENS[header]]


def test_one_more_header_by_setting(upstreams: Callable[..., Upstream], mirror: Callable[..., Mirror]) -> None:
    upstream = upstreams(tokens={"X-Our-Key": "S3CRET"})
    upstream.pages["/file"] = BODY
    running = mirror("--credential-header", "X-Our-Key")
    address = running.pin("ours", f"{upstream.url}/file")
    assert http.get(address, headers={"X-Our-Key": "S3CRET"}).content == BODY
    assert http.get(address).status_code == 401


@pytest.mark.parametrize("header", ["Authorization", "X-Api-Key"])
def test_a_credential_that_is_not_ascii(header: str, upstream: Upstream, server: Mirror, pin: str) -> None:
    """RFC 9110 section 5.5 lets such bytes through; they are the upstream's to judge, not an error here."""
    upstream.pages["/file"] = BODY
    address = server.pin(pin, f"{upstream.url}/file")
    assert http.get(address, headers=[(header.encode(), b"k\xe9y")]).status_code == 200


def test_an_accept_that_is_not_ascii(upstream: Upstream, server: Mirror, pin: str) -> None:
    upstream.pages["/file"] = BODY
    address = server.pin(pin, f"{upstream.url}/file")
    assert http.get(address, headers=[(b"Accept", b"text/\xe9, */*")]).status_code in (200, 400)


# The private copy


def _as(who: str) -> dict[str, str]:
    return {"Private-Token": who}


@pytest.fixture
def private(upstreams: Callable[..., Upstream]) -> Upstream:
    """An upstream that lets in those who are in `tokens`; the test changes who that is."""
    upstream = upstreams()
    upstream.tokens = {"Private-Token": "alice"}
    upstream.pages["/file"] = Response(BODY, headers={"Content-Type": "text/plain"})
    return upstream


def test_a_private_copy_is_not_given_to_others(private: Upstream, server: Mirror, pin: str) -> None:
    """They get the upstream's own 401 with its challenge; whose it is reads it without the upstream."""
    address = server.pin(pin, f"{private.url}/file")
    first = http.get(address, headers=_as("alice"))
    assert first.content == BODY
    assert first.headers["cache-control"].startswith("private")
    others: list[dict[str, str]] = [{}, _as("mallory"), {"Authorization": "Bearer alice"}, {"X-Api-Key": "alice"}]
    for headers in others:
        for ranged in ({}, {"Range": "bytes=0-1"}, {"If-None-Match": "*"}):
            refused = http.get(address, headers=headers | ranged)
            assert refused.status_code == 401
            assert refused.content == b"refused\n"
            assert refused.headers["www-authenticate"] == 'Basic realm="upstream"'
            assert "etag" not in refused.headers
    assert http.get(address, auth=(USER, PASSWORD)).status_code == 401
    private.stop()
    again = http.get(address, headers=_as("alice"))
    assert again.content == BODY
    assert again.headers["cache-control"].startswith("private")
    assert http.get(address).status_code == 401
    assert http.head(address).status_code == 401
    assert http.get(address, headers=_as("mallory")).status_code == 502


def test_other_valid_credentials_are_checked_once_and_read_the_frozen_bytes(
    private: Upstream, server: Mirror, pin: str
) -> None:
    address = server.pin(pin, f"{private.url}/file")
    http.get(address, headers=_as("alice"))
    private.pages["/file"] = b"changed"
    private.tokens = {"Private-Token": "bob"}
    for _ in range(3):
        assert http.get(address, headers=_as("bob")).content == BODY
    assert sent(private, "Private-Token") == ["alice", "bob", None]
    private.stop()
    assert http.get(address, headers=_as("bob")).content == BODY


def test_a_token_is_rotated(private: Upstream, server: Mirror, pin: str) -> None:
    """The new one reads the old one's copies, and fetches what is not there yet."""
    address = server.pin(pin, f"{private.url}/file")
    http.get(address, headers=_as("alice"))
    private.tokens = {"Private-Token": "alice-2"}
    private.pages |= {"/file": b"changed", "/new": b"new"}
    assert http.get(address, headers=_as("alice-2")).content == BODY
    assert http.get(server.pin(pin, f"{private.url}/new"), headers=_as("alice-2")).content == b"new"
    assert http.get(server.pin(pin, f"{private.url}/new"), headers=_as("alice")).status_code == 401


def test_a_copy_that_became_public_is_for_everybody_while_it_is(private: Upstream, server: Mirror, pin: str) -> None:
    """No credentials open no private copy for good: each time it is compared with what the upstream shows."""
    address = server.pin(pin, f"{private.url}/file")
    http.get(address, headers=_as("alice"))
    private.tokens = {}
    assert http.get(address).content == BODY
    private.pages["/file"] = Response(BODY[:-1] + b"?", headers={"Content-Type": "text/plain"})
    assert http.get(address).status_code == 401
    private.stop()
    assert http.get(address).status_code == 401


def test_offline_a_private_copy_is_for_those_who_have_read_it(private: Upstream, mirror: Callable[..., Mirror]) -> None:
    running = mirror()
    address = running.pin("offline", f"{private.url}/file")
    http.get(address, headers=_as("alice"))
    running.restart("--offline")
    assert http.get(address, headers=_as("alice")).content == BODY
    assert http.get(address).status_code == 401
    assert http.get(address, headers=_as("mallory")).status_code == 504


def test_an_absence_for_one_says_nothing_to_another(
    upstreams: Callable[..., Upstream], server: Mirror, pin: str
) -> None:
    """uv asks without credentials first and again with them."""
    upstream = upstreams(tokens={"Private-Token": "alice"}, refusal=404)
    upstream.pages["/file"] = BODY
    address = server.pin(pin, f"{upstream.url}/file")
    assert http.get(address).status_code == 404
    assert http.get(address, headers=_as("alice")).content == BODY
    assert http.get(address).status_code == 404


def test_credentials_of_two_kinds_at_once(upstreams: Callable[..., Upstream], server: Mirror, pin: str) -> None:
    """A Basic that comes along uninvited does not stand in the way of a token."""
    upstream = upstreams(tokens={"Private-Token": "alice"})
    upstream.pages["/file"] = BODY
    address = server.pin(pin, f"{upstream.url}/file")
    both = http.get(address, headers=_as("alice"), auth=(USER, PASSWORD))
    assert both.content == BODY
    assert sent(upstream, "Authorization") == [None]
    upstream.stop()
    assert http.get(address, headers=_as("alice")).content == BODY
    assert http.get(address, auth=(USER, PASSWORD)).status_code == 502


# Where they do not go


@pytest.mark.parametrize(
    "credentials", [{"Authorization": BASIC}, {"X-Api-Key": "S3CRET"}, {"Authorization": "Bearer S3CRET"}]
)
@pytest.mark.parametrize("back", [False, True], ids=["away", "away and back"])
def test_a_redirect_to_another_origin_does_not_take_them(
    back: bool, credentials: dict[str, str], upstreams: Callable[..., Upstream], server: Mirror, pin: str
) -> None:
    """Another port is another origin; what an origin passed through sends back is not to be trusted either."""
    name, value = next(iter(credentials.items()))
    first, second = upstreams(tokens={name: value}), upstreams()
    first.pages["/file"] = redirect("/same")
    first.pages["/same"] = redirect(f"{second.url}/there")
    second.pages["/there"] = redirect(f"{first.url}/back") if back else BODY
    first.pages["/back"] = BODY
    answer = http.get(server.pin(pin, f"{first.url}/file"), headers=credentials)
    assert answer.status_code == (401 if back else 200)
    assert {request.headers.get(name.lower()) for request in first.requests if request.path == "/same"} == {value}
    assert set(sent(second, name)) == {None}
    assert {request.headers.get(name.lower()) for request in first.requests if request.path == "/back"} <= {None}


def test_what_came_by_a_redirect_with_credentials_is_private(
    upstreams: Callable[..., Upstream], server: Mirror, pin: str
) -> None:
    """The signed address behind it needs none, and still it is not everybody's."""
    first, store = upstreams(tokens={"Private-Token": "alice"}), upstreams()
    first.pages["/file"] = redirect(f"{store.url}/blob?signature=S3CRET")
    store.pages["/blob?signature=S3CRET"] = BODY
    address = server.pin(pin, f"{first.url}/file")
    assert http.get(address, headers=_as("alice")).content == BODY
    assert http.get(address).status_code == 401


def test_nothing_else_of_the_client_reaches_the_upstream(upstream: Upstream, server: Mirror, pin: str) -> None:
    upstream.pages["/file"] = Response(BODY, headers={"Set-Cookie": "session=S3CRET"})
    client = {
        "Cookie": "a=S3CRET",
        "User-Agent": "S3CRET",
        "Referer": "http://127.0.0.1/S3CRET",
        "Origin": "http://127.0.0.1",
        "X-Forwarded-For": "127.0.0.1",
        "Proxy-Authorization": "Basic S3CRET",
        "X-Something": "S3CRET",
        "Range": "bytes=0-1",
        "If-None-Match": '"x"',
        "Accept-Language": "de",
        "Accept-Encoding": "gzip",
        "Accept": "text/plain",
    }
    for name in ("file", "file?again"):
        answer = http.get(server.pin(pin, f"{upstream.url}/{name}"), headers=client)
        assert answer.status_code == 206
        assert "set-cookie" not in answer.headers
    for request in upstream.requests:
        assert "S3CRET" not in str(request)
        assert set(request.headers) <= {"host", "user-agent", "accept", "accept-encoding", "connection", "cdn-loop"}
        assert request.headers["accept"] == "text/plain"
        assert request.headers["accept-encoding"] == "identity"


# Where they are not written down


@pytest.mark.parametrize("level", ["info", "debug"])
def test_no_secret_in_the_data_folder_or_the_log(
    level: str, upstreams: Callable[..., Upstream], mirror: Callable[..., Mirror], clients: Clients
) -> None:
    """Whatever happens to a request: frozen, refused, redirected with a signature, cut, unreachable, mistyped."""
    upstream, gone = upstreams(auth=(USER, PASSWORD), tokens=TOKENS), upstreams()
    gone.stop()
    cookie = {"Set-Cookie": "session=cookie-S3CRET", "Vary": "Accept"}

    def page(request: Request) -> Response:
        if request.path == "/moved":
            return redirect("/signed?X-Signature=signed-S3CRET&token-S3CRET")
        if request.path == "/loop":
            return redirect("/loop?X-Signature=signed-S3CRET")
        if request.path == "/short":
            return Response([b"short"], headers={"Content-Length": "100", **cookie})
        return Response(BODY, headers=cookie)

    upstream.otherwise = page
    running = mirror("--log-level", level)
    pages = ["/file", "/file?token=query-S3CRET", "/file?query-S3CRET", "/moved", "/loop?a=query-S3CRET", "/short"]
    urls = [upstream.url + name for name in pages] + [f"{gone.url}/file?a=query-S3CRET"]
    urls += [f"http://{USER}:{PASSWORD}@127.0.0.1:{upstream.port}/file", f"http://{USER}%3A{PASSWORD}%40127.0.0.1/file"]
    shown = ""
    for url in urls:
        for arguments in (
            ["-u", f"{USER}:{PASSWORD}"],
            *(["-H", f"{name}: {value}"] for name, value in TOKENS.items()),
        ):
            fetched = clients.curl("-i", "-b", "c=cookie-S3CRET", *arguments, running.pin("secret", url))
            shown += fetched.output
    assert BODY.decode() in shown
    assert "S3CRET" not in shown
    encoded = BASIC.removeprefix("Basic ")
    assert checked_records(running.data)
    for state in ("running", "stopped"):
        found = [path for path in _files(running.folder) if {b"S3CRET", encoded.encode()} & _words(path, encoded)]
        assert found == [], f"{state}: " + "\n".join(_lines(path) for path in found)
        running.stop()


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _words(path: Path, encoded: str) -> set[bytes]:
    content = path.read_bytes()
    return {word for word in (b"S3CRET", encoded.encode()) if word in content}


def _lines(path: Path) -> str:
    lines = [line[:300] for line in path.read_bytes().split(b"\n") if b"S3CRET" in line]
    return f"{path.name}: {lines[:3]}"


# The pure part


@pytest.mark.parametrize(
    ("headers", "levels"),
    [
        ({}, [()]),
        ({"authorization": "Basic x"}, [(), (("authorization", "Basic x"),)]),
        ({"authorization": "bAsIc x"}, [(), (("authorization", "bAsIc x"),)]),
        ({"authorization": "Bearer x"}, [(("authorization", "Bearer x"),)]),
        ({"x-api-key": "k"}, [(("x-api-key", "k"),)]),
        (
            {"x-api-key": "k", "authorization": "Basic x"},
            [(("x-api-key", "k"),), (("x-api-key", "k"), ("authorization", "Basic x"))],
        ),
        ({"cookie": "c", "x-other": "o", "proxy-authorization": "Basic x"}, [()]),
    ],
)
def test_levels(headers: dict[str, str], levels: list[tuple[tuple[str, str], ...]]) -> None:
    assert list(read_credentials(headers, ["x-api-key"]).levels) == levels


def test_a_scope_tells_origins_credentials_and_stores_apart() -> None:
    one = scope(b"secret", "http://a", [("x-api-key", "k")])
    others = {
        scope(b"secret", "http://b", [("x-api-key", "k")]),
        scope(b"secret", "http://a", [("x-api-key", "l")]),
        scope(b"secret", "http://a", [("private-token", "k")]),
        scope(b"other", "http://a", [("x-api-key", "k")]),
        PUBLIC,
    }
    assert len(others | {one}) == 6
    assert scope(b"secret", "http://a", []) == PUBLIC
    assert "k" * 20 not in scope(b"secret", "http://a", [("x-api-key", "k" * 20)])
    assert Credentials((("x-api-key", "k"),)).scopes(b"secret", "http://a") == {one}


# Bound pins


def bound(mirror: Callable[..., Mirror], *origins: str) -> Mirror:
    return mirror(*(argument for origin in origins for argument in ("--bind", f"team={origin}")))


def test_a_bound_pin_sends_basic_after_a_404(upstreams: Callable[..., Upstream], mirror: Callable[..., Mirror]) -> None:
    """GitLab hides what is private behind a 404, and never challenges."""
    upstream = upstreams(auth=(USER, PASSWORD), refusal=404)
    upstream.pages["/file"] = BODY
    running = bound(mirror, "https://other.example", upstream.url)
    for pin in ("team-2024-01-02", "team"):
        address = running.pin(pin, f"{upstream.url}/file")
        assert http.get(address).status_code == 404
        assert http.get(address, auth=(USER, PASSWORD)).content == BODY
    assert sent(upstream, "Authorization") == [None, BASIC] * 2
    assert http.get(running.pin("teams", f"{upstream.url}/file"), auth=(USER, PASSWORD)).status_code == 404


def test_credentials_of_a_bound_pin_go_nowhere_else(
    upstreams: Callable[..., Upstream], mirror: Callable[..., Mirror]
) -> None:
    """A host that asks for them gets none, neither Basic nor what is sent at once elsewhere."""
    ours, theirs = upstreams(auth=(USER, PASSWORD)), upstreams(auth=(USER, PASSWORD))
    theirs.pages["/file"] = BODY
    running = bound(mirror, ours.url)
    address = running.pin("team-2024-01-02", f"{theirs.url}/file")
    assert http.get(address, auth=(USER, PASSWORD)).status_code == 401
    assert http.get(address, headers={"Authorization": f"Bearer {PASSWORD}", "X-Api-Key": PASSWORD}).status_code == 401
    assert PASSWORD not in str(theirs.requests)
    assert BASIC not in str(theirs.requests)
    theirs.auth = None
    assert http.get(address, auth=(USER, PASSWORD)).headers["cache-control"].startswith("public")


def test_an_installer_with_a_bound_pin(
    registry: Callable[..., Registry], mirror: Callable[..., Mirror], clients: Clients
) -> None:
    """pip with the user in the index's address, at a registry that answers 404 instead of 401."""
    private = registry("gitlab", auth=(USER, PASSWORD), refusal=404)
    private.upload(wheel("demo", "1.0"))
    running = mirror("--bind", f"team={private.upstream.url}")
    index = running.pin("team-2024-01-02", private.url, f"{USER}:{PASSWORD}")
    assert clients.install("pip", index, ["demo"])["demo"].version == "1.0"


# Shared pins


def test_a_shared_pin_is_for_everybody(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    upstream.tokens = {"X-Api-Key": PASSWORD}
    upstream.pages["/file"] = BODY
    running = mirror("--share", "team")
    shared, private = (running.pin(pin, f"{upstream.url}/file") for pin in ("team-2024-01-02", "teams-2024-01-02"))
    for address in (shared, private):
        assert http.get(address).status_code == 401
        assert http.get(address, headers={"X-Api-Key": PASSWORD}).content == BODY
    asked = upstream.count()
    assert http.get(shared).content == BODY
    assert upstream.count() == asked
    assert http.get(private).status_code == 401
    running.restart("--log-level", "info")  # no longer shared
    assert http.get(shared).status_code == 401


def test_an_absence_does_not_hide_what_is_shared(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    """An installer without credentials was told that there is no such project, before one with credentials froze it."""
    upstream.tokens = {"X-Api-Key": PASSWORD}
    upstream.refusal = 404
    upstream.pages["/simple/demo/"] = Response(b"<a href=demo-1.0.tar.gz>x</a>", headers={"Content-Type": "text/html"})
    running = mirror("--share", "team")
    address = running.pin("team-2024-01-02", f"{upstream.url}/simple/demo/")
    installer = {"Accept": "application/vnd.pypi.simple.v1+json"}
    assert http.get(address, headers=installer).status_code == 404
    assert http.get(address, headers=installer | {"X-Api-Key": PASSWORD}).status_code == 200
    assert http.get(address, headers=installer).json()["files"]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("bind", "team"), ("bind", "team=host"), ("bind", "=https://host"), ("bind", "team-2024-01-02=https://host"),
        ("bind", "team=https://user:pass@host"), ("share", "team/x"), ("share", "team-2024-01-02"),
    ],
)  # fmt: skip
def test_a_binding_that_makes_no_sense(option: str, value: str, tmp_path: Path) -> None:
    ran = run("serve", "--data", tmp_path / "data", f"--{option}", value)
    assert ran.returncode == 2
    assert f"--{option}" in ran.stderr
    assert "Traceback" not in ran.stderr

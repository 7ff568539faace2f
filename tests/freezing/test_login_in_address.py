"""`/<pin>/https://user:password@host/`: the same address with that login, which is written down nowhere."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import pytest

from httpcache.errors import BadAddress
from httpcache.target import parse_target
from tests.support import http
from tests.support.clients import Clients
from tests.support.command import run
from tests.support.inside import checked_records
from tests.support.mirror import Mirror
from tests.support.upstream import Response, Upstream, redirect

BODY = b"for those with a login"
USER, PASSWORD = "robot", "S3CRET"


def basic(plain: str) -> str:
    return "Basic " + base64.b64encode(plain.encode()).decode()


@pytest.mark.parametrize(
    ("address", "plain"),
    [
        ("https://robot:pass@h/x", "robot:pass"),
        ("https:/robot:pass@h/x", "robot:pass"),
        ("https%3A//robot:pass@h/x", "robot:pass"),
        ("https%3a//robot%3Apass%40h/x", "robot:pass"),
        ("https://robot%3Apass@h/x", "robot:pass"),
        ("https://robot%3apass%40h/x", "robot:pass"),
        ("https://robot:p%40ss@h/x", "robot:p@ss"),
        ("https%3A//robot%3Ap%2540ss%40h/x", "robot:p@ss"),
        ("https://robot:p@ss@h/x", "robot:p@ss"),
        ("https://robot:a:b@h/x", "robot:a:b"),
        ("https://robot:a%3Ab@h/x", "robot:a:b"),
        ("https://robot:%25%2F%3F@h/x", "robot:%/?"),
        ("https://r%C3%B6bot:p%C3%A4ss@h/x", "röbot:päss"),
        ("https://token@h/x", "token:"),
        ("https://token:@h/x", "token:"),
        ("https://:pass@h/x", ":pass"),
        ("https://robot:pass@H:443/x", "robot:pass"),
        ("HTTPS://robot:pass@h/x", "robot:pass"),
        ("https://@h/x", None),
        ("https://:@h/x", None),
        ("https://h/x", None),
    ],
)
def test_forms(address: str, plain: str | None) -> None:
    target = parse_target(f"/pin/{address}")
    assert (target.url, target.wire) == ("https://h/x", "https://h/x")
    assert target.key == parse_target("/pin/https://h/x").key
    assert target.login == (basic(plain) if plain else "")
    assert (target.login or "Basic") not in repr(target) + str(target)


@pytest.mark.parametrize(
    "address", ["https://h/a@b", "https://h/a%40b", "https://h/x?y=a@b", "https://h/?u=http://a:b@c/"]
)
def test_what_only_looks_like_one(address: str) -> None:
    path, _, query = address.partition("?")
    assert parse_target(f"/pin/{path}", query).login == ""


@pytest.mark.parametrize(
    "address", ["https://a:b@/x", "https://a:b@h h/x", "https://a:b@h:99999/x", "ftp://a:S3CRET@h/x"]
)
def test_a_host_that_is_none(address: str) -> None:
    with pytest.raises(BadAddress) as raised:
        parse_target(f"/pin/{address}")
    assert "S3CRET" not in raised.value.text


@pytest.fixture
def private(upstreams: Callable[..., Upstream]) -> Upstream:
    upstream = upstreams(auth=(USER, PASSWORD))
    upstream.pages["/file"] = BODY
    return upstream


def with_login(address: str, login: str = f"{USER}:{PASSWORD}") -> str:
    """The same address of the mirror with a login for the upstream in it."""
    before, _, after = address.rpartition("http://")
    return f"{before}http://{login}@{after}"


def test_it_is_sent_with_the_first_request_and_its_copy_is_private(
    private: Upstream, server: Mirror, pin: str, clients: Clients
) -> None:
    plain = server.pin(pin, f"{private.url}/file")
    fetched = clients.curl("-f", "--globoff", with_login(plain)).checked()
    assert fetched.output.encode() == BODY
    assert [request.headers.get("authorization") for request in private.requests] == [private.basic()]
    assert http.get(plain).status_code == 401
    assert http.get(with_login(plain, "robot:wrong")).status_code == 401
    private.stop()
    assert http.get(plain, auth=(USER, PASSWORD)).content == BODY
    for address in (with_login(plain), with_login(plain, f"{USER}%3A{PASSWORD}")):
        again = http.get(address)
        assert again.content == BODY
        assert again.headers["cache-control"].startswith("private")
    assert http.get(plain).status_code == 401


@pytest.mark.parametrize("header", [{"Authorization": basic("other:login")}, {"Authorization": "Bearer x"}])
def test_it_goes_before_an_authorization_and_beside_a_key(
    header: dict[str, str], private: Upstream, server: Mirror, pin: str
) -> None:
    address = with_login(server.pin(pin, f"{private.url}/file"))
    assert http.get(address, headers=header | {"X-Api-Key": "k"}).content == BODY
    assert private.requests[0].headers["authorization"] == private.basic()
    assert private.requests[0].headers["x-api-key"] == "k"


@pytest.mark.parametrize("there", ["same", "other"])
def test_it_goes_to_its_origin_alone(
    there: str, private: Upstream, upstreams: Callable[..., Upstream], server: Mirror, pin: str
) -> None:
    other = upstreams()
    other.pages["/file"] = BODY
    private.pages["/moved"] = redirect("/file" if there == "same" else f"{other.url}/file")
    assert http.get(with_login(server.pin(pin, f"{private.url}/moved"))).content == BODY
    assert [request.headers.get("authorization") for request in other.requests] in ([], [None])


@pytest.mark.parametrize("bound_to", ["same", "other"])
def test_under_a_bound_pin(
    bound_to: str, private: Upstream, upstreams: Callable[..., Upstream], mirror: Callable[..., Mirror]
) -> None:
    """The address says whose the login is; what else the request carries is for the origin that is bound."""
    running: Mirror = mirror("--bind", f"team={private.url if bound_to == 'same' else upstreams().url}")
    address = with_login(running.pin("team", f"{private.url}/file"))
    assert http.get(address, headers={"X-Api-Key": "k"}).content == BODY
    assert ("x-api-key" in private.requests[0].headers) is (bound_to == "same")


def test_it_is_written_down_nowhere(private: Upstream, mirror: Callable[..., Mirror]) -> None:
    """Nor what is made of it, whatever happens to the request; and the command takes such an address too."""
    index = '<a href="/file.tar.gz">x</a>'
    private.pages["/simple/x/"] = Response(index.encode(), headers={"Content-Type": "text/html"})
    running: Mirror = mirror("--log-level", "debug")
    shown = ""
    for path in ("/file", "/absent", "/simple/x/"):
        for accept in ("*/*", "application/vnd.pypi.simple.v1+json"):
            address = running.pin("team", private.url + path)
            for login in (f"{USER}:{PASSWORD}", f"{USER}%3A{PASSWORD}", f"{PASSWORD}", f"{USER}:wrong"):
                answer = http.get(with_login(address, login), headers={"Accept": accept})
                shown += answer.text + str(answer.headers)
    private.stop()
    shown += http.get(with_login(running.pin("team", f"{private.url}/never"))).text
    shown += http.get(running.pin("team", f"ftp://{USER}:{PASSWORD}@h/x")).text
    assert "/file.tar.gz" in shown
    assert len(checked_records(running.data)) == 2
    path = with_login(running.pin("team", f"{private.url}/file")).removeprefix(running.url)
    never = with_login(running.pin("team", f"{private.url}/never")).removeprefix(running.url)
    for arguments in (("show", path), ("show", never), ("forget", never, "--yes"), ("forget", path, "--yes")):
        ran = run(*arguments, "--data", running.data)
        assert (ran.returncode == 0) is (path in arguments)
        shown += ran.stdout + ran.stderr
    assert len(checked_records(running.data)) == 1
    running.stop()
    for secret in (PASSWORD, private.basic().removeprefix("Basic ")):
        assert secret not in shown
        assert [found for found in _files(running.folder) if secret.encode() in found.read_bytes()] == []


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]

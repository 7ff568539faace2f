"""Access keys in front of a real server: who may read what, in which form a key comes, and where it does not go."""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import pytest

from httpcache.access_keys import PREFIX, new_key
from httpcache.keys.guesses import MOST
from httpcache.keys.key_log import Rate
from tests.support import http
from tests.support.clients import ClientError, Clients, pins
from tests.support.command import run
from tests.support.config import table
from tests.support.index import PIP, html_page
from tests.support.inside import until
from tests.support.keys import FORMS, ask, make
from tests.support.mirror import Mirror
from tests.support.npm import NpmClients, NpmRegistry
from tests.support.packages import wheel
from tests.support.registries import JSON, PyPI
from tests.support.upstream import Request, Response, Upstream

OLD: Final = "2023-06-01T00:00:00Z"
DEMO: Final = wheel("demo", "1.0")
PIN: Final = "tools-2024-01-02"
LOGIN: Final = ("reader", "of-the-upstream")


@dataclass
class House:
    """A mirror that needs keys, what is behind it, and its keys by their names."""

    server: Mirror
    upstream: Upstream
    npm: NpmRegistry
    keys: Mapping[str, str]

    def path(self, address: str) -> str:
        """An address with what is known only now filled in."""
        return address.format(up=self.upstream.url, sha=DEMO.sha256, file=DEMO.filename, npm=self.npm.url)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    with ExitStack() as stack:
        index, files, private, upstream, npm = (stack.enter_context(Upstream(ranges=True)) for _ in range(5))
        PyPI(index, files).upload(DEMO, OLD)
        private.pages["/simple/demo/"] = html_page(DEMO.filename + f"#sha256={DEMO.sha256}")
        private.pages[f"/simple/demo/{DEMO.filename}"] = DEMO.data
        upstream.pages["/file"] = upstream.pages["/other"] = b"bytes"
        upstream.pages["/page/"] = Response(b"<a href=/file>x</a>", headers={"Content-Type": "text/html"})
        upstream.pages["/page"] = Response(status=302, headers={"Location": "/page/"})
        upstream.pages["/simple/demo/"] = html_page(DEMO.filename)
        upstream.pages["/closed"] = _closed
        registry = NpmRegistry(npm)
        registry.publish("thing", "1.0.0")
        (folder / "mirror.toml").write_text(
            "require-keys = true\n"
            + table("registry", name="internal", index=f"{private.url}/simple/")
            + table("group", name="everything", registries=["internal", "pypi"])
        )
        options = ["--config", str(folder / "mirror.toml"), "--access-log"]
        server = Mirror(folder / "mirror", f"{index.url}/simple/", options).start()
        stack.callback(server.kill)
        data = server.data
        keys = {
            "all": make(data, name="all"),
            "tools": make(data, pins=["tools"]),
            "internal": make(data, registries=["internal"]),
            "pypi": make(data, registries=["pypi"]),
            "group": make(data, registries=["everything"]),
            "members": make(data, registries=["internal", "pypi"]),
            "mixed": make(data, name="mixed", pins=["tools", "more"], registries=["pypi"]),
            "revoked": make(data, name="old", revoked=True),
            "expired": make(data, name="late", expired=True),
            "wrong": new_key(),
            "misshapen": f"{PREFIX}short",
            "none": "",
        }
        yield House(server, upstream, registry, keys)
        server.stop()


def _closed(request: Request) -> Response:
    """Who has the login gets what the upstream has, and a stranger a challenge."""
    if request.headers.get("authorization") == _login()["Authorization"]:
        return Response(b"private")
    return Response(b"", 401, {"WWW-Authenticate": 'Basic realm="upstream"'})


def _login() -> Mapping[str, str]:
    return {"Authorization": httpx.BasicAuth(*LOGIN)._auth_header}


_numbers = itertools.count(1)


def somebody() -> str:
    """The address of a client that nobody else has: what one guesses is not held against another."""
    number = next(_numbers)
    return f"198.51.{number // 250}.{number % 250}"


# Who may read what

NEEDS: Final = {
    "/tools-2024-01-02/{up}/file": {"pin"},
    "/tools/raw/{up}/file": {"pin"},
    "/tools-2020-01-01/{up}/simple/demo/": {"pin"},
    "/tools-2020-01-01/{up}/simple/demo/{file}.metadata": {"pin"},
    "/tools-2020-01-01/{npm}thing": {"pin"},
    "/other-2024-01-02/{up}/file": {"everything"},
    "/toolsmith/{up}/file": {"everything"},
    "/2023-07-01/demo/": {"pypi"},
    "/2023-07-01T00:00:00Z/demo/": {"pypi"},
    "/2023-07-01T00%3A00%3A00Z/demo/": {"pypi"},
    "/2023-07-01/pypi/demo/json": {"pypi"},
    "/2023-07-01/": {"pypi"},
    "//2023-07-01//demo/": {"pypi"},
    "/2023-07-01/Demo": {"pypi"},
    "/live/demo/": {"pypi"},
    "/live-7d/demo/": {"pypi"},
    "/files/demo/{sha}/{file}": {"pypi"},
    "/files/demo/{sha}/{file}.metadata": {"pypi"},
    "/internal/live/demo/": {"internal"},
    "/internal/files/demo/{sha}/{file}": {"internal"},
    "/internal/nothing": {"internal"},
    "/everything/live/demo/": {"internal", "pypi"},
    "/everything/live/": {"internal", "pypi"},
    "/": set(),
    "/-/static/style.css": set(),
    "/-/metrics": {"everything"},
    "/-/pins/": {"everything"},
    "/-/pins": {"everything"},
    "/-/entry/?address=/tools-2024-01-02/{up}/file": {"everything"},
    "/-/nothing": {"everything"},
}
OPENS: Final = {
    "all": {"pin", "pypi", "internal", "everything"},
    "tools": {"pin"},
    "internal": {"internal"},
    "pypi": {"pypi"},
    "group": {"internal", "pypi"},
    "members": {"internal", "pypi"},
    "mixed": {"pin", "pypi"},
}
NOBODYS: Final = ("revoked", "expired", "wrong", "misshapen", "none")


@pytest.mark.parametrize("name", OPENS)
def test_who_may_read_what(name: str, house: House) -> None:
    """Each key, in each form, for each address: what it does not open is a 403, and says what it opens."""
    for address, form in itertools.product(NEEDS, FORMS):
        answer = ask(house.server.url, house.path(address), house.keys[name], form, Accept=PIP)
        allowed = NEEDS[address] <= OPENS[name]
        assert (answer.status_code == 403) != allowed, (address, form, answer.status_code, answer.text)
        assert answer.status_code != 401
        if not allowed:
            assert "does not open" in answer.text
            assert "it opens the " in answer.text
        assert "public" not in answer.headers["cache-control"]


@pytest.mark.parametrize("name", NOBODYS)
def test_without_a_valid_key_there_is_nothing(name: str, house: House) -> None:
    """A challenge that clients answer, and a text that says what to do. The upstreams hear of nothing."""
    before = house.upstream.count()
    for address in [*NEEDS, "/favicon.ico", "/nothing", "/-/", "/k/", "/k"]:
        for form in FORMS if house.keys[name] else ["none"]:
            answer = ask(house.server.url, house.path(address), house.keys[name], form, client=somebody())
            assert answer.status_code == 401, (address, form)
            assert answer.headers["www-authenticate"] == 'Basic realm="httpcache", Bearer'
            assert "httpcache key add" in answer.text
            assert answer.headers["cache-control"] == "no-store"
    assert house.upstream.count() == before


def test_the_texts_say_what_is_wrong(house: House) -> None:
    texts = {name: ask(house.server.url, "/", house.keys[name], client=somebody()).text for name in NOBODYS}
    assert texts["none"].startswith("this mirror needs an access key: ")
    assert texts["wrong"].startswith("your access key is not one of this mirror: ")
    assert texts["revoked"].startswith("your access key, 'old', is revoked: ")
    assert texts["expired"].startswith("your access key, 'late', is expired: ")
    refused = ask(house.server.url, "/internal/live/demo/", house.keys["mixed"]).text
    assert refused == (
        "the key 'mixed' does not open the registry internal: it opens the pins more, tools and the registries pypi\n"
    )


def test_probes_need_no_key(house: House) -> None:
    for path in ("/-/health", "/-/ready"):
        assert ask(house.server.url, path).status_code == 200
        assert ask(house.server.url, path, house.keys["wrong"], client=somebody()).status_code == 200
    for path in ("/-/health/", "/-/readyz", "//-/ready", "/%2D/health"):
        assert http.get(house.server.url + path).status_code == 401


@pytest.mark.parametrize("method", ["HEAD", "POST", "OPTIONS", "PUT", "TRACE"])
def test_no_method_goes_around_it(method: str, house: House) -> None:
    answer = http.request(method, f"{house.server.url}/{PIN}/{house.upstream.url}/file")
    assert answer.status_code == 401


@pytest.mark.parametrize("first", ["tools", "internal"])
def test_a_key_behind_another_opens_nothing_more(first: str, house: House) -> None:
    """Only the one at the beginning counts, whatever else has the shape of one."""
    key, other = house.keys[first], house.keys["all"]
    path = f"/other-2024-01-02/{house.upstream.url}/file"
    answer = ask(house.server.url, f"/k/{other}{path}", key, "address")
    assert answer.status_code in (400, 403)
    assert ask(house.server.url, path, key, "address", Authorization=f"Bearer {other}").status_code == 403
    assert other not in house.server.log()


def test_an_upstream_cannot_be_reached_with_the_key_of_another_answer(house: House) -> None:
    """What is kept ready in memory for one key is not given to a key that does not open it."""
    path = f"/more-2024-01-02/{house.upstream.url}/file"
    for _ in range(4):
        assert ask(house.server.url, path, house.keys["mixed"]).status_code == 200
        assert ask(house.server.url, path, house.keys["all"]).status_code == 200
        assert ask(house.server.url, path, house.keys["tools"]).status_code == 403
        assert ask(house.server.url, path).status_code == 401


def test_answers_are_kept_ready_with_every_form(house: House) -> None:
    """A key costs a hit little: it is taken out of the request before the answer is looked for."""
    path = f"/{PIN}/{house.upstream.url}/file"
    for form in FORMS:
        for _ in range(3):
            assert ask(house.server.url, path, house.keys["all"], form).text == "bytes"
    lines = ask(house.server.url, "/-/metrics", house.keys["all"]).text.splitlines()
    counted = [line for line in lines if line.startswith('httpcache_requests_total{kind="pinned",result="memory"}')]
    assert float(counted[0].split()[-1]) >= 2 * len(FORMS)


# The links


def test_links_carry_the_key_of_the_address(house: House) -> None:
    """All that leads on: pages of every form, redirects, the JSON API, packuments, the pages for people."""
    key = house.keys["all"]
    root = f"/k/{key}"

    def at(path: str, **headers: str) -> str:
        answer = ask(house.server.url, house.path(path), key, "address", **headers)
        assert answer.status_code == 200, (path, answer.text)
        return answer.text

    for accept in (JSON, "text/html"):
        for path, base in {
            "/2023-07-01/demo/": "",
            "/live/demo/": "",
            "/2023-07-01/simple/demo/": "",
            "/internal/live/demo/": "/internal",
            "/everything/live/demo/": "/internal",
        }.items():
            page = at(path, Accept=accept)
            assert f'"{root}{base}/files/demo/{DEMO.sha256}/{DEMO.filename}' in page
            assert not re.findall(r'"/(?!k/)[^"]*"', page)
        pinned = at("/tools-2020-01-01/{up}/simple/demo/", Accept=accept)
        assert f'"{root}/tools-2020-01-01/{house.upstream.url}/simple/demo/{DEMO.filename}' in pinned
    assert f'href="{root}/2023-07-01/demo/"' in at("/2023-07-01/", Accept="text/html")
    assert f"{house.server.url}{root}/files/demo/" in at("/2023-07-01/pypi/demo/json")
    assert f"{house.server.url}{root}/tools-2020-01-01/{house.npm.url}thing/-/" in at("/tools-2020-01-01/{npm}thing")
    assert f'href="{root}/-/static/style.css' in at("/", Accept="text/html")
    assert f"{house.server.url}{root}/tools-" in at("/", Accept="text/html")
    assert f'href="{root}/-/pins/' in at("/-/pins/", Accept="text/html")


@pytest.mark.parametrize(
    ("path", "leads"),
    {
        "/2023-07-01/Demo": "/2023-07-01/demo/",
        "/2023-07-01/demo": "/2023-07-01/demo/",
        "//2023-07-01//": "/2023-07-01/",
        "/tools-2020-01-01/{up}/page": "/tools-2020-01-01/{up}/page/",
        "/tools-2020-01-01/raw/{up}/page": "/tools-2020-01-01/raw/{up}/page/",
        "/-/pins": "/-/pins/",
    }.items(),
)
def test_redirects_keep_the_key_of_the_address(path: str, leads: str, house: House) -> None:
    key = house.keys["all"]
    answer = ask(house.server.url, house.path(path), key, "address")
    assert answer.headers["location"] == f"/k/{key}{house.path(leads)}"
    answer = ask(house.server.url, house.path(path), key)
    assert answer.headers["location"] == house.path(leads)


@pytest.mark.parametrize("form", ["basic", "bearer"])
def test_links_are_those_of_all_without_a_key_in_the_address(form: str, house: House) -> None:
    page = ask(house.server.url, "/2023-07-01/demo/", house.keys["all"], form, Accept=JSON)
    assert page.json()["files"][0]["url"] == f"/files/demo/{DEMO.sha256}/{DEMO.filename}"
    assert PREFIX not in page.text


# What goes to an upstream


def test_no_key_goes_to_an_upstream(house: House) -> None:
    """Wherever it stands: also where the upstream asks for a login, and in headers that are forwarded."""
    key, closed = house.keys["all"], f"/{PIN}/{house.upstream.url}/closed"
    for form in FORMS:
        assert ask(house.server.url, closed, key, form).status_code == 401
    for header in ("Private-Token", "X-Api-Key"):
        ask(house.server.url, f"/{PIN}/{house.upstream.url}/with-{header}", key, **{header: key})
    ask(house.server.url, closed, key, "address", Authorization=f"Bearer {key}")
    inner = closed.replace("http://", f"http://reader:{key}@")
    answer = ask(house.server.url, inner, key)
    assert (answer.status_code, "before the pin" in answer.text) == (400, True)
    sent = [(request.target, dict(request.headers)) for request in house.upstream.requests]
    assert PREFIX not in repr(sent)
    assert not [head for target, head in sent if "private-token" in head]


def test_a_login_for_an_upstream_goes_beside_a_key_in_the_address(house: House) -> None:
    """In Authorization, or in a header of its own beside a key in Authorization; the copy is private as ever."""
    key, closed = house.keys["all"], f"/both-2024-01-02/{house.upstream.url}/closed"
    assert ask(house.server.url, closed, key, "address", **_login()).text == "private"
    assert ask(house.server.url, closed, key, "address").status_code == 401
    assert ask(house.server.url, closed, key).status_code == 401
    assert ask(house.server.url, closed, **_login()).headers["www-authenticate"].endswith("Bearer")
    ask(house.server.url, f"/{PIN}/{house.upstream.url}/token", key, **{"Private-Token": "of-the-upstream"})
    assert house.upstream.requests[-1].headers["private-token"] == "of-the-upstream"
    inner = closed.replace("http://", "http://{}:{}@".format(*LOGIN))
    assert ask(house.server.url, inner, key).text == "private"


# Where a key is not written


def test_no_key_is_in_the_log(house: House) -> None:
    """After all that the tests above and this one have asked for."""
    key = house.keys["all"]
    for path in (
        f"/k/{key}",
        f"/k/{key}/nothing",
        f"/x/k/{key}/2023-07-01/",
        f"/{key}/2023-07-01/demo/",
        f"/?key={key}",
    ):
        for form in ("address", "bearer"):
            ask(house.server.url, path, key, form)
    lines = house.server.log()
    assert not [name for name, each in house.keys.items() if each and each in lines]
    assert "target=/2023-07-01/demo/ " in lines
    assert "/k/" not in "".join(re.findall(r"target=/(?:2023|live|files|internal)\S*", lines))


def test_no_key_is_on_a_page_but_in_links_of_its_own(house: House) -> None:
    key = house.keys["all"]
    for path in ("/-/activity/", "/-/metrics", "/-/pins/", f"/-/pins/{PIN}/"):
        assert PREFIX not in ask(house.server.url, path, key).text, path
    found = ask(house.server.url, f"/-/entry/?address={house.server.url}/k/{key}/{PIN}/{house.upstream.url}/file", key)
    assert (found.status_code, PREFIX in found.text, "/-/entry/" in found.text) == (200, False, True)


def test_a_command_takes_an_address_with_a_key_in_it(house: House) -> None:
    ask(house.server.url, f"/{PIN}/{house.upstream.url}/file", house.keys["all"])
    address = f"{house.server.url}/k/{house.keys['all']}/{PIN}/{house.upstream.url}/file"
    shown = run("show", "--data", house.server.data, address)
    assert (shown.returncode, PREFIX in shown.stdout + shown.stderr) == (0, False)


# Guesses


def test_guesses_are_bounded(house: House) -> None:
    """For each client address by itself: also a right key that is found after so many is none."""
    url, right = house.server.url, house.keys["all"]
    guesser, other, colleague = somebody(), somebody(), somebody()
    assert ask(url, "/", right, client=colleague).status_code == 200
    for client in (guesser, colleague):
        assert [ask(url, "/", new_key(), client=client).status_code for _ in range(MOST)] == [401] * MOST
        answer = ask(url, "/", new_key(), client=client)
        assert answer.status_code == 429
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert "too many wrong access keys" in answer.text
    assert ask(url, "/", right, client=guesser).status_code == 429
    assert ask(url, "/", right, client=other).status_code == 200
    assert ask(url, "/", right, client=colleague).status_code == 200  # it was right there before
    assert ask(url, "/", client=guesser).status_code == 401  # no key is no guess
    assert house.server.log().count(f"within a minute from {guesser}") == 1


def test_what_is_no_guess_does_not_count(house: House) -> None:
    """A login for an upstream, a key that was revoked: builds with these go on all day."""
    client = somebody()
    for _ in range(MOST + 1):
        assert ask(house.server.url, "/", house.keys["revoked"], client=client).status_code == 401
        assert ask(house.server.url, "/", client=client, **_login()).status_code == 401
    assert ask(house.server.url, "/", house.keys["all"], client=client).status_code == 200


# Rates


def test_a_key_is_held_to_its_rate(house: House) -> None:
    key = make(house.server.data, name="slow", rate=Rate(3, 3600.0))
    assert [ask(house.server.url, "/", key).status_code for _ in range(3)] == [200] * 3
    answer = ask(house.server.url, "/", key)
    assert (answer.status_code, "'slow' is over its rate" in answer.text) == (429, True)
    assert 1100 < int(answer.headers["retry-after"]) <= 1200
    assert ask(house.server.url, "/", house.keys["all"]).status_code == 200


# What is frozen only


def test_a_read_only_key_gets_what_is_frozen(house: House) -> None:
    """As from a mirror that is offline; a download that another has begun is not for it either."""
    url, key, full = house.server.url, make(house.server.data, read_only=True), house.keys["all"]
    frozen, other = (f"/ro-2024-01-02/{house.upstream.url}/{name}" for name in ("file", "other"))
    assert ask(url, frozen, full).status_code == 200
    assert ask(url, "/2023-07-02/demo/", full, Accept=JSON).status_code == 200
    before = house.upstream.count()
    assert ask(url, frozen, key).text == "bytes"
    assert ask(url, "/2023-07-02/demo/", key, Accept=JSON).status_code == 200
    for path in (other, "/live/demo/", "/internal/live/demo/", f"/ro-2024-01-02/{house.npm.url}thing"):
        answer = ask(url, path, key, Accept=JSON)
        assert (answer.status_code, "your access key is read-only" in answer.text) == (504, True), path
    assert house.upstream.count() == before
    release = threading.Event()
    house.upstream.pages["/slow"] = Response([b"x", release, b"y"], headers={"Content-Length": "2"})
    slow = f"/ro-2024-01-02/{house.upstream.url}/slow"
    begun = threading.Thread(target=ask, args=(url, slow, full))
    begun.start()
    house.upstream.wait("/slow")
    assert ask(url, slow, key).status_code == 504
    release.set()
    begun.join()
    assert ask(url, slow, key).status_code == 200


# Real clients


def given(house: House, form: str, path: str) -> str:
    """The address of a path with a key in it, as a login or as a part of the path."""
    key, host = house.keys["members"], house.server.url.removeprefix("http://")
    return f"http://ci:{key}@{host}{path}" if form == "basic" else f"http://{host}/k/{key}{path}"


@pytest.mark.parametrize("form", ["basic", "address"])
@pytest.mark.parametrize("client", ["pip", "uv"])
def test_installers(client: str, form: str, house: House, clients: Clients) -> None:
    """From an index, through a group, with the metadata files; without a key there is nothing."""
    for path in ("/2023-07-01/", "/everything/live/")[: 2 if client == "uv" else 1]:
        assert clients.install(client, given(house, form, path), ["demo"]) == pins(DEMO)
    if client == "uv":
        with pytest.raises(ClientError):
            clients.install(client, house.server.at("2023-07-01"), ["demo"])


def test_curl_and_wget(house: House, clients: Clients) -> None:
    """As a Bearer token, as a login that waits for the challenge, in .netrc, and in the address."""
    key, url = house.keys["tools"], f"{house.server.url}/{PIN}/{house.upstream.url}/file"
    bearer = clients.curl("-f", "-H", f"Authorization: Bearer {key}", url).checked()
    assert bearer.output == clients.curl("-f", "-u", f"x:{key}", url).checked().output == "bytes"
    assert clients.wget("-O", "-", "--user", "x", "--password", key, url).checked().output == "bytes"
    assert clients.wget("-O", "-", "--header", f"Authorization: Bearer {key}", url).checked().output == "bytes"
    inside = url.replace(house.server.url, f"{house.server.url}/k/{key}")
    assert clients.wget("-O", "-", inside).checked().output == clients.curl("-f", inside).checked().output == "bytes"
    home = clients.place()
    (home / "netrc").write_text(f"machine 127.0.0.1\nlogin x\npassword {key}\n")
    assert clients.curl("-f", "--netrc-file", home / "netrc", url).checked().output == "bytes"
    assert clients.wget("-O", "-", url).code != 0


@pytest.mark.parametrize("form", ["token", "address"])
def test_npm(form: str, house: House, clients: Clients) -> None:
    key = house.keys["tools"]
    root = f"{house.server.url}/k/{key}" if form == "address" else house.server.url
    found = NpmClients(clients).install(
        "npm", f"{root}/{PIN}/{house.npm.url}", {"thing": "*"}, key if form == "token" else ""
    )
    assert found["thing"][0] == "1.0.0"


def test_a_command_that_asks_a_mirror(house: House, tmp_path: Path) -> None:
    (tmp_path / "names").write_text("demo\n")
    ran = run("warm", "2023-07-01", "--projects", tmp_path / "names", "--mirror", given(house, "address", ""))
    assert (ran.returncode, PREFIX in ran.stdout + ran.stderr) == (0, False), ran.stderr


# At once, everywhere


def test_a_revoked_key_is_none_at_once_under_load(mirror: Callable[..., Mirror], upstream: Upstream) -> None:
    """On every worker: what is asked after the command has ended is refused."""
    upstream.pages["/file"] = b"bytes"
    server = mirror("--require-keys", "--workers", "2")
    key = make(server.data, name="ci")
    path, over, began = f"/{PIN}/{upstream.url}/file", threading.Event(), threading.Barrier(4)
    statuses: list[set[int]] = [set(), set()]

    def load() -> None:
        with httpx.Client(trust_env=False) as client:
            began.wait()
            while not over.is_set():
                place = statuses[revoked.is_set()]
                place.add(client.get(server.url + path, headers={"Authorization": f"Bearer {key}"}).status_code)

    revoked = threading.Event()
    threads = [threading.Thread(target=load) for _ in range(3)]
    for each in threads:
        each.start()
    began.wait()
    until(lambda: bool(statuses[0]), "the first answer")
    assert run("key", "revoke", "ci", "--data", server.data).returncode == 0
    revoked.set()
    until(lambda: bool(statuses[1]), "an answer after that")
    over.set()
    for each in threads:
        each.join()
    assert (200 in statuses[0], statuses[1]) == (True, {401})


# Without --require-keys


def test_keys_do_no_harm_where_none_is_needed(server: Mirror, upstream: Upstream, pin: str) -> None:
    """So clients can have theirs before the mirror begins to ask for it: it is not looked at, and goes nowhere."""
    upstream.otherwise = lambda _: Response(b"", 401, {"WWW-Authenticate": 'Basic realm="x"'})
    upstream.pages["/simple/demo/"] = html_page(DEMO.filename)
    key = new_key()
    for form in FORMS:
        page = ask(server.url, f"/{pin}/{upstream.url}/simple/demo/", key, form, Accept=JSON)
        assert page.status_code == 200
        assert page.json()["files"][0]["url"].startswith(f"/k/{key}/" if form == "address" else f"/{pin}/")
        assert ask(server.url, "/-/pins/", key, form).status_code == 200
        assert ask(server.url, f"/{pin}/{upstream.url}/closed", key, form).status_code == 401
    assert PREFIX not in repr([request.headers for request in upstream.requests])
    assert key not in server.log()

"""The pages of pins and entries: what is frozen, by address; hostile names are text, private copies are counted."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from hashlib import sha256
from html import unescape
from urllib.parse import quote

import pytest

from tests.support import http
from tests.support.command import run
from tests.support.inside import until
from tests.support.mirror import Mirror
from tests.support.pages import check_inert, entry_links, link, rows
from tests.support.upstream import Response, Upstream, redirect

PASSWORD = "correct horse"
SECRET = "team-secret-plan"


@pytest.fixture
def stored() -> str:
    """The hash of PASSWORD."""
    ran = run("pages-password", stdin=f"{PASSWORD}\n")
    assert ran.returncode == 0, ran.stderr
    assert PASSWORD not in ran.stdout
    return ran.stdout.strip()


def test_pins_are_listed_searched_and_sorted(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    server = mirror()
    assert "Nothing is frozen yet" in http.get(f"{server.url}/-/pins/").text
    upstream.pages |= {"/small": b"x", "/large": b"x" * 50_000}
    for pin, paths in {"b-one": ["/large"], "a-two": ["/small", "/large"], "c-three": ["/small"]}.items():
        for path in paths:
            assert http.get(server.pin(pin, upstream.url + path)).status_code == 200

    def ask(query: str) -> list[str]:
        return rows(http.get(f"{server.url}/-/pins/{query}").text)

    assert ask("") == ["a-two", "b-one", "c-three"]
    assert ask("?sort=entries") == ["a-two", "b-one", "c-three"]
    assert ask("?sort=bytes") == ["a-two", "b-one", "c-three"]
    assert ask("?q=one") == ["b-one"]
    assert ask("?q=nothing") == []
    assert ask("?sort=nonsense&page=99&page=x") == ["a-two", "b-one", "c-three"]
    got = http.get(f"{server.url}/-/pins/a-two/")
    assert "2 entries, 50 KB" in got.text
    assert rows(got.text) == [f"{upstream.url}/large", f"{upstream.url}/small"]
    upstream.pages["/middle"] = b"x" * 500
    http.get(server.pin("a-two", f"{upstream.url}/middle"))
    largest = rows(http.get(f"{server.url}/-/pins/a-two/?order=largest").text)
    assert largest == [f"{upstream.url}/{name}" for name in ("large", "middle", "small")]
    assert http.get(f"{server.url}/-/pins/absent/").status_code == 404
    moved = http.get(f"{server.url}/-/pins/a-two?q=l")
    assert (moved.status_code, moved.headers["location"]) == (308, "/-/pins/a-two/?q=l")


def test_pages_of_a_pin(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    """Each entry is on exactly one page, in the order of addresses; a search looks at all."""
    server = mirror()
    upstream.otherwise = lambda request: Response(request.target.encode())
    urls = [f"{upstream.url}/{number:03}/{'even' if number % 2 == 0 else 'odd'}" for number in range(230)]
    for url in urls:
        http.get(server.pin("many", url))
    assert crawl(server, "/-/pins/many/") == urls
    assert crawl(server, "/-/pins/many/?how=contains&q=even") == urls[::2]
    assert crawl(server, f"/-/pins/many/?q={upstream.url}/1") == urls[100:200]
    assert crawl(server, "/-/pins/many/?q=zzz") == []
    assert sorted(crawl(server, "/-/pins/many/?order=largest")) == urls
    gone = http.get(f"{server.url}/-/pins/many/?order=largest&after={'0' * 64}")
    assert gone.status_code == 404
    gone = http.get(f"{server.url}/-/pins/many/?after={'0' * 64}")
    assert gone.status_code == 404


def crawl(server: Mirror, path: str) -> list[str]:
    """The rows of a list and of those that follow it."""
    found = []
    where: str | None = path
    while where:
        got = http.get(server.url + where)
        assert got.status_code == 200
        found += rows(got.text)
        more = link(got.text, "Next") or link(got.text, "Search on")
        where = more and path.partition("?")[0] + more
    return found


def test_an_entry_has_its_whole_story(upstream: Upstream, server: Mirror, pin: str) -> None:
    upstream.pages["/asked"] = redirect("/final")
    upstream.pages["/final"] = Response(
        b"0123456789" * 500,
        headers={"Content-Type": "text/x-odd", "Content-Disposition": 'attachment; filename="a.txt"'},
    )
    http.get(server.pin(pin, f"{upstream.url}/asked"))
    http.get(server.pin(pin, f"{upstream.url}/absent/"), headers={"Accept": "text/html"})
    got = http.get(server.url + entry_links(http.get(f"{server.url}/-/pins/{pin}/?q={upstream.url}/asked").text)[0])
    text = unescape(got.text)
    for part in ("5,000 bytes", "text/x-odd", 'attachment; filename="a.txt"', "redirected", "everyone", upstream.url):
        assert part in text, part
    assert re.search(r'<dd class="mono">[0-9a-f]{64}</dd>', text)
    assert f"{server.url}/{pin}/{upstream.url}/asked" in text


def test_an_entry_names_the_redirects_it_came_through(
    upstreams: Callable[..., Upstream], mirror: Callable[..., Mirror], stored: str
) -> None:
    """All of them, in order and without queries, to who has logged in, and only their origins to others."""
    one, other = upstreams(), upstreams()
    one.pages["/asked"] = redirect("/one?token=s3cret")
    one.pages["/one"] = redirect(f"{other.url}/two?sig=s3cret")
    other.pages["/two"] = redirect("/three")
    other.pages["/three"] = b"body"
    server = mirror("--pages", "password", "--pages-password-hash", stored)
    address = f"/p/{one.url}/asked"
    http.get(server.url + address).raise_for_status()
    login = ("httpcache-pages", PASSWORD)
    entry = entry_links(http.get(f"{server.url}/-/pins/p/", auth=login).text)[0]
    text = http.get(server.url + entry, auth=login).text
    assert re.findall("<li>(.*?)</li>", text) == [f"{one.url}/one", f"{other.url}/two"]
    assert f"{other.url}/three, to which" in text
    shown = run("show", address, "--data", server.data)
    assert re.findall("^through +(.*)$", shown.stdout, re.MULTILINE) == [f"{one.url}/one", f"{other.url}/two"]
    row = json.loads(run("show", address, "--data", server.data, "--json").stdout)
    assert (row["from"], row["through"]) == (f"{other.url}/three", [f"{one.url}/one", f"{other.url}/two"])
    assert "s3cret" not in text + shown.stdout
    open_to_all = mirror("--data", str(server.data))
    assert re.findall("<li>(.*?)</li>", http.get(open_to_all.url + entry).text) == [one.url, other.url]


@pytest.mark.parametrize(
    "form", ["{mirror}/{pin}/{url}", "/{pin}/{url}", "{pin}/{url}", "http://other:1/{pin}/{url}", "/{pin}/raw/{url}"]
)
def test_an_address_is_found(form: str, upstream: Upstream, server: Mirror, pin: str) -> None:
    upstream.pages["/file"] = b"x"
    http.get(server.pin(pin, f"{upstream.url}/file"))
    address = form.format(mirror=server.url, pin=pin, url=f"{upstream.url}/file")
    got = http.get(f"{server.url}/-/entry/", params={"address": address})
    assert rows(got.text) == [f"{upstream.url}/file"]


@pytest.mark.parametrize(
    "address", ["x", "/", "https://example.com/file", "/p/https://h/x?token=secret123", "/a b/http://x/"]
)
def test_an_address_that_is_not_found(address: str, server: Mirror) -> None:
    got = http.get(f"{server.url}/-/entry/", params={"address": address})
    assert got.status_code in (400, 404)
    assert 'role="alert"' in got.text
    assert "secret123" not in got.text


@pytest.mark.parametrize("name", ["x", "0" * 64, "..%2f..", "%00", "<script>"])
def test_an_entry_that_is_none(name: str, server: Mirror) -> None:
    assert http.get(f"{server.url}/-/entry/{name}/").status_code == 404


HOSTILE = [
    "/<script>alert(1)</script>",
    '/"onmouseover="alert(1)"x="',
    "/'><img src=x onerror=alert(1)>",
    "/{{1789*7919}}{%25 raw %25}",
    "/&lt;script&gt;",
    "/%E2%80%AEgnp.exe",  # turns the direction of what follows
    "/javascript:alert(1)",
    "/\x1b]0;title\x07",
]


@pytest.mark.parametrize("path", HOSTILE)
def test_a_hostile_address_is_text(path: str, upstream: Upstream, server: Mirror, pin: str) -> None:
    """In lists, in searches, in links and titles, and with it every header that was kept."""
    evil = '"></dd><script>alert(2)</script>'
    upstream.otherwise = lambda _: Response(b"x", headers={"Content-Type": f"text/{evil}", "Content-Disposition": evil})
    sent = quote(path, safe="/%:{}'")
    assert http.get(server.pin(pin, upstream.url + sent)).status_code == 200
    listed = http.get(f"{server.url}/-/pins/{pin}/")
    assert len(rows(listed.text)) == 1
    places = [
        entry_links(listed.text)[0],
        f"/-/pins/{pin}/?q={quote(path)}",
        f"/-/pins/{quote(path, safe='')}/",
        f"/-/pins/?q={quote(path)}&sort={quote(path)}",
        f"/-/entry/?address={quote(path)}",
        f"/-/entry/{quote(path, safe='')}/",
    ]
    for place in places:
        got = http.get(server.url + place, headers={"Accept": "text/html"})
        check_inert(got.text)
        assert "\x1b" not in got.text
        assert "\u202e" not in got.text
        assert f"{1789 * 7919}" not in got.text


@pytest.fixture
def closed(upstreams: Callable[..., Upstream]) -> Upstream:
    """An upstream that wants a login, with two files whose names are secret, around one that is not."""
    return upstreams(auth=("user", "pass"))


def fill(server: Mirror, upstream: Upstream, closed: Upstream) -> None:
    """Freeze something public and something private under one pin."""
    upstream.pages["/public"] = b"public"
    closed.otherwise = lambda request: Response(request.path.encode())
    assert http.get(server.pin("mixed", f"{upstream.url}/public")).status_code == 200
    for number in range(120):
        url = f"{closed.url}/{SECRET}-{number:03}"
        assert http.get(server.pin("mixed", url), headers={"Authorization": closed.basic()}).status_code == 200


def test_private_copies_are_counted_and_not_named(
    upstream: Upstream, closed: Upstream, mirror: Callable[..., Mirror]
) -> None:
    """Whatever is asked: no list, search, link, entry, or difference between two answers tells that one is there."""
    server = mirror()
    fill(server, upstream, closed)
    listed = http.get(f"{server.url}/-/pins/mixed/")
    assert "121 entries" in listed.text
    assert crawl(server, "/-/pins/mixed/") == [f"{upstream.url}/public"]
    pages = [listed.text, http.get(f"{server.url}/-/pins/").text]
    for there, absent in [(f"{closed.url}/{SECRET}", f"{closed.url}/team-nothing-x"), (SECRET, "team-nothing-x")]:
        for how in ("begins", "contains"):
            one, other = (http.get(f"{server.url}/-/pins/mixed/", params={"q": q, "how": how}) for q in (there, absent))
            assert one.status_code == other.status_code == 200
            assert one.text.replace(there, "").replace(quote(there, safe=""), "") == other.text.replace(
                absent, ""
            ).replace(quote(absent, safe=""), "")
    one, other = (
        http.get(f"{server.url}/-/entry/", params={"address": f"/mixed/{closed.url}/{SECRET}-{end}"})
        for end in ("007", "999")
    )
    assert one.status_code == other.status_code == 404
    assert one.text.replace("007", "") == other.text.replace("999", "")
    assert rows(http.get(f"{server.url}/-/pins/mixed/?order=largest").text) == [f"{upstream.url}/public"]
    for order in ("address", "used", "largest"):
        for number in ("007", "999"):
            name = sha256(f"mixed\n{closed.url}/{SECRET}-{number}".encode()).hexdigest()
            got = http.get(f"{server.url}/-/pins/mixed/", params={"order": order, "after": name})
            assert got.status_code == 404
            assert http.get(f"{server.url}/-/entry/{name}/").status_code == 404
    until(lambda: rows(http.get(f"{server.url}/-/pins/mixed/?order=used").text) != [], "the journal")
    assert rows(http.get(f"{server.url}/-/pins/mixed/?order=used").text) == [f"{upstream.url}/public"]
    assert not any(SECRET in text for text in pages)


def test_a_login_sees_all(upstream: Upstream, closed: Upstream, mirror: Callable[..., Mirror], stored: str) -> None:
    """Names, not content; and the login of the pages goes to no upstream, whatever realm that names."""
    server = mirror("--pages", "password", "--pages-password-hash", stored)
    fill(server, upstream, closed)
    login = ("httpcache-pages", PASSWORD)
    for path in ("/-/pins/", "/-/pins/mixed/", "/-/nothing", "/-/metrics"):
        refused = http.get(server.url + path, headers={"Accept": "text/html"})
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith("Basic realm=")
        assert "mixed" not in refused.text
    for wrong in [("httpcache-pages", "wrong"), ("admin", PASSWORD), ("httpcache-pages", "")]:
        assert http.get(f"{server.url}/-/pins/", auth=wrong).status_code == 401
    for header in ("Basic", "Basic !!!", "Basic /w==", f"Bearer {PASSWORD}", "Basic aHR0cGNhY2hlLXBhZ2Vz"):
        assert http.get(f"{server.url}/-/pins/", headers={"Authorization": header}).status_code == 401
    assert 'pin="mixed"' in http.get(f"{server.url}/-/metrics", auth=login).text
    got = http.get(f"{server.url}/-/pins/mixed/?how=contains&q={SECRET}-00", auth=login)
    assert len(rows(got.text)) == 10
    entry = http.get(server.url + entry_links(got.text)[0], auth=login)
    assert "those whose credentials the upstream accepts" in entry.text
    for open_path in ("/", "/-/health", "/-/ready"):
        assert http.get(server.url + open_path).status_code == 200
    closed.requests.clear()
    answer = http.get(server.pin("mixed", f"{closed.url}/new"), auth=login)
    assert answer.status_code == 401
    assert closed.requests
    assert all("authorization" not in request.headers for request in closed.requests)
    assert PASSWORD not in server.log()


def test_pages_off(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    """The start page and the probes stay."""
    server = mirror("--pages", "off")
    assert [http.get(server.url + path).status_code for path in ("/", "/-/health", "/-/pins/", "/-/entry/")] == [
        200,
        200,
        404,
        404,
    ]
    assert "/-/pins/" not in http.get(f"{server.url}/").text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--pages", "password"], "pages-password-hash"),
        (["--pages", "password", "--pages-password-hash", "secret"], "httpcache pages-password"),
        (["--pages", "password", "--pages-password-hash", "scrypt:14:8:5:AAAA:AAAA"], "cut off"),
        (
            ["--pages", "password", "--pages-password-hash", "scrypt:40:8:5:AAAAAAAAAAAAAAAA:AAAAAAAAAAAAAAAAAAAAAAAA"],
            "costs",
        ),
        (["--pages", "maybe"], "off, on, password"),
    ],
)
def test_a_setting_that_is_wrong(arguments: list[str], said: str) -> None:
    ran = run("serve", *arguments)
    assert ran.returncode != 0
    assert said in ran.stderr


def test_a_password_that_is_short() -> None:
    ran = run("pages-password", stdin="short\n")
    assert ran.returncode == 1
    assert "at least 8" in ran.stderr


def test_web_pages_of_others_cannot_read_these(mirror: Callable[..., Mirror]) -> None:
    server = mirror("--cors")
    for path in ("/", "/-/pins/", "/-/nothing"):
        assert (
            "access-control-allow-origin"
            not in http.get(server.url + path, headers={"Origin": "http://evil.example"}).headers
        )


def test_use_is_shown(upstream: Upstream, mirror: Callable[..., Mirror], stored: str) -> None:
    """How often, when last, and, to who has logged in, by whom; entries are listed by their last use."""
    server = mirror("--pages", "password", "--pages-password-hash", stored)
    login = ("httpcache-pages", PASSWORD)
    for path in ("/a", "/b", "/c"):
        upstream.pages[path] = path.encode()
        http.get(server.pin("used", upstream.url + path))
    until(lambda: len(rows(http.get(f"{server.url}/-/pins/used/?order=used", auth=login).text)) == 3, "the journal")
    http.get(server.pin("used", f"{upstream.url}/b"))

    listed = http.get(f"{server.url}/-/pins/used/?q={upstream.url}/b", auth=login)
    entry = server.url + entry_links(listed.text)[0]
    until(lambda: "Answered 2 times" in http.get(entry, auth=login).text, "the next addition to the journal")
    for name, place in [("used", 0), ("unused", -1)]:
        got = http.get(f"{server.url}/-/pins/used/?order={name}", auth=login)
        assert rows(got.text)[place] == f"{upstream.url}/b"
    assert '<th scope="row" class="mono">127.0.0.1</th>' in http.get(entry, auth=login).text
    assert rows(http.get(f"{server.url}/-/pins/?sort=used", auth=login).text) == ["used"]


def test_a_running_server_can_close_its_pages(mirror: Callable[..., Mirror], stored: str) -> None:
    """The file is read again at SIGHUP."""
    server = mirror()
    assert server.process is not None
    for text, status in {
        'pages = "off"': 404,
        f'pages = "password"\npages-password-hash = "{stored}"': 401,
        'pages = "on"': 200,
    }.items():
        (server.folder / "httpcache.toml").write_text(text)
        server.process.send_signal(signal.SIGHUP)
        until(lambda status=status: http.get(f"{server.url}/-/pins/").status_code == status, f"{status}")  # type: ignore[misc]
    assert stored not in server.log()

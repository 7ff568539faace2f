"""SIGHUP: what a running server changes, without a request that fails, what needs a restart, and what it says."""

from __future__ import annotations

import itertools
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from httpcache.adapter import adapters
from httpcache.command.in_force import every
from httpcache.login import make_hash
from tests.support import http
from tests.support.command import run
from tests.support.config import table
from tests.support.index import html_page
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.registries import PyPI, Registry
from tests.support.upstream import Response, Upstream, redirect

BODY = b"0123456789" * 1000
INSTALLED = list(adapters())
SURE = 40
"""So many requests, each on a connection of its own, meet every worker."""


@pytest.fixture
def mirror_with(tmp_path: Path) -> Iterator[Callable[..., Mirror]]:
    """Start mirrors with a settings file, which is `httpcache.toml` in their folder."""
    started: list[Mirror] = []

    def start(text: str, *arguments: str, upstream: str | None = None, **environment: str) -> Mirror:
        server = Mirror(tmp_path / f"{len(started)}", upstream, ["--workers", "2", *arguments], environment)
        (server.folder / "httpcache.toml").write_text(text)
        started.append(server)
        return server.start()

    yield start
    for server in started:
        try:
            server.stop()
        finally:
            server.kill()


def reload(server: Mirror, text: str | None = None) -> str:
    """Write the file and send SIGHUP; return what the server then logs of it."""
    if text is not None:
        (server.folder / "httpcache.toml").write_text(text)
    assert server.process
    before = len(server.log())
    server.process.send_signal(signal.SIGHUP)
    eventually(lambda: "the settings " in server.log()[before:])
    time.sleep(0.1)  # for the lines behind it
    return server.log()[before:]


def eventually(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until it is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not become so"
        time.sleep(0.05)


def everywhere(condition: Callable[[], bool]) -> bool:
    """Whether it is so for every worker, as far as many requests tell."""
    return all(condition() for _ in range(SURE))


def workers(server: Mirror) -> list[int]:
    """The worker processes."""
    assert server.process
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
    return [int(pid) for pid in children.split()]


@contextmanager
def load(address: str, threads: int = 4) -> Iterator[list[str]]:
    """Clients that ask for a frozen file all the time; yields what went wrong."""
    wrong: list[str] = []
    done = threading.Event()

    def ask() -> int:
        count = 0
        with httpx.Client(timeout=60, trust_env=False) as client:
            while not done.is_set():
                try:
                    answer = client.get(address) if count % 3 else http.get(address)
                    if answer.content != BODY:
                        wrong.append(f"{answer.status_code} {answer.text[:200]}")
                except httpx.HTTPError as error:
                    wrong.append(repr(error))
                count += 1
        return count

    with ThreadPoolExecutor(threads) as pool:
        asking = [pool.submit(ask) for _ in range(threads)]
        try:
            yield wrong
        finally:
            done.set()
        assert sum(each.result() for each in asking) > 20


def test_what_a_running_server_changes_under_load(
    upstreams: Callable[..., Upstream], mirror_with: Callable[..., Mirror]
) -> None:
    """Rules, registries, groups and settings, in both workers; no request fails, and a download goes on."""
    upstream, private = upstreams(), upstreams()
    release = threading.Event()
    upstream.pages |= {"/file": BODY, "/slow": Response([BODY, release, BODY]), "/big": BODY * 20}
    upstream.pages["/kept"] = Response(BODY, headers={"X-Repo-Commit": "abc"})
    for each in (upstream, private):
        each.pages["/simple/foo/"] = html_page("foo-1.tar.gz")
    server = mirror_with("log-level = 'warning'\n", upstream=f"{upstream.url}/simple/")
    frozen = server.pin("pin", f"{upstream.url}/file")
    assert http.get(frozen).content == BODY
    assert http.get(server.at("live") + "foo/").text.count("foo-1") > 0
    assert http.get(server.at("internal/live") + "foo/").status_code >= 400
    text = (
        "log-level = 'info'\nmax-file = '100K'\nkeep-header = ['X-Repo-Commit']\ncors = true\nroot-path = ''\n"
        + table("registry", name="internal", index=f"{private.url}/simple/")
        + table("group", name="all", registries=["internal", "pypi"])
        + table("block", project="foo", reason="says so")
    )
    with load(frozen) as wrong, http.stream("GET", server.pin("pin", f"{upstream.url}/slow")) as slow:
        chunks = slow.iter_raw()
        start = next(chunks)
        logged = reload(server, text)
        eventually(lambda: everywhere(lambda: "quarantined" in _page(server, "live")))
        assert everywhere(lambda: http.get(server.at("internal/live") + "foo/").status_code == 200)
        assert everywhere(lambda: http.get(server.at("all/live") + "foo/").status_code == 200)
        assert everywhere(
            lambda: "access-control-allow-origin" in http.get(frozen, headers={"Origin": "http://x"}).headers
        )
        assert http.get(server.pin("new", f"{upstream.url}/kept")).headers["x-repo-commit"] == "abc"
        assert "--max-file" in http.get(server.pin("new", f"{upstream.url}/big")).text
        reload(server, "")
        eventually(lambda: everywhere(lambda: "quarantined" not in _page(server, "live")))
        assert everywhere(lambda: http.get(server.at("internal/live") + "foo/").status_code >= 400)
        release.set()
        assert start + b"".join(chunks) == BODY * 2
    assert wrong == []
    for line in (
        "log-level: info (httpcache.toml:1); it was warning",
        "max-file: 100K (httpcache.toml:2); it was 32G",
        "cors: on (httpcache.toml:4); it was off",
        "[block]: changed", "[registry]: changed", "[group]: changed",
    ):  # fmt: skip
        assert f" INFO {line}\n" in logged
    assert "root-path" not in logged


def _page(server: Mirror, when: str) -> str:
    return http.get(server.at(when) + "foo/", headers={"Accept": "application/vnd.pypi.simple.v1+json"}).text


def test_a_file_that_is_wrong_changes_nothing(upstream: Upstream, mirror_with: Callable[..., Mirror]) -> None:
    upstream.pages["/simple/foo/"] = html_page("foo-1.tar.gz")
    blocked = table("block", project="foo", reason="says so")
    server = mirror_with(blocked, upstream=f"{upstream.url}/simple/")
    assert everywhere(lambda: "quarantined" in _page(server, "live"))
    for text, said in (
        ("prot = 1\n", "httpcache.toml:1: unknown key 'prot': did you mean 'port'?"),
        ("[block", "httpcache.toml:1: this is not TOML"),
        ("log-level = 'debug'\n[[allow]]\nproject = 'foo'\n", "httpcache.toml:2: [[allow]]: it has no reason"),
        ("offline = true\ncapture = true\n", "--offline forbids that"),
        (table("registry", name="a", index="https://x/", user="u", password={"env": "NO"}), "variable NO is not set"),
    ):  # fmt: skip
        logged = reload(server, text)
        assert " ERROR the settings stay as they were: " in logged
        assert said in logged
        assert len(logged.splitlines()) == 1
    (server.folder / "httpcache.toml").unlink()
    assert "httpcache.toml cannot be read: No such file" in reload(server)
    assert everywhere(lambda: "quarantined" in _page(server, "live"))
    assert "the settings were read again from httpcache.toml\n" in reload(server, "")
    eventually(lambda: everywhere(lambda: "quarantined" not in _page(server, "live")))


def test_what_needs_a_restart_is_said_and_stays(mirror_with: Callable[..., Mirror]) -> None:
    server = mirror_with("max-clients = 100\n")
    before = workers(server)
    logged = reload(server, "max-clients = 200\nmax-header = '32K'\nproxy = 'http://me:S3CRET@127.0.0.1:1'\nport = 1\n")
    assert "max-clients: 200 (httpcache.toml:1) needs a restart: until then it is 100\n" in logged
    assert "port: 1 (httpcache.toml:4) needs a restart" not in logged  # --port is stronger
    assert "max-header: 32K (httpcache.toml:2) needs a restart: until then it is 64K\n" in logged
    assert "proxy: (set) (httpcache.toml:3); it was nothing\n" in logged
    assert "S3CRET" not in logged
    again = reload(server)
    assert "max-clients: 200" in again
    assert "proxy" not in again
    assert workers(server) == before
    assert "needs a restart" not in reload(server, "max-clients = 100\nlog-level = 'error'\n")
    assert "log-level: info (default); it was error\n" in reload(server, "max-clients = 100\n")


def test_what_is_given_by_option_or_variable_is_stronger_than_a_new_file(mirror_with: Callable[..., Mirror]) -> None:
    server = mirror_with("", "--log-level", "warning", HTTPCACHE_DEADLINE="5")
    assert len(reload(server, "log-level = 'debug'\ndeadline = 7\n").splitlines()) == 1


def test_secrets_in_files_are_read_again(
    upstreams: Callable[..., Upstream], mirror_with: Callable[..., Mirror]
) -> None:
    """A token that was rotated, though the settings file is as it was."""
    private = upstreams(tokens={"Private-Token": "first"})
    private.pages["/simple/foo/"] = html_page("foo-1.tar.gz")
    server = mirror_with("")
    (server.folder / "token").write_text("first\n")
    text = table(
        "registry", name="internal", index=f"{private.url}/simple/", header="Private-Token", value={"file": "token"}
    )
    reload(server, text)
    eventually(lambda: everywhere(lambda: http.get(server.at("internal/live") + "foo/").status_code == 200))
    private.tokens = {"Private-Token": "second"}
    assert http.get(server.at("internal/live") + "foo/").status_code != 200
    (server.folder / "token").write_text("second\n")
    reload(server)
    eventually(lambda: everywhere(lambda: http.get(server.at("internal/live") + "foo/").status_code == 200))


def test_a_worker_that_comes_later_has_the_new_settings(upstream: Upstream, mirror_with: Callable[..., Mirror]) -> None:
    upstream.pages["/simple/foo/"] = html_page("foo-1.tar.gz")
    server = mirror_with("", upstream=f"{upstream.url}/simple/")
    reload(server, table("block", project="foo", reason="says so"))
    before = workers(server)
    os.kill(before[0], signal.SIGKILL)
    eventually(lambda: len(workers(server)) == 2 and before[0] not in workers(server))
    eventually(lambda: http.get(f"{server.url}/-/ready").status_code == 200)
    eventually(lambda: everywhere(lambda: "quarantined" in _page(server, "live")))
    reload(server, "")
    eventually(lambda: everywhere(lambda: "quarantined" not in _page(server, "live")))


def test_many_reloads_leave_nothing_behind(upstream: Upstream, mirror_with: Callable[..., Mirror]) -> None:
    """Neither open files nor processes; and a signal to the whole group is no other one."""
    upstream.pages["/file"] = BODY
    server = mirror_with("")
    address = server.pin("pin", f"{upstream.url}/file")
    reload(server)
    eventually(lambda: everywhere(lambda: http.get(address).content == BODY))
    before, pids = handles(server), workers(server)
    assert server.process
    for number in range(10):
        os.killpg(server.process.pid, signal.SIGHUP)
        eventually(lambda number=number: server.log().count("the settings were read again") == number + 2)  # type: ignore[misc]
        assert everywhere(lambda: http.get(address).content == BODY)
    eventually(lambda: handles(server) <= before + 4)
    assert workers(server) == pids


def handles(server: Mirror) -> int:
    """How many files the workers have open."""
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in workers(server))


def test_sigterm_during_reloads_ends_well(upstream: Upstream, mirror_with: Callable[..., Mirror]) -> None:
    """With a download of a replaced application under way: it is finished, as any other."""
    release = threading.Event()
    upstream.pages["/slow"] = Response([BODY, release, BODY])
    server = mirror_with("")
    with http.stream("GET", server.pin("pin", f"{upstream.url}/slow")) as slow:
        chunks = slow.iter_raw()
        start = next(chunks)
        reload(server)
        assert server.process
        server.process.send_signal(signal.SIGHUP)
        server.terminate()
        release.set()
        assert start + b"".join(chunks) == BODY * 2
    server.stop()
    listed = run("ls", "pin", "--data", server.data)
    assert f"{upstream.url}/slow" in listed.stdout


def test_the_next_capture_has_the_new_settings(
    pypi: PyPI, registry: Callable[..., Registry], mirror_with: Callable[..., Mirror]
) -> None:
    named = registry("ngc")
    named.upload(wheel("some-thing", "1.0"))
    pypi.upload(wheel("some-thing", "1.0"), "2024-01-02T00:00:00Z")
    server = mirror_with("capture-every = 0.02\n", upstream=pypi.url)
    eventually(lambda: "captured pypi" in server.log())
    (server.folder / "names").write_text("some-thing\n")
    reload(server, "capture-every = 0.02\n" + table("registry", name="internal", index=named.url, capture="names"))
    eventually(lambda: "captured internal" in server.log())


def test_captures_begin_and_end_with_the_settings(pypi: PyPI, mirror_with: Callable[..., Mirror]) -> None:
    pypi.upload(wheel("some-thing", "1.0"), "2024-01-02T00:00:00Z")
    server = mirror_with("", upstream=pypi.url)
    assert "capture: on (httpcache.toml:1); it was off" in reload(server, "capture = true\n")
    eventually(lambda: "captured pypi" in server.log())
    reload(server, "capture-every = 0.02\n")
    eventually(lambda: server.log().count("captured pypi") >= 3)
    reload(server, "")
    before = server.log().count("captured pypi")
    time.sleep(3)  # in which there would be another
    assert server.log().count("captured pypi") <= before + 1, "one may have been under way"
    reload(server, "capture = true\ncapture-every = 0.02\n")
    eventually(lambda: server.log().count("captured pypi") >= before + 3)


# Each setting that a running server changes


class Place:
    """A running mirror with two workers, an upstream, and fresh addresses."""

    def __init__(self, server: Mirror, upstream: Upstream) -> None:
        self.server = server
        self.upstream = upstream
        self._numbers = itertools.count()

    def fresh(self, path: str, pin: str = "pin") -> str:
        """An address that nobody has asked for before: nothing frozen hides what the settings say."""
        return self.server.pin(pin, f"{self.upstream.url}{path}?{next(self._numbers)}")

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
        return http.get(self.fresh(path), headers=dict(headers or {}))

    def own(self, path: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
        return http.get(f"{self.server.url}{path}", headers=dict(headers or {}))

    def sent(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        """The headers of the request that reached the upstream under a pin that settings can bind."""
        http.get(self.fresh("/file", "bound"), headers=dict(headers))
        return self.upstream.requests[-1].headers

    def breaks(self, path: str) -> bool:
        """Whether the answer ends before it is whole."""
        try:
            return http.get(self.fresh(path), timeout=1).status_code >= 500
        except httpx.ReadTimeout:
            return False
        except httpx.TransportError:
            return True

    def is_logged(self, form: str) -> bool:
        """Whether a request is in the log, in a line that begins so."""
        name = f"asked-{next(self._numbers)}"
        self.own("/live/foo/", {"X-Request-ID": name})
        return any(name in line and re.match(form, line) for line in self.server.log().splitlines())

    def is_frozen(self, path: str) -> bool:
        address = self.fresh(path)
        return [http.get(address).headers["cache-status"] for _ in range(2)][1] == "httpcache; hit"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """With a private copy under the pin `private`."""
    with Upstream() as upstream:
        silent = threading.Event()
        upstream.pages |= {
            "/file": BODY,
            "/no-store": Response(BODY, headers={"Cache-Control": "no-store", "X-Repo-Commit": "abc"}),
            "/one": redirect("/two"),
            "/two": redirect("/file"),
            "/silent": Response([b"x", silent], headers={"Content-Length": "2"}),
            "/simple/foo/": html_page("foo-1.tar.gz"),
            "/simple/large/": html_page(*(f"large-{number}.tar.gz" for number in range(100))),
            "/token": lambda asked: Response(BODY, 200 if asked.headers.get("private-token") == "k" else 401),
        }
        server = Mirror(tmp_path_factory.mktemp("reload"), f"{upstream.url}/simple/", ["--workers", "2"])
        (server.folder / "httpcache.toml").write_text("")
        try:
            server.start()
            private = server.pin("private", f"{upstream.url}/token")
            assert http.get(private, headers={"Private-Token": "k"}).content == BODY
            yield Place(server, upstream)
            silent.set()
            server.stop()
        finally:
            server.kill()


HASH = make_hash("pa55word")
BROWSER = {"Accept": "text/html"}
CHANGES: list[tuple[str, Callable[[Place], bool]]] = [
    ("access-log = true", lambda at: at.is_logged(r"\d{4}-")),
    ("access-log = true\nlog-format = 'json'", lambda at: at.is_logged(r"\{")),
    ("offline = true", lambda at: at.get("/file").status_code == 504),
    ("root-path = '/under'", lambda at: at.own("/under/live/foo/").status_code == 200),
    (
        "root-path = '/under'\nroot-path-stripped = true",
        lambda at: "/under/" in at.own("/live/foo/", BROWSER).text,
    ),
    ("cors = true", lambda at: "access-control-allow-origin" in at.own("/live/foo/", {"Origin": "http://x"}).headers),
    ("pages = 'off'", lambda at: at.own("/-/pins/").status_code == 404),
    (f"pages = 'password'\npages-password-hash = '{HASH}'", lambda at: at.own("/-/pins/").status_code == 401),
    ("allow-network = ['::1/128']", lambda at: http.get(at.server.pin("x", "http://[::1]:9/")).status_code == 502),
    ("proxy = 'http://127.0.0.1:9'", lambda at: at.get("/file").status_code == 502),
    ("credential-header = ['X-Our-Key']", lambda at: at.sent({"X-Our-Key": "k"}).get("x-our-key") == "k"),
    ("bind = ['bound=https://x.example']", lambda at: "private-token" not in at.sent({"Private-Token": "k"})),
    ("share = ['private']", lambda at: at.own(f"/private/{at.upstream.url}/token").status_code == 200),
    ("respect-no-store = true", lambda at: not at.is_frozen("/no-store")),
    ("keep-header = ['X-Repo-Commit']", lambda at: "x-repo-commit" in at.get("/no-store").headers),
    ("max-file = '1K'", lambda at: "--max-file" in at.get("/file").text),
    ("max-page = '1K'", lambda at: "--max-page" in at.get("/simple/large/", BROWSER).text),
    ("max-redirects = 1", lambda at: "--max-redirects" in at.get("/one").text),
    ("stall-timeout = 0.2", lambda at: at.breaks("/silent")),
    ("require-keys = true", lambda at: at.own("/live/foo/").status_code == 401),
    ("deadline = 0.2", lambda at: at.breaks("/silent")),
]


@pytest.mark.parametrize(("text", "is_changed"), CHANGES, ids=[text.partition(" ")[0] for text, _ in CHANGES])
def test_a_setting_that_a_running_server_changes(text: str, is_changed: Callable[[Place], bool], place: Place) -> None:
    """It is so for every worker after the signal, and was not before, nor is it after the next one."""
    assert not is_changed(place)
    reload(place.server, text)
    eventually(lambda: all(is_changed(place) for _ in range(SURE // 2)))
    reload(place.server, "")
    slow = text.startswith(("stall", "deadline"))  # each of these waits for what does not come
    eventually(lambda: not any(is_changed(place) for _ in range(3 if slow else SURE // 2)))


def test_every_setting_that_is_not_fixed_was_changed() -> None:
    """Or is hard to see from outside; then it is part of an application that is replaced whole."""
    changed = {line.partition(" ")[0] for text, _ in CHANGES for line in text.splitlines()}
    elsewhere = {"log-level", "capture", "capture-every"}
    unseen = {
        "redirect-above", "trusted-proxy", "allow-port", "ca-bundle", "connect-timeout", "min-rate",
        "max-connections-per-origin", "pypi-upstream", "pypi-capture", "pypi-second-look", "pypi-read-ahead",
        "keep-builds",
    }  # fmt: skip
    assert {setting.name for setting in every(INSTALLED) if not setting.is_fixed} == changed | elsewhere | unseen

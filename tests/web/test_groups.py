"""Groups of registries: the first that ever had a name answers for it, whatever the others offer of that name."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import httpx
import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import given, settings
from hypothesis import strategies as st

from httpcache.freezing import mirror as mirrors
from httpcache.settings import Settings
from httpcache.settings_file import read
from httpcache.store.local import LocalStore
from httpcache.store.recorder import Recorder
from httpcache.store.usage import Journal
from httpcache.web.accounting import Accounts
from httpcache.web.app import Front
from httpcache.web.labels import Labels
from pypi_adapter import adapter
from pypi_adapter.registry import project_observer
from tests.support.clients import ClientError, Clients, pins
from tests.support.config import configured, table
from tests.support.examples import examples
from tests.support.index import ago, ask, document, filenames, instant, json_file, json_files, json_page
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.registries import JSON, PyPI, Registry
from tests.support.upstream import NOT_FOUND, Response, Upstream

CREDENTIALS = ("ci", "S3CRET-token")
DATE = "2024-01-02"
OLD = "2023-06-01T00:00:00Z"
OURS = wheel("own-thing", "1.0", ["common"])
THEIRS = wheel("own-thing", "99.0", salt="an attacker's")
COMMON = wheel("common", "1.0")
Start = Callable[..., Registry]


@contextmanager
def grouped(folder: Path, private: str, pypi: PyPI, more: str = "") -> Iterator[Mirror]:
    """A mirror whose group asks the private registry before the public one."""
    config = (
        table("registry", name="internal", index=private, user=CREDENTIALS[0], password={"env": "TOKEN"})
        + table("group", name="everything", registries=["internal", "pypi"])
        + more
    )
    with configured(folder, config, pypi.url, environment={"TOKEN": CREDENTIALS[1]}) as server:
        yield server


def links(address: str) -> list[str]:
    """Where the files of a page are."""
    return [file["url"] for file in document(address)["files"]]


@pytest.mark.parametrize("client", ["pip", "uv"])
@pytest.mark.parametrize("shape", ["gitlab", "PEP 700"])
def test_dependency_confusion(
    shape: str,
    client: str,
    registry: Start,
    pypi: PyPI,
    upstreams: Callable[..., Upstream],
    clients: Clients,
    tmp_path: Path,
) -> None:
    """A higher version under a private name is not seen: not at an instant, not live, not after the private project
    was deleted, and not while the private registry is down.
    """
    pypi.upload(COMMON, OLD)
    pypi.upload(THEIRS, OLD)
    private: PyPI | Registry
    if shape == "gitlab":
        private = registry(shape, auth=CREDENTIALS)
        private.upload(OURS)
    else:
        private = PyPI(upstreams(auth=CREDENTIALS), upstreams(ranges=True))
        private.upload(OURS, OLD)
    with grouped(tmp_path / "m", private.url, pypi) as server:
        live = server.at("everything/live")
        assert clients.install(client, live, ["own-thing"]) == pins(OURS, COMMON)
        then = server.at(f"everything/{quote(instant())}")
        assert clients.install(client, then, ["own-thing"]) == pins(OURS, COMMON)
        if isinstance(private, PyPI):
            assert clients.install(client, server.at(f"everything/{DATE}"), ["own-thing"]) == pins(OURS, COMMON)
            private.delete(OURS)
        else:
            private.dists.clear()
        moments: tuple[Callable[[], str], ...] = (lambda: "live", instant)
        for moment in moments:  # gone from when it is first missed
            when = moment()
            answer = ask(f"{server.at(f'everything/{when}')}own-thing/")
            assert answer.status_code == 404
            assert "it belongs to internal" in answer.text
            with pytest.raises(ClientError):
                clients.install(client, server.at(f"everything/{quote(when)}"), ["own-thing"])
        assert clients.install(client, then, ["own-thing"]) == pins(OURS, COMMON)
        for upstream in private.upstreams:
            upstream.stop()
        for when in ("live", instant()):
            for project in ("own-thing", "common"):
                answer = ask(f"{server.at(f'everything/{when}')}{project}/")
                assert answer.status_code == 502
                assert answer.text.startswith("internal: ")
            with pytest.raises(ClientError):
                clients.install(client, server.at(f"everything/{quote(when)}"), ["own-thing"])
        assert clients.install(client, then, ["own-thing"]) == pins(OURS, COMMON)


def test_no_error_falls_through(registry: Start, pypi: PyPI, tmp_path: Path) -> None:
    """Neither a refusal, nor a failure, nor an instant of which nothing can be known."""
    private = registry("gitlab", auth=("ci", "another token"))
    private.upload(OURS)
    pypi.upload(THEIRS, OLD)
    with grouped(tmp_path, private.url, pypi) as server:
        for when in ("live", DATE):
            answer = ask(f"{server.at(f'everything/{when}')}own-thing/")
            assert (answer.status_code, answer.text.startswith("internal: ")) == (502, True)
        private.upstream.auth = None
        for status in (500, 503, 403, 429, 301):
            private.upstream.pages[f"{private.shape.index}own-thing/"] = Response(b"no", status)
            answer = ask(f"{server.at('everything/live')}own-thing/")
            assert (answer.status_code, answer.text.startswith("internal: ")) == (502, True), status
        private.upstream.pages.clear()
        assert links(f"{server.at('everything/live')}own-thing/")[0].startswith("/internal/files/")
        answer = ask(f"{server.at(f'everything/{DATE}')}own-thing/")
        assert (answer.status_code, '"internal: ' in answer.text) == (400, True)  # in RFC 9457 JSON
    assert pypi.index.count("/simple/own-thing/") == 0
    assert pypi.files.requests == []


def test_a_name_that_comes_later(registry: Start, pypi: PyPI, tmp_path: Path) -> None:
    """What an instant was answered from stays, though the private registry has the name from then on."""
    private = registry("gitlab", auth=CREDENTIALS)
    pypi.upload(THEIRS, OLD)
    with grouped(tmp_path, private.url, pypi) as server:
        then = [f"{server.at(f'everything/{when}')}own-thing/" for when in (DATE, instant())]
        theirs = [f"/files/own-thing/{THEIRS.sha256}/{THEIRS.filename}"]
        assert [links(address) for address in then] == [theirs, theirs]
        private.upload(OURS)
        assert links(f"{server.at('everything/live')}own-thing/")[0].startswith("/internal/files/")
        assert links(f"{server.at(f'everything/{instant()}')}own-thing/")[0].startswith("/internal/files/")
        assert [links(address) for address in then] == [theirs, theirs]


def test_the_rest_comes_from_the_next(registry: Start, pypi: PyPI, tmp_path: Path) -> None:
    """Addresses are the group's, files are where their registry has them, and the list has the names of all."""
    private = PyPI(pypi.index, pypi.files)
    private.upload(COMMON, OLD)
    own = registry("gitlab", auth=CREDENTIALS)
    own.upload(OURS)
    own.upstream.pages[own.shape.index] = b'<a href="own-thing/">own-thing</a>'
    with grouped(tmp_path, own.url, pypi) as server:
        for when in ("live", "live-7d", DATE):
            page = document(f"{server.at(f'everything/{when}')}common/")
            assert [file["url"] for file in page["files"]] == [f"/files/common/{COMMON.sha256}/{COMMON.filename}"]
        answer = ask(f"{server.at('everything/live')}Common")
        assert answer.headers["location"] == "/everything/live/common/"
        answer = ask(f"{server.at('everything/live')}nothing/")
        assert (answer.status_code, "the group everything has no project nothing now" in answer.text) == (404, True)
        for when in ("live", instant()):
            projects = document(server.at(f"everything/{when}"))["projects"]
            assert [project["name"] for project in projects] == ["common", "own-thing"]
        for address in (
            "everything",
            "everything/common",
            f"everything/files/common/{COMMON.sha256}/{COMMON.filename}",
        ):
            answer = ask(server.at(address))
            assert (answer.status_code, "/everything/<date>/<project>/" in answer.text) == (404, True)


def test_the_rules_are_those_of_the_owner(registry: Start, pypi: PyPI, tmp_path: Path) -> None:
    """An advisory about a public project says nothing of a private one of that name."""
    private = registry("gitlab", auth=CREDENTIALS)
    private.upload(OURS)
    pypi.upload(COMMON, OLD)
    pypi.upload(wheel("fresh", "1.0"), ago(hours=1))
    (tmp_path / "osv").mkdir()
    for name in ("own-thing", "common"):
        (tmp_path / f"osv/{name}.json").write_text(
            f'{{"id": "MAL-{name}", "modified": "2024-01-01T00:00:00Z", '
            f'"affected": [{{"package": {{"ecosystem": "PyPI", "name": "{name}"}}}}]}}'
        )
    rules = table("advisories", path="osv") + '[cooldown]\nexempt = ["fresh"]\n'
    with grouped(tmp_path, private.url, pypi, rules) as server:
        assert filenames(f"{server.at('everything/live')}own-thing/") == [OURS.filename]
        assert document(f"{server.at('everything/live')}common/")["project-status"]["status"] == "quarantined"
        assert len(filenames(f"{server.at('everything/live-7d')}fresh/")) == 1


# No instant is ever answered otherwise

EARLY = ("2020-01-01", "2024-01-02")
TIMES = {
    "untimed": {},
    "old": {"upload-time": "2023-06-01T00:00:00Z"},
    "very old": {"upload-time": "2019-06-01T00:00:00Z"},
}


class Step(NamedTuple):
    """A change of a registry, and what is asked then; `pick` says which instant, if it is one that was asked before."""

    change: str
    where: str
    time: str
    look: str
    pick: int


steps = st.lists(
    st.builds(
        Step,
        st.sampled_from(["publish", "delete", "break", "mend", "mend"]),
        st.sampled_from(["first", "first", "second"]),
        st.sampled_from(["untimed", "old", "very old", "new"]),
        st.sampled_from(["live", "now", "before", "nothing"]),
        st.integers(0, 9),
    ),
    max_size=12,
)


class World:
    """Two registries, of one project for each example, and the group of both in this process."""

    def __init__(self, folder: Path) -> None:
        self.upstreams = {"first": Upstream(), "second": Upstream()}
        self._folder = folder
        self.numbers = itertools.count()

    @asynccontextmanager
    async def group(self) -> AsyncIterator[httpx.AsyncClient]:
        config = self._folder / "mirror.toml"
        config.write_text(
            table("registry", name="first", index=f"{self.upstreams['first'].url}/simple/")
            + table("group", name="both", registries=["first", "pypi"])
        )
        options = {
            "pypi-upstream": f"{self.upstreams['second'].url}/simple/",
            "pypi-second-look": 0,
        }
        store = LocalStore(self._folder / "data")
        networks = (ip_network("127.0.0.0/8"),)
        chosen = Settings(data=store.folder, adapters=options, file=read(config), allow_networks=networks)
        async with mirrors.running(chosen, store, store.spool) as mirror:
            accounts = Accounts(mirror.metrics, Journal(store.usage), Recorder(store.builds, 0.0))
            front = Front(mirror, [adapter.bind(mirror)], accounts, Labels((), ()))
            async with httpx.AsyncClient(transport=httpx.ASGITransport(front), base_url="http://mirror") as client:
                yield client
        store.close()

    def close(self) -> None:
        for upstream in self.upstreams.values():
            upstream.close()


def test_an_answer_for_an_instant_never_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever becomes of the registries: not its files, nor the registry that they are from, nor that there is none.

    And what the first registry has, or has once shown, is never seen to be the second's.
    """
    monkeypatch.setattr(project_observer, "RECHECK_SECONDS", 0)
    world = World(tmp_path)
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(world.group()) as client:

        def get(when: str, project: str) -> httpx.Response:
            return portal.call(lambda: client.get(f"/both/{quote(when)}/{project}/", headers={"Accept": JSON}))

        @settings(max_examples=examples(150), deadline=None)
        @given(steps)
        def check(steps: list[Step]) -> None:
            Example(world, get).play(steps)

        check()
    world.close()


class Example:
    """One project's life in both registries, and what was answered of it."""

    def __init__(self, world: World, get: Callable[[str, str], httpx.Response]) -> None:
        self._pages = {name: upstream.pages for name, upstream in world.upstreams.items()}
        self._get = get
        self._project = f"p{next(world.numbers)}"
        self._path = f"/simple/{self._project}/"
        self._files: dict[str, list[dict[str, object]]] = {"first": [], "second": []}
        self._broken: set[str] = set()
        self._count = itertools.count()
        self._answers: dict[str, tuple[int, bytes]] = {}
        self._first_had_it = False
        """The first registry has been seen to have the project."""

    def play(self, steps: list[Step]) -> None:
        self._publish("second", "very old")
        for step in steps:
            match step.change:
                case "publish":
                    self._publish(step.where, step.time)
                case "delete":
                    self._files[step.where] = []
                case "break":
                    self._broken.add(step.where)
                case "mend":
                    self._broken.discard(step.where)
            self._serve()
            known = [*EARLY, *self._answers]
            looks = {"live": "live", "now": instant(), "before": known[step.pick % len(known)]}
            if step.look in looks:
                self._ask(looks[step.look])
        for when in list(self._answers):
            self._ask(when)

    def _publish(self, where: str, time: str) -> None:
        times = TIMES.get(time, {"upload-time": instant()})
        self._files[where].append(json_file(f"/f/{self._project}-{next(self._count)}.tar.gz", **times))

    def _serve(self) -> None:
        for name, pages in self._pages.items():
            files = self._files[name]
            pages[self._path] = json_page(json_files(*files)) if files else NOT_FOUND
            if name in self._broken:
                pages[self._path] = Response(b"", 503)

    def _ask(self, when: str) -> None:
        answer = self._get(when, self._project)
        told = answer.status_code, answer.content
        if when in self._answers:
            assert told == self._answers[when], when
        elif answer.status_code == 502:
            assert self._broken
        elif when != "live":
            self._answers[when] = told
        if answer.status_code == 200:
            self._check_owner(when, [file["url"] for file in answer.json()["files"]])

    def _check_owner(self, when: str, links: list[str]) -> None:
        ours = any(link.startswith("/first/") for link in links)
        assert not ours or all(link.startswith("/first/") for link in links)  # one or the other
        if when == "live":
            assert "first" not in self._broken
            assert ours == bool(self._files["first"])
            assert ours or not self._first_had_it
        self._first_had_it = self._first_had_it or ours

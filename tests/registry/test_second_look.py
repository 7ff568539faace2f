"""What registries lose, and what they say of it: serials that say nothing, pages that are old, and losses that last.

Where a later look is needed, the mirror's clock is not waited for: the first look is put into the past in its log.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import msgspec
import pytest

from httpcache.store import keys
from httpcache.store.local import LocalStore
from httpcache.store.log import Log
from tests.support.capture import Here
from tests.support.command import told
from tests.support.index import ago, ask, filenames, html_page, instant, json_file, json_files, json_page
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.registries import JSON, PyPI
from tests.support.rescued import outcomes
from tests.support.upstream import NOT_FOUND, Request, Response, Upstream

LATER = ("--pypi-second-look", "15")
MINUTE = 60_000_000


class Constant:
    """A registry that gives the same serial with everything: in the header, on the page, in the list and its entries.

    With `serial` None it gives none.
    """

    def __init__(
        self, index: Upstream, files: Upstream, serial: int | None = 1_000_000_000, etags: bool = False
    ) -> None:
        self.index, self.files, self.serial, self.etags = index, files, serial, etags
        self.projects: dict[str, list[str]] = {}
        index.otherwise = self.page

    @property
    def url(self) -> str:
        return f"{self.index.url}/simple/"

    def page(self, request: Request) -> Response:
        name = request.path.removeprefix("/simple/").rstrip("/")
        serial = {} if self.serial is None else {"_last-serial": self.serial}
        headers = {} if self.serial is None else {"X-PyPI-Last-Serial": f"{self.serial}"}
        meta = {"api-version": "1.0", **serial}
        if not name:
            projects = [{"name": each, **serial} for each in self.projects]
            return json_page({"meta": meta, "projects": projects}, **headers)
        if name not in self.projects:
            return NOT_FOUND
        files = [json_file(f"{self.files.url}/{each}") for each in self.projects[name]]
        answer = json_page({"meta": meta, "name": name, "files": files}, **headers)
        tag = f'"{hash(tuple(self.projects[name]))}"'
        if self.etags and request.headers.get("if-none-match") == tag:
            return Response(b"", 304, {"ETag": tag, **headers})
        return Response(answer.body, 200, {**answer.headers, "ETag": tag}) if self.etags else answer


_numbers = itertools.count()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PyPI, Mirror]]:
    """A mirror that looks again a quarter of an hour later, before one PyPI; each test has a project of its own."""
    with Upstream() as index, Upstream(ranges=True) as files:
        found = PyPI(index, files)
        server = Mirror(tmp_path_factory.mktemp("later"), found.url, LATER).start()
        try:
            yield found, server
            server.stop()
        finally:
            server.kill()


@pytest.fixture
def project() -> str:
    return f"lost{next(_numbers)}"


def log_of(server: Mirror, project: str) -> list[bytes]:
    store = LocalStore(server.data)
    try:
        return anyio.run(Log(store, f"pypi/{project}").read)
    finally:
        store.close()


def put_back(server: Mirror, project: str, minutes: int = 16) -> None:
    """Put the looks at a project that showed a loss so many minutes into the past."""

    async def work() -> None:
        store = LocalStore(server.data)
        try:
            log = Log(store, f"pypi/{project} doubts")
            values = [msgspec.msgpack.decode(value) for value in await log.read()]
            assert values, "no loss was noted"
            for number, (at, lost) in enumerate(values):
                await store.remove(keys.numbered(log._prefix, number))
                assert await log.append(number, msgspec.msgpack.encode([at - minutes * MINUTE, lost]))
        finally:
            store.close()

    running = server.running
    server.stop()
    anyio.run(work)
    if running:
        server.start()


def files_of(pypi: PyPI, project: str, *names: str, **more: Any) -> Response:
    return json_page(json_files(*(json_file(f"{pypi.files.url}/{name}") for name in names), name=project), **more)


def names(project: str, count: int) -> list[str]:
    return [f"{project}-1.{number}.tar.gz" for number in range(count)]


# --- losses

Make = Callable[[PyPI, str], Response]
LOSSES: dict[str, Make] = {
    "404": lambda pypi, project: NOT_FOUND,
    "410": lambda pypi, project: Response(b"", 410),
    "no files": lambda pypi, project: files_of(pypi, project),
    "no files, as HTML": lambda pypi, project: html_page(head=f"<title>Links for {project}</title>"),
    "one of many": lambda pypi, project: files_of(pypi, project, names(project, 1)[0]),
    "another file only": lambda pypi, project: files_of(pypi, project, f"{project}-9.tar.gz"),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_is_believed_if_it_lasts(loss: str, project: str, shared: tuple[PyPI, Mirror]) -> None:
    pypi, server = shared
    page, all_names = f"/simple/{project}/", sorted(names(project, 20))
    pypi.index.pages[page] = files_of(pypi, project, *all_names)
    assert filenames(server.at("live") + f"{project}/") == all_names
    entries = log_of(server, project)
    pypi.index.pages[page] = LOSSES[loss](pypi, project)
    for _ in range(2):
        live = ask(server.at("live") + f"{project}/", JSON)
        assert sorted(file["filename"] for file in live.json()["files"]) == all_names
        assert "not the newest" in live.headers["cache-status"]
        dated = ask(server.at(instant()) + f"{project}/")
        assert (dated.status_code, dated.headers["retry-after"]) == (502, "60"), dated.text
        assert "the loss counts if it still shows at" in dated.text
    assert log_of(server, project) == entries
    put_back(server, project)
    lost = pypi.index.pages[page]
    assert isinstance(lost, Response)
    assert isinstance(lost.body, bytes)
    at, left = instant(), filenames(server.at("live") + f"{project}/")
    assert left == [name for name in all_names if name.encode() in lost.body] + (
        [f"{project}-9.tar.gz"] if loss == "another file only" else []
    )
    assert filenames(server.at(instant()) + f"{project}/") == left
    assert at
    pypi.index.pages[page] = files_of(pypi, project, *all_names)
    assert filenames(server.at("live") + f"{project}/") == all_names


def test_a_loss_of_a_moment_leaves_no_trace(project: str, shared: tuple[PyPI, Mirror]) -> None:
    """A look at the whole page ends what began: a loss much later is a first look again. What flips is bounded."""
    pypi, server = shared
    page, all_names = f"/simple/{project}/", names(project, 3)
    whole = pypi.index.pages[page] = files_of(pypi, project, *all_names)
    for _ in range(3):
        assert filenames(server.at("live") + f"{project}/") == all_names
        pypi.index.pages[page] = NOT_FOUND
        assert filenames(server.at("live") + f"{project}/") == all_names
        pypi.index.pages[page] = whole
    store = LocalStore(server.data)
    try:
        looks = anyio.run(Log(store, f"pypi/{project} doubts").read)
    finally:
        store.close()
    assert [msgspec.msgpack.decode(look)[1] for look in looks] == [True, False]
    put_back(server, project, 40)
    pypi.index.pages[page] = NOT_FOUND
    assert ask(server.at(instant()) + f"{project}/").status_code == 502
    assert len(log_of(server, project)) == 1


def test_a_first_look_outlives_the_process(project: str, shared: tuple[PyPI, Mirror]) -> None:
    pypi, server = shared
    pypi.index.pages[f"/simple/{project}/"] = files_of(pypi, project, *names(project, 2))
    filenames(server.at("live") + f"{project}/")
    pypi.index.pages[f"/simple/{project}/"] = files_of(pypi, project)
    filenames(server.at("live") + f"{project}/")
    server.restart()
    asked = pypi.index.count(f"/simple/{project}/")
    assert ask(server.at(instant()) + f"{project}/").status_code == 502
    assert pypi.index.count(f"/simple/{project}/") - asked == 1, "the look a second later is not made each time"
    put_back(server, project)
    assert ask(server.at(instant()) + f"{project}/").status_code == 200
    assert filenames(server.at(instant()) + f"{project}/") == []


# --- serials

OLD: dict[str, Make] = {
    "HTML without a serial": lambda pypi, project: html_page(f"{pypi.files.url}/{project}-1.0.tar.gz"),
    "JSON without a serial": lambda pypi, project: files_of(pypi, project, f"{project}-1.0.tar.gz"),
    "an older serial": lambda pypi, project: files_of(
        pypi, project, f"{project}-1.0.tar.gz", **{"X-PyPI-Last-Serial": "5"}
    ),
    "a serial that is none": lambda pypi, project: files_of(
        pypi, project, f"{project}-1.0.tar.gz", **{"X-PyPI-Last-Serial": "x"}
    ),
    "no files, without a serial": lambda pypi, project: files_of(pypi, project),
}


@pytest.mark.parametrize("proved", [False, True])
@pytest.mark.parametrize("old", OLD)
def test_a_page_that_is_older_by_its_serial(old: str, proved: bool, project: str, shared: tuple[PyPI, Mirror]) -> None:
    """After serials one without is not newer: nothing is written, no rescue begins, dates say when to come back."""
    pypi, server = shared
    now = [f"{project}-1.0.tar.gz", f"{project}-2.0.tar.gz"]
    pypi.serial += 10
    newest = {"X-PyPI-Last-Serial": f"{pypi.serial}"}
    if proved:
        pypi.index.pages[f"/simple/{project}/"] = files_of(pypi, project, now[0], **{"X-PyPI-Last-Serial": "9"})
        assert filenames(server.at("live") + f"{project}/") == now[:1]
    pypi.index.pages[f"/simple/{project}/"] = files_of(pypi, project, *now, **newest)
    before = instant()
    assert filenames(server.at("live") + f"{project}/") == now
    entries = log_of(server, project)
    pypi.index.pages[f"/simple/{project}/"] = OLD[old](pypi, project)
    for _ in range(2):
        live = ask(server.at("live") + f"{project}/", JSON)
        assert sorted(file["filename"] for file in live.json()["files"]) == now
        assert "not the newest" in live.headers["cache-status"]
        dated = ask(server.at(instant()) + f"{project}/")
        assert (dated.status_code, dated.headers["retry-after"]) == (502, "60")
    assert log_of(server, project) == entries
    assert outcomes(server.data, project) == []
    pypi.index.pages[f"/simple/{project}/"] = files_of(pypi, project, *now, **newest)
    assert filenames(server.at(instant()) + f"{project}/") == now
    assert "not the newest" not in ask(server.at("live") + f"{project}/").headers["cache-status"]
    assert before
    assert f"the page of {project} was not accepted" in server.log()


@pytest.fixture
def constant(upstreams: Any, tmp_path: Any) -> Callable[..., tuple[Constant, Here]]:
    def make(serial: int | None = 1_000_000_000, *, etags: bool = False) -> tuple[Constant, Here]:
        registry = Constant(upstreams(), upstreams(), serial, etags)
        registry.projects = {"one": ["one-1.0.tar.gz"], "two": ["two-1.0.tar.gz", "two-1.1.tar.gz"]}
        return registry, Here(tmp_path / "mirror", PyPI(registry.index, registry.files))

    def made(*args: Any, **options: Any) -> tuple[Constant, Here]:
        registry, here = make(*args, **options)
        registry.index.otherwise = registry.page  # PyPI has put its own there
        return registry, here

    return made


@pytest.mark.parametrize("etags", [False, True])
def test_serials_that_never_move(etags: bool, constant: Any) -> None:
    """A capture asks for everything, sees uploads and deletions, and instants have what was there."""
    registry, here = constant(etags=etags)
    here.capture()
    registry.projects["one"].append("one-2.0.tar.gz")
    uploaded = instant()
    here.asked()
    assert "1 of 2 projects had changed" in here.capture()
    assert here.asked() == ["", "one", "two"]
    after = instant()
    registry.projects["two"].remove("two-1.0.tar.gz")
    assert "1 of 2 projects had changed" in here.capture()
    later = instant()
    assert "0 of 2 projects had changed" in here.capture()
    del registry.projects["one"]
    assert "1 of 2 projects had changed" in here.capture()
    last = instant()
    here.capture()
    here.mirror.start("--offline")
    try:
        assert filenames(here.mirror.at(uploaded) + "one/") == ["one-1.0.tar.gz"]
        assert filenames(here.mirror.at(after) + "one/") == ["one-1.0.tar.gz", "one-2.0.tar.gz"]
        assert filenames(here.mirror.at(after) + "two/") == ["two-1.0.tar.gz", "two-1.1.tar.gz"]
        assert filenames(here.mirror.at(later) + "two/") == ["two-1.1.tar.gz"]
        assert filenames(here.mirror.at(last) + "one/") == []
    finally:
        here.mirror.kill()


@pytest.mark.parametrize("serial", [None, 1_000_000_000])
def test_the_last_file_is_deleted(serial: int | None, constant: Any) -> None:
    """Without a serial that says something: a capture fails for it until it is believed, and then works again."""
    registry, here = constant(serial)
    here.capture()
    registry.projects["one"].clear()
    made = here.try_capture("all", *LATER)
    assert made.returncode == 0
    assert "1 failed" in made.stdout
    put_back(here.mirror, "one")
    assert "failed" not in here.try_capture("all", *LATER).stdout
    at = instant()
    here.try_capture("all", *LATER)
    here.mirror.start("--offline")
    try:
        assert filenames(here.mirror.at(at) + "one/") == []
    finally:
        here.mirror.kill()


@pytest.mark.parametrize("serial", [None, 1_000_000_000])
def test_a_list_that_is_emptied(serial: int | None, constant: Any) -> None:
    """The list too is believed at a later look; until then a capture says so, and dates of the list are a 502."""
    registry, here = constant(serial)
    here.capture()
    registry.projects.clear()
    assert "2 of 2 names are missing at once" in told(here.try_capture("all", *LATER))
    put_back(here.mirror, " projects")
    assert here.try_capture("all", *LATER).returncode == 0


def test_a_serial_is_proved_once_and_for_all_processes(here: Here) -> None:
    """The pass that first sees one move asks for what is older than that no more; nor do later ones."""
    here.capture()
    here.asked()
    here.capture()
    assert here.asked() == ["", "one", "three", "two"], "nothing has been seen to move yet"
    here.pypi.upload(wheel("two", "2.0"), ago(hours=1))
    here.capture()
    assert here.asked() == ["", "two"]
    here.capture()
    assert here.asked() == [""]


@pytest.mark.parametrize("how", ["a lower serial", "no serials"])
def test_a_registry_that_has_moved_begins_its_serials_anew(how: str, here: Here, mirror: Any, tmp_path: Any) -> None:
    here.capture()
    here.pypi.upload(wheel("two", "2.0"), ago(hours=1))
    here.capture()
    here.pypi.serial = 1
    for name in here.pypi.serials:
        here.pypi.serials[name] = 1
    here.pypi.upload(wheel("two", "3.0"), ago(minutes=1))
    page = here.pypi.index.otherwise
    if how == "no serials":

        def without(request: Request) -> Response:
            found = page(request)
            if found.status != 200:
                return found
            plain = json.loads(bytes(found.body))  # type: ignore[arg-type]
            plain["meta"].pop("_last-serial")
            for each in plain.get("projects", ()):
                each.pop("_last-serial")
            return json_page(plain)

        here.pypi.index.otherwise = without
    made = here.try_capture("all")
    assert made.returncode == 1
    assert "httpcache moved" in made.stderr or "was seen before" in made.stderr
    run_moved(here)
    assert here.try_capture("all").returncode == 0
    at = instant()
    assert here.try_capture("all").returncode == 0
    here.mirror.start("--offline")
    assert len(filenames(here.mirror.at(at) + "two/")) == 3


def run_moved(here: Here) -> None:
    from tests.support.command import run

    made = run("moved", "--data", here.mirror.data, "pypi", here.pypi.url)
    assert made.returncode == 0, made.stderr


@pytest.mark.parametrize("text", ["-1", "1.5", "soon", "", "9999999"])
def test_a_setting_that_is_none(text: str, here: Here) -> None:
    assert "is not a number of minutes" in here.try_capture("all", f"--pypi-second-look={text}").stderr

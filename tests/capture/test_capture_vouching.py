"""What a pass of the capture may vouch for, and how it behaves where a registry or a cache on the way misleads it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from subprocess import TimeoutExpired

import anyio
import pytest

from httpcache.errors import MirrorError
from httpcache.store.local import LocalStore
from pypi_adapter.capture.retry import retry_after
from pypi_adapter.registry.passes import Pass, Passes
from pypi_adapter.registry.rest import Rest
from pypi_adapter.registry.scope import ALL, Scope
from pypi_adapter.settings import read_index
from tests.support import http
from tests.support.capture import Here
from tests.support.command import run
from tests.support.config import table
from tests.support.index import ago, ask, document, filenames, instant, json_file, json_files, json_page
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.registries import JSON, PyPI
from tests.support.rescued import outcomes, unlist
from tests.support.upstream import NOT_FOUND, Request, Response, Upstream


def far(pypi: PyPI) -> None:
    """Let the serials go on by more than what a pass looks at again."""
    pypi.serial += 20_000


# --- 1. what a pass vouches for


def test_a_listed_project_whose_page_is_404_for_a_moment(here: Here) -> None:
    """The list says that it is there: the 404 is no answer, and the project is the next pass's."""
    here.capture()
    here.pypi.upload(wheel("four", "1.0"), ago(hours=1))
    far(here.pypi)
    here.pypi.upload(wheel("two", "2.0"), ago(hours=1))
    here.pypi.index.pages["/simple/four/"] = NOT_FOUND
    here.capture()
    del here.pypi.index.pages["/simple/four/"]
    here.asked()
    here.capture()
    assert "four" in here.asked(), "never looked at again"


def test_a_listed_project_whose_page_is_404_for_a_moment_is_not_ended(here: Here) -> None:
    """It was known, has a newer serial on the list, and its page is 404 for two seconds."""
    here.capture()
    here.pypi.upload(wheel("one", "2.0"), ago(hours=1))
    far(here.pypi)
    here.pypi.upload(wheel("two", "2.0"), ago(hours=1))
    here.pypi.index.pages["/simple/one/"] = NOT_FOUND
    here.capture()
    del here.pypi.index.pages["/simple/one/"]
    here.capture()
    at = instant()
    here.capture()
    here.mirror.start("--offline")
    assert ask(here.mirror.at(at) + "one/").status_code in (200, 504), "the list says that it is there"


def no_serials(
    pypi: PyPI, pages: dict[str, dict[str, object]], headers: Callable[[str, Request], dict[str, str]]
) -> None:
    def page(request: Request) -> Response:
        name = request.path.removeprefix("/simple/").rstrip("/")
        if not name:
            projects = [{"name": each} for each in pages]
            return json_page({"meta": {"api-version": "1.0"}, "projects": projects})
        if name not in pages:
            return NOT_FOUND
        return json_page(pages[name], **headers(name, request))

    pypi.index.otherwise = page


@pytest.mark.parametrize("age", [5, 100_000])
def test_a_page_from_a_cache_does_not_vouch(age: int, tmp_path: Path, pypi: PyPI) -> None:
    """The page that a pass gets is (by its Age) from before the list, and from before what the log has."""
    pages = {"a": json_files(json_file("a-1.0-py3-none-any.whl"), name="a")}
    ages: dict[str, str] = {}
    no_serials(pypi, pages, lambda name, request: dict(ages))
    here = Here(tmp_path / "mirror", pypi)
    here.capture()
    ages["Age"] = str(age)  # the change is in the registry already, the cache on the way has the old page
    at = instant()
    here.capture()
    here.mirror.start("--offline")
    try:
        assert ask(here.mirror.at(at) + "a/").status_code == 504, "nobody has looked at it after the first pass"
    finally:
        here.mirror.kill()


def test_a_304_from_a_cache_does_not_vouch(tmp_path: Path, pypi: PyPI) -> None:
    """The same with If-None-Match: the Age of a 304 is not looked at."""
    listing = json_page({"meta": {"api-version": "1.0"}, "projects": [{"name": "a"}]})
    fresh = json_page(json_files(json_file("a-1.0-py3-none-any.whl"), name="a"), ETag='"1"')

    def page(request: Request) -> Response:
        if request.path == "/simple/":
            return listing
        if request.headers.get("if-none-match") == '"1"':
            return Response(b"", 304, {"ETag": '"1"', "Age": "86400"})
        return fresh

    pypi.index.otherwise = page
    here = Here(tmp_path / "mirror", pypi)
    here.capture()
    at = instant()
    here.capture()
    here.mirror.start("--offline")
    try:
        assert ask(here.mirror.at(at) + "a/").status_code == 504
    finally:
        here.mirror.kill()


def test_a_pass_over_the_list_does_not_vouch_for_what_is_not_on_it(
    tmp_path: Path, pypi: PyPI, upstreams: Callable[..., Upstream]
) -> None:
    """A registry whose list is not whole, captured with `all`; a 404 of before; dependency confusion in a group."""
    private = PyPI(upstreams(), upstreams(ranges=True))
    private.upload(wheel("other", "1.0"), ago(days=1))
    pypi.upload(wheel("own-thing", "99.0", salt="attacker"), ago(days=1))
    page = private.index.otherwise

    def partial(request: Request) -> Response:
        if request.path != "/simple/":
            return page(request)
        projects = [{"_last-serial": private.serials["other"], "name": "other"}]
        body = {"meta": {"_last-serial": private.serial, "api-version": "1.1"}, "projects": projects}
        return Response(json.dumps(body).encode(), 200, {"Content-Type": JSON})

    private.index.otherwise = partial
    config = table("registry", name="internal", index=private.url, capture="all") + table(
        "group", name="everything", registries=["internal", "pypi"]
    )
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "mirror.toml").write_text(config)
    server = Mirror(folder, pypi.url, ["--config", str(folder / "mirror.toml")])
    try:
        server.start()
        first = instant()
        ask(server.at(f"internal/{first}") + "own-thing/")  # a typing error, or a build before the release: 404
        private.upload(wheel("own-thing", "1.0"), instant())
        at = instant()
        made = run("capture", "--data", server.data, "--pypi-upstream", pypi.url, "--config", folder / "mirror.toml")
        assert made.returncode == 0, made.stderr
        found = filenames(server.at(f"everything/{at}") + "own-thing/")
        assert found == [wheel("own-thing", "1.0").filename], "the public project of that name is served"
    finally:
        server.kill()


def test_two_who_read_the_passes_at_once(tmp_path: Path) -> None:
    """Two requests at once in a fresh worker: it has each pass twice, and does not see the next ones."""

    async def work() -> list[int]:
        store = LocalStore(tmp_path / "data")
        try:
            writer, reader = Passes(store, "pypi"), Passes(store, "pypi")
            for number in (1, 2):
                await writer.append(Pass(number, number, number, Scope(ALL)))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(reader.all)
                tasks.start_soon(reader.all)
            for number in (3, 4):
                await writer.append(Pass(number, number, number, Scope(ALL)))
            return [done.instant for done in await reader.all()]
        finally:
            store.close()

    assert anyio.run(work) == [1, 2, 3, 4]


def test_the_list_of_a_pass_answers_too(here: Here) -> None:
    """The list was looked at: its dates up to then need no registry."""
    here.capture()
    at = instant()
    here.capture()
    here.mirror.start("--offline")
    assert ask(here.mirror.at(at)).status_code == 200


def test_what_a_pass_knows_is_a_hit(here: Here) -> None:
    here.capture()
    at = instant()
    here.capture()
    here.mirror.start("--offline")
    assert "hit" in ask(here.mirror.at(at) + "one/").headers["cache-status"], "says that the registry was asked"


# --- 2. rescue


def test_a_file_is_rescued_when_its_rule_is_lifted(here: Here) -> None:
    """Blocked, deleted upstream, unblocked: the next pass should rescue it."""
    here.capture()
    far(here.pypi)
    here.pypi.upload(wheel("one", "2.0"), ago(days=1))
    run("block", "--data", here.mirror.data, "one")
    unlist(here.pypi, wheel("one", "1.0"))
    far(here.pypi)
    here.pypi.upload(wheel("two", "2.0"), ago(days=1))
    here.capture()
    assert [each.outcome for each in outcomes(here.mirror.data, "one")] == ["withheld"]
    run("unblock", "--data", here.mirror.data, "one")
    here.capture()
    assert [each.outcome for each in outcomes(here.mirror.data, "one")][-1:] == ["rescued"]


def test_rescue_rests_when_it_is_asked_to(here: Here) -> None:
    """30 files are missing, and the file host answers 429 with Retry-After."""
    many = [wheel("one", f"3.{number}") for number in range(30)]
    for each in many:
        here.pypi.upload(each, ago(days=1))
    here.capture()
    paths = [here.pypi.release(each).path for each in many]
    unlist(here.pypi, *many)
    for path in paths:
        here.pypi.files.pages[path] = Response(b"", 429, {"Retry-After": "2"})
    here.pypi.files.requests.clear()
    with pytest.raises(TimeoutExpired):
        here.try_capture(seconds=6)
    assert len(here.pypi.files.requests) <= 16


# --- 6, 7


@pytest.mark.parametrize("text", ["Mon, 01 Jan 99999999999999999999 00:00:00 GMT"])
def test_a_retry_after_that_is_none(text: str) -> None:
    assert retry_after(MirrorError("", headers={"Retry-After": text})) == 0


def test_a_capture_survives_a_retry_after_that_is_none(here: Here) -> None:
    page = here.pypi.index.otherwise
    refused: list[Request] = []

    def tired(request: Request) -> Response:
        if request.path != "/simple/" and not refused:
            refused.append(request)
            return Response(b"", 503, {"Retry-After": "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"})
        return page(request)

    here.pypi.index.otherwise = tired
    here.capture()


# --- 3. withheld and served


def test_a_content_is_withheld_where_the_index_has_no_sha256(tmp_path: Path, pypi: PyPI, upstream: Upstream) -> None:
    data = wheel("a", "1.0")
    upstream.pages[f"/f/{data.filename}"] = data.data
    page = json_files(json_file(f"{upstream.url}/f/{data.filename}"), name="a")
    no_serials(pypi, {"a": page}, lambda name, request: {})
    server = Mirror(tmp_path / "m", pypi.url)
    try:
        server.start()
        at = server.at("live") + "a/"
        link = server.same(document(at)["files"][0]["url"])
        assert http.get(link).content == data.data
        blocked = run("block", "--data", server.data, f"sha256:{data.sha256}")
        assert blocked.returncode == 0
        server.restart()
        assert http.get(link).status_code == 403
    finally:
        server.kill()


# --- 4. groups


def test_a_quarantine_is_not_missed_for_ever(here: Here) -> None:
    """It leaves the list; a cache on the way still has the page of before, and says so (Age); then the page says so.

    Nobody has requested it, so no later pass looks at it, and each one vouches for it.
    """
    page, serial = here.pypi.index.otherwise, here.pypi.serials["one"]
    here.capture()
    old = page(Request("GET", "/simple/one/", {"accept": JSON}))
    del here.pypi.projects["one"]
    here.pypi.index.pages["/simple/one/"] = Response(old.body, 200, {**old.headers, "Age": "3600"})
    here.capture()
    body = {
        "meta": {"api-version": "1.4", "_last-serial": serial},
        "name": "one",
        "files": [],
        "versions": [],
        "project-status": {"status": "quarantined"},
    }
    here.pypi.index.pages["/simple/one/"] = json_page(body)
    here.capture()
    at = instant()
    here.capture()
    here.mirror.start()
    assert filenames(here.mirror.at(at) + "one/") == []


def test_a_longer_rest_holds_for_those_who_rest_already() -> None:
    """SharedBackoff.run sleeps once: a rest that was made longer meanwhile is not kept."""
    from pypi_adapter.capture import retry
    from pypi_adapter.registry import client

    async def work() -> list[float]:
        shared, asked = retry.SharedBackoff(Rest()), []
        retry.FIRST, retry.TRIES = 0.01, 2
        begun = anyio.current_time()

        def refused(after: str, delay: float) -> Callable[[], Awaitable[None]]:
            tries: list[int] = []

            async def ask_it() -> None:
                if tries:
                    return
                tries.append(1)
                await anyio.sleep(delay)
                raise client.RetryLater("x", 429, after)

            return ask_it

        async def third() -> None:
            await anyio.sleep(0.1)

            async def note() -> None:
                asked.append(anyio.current_time() - begun)

            await shared.run(note)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(shared.run, refused("1", 0.0))  # rest until 1
            tasks.start_soon(shared.run, refused("3", 0.5))  # in flight: rest until 3.5
            tasks.start_soon(third)
        return asked

    assert anyio.run(work)[0] >= 3


def test_a_full_disk_ends_a_pass(here: Here) -> None:
    """Each project is asked for though nothing can be kept."""
    from httpcache.adapter import adapters
    from httpcache.command import scheduler
    from httpcache.command.progress import Lines
    from httpcache.errors import StoreFull
    from httpcache.settings import Settings

    projects = [{"name": f"p{number}", "_last-serial": number + 1} for number in range(300)]
    meta = {"api-version": "1.0", "_last-serial": 300}
    seen: list[str] = []

    def page(request: Request) -> Response:
        name = request.path.removeprefix("/simple/").rstrip("/")
        if not name:
            return json_page({"meta": meta, "projects": projects})
        seen.append(name)
        more = {"meta": {"api-version": "1.0", "_last-serial": int(name[1:]) + 1}}
        return json_page(json_files(json_file(f"{name}-1.0-py3-none-any.whl"), name=name, **more))

    here.pypi.index.otherwise = page
    add = LocalStore.add

    async def full(self: LocalStore, key: str, value: bytes) -> bytes:
        if seen:
            raise StoreFull("the mirror's store is full: make room on its disk")
        return await add(self, key, value)

    settings = Settings(
        here.mirror.data, adapters={"pypi-upstream": read_index(here.pypi.url), "pypi-capture": Scope(ALL)}
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalStore, "add", full)
        with pytest.raises(MirrorError):
            anyio.run(scheduler.capture, settings, list(adapters()), Lines(), lambda last: True, print)
    assert len(seen) <= 20


def test_a_change_that_is_dropped_is_not_done(here: Here) -> None:
    """With serials: the page has the new serial, and an Age (or the clock was set back), so nothing is appended.

    The pass must not count it as looked at: the next one starts behind its serial.
    """
    here.capture()
    here.pypi.upload(wheel("one", "2.0"), ago(hours=1))
    far(here.pypi)
    here.pypi.upload(wheel("two", "2.0"), ago(hours=1))
    page = here.pypi.index.otherwise

    def aged(request: Request) -> Response:
        answer = page(request)
        return (
            Response(answer.body, answer.status, {**answer.headers, "Age": "60"}) if "one" in request.path else answer
        )

    here.pypi.index.otherwise = aged
    here.capture()
    here.pypi.index.otherwise = page
    here.capture()
    at = instant()
    here.capture()
    here.mirror.start("--offline")
    found = ask(here.mirror.at(at) + "one/")
    assert found.status_code == 504 or len(found.json()["files"]) == 2, "vouched for without the file of an hour ago"


def test_the_same_list_from_a_cache(here: Here) -> None:
    """Age has whole seconds: the same cached list can seem a moment older than it seemed before."""
    page = here.pypi.index.otherwise
    ages = ["10"]

    def cached(request: Request) -> Response:
        answer = page(request)
        more = {"Age": ages[0]} if request.path == "/simple/" else {}
        return Response(answer.body, answer.status, {**answer.headers, **more})

    here.pypi.index.otherwise = cached
    here.capture()
    ages[0] = "40"  # so that it stays older, whatever the pauses of the tries are
    assert here.try_capture().returncode == 0


def test_a_running_server_sees_the_passes_to_come(here: Here) -> None:
    """The first requests came at once, as uv sends them."""
    for number in range(30):
        here.pypi.upload(wheel(f"p{number}", "1.0"), ago(days=2))
    at = instant()
    here.capture()
    for _ in range(8):  # a week of passes: read in several steps
        at = instant()
        here.capture()
    here.mirror.start()

    async def burst() -> None:
        import httpx

        async with httpx.AsyncClient(trust_env=False) as client, anyio.create_task_group() as tasks:
            for number in range(30):
                tasks.start_soon(client.get, here.mirror.at(at) + f"p{number}/")

    anyio.run(burst)
    later = instant()
    here.capture()
    here.asked()
    assert filenames(here.mirror.at(later) + "one/")
    assert here.asked() == [], "the pass knows it"

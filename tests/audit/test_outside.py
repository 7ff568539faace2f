"""Audits from outside: what a mirror serves is shown to follow from its log, and a lie is found; two are compared."""

from __future__ import annotations

import io
import json
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, redirect_stderr, redirect_stdout
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import msgspec
import pytest

from httpcache.adapter import Fetched
from httpcache.audit.findings import Finding
from httpcache.audit.note import Key, read
from httpcache.audit.published import LogPage
from httpcache.audit.remote import RemoteLog
from httpcache.audit.tiles import Tile
from httpcache.audit.tree import Grown, leaf_hash
from httpcache.audit.tree_log import TreeLog
from httpcache.command.asking import Asker
from httpcache.command.cli import main
from httpcache.store import keys, leaves
from httpcache.store.layout import DATABASE
from httpcache.store.local import LocalStore
from httpcache.store.log import Log
from httpcache.store.seal import sealed
from pypi_adapter.auditing import DatedPage
from pypi_adapter.registry.requested_projects import RequestedProjects
from tests.support import http
from tests.support.command import run
from tests.support.config import configured, table
from tests.support.index import instant
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.registries import PyPI
from tests.support.upstream import Upstream

HASH = "scrypt:14:8:5:AAAAAAAAAAAAAAAAAAAAAA==:kSQ1bJYPD8Jgs7OVgip9Bc7Nv0GJkSsREzrHDUV_bZ4="
LOGIN = ("httpcache-pages", "correct horse")
CLOSED = ("--pages", "password", "--pages-password-hash", HASH)
DATE = "2024-01-02"


class World(NamedTuple):
    """A registry, and two mirrors of it; the second one shows its pages to who has logged in."""

    pypi: PyPI
    mirror: Mirror
    closed: Mirror


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("audit")
    with ExitStack() as stack:
        pypi = PyPI(stack.enter_context(Upstream()), stack.enter_context(Upstream(ranges=True)))
        for project in ("lib", "app", "gone"):
            for minor in range(3):
                pypi.upload(wheel(project, f"1.{minor}"), f"2023-0{minor + 1}-05T10:00:00Z")
        token = {"TEAM_TOKEN": "S3CRET-team"}
        config = table("registry", name="team", index=pypi.url, header="X-Token", value={"env": "TEAM_TOKEN"})
        one = stack.enter_context(configured(folder / "one", config, pypi.url, environment=token))
        two = stack.enter_context(configured(folder / "two", config, pypi.url, *CLOSED, environment=token))
        for path in (f"{DATE}/lib/", f"{DATE}/app/", f"team/{DATE}/lib/"):
            assert http.get(f"{one.url}/{path}").status_code == 200
        yield World(pypi, one, two)


def log_of(mirror: Mirror, change: Callable[[str, bytes], bytes] = lambda path, data: data) -> RemoteLog:
    """The Merkle log of a mirror, with what it sends changed on the way."""
    asker = Asker(mirror.url)
    return RemoteLog(lambda path: change(path, asker.read(f"{mirror.url}/-/log/{path}", "*/*").body))


def audited(mirror: Mirror, name: str, change: Callable[[str, bytes], bytes]) -> list[Finding]:
    log = log_of(mirror, change)
    events = log.events(name)
    return [*log.begin(None)] or [*log.check(name, events)]


def test_what_is_served(world: World) -> None:
    """The entry bundles hash to the tiles, and these to the root of the checkpoint."""
    address = f"{world.mirror.url}/-/log"
    note = http.get(f"{address}/checkpoint")
    assert (note.headers["content-type"], note.headers["cache-control"]) == ("text/plain; charset=utf-8", "no-store")
    checkpoint = read(note.text, Key.read(http.get(f"{address}/key").text))
    size = checkpoint.size
    tile, bundle = (http.get(f"{address}/tile/{kind}/000.p/{size}") for kind in ("0", "entries"))
    assert tile.headers["cache-control"] == "public, max-age=31536000, immutable"
    data, found, grown = bundle.content, b"", Grown()
    while data:
        length = int.from_bytes(data[:2], "big")
        hashed = leaf_hash(data[2 : 2 + length])
        grown.add(hashed)
        found, data = found + hashed, data[2 + length :]
    assert (tile.content, grown.size, grown.root) == (found, size, checkpoint.root)
    for path, status in {
        f"tile/0/000.p/{size + 1}": 404, "tile/0/000": 404, "tile/1/000.p/1": 404, "tile/0/0": 400, "tile/": 400,
        "entries/pypi/lib?from=x": 400, "entries/pypi/none": 404, "entries/pypi/Lib": 404, "entries/other/lib": 404,
        "entries/pypi/ passes": 404, "entries/": 404, "nothing": 404, "": 404,
    }.items():  # fmt: skip
        assert http.get(f"{address}/{path}").status_code == status, path


def test_entries_are_as_open_as_the_pages(world: World) -> None:
    """Those of a registry with credentials are for who has logged in, and tiles are for everybody."""
    here, there = (f"{mirror.url}/-/log" for mirror in (world.mirror, world.closed))
    assert set(http.get(f"{here}/logs").json()["logs"]) == {"pypi/lib", "pypi/app"}
    assert http.get(f"{here}/entries/team/lib").status_code == 404
    assert http.get(f"{world.closed.url}/team/{DATE}/lib/").status_code == 200
    for path in ("logs", "entries/team/lib"):
        got = http.get(f"{there}/{path}")
        assert (got.status_code, got.headers["www-authenticate"][:5]) == (401, "Basic")
        assert http.get(f"{there}/{path}", auth=("httpcache-pages", "wrong")).status_code == 401
    assert "team/lib" in http.get(f"{there}/logs", auth=LOGIN).json()["logs"]
    page = msgspec.json.decode(http.get(f"{there}/entries/team/lib", auth=LOGIN).content, type=LogPage)
    assert [event.entry for event in page.events] == [0]
    assert http.get(f"{there}/checkpoint").status_code == http.get(f"{there}/key").status_code == 200
    name = sha256(b"team/lib").digest()
    bundle = http.get(f"{there}/tile/entries/000.p/1").content
    assert name not in bundle
    assert b"S3CRET" not in b"".join(http.get(f"{there}/{path}", auth=LOGIN).content for path in ("logs", "key"))


def audit(*arguments: str | Path) -> tuple[int, str]:
    """Run the command in this process; return its exit code and what it says."""
    said = io.TextIOWrapper(io.BytesIO(), "utf-8")
    with redirect_stdout(said), redirect_stderr(said):
        code = main(["audit", *map(str, arguments)])
    said.seek(0)
    return code, said.read()


def test_an_audit_by_addresses(world: World, tmp_path: Path) -> None:
    here, there = world.mirror.url, f"http://{LOGIN[0]}:{LOGIN[1]}@127.0.0.1:{world.closed.port}"
    kept = tmp_path / "checkpoint"
    kept.write_text(http.get(f"{here}/-/log/checkpoint").text)
    code, said = audit(f"{here}/", "--since", kept, "--project", "Lib", "--at", DATE)
    assert (code, said.count("1 entries of pypi/lib and their page")) == (0, 1)
    code, said = audit(here, "--project", "missing", "--at", DATE, "--json")
    assert json.loads(said)["total"]["findings"] == code == 0
    assert audit(there, "--project", "team/lib", "--at", DATE)[0] == 0
    code, said = audit(here, "--project", "team/lib", "--at", DATE)
    assert (code, said[:14]) == (1, "httpcache: 404")
    code, said = audit(world.closed.url, "--since", kept)
    assert (code, said.count("found  "), said.count("none of this log")) == (1, 1, 1)
    for wrong in (["--project", "lib"], ["--at", DATE], [here, "--project", "lib"], ["a", "b", "c"]):
        assert audit(*wrong)[0] == 2
    ran = run("audit", here)
    assert (ran.returncode, ran.stderr, ran.stdout.count("nothing was changed")) == (0, "", 1)


def changed_page(change: Callable[[dict[str, Any]], object]) -> Callable[[str, bytes], bytes]:
    """Change the entries of a log on the way."""

    def work(path: str, data: bytes) -> bytes:
        if not path.startswith("entries/"):
            return data
        page = json.loads(data)
        change(page)
        return json.dumps(page).encode()

    return work


LIES: dict[str, tuple[str, Callable[[str, bytes], bytes]]] = {
    "a tile": ("tree", lambda path, data: data[::-1] if path.startswith("tile/") else data),
    "the size": (
        "checkpoint",
        lambda path, data: re.sub(rb"\A(.*\n)", rb"\g<1>1", data) if path == "checkpoint" else data,
    ),
    "another key": ("checkpoint", lambda path, data: data.replace(b"+A", b"+B") if path == "key" else data),
    "bytes": ("changed", changed_page(lambda page: page["events"][0].update(value="AAAA"))),
    "the number": ("changed", changed_page(lambda page: page["events"][0].update(entry=1))),
    "the leaf": ("missing leaf", changed_page(lambda page: page["events"][0].update(leaf=0))),
    "no leaf": ("missing leaf", changed_page(lambda page: page["events"][0].update(leaf=10**9))),
    "a commitment": ("missing leaf", changed_page(lambda page: page["events"][0].update(commitment="AAAA"))),
    "a removal": ("missing leaf", changed_page(lambda page: page["events"][0].update(removal=True))),
    "an entry that is left out": ("gap", changed_page(lambda page: page["events"].pop(0))),
    "an entry twice": ("order", changed_page(lambda page: page["events"].append(page["events"][-1]))),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_mirror_that_lies_about_its_log(lie: str, world: World) -> None:
    kind, change = LIES[lie]
    http.get(f"{world.mirror.url}/{DATE}/lib/")
    http.get(f"{world.mirror.url}/{instant()}/lib/")
    assert audited(world.mirror, "pypi/lib", lambda path, data: data) == []
    assert kind in {finding.kind for finding in audited(world.mirror, "pypi/lib", change)}


class Lying:
    """A client of a mirror whose pages are changed on the way."""

    def __init__(self, mirror: Mirror, change: Callable[[dict[str, Any]], object]) -> None:
        self._asker = Asker(mirror.url)
        self.url = self._asker.url
        self.environment = self._asker.environment
        self._change = change

    def read(self, url: str, accept: str) -> Fetched:
        """See `httpcache.adapter.Client`."""
        found = self._asker.read(url, accept)
        page = json.loads(found.body)
        self._change(page)
        return found._replace(body=json.dumps(page).encode())


PAGES: dict[str, tuple[str, Callable[[dict[str, Any]], object]]] = {
    "as it is": ("", lambda page: None),
    "metadata is not advertised": ("", lambda page: page["files"][0].pop("core-metadata")),
    "a file more": (
        "page",
        lambda page: page["files"].append({**page["files"][0], "filename": "lib-9-py3-none-any.whl"}),
    ),
    "yanked": ("page", lambda page: page["files"][0].update(yanked="by nobody")),
    "other bytes": ("page", lambda page: page["files"][0].update(hashes={"sha256": "00" * 32})),
    "another status": ("page", lambda page: page.update({"project-status": {"status": "archived"}})),
    "a file less": ("withheld", lambda page: page["files"].pop()),
}


@pytest.mark.parametrize("lie", PAGES)
def test_a_page_that_does_not_follow(lie: str, world: World) -> None:
    kind, change = PAGES[lie]
    page = DatedPage(Lying(world.mirror, change), "lib", DATE)
    values = [event.value or b"" for event in log_of(world.mirror).events(page.log)]
    found = [*page.findings(values, len(values), None)]
    assert [(each.kind, each.is_note) for each in found] == ([(kind, kind == "withheld")] if kind else [])


def test_entries_that_were_made_up_later(world: World) -> None:
    """What changed something before a checkpoint, and was noted after it, is found."""
    page = DatedPage(Asker(world.mirror.url), "app", DATE)
    values = [event.value or b"" for event in log_of(world.mirror).events(page.log)]
    assert [*page.findings(values, 0, time.time())] == []
    assert [each.kind for each in page.findings(values, 0, time.time() + 7200)] == ["late"]
    assert [*page.findings(values, len(values), time.time() + 7200)] == []
    assert [each.kind for each in page.findings([*values, values[0]], 9, None)] == ["log"]
    assert [each.kind for each in page.findings([b"x"], 9, None)] == ["log"]
    assert [each.kind for each in page.findings([], 9, None)] == ["page"]


def test_two_mirrors(world: World) -> None:
    here, there = world.mirror.url, f"http://{LOGIN[0]}:{LOGIN[1]}@127.0.0.1:{world.closed.port}"
    assert http.get(f"{here}/{instant()}/gone/").status_code == 200
    world.pypi.yank(wheel("gone", "1.1"), "broken")
    time.sleep(1.1)  # the clocks of registries have seconds
    for url in (here, world.closed.url):
        assert http.get(f"{url}/{instant()}/gone/").status_code == 200
    code, said = audit(here, there, "--project", "gone", "--json")
    finding, total = map(json.loads, said.splitlines())
    assert (code, total["total"]["findings"]) == (1, 1)
    assert [finding[key] for key in ("kind", "log", "entry", "is_note")] == ["differs", "pypi/gone", 0, False]
    assert "gone-1.1-py3-none-any.whl" in finding["finding"]
    assert audit(here, here)[0] == 0
    code, said = audit(here, there)
    assert (code, "the log pypi/gone differs" in said) == (1, True)
    assert {"pypi/app", "team/lib"} <= set(re.findall(r"the log (\S+) is only", said))
    code, said = audit(here, there, "--project", "never")
    assert (code, said.count("httpcache: no mirror shows")) == (1, 1)


def test_a_history_that_was_rewritten(tmp_path: Path) -> None:
    """Even with all its leaves made again: the checkpoint that was kept elsewhere tells."""
    kept, data, key = tmp_path / "checkpoint", tmp_path / "data", keys.numbered(keys.log("pypi/lib"), 1)

    async def begin() -> None:
        with closing(LocalStore(data)) as store:
            for number in range(5):
                await Log(store, "pypi/lib").append(number, b"%d" % number)
            await RequestedProjects(store, "pypi").note("lib")
            kept.write_text(await TreeLog(store).checkpoint())

    def rewrite(statement: str, *arguments: object) -> None:
        with closing(sqlite3.connect(data / DATABASE)) as database, database:
            database.execute(statement, arguments)

    def get(path: str) -> bytes:
        async def answer() -> bytes:
            with closing(LocalStore(data)) as store:
                log = TreeLog(store)
                if path.startswith("tile/"):
                    return await log.tile(Tile.read(path.removeprefix("tile/")))
                return (f"{(await log.signer()).key}" if path == "key" else await log.checkpoint()).encode()

        return anyio.run(answer)

    anyio.run(begin)
    assert audit("--data", data, "--since", kept)[0] == 0
    assert [*RemoteLog(get).begin(kept.read_text())] == []
    rewrite("UPDATE entries SET value = ? WHERE key = ?", sealed(key, b"other"), key)
    code, said = audit("--data", data, "--json")
    finding, _ = map(json.loads, said.splitlines())
    assert (code, finding["kind"], finding["log"], finding["entry"]) == (1, "changed", "pypi/lib", 1)
    _, place, nonce, commitment = leaves.new(key, b"other")
    rewrite("UPDATE leaves SET nonce = ?, commitment = ? WHERE place = ?", nonce, commitment, place)
    rewrite("DELETE FROM entries WHERE key >= 'c/' AND key < 'c0'")
    assert audit("--data", data)[0] == 0
    code, said = audit("--data", data, "--since", kept)
    assert (code, said.count("found  ")) == (1, 1)
    assert [finding.kind for finding in RemoteLog(get).begin(kept.read_text())] == ["rewritten"]

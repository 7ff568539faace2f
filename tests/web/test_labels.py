"""Labelled addresses over a server: what is served is the same, and what was taken is recorded for the build."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from hashlib import sha256
from itertools import product
from pathlib import Path

import httpx
import pytest

from httpcache.store import keys
from httpcache.store.builds import Build, Taken
from httpcache.store.local import LocalStore
from httpcache.store.record import Record
from httpcache.target import Target
from tests.support import http
from tests.support.command import run
from tests.support.config import table
from tests.support.index import hrefs, html_page
from tests.support.mirror import Mirror
from tests.support.npm import NpmRegistry
from tests.support.packages import wheel
from tests.support.registries import JSON, PyPI, Registry
from tests.support.upstream import Response, Upstream

DATE, PIN = "2024-01-02", "tools-2024-01-02"
THING = wheel("thing", "1.0", ["other"])
HTML = "text/html"


def recorded(data: Path, label: str) -> tuple[Build, list[Taken]]:
    """What a stopped server has recorded of a build."""

    async def work(store: LocalStore) -> tuple[Build, list[Taken]]:
        build = await store.builds.get(label)
        assert build is not None
        return build, await store.builds.files(label)

    with closing(LocalStore(data)) as store:
        return asyncio.run(work(store))


def name(taken: Taken) -> str:
    return taken.file.url.rpartition("/")[2]


def same(plain: httpx.Response, labelled: httpx.Response) -> None:
    """Status, bytes and headers are the same; what is answered first may say that it was fetched."""
    assert (labelled.status_code, labelled.content) == (plain.status_code, plain.content)
    assert {**labelled.headers, "date": "", "cache-status": ""} == {**plain.headers, "date": "", "cache-status": ""}


@pytest.fixture
def labelled(pypi: PyPI, registry: Callable[..., Registry], tmp_path: Path) -> Iterator[Mirror]:
    """A mirror below a root path, with a named registry and a group, and a file on PyPI."""
    pypi.upload(THING, "2024-01-01T12:00:00Z")
    config = table("registry", name="internal", index=registry("devpi").url)
    config += table("group", name="all", registries=["internal", "pypi"])
    (tmp_path / "mirror.toml").write_text(config)
    options = ["--config", str(tmp_path / "mirror.toml"), "--root-path", "/mirror", "--workers", "2"]
    server = Mirror(tmp_path, pypi.url, options)
    yield server
    server.kill()


def test_an_answer_differs_in_its_links_alone_and_these_stay_in_the_label(labelled: Mirror) -> None:
    labelled.start()
    indexes = (DATE, f"{DATE}T00:00:00Z", "live", "live-1d", "all/live")
    for number, (index, accept) in enumerate(product(indexes, (JSON, HTML))):
        root = f"/mirror/{index}--build-{number}"
        for rest in ("thing/", "simple/thing/"):
            plain = http.get(f"{labelled.url}/mirror/{index}/{rest}", headers={"accept": accept})
            found = http.get(f"{labelled.url}{root}/{rest}", headers={"accept": accept})
            assert found.status_code == 200
            assert found.text == plain.text.replace("/mirror/files/", f"{root}/-/files/")
            assert found.text.count(f"{root}/-/files/thing/") == 1
            assert found.headers["cache-control"] == plain.headers["cache-control"]
        for rest in ("thing", "Thing/"):
            location = http.get(f"{labelled.url}{root}/{rest}").headers["location"]
            assert location == f"{root}/-/{index}/thing/"
            assert http.get(f"{labelled.url}{location}", headers={"accept": accept}).content == found.content
        link = re.search(rf"{root}/-/files/thing/[^\"#]*", found.text)
        assert link
        file = labelled.same(link[0])
        same(http.get(labelled.same(link[0].replace(f"{root}/-", "/mirror"))), http.get(file))
        assert http.get(f"{file}.metadata").content == THING.metadata
        [url] = http.get(f"{labelled.url}{root}/pypi/thing/json").json()["urls"]
        assert url["url"].startswith(f"{labelled.url}{root}/-/files/thing/")
    listed = http.get(f"{labelled.url}/mirror/{DATE}--list/", headers={"accept": HTML})
    assert hrefs(listed.text) == [f"/mirror/{DATE}--list/-/{DATE}/thing/"]
    labelled.stop()

    for number, (index, _) in enumerate(product(indexes, (JSON, HTML))):
        build, files = recorded(labelled.data, f"build-{number}")
        assert build.indexes == (index,)
        assert [name(taken) for taken in files] == [THING.filename, f"{THING.filename}.metadata"]
        assert {(taken.file.through, taken.file.pin) for taken in files} == {(index, "files")}
        assert (files[0].file.digest, files[0].file.size) == (THING.sha256, len(THING.data))
    assert recorded(labelled.data, "list")[1] == []


def test_what_is_no_file_taken_is_not_recorded(labelled: Mirror) -> None:
    at = f"{labelled.start().url}/mirror/{DATE}--b"
    [link] = hrefs(http.get(f"{at}/thing/", headers={"accept": HTML}).text)
    file = labelled.same(link.partition("#")[0])
    assert http.head(file).status_code == 200
    assert http.get(file, headers={"If-Match": '"other"'}).status_code == 412
    assert http.get(f"{at}/none/").status_code == 404
    assert http.get(f"{labelled.url}/mirror/{DATE}--c/none/").status_code == 404
    refused = http.get(f"{labelled.url}/mirror/{DATE}--d--e/thing/")
    assert (refused.status_code, "not a valid build label" in refused.text) == (400, True)
    other = file.replace("--b/", "--b.1/")
    assert http.get(other, headers={"user-agent": "pip/24.0 {...}"}).status_code == 200
    labelled.stop()
    assert recorded(labelled.data, "b")[1] == []
    told = run("builds", "--json", "--data", labelled.data).stdout
    assert [json.loads(line)["build"] for line in told.splitlines()] == ["b.1", "b"]

    [line] = [json.loads(line) for line in told.splitlines() if "b.1" in line]
    assert (line["indexes"], line["files"], line["bytes"], line["complete"]) == ([DATE], 1, len(THING.data), True)
    [taken] = map(json.loads, run("builds", "b.1", "--json", "--data", labelled.data).stdout.splitlines())
    assert taken["address"] == f"/files/thing/{THING.sha256}/{THING.filename}"
    assert (taken["sha256"], taken["bytes"]) == (THING.sha256, len(THING.data))
    assert (taken["through"], taken["client"], taken["private"]) == (DATE, "pip/24.0", False)
    assert run("builds", "none", "--data", labelled.data).returncode == 1


def test_every_form_of_an_answer_is_the_same_and_is_recorded(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    """From memory, from disk and fetched, in parts and not modified."""
    upstream.pages["/small"] = Response(b"small file", headers={"Link": '<https://example.com/next>; rel="next"'})
    server = mirror()
    plain = server.pin(PIN, f"{upstream.url}/small")
    first = http.get(server.pin(f"{PIN}--first", f"{upstream.url}/small"))
    assert "fwd=uri-miss" in first.headers["cache-status"]
    for number, headers in enumerate(
        (
            {},
            {"range": "bytes=5-"},
            {"range": "bytes=0-1,4-5"},
            {"if-none-match": f'"{sha256(b"small file").hexdigest()}"'},
        )
    ):
        for _ in range(3):
            found = http.get(server.pin(f"{PIN}--b{number}", f"{upstream.url}/small"), headers=headers)
            whole = http.get(plain, headers=headers)
            assert found.headers["link"] == f'</{PIN}--b{number}/-/{PIN}/https://example.com/next>; rel="next"'
            assert (found.status_code, found.headers["etag"]) == (whole.status_code, whole.headers["etag"])
            assert found.content == whole.content or "multipart" in found.headers["content-type"]
    server.stop()
    for label in ("first", "b0", "b1", "b2", "b3"):
        build, [taken] = recorded(server.data, label)
        assert (build.indexes, taken.file.url, taken.file.through) == ((PIN,), f"{upstream.url}/small", PIN)
    entries = run("ls", PIN, "--json", "--data", server.data).stdout.splitlines()
    assert len(entries) == 1
    assert run("ls", "--data", server.data).stdout.split()[0] == PIN


def test_pages_and_private_files_behind_a_pin(
    upstreams: Callable[..., Upstream], mirror: Callable[..., Mirror]
) -> None:
    """A simple index, a packument, and a file that takes a token: no secret of it is recorded."""
    upstream, other = upstreams(), upstreams(tokens={"Authorization": "Bearer s3cret"})
    upstream.pages |= {
        "/simple/thing/": html_page(THING.filename),
        f"/simple/thing/{THING.filename}": Response(THING.data),
    }
    other.pages["/file"] = Response(b"private")
    server, registry = mirror(), NpmRegistry(upstream)
    registry.publish("left", "1.0.0", content="left 1")
    page = http.get(server.pin(f"{PIN}--b", f"{upstream.url}/simple/thing/"), headers={"accept": HTML})
    [link] = hrefs(page.text)
    assert link.startswith(f"/{PIN}--b/-/{PIN}/http")
    assert http.get(server.same(link)).content == THING.data
    packument = http.get(server.pin(f"{PIN}--b", f"{registry.url}left")).json()
    tarball = packument["versions"]["1.0.0"]["dist"]["tarball"]
    assert tarball.startswith(f"{server.url}/{PIN}--b/-/{PIN}/http")
    assert http.get(tarball).status_code == 200
    address = server.pin(f"{PIN}--b", f"{other.url}/file?signature=hunter2")
    assert http.get(address).status_code == 401
    assert http.get(address, headers={"Authorization": "Bearer s3cret"}).content == b"private"
    server.stop()

    build, files = recorded(server.data, "b")
    assert build.indexes == (PIN,)
    assert {(name(taken), taken.file.is_private) for taken in files} == {
        ("left-1.0.0.tgz", False),
        (THING.filename, False),
        ("file?signature=…", True),
    }
    shown = run("builds", "--data", server.data).stdout + run("builds", "b", "--json", "--data", server.data).stdout
    for secret in ("hunter2", "s3cret"):
        assert secret not in shown + server.log()
        assert all(secret.encode() not in path.read_bytes() for path in server.data.glob("index/builds.db*"))


def test_older_pins_stay_and_old_builds_go(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    """A pin can have a name in the form of a labelled one: what is frozen under it is served for ever.

    A build is kept for as long as the settings say.
    """
    upstream.pages["/file"] = Response(b"first")
    server = mirror("--keep-builds", "1w")
    assert http.get(server.pin(f"{PIN}--old", f"{upstream.url}/file")).status_code == 200
    server.stop()
    with closing(sqlite3.connect(server.data / "index/builds.db")) as connection, connection:
        connection.execute("UPDATE builds SET last_use = last_use - 8 * 86400")
    older = f"{PIN}--nightly"

    async def freeze(store: LocalStore) -> None:
        target = Target(older, f"{upstream.url}/file")
        (body := server.folder / "body").write_bytes(b"older")
        record = Record(target.key, older, target.url, target.url, sha256(b"older").hexdigest(), 5, 1.0)
        await store.freeze(keys.record(target.key), record, body)

    with closing(LocalStore(server.data)) as store:
        asyncio.run(freeze(store))
    server.start()
    assert http.get(server.pin(older, f"{upstream.url}/file")).content == b"older"
    assert http.get(server.pin(f"{PIN}--other", f"{upstream.url}/file")).content == b"first"
    assert http.get(server.pin(PIN, f"{upstream.url}/file")).content == b"first"
    server.stop()
    assert [line.split()[0] for line in run("builds", "--data", server.data).stdout.splitlines()] == ["other"]

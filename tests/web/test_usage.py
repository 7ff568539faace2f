"""What a server notes in the usage journal: each kind of answer once, over all its workers, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from httpcache.store.local import LocalStore
from httpcache.store.sqlite_usage import FILE
from httpcache.store.usage import Reader, Used, UsedEntry
from tests.support import http
from tests.support.command import run
from tests.support.index import hrefs
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.registries import PyPI
from tests.support.upstream import Response, Upstream

CLIENT = "127.0.0.1"
PIN = "tools-2024-01-02"
SMALL, LARGE = b"x" * 1000, b"y" * 200_000  # of the index, and a file


def pins(data: Path) -> dict[str, Used]:
    with closing(LocalStore(data)) as store:
        return asyncio.run(store.usage.pins())


def entries(data: Path, pin: str) -> list[tuple[UsedEntry, list[Reader]]]:
    async def work(store: LocalStore) -> list[tuple[UsedEntry, list[Reader]]]:
        return [(entry, await store.usage.readers(entry.key)) for entry in await store.usage.of_pin(pin)]

    with closing(LocalStore(data)) as store:
        return asyncio.run(work(store))


def counts(data: Path) -> dict[str, tuple[int, int]]:
    """Hits and bytes of each pin."""
    return {name: (used.hits, used.bytes) for name, used in pins(data).items()}


def test_every_answer_of_an_entry_counts_once(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    """The fetch, answers from the store and from memory, in every form; what has an error does not count."""
    upstream.pages |= {"/small": Response(SMALL), "/large": Response(LARGE), "/gone": Response(b"no", 404)}
    server = mirror("--workers", "2")
    small, large = (server.pin(PIN, f"{upstream.url}/{name}") for name in ("small", "large"))
    for address, body in ((small, SMALL), (large, LARGE)):
        for _ in range(10):
            found = http.get(address)
            assert found.content == body
        assert http.get(address, headers={"Range": "bytes=0-9"}).status_code == 206
        assert http.get(address, headers={"If-None-Match": found.headers["etag"]}).status_code == 304
        assert http.head(address).status_code == 200
        assert http.get(address, headers={"If-Match": '"other"'}).status_code == 412
    assert http.get(server.pin(PIN, f"{upstream.url}/gone")).status_code == 404
    assert http.get(server.pin("none-2024-01-02", "http://192.0.2.1/")).status_code == 403
    server.stop()

    assert counts(server.data) == {PIN: (26, 10 * len(SMALL + LARGE) + 20)}
    found_entries = entries(server.data, PIN)
    assert {(entry.address, entry.used.hits, entry.used.bytes) for entry, _ in found_entries} == {
        (f"{upstream.url}/small", 13, 10 * len(SMALL) + 10),
        (f"{upstream.url}/large", 13, 10 * len(LARGE) + 10),
    }
    for entry, readers in found_entries:
        [reader] = readers
        assert (reader.client, reader.hits) == (CLIENT, 13)
        assert entry.used.first <= entry.used.last


def test_pages_count_for_their_index_and_files_for_their_entry(pypi: PyPI, mirror: Callable[..., Mirror]) -> None:
    wheel_of_thing = wheel("thing", "1.0")
    pypi.upload(wheel_of_thing, "2024-01-01T12:00:00Z")
    server = mirror(pypi)
    page = {"Accept": "text/html"}
    for _ in range(3):
        [link] = hrefs(http.get(f"{server.at('2024-01-02')}thing/", headers=page).content)
    assert http.get(f"{server.at('2024-01-02T00:00:00Z')}thing/", headers=page).status_code == 200  # the same instant
    assert http.get(f"{server.at('2024-01-02T00%3A00%3A01Z')}thing/", headers=page).status_code == 200
    for name in ("live", "live", "live-1d"):
        assert http.get(f"{server.at(name)}thing/", headers=page).status_code == 200
    assert http.get(f"{server.at('live')}none/", headers=page).status_code == 404
    assert http.get(f"{server.at('2024-01-02')}pypi/thing/json").status_code == 200
    for _ in range(2):
        assert http.get(server.same(link)).content == wheel_of_thing.data
    for _ in range(2):
        assert http.get(server.same(link.partition("#")[0] + ".metadata")).status_code == 200
    pinned = server.pin(PIN, f"{pypi.url}thing/")
    for _ in range(3):
        assert http.get(pinned, headers=page).status_code == 200
    server.stop()

    hits = {name: used.hits for name, used in pins(server.data).items()}
    assert hits == {"2024-01-02": 5, "2024-01-02T00:00:01Z": 1, "live": 2, "live-1d": 1, "files": 4, PIN: 3}
    assert [entry.used.hits for entry, _ in entries(server.data, "files")] == [2, 2]
    assert [entry.used.hits for entry, _ in entries(server.data, PIN)] == [3]
    assert entries(server.data, "2024-01-02") == []


def test_the_values_of_a_query_are_not_in_it(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    upstream.pages["/file"] = Response(SMALL)
    server = mirror()
    assert http.get(server.pin(PIN, f"{upstream.url}/file?token=hunter2")).status_code == 200
    server.stop()
    [(entry, _)] = entries(server.data, PIN)
    assert entry.address.startswith(f"{upstream.url}/file?token")
    assert all(b"hunter2" not in path.read_bytes() for path in server.data.glob(f"{FILE}*"))


@pytest.mark.parametrize("trouble", ["a folder in its place", "damage"])
def test_a_journal_that_cannot_be_written_fails_no_request(
    trouble: str, upstream: Upstream, mirror: Callable[..., Mirror]
) -> None:
    upstream.pages["/file"] = Response(SMALL)
    server = mirror()
    server.stop()
    if trouble == "damage":
        (server.data / FILE).write_bytes(b"no database" * 1000)
    else:
        (server.data / FILE).mkdir()
    server.start()
    for _ in range(3):
        assert http.get(server.pin(PIN, f"{upstream.url}/file")).content == SMALL
    server.stop()
    assert server.log().count("how the mirror is used is not recorded for now") == 1


def test_what_is_forgotten_is_forgotten_here_too(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    upstream.pages |= {"/one": Response(SMALL), "/two": Response(SMALL)}
    server = mirror()
    for name in ("one", "two"):
        assert http.get(server.pin(PIN, f"{upstream.url}/{name}")).status_code == 200
    server.stop()
    run("forget", f"/{PIN}/{upstream.url}/one", "--yes", "--data", server.data)
    assert [entry.address for entry, _ in entries(server.data, PIN)] == [f"{upstream.url}/two"]
    assert counts(server.data) == {PIN: (1, len(SMALL))}
    run("forget", PIN, "--yes", "--data", server.data)
    assert counts(server.data) == {}

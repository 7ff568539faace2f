"""Pages that strangers have frozen under a known pin: what they add to the work for a file is counted here."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path

import anyio
import httpx
import pytest

from httpcache.store.local import LocalStore
from httpcache.store.record import Record, encode
from httpcache.store.recorder import Recorder
from httpcache.store.usage import Journal
from httpcache.target import Target
from httpcache.web.accounting import Accounts
from httpcache.web.app import Front
from httpcache.web.labels import Labels
from pypi_adapter import adapter
from pypi_adapter.simple.model import File, Page
from pypi_adapter.web.listings import LOG_BYTES, ORIGINS, Listings
from tests.support.index import html_page
from tests.support.inprocess import running
from tests.support.packages import wheel
from tests.support.upstream import Response, Upstream

THING = wheel("thing", "1.0")
PIN = "known-2024-01-02"


class Counting(LocalStore):
    """A store that counts what is read of it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.entries_read = self.bytes_read = self.blobs_read = 0

    def begin(self) -> None:
        """Count from here on."""
        self.entries_read = self.bytes_read = self.blobs_read = 0

    async def get(self, key: str) -> bytes | None:
        value = await super().get(key)
        self._count([value])
        return value

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        values = await super().get_many(keys)
        self._count(values)
        return values

    def _count(self, values: Sequence[bytes | None]) -> None:
        self.entries_read += len(values)
        self.bytes_read += sum(len(value) for value in values if value)

    def read_body(self, digest: str, size: int, start: int, stop: int) -> AsyncIterator[bytes]:
        self.blobs_read += 1
        return super().read_body(digest, size, start, stop)


def stranger_page(number: int, url: str, *, alone: bool) -> Response:
    """A page of 300 links: one of them to the file, with a wrong digest; `alone`: all files are of its project."""
    name = "thing-{}.tar.gz" if alone else "p{}-1.0.tar.gz"
    links = [f"/{number}/{name.format(each)}" for each in range(300)]
    return html_page(*links, f"{url}#sha256={sha256(str(number).encode()).hexdigest()}")


async def work(
    folder: Path, pages: int, home: Upstream, index: Upstream, stranger: Upstream, *, alone: bool
) -> Counting:
    """What a first fetch of the file reads, after a stranger has had so many pages frozen under its pin."""
    store = Counting(folder)
    async with running(folder, store) as mirror:
        accounts = Accounts(mirror.metrics, Journal(store.usage), Recorder(store.builds, 0.0))
        front = Front(mirror, [adapter.bind(mirror)], accounts, Labels((), ()))
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(front), base_url="http://mirror", timeout=60
        ) as client:
            for number in range(pages):
                stranger.pages[f"/{number}"] = stranger_page(number, f"{home.url}/{THING.filename}", alone=alone)
                found = await client.get(f"/{PIN}/{stranger.url}/{number}", headers={"Accept": "text/html"})
                assert found.status_code == 200
            assert (await client.get(f"/{PIN}/{index.url}/simple/thing/")).status_code == 200
            store.begin()
            answer = await client.get(f"/{PIN}/{home.url}/{THING.filename}")
            assert (answer.status_code, answer.content) == (200, THING.data)
    return store


@pytest.mark.parametrize("alone", [True, False], ids=["one project", "many projects"])
@pytest.mark.parametrize("own", [True, False], ids=["a page of its origin", "a page elsewhere"])
def test_pages_of_strangers_are_not_read_for_a_file(
    own: bool, alone: bool, upstreams: Callable[..., Upstream], tmp_path: Path
) -> None:
    """No page is parsed, whatever it lists; and where a page of the file's origin lists it, no other note is read."""
    home, stranger, elsewhere = upstreams(), upstreams(), upstreams()
    index = home if own else elsewhere
    home.pages[f"/{THING.filename}"] = THING.data
    index.pages["/simple/thing/"] = html_page(f"{home.url}/{THING.filename}#sha256={THING.sha256}")
    none, some, many = (
        anyio.run(partial(work, tmp_path / f"{count}", count, home, index, stranger, alone=alone))
        for count in (0, 2, 8)
    )
    assert none.blobs_read == some.blobs_read == many.blobs_read
    if own:
        assert none.entries_read == some.entries_read == many.entries_read
        assert abs(many.bytes_read - none.bytes_read) < 1000
    else:
        assert many.entries_read - none.entries_read < 400
        assert many.bytes_read - none.bytes_read < 5 * 2 * LOG_BYTES  # it is looked up a few times


def test_what_is_noted_is_bounded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of one origin by bytes, and by the number of origins; a page of the file's own origin is found in any case."""
    store = Counting(tmp_path)
    listings = Listings(store)
    victim = f"http://home/{THING.filename}"
    target = Target(PIN, victim)

    async def note(final: str, number: int, count: int, digest: str) -> None:
        key, name = f"r/{number}", f"{number:064x}"
        record = Record(target=key, pin=PIN, url=final, final=final, digest=name, size=1, created=1.0)
        await store.add(key, encode(record))
        files = [File(f"thing-{each}.tar.gz", f"http://home/{number}/thing-{each}.tar.gz", {}) for each in range(count)]
        listed = File(THING.filename, victim, {"sha256": digest})
        await listings.note(key, record, Page("thing", (*files, listed)))

    async def scenario() -> None:
        for number in range(6):
            await note(f"http://evil/{number}", number, 14_000, f"{number:064x}")
        for number in range(6, 6 + ORIGINS + 6):
            await note(f"http://evil{number}/", number, 1, f"{number:064x}")
        store.begin()
        found = await listings.find(target)
        assert 1 < len(found) <= 6 + ORIGINS
        assert store.bytes_read < 2 * LOG_BYTES
        await note("http://home/simple/thing/", 1000, 1, THING.sha256)
        store.begin()
        assert [listing.file.hashes for listing in await listings.find(target)] == [{"sha256": THING.sha256}]
        assert store.bytes_read < 1000

    with caplog.at_level(logging.WARNING, "httpcache"):
        anyio.run(scenario)
    store.close()
    assert "lists more files than the mirror remembers" in caplog.text
    assert "too many origins" in caplog.text

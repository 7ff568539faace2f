"""The usage journal of several nodes: it is the sum of what all of them answer, and PostgreSQL may be away."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from httpcache.store.postgres_index import PostgresIndex
from httpcache.store.postgres_schema import upgrade
from httpcache.store.usage import Used
from tests.support import http
from tests.support.mirror import Mirror
from tests.support.postgres import Postgres
from tests.support.upstream import Response, Upstream

PIN = "tools-2024-01-02"
BODY = b"x" * 100_000


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    server = Postgres()
    yield server
    server.close()


def pins(url: str) -> dict[str, Used]:
    async def work() -> dict[str, Used]:
        index = PostgresIndex(url)
        await index.open()
        try:
            return await index.usage.pins()
        finally:
            await index.close()

    return asyncio.run(work())


def test_nodes_add_to_one_journal(postgres: Postgres, upstream: Upstream, tmp_path: Path) -> None:
    upstream.pages["/file"] = Response(BODY)
    url = postgres.database()
    upgrade(url)
    (tmp_path / "blobs").mkdir()
    store = ("--index", url, "--blobs", (tmp_path / "blobs").as_uri(), "--workers", "2")
    nodes = [Mirror(tmp_path / name, None, store).start() for name in ("one", "two")]
    try:
        for _ in range(5):
            for node in nodes:
                assert http.get(node.pin(PIN, f"{upstream.url}/file")).content == BODY
        nodes[0].stop()
        assert (pins(url)[PIN].hits, pins(url)[PIN].bytes) in [(each, each * len(BODY)) for each in range(5, 11)]
        nodes[1].stop()
        used = pins(url)[PIN]
        assert (used.hits, used.bytes) == (10, 10 * len(BODY))

        [node] = nodes[:1]
        node.start()
        assert http.get(node.pin(PIN, f"{upstream.url}/file")).content == BODY
        postgres.stop()
        node.stop()  # in time, and with the exit code of one that has ended well
        assert "how the mirror is used is not recorded for now" in node.log()
    finally:
        for node in nodes:
            node.kill()

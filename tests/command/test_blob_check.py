"""The doctor's probe of an object store: what it finds where the store refuses one thing, and that nothing is left."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import obstore
import pytest
from obstore.store import from_url

from httpcache.command.blob_check import NAME, check_blobs
from httpcache.command.health import OK, PROBLEM, Finding
from tests.support import objects
from tests.support.command import run
from tests.support.meddler import Meddler

pytestmark = pytest.mark.anyio

PATIENCE = 2.0  # seconds
DENIED = b"<Error><Code>AccessDenied</Code></Error>"


@pytest.fixture
def meddler() -> Iterator[Meddler]:
    with Meddler(objects.server().url) as found:
        yield found


async def examine(meddler: Meddler, folder: Path) -> Finding:
    with objects.credentials(meddler.url):
        return await check_blobs(objects.bucket_of(folder), PATIENCE)


def left(meddler: Meddler, folder: Path) -> list[str]:
    """The objects that are there."""
    meddler.reset()
    with objects.credentials(meddler.url):
        bucket = from_url(objects.bucket_of(folder), client_options={"allow_http": True})
        return [each["path"] for each in obstore.list(bucket).collect()]


async def test_an_object_store_that_works(meddler: Meddler, tmp_path: Path) -> None:
    found = await examine(meddler, tmp_path)
    assert (found.level, found.advice) == (OK, None)
    assert "written, read and removed" in found.text
    assert {"PUT", "GET", "HEAD"} <= {method for method, _ in meddler.requests}
    assert left(meddler, tmp_path) == []


@pytest.mark.parametrize(
    ("method", "said", "advice", "remains"),
    [
        ("PUT", "could not be written", "s3:PutObject", 0),
        ("GET", "could not be read", "s3:GetObject", 0),
        ("DELETE", "could not be removed", "s3:DeleteObject", 1),
        ("HEAD", "could not be missed", "s3:ListBucket", 0),
    ],
)
async def test_a_right_that_is_missing(
    method: str, said: str, advice: str, remains: int, meddler: Meddler, tmp_path: Path
) -> None:
    """The finding names it; only what may not be removed is left, and is named too."""
    methods = {"DELETE", "POST"} if method == "DELETE" else {method}  # S3 can remove several with a POST
    meddler.methods, meddler.status, meddler.body = methods, 403, DENIED
    found = await examine(meddler, tmp_path)
    assert found.level == PROBLEM
    assert said in found.text
    assert "403" in found.text
    assert advice in (found.advice or "")
    there = left(meddler, tmp_path)
    assert len(there) == remains
    assert all(NAME in name and name in found.text for name in there)


async def test_bytes_that_change_on_the_way(meddler: Meddler, tmp_path: Path) -> None:
    meddler.methods, meddler.turned = {"GET"}, 7
    found = await examine(meddler, tmp_path)
    assert found.level == PROBLEM
    assert "other bytes" in found.text
    assert left(meddler, tmp_path) == []


async def test_a_store_that_hangs_or_is_no_store(meddler: Meddler, tmp_path: Path) -> None:
    meddler.hangs = True
    hanging = await examine(meddler, tmp_path)
    assert (hanging.level, "in time" in hanging.text) == (PROBLEM, True)
    wrong = await check_blobs("ftp://bucket/prefix")
    assert (wrong.level, "could not be opened" in wrong.text) == (PROBLEM, True)


def test_the_command_looks_at_blobs_though_the_index_is_away(tmp_path: Path) -> None:
    """A shared folder is an object store, too."""
    (tmp_path / "blobs").mkdir()
    store = ("--index", "postgresql://user:S3CRET@127.0.0.1:1/db", "--blobs", f"file://{tmp_path / 'blobs'}")
    ran = run("doctor", "--json", "--offline", "--data", tmp_path / "data", *store)
    assert ran.returncode == 1
    found = {row["check"]: row for row in map(json.loads, ran.stdout.splitlines())}
    assert found["blobs"]["level"] == "ok"
    assert found["engines"]["level"] == "problem"
    assert list((tmp_path / "blobs").rglob("*")) == []
    assert "S3CRET" not in ran.stdout + ran.stderr

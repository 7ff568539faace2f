"""Blobs in an object store: what several machines do at once, and what happens when the store fails."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path

import anyio
import obstore
import pytest

from httpcache.errors import Damaged, StoreError, StoreFull
from httpcache.store import object_blobs
from httpcache.store.base import Condition
from httpcache.store.local_cache import LocalCache
from httpcache.store.object_blobs import GRACE, ObjectBlobs
from httpcache.store.objects import PART
from tests.support import objects
from tests.support.engines import CACHE, part
from tests.support.meddler import Meddler

pytestmark = pytest.mark.anyio

BODY = os.urandom(600_000)
DIGEST = sha256(BODY).hexdigest()
PATIENCE = 20.0  # seconds; a busy machine takes its time
IMPATIENCE = 2.0


@asynccontextmanager
async def node(
    folder: Path, url: str, name: str = "node", *, grace: float = GRACE, limit: int = CACHE, patience: float = PATIENCE
) -> AsyncIterator[ObjectBlobs]:
    """The blobs as a machine has them: with a cache of its own."""
    with objects.credentials(url):
        cache = LocalCache(folder / name, limit)
        blobs = ObjectBlobs(objects.bucket_of(folder), cache, grace=grace, patience=patience)
    try:
        yield blobs
    finally:
        blobs.close()


async def put(blobs: ObjectBlobs, folder: Path, body: bytes = BODY) -> str:
    digest = sha256(body).hexdigest()
    async with blobs.putting():
        await blobs.put(digest, part(folder, body))
    return digest


async def recalled(blobs: ObjectBlobs, digest: str = DIGEST) -> bytes:
    return b"".join([chunk async for chunk in blobs.recall(digest)])


async def read(blobs: ObjectBlobs, start: int = 0, stop: int = len(BODY)) -> bytes:
    return b"".join([chunk async for chunk in blobs.read(DIGEST, start, stop)])


async def process(server: objects.ObjectServer, program: str, folder: Path, *arguments: object) -> None:
    """Run a program with a folder and the address of its objects."""
    command = [sys.executable, "-c", program, str(folder), objects.bucket_of(folder), *map(str, arguments)]
    with objects.credentials(server.url):
        done = await anyio.run_process(command, check=False, stderr=None)
    assert done.returncode == 0


@pytest.fixture
def server() -> objects.ObjectServer:
    return objects.server()


@pytest.fixture
def meddler(server: objects.ObjectServer) -> Iterator[Meddler]:
    with Meddler(server.url) as found:
        yield found


async def test_another_machine_has_it_once_it_is_put(server: objects.ObjectServer, tmp_path: Path) -> None:
    async with node(tmp_path, server.url, "one") as one, node(tmp_path, server.url, "other") as other:
        await put(one, tmp_path)
        assert other.condition(DIGEST, len(BODY)) is Condition.REMOTE
        assert await read(other, 5, 300_000) == BODY[5:300_000]
        assert await recalled(other) == BODY
        assert other.condition(DIGEST, len(BODY)) is Condition.REMOTE  # reading fills no cache
        assert await other.check(DIGEST, len(BODY))
        assert other.condition(DIGEST, len(BODY)) is Condition.SOUND
        assert other.path(DIGEST).read_bytes() == BODY


async def test_a_verified_file_is_kept(server: objects.ObjectServer, tmp_path: Path) -> None:
    async with node(tmp_path, server.url) as blobs:
        file = part(tmp_path, BODY)
        await blobs.keep(DIGEST, file)
        assert not file.exists()
        assert blobs.condition(DIGEST, len(BODY)) is Condition.SOUND
        assert blobs.path(DIGEST).read_bytes() == BODY


async def test_whoever_streams_a_damaged_body_notes_it(server: objects.ObjectServer, tmp_path: Path) -> None:
    async with node(tmp_path, server.url, "one") as one, node(tmp_path, server.url, "other", limit=1000) as other:
        await one._objects.put(f"{DIGEST[:2]}/{DIGEST}", part(tmp_path, BODY[::-1]), len(BODY))
        assert await recalled(other) != BODY
        other.note_damage(DIGEST, len(BODY))
        assert other.condition(DIGEST, len(BODY)) is Condition.BROKEN
        await put(other, tmp_path)
        assert other.condition(DIGEST, len(BODY)) is Condition.REMOTE
        assert await recalled(one) == BODY


async def test_twenty_checks_share_a_download(meddler: Meddler, tmp_path: Path) -> None:
    async with node(tmp_path, meddler.url, "one") as one, node(tmp_path, meddler.url, "other") as other:
        await put(one, tmp_path)
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(other.check, DIGEST, len(BODY))
        assert meddler.count("GET") == 1


async def test_twenty_checks_share_an_error(meddler: Meddler, tmp_path: Path) -> None:
    """Else each would wait for as long as the one before."""
    errors: list[StoreError] = []

    async def check() -> None:
        with pytest.raises(StoreError) as caught:
            await blobs.check(DIGEST, len(BODY))
        errors.append(caught.value)

    async with node(tmp_path, meddler.url) as blobs:
        meddler.status = 503
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(check)
        assert len({id(error) for error in errors}) == 20
        assert len(meddler.requests) < 5


async def test_a_check_goes_on_when_the_first_caller_leaves(meddler: Meddler, tmp_path: Path) -> None:
    leaving, checked = anyio.CancelScope(), []

    async def leave() -> None:
        with leaving:
            await other.check(DIGEST, len(BODY))

    async def stay() -> None:
        checked.append(await other.check(DIGEST, len(BODY)))

    async with node(tmp_path, meddler.url, "one") as one, node(tmp_path, meddler.url, "other") as other:
        await put(one, tmp_path)
        meddler.methods, meddler.pause = {"GET"}, 0.2
        async with anyio.create_task_group() as group:
            group.start_soon(leave)
            await anyio.sleep(0.2)
            group.start_soon(stay)
            await anyio.sleep(0.2)
            leaving.cancel()
    assert leaving.cancelled_caught
    assert checked == [True]


async def test_a_large_file_goes_in_parts(meddler: Meddler, tmp_path: Path) -> None:
    body = os.urandom(1024) * (3 * PART // 1024) + b"end"
    async with node(tmp_path, meddler.url, "one") as one, node(tmp_path, meddler.url, "other") as other:
        digest = await put(one, tmp_path, body)
        parts = [path for method, path in meddler.requests if method == "PUT" and "partNumber" in path]
        assert len(parts) == 4
        assert await recalled(other, digest) == body
        assert await other.check(digest, len(body))


async def test_an_upload_that_fails_leaves_nothing(meddler: Meddler, tmp_path: Path) -> None:
    async with node(tmp_path, meddler.url) as blobs:
        meddler.methods, meddler.status = {"POST"}, 500  # a part can be sent, and nothing begun or ended
        file = part(tmp_path, os.urandom(2 * PART))
        with pytest.raises(StoreError):
            await blobs.put(DIGEST, file)
        meddler.reset()
        assert await blobs.stamps_of([DIGEST]) == {}
        assert file.exists()


# The bound


async def test_a_young_object_is_not_sent_again(meddler: Meddler, tmp_path: Path) -> None:
    async with node(tmp_path, meddler.url) as blobs:
        await put(blobs, tmp_path)
        await put(blobs, tmp_path)
        assert meddler.count("PUT") == 1


async def test_an_object_of_another_size_is_sent_again(meddler: Meddler, tmp_path: Path) -> None:
    async with node(tmp_path, meddler.url, "one") as one, node(tmp_path, meddler.url, "other") as other:
        await one._objects.put(f"{DIGEST[:2]}/{DIGEST}", part(tmp_path, b"cut"), 3)
        await put(one, tmp_path)
        assert await recalled(other) == BODY


async def test_what_is_put_again_is_not_removed_by_whoever_saw_it_before(
    server: objects.ObjectServer, tmp_path: Path
) -> None:
    grace = 4.0
    async with (
        node(tmp_path, server.url, "one", grace=grace) as one,
        node(tmp_path, server.url, "other", grace=grace) as other,
    ):
        await put(one, tmp_path)
        assert await one.stamps() == {}
        await anyio.sleep(grace + 1.1)
        stamps = await one.stamps()
        assert set(stamps) == {DIGEST}
        await put(other, tmp_path)  # another record names it
        assert await one.remove(list(stamps.items())) == 0
        assert await one.stamps() == {}
        assert await recalled(other) == BODY


async def test_what_nobody_puts_again_is_removed(server: objects.ObjectServer, tmp_path: Path) -> None:
    async with node(tmp_path, server.url, grace=1.0) as blobs:
        await put(blobs, tmp_path)
        await anyio.sleep(2.1)
        assert await blobs.remove(list((await blobs.stamps()).items())) == len(BODY)
        assert blobs.condition(DIGEST, len(BODY)) is Condition.REMOTE
        assert not await blobs.check(DIGEST, len(BODY))


async def test_an_object_in_a_folder_is_old_by_its_time(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    blobs = ObjectBlobs((tmp_path / "shared").as_uri(), LocalCache(tmp_path / "cache", CACHE))
    await put(blobs, tmp_path)
    file = tmp_path / "shared" / DIGEST[:2] / DIGEST
    for seconds, listed in ((GRACE - 60, set()), (GRACE + 60, {DIGEST})):
        os.utime(file, (time.time() - seconds,) * 2)
        assert set(await blobs.stamps()) == listed
        assert set(await blobs.stamps_of([DIGEST])) == listed
    stamps = await blobs.stamps()
    await put(blobs, tmp_path)
    assert await blobs.stamps() == {}
    assert await blobs.remove(list(stamps.items())) == 0
    assert file.read_bytes() == BODY
    blobs.close()


async def test_other_objects_are_left_alone(server: objects.ObjectServer, tmp_path: Path) -> None:
    async with node(tmp_path, server.url, grace=0.0) as blobs:
        await blobs._objects.put("notes.txt", part(tmp_path, b"ours"), 4)
        assert await blobs.stamps() == {}


# An object store that fails


async def test_a_lost_object_is_damage(server: objects.ObjectServer, tmp_path: Path) -> None:
    async with node(tmp_path, server.url, "one") as one, node(tmp_path, server.url, "other") as other:
        await put(one, tmp_path)
        await one._objects.delete(f"{DIGEST[:2]}/{DIGEST}")
        assert other.condition(DIGEST, len(BODY)) is Condition.REMOTE  # as far as is known
        with pytest.raises(Damaged):
            await recalled(other)
        with pytest.raises(Damaged):
            await read(other)
        assert not await other.check(DIGEST, len(BODY))
        assert other.condition(DIGEST, len(BODY)) is Condition.BROKEN
        assert await read(one) == BODY  # who has it cached serves it
        await put(other, tmp_path)
        assert other.condition(DIGEST, len(BODY)) is Condition.SOUND
        assert await recalled(one) == BODY


@pytest.mark.parametrize("seconds", [0.0, 60.0])
async def test_wrong_bytes_are_damage_and_are_sent_again(
    seconds: float, meddler: Meddler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it takes to get the right ones."""
    monkeypatch.setattr(object_blobs, "BROKEN_SECONDS", seconds)
    async with node(tmp_path, meddler.url, "one") as one, node(tmp_path, meddler.url, "other") as other:
        await one._objects.put(f"{DIGEST[:2]}/{DIGEST}", part(tmp_path, BODY[::-1]), len(BODY))
        assert not await other.check(DIGEST, len(BODY))
        assert not other.path(DIGEST).exists()
        await put(other, tmp_path)  # though the object is young, and has the right size
        assert await recalled(one) == BODY


async def test_bytes_that_change_on_the_way_do_not_come_into_the_cache(meddler: Meddler, tmp_path: Path) -> None:
    async with node(tmp_path, meddler.url, "one") as one, node(tmp_path, meddler.url, "other") as other:
        await put(one, tmp_path)
        meddler.methods, meddler.turned = {"GET"}, 1000
        assert not await other.check(DIGEST, len(BODY))
        assert not other.path(DIGEST).exists()
        assert not list((tmp_path / "other" / "new").iterdir())


async def test_a_short_answer_is_an_error(meddler: Meddler, tmp_path: Path) -> None:
    async with node(tmp_path, meddler.url, "one") as one, node(tmp_path, meddler.url, "other") as other:
        await put(one, tmp_path)
        meddler.methods, meddler.cut = {"GET"}, 0
        with pytest.raises(StoreError) as caught:
            await recalled(other)
        assert caught.value.headers["retry-after"]
        with pytest.raises(StoreError):
            await other.check(DIGEST, len(BODY))
        meddler.reset()
        assert await other.check(DIGEST, len(BODY))


@pytest.mark.parametrize(
    ("status", "body", "text"),
    [
        (500, b"", "it answered 500"),
        (503, b"<Error><Code>SlowDown</Code></Error>", "it answered 503 SlowDown"),
        (403, b"<Error><Code>AccessDenied</Code></Error>", "credentials (it answered 403 AccessDenied)"),
        (401, b"", "credentials (it answered 401)"),
        (404, b"<Error><Code>NoSuchBucket</Code></Error>", "no such bucket"),
    ],
)
async def test_an_answer_that_is_none(status: int, body: bytes, text: str, meddler: Meddler, tmp_path: Path) -> None:
    async with node(tmp_path, meddler.url, "one") as one, node(tmp_path, meddler.url, "other") as other:
        await put(one, tmp_path)
        meddler.status, meddler.body = status, body
        for work in (recalled(other), read(other), other.stamps()):
            with pytest.raises(StoreError) as caught:
                await work
            assert not isinstance(caught.value, Damaged)
            assert text in caught.value.text
            assert caught.value.headers["retry-after"]
        meddler.methods = {"PUT"}
        file = part(tmp_path, b"other")
        with pytest.raises(StoreError, match="object store"):
            await other.put(sha256(b"other").hexdigest(), file)
        assert file.exists()
        assert await read(one) == BODY  # from its cache
        assert len(meddler.requests) < 40


async def test_a_full_object_store_is_told_from_a_broken_one(meddler: Meddler, tmp_path: Path) -> None:
    async with node(tmp_path, meddler.url) as blobs:
        for status, body in ((507, b""), (403, b"<Error><Code>QuotaExceeded</Code></Error>")):
            meddler.methods, meddler.status, meddler.body = {"PUT"}, status, body
            with pytest.raises(StoreFull):
                await put(blobs, tmp_path)


async def test_a_stopped_server(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{objects.free_ports(1)[0]}"
    async with node(tmp_path, url) as blobs:
        file = part(tmp_path, BODY)
        for work in (recalled(blobs), blobs.check(DIGEST, len(BODY)), blobs.put(DIGEST, file), blobs.stamps()):
            with pytest.raises(StoreError, match="no connection") as caught:
                await work
            assert caught.value.headers["retry-after"]
        assert file.exists()
        assert blobs.condition(DIGEST, len(BODY)) is Condition.REMOTE


async def test_a_server_that_does_not_answer(meddler: Meddler, tmp_path: Path) -> None:
    meddler.hangs = True
    async with node(tmp_path, meddler.url, patience=IMPATIENCE) as blobs:
        with anyio.fail_after(30), pytest.raises(StoreError, match="in time"):
            await recalled(blobs)


async def test_a_slow_server_is_waited_for(meddler: Meddler, tmp_path: Path) -> None:
    """As long as something comes."""
    async with node(tmp_path, meddler.url) as blobs:
        await put(blobs, tmp_path)
    async with node(tmp_path, meddler.url, patience=IMPATIENCE) as blobs:
        meddler.methods, meddler.pause = {"GET"}, IMPATIENCE / 3
        assert await recalled(blobs) == BODY


async def test_refused_credentials_are_not_named(server: objects.ObjectServer, tmp_path: Path) -> None:
    secret = "another-secret"
    with objects.credentials(server.url, secret=secret):
        blobs = ObjectBlobs(objects.bucket_of(tmp_path), LocalCache(tmp_path / "cache", CACHE))
    for work in (recalled(blobs), blobs.put(DIGEST, part(tmp_path, BODY))):
        with pytest.raises(StoreError, match="refuses the mirror's credentials") as caught:
            await work
        assert secret not in repr(caught.value)
        assert objects.KEY not in repr(caught.value)
        assert caught.value.__cause__ is None
    blobs.close()


@pytest.mark.parametrize(
    "address", ["memory:///", "https://user:word@example.com/bucket", "bucket", "s3://", "file:///no/such/folder"]
)
def test_an_address_that_is_none(address: str, tmp_path: Path) -> None:
    cache = LocalCache(tmp_path / "cache", CACHE)
    with pytest.raises(StoreError) as caught:
        ObjectBlobs(address, cache)
    assert "word" not in caught.value.text
    cache.close()


# A cache that fails


async def test_a_cache_that_cannot_be_used_fails_nothing(server: objects.ObjectServer, tmp_path: Path) -> None:
    (tmp_path / "node").write_bytes(b"a file where the folder should be")
    async with node(tmp_path, server.url) as blobs:
        file = part(tmp_path, BODY)
        await blobs.put(DIGEST, file)
        assert not file.exists()
        assert blobs.condition(DIGEST, len(BODY)) is Condition.REMOTE
        assert await blobs.check(DIGEST, len(BODY))
        assert await read(blobs) == await recalled(blobs) == BODY


async def test_a_body_that_is_larger_than_the_cache(server: objects.ObjectServer, tmp_path: Path) -> None:
    async with node(tmp_path, server.url, limit=100_000) as blobs:
        await put(blobs, tmp_path)
        assert blobs.condition(DIGEST, len(BODY)) is Condition.REMOTE
        assert await blobs.check(DIGEST, len(BODY))
        assert await read(blobs) == BODY


async def test_a_damaged_copy_is_not_served(server: objects.ObjectServer, tmp_path: Path) -> None:
    async with node(tmp_path, server.url) as blobs:
        await put(blobs, tmp_path)
        blobs.path(DIGEST).write_bytes(BODY[::-1])
        assert await read(blobs) == BODY
        assert blobs.condition(DIGEST, len(BODY)) is Condition.REMOTE
        assert await blobs.check(DIGEST, len(BODY))
        assert blobs.path(DIGEST).read_bytes() == BODY


FULL = """
import resource, signal, sys
from pathlib import Path
import anyio
from httpcache.store.base import Condition
from httpcache.store.local_cache import LocalCache
from httpcache.store.object_blobs import ObjectBlobs

async def work(folder, address, digest, size):
    blobs = ObjectBlobs(address, LocalCache(folder / "full", 10**9))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
    assert await blobs.check(digest, size)
    assert blobs.condition(digest, size) is Condition.REMOTE
    assert sum([len(chunk) async for chunk in blobs.read(digest, 0, size)]) == size
    assert not [path for path in (folder / "full").rglob("?" * 32)]
    blobs.close()

anyio.run(work, Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]))
"""


async def test_a_disk_that_takes_no_more_fails_nothing(server: objects.ObjectServer, tmp_path: Path) -> None:
    async with node(tmp_path, server.url) as blobs:
        await put(blobs, tmp_path)
    await process(server, FULL, tmp_path, DIGEST, len(BODY))


# Processes

WORKERS = """
import os, sys
from hashlib import sha256
from pathlib import Path
import anyio
from httpcache.store.base import Condition
from httpcache.store.local_cache import LocalCache
from httpcache.store.object_blobs import ObjectBlobs

folder, address = Path(sys.argv[1]), sys.argv[2]

async def work(number):
    blobs = ObjectBlobs(address, LocalCache(folder / "cache", 3_000_000))
    for turn in range(30):
        body = bytes([turn % 10]) * 400_000
        digest = sha256(body).hexdigest()
        file = folder / f"{number}-{turn}"
        if turn < 10:
            file.write_bytes(body)
            await blobs.put(digest, file)
        assert await blobs.check(digest, len(body)), turn
        if blobs.condition(digest, len(body)) is Condition.SOUND:
            assert blobs.path(digest).read_bytes() == body
        assert b"".join([chunk async for chunk in blobs.read(digest, 0, len(body))]) == body
    blobs.close()

children = []
for number in range(4):
    child = os.fork()
    if not child:
        anyio.run(work, number)
        os._exit(0)
    children.append(child)
sys.exit(sum(os.waitpid(child, 0)[1] != 0 for child in children))
"""


async def test_forked_workers_share_a_cache(server: objects.ObjectServer, tmp_path: Path) -> None:
    await process(server, WORKERS, tmp_path)
    sizes = [path.stat().st_size for path in (tmp_path / "cache" / "kept").glob("?" * 32)]
    assert 0 < sum(sizes) <= 3_000_000


async def test_obstore_is_what_the_tests_think(server: objects.ObjectServer, tmp_path: Path) -> None:
    """A real client of its own finds the object where the documents say."""
    async with node(tmp_path, server.url) as blobs:
        await put(blobs, tmp_path)
        with objects.credentials(server.url):
            store = obstore.store.from_url("s3://bucket", client_options={"allow_http": True})
        prefix = objects.bucket_of(tmp_path).removeprefix("s3://bucket/")
        found = await obstore.get_async(store, f"{prefix}/{DIGEST[:2]}/{DIGEST}")
        assert bytes(await found.bytes_async()) == BODY

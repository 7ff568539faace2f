"""The promises of a download at moments that a client over a socket cannot choose: in one process, with events."""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import anyio
import pytest

from httpcache.errors import BadUpstream, MirrorError, StoreFull
from httpcache.freezing import mirror as mirror_module
from httpcache.freezing.download import Digest
from httpcache.freezing.flight import FlightReader, PassedThrough
from httpcache.freezing.mirror import Expected, Want
from httpcache.store.local import LocalStore
from httpcache.store.record import Entry, Record
from httpcache.target import Target
from tests.support.inprocess import running
from tests.support.inside import bodies, checked_records
from tests.support.upstream import Response, Upstream

BODY = bytes(range(256)) * 100


async def read(live: object) -> tuple[bytes, MirrorError | None]:
    """What a reader gets of a download, and the error it ends with."""
    assert isinstance(live, FlightReader)
    received = b""
    try:
        async for chunk in live.read():
            received += chunk
    except MirrorError as error:
        return received, error
    finally:
        live.close()
    return received, None


def target(upstream: Upstream, name: str = "/file") -> Target:
    return Target("pin", upstream.url + name)


class Full(LocalStore):
    """A store without room."""

    async def freeze(self, key: str, record: Record, file: Path) -> Entry:
        raise StoreFull("no room")


class Held(LocalStore):
    """A store that writes a record when it is let."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.asked, self.let = anyio.Event(), anyio.Event()

    async def freeze(self, key: str, record: Record, file: Path) -> Entry:
        self.asked.set()
        await self.let.wait()
        return await super().freeze(key, record, file)


@pytest.mark.parametrize("headers", [{}, {"Content-Length": str(len(BODY))}], ids=["chunked", "length"])
def test_the_last_byte_waits_for_the_record(headers: dict[str, str], upstream: Upstream, tmp_path: Path) -> None:
    upstream.pages["/file"] = Response([BODY], headers=headers)

    async def work() -> None:
        store = Held(tmp_path / "data")
        async with running(tmp_path, store) as mirror:
            live = await mirror.answer(target(upstream), Want())
            assert isinstance(live, FlightReader)
            received = b""
            async for chunk in live.read():
                received += chunk
                if len(received) == len(BODY) - 1:
                    await store.asked.wait()
                    assert await mirror.lookup(target(upstream), Want()) is None
                    store.let.set()
                elif len(received) == len(BODY):
                    assert await mirror.lookup(target(upstream), Want()) is not None
            live.close()
            assert received == BODY

    anyio.run(work)


def test_what_cannot_be_kept_is_not_finished(upstream: Upstream, tmp_path: Path) -> None:
    upstream.pages["/file"] = BODY

    async def work() -> None:
        async with running(tmp_path, Full(tmp_path / "data")) as mirror:
            for _ in range(2):
                received, error = await read(await mirror.answer(target(upstream), Want()))
                assert len(received) < len(BODY)
                assert isinstance(error, StoreFull)
                assert error.status == 507

    anyio.run(work)
    assert checked_records(tmp_path / "data") == []
    assert list((tmp_path / "data/spool").iterdir()) == []


def test_each_reader_has_an_error_of_its_own(upstream: Upstream, tmp_path: Path) -> None:
    """One error raised in two tasks would gather the tracebacks and contexts of both."""
    upstream.pages["/file"] = BODY
    errors: list[MirrorError | None] = []

    async def work() -> None:
        async with running(tmp_path, Full(tmp_path / "data")) as mirror, anyio.create_task_group() as tasks:

            async def ask() -> None:
                _, error = await read(await mirror.answer(target(upstream), Want()))
                errors.append(error)

            for _ in range(3):
                tasks.start_soon(ask)

    anyio.run(work)
    assert [error and error.text for error in errors] == ["no room"] * 3
    assert all(error and error.logged for error in errors), "the log has it once"
    assert len({id(error) for error in errors}) == 3


class Late(LocalStore):
    """A store that has written a record before it says so."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.written, self.let = anyio.Event(), anyio.Event()

    async def freeze(self, key: str, record: Record, file: Path) -> Entry:
        winner = await super().freeze(key, record, file)
        self.written.set()
        await self.let.wait()
        return winner


def test_what_was_removed_is_not_given_to_who_asks_after_that(upstream: Upstream, tmp_path: Path) -> None:
    """The download that brought it has not ended yet, and others can still board it."""
    upstream.pages["/file"] = b"removed"
    found: list[Record | PassedThrough] = []

    async def work() -> None:
        store = Late(tmp_path / "data")
        async with running(tmp_path, store) as mirror:

            async def ask() -> None:
                found.append(await mirror.whole(target(upstream), Want()))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask)
                await store.written.wait()
                for key in [key async for key in store.keys("r/")]:
                    assert await store.remove(key)
                upstream.pages["/file"] = b"another"
                tasks.start_soon(ask)
                await anyio.sleep(0.1)
                store.let.set()
            for each in found:
                assert isinstance(each, Record)
                assert await mirror.read(each) == b"another"

    anyio.run(work)
    assert len(found) == 2


@pytest.mark.parametrize(
    "expected",
    [
        Expected((Digest("sha256", "0" * 64),)),
        Expected(size=len(BODY) - 1),
        Expected((Digest("sha256", hashlib.sha256(BODY).hexdigest()),), 1),
    ],
)
@pytest.mark.parametrize("body", [BODY, [BODY]], ids=["length", "chunked"])
def test_bytes_that_are_not_those_announced(
    body: object, expected: Expected, upstream: Upstream, tmp_path: Path
) -> None:
    upstream.pages["/file"] = Response(body)  # type: ignore[arg-type]

    async def expect() -> Expected:
        return expected

    async def work() -> None:
        async with running(tmp_path) as mirror:
            received, error = await read(await mirror.answer(target(upstream), Want(expect=expect)))
            assert len(received) < len(BODY)
            assert isinstance(error, BadUpstream)

    anyio.run(work)
    assert checked_records(tmp_path / "data") == []
    assert bodies(tmp_path / "data") == set()


def test_the_first_of_two_machines_wins(upstream: Upstream, tmp_path: Path) -> None:
    """One store, two spools: both download, and the upstream tells each of them something else."""
    bodies = [b"first " * 1000, b"second " * 1000]
    release = threading.Event()
    waiting = [Response([bodies[0][:-1], release, bodies[0][-1:]]), Response(bodies[1])]
    upstream.pages["/file"] = lambda _: waiting[upstream.count("/file") - 1]
    (tmp_path / "other").mkdir()

    async def work() -> None:
        async with (
            running(tmp_path) as slow,
            running(tmp_path, spool=tmp_path / "other") as fast,
        ):
            live = await slow.answer(target(upstream), Want())
            assert await read(await fast.answer(target(upstream), Want())) == (bodies[1], None)
            release.set()
            received, error = await read(live)
            assert len(received) < len(bodies[0])
            assert isinstance(error, BadUpstream)
            for mirror in (slow, fast):
                record = await mirror.answer(target(upstream), Want())
                assert isinstance(record, Record)
                assert record.digest == hashlib.sha256(bodies[1]).hexdigest()

    anyio.run(work)
    assert len(checked_records(tmp_path / "data")) == 1


def test_two_machines_with_the_same_bytes_both_finish(upstream: Upstream, tmp_path: Path) -> None:
    release = threading.Event()
    waiting = [Response([BODY[:-1], release, BODY[-1:]]), Response(BODY)]
    upstream.pages["/file"] = lambda _: waiting[upstream.count("/file") - 1]
    (tmp_path / "other").mkdir()

    async def work() -> None:
        async with (
            running(tmp_path) as slow,
            running(tmp_path, spool=tmp_path / "other") as fast,
        ):
            live = await slow.answer(target(upstream), Want())
            assert await read(await fast.answer(target(upstream), Want())) == (BODY, None)
            release.set()
            assert await read(live) == (BODY, None)

    anyio.run(work)


async def _nothing(live: FlightReader) -> None:
    live.close()


async def _all(live: FlightReader) -> None:
    await read(live)


@pytest.mark.parametrize("reader", [_nothing, _all], ids=["without a client", "with a client"])
def test_the_end_waits_for_downloads_and_no_longer(
    reader: Callable[[FlightReader], Coroutine[Any, Any, None]],
    upstream: Upstream,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It has all the time in the world, and uses what the download takes."""
    monkeypatch.setattr(mirror_module, "SHUTDOWN_SECONDS", math.inf)
    release = threading.Event()
    upstream.pages["/file"] = Response([BODY, release, BODY])

    async def work() -> None:
        async with anyio.create_task_group() as group, running(tmp_path) as mirror:
            live = await mirror.answer(target(upstream), Want())
            assert isinstance(live, FlightReader)
            group.start_soon(reader, live)
            release.set()

    anyio.run(work)
    assert [record.size for record in checked_records(tmp_path / "data")] == [2 * len(BODY)]


def test_the_end_does_not_wait_for_ever(upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not done by then leaves no trace."""
    monkeypatch.setattr(mirror_module, "SHUTDOWN_SECONDS", 0)
    release = threading.Event()
    upstream.pages["/file"] = Response([BODY, release, BODY])

    async def work() -> tuple[bytes, MirrorError | None]:
        async with running(tmp_path) as mirror:
            live = await mirror.answer(target(upstream), Want())
        return await read(live)

    _, error = anyio.run(work)
    release.set()
    assert error is not None
    assert checked_records(tmp_path / "data") == []
    assert list((tmp_path / "data/spool").iterdir()) == []


def test_an_absence_is_remembered(upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror_module, "NEGATIVE_SECONDS", math.inf)

    async def work() -> None:
        async with running(tmp_path) as mirror:
            for _ in range(3):
                answer = await mirror.answer(target(upstream), Want())
                assert isinstance(answer, PassedThrough)
                assert answer.status == 404

    anyio.run(work)
    assert upstream.count("/file") == 1


def test_an_absence_is_forgotten(upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror_module, "NEGATIVE_SECONDS", 0)

    async def work() -> None:
        async with running(tmp_path) as mirror:
            while upstream.count("/file") < 2:
                answer = await mirror.answer(target(upstream), Want())
                assert isinstance(answer, PassedThrough)
                assert answer.status == 404

    anyio.run(work)
    assert checked_records(tmp_path / "data") == []


def test_how_many_absences_are_remembered(upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that asks for nonsense does not fill the memory."""
    monkeypatch.setattr(mirror_module, "NEGATIVE_ENTRIES", 2)

    async def work() -> None:
        async with running(tmp_path) as mirror:
            for name in ("/1", "/2", "/3", "/3", "/2", "/1"):
                await mirror.answer(target(upstream, name), Want())

    anyio.run(work)
    assert [upstream.count(name) for name in ("/1", "/2", "/3")] == [2, 1, 1]


def test_an_absence_that_is_to_be_kept(upstream: Upstream, tmp_path: Path) -> None:
    """A registry's "no such project" stays so for its pin, and for those who asked like this."""

    async def work() -> None:
        want = Want(freeze_absence=True)
        for _ in range(2):
            async with running(tmp_path) as mirror:
                answer = await mirror.answer(target(upstream), want)
                assert isinstance(answer, PassedThrough)
                assert (answer.status, answer.hit) == (404, upstream.pages != {})
            upstream.pages["/file"] = BODY
        async with running(tmp_path) as mirror:
            assert await read(await mirror.answer(target(upstream), Want())) == (BODY, None)

    anyio.run(work)
    assert upstream.count("/file") == 2


@pytest.mark.parametrize("body", [b"answer", b""])
def test_what_is_not_kept_can_be_asked_for_again_at_once(body: bytes, upstream: Upstream, tmp_path: Path) -> None:
    """Also while the download before is being put away."""
    upstream.pages["/file"] = Response(body, 203)

    async def work() -> None:
        async with running(tmp_path) as mirror, anyio.create_task_group() as group:

            async def ask() -> None:
                for _ in range(20):
                    assert await read(await mirror.answer(target(upstream), Want())) == (body, None)

            for _ in range(4):
                group.start_soon(ask)

    anyio.run(work)
    assert upstream.count("/file") == 80


@pytest.mark.parametrize("status", [401, 403, 429, 500])
def test_an_answer_that_is_passed_on_is_not_remembered(status: int, upstream: Upstream, tmp_path: Path) -> None:
    """Whoever asks after it has come asks the upstream, also while the download before is being put away."""
    upstream.pages["/file"] = Response(b"no", status)

    async def work() -> None:
        async with running(tmp_path) as mirror:
            for number in range(1, 31):
                answer = await mirror.answer(target(upstream), Want())
                assert isinstance(answer, PassedThrough)
                assert answer.status == status
                assert upstream.count("/file") == number

    anyio.run(work)

"""The disk under a running server: fsync that hangs, files replaced, cut and removed while they are read."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.support import http
from tests.support.faults import HANG, Faults, Kind, compiled
from tests.support.inside import checked_records, until
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.registries import JSON, PyPI
from tests.support.upstream import Response, Upstream

DATE: Final = "2024-01-02"
PIN: Final = f"kept-{DATE}"
LARGE: Final = os.urandom(1 << 20) * 40
HEADERS: Final = {"Content-Type": "application/octet-stream"}


def get(address: str) -> httpx.Response | None:
    """An answer, None where the connection breaks."""
    try:
        return http.get(address, headers={"Accept": JSON})
    except httpx.TransportError:
        return None


@pytest.fixture
def hanging(tmp_path: Path, pypi: PyPI) -> Iterator[tuple[Mirror, Faults]]:
    """A mirror, and the switch that lets every fsync hang."""
    faults = Faults(compiled(tmp_path), tmp_path / "mirror" / "data", tmp_path / "control")
    running = Mirror(tmp_path / "mirror", pypi.url, environment=faults.environment).start()
    try:
        yield running, faults
        running.stop()
    finally:
        faults.disarm()
        running.kill()


def test_hits_do_not_wait_for_fsync(hanging: tuple[Mirror, Faults], pypi: PyPI, upstream: Upstream) -> None:
    """Nobody has the last byte of a first fetch, and everything that is there is served meanwhile."""
    running, faults = hanging
    dist = wheel("demo", "1.0")
    pypi.upload(dist, "2023-01-01T00:00:00Z")
    upstream.pages |= {f"/{number}": Response(b"body %d" % number, 200, HEADERS) for number in range(5)}
    hits = [
        running.pin(PIN, f"{upstream.url}/0"),
        f"{running.at(DATE)}demo/",
        f"{running.url}/files/demo/{dist.sha256}/{dist.filename}",
    ]
    before = [http.get(hit, headers={"Accept": JSON}).content for hit in hits]
    with ThreadPoolExecutor(4) as pool:
        faults.arm(1, Kind(HANG))
        try:
            first = [pool.submit(get, running.pin(PIN, f"{upstream.url}/{number}")) for number in range(1, 5)]
            until(lambda: faults.fired > 0, "an fsync")
            for _ in range(20):
                assert [http.get(hit, headers={"Accept": JSON}).content for hit in hits] == before
            assert not any(each.done() for each in first)
        finally:
            faults.disarm()
        answers = [each.result() for each in first]
    assert [answer and answer.content for answer in answers] == [b"body %d" % number for number in range(1, 5)]


# Bytes that change while they are sent


def cut(path: Path) -> None:
    """Half of it is gone."""
    os.truncate(path, len(LARGE) // 2)


def overwrite(path: Path) -> None:
    """Other bytes in the same file, as a program that writes in place has them."""
    with path.open("r+b") as file:
        file.seek(len(LARGE) // 2)
        file.write(bytes(len(LARGE) // 2))


def replace(path: Path) -> None:
    """Another file of the same size at the same name."""
    other = path.with_name("other")
    other.write_bytes(bytes(len(LARGE)))
    other.replace(path)


@pytest.mark.parametrize("change", [cut, overwrite, replace, Path.unlink])
@pytest.mark.parametrize("asked", [{}, {"Range": "bytes=1-"}], ids=["whole", "range"])
def test_a_blob_that_changes_while_it_is_sent(
    asked: dict[str, str], change: Callable[[Path], None], upstream: Upstream, mirror: Callable[..., Mirror]
) -> None:
    """Its reader has all the right bytes or sees a break; the next has them from the upstream.

    But for bytes that are written in place, which no program of ours does: they are seen by the next look at the file.
    """
    upstream.pages["/file"] = Response(LARGE, 200, HEADERS)
    running = mirror()
    address = running.pin(PIN, f"{upstream.url}/file")
    assert http.get(address).content == LARGE
    digest = sha256(LARGE).hexdigest()
    wanted = LARGE[1:] if asked else LARGE
    received = bytearray()
    with http.stream("GET", address, headers=asked) as answer:
        assert answer.status_code == (206 if asked else 200)
        pieces = answer.iter_raw(65536)
        received += next(pieces)
        change(running.data / "blobs" / digest[:2] / digest)
        try:
            for piece in pieces:
                received += piece
        except httpx.TransportError:
            assert len(received) < len(wanted)
        else:
            assert received == wanted or change is overwrite, "wrong bytes, and they look whole"
    assert http.get(address).content == LARGE


# The index


def restore(index: Path, backup: Path) -> None:
    """The files of a backup in the place of those that are open."""
    for path in index.iterdir():
        path.unlink()
    shutil.copytree(backup, index, dirs_exist_ok=True)


def move(index: Path, backup: Path) -> None:
    """The whole folder renamed, and the backup in its place."""
    index.rename(index.with_name("old"))
    shutil.copytree(backup, index)


def remove(index: Path, backup: Path) -> None:
    """The folder is gone."""
    shutil.rmtree(index)


def empty(index: Path, backup: Path) -> None:
    """The files are gone: an index that SQLite makes anew would begin all pins anew."""
    for path in index.iterdir():
        path.unlink()


@pytest.mark.parametrize("change", [restore, move, remove, empty])
def test_the_index_is_replaced_under_a_server(
    change: Callable[[Path, Path], None],
    tmp_path: Path,
    upstream: Upstream,
    pypi: PyPI,
    mirror: Callable[..., Mirror],
) -> None:
    """Nothing is frozen in files that nobody will read again: the error says what to do, and a restart helps."""
    pypi.upload(wheel("demo", "1.0"), "2023-01-01T00:00:00Z")
    upstream.pages |= {f"/{number}": Response(b"body %d" % number, 200, HEADERS) for number in range(8)}
    running = mirror(pypi)
    assert http.get(running.pin(PIN, f"{upstream.url}/0")).content == b"body 0"
    running.stop()
    backup = shutil.copytree(running.data / "index", tmp_path / "backup")
    running.start()
    assert http.get(running.pin(PIN, f"{upstream.url}/1")).content == b"body 1"
    change(running.data / "index", backup)
    whole: dict[str, bytes] = {}
    for number in range(8):
        address = running.pin(PIN, f"{upstream.url}/{number}")
        found = get(address)
        if found is not None and found.status_code == 200:
            assert found.content == b"body %d" % number
            whole[address] = found.content
        elif found is not None:
            assert found.status_code == 503
            assert "restart the mirror" in found.text
    page = get(f"{running.at(DATE)}demo/")
    assert page is not None
    assert page.status_code == 503, page.text
    assert "restart the mirror" in page.text
    assert "Traceback" not in running.log()
    running.stop()
    if change in (remove, empty):
        with pytest.raises(AssertionError, match="index"):
            running.start()
        shutil.copytree(backup, running.data / "index", dirs_exist_ok=True)
    running.start()
    upstream.otherwise = lambda request: Response(b"changed", 200, HEADERS)
    upstream.pages.clear()
    whole.pop(running.pin(PIN, f"{upstream.url}/1"), None)  # frozen before, and not in the backup
    assert {address: http.get(address).content for address in whole} == whole
    assert http.get(running.pin(PIN, f"{upstream.url}/7")).content == b"changed"
    assert http.get(f"{running.at(DATE)}demo/", headers={"Accept": JSON}).status_code == 200
    assert checked_records(running.data)

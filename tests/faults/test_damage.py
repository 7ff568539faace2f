"""Damage on disk: noticed, reported with what to do, never served; the very same bytes are fetched again, no others."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.support import http
from tests.support.command import run, told
from tests.support.inside import bodies, checked_records, damage_body
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.upstream import Page, Response, Upstream

SMALL = bytes(range(256)) * 10  # the index keeps it
MEDIUM = bytes(range(256)) * 100
LARGE = os.urandom(1 << 20) * 65  # more than the mirror reads before it begins to answer

Damage = Callable[[Path], None]


def flip(path: Path) -> None:
    """One bit in the middle; the times of the file are as before."""
    stat = path.stat()
    with path.open("r+b") as file:
        file.seek(stat.st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def shorten(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def lengthen(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def empty(path: Path) -> None:
    os.truncate(path, 0)


def remove(path: Path) -> None:
    path.unlink()


def write(body: bytes, path: Path) -> None:
    path.write_bytes(body)


def swap(path: Path) -> None:
    """Other bytes of the same length, as a restored copy of something else."""
    new = path.with_name("new")
    new.write_bytes(bytes(path.stat().st_size))
    new.replace(path)


DAMAGES = [flip, shorten, lengthen, empty, remove, swap]


@pytest.fixture(params=[SMALL, MEDIUM], ids=["index", "file"])
def damages(request: pytest.FixtureRequest) -> dict[Damage, bytes]:
    """A body for each damage."""
    return {damage: damage.__name__.encode() + request.param for damage in DAMAGES}


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
def test_the_same_bytes_are_fetched_again(
    restarted: bool, damages: dict[Damage, bytes], upstream: Upstream, mirror: Callable[..., Mirror]
) -> None:
    upstream.pages |= {f"/{damage.__name__}": body for damage, body in damages.items()}
    running: Mirror = mirror()
    address = running.pin("a", upstream.url)
    for damage, body in damages.items():
        assert http.get(f"{address}/{damage.__name__}").content == body
        damage_body(running.data, body, damage)
    if restarted:
        running.restart()
    for damage, body in damages.items():
        for wanted in ({}, {"Range": "bytes=5-9"}):
            answer = http.get(f"{address}/{damage.__name__}", headers=wanted)
            assert answer.content == (body[5:10] if wanted else body)
    assert [upstream.count(f"/{damage.__name__}") for damage in damages] == [2] * len(DAMAGES)
    assert running.log().count("damaged or missing") == len(DAMAGES)
    assert len(checked_records(running.data)) == len(DAMAGES)


@pytest.mark.parametrize("now", ["other bytes", "gone", "down", "refusing"])
def test_other_bytes_are_not(
    now: str, damages: dict[Damage, bytes], upstream: Upstream, mirror: Callable[..., Mirror]
) -> None:
    """The client is told which file to restore, and the restored file is served."""
    upstream.pages |= {f"/{damage.__name__}": body for damage, body in damages.items()}
    running: Mirror = mirror()
    address = running.pin("a", upstream.url)
    for damage, body in damages.items():
        http.get(f"{address}/{damage.__name__}")
        damage_body(running.data, body, damage)
        then: dict[str, Page] = {
            "other bytes": body[::-1],
            "gone": Response(status=404),
            "refusing": Response(status=403),
        }
        upstream.pages[f"/{damage.__name__}"] = then.get(now, b"")
    if now == "down":
        upstream.stop()
    for damage, body in damages.items():
        assert http.head(f"{address}/{damage.__name__}").status_code == 503
        answer = http.get(f"{address}/{damage.__name__}")
        assert answer.status_code == 503
        assert answer.headers["cache-control"] == "no-store"
        assert hashlib.sha256(body).hexdigest() in answer.text
        assert "restore" in answer.text
        assert "httpcache forget" in answer.text
        assert str(running.data) not in answer.text
        damage_body(running.data, body, partial(write, body))
        assert http.get(f"{address}/{damage.__name__}").content == body


@pytest.mark.parametrize("body", [SMALL, MEDIUM], ids=["index", "file"])
def test_a_private_copy_is_fetched_again_for_its_readers_alone(
    body: bytes, upstreams: Callable[..., Upstream], mirror: Callable[..., Mirror]
) -> None:
    upstream: Upstream = upstreams(auth=("user", "password"))
    upstream.pages["/file"] = body
    running: Mirror = mirror()
    address = running.pin("a", f"{upstream.url}/file")
    http.get(address, auth=("user", "password"))
    damage_body(running.data, body, remove)
    assert http.get(address).status_code == 401
    assert hashlib.sha256(body).hexdigest() not in bodies(running.data)
    assert http.get(address, auth=("user", "password")).content == body


@pytest.mark.parametrize("damage", [flip, remove])
def test_a_large_file_never_completes(damage: Damage, upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    """It is checked while it is served; the client that came first is cut off, the next one has it whole."""
    upstream.pages["/file"] = Response(LARGE, headers={"Content-Type": "video/mp4"})  # no page, which is read first
    running: Mirror = mirror()
    address = running.pin("a", f"{upstream.url}/file")
    assert http.get(address).content == LARGE
    running.stop()
    damage_body(running.data, LARGE, damage)
    running.start()
    with http.stream("GET", address) as answer:
        received = bytearray()
        try:
            for chunk in answer.iter_raw():
                received += chunk
        except httpx.RemoteProtocolError:
            assert damage is flip  # what is missing was seen before
            assert len(received) < len(LARGE)
        else:
            assert damage is remove
            assert received == LARGE
    assert http.get(address).content == LARGE


def test_a_large_file_is_served_after_a_restart(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    upstream.pages["/file"] = LARGE
    running: Mirror = mirror()
    address = running.pin("a", f"{upstream.url}/file")
    http.get(address)
    running.restart()
    assert http.get(address, headers={"Range": "bytes=-70"}).content == LARGE[-70:]
    assert http.get(address).content == LARGE
    assert upstream.count() == 1


def test_what_a_damaged_page_announced_still_counts(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    """It was noted when the page was frozen: the file is held to it, and the page is mended when it is asked for."""
    name, body = "demo-1.0-py3-none-any.whl", wheel("demo", "1.0").data
    page = f'<a href="{name}#sha256={hashlib.sha256(body).hexdigest()}">{name}</a>'.encode()
    upstream.pages |= {
        "/simple/demo/": Response(page, headers={"Content-Type": "text/html"}),
        f"/simple/demo/{name}": body,
    }
    running: Mirror = mirror()
    index = running.pin("a", f"{upstream.url}/simple/demo/")
    asked = {"Accept": "application/vnd.pypi.simple.v1+json"}
    assert http.get(index, headers=asked).status_code == 200
    damage_body(running.data, page, flip)
    running.restart()
    upstream.pages[f"/simple/demo/{name}"] = wheel("demo", "1.0", padding=9).data
    refused = http.get(index + name)
    assert refused.status_code == 502
    assert "announced" in refused.text
    upstream.pages[f"/simple/demo/{name}"] = body
    assert http.get(index + name).content == body
    assert http.get(index, headers=asked).status_code == 200


# What an operator sees


def test_verify(damages: dict[Damage, bytes], upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    """One line for each damage, with the address and the file; exit code 1."""
    upstream.pages |= {f"/{damage.__name__}": body for damage, body in damages.items()} | {"/whole": SMALL}
    running: Mirror = mirror()
    for path in list(upstream.pages):
        http.get(running.pin("a", f"{upstream.url}{path}"))
    ran = run("verify", "--data", running.data)
    assert ran.returncode == 0
    assert f"{len(upstream.pages)} frozen entries" in ran.stdout
    assert "nothing is damaged" in ran.stdout
    for damage, body in damages.items():
        damage_body(running.data, body, damage)
    ran = run("verify", "--data", running.data)
    assert ran.returncode == 1
    lines = ran.stdout.splitlines()
    assert len(lines) == len(DAMAGES) + 1
    for damage, body in damages.items():
        line = next(line for line in lines if line.startswith(f"/a/{upstream.url}/{damage.__name__}:"))
        assert hashlib.sha256(body).hexdigest() in line
        assert "restore" in line


def damaged_index(running: Mirror, change: str) -> Path:
    index = running.data / "index" / "index.db"
    running.stop()
    sqlite3.connect(index).execute("PRAGMA wal_checkpoint(TRUNCATE)").connection.close()
    if change == "truncated":
        os.truncate(index, index.stat().st_size // 2 // 4096 * 4096)
    elif change == "empty":
        empty(index)
    elif change == "missing":
        remove(index)
    elif change == "garbage":
        index.write_bytes(os.urandom(index.stat().st_size))
    return index


@pytest.mark.parametrize("change", ["truncated", "empty", "missing", "garbage"])
def test_a_damaged_index_stops_the_start(change: str, upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    """To begin an empty one would freeze every pin anew."""
    upstream.otherwise = lambda request: Response(request.path.encode())
    running: Mirror = mirror()
    for number in range(50):
        http.get(running.pin("a", f"{upstream.url}/{number}"))
    damaged_index(running, change)
    for command in (["serve", "--port", f"{running.port}"], ["ls"], ["verify"]):
        text = told(run(*command, "--data", running.data))
        assert "restore" in text
        assert "index" in text


def test_a_flipped_bit_in_an_entry(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    """SQLite does not notice; the checksum of the entry does. Everything else is served."""
    upstream.pages |= {"/a": SMALL, "/b": SMALL[::-1]}
    running: Mirror = mirror()
    for name in "ab":
        http.get(running.pin("a", f"{upstream.url}/{name}"))
    running.stop()
    index = running.data / "index" / "index.db"
    with sqlite3.connect(index) as connection:
        rows = connection.execute("SELECT number, value FROM entries WHERE key LIKE 'r/%'").fetchall()
        row, value = next((row, value) for row, value in rows if f"{upstream.url}/a".encode() in value)
        at = value.index(b"/a")
        connection.execute(
            "UPDATE entries SET value = ? WHERE number = ?", (value[: at + 1] + b"c" + value[at + 2 :], row)
        )
    connection.close()
    running.start()
    answer = http.get(running.pin("a", f"{upstream.url}/a"))
    assert answer.status_code == 503
    assert "damaged" in answer.text
    assert "restore" in answer.text
    assert http.get(running.pin("a", f"{upstream.url}/b")).content == SMALL[::-1]
    ran = run("verify", "--data", running.data)
    assert ran.returncode == 1
    assert "entry r/" in ran.stdout
    assert upstream.count("/a") == 1

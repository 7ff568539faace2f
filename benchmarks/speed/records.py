"""A store with very many frozen records: seconds from the start to ready, and answers a second on hits.

The records are written straight into the index, as the store itself writes them, and share one blob. Ready is the first
200 of /-/ready, asked for every 5 ms; the index was just written, so the system has it in its cache. Hits go to one
address, to a thousand at random (the same thousand whatever else there is), and to all at random, with wrk. Beside it,
`httpcache ls` is run as a command, and pages of the one pin's records are read at random places.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Final

from httpcache.store import base, record
from httpcache.store.layout import DATABASE, prepare
from httpcache.store.local import LocalStore
from httpcache.store.seal import sealed
from httpcache.store.sqlite_schema import connect, transaction
from httpcache.target import Target

from .answers import ANY, get
from .load import load, wire_size
from .peers import COMMAND, PIN, Place, Server, mirror
from .process import Sampler, Unavailable, clean_environment

FEW: Final = 1_000
SIZE: Final = 20_000
"""Bytes of the blob."""
PREFIX: Final = "http://127.0.0.1:9/records/"
"""The discard port: a request that is no hit fails."""
_BATCH: Final = 20_000
_PAGES: Final = 50


def fill(data: Path, count: int) -> None:
    """Make a data folder with that many records of one blob."""
    body = random.Random(count).randbytes(SIZE)
    digest = sha256(body).hexdigest()
    prepare(data)
    with closing(connect(data / DATABASE)) as index:
        for start in range(0, count, _BATCH):
            with transaction(index):
                for number in range(start, min(start + _BATCH, count)):
                    _add(index, *entry(number, digest))
    blob = data / "blobs" / digest[:2] / digest
    blob.parent.mkdir(exist_ok=True)
    blob.write_bytes(body)


def _add(index: sqlite3.Connection, key: str, frozen: record.Record) -> None:
    value = sealed(key, record.encode(frozen))
    index.execute("INSERT INTO entries (key, value) VALUES (?, ?)", (key, value))
    index.execute("INSERT INTO records VALUES (?, ?, ?, ?, ?)", (key, *record.columns(frozen)))


def entry(number: int, digest: str) -> tuple[str, record.Record]:
    """Return a record of the filled store, and its key."""
    target = Target(PIN, f"{PREFIX}{number}")
    headers = {"content-type": "application/octet-stream"}
    frozen = record.Record(
        target.key, PIN, target.url, target.url, digest, SIZE, 1_767_225_600.0 + number, headers=headers
    )
    return f"r/{target.key}", frozen


def start_seconds(place: Place, sampler: Sampler) -> tuple[float, Server]:
    """Start a mirror on a folder; return the seconds until it was ready, and the mirror."""
    started = time.perf_counter()
    server = mirror(place, ready_every=0.005)
    seconds = time.perf_counter() - started
    sampler.watch(f"mirror ({place.folder.name})", server.child)
    return seconds, server


def hits(server: Server, count: int, seconds: float) -> Iterator[tuple[str, float]]:
    """Yield answers a second on one address, on some, on all that there are. Raises Unavailable where one is no hit."""
    address = f"{server.url}/{PIN}/{PREFIX}"
    if len(get(f"{address}{count - 1}").raise_for_status().content) != SIZE:
        raise Unavailable("a record of the filled store is not served")
    wire, _ = wire_size(f"{address}{count - 1}", ANY)
    some = f"{min(FEW, count)}"
    for what, url, arguments in (
        ("one address", f"{address}0", ()),
        ("some addresses", address, (some,)),
        ("any address", address, (f"{count}",)),
    ):
        found = load(server.child, url, ANY, wire, seconds, *arguments)
        if found.errors:
            raise Unavailable(f"{found.errors} errors on hits")
        yield what, found.rate


def ls_seconds(data: Path) -> float:
    """Return the seconds of `httpcache ls`, which prints the totals, from the start of the process to its end."""
    started = time.perf_counter()
    command = [str(COMMAND), "ls", "--data", str(data)]
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=False)
    if done.returncode or PIN not in done.stdout:
        raise Unavailable(f"httpcache ls failed: {done.stderr.strip()}")
    return time.perf_counter() - started


def page_seconds(data: Path, count: int) -> float:
    """Return the median seconds in which the index gives 100 records of a pin, from places at random."""
    return asyncio.run(_page_seconds(data, count))


async def _page_seconds(data: Path, count: int) -> float:
    seconds = []
    with closing(LocalStore(data)) as store:
        for _ in range(_PAGES):
            key, found = entry(random.randrange(count), "")
            started = time.perf_counter()
            await store.index.records(PIN, after=base.Place(found.url, key), limit=100)
            seconds.append(time.perf_counter() - started)
    return median(seconds)

"""Answers that are kept ready: never what the store would not give at that moment, and bounded."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from hashlib import sha256
from ipaddress import ip_network
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message

from httpcache.settings import Settings
from httpcache.store.local import LocalStore
from httpcache.store.record import Record
from httpcache.store.store import SMALL
from httpcache.web.app import build
from httpcache.web.response_cache import MAX_BODY, MAX_BYTES, MAX_KEY, OVERHEAD, CachedResponse, Key, ResponseCache
from httpcache.web.responses import FrozenResponse
from tests.support import http
from tests.support.command import run
from tests.support.index import PIP, ask, document, filenames
from tests.support.inside import damage_body
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.registries import JSON, PyPI
from tests.support.upstream import Response, Upstream

HIT = "httpcache; hit"
FILES = [64 * 1024, 64 * 1024 + 1, 300_000]  # in memory, and from their files
SIZES = [10, SMALL, *FILES]  # in the index, and in files


@pytest.fixture(params=SIZES)
def frozen(request: pytest.FixtureRequest, upstream: Upstream, server: Mirror, pin: str) -> str:
    """The address of a frozen file that is kept ready."""
    upstream.pages["/file"] = Response(os.urandom(request.param), headers={"Content-Type": "text/x-thing"})
    address = server.pin(pin, f"{upstream.url}/file")
    first = http.get(address)
    for _ in range(3):
        answer = http.get(address)
        assert (answer.content, answer.headers["cache-status"]) == (first.content, HIT)
    return address


def test_what_is_forgotten_is_fetched_anew(frozen: str, upstream: Upstream, server: Mirror, pin: str) -> None:
    upstream.pages["/file"] = Response(b"another")
    assert run("forget", pin, "--yes", "--data", server.data).returncode == 0
    answer = http.get(frozen)
    assert answer.content == b"another"
    assert "fwd=uri-miss" in answer.headers["cache-status"]


@pytest.mark.parametrize("frozen", FILES, indirect=True)
def test_a_damaged_file_is_not_sent(frozen: str, upstream: Upstream, server: Mirror) -> None:
    right = http.get(frozen).content
    blob = next(path for path in server.data.glob("blobs/*/*") if path.read_bytes() == right)
    blob.write_bytes(bytes(len(right)))
    assert http.get(frozen).content == right  # fetched again: the upstream has the same
    assert blob.read_bytes() == right
    upstream.stop()
    blob.unlink()
    assert http.get(frozen).status_code == 503
    blob.write_bytes(right)  # the server is that of other tests too, which look at all that it has


def test_a_request_that_is_not_plain_gets_its_own_answer(frozen: str) -> None:
    whole = http.get(frozen)
    tag = whole.headers["etag"]
    assert http.get(frozen, headers={"If-None-Match": tag}).status_code == 304
    assert http.get(frozen, headers={"If-Match": '"other"'}).status_code == 412
    part = http.get(frozen, headers={"Range": "bytes=1-2"})
    assert (part.status_code, part.content) == (206, whole.content[1:3])
    head = http.head(frozen)
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", tag)
    assert http.request("POST", frozen).status_code == 405
    again = http.get(frozen)
    assert (again.status_code, again.content, again.headers["etag"]) == (200, whole.content, tag)


def test_what_is_private_is_not_kept_for_others(upstream: Upstream, server: Mirror, pin: str) -> None:
    upstream.auth = ("user", "password")
    upstream.pages["/file"] = Response(b"secret")
    address = server.pin(pin, f"{upstream.url}/file")
    for _ in range(3):
        assert http.get(address, auth=("user", "password")).content == b"secret"
        assert http.get(address).status_code == 401
        assert http.get(address, auth=("user", "wrong")).status_code == 401


@pytest.fixture
def filled(pypi: PyPI) -> PyPI:
    """A PyPI with a file."""
    pypi.upload(wheel("demo", "1.0"), "2023-06-01T00:00:00Z")
    pypi.upload(wheel("other", "1.0"), "2023-06-01T00:00:00Z")
    return pypi


def kept(address: str) -> bytes:
    """A page that has been asked for often enough to be kept ready."""
    pages = {ask(address, JSON).content for _ in range(3)}
    (page,) = pages
    return page


def test_a_rule_and_its_end_are_followed_at_once(filled: PyPI, mirror: Callable[..., Mirror]) -> None:
    server = mirror(filled)
    page, other = server.at("2024-01-02/demo"), server.at("2024-01-02/other")
    before = kept(page)
    assert ask(other, JSON).status_code == 200
    link = server.same(document(page)["files"][0]["url"])
    assert {http.get(link).status_code for _ in range(3)} == {200}
    for verb, files, status in (("block", 0, 403), ("unblock", 1, 200)):
        assert run(verb, "demo", "--data", server.data).returncode == 0
        assert len(filenames(page)) == files
        assert http.get(link).status_code == status
    assert kept(page) == before
    assert ask(other, JSON).headers["cache-status"] == HIT


def test_what_another_server_observes_counts_here(filled: PyPI, mirror: Callable[..., Mirror]) -> None:
    server, other = mirror(filled), mirror(filled)
    other.stop()
    other.data = server.data
    other.start()
    page = server.at("2024-01-02/demo")
    assert kept(page)
    link = server.same(document(page)["files"][0]["url"])
    assert {http.get(link).status_code for _ in range(3)} == {200}
    filled.set_status("demo", "quarantined")
    assert filenames(other.at("live/demo")) == []
    assert filenames(page) == []
    assert http.get(link).status_code == 403


def test_what_is_mended_does_not_go_before_what_is_ready(upstream: Upstream, server: Mirror, pin: str) -> None:
    """A second representation's bytes are fetched again while all is removed, and another one is the first by then."""
    slow = {"Accept": "application/slow"}
    address = server.pin(pin, f"{upstream.url}/file")
    for kind in ("application/first", "application/slow"):
        upstream.pages["/file"] = Response(kind.encode(), headers={"Vary": "Accept", "Content-Type": kind})
        assert http.get(address, headers={"Accept": kind}).content == kind.encode()
    damage_body(server.data, b"application/slow", lambda path: path.write_bytes(b"damaged"))
    end = threading.Event()
    upstream.pages["/file"] = Response([b"application/", end, b"slow"])
    with ThreadPoolExecutor(1) as threads:
        mended = threads.submit(http.get, address, headers={"Accept": "APPLICATION/SLOW"})
        upstream.wait("/file", 3)
        assert run("forget", pin, "--yes", "--data", server.data).returncode == 0
        upstream.pages["/file"] = b"for all"
        assert http.get(address).content == b"for all"
        for _ in range(3):
            assert http.get(address, headers=slow).content == b"for all"
        end.set()
        assert mended.result().content == b"application/slow"
    kept = {http.get(address, headers=slow).content for _ in range(3)}
    assert kept == {http.get(address, headers={"Accept": "Application/Slow"}).content} == {b"for all"}


def test_live_is_asked_for_each_time(filled: PyPI, mirror: Callable[..., Mirror]) -> None:
    server = mirror(filled)
    for number in range(3):
        filled.upload(wheel("demo", f"2.{number}"), "2023-06-02T00:00:00Z")
        assert len(filenames(server.at("live/demo"))) == 2 + number


def test_nobody_gets_what_another_form_of_the_request_got(filled: PyPI, mirror: Callable[..., Mirror]) -> None:
    """An empty `Accept` in front of an installer's: the mirror looks at the first, and must keep nothing for others."""
    server = mirror(filled)
    page = server.pin("p-2024-01-02", f"{filled.url}demo/")
    right = ask(page, PIP).content
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", server.port)) as raw:
            lines = [f"GET {urlsplit(page).path} HTTP/1.1", "Host: x", "Accept:", f"Accept: {PIP}", "Connection: close"]
            raw.sendall("\r\n".join([*lines, "", ""]).encode())
            while raw.recv(65536):
                pass
        assert ask(page, PIP, **{"Accept-Encoding": ""}).content == right
        assert http.request("GET", page, headers={"Accept": PIP}).headers["content-type"] == JSON


@pytest.mark.parametrize("frozen", FILES, indirect=True)
def test_a_fault_of_the_disk_is_told(frozen: str, server: Mirror) -> None:
    content = http.get(frozen).content
    folder = next(path for path in server.data.glob("blobs/*/*") if path.read_bytes() == content).parent
    folder.rename(folder.with_suffix(".away"))
    folder.write_bytes(b"")
    try:
        for _ in range(2):
            answer = http.get(frozen)
            assert answer.status_code == 503
            assert "store" in answer.text
    finally:
        folder.unlink()
        folder.with_suffix(".away").rename(folder)
    assert http.get(frozen).content == content


# What a hit costs


def test_a_hit_calls_few_functions_and_asks_nobody(upstream: Upstream, tmp_path: Path) -> None:
    """A clock would tell too, but not each time: the calls of a hit are counted."""
    upstream.pages["/file"] = Response(b"x" * 20_000)
    app = build(Settings(data=tmp_path / "data", allow_networks=(ip_network("127.0.0.0/8"),)), [])
    path = f"/tools-2024-01-02/{upstream.url}/file"
    headers = [(b"accept", b"*/*"), (b"accept-encoding", b"gzip"), (b"host", b"mirror")]
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "http_version": "1.1",
        "client": ("192.0.2.1", 1234),
        "headers": headers,
        "extensions": {"http.response.pathsend": {}},
    }
    called: list[str] = []

    def note(frame: FrameType, event: str, function: object) -> None:
        if event == "call":
            called.append(frame.f_code.co_qualname)
        elif event == "c_call":
            called.append(getattr(function, "__qualname__", ""))

    async def nothing_more() -> Message:
        await anyio.sleep_forever()
        raise AssertionError

    async def ask(query: bytes = b"") -> list[Message]:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        await app({**scope, "query_string": query}, nothing_more, send)
        return sent

    async def work() -> None:
        for _ in range(3):
            first = await ask()
        for name in (b"another", b"one more"):
            await ask(name)  # what is frozen beside it costs a hit nothing
        sys.setprofile(note)
        try:
            again = await ask()
        finally:
            sys.setprofile(None)
        assert again == first
        assert dict(again[0]["headers"])[b"cache-status"] == HIT.encode()

    async def live() -> None:
        said, heard = asyncio.Queue[Message](), asyncio.Queue[Message]()
        lifespan = asyncio.ensure_future(app({"type": "lifespan"}, said.get, heard.put))
        await said.put({"type": "lifespan.startup"})
        assert await heard.get() == {"type": "lifespan.startup.complete"}
        await work()
        await said.put({"type": "lifespan.shutdown"})
        await lifespan

    asyncio.run(asyncio.wait_for(live(), 30))
    assert len(called) < 40, called
    assert not {"execute", "fetchall", "__instancecheck__", "run_sync"} & set(called)


# The bounds


def scope(path: bytes = b"/a", *headers: tuple[bytes, bytes], method: str = "GET") -> dict[str, object]:
    return {"method": method, "raw_path": path, "query_string": b"", "headers": [(b"host", b"mirror"), *headers]}


def answer(size: int, *headers: tuple[bytes, bytes]) -> CachedResponse:
    return CachedResponse({"headers": list(headers)}, {"body": bytes(size)}, lambda: True)


@pytest.mark.parametrize(
    "name", [b"authorization", b"range", b"if-none-match", b"if-modified-since", b"x-secret", b"cdn-loop"]
)
def test_a_request_with_more_to_it_has_no_key(name: bytes) -> None:
    answers = ResponseCache(lambda: 0, ["x-secret"])
    assert answers.key(scope()) is not None
    assert answers.key(scope(b"/a", (name, b"x"))) is None
    assert answers.key(scope(method="HEAD")) is None


def test_what_is_accepted_is_in_the_key() -> None:
    answers = ResponseCache(lambda: 0, [])
    accept, coding = b"accept", b"accept-encoding"
    headers = [[], [(accept, b"")], [(accept, b"a")], [(accept, b"b")], [(coding, b"gzip")], [(coding, b"zstd, gzip")]]
    keys = [answers.key(scope(b"/a", *lines)) for lines in headers]
    assert None not in keys
    assert len(set(keys)) == len(keys)
    assert answers.key(scope(b"/a", (coding, b"br"))) == keys[0]  # we have none of it


@pytest.mark.parametrize("name", [b"accept", b"accept-encoding"])
@pytest.mark.parametrize("values", [(b"", b"a"), (b"a", b""), (b"a", b"a")])
def test_who_accepts_twice_has_no_key(name: bytes, values: tuple[bytes, bytes]) -> None:
    """Which of them counts is decided in one place only, and it is not here."""
    assert ResponseCache(lambda: 0, []).key(scope(b"/a", *((name, value) for value in values))) is None


@given(st.lists(st.tuples(st.integers(0, 40), st.sampled_from([0, 1, MAX_BODY // 3, MAX_BODY - OVERHEAD, MAX_BODY]))))
def test_what_is_kept_is_bounded_and_the_last_is_there(kept: list[tuple[int, int]]) -> None:
    answers = ResponseCache(lambda: 0, [])
    held: dict[Key, CachedResponse] = {}
    for number, size in kept:
        key = answers.key(scope(str(number).encode()))
        assert key is not None
        made = answer(size)
        answers.keep(key, 0, made)
        if made.size <= MAX_BODY:
            held[key] = made
            assert answers.find(key) is made
        found = [each for each in map(answers.find, held) if each]
        assert sum(each.size for each in found) <= MAX_BYTES
        assert all(each is held[key] for key, each in zip(held, map(answers.find, held), strict=True) if each)


@pytest.mark.parametrize("header", [0, 60_000])
def test_all_that_an_answer_takes_counts(header: int) -> None:
    answers = ResponseCache(lambda: 0, [])
    made = answer(0, (b"content-disposition", bytes(header)))
    keys: list[Key] = [(b"/%d" % number, b"", b"", "", None) for number in range(MAX_BYTES // (OVERHEAD + header) + 10)]
    for key in keys:
        answers.keep(key, 0, made)
    kept = sum(answers.find(key) is not None for key in keys)
    assert 0 < kept <= MAX_BYTES // (OVERHEAD + 2 * header)
    long: Key = (b"/" * MAX_KEY, b"x", b"", "", None)
    answers.keep(long, 0, made)
    assert answers.find(long) is None


def test_an_answer_holds_nothing_that_was_not_counted(tmp_path: Path) -> None:
    """The address that a record was redirected to, for example, which can be long."""
    body = tmp_path / "body"
    digest = sha256(b"body").hexdigest()

    async def work(store: LocalStore) -> None:
        body.write_bytes(b"body")
        await store.freeze("r/a", Record("t", "pin", "http://h/", "http://h/", digest, 4, 0.0), body)
        answers = ResponseCache(store.generation, [])
        plain = {"method": "GET", "extensions": {"http.response.pathsend": {}}}
        for number in range(1000):
            record = Record("t", "pin", "http://h/", f"http://h/{number:060000}", digest, 4, 0.0)
            made = await FrozenResponse(store, record).ready(plain)
            assert made
            answers.keep((b"/%d" % number, b"", None, "", None), store.generation(), made)
        assert answers.find((b"/0", b"", None, "", None))

    tracemalloc.start()
    try:
        with closing(LocalStore(tmp_path / "data")) as store:
            before = tracemalloc.get_traced_memory()[1]
            anyio.run(work, store)
            assert tracemalloc.get_traced_memory()[1] - before < 1000 * OVERHEAD * 2
    finally:
        tracemalloc.stop()


def test_nothing_is_given_from_another_state() -> None:
    state = 0
    answers = ResponseCache(lambda: state, [])
    key: Key = (b"/a", b"", b"", "", None)
    answers.keep(key, state, answer(1))
    assert answers.find(key)
    state = 1
    assert answers.find(key) is None
    state = 0
    assert answers.find(key) is None

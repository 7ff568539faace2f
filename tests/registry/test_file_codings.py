"""Distribution files that a server sends in a content coding: what is frozen and sent is the file, for every client."""

from __future__ import annotations

import bz2
import gzip
import itertools
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from httpcache.upstream.decoding import BadCoding, Decoder, decoded
from tests.support import http
from tests.support.clients import Clients, pins
from tests.support.index import document, json_file, json_files, json_page, shared_pypi
from tests.support.mirror import Mirror
from tests.support.packages import sdist, wheel
from tests.support.registries import PyPI
from tests.support.upstream import Page, Response, Upstream

MAX_FILE = 12_000_000
_projects = itertools.count()


def raw_deflate(body: bytes) -> bytes:
    """RFC 1951 without the frame of zlib."""
    squeeze = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return squeeze.compress(body) + squeeze.flush()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PyPI, Mirror]]:
    with shared_pypi(tmp_path_factory.mktemp("shared"), "--max-file", str(MAX_FILE)) as both:
        yield both


@dataclass
class Place:
    """A file on an upstream and on the mirror."""

    upstream: Upstream
    path: str
    address: str

    def put(self, what: Page) -> None:
        self.upstream.pages[self.path] = what

    def get(self, **headers: str) -> httpx.Response:
        """What a client gets that undoes no coding, as pip and curl."""
        with http.stream("GET", self.address, headers=headers) as answer:
            answer._content = b"".join(answer.iter_raw())
        return answer


@pytest.fixture
def place(shared: tuple[PyPI, Mirror], pin: str) -> Callable[..., Place]:
    """Put a file on a page, dated and behind a pin in turn: `place(".whl", {what the page says})`."""
    pypi, server = shared

    def put(ending: str, *entries: dict[str, object]) -> Place:
        number = next(_projects)
        project = f"thing-{number}"
        path = f"/files/{project.replace('-', '_')}-1.0{ending}"
        files = [json_file(pypi.files.url + path, **said) for said in entries or ({},)]
        pypi.index.pages[f"/simple/{project}/"] = json_page(json_files(*files))
        where = server.at("live") if number % 2 else server.pin(pin, pypi.url)
        file = document(f"{where}{project}/")["files"][0]
        return Place(pypi.files, path, server.same(file["url"]))

    return put


WHEEL = wheel("thing", "1.0", padding=300_000).data
SDIST = sdist("thing", "1.0").data
TAR = gzip.decompress(SDIST)
BZIP2 = bz2.compress(TAR)


def same(body: bytes) -> bytes:
    return body


# (how the name goes on, the file, the header, what the server does to the file)
SENT: list[tuple[str, bytes, str, Callable[[bytes], bytes]]] = [
    (".tar.gz", SDIST, "gzip", same),
    (".tar.gz", SDIST, "x-gzip", same),
    (".tgz", SDIST, "GZip", same),
    (".TAR.GZ", SDIST, "gzip", same),
    (".tar.gz", SDIST, "identity", same),
    (".tar.gz", SDIST, "", same),
    (".tar.gz", SDIST, "br", same),  # said, and not done
    (".tar.gz", SDIST, "gzip", gzip.compress),
    (".tar.gz", SDIST, "gzip, gzip", gzip.compress),
    (".tar.gz", SDIST, "deflate", zlib.compress),
    (".tar.gz", SDIST, "deflate, gzip", lambda body: gzip.compress(zlib.compress(body))),
    (".tar.bz2", BZIP2, "bzip2", same),
    (".tar.bz2", BZIP2, "gzip", gzip.compress),
    (".tar", TAR, "gzip", gzip.compress),
    (".zip", WHEEL, "gzip", gzip.compress),
    ("-py3-none-any.whl", WHEEL, "gzip", gzip.compress),
    ("-py3-none-any.whl", WHEEL, "X-GZIP", gzip.compress),
    ("-py3-none-any.whl", WHEEL, "gzip", same),
    ("-py3-none-any.whl", WHEEL, "gzip", lambda body: gzip.compress(body[:9]) + gzip.compress(body[9:])),
    ("-py3-none-any.whl", WHEEL, "gzip", lambda body: gzip.compress(body) + bytes(9)),
    ("-py3-none-any.whl", WHEEL, "deflate", zlib.compress),
    ("-py3-none-any.whl", WHEEL, "deflate", raw_deflate),
    ("-py3-none-any.whl", WHEEL, "gzip, gzip", lambda body: gzip.compress(gzip.compress(body))),
    ("-py3-none-any.whl", WHEEL, "gzip, identity", gzip.compress),
    ("-py3-none-any.whl", WHEEL, "identity", same),
    ("-py3-none-any.whl", b"#!/bin/sh\n" + WHEEL, "gzip", gzip.compress),
    ("-py3-none-any.whl", b"", "gzip", gzip.compress),
]  # fmt: skip


@pytest.mark.parametrize(("ending", "file", "coding", "pack"), SENT)
@pytest.mark.parametrize("announced", [True, False], ids=["a digest", "no digest"])
def test_the_file_is_sent_and_frozen(
    ending: str,
    file: bytes,
    coding: str,
    pack: Callable[[bytes], bytes],
    announced: bool,
    place: Callable[..., Place],
) -> None:
    """First and later answers have the same bytes, and none has a coding: validators and ranges are the file's."""
    digest = sha256(file).hexdigest()
    found = place(ending, {"hashes": {"sha256": digest}, "size": len(file)} if announced else {})
    found.put(Response(pack(file), 200, {"Content-Encoding": coding}))
    first = found.get()
    assert (first.status_code, first.content) == (200, file)
    found.put(Response(b"", 500))
    hit = found.get()
    assert (hit.status_code, hit.content) == (200, file)
    for answer in (first, hit):
        assert "content-encoding" not in answer.headers
        assert answer.headers.get("content-length") in (str(len(file)), None)
    assert hit.headers["content-length"] == str(len(file))
    assert hit.headers["etag"] == f'"{digest}"'
    if len(file) > 9:
        part = found.get(Range="bytes=5-8", **{"If-Range": hit.headers["etag"]})
        assert (part.status_code, part.content) == (206, file[5:9])
        assert part.headers["content-range"] == f"bytes 5-8/{len(file)}"


@pytest.mark.parametrize(
    ("ending", "file", "sent"),
    [
        (".tar.gz", TAR, gzip.compress(TAR)),  # no gzip at all, whatever its name says: the digest knows
        (".tar.gz", b"no archive" * 99, gzip.compress(b"no archive" * 99)),
        ("-py3-none-any.whl", gzip.compress(WHEEL), gzip.compress(WHEEL)),
    ],
)
def test_a_digest_knows_better_than_the_name(
    ending: str, file: bytes, sent: bytes, place: Callable[..., Place]
) -> None:
    found = place(ending, {"hashes": {"sha256": sha256(file).hexdigest()}})
    found.put(Response(sent, 200, {"Content-Encoding": "gzip"}))
    assert [found.get().content for _ in range(2)] == [file, file]


@pytest.mark.parametrize("announced", [True, False], ids=["a digest", "no digest"])
def test_a_coding_that_cannot_be_undone(announced: bool, place: Callable[..., Place]) -> None:
    """It is the file in a coding: without a digest a client may know what to do, with one it is refused."""
    sent = b"as brotli has it"
    found = place("-py3-none-any.whl", {"hashes": {"sha256": sha256(WHEEL).hexdigest()}} if announced else {})
    found.put(Response(sent, 200, {"Content-Encoding": "br"}))
    for _ in range(2):
        answer = found.get()
        if announced:
            assert answer.status_code == 502
            assert sha256(WHEEL).hexdigest() in answer.text
        else:
            assert (answer.content, answer.headers["content-encoding"]) == (sent, "br")


BROKEN = {
    "cut": gzip.compress(WHEEL)[:-9],
    "its checksum is wrong": gzip.compress(WHEEL)[:-8] + bytes(8),
    "damaged": gzip.compress(WHEEL)[:9000] + b"\xff" * 999,
    "a bomb": gzip.compress(WHEEL[:99] + bytes(MAX_FILE)),
    "a bomb in a bomb": gzip.compress(gzip.compress(WHEEL[:99] + bytes(100 * MAX_FILE))),
}


@pytest.mark.parametrize("announced", [True, False], ids=["a digest", "no digest"])
@pytest.mark.parametrize("kind", BROKEN)
def test_nothing_is_kept_of_what_cannot_be_undone(kind: str, announced: bool, place: Callable[..., Place]) -> None:
    """An error with a text, or where bytes are out already, a connection that breaks."""
    found = place("-py3-none-any.whl", {"hashes": {"sha256": sha256(WHEEL).hexdigest()}} if announced else {})
    found.put(Response(BROKEN[kind], 200, {"Content-Encoding": "gzip, gzip" if "in a" in kind else "gzip"}))
    try:
        assert found.get().status_code == 502
    except httpx.RemoteProtocolError:
        assert not announced
    found.put(WHEEL)
    assert found.get().content == WHEEL


def test_the_whole_of_a_large_one_streams(place: Callable[..., Place]) -> None:
    """Bytes go out while the rest is to come; ranges wait for it; the last byte comes once all is right."""
    file = wheel("thing", "1.0", padding=6_000_000).data
    packed = gzip.compress(file, 1)
    middle, end = threading.Event(), threading.Event()
    found = place("-py3-none-any.whl", {"hashes": {"sha256": sha256(file).hexdigest()}})
    steps = [packed[:3_000_000], middle, packed[3_000_000:-1], end, packed[-1:]]
    headers = {"Content-Encoding": "gzip", "Content-Length": str(len(packed))}
    found.put(Response(steps, 200, headers))
    with http.stream("GET", found.address) as answer:
        assert "content-encoding" not in answer.headers
        chunks = answer.iter_raw()
        received = next(chunks)
        middle.set()
        while len(received) < len(file) - 1:
            received += next(chunks)
        assert len(received) == len(file) - 1
        end.set()
        received += b"".join(chunks)
    assert received == file
    assert found.get().content == file


def test_a_range_while_it_comes(place: Callable[..., Place]) -> None:
    packed, rest = gzip.compress(WHEEL), threading.Event()
    found = place("-py3-none-any.whl")
    found.put(Response([packed[:200_000], rest, packed[200_000:]], 200, {"Content-Encoding": "gzip"}))
    with http.stream("GET", found.address) as first:
        assert WHEEL.startswith(next(first.iter_raw()))
        rest.set()
        part = found.get(Range="bytes=100000-")
    assert (part.status_code, part.content) == (206, WHEEL[100_000:])
    assert found.get().content == WHEEL


@pytest.mark.parametrize("order", [0, 1])
def test_one_address_with_two_digests(order: int, pypi: PyPI, server: Mirror, pin: str) -> None:
    """Either is right: what the server has decides."""
    hashes = [{"sha256": "0" * 64}, {"sha256": sha256(WHEEL).hexdigest()}]
    url = f"{pypi.files.url}/thing-1.0-py3-none-any.whl"
    entries = [json_file(url, hashes=each) for each in (hashes if order else hashes[::-1])]
    pypi.index.pages["/simple/thing/"] = json_page(json_files(*entries))
    pypi.files.pages["/thing-1.0-py3-none-any.whl"] = WHEEL
    (address, again) = (file["url"] for file in document(server.pin(pin, f"{pypi.url}thing/"))["files"])
    assert address == again
    assert http.get(server.same(address)).content == WHEEL


@pytest.mark.parametrize(("client", "said"), [("pip", "gzip"), ("oldpip", "deflate"), ("uv", "gzip")])
def test_installers(said: str, client: str, pypi: PyPI, server: Mirror, pin: str, clients: Clients) -> None:
    """pip undoes no coding."""
    dist = wheel("thing", "1.0")
    pack = gzip.compress if said == "gzip" else raw_deflate
    path = f"/{dist.filename}"
    pypi.files.pages[path] = Response(pack(dist.data), 200, {"Content-Encoding": said})
    pypi.index.pages["/simple/thing/"] = json_page(
        json_files(json_file(pypi.files.url + path, hashes={"sha256": dist.sha256}))
    )
    assert clients.install(client, server.pin(pin, pypi.url), ["thing"]) == pins(dist)


def test_an_sdist_that_is_said_to_be_packed(pypi: PyPI, server: Mirror, pin: str, clients: Clients) -> None:
    """uv undoes what the header names."""
    dist = sdist("thing", "1.0")
    path = f"/{dist.filename}"
    pypi.files.pages[path] = Response(dist.data, 200, {"Content-Encoding": "gzip"})
    pypi.index.pages["/simple/thing/"] = json_page(
        json_files(json_file(pypi.files.url + path, hashes={"sha256": dist.sha256}))
    )
    assert clients.uv_compile(server.pin(pin, pypi.url), ["thing"], only_binary=()) == pins(dist)


@given(st.binary(max_size=3000), st.lists(st.sampled_from(["gzip", "deflate", "raw"]), max_size=3), st.data())
def test_pieces_are_as_good_as_the_whole(body: bytes, packed: list[str], data: st.DataObject) -> None:
    """However a body is cut into pieces, what is in it is the same."""
    pack = {"gzip": gzip.compress, "deflate": zlib.compress, "raw": raw_deflate}
    sent, names = body, ["gzip" if name == "gzip" else "deflate" for name in packed]
    for name in packed:
        sent = pack[name](sent)
    places = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=8)))
    decoder = Decoder(names[::-1])
    found = b""
    for start, stop in itertools.pairwise([0, *places, len(sent)]):
        found += b"".join(decoder.feed(sent[start:stop]))
    found += b"".join(decoder.end())
    assert found == decoded(sent, ", ".join(names), 10_000)
    if packed:
        assert found == body


def test_what_is_cut_is_no_body() -> None:
    decoder = Decoder(["gzip"])
    whole = gzip.compress(WHEEL)
    list(decoder.feed(whole[:-1]))
    with pytest.raises(BadCoding):
        list(decoder.end())

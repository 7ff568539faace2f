"""`.metadata` of wheels (PEP 658) over plain HTTP, dated and pinned: always at hand, and at what cost."""

from __future__ import annotations

import io
import itertools
import re
import struct
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

from tests.support import http
from tests.support.index import ask, document, json_file, json_files, json_page, shared_pypi
from tests.support.inside import processes
from tests.support.mirror import Mirror
from tests.support.packages import Dist, wheel
from tests.support.registries import JSON, PyPI
from tests.support.upstream import NOT_FOUND, Page, Request, Response, Upstream, _ranged

OWN = b"Metadata-Version: 2.1\nName: thing\nVersion: 1.0\nSummary: the upstream's own\n"
LOGIN = Response(b"<html><body>log in first</body></html>", 200, {"Content-Type": "text/html"})
PADDING = 2_000_000
_projects = itertools.count()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PyPI, Mirror]]:
    with shared_pypi(tmp_path_factory.mktemp("shared")) as both:
        yield both


@dataclass
class Place:
    """A wheel on an upstream and on the mirror."""

    upstream: Upstream
    path: str
    address: str
    project: str

    def put(self, what: Page, suffix: str = "") -> None:
        self.upstream.pages[self.path + suffix] = what

    def metadata(self, **headers: str) -> httpx.Response:
        return http.get(self.address + ".metadata", headers=headers)

    @property
    def asked(self) -> list[Request]:
        return [seen for seen in self.upstream.requests if seen.path == self.path]

    @property
    def wholes(self) -> int:
        return sum("range" not in seen.headers for seen in self.asked)


@pytest.fixture(params=["dated", "pinned"])
def place(request: pytest.FixtureRequest, shared: tuple[PyPI, Mirror], pin: str) -> Callable[..., Place]:
    """Put a wheel on a page, dated or behind a pin, and on its upstream: `place(data, **what the page says)`.

    `host` is where it is; wheels on a host that is known to ignore ranges are not advertised.
    """
    pypi, server = shared

    def put(data: Page, host: Upstream = pypi.files, **said: object) -> Place:
        project = f"thing-{next(_projects)}"
        filename = f"{project.replace('-', '_')}-1.0-py3-none-any.whl"
        path = f"/files/{filename}"
        page = json_page(json_files(json_file(host.url + path, **said)))
        pypi.index.pages[f"/simple/{project}/"] = page
        where = server.at("live") if request.param == "dated" else server.pin(pin, pypi.url)
        (file,) = document(f"{where}{project}/")["files"]
        assert file["core-metadata"] == (said.get("core-metadata") or True)
        found = Place(host, path, server.same(file["url"]), project)
        found.put(data)
        return found

    return put


def archive(members: Mapping[str, bytes], method: int = zipfile.ZIP_STORED, comment: bytes = b"") -> bytes:
    """A zip file with these members in this order."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, data in members.items():
            file.writestr(zipfile.ZipInfo(name), data, method)
        file.comment = comment
    return buffer.getvalue()


def noise(size: int) -> bytes:
    """Bytes that no compression makes fewer."""
    return b"".join(sha256(number.to_bytes(4)).digest() for number in range(size // 32))


def members(project: str = "thing", info: str = "", metadata: bytes = OWN, after: bytes = b"") -> dict[str, bytes]:
    """What is in a wheel, the payload behind the metadata."""
    info = info or f"{project.replace('-', '_')}-1.0.dist-info"
    return {"thing.py": b"", f"{info}/METADATA": metadata, f"{info}/WHEEL": b"", "thing.bin": after}


def thing(place: Callable[..., Place], make: Callable[[str], bytes], **said: object) -> Place:
    """A wheel whose contents know the name of their project."""
    found = place(b"", **said)
    found.put(make(found.project))
    return found


# --- the upstream's own


HASHED = {"core-metadata": {"sha256": sha256(OWN).hexdigest()}}


@pytest.mark.parametrize("said", [{"core-metadata": True}, HASHED], ids=["without a hash", "with a hash"])
def test_the_upstreams_own(said: dict[str, object], place: Callable[..., Place]) -> None:
    """It is taken as it is and frozen like a file, and the wheel is left alone."""
    found = place(wheel("thing", "1.0").data, **said)
    found.put(OWN, ".metadata")
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: found.metadata(), range(6)))
    assert {(answer.status_code, answer.content) for answer in answers} == {(200, OWN)}
    found.put(b"changed", ".metadata")
    again = found.metadata()
    assert again.content == OWN
    assert again.headers["etag"] == f'"{sha256(OWN).hexdigest()}"'
    assert again.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert found.metadata(**{"If-None-Match": again.headers["etag"]}).status_code == 304
    head = http.head(found.address + ".metadata")
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(OWN)), b"")
    assert found.upstream.count(found.path + ".metadata") == 1
    assert found.asked == []


def test_its_hash_is_checked(place: Callable[..., Place]) -> None:
    """502 with a text that says so, and nothing is kept."""
    found = place(wheel("thing", "1.0").data, **HASHED)
    found.put(OWN + b"Requires-Dist: injected\n", ".metadata")
    for _ in range(2):
        answer = found.metadata()
        assert answer.status_code == 502
        assert sha256(OWN).hexdigest() in answer.text
    found.put(OWN, ".metadata")
    assert found.metadata().content == OWN


@pytest.mark.parametrize("said", [{"core-metadata": True}, HASHED], ids=["without a hash", "with a hash"])
@pytest.mark.parametrize(
    "own",
    [
        NOT_FOUND,
        Response(b"", 403),
        Response(b"", 500),
        LOGIN,
        Response(b""),
        Response(b"Metadata-V", 200, {"Content-Length": "99"}),
    ],
    ids=["404", "403", "500", "a login page", "nothing", "cut"],
)
def test_an_advertised_one_that_is_not_there(
    own: Response, said: dict[str, object], place: Callable[..., Place]
) -> None:
    """Then it is read out of the wheel."""
    found = thing(place, lambda project: archive(members(project)), **said)
    found.put(own, ".metadata")
    assert (found.metadata().status_code, found.metadata().content) == (200, OWN)
    assert found.wholes == 0


# --- out of the wheel by ranges


WHEELS: dict[str, Callable[[str], bytes]] = {
    "stored": lambda project: archive(members(project)),
    "deflated": lambda project: archive(members(project), zipfile.ZIP_DEFLATED),
    "bzip2": lambda project: archive(members(project), zipfile.ZIP_BZIP2),
    "lzma": lambda project: archive(members(project), zipfile.ZIP_LZMA),
    "payload before": lambda project: archive({"payload": noise(PADDING), **members(project)}),
    "payload behind": lambda project: archive(members(project, after=noise(PADDING))),
    "payload around": lambda project: archive({"payload": noise(PADDING), **members(project, after=noise(PADDING))}),
    "a comment": lambda project: archive(members(project, after=noise(PADDING)), comment=b"c" * 60_000),
    "a long comment": lambda project: archive(members(project, after=noise(PADDING)), comment=b"c" * 65_535),
    "something in front": lambda project: b"#!/bin/sh\n" + archive(members(project, after=noise(PADDING))),
    "another spelling": lambda project: archive(members(info=f"{project.replace('-', '.').title()}-1.0.dist-info")),
    "another beside": lambda project: archive(
        {"other-1.0.dist-info/METADATA": b"Metadata-Version: 0\n", **members(project)}
    ),
    "a large one": lambda project: archive(
        members(project, metadata=OWN + b"\n" + b"x" * 300_000), zipfile.ZIP_DEFLATED
    ),
    "many files": lambda project: archive(
        {f"thing/{n}.py": b"" for n in range(2000)} | members(project, after=noise(PADDING))
    ),
}


@pytest.mark.parametrize("kind", WHEELS)
def test_out_of_the_wheel_by_ranges(kind: str, place: Callable[..., Place]) -> None:
    """Only ranges of the wheel are asked for, little of it, and no metadata file that nobody announced."""
    found = thing(place, WHEELS[kind])
    answer = found.metadata()
    assert answer.status_code == 200, answer.text
    assert answer.content.startswith(OWN)
    assert answer.headers["content-type"].startswith("text/plain")
    assert found.wholes == 0
    assert 1 <= len(found.asked) <= 5
    ranges = [re.fullmatch(r"bytes=(?:-(\d+)|(\d+)-(\d+))", seen.headers["range"]) for seen in found.asked]
    cost = sum(int(found[1]) if found[1] else int(found[3]) - int(found[2]) + 1 for found in ranges if found)
    assert cost < 500_000
    assert found.upstream.count(found.path + ".metadata") == 0
    before = len(found.asked)
    assert found.metadata().content == answer.content
    assert len(found.asked) == before


def test_those_who_ask_at_once_share_the_ranges(place: Callable[..., Place]) -> None:
    found = thing(place, WHEELS["payload behind"])
    with ThreadPoolExecutor(8) as pool:
        assert {answer.content for answer in pool.map(lambda _: found.metadata(), range(8))} == {OWN}
    assert len(found.asked) <= 3
    assert found.wholes == 0


# --- out of the whole wheel


def without_suffixes(status: int, data: bytes) -> Callable[[Request], Response]:
    """A server that knows ranges, but not those from the end."""

    def answer(request: Request) -> Response:
        if request.headers.get("range", "").startswith("bytes=-"):
            return Response(data if status == 200 else b"", status)
        return _ranged(request, Response(data), data)

    return answer


def without_ranges(data: bytes) -> Callable[[Request], Response]:
    """A server that answers a range with the whole; the body is steps, of which the upstream makes no ranges."""
    return lambda _: Response([data], 200, {"Content-Length": str(len(data))})


def of_unknown_length(data: bytes) -> Callable[[Request], Response]:
    """A server whose 206 does not say how long the whole is (RFC 9110 section 14.4)."""

    def answer(request: Request) -> Response:
        part = _ranged(request, Response(data), data)
        if part.status != 206:
            return part
        headers = {name: value for name, value in part.headers.items() if name != "Content-Range"}
        return replace(
            part, headers={**headers, "Content-Range": part.headers["Content-Range"].partition("/")[0] + "/*"}
        )

    return answer


SERVERS: dict[str, Callable[[bytes], Callable[[Request], Response]]] = {
    "no ranges": without_ranges,
    "unknown length": of_unknown_length,
    **{f"suffixes: {status}": partial(without_suffixes, status) for status in (200, 400, 403, 416, 501)},
}


@pytest.mark.parametrize("kind", SERVERS)
def test_servers_that_know_no_ranges(
    kind: str, place: Callable[..., Place], upstreams: Callable[..., Upstream]
) -> None:
    """The wheel is fetched at most once, and frozen: who installs it then costs nothing."""
    found = place(b"", upstreams())
    data = archive(members(found.project, after=noise(PADDING)))
    found.put(SERVERS[kind](data))
    assert found.metadata().content == OWN
    assert found.wholes <= 1
    assert http.get(found.address).content == data
    assert found.metadata().content == OWN
    assert found.wholes == 1


def test_the_wheel_out_of_which_it_is_read_is_checked(
    place: Callable[..., Place], upstreams: Callable[..., Upstream]
) -> None:
    """Not the announced wheel: a 502, and nothing is kept."""
    found = place(b"", upstreams(), hashes={"sha256": "0" * 64})
    found.put(without_ranges(archive(members(found.project))))
    assert found.metadata().status_code == 502
    assert found.metadata().status_code == 502
    assert found.wholes == 2


def test_a_wheel_that_cannot_be_had(place: Callable[..., Place]) -> None:
    """What the upstream says of the wheel is said of its metadata."""
    for status, expected in ((404, {404}), (403, {403, 502}), (500, {500, 502})):
        found = place(Response(b"no", status))
        assert found.metadata().status_code in expected, status


# --- what is no wheel


def patched(data: bytes, old: bytes, new: bytes) -> bytes:
    """Other bytes at every place of the old ones."""
    assert old in data
    return data.replace(old, new)


def marked(data: bytes, flags: int, method: int) -> bytes:
    """A zip file of whose members each says that it has these flags and this compression."""
    out = bytearray(data)
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        for found in re.finditer(signature, data):
            struct.pack_into("<HH", out, found.start() + at, flags, method)
    return bytes(out)


def damaged(method: int) -> Callable[[str], bytes]:
    """A wheel whose METADATA cannot be inflated."""

    def make(project: str) -> bytes:
        metadata = OWN + noise(3000).hex().encode()
        packed = archive({"x": metadata}, method)
        start = packed.index(b"PK\x03\x04") + 31
        body = packed[start : packed.index(b"PK\x01\x02")]
        whole = archive(members(project, metadata=metadata), method)
        middle = body[20:-20]
        return patched(whole, middle, bytes(byte ^ 0x5A for byte in middle))

    return make


NO_WHEELS: dict[str, Callable[[str], bytes]] = {
    "empty": lambda _: b"",
    "text": lambda _: b"no zip at all\n" * 10,
    "a login page": lambda _: LOGIN.body if isinstance(LOGIN.body, bytes) else b"",
    "an empty zip": lambda _: archive({}),
    "no METADATA": lambda _: archive({"thing.py": b"", "thing-1.0.dist-info/WHEEL": b""}),
    "METADATA of another": lambda _: archive(members("other")),
    "METADATA too deep": lambda project: archive(members(info=f"x/{project}-1.0.dist-info")),
    "cut": lambda project: archive(members(project, after=noise(PADDING)))[:-100],
    "encrypted": lambda project: marked(archive(members(project)), 1, zipfile.ZIP_STORED),
    "an unknown method": lambda project: marked(archive(members(project)), 0, 97),
    "broken deflate": damaged(zipfile.ZIP_DEFLATED),
    "broken bzip2": damaged(zipfile.ZIP_BZIP2),
    "broken lzma": damaged(zipfile.ZIP_LZMA),
    "wrong checksum": lambda project: patched(archive(members(project)), OWN, OWN.replace(b"own", b"OWN")),
    "a directory that lies": lambda project: (
        archive(members(project))[:-22] + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 9, 9, 2**31, 7, 0)
    ),
}


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "whole"])
@pytest.mark.parametrize("kind", NO_WHEELS)
def test_what_is_no_wheel(
    kind: str, ranges: bool, place: Callable[..., Place], upstreams: Callable[..., Upstream]
) -> None:
    """502 with a text that names the wheel; not a 404, which would say that there is none."""
    found = place(b"", upstreams(ranges=True))
    data = NO_WHEELS[kind](found.project)
    found.put(data if ranges else without_ranges(data))
    answer = found.metadata()
    assert answer.status_code == 502, (answer.status_code, answer.text)
    assert found.path.rpartition("/")[2] in answer.text


def peak(server: Mirror) -> int:
    """The most memory in bytes that the processes of a mirror ever had."""
    status = "".join(Path(f"/proc/{pid}/status").read_text() for pid in processes(server))
    return 1024 * sum(int(found) for found in re.findall(r"VmHWM:\s+(\d+) kB", status))


@pytest.mark.parametrize("lying", [False, True], ids=["says its size", "lies about its size"])
def test_a_bomb(lying: bool, pypi: PyPI, mirror: Callable[..., Mirror]) -> None:
    """METADATA of 300 MB in a wheel of 300 KB: an error, and memory stays where it was."""
    size = 300_000_000
    packer = zlib.compressobj(9, wbits=-15)
    packed = b"".join(packer.compress(bytes(size // 30)) for _ in range(30)) + packer.flush()
    placeholder = archive({"thing-1.0.dist-info/METADATA": b"x" * len(packed)})
    data = bytearray(placeholder.replace(b"x" * len(packed), packed))
    claimed = 1000 if lying else size
    for signature, method, sizes in ((b"PK\x03\x04", 8, 18), (b"PK\x01\x02", 10, 20)):
        at = data.index(signature) if signature == b"PK\x03\x04" else data.rindex(signature)
        struct.pack_into("<H", data, at + method, zipfile.ZIP_DEFLATED)
        struct.pack_into("<LL", data, at + sizes, len(packed), claimed)
    filename = "thing-1.0-py3-none-any.whl"
    pypi.index.pages["/simple/thing/"] = json_page(json_files(json_file(f"{pypi.files.url}/{filename}")))
    pypi.files.pages[f"/{filename}"] = bytes(data)
    server = mirror(pypi)
    (file,) = document(server.at("live") + "thing/")["files"]
    assert http.get(server.url + "/files/thing/x/other-1.0-py3-none-any.whl.metadata").status_code == 404
    before = peak(server)
    answer = http.get(server.same(file["url"]) + ".metadata")
    assert answer.status_code == 502
    assert filename in answer.text
    assert peak(server) - before < 100_000_000


# --- later


def test_metadata_that_is_not_the_wheels(place: Callable[..., Place]) -> None:
    """Without a hash it can turn out wrong when the wheel comes. From then on it is the wheel's, and stays so."""
    found = thing(place, lambda project: archive(members(project)), **{"core-metadata": True})
    found.put(OWN + b"Requires-Dist: injected\n", ".metadata")
    assert b"injected" in found.metadata().content
    assert http.get(found.address).status_code == 200
    for _ in range(2):
        assert found.metadata().content == OWN


def test_metadata_that_is_not_the_wheels_which_came_meanwhile(place: Callable[..., Place]) -> None:
    """Whichever is frozen last is compared with the other."""
    found = thing(place, lambda project: archive(members(project)), **{"core-metadata": True})
    end = threading.Event()
    found.put(Response([OWN + b"Requires-Dist: injected\n", end]), ".metadata")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(found.metadata)
        while not found.upstream.count(found.path + ".metadata"):
            time.sleep(0.01)
        assert http.get(found.address).status_code == 200
        end.set()
        with pytest.raises(httpx.RemoteProtocolError):
            asked.result()
    for _ in range(2):
        assert found.metadata().content == OWN


@pytest.mark.parametrize("own", [True, False], ids=["own", "none"])
def test_offline_with_a_frozen_wheel(own: bool, pypi: PyPI, mirror: Callable[..., Mirror], pin: str) -> None:
    """Whoever has the wheel has its metadata, though nobody has asked for that before."""
    pypi.core_metadata = own
    pypi.upload(dist := wheel("thing", "1.0"), "2024-01-01T00:00:00Z")
    pypi.upload(other := wheel("thing", "2.0"), "2024-01-01T00:00:00Z")
    server = mirror(pypi)
    wheres = [server.at("2024-01-02"), server.pin(pin, pypi.url)]
    pages = [document(f"{where}thing/")["files"] for where in wheres]
    assert [len(files) for files in pages] == [2, 2]
    for files in pages:
        assert http.get(server.same(files[0]["url"])).content == dist.data
    for upstream in pypi.upstreams:
        upstream.stop()
    for files in pages:
        assert http.get(server.same(files[0]["url"]) + ".metadata").content == dist.metadata
        assert http.get(server.same(files[1]["url"]) + ".metadata").status_code in (502, 504)
    server.restart("--offline")
    for files in pages:
        assert http.get(server.same(files[0]["url"]) + ".metadata").content == dist.metadata
        assert http.get(server.same(files[1]["url"]) + ".metadata").status_code == 504
        assert files[1]["filename"] == other.filename


def test_of_a_wheel_that_came_without_an_index(upstream: Upstream, server: Mirror, pin: str) -> None:
    """`pip install https://…/thing.whl` through a pin: the upstream's own if there is one, else the wheel's."""
    for project, own in (("first", None), ("second", OWN)):
        dist = wheel(project, "1.0")
        upstream.pages[f"/{dist.filename}"] = dist.data
        if own:
            upstream.pages[f"/{dist.filename}.metadata"] = own
        answer = http.get(server.pin(pin, f"{upstream.url}/{dist.filename}.metadata"))
        assert (answer.status_code, answer.content) == (200, own or dist.metadata)


# --- queries


SIGNED = "sig=a%2Fb&exp=1"


@pytest.mark.parametrize("own", [False, True], ids=["none", "own"])
@pytest.mark.parametrize("form", ["{url}?{query}.metadata", "{url}.metadata?{query}"], ids=["pip", "uv"])
def test_links_with_queries(form: str, own: bool, upstream: Upstream, server: Mirror, pin: str) -> None:
    """pip puts the suffix behind the query and uv behind the path; both mean the same file."""
    dist = wheel("thing", "1.0")
    entry = json_file(f"../../files/{dist.filename}?{SIGNED}", **({"core-metadata": True} if own else {}))
    upstream.pages["/simple/thing/"] = json_page(json_files(entry))
    upstream.pages[f"/files/{dist.filename}?{SIGNED}"] = dist.data
    if own:
        upstream.pages[f"/files/{dist.filename}.metadata?{SIGNED}"] = dist.metadata
    (file,) = document(server.pin(pin, f"{upstream.url}/simple/thing/"))["files"]
    url, _, query = server.same(file["url"]).partition("?")
    assert query == SIGNED
    address = form.format(url=url, query=query)
    assert (http.get(address).status_code, http.get(address).content) == (200, dist.metadata)
    assert (upstream.count(f"/files/{dist.filename}") == 0) == own
    assert upstream.count(f"/files/{dist.filename}.metadata?{SIGNED}") == own
    assert http.get(server.same(file["url"])).content == dist.data
    upstream.stop()
    for other in ("{url}?{query}.metadata", "{url}.metadata?{query}"):
        assert http.get(other.format(url=url, query=query)).content == dist.metadata


@pytest.mark.parametrize("own", [False, True], ids=["none", "own"])
def test_a_dated_index_whose_links_have_queries(own: bool, shared: tuple[PyPI, Mirror]) -> None:
    """The metadata file is at the path with the suffix (PEP 658), whatever the query."""
    pypi, server = shared
    dist = wheel(f"thing-{next(_projects)}", "1.0")
    path = f"/signed/{dist.filename}"
    entry = json_file(f"{pypi.files.url}{path}?{SIGNED}", **({"core-metadata": True} if own else {}))
    pypi.index.pages[f"/simple/{dist.name}/"] = json_page(json_files(entry))
    pypi.files.pages[f"{path}?{SIGNED}"] = dist.data
    if own:
        pypi.files.pages[f"{path}.metadata?{SIGNED}"] = dist.metadata
    (file,) = document(server.at("live") + f"{dist.name}/")["files"]
    assert "?" not in file["url"]
    assert http.get(server.same(file["url"]) + ".metadata").content == dist.metadata
    assert http.get(server.same(file["url"])).content == dist.data
    assert pypi.files.count(f"{path}.metadata?{SIGNED}") == own


# --- private


def test_metadata_of_a_private_wheel_is_private(upstreams: Callable[..., Upstream], server: Mirror, pin: str) -> None:
    """Also where it is read out of a frozen wheel."""
    upstream = upstreams(ranges=True, auth=("reader", "secret"))
    dists: list[Dist] = [wheel("thing", version) for version in ("1.0", "2.0")]
    files = [json_file(f"/files/{dist.filename}", hashes={"sha256": dist.sha256}) for dist in dists]
    upstream.pages["/simple/thing/"] = json_page(json_files(*files))
    upstream.pages |= {f"/files/{dist.filename}": dist.data for dist in dists}
    page = server.pin(pin, f"{upstream.url}/simple/thing/")
    basic = {"Authorization": upstream.basic()}
    assert ask(page, JSON).status_code == 401
    listed = document(page, **basic)["files"]
    first, second = (server.same(file["url"]) for file in listed)
    assert http.get(first, headers=basic).content == dists[0].data  # frozen, and metadata out of it
    for address, dist in ((first, dists[0]), (second, dists[1])):
        for _ in range(2):
            assert http.get(f"{address}.metadata").status_code == 401
            answer = http.get(f"{address}.metadata", headers=basic)
            assert (answer.status_code, answer.content) == (200, dist.metadata)
            assert answer.headers["cache-control"].startswith("private")
    upstream.stop()
    for address in (first, second):
        assert http.get(f"{address}.metadata", headers=basic).status_code == 200
        assert http.get(f"{address}.metadata").status_code == 401

"""`Cache-Control: only-if-cached`: what is stored is answered, all else is a 504, and no upstream is asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx
import pytest

from tests.support import http
from tests.support.index import PIP, document, shared_pypi
from tests.support.mirror import Mirror
from tests.support.npm import ASKED, NpmRegistry
from tests.support.packages import wheel
from tests.support.registries import HTML, JSON, PyPI
from tests.support.upstream import Response, Upstream

DATE = "2024-01-04"
PIN = "cached-2024-01-04"
ONLY = {"Cache-Control": "only-if-cached"}


@dataclass
class Place:
    """A mirror, and what is behind it."""

    pypi: PyPI
    npm: NpmRegistry
    files: Upstream
    mirror: Mirror

    def asked(self) -> int:
        """How many requests all upstreams have had."""
        return sum(len(each.requests) for each in (*self.pypi.upstreams, self.npm.upstream, self.files))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with shared_pypi(tmp_path_factory.mktemp("cached")) as (pypi, mirror), Upstream() as npm, Upstream() as files:
        yield Place(pypi, NpmRegistry(npm), files, mirror)


def _file(place: Place, name: str) -> str:
    """The address of a new project's only file, which is not frozen yet."""
    pypi = place.pypi
    dist = wheel(name, "1.0")
    pypi.upload(dist, "2024-01-01T00:00:00Z")
    [file] = document(f"{place.mirror.at(DATE)}{name}/")["files"]
    return place.mirror.same(file["url"])


def _plain(place: Place, name: str) -> str:
    place.files.pages[f"/{name}.txt"] = Response(b"bytes")
    return place.mirror.pin(PIN, f"{place.files.url}/{name}.txt")


def _raw(place: Place, name: str) -> str:
    return _plain(place, name).replace(f"/{PIN}/", f"/{PIN}/raw/")


def _git(place: Place, name: str) -> str:
    place.files.pages[f"/{name}/HEAD"] = Response(b"ref: refs/heads/main\n")
    return place.mirror.pin(PIN, f"{place.files.url}/{name}/HEAD")


def _dated(place: Place, name: str) -> str:
    place.pypi.upload(wheel(name, "1.0"), "2024-01-01T00:00:00Z")
    return f"{place.mirror.at(DATE)}{name}/"


def _json(place: Place, name: str) -> str:
    _dated(place, name)
    return f"{place.mirror.at(DATE)}pypi/{name}/json"


def _pinned_page(place: Place, name: str) -> str:
    _dated(place, name)
    return place.mirror.pin(PIN, f"{place.pypi.url}{name}/")


def _pinned_wheel(place: Place, name: str) -> str:
    dist = wheel(name, "1.0")
    place.pypi.upload(dist, "2024-01-01T00:00:00Z")
    return place.mirror.pin(PIN, place.pypi.file_url(dist))


def _packument(place: Place, name: str) -> str:
    place.npm.publish(name, "1.0.0")
    return place.mirror.pin(PIN, f"{place.npm.url}{name}")


def _tarball(place: Place, name: str) -> str:
    return f"{_packument(place, name)}/-/{name}-1.0.0.tgz"


KINDS: dict[str, tuple[Callable[[Place, str], str], dict[str, str]]] = {
    "a file behind a pin": (_plain, {}),
    "its raw bytes": (_raw, {}),
    "a file for git": (_git, {"User-Agent": "git/2.40"}),
    "an index page behind a pin, for pip": (_pinned_page, {"Accept": PIP}),
    "an index page behind a pin, for a browser": (_pinned_page, {"Accept": "text/html,*/*;q=0.8"}),
    "a wheel behind a pin": (_pinned_wheel, {}),
    "its metadata": (lambda place, name: f"{_pinned_wheel(place, name)}.metadata", {}),
    "a dated page as JSON": (_dated, {"Accept": JSON}),
    "a dated page as HTML": (_dated, {"Accept": HTML}),
    "a dated page of the JSON API": (_json, {}),
    "a file": (_file, {}),
    "metadata of a file": (lambda place, name: f"{_file(place, name)}.metadata", {}),
    "an npm packument, for npm": (_packument, {"Accept": ASKED}),
    "an npm packument, for curl": (_packument, {}),
    "an npm tarball": (_tarball, {"User-Agent": "npm/10"}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_address(kind: str, place: Place) -> None:
    make, headers = KINDS[kind]
    address = make(place, f"kind{list(KINDS).index(kind)}")
    before = place.asked()
    for method in ("GET", "HEAD", "GET"):
        answer = http.request(method, address, headers=headers | ONLY)
        assert answer.status_code == 504, answer.text
        assert method == "HEAD" or "only-if-cached" in answer.text
    assert place.asked() == before
    fetched = http.get(address, headers=headers)
    assert fetched.status_code == 200, fetched.text
    before = place.asked()
    assert before
    for method in ("HEAD", "GET", "GET"):
        answer = http.request(method, address, headers=headers | ONLY)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-length"] == fetched.headers["content-length"]
        assert "; hit" in answer.headers["cache-status"]
    assert answer.content == fetched.content
    assert place.asked() == before


def test_a_list_of_projects(place: Place) -> None:
    """It is stored for an instant once it has been observed after it."""
    address, headers = place.mirror.at("2024-01-03"), {"Accept": JSON}
    assert http.get(address, headers=headers | ONLY).status_code == 504
    assert http.get(address, headers=headers).status_code == 200
    assert http.get(address, headers=headers | ONLY).status_code == 200


def test_live_pages_are_never_stored(place: Place) -> None:
    _dated(place, "living")
    for days in ("live", "live-7d"):
        address = f"{place.mirror.at(days)}living/"
        assert http.get(address, headers={"Accept": JSON}).status_code == 200
        assert http.get(address, headers={"Accept": JSON} | ONLY).status_code == 504


def test_metadata_of_a_frozen_wheel_is_made_of_it(place: Place) -> None:
    address = _file(place, "made")
    assert http.get(address).status_code == 200
    before = place.asked()
    assert http.get(f"{address}.metadata", headers=ONLY).status_code == 200
    assert place.asked() == before


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ("Only-If-Cached", 504),
        ("max-age=0, only-if-cached", 504),
        ("only-if-cached ,no-cache", 504),
        ("only-if-cached-not", 200),
        ("max-age=0", 200),
        ("no-cache, no-store", 200),
        ("", 200),
    ],
)
def test_spellings(value: str, status: int, place: Place) -> None:
    address = _plain(place, f"spelled-{value.encode().hex()}")
    assert http.get(address, headers={"Cache-Control": value}).status_code == status


def test_a_second_line_of_the_header(place: Place) -> None:
    headers = [("Cache-Control", "max-age=0"), ("Cache-Control", "only-if-cached")]
    assert http.get(_plain(place, "lines"), headers=headers).status_code == 504


def test_no_other_directive_renews_what_is_frozen(place: Place) -> None:
    address = _plain(place, "kept")
    first = http.get(address).content
    place.files.pages["/kept.txt"] = Response(b"other")
    for value in ("no-cache", "no-store", "max-age=0", "min-fresh=60, no-transform"):
        assert http.get(address, headers={"Cache-Control": value}).content == first


def test_a_download_that_is_under_way_is_not_stored_yet(place: Place) -> None:
    """Nor is it disturbed."""
    arrives = threading.Event()
    place.files.pages["/slow.txt"] = Response([b"one", arrives, b"two"])
    address = place.mirror.pin(PIN, f"{place.files.url}/slow.txt")
    with ThreadPoolExecutor() as pool:
        whole = pool.submit(http.get, address)
        place.files.wait("/slow.txt")
        assert http.get(address, headers=ONLY).status_code == 504
        arrives.set()
        assert whole.result().content == b"onetwo"
    assert http.get(address, headers=ONLY).content == b"onetwo"


def test_requests_at_the_same_time_do_not_fail_each_other(place: Place) -> None:
    def ask(number: int) -> httpx.Response:
        return http.get(address, headers=ONLY if number % 2 else {})

    for turn in range(5):
        address = _file(place, f"turn{turn}")
        with ThreadPoolExecutor(10) as pool:
            answers = list(pool.map(ask, range(10)))
        assert {answer.status_code for answer in answers[::2]} == {200}
        assert {answer.status_code for answer in answers[1::2]} <= {200, 504}


def test_a_private_copy_takes_an_answer_of_the_upstream(mirror: Callable[..., Mirror]) -> None:
    """For other credentials it is not stored; without any it is a challenge, as ever."""
    with Upstream(auth=("user", "pass"), tokens={"X-Api-Key": "other"}) as upstream:
        upstream.pages["/private"] = Response(b"secret")
        running = mirror()
        address = running.pin(PIN, f"{upstream.url}/private")
        assert http.get(address, auth=("user", "pass")).status_code == 200
        asked = len(upstream.requests)
        assert http.get(address, auth=("user", "pass"), headers=ONLY).content == b"secret"
        assert http.get(address, headers={"X-Api-Key": "other"} | ONLY).status_code == 504
        assert http.get(address, headers=ONLY).status_code == 401
        assert len(upstream.requests) == asked


def test_what_is_not_stored_is_no_warning(place: Place) -> None:
    assert http.get(_plain(place, "quiet"), headers=ONLY).status_code == 504
    assert "quiet.txt" not in place.mirror.log()

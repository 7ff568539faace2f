"""What is sent to a registry for what is observed, and what of its answers is believed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.support.index import ago, ask, filenames, instant, shared_pypi
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.registries import PyPI
from tests.support.upstream import Response


def test_caches_on_the_way_are_to_ask_the_registry(pypi: PyPI, mirror: Callable[..., Mirror]) -> None:
    """RFC 9111 section 5.2.1.1: for pages and the list, live and of dates, and in a condition too."""
    pypi.upload(wheel("demo", "1.0"), ago(days=1))
    server = mirror(pypi)
    for address in ("live/demo", "live", f"{instant()}/demo", instant()):
        assert ask(server.at(address)).status_code == 200
    asked = {request.headers.get("cache-control") for request in pypi.index.requests}
    assert asked == {"max-age=0"}


def test_a_cache_that_heeds_it_is_no_hindrance(pypi: PyPI, mirror: Callable[..., Mirror]) -> None:
    """It has an old page, and asks for a new one if it is told to."""
    pypi.upload(wheel("demo", "1.0"), ago(days=1))
    page = pypi.index.otherwise
    pypi.index.otherwise = lambda request: (
        page(request)
        if request.headers.get("cache-control") == "max-age=0"
        else Response(b"old", 200, {"Age": "40000"})
    )
    server = mirror(pypi)
    assert filenames(server.at(instant()) + "demo/")


RETRY_AFTER = {
    "30": "30",
    "Wed, 21 Oct 2015 07:28:00 GMT": "Wed, 21 Oct 2015 07:28:00 GMT",
    "3\x010": None,
    "\x7f": None,
    "30\x0bx": None,
    "\xe9\xff": None,
    "soon": None,
    "9" * 3000: None,
    "<script>alert(1)</script>": None,
    "": None,
}


@pytest.fixture(scope="module")
def tired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PyPI, Mirror]]:
    with shared_pypi(tmp_path_factory.mktemp("tired")) as found:
        yield found


@pytest.mark.parametrize(("sent", "passed"), RETRY_AFTER.items(), ids=range(len(RETRY_AFTER)))
def test_a_retry_after_is_passed_on_if_it_is_one(
    sent: str, passed: str | None, tired: tuple[PyPI, Mirror], pin: str
) -> None:
    pypi, server = tired
    for path, address in {
        "/simple/demo/": f"{server.at('live')}demo/",
        "/simple/": server.at("live"),
        "/x.txt": server.pin(pin, f"{pypi.index.url}/x.txt"),
    }.items():
        pypi.index.pages[path] = Response(b"", 503, {"Retry-After": sent})
        answer = ask(address)
        assert answer.status_code in (502, 503), (answer.status_code, address)
        if path != "/x.txt":
            assert answer.headers.get("retry-after") == passed
        else:
            assert answer.headers.get("retry-after") in (sent.strip(), passed, None)

"""What is fetched before a client asks for it: the right things, within bounds, and in nobody's way."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from httpcache.store.local import LocalStore
from pypi_adapter.registry.requested_projects import AHEAD, RequestedProjects
from pypi_adapter.web.turns import AT_ONCE
from pypi_adapter.web.walk import DEPTH, FIRST
from tests.support import http
from tests.support.agents import agent
from tests.support.clients import Clients
from tests.support.command import run
from tests.support.config import configured, table
from tests.support.index import ago, document
from tests.support.inside import until
from tests.support.mirror import Mirror
from tests.support.packages import Dist, wheel
from tests.support.registries import JSON, PyPI
from tests.support.upstream import NOT_FOUND, Request, Response, Upstream

OLD = "2023-06-01T00:00:00Z"
DATE = "2024-01-02"
AGENT = agent()
UV = agent("uv/0.13.9")
SETTLED = 0.5
"""Seconds without a request after which nothing more is expected."""


@pytest.fixture
def index(upstreams: Callable[..., Upstream]) -> PyPI:
    """A registry that has metadata files, as PyPI has."""
    return PyPI(upstreams(), upstreams(ranges=True), core_metadata=True)


def upload(index: PyPI, *dists: Dist) -> None:
    """Publish files, in the order of their versions."""
    for dist in dists:
        index.upload(dist, OLD)


def chain(length: int) -> list[Dist]:
    """Projects of which each requires the next: p0, p1, ..."""
    return [wheel(f"p{number}", "1.0", [f"p{number + 1}"] if number + 1 < length else []) for number in range(length)]


def ask(server: Mirror, project: str, when: str = DATE, user_agent: str = AGENT) -> dict[str, str]:
    """Ask for a page as an installer does; return the links of the files by their names."""
    page = document(f"{server.at(when)}{project}/", **{"User-Agent": user_agent})
    return {file["filename"]: server.same(file["url"]) for file in page["files"]}


def ask_metadata(server: Mirror, link: str, user_agent: str = AGENT) -> bytes:
    """Ask for the metadata of a file as an installer does."""
    answer = http.get(f"{link}.metadata", headers={"User-Agent": user_agent})
    assert answer.status_code == 200, answer.text
    return answer.content


def asked(index: PyPI) -> tuple[set[str], set[str]]:
    """The projects whose pages the registry was asked for, and the files of which it was asked for METADATA."""
    pages = {seen.path.split("/")[2] for seen in list(index.index.requests)}
    return pages, {seen.path.rpartition("/")[2].partition("-py3")[0] for seen in list(index.files.requests)}


def settled(index: PyPI) -> tuple[set[str], set[str]]:
    """The same, when nothing more comes."""
    count, since = -1, 0.0

    def is_quiet() -> bool:
        nonlocal count, since
        now = sum(len(upstream.requests) for upstream in index.upstreams)
        if now != count:
            count, since = now, time.monotonic()
        return time.monotonic() - since > SETTLED

    until(is_quiet, "an end of the requests")
    return asked(index)


def counted(server: Mirror) -> tuple[int, int]:
    """What the log says at the end: how much was fetched ahead, and how much of it was asked for later."""
    server.stop()
    found = re.findall(r"read ahead: (\d+) fetched, (\d+) of them asked for later, (\d+) in vain", server.log())
    assert all(int(fetched) == int(followed) + int(vain) for fetched, followed, vain in found)
    return sum(int(each[0]) for each in found), sum(int(each[1]) for each in found)


def test_a_walk_ends_if_nobody_follows_and_goes_on_if_somebody_does(index: PyPI, mirror: Callable[..., Mirror]) -> None:
    upload(index, *chain(8))
    server = mirror(index)
    ask(server, "p0")
    near = range(DEPTH + 1)
    assert settled(index) == ({f"p{n}" for n in near}, {f"p{n}-1.0" for n in near})
    links = ask(server, "p1")
    ask_metadata(server, *links.values())
    near = range(DEPTH + 2)
    assert settled(index) == ({f"p{n}" for n in near}, {f"p{n}-1.0" for n in near})
    assert index.index.count("/simple/p1/") == 1
    assert counted(server) == (2 * len(near) - 1, 2)


@pytest.mark.parametrize(
    "user_agent", ["", "curl/8.1", "Mozilla/5.0 (X11; Linux x86_64)", "pip/26.3 {}", "poetry/2.1.1 CPython/3.12.4"]
)
def test_only_for_installers_that_say_what_they_install_for(
    user_agent: str, index: PyPI, mirror: Callable[..., Mirror]
) -> None:
    upload(index, *chain(3))
    server = mirror(index)
    (link,) = ask(server, "p0", user_agent=user_agent).values()
    ask_metadata(server, link, user_agent)
    assert settled(index) == ({"p0"}, {"p0-1.0"})


def test_off(index: PyPI, mirror: Callable[..., Mirror]) -> None:
    upload(index, *chain(3))
    server = mirror(index, "--pypi-read-ahead", "off")
    ask_metadata(server, *ask(server, "p0").values())
    assert settled(index) == ({"p0"}, {"p0-1.0"})
    assert counted(server) == (0, 0)


def test_a_setting_that_is_none(index: PyPI) -> None:
    refused = run("serve", "--pypi-read-ahead", "sometimes")
    assert refused.returncode == 2
    assert "--pypi-read-ahead: 'sometimes' is not a boolean" in refused.stderr


def test_on_a_live_index_only_metadata_of_what_was_asked_for(index: PyPI, mirror: Callable[..., Mirror]) -> None:
    """A live page is asked for anew for each client, so one that was read ahead would be of no use."""
    upload(index, *chain(3), wheel("p0", "0.9"))
    server = mirror(index)
    links = ask(server, "p0", "live")
    assert settled(index) == ({"p0"}, {"p0-1.0"})
    ask_metadata(server, links["p0-1.0-py3-none-any.whl"])
    ask_metadata(server, links["p0-0.9-py3-none-any.whl"])
    assert settled(index) == ({"p0"}, {"p0-1.0", "p0-0.9"})
    assert index.index.count() == 1


def test_what_the_environment_needs(index: PyPI, mirror: Callable[..., Mirror]) -> None:
    """The markers, the version of Python and the platform decide, the specifiers, and the extras that are asked for."""
    upload(
        index,
        wheel(
            "top",
            "1.0",
            [
                'linux; sys_platform == "linux"',
                'windows; sys_platform == "win32"',
                'tests; extra == "test"',
                "capped>=1,<3",
                "more[fast]",
            ],
        ),
        *(wheel(name, "1.0") for name in ("linux", "windows", "tests", "quick")),
        *(wheel("capped", version) for version in ("1.0", "2.0", "3.0")),
        wheel("capped", "2.5", requires_python=">=3.13"),
        wheel("capped", "2.9a1"),
        wheel("capped", "2.8", tag="cp312-cp312-win_amd64"),
        wheel("more", "1.0", ['quick; extra == "fast"', 'tests; extra == "test"']),
    )
    index.upload(wheel("capped", "2.7"), OLD, yanked=True)
    server = mirror(index)
    ask(server, "top")
    assert settled(index) == (
        {"top", "linux", "capped", "more", "quick"},
        {"top-1.0", "linux-1.0", "capped-2.0", "more-1.0", "quick-1.0"},
    )


@pytest.mark.parametrize("user_agent", [AGENT, UV])
def test_the_next_older_versions_if_the_newest_are_refused(
    user_agent: str, index: PyPI, mirror: Callable[..., Mirror]
) -> None:
    upload(index, *(wheel("demo", f"{number}.0") for number in range(1, 10)))
    server = mirror(index)
    links = ask(server, "demo", user_agent=user_agent)
    for number, expected in ((9, {9}), (8, {9, 8, 7}), (7, {9, 8, 7, 6, 5}), (6, {9, 8, 7, 6, 5, 4, 3})):
        ask_metadata(server, links[f"demo-{number}.0-py3-none-any.whl"], user_agent)
        assert settled(index) == ({"demo"}, {f"demo-{each}.0" for each in expected})


@pytest.mark.parametrize("status", [429, 503, 500])
def test_a_registry_that_asks_for_a_rest_gets_it(status: int, index: PyPI, mirror: Callable[..., Mirror]) -> None:
    """Only what is read ahead stops: a client that asks is answered."""
    upload(index, *chain(3), wheel("other", "1.0", ["another"]), wheel("another", "1.0"))
    index.index.pages["/simple/p1/"] = Response(b"later", status, {"Retry-After": "2000"})
    server = mirror(index)
    ask(server, "p0")
    assert settled(index) == ({"p0", "p1"}, {"p0-1.0"})
    links = ask(server, "other")
    assert settled(index) == ({"p0", "p1", "other"}, {"p0-1.0"})
    ask_metadata(server, *links.values())
    assert settled(index) == ({"p0", "p1", "other"}, {"p0-1.0", "other-1.0"})
    assert "ERROR" not in server.log()


@pytest.mark.parametrize("by", ["rule", "registry"])
def test_what_is_withheld_is_not_fetched(by: str, index: PyPI, tmp_path: Path) -> None:
    upload(index, *chain(4))
    if by == "registry":
        index.set_status("p1", "quarantined")
    config = table("block", project="p1", reason="bad") if by == "rule" else ""
    with configured(tmp_path / "mirror", config, index.url) as server:
        ask(server, "p0")
        assert settled(index) == ({"p0", "p1"}, {"p0-1.0"})


def test_no_wheel_is_fetched_whole_for_its_metadata(
    upstreams: Callable[..., Upstream], mirror: Callable[..., Mirror]
) -> None:
    """A host that gives no parts of files, or of which that is not known yet, is left alone."""
    for ranges in (False, True):
        index = PyPI(upstreams(), upstreams(ranges=ranges))
        upload(index, *chain(3))
        server = mirror(index)
        links = ask(server, "p0")
        assert settled(index) == ({"p0"}, set())
        ask_metadata(server, *links.values())
        pages, files = settled(index)
        assert pages == {"p0", "p1", "p2"} if ranges else {"p0", "p1"}
        assert files == ({"p0-1.0", "p1-1.0", "p2-1.0"} if ranges else {"p0-1.0"})


def test_a_group_asks_its_registries_in_their_order(
    index: PyPI, upstreams: Callable[..., Upstream], tmp_path: Path
) -> None:
    """A name that the first registry has is not told to the second."""
    private = PyPI(upstreams(), upstreams(ranges=True), core_metadata=True)
    upload(private, wheel("secret", "1.0", ["own", "common"]), wheel("own", "1.0"))
    upload(index, wheel("common", "1.0"), wheel("own", "99.0", ["evil"]), wheel("evil", "1.0"))
    config = table("registry", name="internal", index=private.url) + table(
        "group", name="everything", registries=["internal", "pypi"]
    )
    with configured(tmp_path / "mirror", config, index.url) as server:
        ask(server, "secret", f"everything/{DATE}")
        assert settled(private) == ({"secret", "own", "common"}, {"secret-1.0", "own-1.0"})
        assert settled(index) == ({"common"}, {"common-1.0"})


def test_a_registry_that_is_not_read_ahead(index: PyPI, tmp_path: Path) -> None:
    upload(index, *chain(3))
    config = table("registry", name="internal", index=index.url, **{"read-ahead": False})
    with configured(tmp_path / "mirror", config, index.url) as server:
        ask_metadata(server, *ask(server, "p0", f"internal/{DATE}").values())
        assert settled(index) == ({"p0"}, {"p0-1.0"})
        ask(server, "p0")
        assert settled(index) == ({"p0", "p1", "p2"}, {"p0-1.0", "p1-1.0", "p2-1.0"})


def test_what_was_only_read_ahead_was_not_requested(index: PyPI, mirror: Callable[..., Mirror]) -> None:
    """The next capture looks at what clients have requested, and at nothing else."""
    upload(index, *chain(3))
    server = mirror(index)
    ask(server, "p0")
    settled(index)
    server.stop()
    before = index.index.count("/simple/p1/")
    for dist in chain(3):
        index.upload(wheel(dist.project, "2.0"), ago(hours=1))
    captured = run("capture", "--data", server.data, "--pypi-upstream", index.url, "--allow-network", "127.0.0.0/8")
    assert captured.returncode == 0, captured.stderr
    assert (index.index.count("/simple/p0/"), index.index.count("/simple/p1/")) == (2, before)
    store = LocalStore(server.data)
    assert set(anyio.run(RequestedProjects(store, "pypi", AHEAD).all)) == {"p1", "p2"}  # for `undo-future`
    store.close()
    server.start("--offline")
    assert list(ask(server, "p1")) == ["p1-1.0-py3-none-any.whl"]  # what was observed is there


def test_a_page_that_hangs_delays_its_client_for_seconds_only(index: PyPI, mirror: Callable[..., Mirror]) -> None:
    upload(index, *chain(3))
    hanging, page = threading.Event(), index.index.otherwise

    def stalls(request: Request) -> Response:
        first = index.index.count("/simple/p1/") == 1
        return Response([b"{", hanging], 200, {"Content-Type": JSON}) if first else page(request)

    index.index.pages["/simple/p1/"] = stalls
    server = mirror(index)
    ask(server, "p0")
    index.index.wait("/simple/p1/")
    assert list(ask(server, "p1")) == ["p1-1.0-py3-none-any.whl"]
    assert index.index.count("/simple/p1/") == 2
    hanging.set()
    assert "ERROR" not in server.log()


def test_metadata_that_requires_the_world(index: PyPI, mirror: Callable[..., Mirror]) -> None:
    upload(index, wheel("top", "1.0", ["top", *(f"p{number}[x]>=1.{number}" for number in range(10_000))]))
    server = mirror(index)
    ask(server, "top")
    pages, files = settled(index)
    assert 2 < len(pages) <= FIRST + AT_ONCE
    assert files == {"top-1.0"}
    assert counted(server)[1] == 0


def test_projects_that_require_one_another(index: PyPI, mirror: Callable[..., Mirror]) -> None:
    """Each asks for many others, and all in a circle: what nobody follows has an end."""
    names = [f"p{number}" for number in range(150)]
    upload(index, *(wheel(name, "1.0", names) for name in names))
    server = mirror(index)
    ask(server, "p0")
    pages, files = settled(index)
    assert 2 < len(pages) + len(files) <= FIRST + 2 * AT_ONCE


def test_as_much_is_read_as_was_right(index: PyPI, mirror: Callable[..., Mirror]) -> None:
    """What a client follows lets more be read ahead than at first."""
    for top in "ab":
        names = [f"{top}{number}" for number in range(60)]
        upload(index, wheel(f"{top}-top", "1.0", names), *(wheel(name, "1.0") for name in names))
    server = mirror(index)
    ask(server, "a-top")
    pages, files = settled(index)
    assert len(pages) + len(files) <= FIRST + 2 * AT_ONCE
    for name in sorted(pages):
        ask_metadata(server, *ask(server, name).values())
    followed = sum(map(len, settled(index)))
    ask(server, "b-top")
    assert sum(map(len, settled(index))) - followed > len(pages) + len(files)


def test_uv_asks_for_itself(index: PyPI, mirror: Callable[..., Mirror]) -> None:
    """It asks for many things at once, so nothing is read ahead from a page or from METADATA."""
    upload(index, *chain(4))
    server = mirror(index)
    (link,) = ask(server, "p0", user_agent=UV).values()
    ask_metadata(server, link, UV)
    assert settled(index) == ({"p0"}, {"p0-1.0"})


@pytest.mark.parametrize(
    "requirement",
    [
        "../../secret",
        "a b",
        "ünïcode",
        "x" * 900,
        "one>=" + "1" * 900,
        "one===" + "x" * 500,
        "%2e%2e",
        "one @ file:///x",
    ],
)
def test_odd_requirements(requirement: str, index: PyPI, mirror: Callable[..., Mirror]) -> None:
    top = wheel("top", "1.0", ["good"])
    line = f"Requires-Dist: {requirement}\nRequires-Dist: good".encode()
    odd = Dist(
        top.project, top.version, top.filename, top.data, top.metadata.replace(b"Requires-Dist: good", line), None
    )
    upload(index, odd, wheel("good", "1.0"), wheel("one", "1.0"))
    server = mirror(index)
    ask(server, "top")
    pages, files = settled(index)
    assert "good" in pages
    assert pages - {"top", "good", "one", "x" * 900} == set()
    assert "good-1.0" in files
    assert "Traceback" not in server.log()
    assert "ERROR" not in server.log()


def test_metadata_that_is_not_there(index: PyPI, mirror: Callable[..., Mirror]) -> None:
    upload(index, *chain(3))
    index.files.otherwise = lambda _: NOT_FOUND
    server = mirror(index)
    ask(server, "p0")
    pages, _ = settled(index)
    assert pages == {"p0"}
    assert "Traceback" not in server.log()


def test_several_workers_share_what_they_read(index: PyPI, mirror: Callable[..., Mirror], clients: Clients) -> None:
    upload(index, *chain(6))
    server = mirror(index, "--workers", "2")
    assert set(clients.install("uv", server.at(DATE), ["p0"])) == {f"p{number}" for number in range(6)}
    metadata = [seen.path for seen in index.files.requests if seen.path.endswith(".metadata")]
    assert len(metadata) == len(set(metadata)) == 6


@pytest.mark.parametrize("client", ["pip", "uv"])
def test_real_clients_are_followed(client: str, index: PyPI, mirror: Callable[..., Mirror], clients: Clients) -> None:
    """What they install is what they install without it, nothing is fetched twice, and the guesses are right."""
    upload(index, *chain(6), wheel("p1", "0.5"), wheel("p3", "0.5"))
    server = mirror(index)
    found = clients.install(client, server.at(DATE), ["p0"])
    assert {name: pin.version for name, pin in found.items()} == {f"p{number}": "1.0" for number in range(6)}
    for number in range(6):
        assert index.index.count(f"/simple/p{number}/") == 1
    metadata = [seen.path for seen in index.files.requests if seen.path.endswith(".metadata")]
    assert len(metadata) == len(set(metadata)) == 6
    fetched, followed = counted(server)
    assert fetched == followed
    assert (fetched > 0) is (client == "pip")

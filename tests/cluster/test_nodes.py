"""Three nodes are one mirror: what is frozen, forgotten, ruled or observed on one is so on all."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.support import http
from tests.support.cluster import Cluster, answers, soon
from tests.support.command import run
from tests.support.index import PIP, ask, filenames, instant
from tests.support.packages import wheel
from tests.support.registries import JSON, PyPI
from tests.support.upstream import Request, Response, Upstream

PIN: Final = "a-2024-01-02"
BIG: Final = os.urandom(300_000)
SIZES: Final = {"empty": b"", "small": b"small", "big": BIG}


@pytest.mark.parametrize("name", SIZES)
def test_what_one_node_has_frozen_all_have(name: str, cluster: Cluster, upstream: Upstream) -> None:
    """From the engines the first time, then from the node itself."""
    upstream.pages["/file"] = Response(SIZES[name], headers={"Content-Type": "text/x-thing"})
    first, *others = cluster.start(3)
    target = f"{upstream.url}/file"
    assert http.get(first.pin(PIN, target)).content == SIZES[name]
    upstream.stop()
    for node in others:
        for turn in range(3):
            answer = http.get(node.pin(PIN, target))
            assert (answer.status_code, answer.content) == (200, SIZES[name])
            assert answer.headers["content-type"] == "text/x-thing"
            recalled = name == "big" and turn == 0
            assert answer.headers["cache-status"] == (
                "httpcache; hit; detail=recalled" if recalled else "httpcache; hit"
            )
        part = http.get(node.pin(PIN, target), headers={"Range": "bytes=1-3"})
        assert part.content == SIZES[name][1:4] or not SIZES[name]
    assert upstream.count() == 1


def test_a_race_of_fifty_on_three_nodes(cluster: Cluster, upstream: Upstream) -> None:
    """An upstream with other bytes each time: one of them is frozen, and whoever has a whole answer has it."""
    numbers = count()
    upstream.pages["/file"] = lambda request: Response(b"%d" % next(numbers) * 10_000)
    nodes = cluster.start(3)
    address = [nodes[number % 3].pin(PIN, f"{upstream.url}/file") for number in range(50)]
    with ThreadPoolExecutor(50) as pool:
        bodies = set(filter(None, pool.map(whole, address)))
    assert len(bodies) == 1
    assert {answer.content for answer in answers(nodes, PIN, f"{upstream.url}/file")} == bodies


def whole(address: str) -> bytes | None:
    """The body of an answer that is whole, or None."""
    try:
        answer = http.get(address)
    except httpx.TransportError:
        return None
    return answer.content if answer.status_code == 200 else None


def test_one_fetches_for_all(cluster: Cluster, upstream: Upstream) -> None:
    """What is fetched on one node is waited for on the others."""
    go = threading.Event()
    upstream.pages["/file"] = Response([b"x" * 10_000, go, b"y"], headers={"Content-Length": "10001"})
    nodes = cluster.start(3)
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(http.get, node.pin(PIN, f"{upstream.url}/file")) for node in nodes]
        upstream.wait("/file", 1)
        time.sleep(0.5)
        go.set()
        assert {each.result().content for each in asked} == {b"x" * 10_000 + b"y"}
    assert upstream.count("/file") == 1


def test_nobody_waits_for_the_last_byte_of_another_node(cluster: Cluster, upstream: Upstream) -> None:
    never = threading.Event()
    upstream.pages["/file"] = Response([BIG, never, b"end"], headers={"Content-Length": f"{len(BIG) + 3}"})
    nodes = cluster.start(2)
    with http.stream("GET", nodes[0].pin(PIN, f"{upstream.url}/file")) as slow:
        assert next(slow.iter_raw(1000))
        began = time.monotonic()
        with http.stream("GET", nodes[1].pin(PIN, f"{upstream.url}/file")) as other:
            assert next(other.iter_raw(1000)) == BIG[:1000]
            assert time.monotonic() - began < 5
    never.set()


def test_a_node_that_dies_leaves_its_download_to_another(cluster: Cluster, upstream: Upstream) -> None:
    never = threading.Event()
    upstream.pages["/file"] = Response([BIG, never], headers={"Content-Length": f"{len(BIG) + 3}"})
    nodes = cluster.start(2)
    with http.stream("GET", nodes[0].pin(PIN, f"{upstream.url}/file")) as answer:
        assert next(answer.iter_raw(1000))
        nodes[0].kill()
        upstream.pages["/file"] = Response(BIG)
        began = time.monotonic()
        assert http.get(nodes[1].pin(PIN, f"{upstream.url}/file")).content == BIG
        assert time.monotonic() - began < 10
    never.set()


@pytest.mark.parametrize("name", ["small", "big"])
def test_what_is_forgotten_is_forgotten_everywhere(name: str, cluster: Cluster, upstream: Upstream) -> None:
    upstream.pages["/file"] = Response(SIZES[name])
    nodes = cluster.start(3)
    target = f"{upstream.url}/file"
    for _ in range(3):
        assert {answer.content for answer in answers(nodes, PIN, target)} == {SIZES[name]}
    upstream.pages["/file"] = b"another"
    assert run("forget", PIN, "--yes", *cluster.store, environment=cluster.environment).returncode == 0
    soon(lambda: all(answer.content == b"another" for answer in answers(nodes, PIN, target)), "forget")


def test_a_rule_counts_everywhere(cluster: Cluster, pypi: PyPI) -> None:
    pypi.upload(wheel("demo", "1.0"), "2023-06-01T00:00:00Z")
    nodes = cluster.start(3)
    pages = [f"{node.at('2023-07-01')}demo/" for node in nodes]
    assert [filenames(page) for page in pages] == [["demo-1.0-py3-none-any.whl"]] * 3
    assert run("block", "demo", "--reason", "test", *cluster.store, environment=cluster.environment).returncode == 0
    soon(lambda: all(ask(page, PIP).status_code == 403 or not filenames(page) for page in pages), "block")


def test_an_instant_is_the_same_on_all_nodes_for_ever(cluster: Cluster, pypi: PyPI) -> None:
    """The theorem over three nodes: who answers first, and what changes meanwhile, is different each time."""
    nodes = cluster.start(3)
    answered: dict[str, bytes] = {}
    for number in range(12):
        pypi.upload(wheel("demo", f"1.{number}"), "2023-06-01T00:00:00Z")
        if number % 4 == 3:
            pypi.delete(wheel("demo", f"1.{number - 2}"))
        at = instant()
        order = [nodes[(number + each) % 3] for each in range(3)]
        pages = [ask(f"{node.at(at)}demo/", JSON) for node in order]
        assert [page.status_code for page in pages] == [200] * 3
        assert len({page.content for page in pages}) == 1, at
        answered[at] = pages[0].content
    for at, page in answered.items():
        assert [ask(f"{node.at(at)}demo/", JSON).content for node in nodes] == [page] * 3, at


def test_private_copies_stay_private(cluster: Cluster, upstream: Upstream) -> None:
    upstream.auth = ("user", "password")
    upstream.pages["/file"] = Response(BIG)
    nodes = cluster.start(3)
    target = f"{upstream.url}/file"
    assert http.get(nodes[0].pin(PIN, target), auth=("user", "password")).content == BIG
    for node in nodes:
        assert http.get(node.pin(PIN, target)).status_code == 401
        assert http.get(node.pin(PIN, target), auth=("user", "wrong")).status_code == 401
        assert http.get(node.pin(PIN, target), auth=("user", "password")).content == BIG


def test_a_node_with_several_workers(cluster: Cluster, upstream: Upstream) -> None:
    """granian forks them, and each opens the object store for itself."""
    upstream.otherwise = lambda request: Response(request.path.encode() * 5_000)
    (node,) = cluster.start(1, "--workers", "3")
    with ThreadPoolExecutor(12) as pool:
        for _ in range(2):
            addresses = [node.pin(PIN, f"{upstream.url}/{number:03}") for number in range(24)]
            bodies = list(pool.map(lambda address: http.get(address).content, addresses))
            assert bodies == [b"/%03d" % number * 5_000 for number in range(24)]
    assert upstream.count() == 24


def test_a_cache_can_be_deleted(cluster: Cluster, upstream: Upstream, tmp_path: Path) -> None:
    upstream.pages["/file"] = Response(BIG)
    (node,) = cluster.start(1)
    address = node.pin(PIN, f"{upstream.url}/file")
    assert http.get(address).content == BIG
    node.stop()
    node.data.rename(tmp_path / "gone")
    upstream.stop()
    node.start()
    assert [http.get(address).content for _ in range(2)] == [BIG] * 2


def test_one_capture_at_a_time(cluster: Cluster, pypi: PyPI, tmp_path: Path) -> None:
    """Also if they are started on two machines."""
    pypi.upload(wheel("demo", "1.0"), "2023-06-01T00:00:00Z")
    (node,) = cluster.start(1)
    assert filenames(f"{node.at('2023-07-01')}demo/")
    end = threading.Event()

    def slow(request: Request) -> Response:
        end.wait(30)
        return Response(status=503)

    pypi.index.otherwise = slow
    options = ("--pypi-upstream", pypi.url, "--allow-network", "127.0.0.0/8")
    with ThreadPoolExecutor(1) as pool:
        before = pypi.index.count()
        first = pool.submit(
            run, "capture", *cluster.store, "--data", cluster.folder / "c1", *options, environment=cluster.environment
        )
        soon(lambda: pypi.index.count() > before, "the first capture", 30)
        second = run(
            "capture", *cluster.store, "--data", cluster.folder / "c2", *options, environment=cluster.environment
        )
        end.set()
        first.result()
    assert second.returncode == 1
    assert "already running on another machine" in second.stderr


@pytest.mark.parametrize("address", ["generic", "pinned wheel", "dated wheel"])
def test_large_files_from_the_object_store_itself(
    address: str, cluster: Cluster, upstream: Upstream, pypi: PyPI
) -> None:
    """Where the operator wants that, and the node does not have the file; never for small or private ones."""
    release = wheel("demo", "1.0", padding=300_000)
    pypi.upload(release, "2023-06-01T00:00:00Z")
    upstream.pages["/file"] = Response(BIG, headers={"Content-Type": "application/zip"})
    first, other = cluster.start(2, "--redirect-above", "100K")
    body = BIG if address == "generic" else release.data
    path = f"/{PIN}/{upstream.url}/file"
    if address == "pinned wheel":
        path = f"/{PIN}/{pypi.file_url(release)}"
    elif address == "dated wheel":
        path = ask(f"{first.at('2023-07-01')}demo/", JSON).json()["files"][0]["url"]
    assert http.get(first.url + path).content == body
    answer = http.get(other.url + path)
    assert (answer.status_code, answer.headers["cache-control"]) == (307, "no-store")
    assert answer.headers["location"].startswith(cluster.endpoint)
    assert http.get(answer.headers["location"]).content == body
    assert http.head(other.url + path).status_code == 200
    assert http.get(first.url + path).status_code == 200


def test_private_files_are_never_redirected(cluster: Cluster, upstream: Upstream) -> None:
    upstream.auth = ("user", "password")
    upstream.pages["/file"] = Response(BIG)
    nodes = cluster.start(2, "--redirect-above", "100K")
    for node in nodes:
        assert http.get(node.pin(PIN, f"{upstream.url}/file"), auth=("user", "password")).content == BIG

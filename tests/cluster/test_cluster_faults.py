"""PostgreSQL and the object store on bad days, and a node that is cut off, under load: nothing wrong is answered.

Clients get what a node has and may rely on, or a 503 that says when to come again; and all recovers by itself.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Final

import httpx
import obstore
import psycopg
import pytest
from anyio.from_thread import start_blocking_portal
from obstore.store import from_url

from httpcache.web.endpoints import READY_SECONDS
from tests.support import http, objects
from tests.support.cluster import Cluster, answers, soon
from tests.support.cluster_load import PIN, RECOVERY, Load
from tests.support.command import run
from tests.support.config import table
from tests.support.index import filenames
from tests.support.meddler import Meddler
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.postgres import Postgres, Standby
from tests.support.registries import PyPI
from tests.support.relay import Relay
from tests.support.upstream import Response, Upstream

BIG: Final = os.urandom(300_000)
AWAY: Final = 30.0
"""Seconds that an engine is away."""


def is_ready(node: Mirror) -> bool:
    """Whether a load balancer would send requests to a node."""
    with suppress(httpx.TransportError):
        return http.get(f"{node.url}/-/ready", timeout=3).status_code == 200
    return False


@contextmanager
def of_its_own(folder: Path, pypi: PyPI, **settings: object) -> Iterator[Cluster]:
    """A cluster on a PostgreSQL that a test may do anything to."""
    server = Postgres(**settings)
    made = Cluster(folder, server, objects.server(), pypi.url)
    try:
        yield made
    finally:
        made.close()
        server.close()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_postgresql_is_restarted(how: signal.Signals, tmp_path: Path, upstream: Upstream, pypi: PyPI) -> None:
    with of_its_own(tmp_path, pypi) as cluster:
        load = Load(cluster, upstream, pypi)
        cluster.start(3)
        with load.running():
            for _ in range(3):
                load.run_for(3)
                cluster.postgres.stop(how)
                cluster.postgres.start()
            load.run_for(2)
        assert load.answered[200] > 100
        load.recovers()
        load.check()


def test_postgresql_is_away_for_a_while(tmp_path: Path, upstream: Upstream, pypi: PyPI) -> None:
    with of_its_own(tmp_path, pypi) as cluster:
        load = Load(cluster, upstream, pypi)
        nodes = cluster.start(3)
        with load.running():
            load.run_for(2)
            cluster.postgres.stop()
            load.run_for(2)
            before = load.answered[200]
            assert not any(map(is_ready, nodes))
            load.run_for(AWAY - 2)
            assert load.answered[200] == before
            assert load.answered[503] > 10
            cluster.postgres.start()
            soon(lambda: all(map(is_ready, nodes)), "all are ready", RECOVERY)
            load.run_for(2)
            assert load.answered[200] > before
        load.recovers()
        load.check()


def test_postgresql_has_too_few_connections(tmp_path: Path, upstream: Upstream, pypi: PyPI) -> None:
    """Three nodes need 27 at most, and there are 9: who gets none waits."""
    with of_its_own(tmp_path, pypi, max_connections=12) as cluster:
        load = Load(cluster, upstream, pypi)
        cluster.start(3)
        with load.running():
            load.run_for(8)
        assert load.answered[200] > 100
        load.recovers()
        load.check()


def test_others_have_all_connections(tmp_path: Path, upstream: Upstream, pypi: PyPI) -> None:
    with of_its_own(tmp_path, pypi, max_connections=20) as cluster:
        load = Load(cluster, upstream, pypi)
        nodes = cluster.start(3)
        taken: list[psycopg.Connection[tuple[object, ...]]] = []
        with load.running():
            load.run_for(2)
            cluster.postgres.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'httpcache'"
            )
            end = time.monotonic() + 8
            while time.monotonic() < end:
                with suppress(psycopg.OperationalError):
                    taken.append(psycopg.connect(cluster.index))
            for connection in taken:
                connection.close()
            soon(lambda: all(map(is_ready, nodes)), "all are ready", RECOVERY)
        load.recovers()
        load.check()


def test_a_standby_takes_over(tmp_path: Path, upstream: Upstream, pypi: PyPI) -> None:
    """Nothing is lost, since a commit waits for the standby."""
    with of_its_own(tmp_path, pypi) as cluster:
        first = cluster.postgres
        standby = Standby(first)
        try:
            name = cluster.index.rpartition("/")[2]
            hosts = f"127.0.0.1:{first.port},127.0.0.1:{standby.port}"
            cluster.index = f"postgresql://mirror@{hosts}/{name}?target_session_attrs=read-write"
            load = Load(cluster, upstream, pypi)
            nodes = cluster.start(3)
            with load.running():
                load.run_for(3)
                assert load.answered[200] > 10
                first.stop(signal.SIGKILL)
                load.run_for(2)
                standby.promote()
                soon(lambda: all(map(is_ready, nodes)), "all are ready", RECOVERY)
                load.run_for(3)
            load.recovers()
            load.check()
        finally:
            cluster.close()
            standby.close()


@contextmanager
def stopped(meddler: Meddler) -> Iterator[None]:
    """The object store itself is killed, and started again with its data."""
    objects.server().stop()
    try:
        yield
    finally:
        objects.server().start()


def meddled(**how: object) -> Callable[[Meddler], AbstractContextManager[None]]:
    """What is between the nodes and the object store does this."""

    @contextmanager
    def doing(meddler: Meddler) -> Iterator[None]:
        for name, value in how.items():
            setattr(meddler, name, value)
        yield
        meddler.reset()

    return doing


TROUBLES: Final[dict[str, Callable[[Meddler], AbstractContextManager[None]]]] = {
    "stopped": stopped,
    "500": meddled(status=500),
    "503": meddled(status=503, body=b"<Error><Code>SlowDown</Code></Error>"),
    "403": meddled(status=403, body=b"<Error><Code>InvalidAccessKeyId</Code></Error>"),
    "slow": meddled(pause=0.3),
    "cut": meddled(cut=10_000),
    "silent": meddled(hangs=True),
    "wrong bytes": meddled(turned=5_000, methods={"GET"}),
}


@pytest.mark.parametrize("name", TROUBLES)
def test_the_object_store_is_in_trouble(name: str, cluster: Cluster, upstream: Upstream, pypi: PyPI) -> None:
    """What a node has, it answers; what it has not, it cannot, and says so."""
    with Meddler(objects.server().url) as meddler:
        cluster.endpoint = meddler.url
        load = Load(cluster, upstream, pypi)
        nodes = cluster.start(3)
        path = load.fresh(400_000)
        for node in nodes:
            soon(lambda node=node: load.ask(node, path) == 200, "a copy on each node", 5)  # type: ignore[misc]
        with load.running():
            load.run_for(2)
            with TROUBLES[name](meddler):
                for _ in range(5):
                    load.run_for(1)
                    assert [load.ask(node, path) for node in nodes] == [200] * 3
        load.recovers(400_000)
        load.check()
        cluster.endpoint = objects.server().url


@pytest.mark.parametrize("loss", ["lost", "other bytes"])
def test_an_object_is_damaged(loss: str, cluster: Cluster, upstream: Upstream) -> None:
    """Who has it goes on; another node fetches the same bytes again, and takes no others."""
    upstream.pages["/file"] = Response(BIG)
    nodes = cluster.start(3)
    target = f"{upstream.url}/file"
    assert http.get(nodes[0].pin(PIN, target)).content == BIG
    with objects.credentials(cluster.endpoint):
        store = from_url(cluster.blobs, client_options={"allow_http": True})
        [name] = [meta["path"] for page in obstore.list(store) for meta in page]
        if loss == "lost":
            obstore.delete(store, name)
        else:
            obstore.put(store, name, bytes(reversed(BIG)))
    upstream.pages["/file"] = Response(os.urandom(len(BIG)))
    assert http.get(nodes[0].pin(PIN, target)).content == BIG
    for node in nodes[1:]:
        with suppress(httpx.TransportError):
            assert http.get(node.pin(PIN, target)).status_code == 503
    upstream.pages["/file"] = Response(BIG)
    for node in nodes[1:]:
        soon(lambda node=node: whole(node.pin(PIN, target)) == BIG, "the same bytes again", RECOVERY)  # type: ignore[misc]
    ran = run("verify", *cluster.command, environment=cluster.environment)
    assert ran.returncode == 0, ran.stdout


def whole(address: str) -> bytes | None:
    """The body of an answer that is whole, or None."""
    try:
        answer = http.get(address)
    except httpx.TransportError:
        return None
    return answer.content if answer.status_code == 200 else None


def test_a_node_that_is_cut_off_from_postgresql(cluster: Cluster, upstream: Upstream) -> None:
    """It answers nothing that another node has forgotten, and works again when it is back."""
    bodies = {"/small": b"small", "/big": BIG}
    upstream.pages.update({path: Response(body) for path, body in bodies.items()})
    (other,) = cluster.start(1)
    with start_blocking_portal() as portal:
        relaying = Relay.before(cluster.postgres.port)
        with portal.wrap_async_context_manager(relaying) as relay:
            through = cluster.index.replace(f":{cluster.postgres.port}/", f":{relay.port}/")
            (node,) = cluster.start(1, "--index", through)
            for path, body in bodies.items():
                for _ in range(3):
                    found = answers([other, node], PIN, upstream.url + path)
                    assert [answer.content for answer in found] == [body] * 2
            portal.call(relay.passing.clear)
            time.sleep(1)
            assert run("forget", PIN, "--yes", *cluster.command, environment=cluster.environment).returncode == 0
            upstream.pages.update({path: Response(b"another") for path in bodies})
            time.sleep(1)
            answer = http.get(f"{node.url}/-/ready", timeout=READY_SECONDS + 3)
            assert (answer.status_code, answer.text) == (503, "the store has not answered within 2 seconds\n")
            assert is_ready(other)
            for path in bodies:
                answer = http.get(node.pin(PIN, upstream.url + path))
                assert (answer.status_code, answer.headers.get("retry-after")) == (503, "10")
                assert http.get(other.pin(PIN, upstream.url + path)).content == b"another"
            portal.call(relay.passing.set)
            soon(lambda: is_ready(node), "the node is ready", RECOVERY)
            for path in bodies:
                assert http.get(node.pin(PIN, upstream.url + path)).content == b"another"
            assert "Traceback" not in node.log()


def test_what_is_forgotten_in_one_pin_stays_in_another(cluster: Cluster, upstream: Upstream, pypi: PyPI) -> None:
    """The collection of bodies beside nodes that freeze the same bodies."""
    load = Load(cluster, upstream, pypi)
    nodes = cluster.start(3)
    upstream.pages.update({f"/same/{number}": Response(b"%d" % number * 4_000) for number in range(40)})
    upstream.pages.update({f"/small/{number}": Response(b"%d" % number * 4) for number in range(40)})
    ended = threading.Event()

    def forget() -> None:
        while not ended.is_set():
            for number in range(0, 40, 8):
                for path in (f"/same/{number}", f"/small/{number}"):
                    assert http.get(nodes[number % 3].pin("other", upstream.url + path)).status_code == 200
            run("forget", "other", "--yes", *cluster.command, environment=cluster.environment)

    forgetting = threading.Thread(target=forget)
    with load.running():
        forgetting.start()
        for number in range(40):
            for path in (f"/same/{number}", f"/small/{number}"):
                for node in nodes:
                    assert load.ask(node, f"/{PIN}/{upstream.url}{path}") == 200
            load.run_for(0.2)
        ended.set()
        forgetting.join()
    load.check()


def test_rules_groups_and_private_copies_hold_meanwhile(
    tmp_path: Path, upstream: Upstream, pypi: PyPI, upstreams: Callable[..., Upstream]
) -> None:
    """Whatever is away: no private copy without its login, nothing blocked, nothing public for an own name."""
    upstream.auth = ("user", "password")
    upstream.pages["/file"] = Response(BIG)
    internal = PyPI(upstreams(), upstreams())
    internal.upload(wheel("own", "1.0"), "2023-06-01T00:00:00Z")
    pypi.upload(wheel("own", "9.0"), "2023-06-01T00:00:00Z")
    pypi.upload(wheel("bad", "1.0"), "2023-06-01T00:00:00Z")
    config = tmp_path / "mirror.toml"
    config.write_text(
        table("registry", name="internal", index=internal.url)
        + table("group", name="everything", registries=["internal", "pypi"])
    )
    with of_its_own(tmp_path, pypi) as cluster, Meddler(objects.server().url) as meddler:
        cluster.endpoint = meddler.url
        nodes = cluster.start(3, "--config", str(config))
        private = [node.pin(PIN, f"{upstream.url}/file") for node in nodes]
        blocked = [f"{node.at('2023-07-01')}bad/" for node in nodes]
        own = [f"{node.url}/everything/live/own/" for node in nodes]
        assert (
            run("block", "bad", "--reason", "test", *cluster.command, environment=cluster.environment).returncode == 0
        )

        def hold() -> bool:
            """Check that nothing forbidden is answered. Returns whether all that is allowed is."""
            with ThreadPoolExecutor(12) as pool:
                names = pool.map(names_of, own)
                logins = pool.map(lambda address: status(address, auth=upstream.auth), private)
                nobody = pool.map(status, private)
                pages = pool.map(names_of, blocked)
            found = list(names)
            assert all(each in (None, ["own-1.0-py3-none-any.whl"]) for each in found)
            assert set(nobody) <= {401, 503}
            assert not any(pages)
            seen = set(logins)
            assert seen <= {200, 503, None}
            return None not in found and seen == {200}

        soon(hold, "all is answered", RECOVERY)
        cluster.postgres.stop(signal.SIGKILL)
        hold()
        cluster.postgres.start()
        soon(hold, "all is answered again", RECOVERY)
        meddler.status = 500
        hold()
        meddler.reset()
        internal.index.stop()
        hold()
        internal.index.start()
        soon(hold, "all is answered in the end", RECOVERY)
        for node in nodes:
            assert "Traceback" not in node.log()


def status(address: str, **options: object) -> int | None:
    """The status of an answer, or None if it broke off."""
    try:
        return http.get(address, **options).status_code
    except httpx.TransportError:
        return None


def names_of(page: str) -> list[str] | None:
    """The files of a page, or None if it is not there."""
    with suppress(AssertionError):
        return filenames(page)
    return None

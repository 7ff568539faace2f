"""Access keys on several machines: what is added or revoked is so on all of them, within a second and under load."""

from __future__ import annotations

import threading

import httpx

from tests.support.cluster import Cluster, soon
from tests.support.command import run
from tests.support.keys import ask
from tests.support.upstream import Upstream


def test_a_key_counts_everywhere(cluster: Cluster, upstream: Upstream) -> None:
    upstream.pages["/file"] = b"bytes"
    nodes = cluster.start(2, "--require-keys", "--workers", "2")
    path = f"/tools-2024-01-02/{upstream.url}/file"
    added = run("key", "add", "ci", *cluster.store, environment=cluster.environment)
    key = added.stdout.strip()

    def statuses() -> set[int]:
        return {ask(node.url, path, key).status_code for node in nodes for _ in range(4)}

    soon(lambda: statuses() == {200}, "a key that was added")
    over = threading.Event()

    def load(url: str) -> None:
        with httpx.Client(trust_env=False, headers={"Authorization": f"Bearer {key}"}) as client:
            while not over.is_set():
                client.get(url)

    threads = [threading.Thread(target=load, args=(node.url + path,)) for node in nodes]
    for each in threads:
        each.start()
    revoked = run("key", "revoke", "ci", *cluster.store, environment=cluster.environment)
    soon(lambda: statuses() == {401}, "a key that was revoked")
    over.set()
    for each in threads:
        each.join()
    assert (added.returncode, revoked.returncode) == (0, 0), added.stderr + revoked.stderr

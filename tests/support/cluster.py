"""Nodes of one mirror on this machine: each a server of its own, on one PostgreSQL and one object store."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import httpx

from httpcache.store.postgres_schema import upgrade
from tests.support import http
from tests.support.mirror import Mirror
from tests.support.objects import KEY, SECRET, ObjectServer
from tests.support.postgres import Postgres

SOON: Final = 1.0
"""Seconds within which every node knows of a change."""


class Cluster:
    """Nodes that are started as they are asked for, and ended together."""

    def __init__(self, folder: Path, postgres: Postgres, objects: ObjectServer, pypi: str | None = None) -> None:
        self.folder = folder
        self.postgres = postgres
        self.objects = objects
        self.index = postgres.database()
        self.blobs = f"s3://bucket/{folder.name}-{time.time_ns()}"
        self.endpoint = objects.url
        self.nodes: list[Mirror] = []
        self._pypi = pypi
        upgrade(self.index)

    @property
    def store(self) -> tuple[str, ...]:
        """The options that name the store, for any command."""
        return "--index", self.index, "--blobs", self.blobs

    @property
    def command(self) -> tuple[str, ...]:
        """The options of a command that is no node: its store, and a folder of its own."""
        return *self.store, "--data", str(self.folder / "command")

    @property
    def environment(self) -> dict[str, str]:
        """The variables that the object store needs."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
        }

    def start(self, count: int, *arguments: str) -> list[Mirror]:
        """Start so many more nodes, and return them."""
        made = []
        for _ in range(count):
            folder = self.folder / f"node{len(self.nodes)}"
            node = Mirror(folder, self._pypi, (*self.store, *arguments), self.environment)
            self.nodes.append(node)
            made.append(node.start())
        return made

    def close(self) -> None:
        """End all nodes."""
        for node in self.nodes:
            node.kill()


def soon(condition: Callable[[], bool], what: str, seconds: float = SOON) -> None:
    """Return when the condition holds, which must be within so many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.02)


def answers(nodes: Sequence[Mirror], pin: str, target: str, **options: object) -> list[httpx.Response]:
    """What each node answers for a pinned address."""
    return [http.get(node.pin(pin, target), **options) for node in nodes]

"""What a mirror has before it is carried to another one, and that the other one then has it, too."""

from __future__ import annotations

from typing import Final

import httpx

from tests.support import http
from tests.support.index import ask
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.registries import JSON, PyPI
from tests.support.upstream import Response, Upstream

PIN: Final = "a-2024-01-02"
SIZES: Final = (0, 5, 16 * 1024, 16 * 1024 + 1, 300_000)


class Filled:
    """Files of several sizes under a pin, and the page and the wheel of a project, as a mirror has answered them."""

    def __init__(self, source: Mirror, upstream: Upstream, pypi: PyPI, count: int) -> None:
        upstream.otherwise = lambda request: Response(request.path.encode().ljust(SIZES[len(request.path) % 5], b"."))
        pypi.upload(wheel("demo", "1.0", padding=50_000), "2023-06-01T00:00:00Z")
        self._servers = (upstream, pypi.index, pypi.files)
        self._url = upstream.url
        self.bodies = {"x" * number: self._file(source, "x" * number).content for number in range(1, count)}
        self._page = self._index(source).content
        self._path = self._index(source).json()["files"][0]["url"]
        self._wheel = http.get(source.url + self._path).content

    def add(self, source: Mirror, name: str) -> None:
        """Freeze one more file."""
        self.bodies[name] = self._file(source, name).content

    def stop(self) -> None:
        """End the upstreams."""
        for server in self._servers:
            server.stop()

    def check(self, mirror: Mirror) -> None:
        """Assert that a mirror answers the same."""
        for name, body in self.bodies.items():
            assert self._file(mirror, name).content == body
        assert self._index(mirror).content == self._page
        assert http.get(mirror.url + self._path).content == self._wheel

    def _file(self, mirror: Mirror, name: str) -> httpx.Response:
        return http.get(mirror.pin(PIN, f"{self._url}/{name}"))

    def _index(self, mirror: Mirror) -> httpx.Response:
        return ask(f"{mirror.at('2023-07-01')}demo/", JSON)

"""What `httpcache` finds through the entry point: Python package indexes, dated, live and pinned."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urljoin

from distlib.index import DEFAULT_INDEX
from starlette.types import ASGIApp

from httpcache.adapter import Bound, Option
from httpcache.mirror import Mirror
from httpcache.responses import Incoming

from .dated import Dated
from .registry import Registry
from .rewrite import Pinned

PYPI = "pypi"


class PypiAdapter:
    """See `httpcache.adapter.Adapter`."""

    options = (Option("pypi-upstream", "URL", "the simple index behind the dated and live addresses (PyPI's)"),)

    def bind(self, mirror: Mirror) -> Bound:
        """Return the adapter at work on a mirror."""
        index = mirror.settings.adapters.get("pypi_upstream") or urljoin(DEFAULT_INDEX, "/simple/")
        registry = Registry(PYPI, index.rstrip("/") + "/", mirror)
        return _Chain(Dated(registry, mirror), Pinned(mirror))

    def usage(self, address: str, date: str) -> Sequence[tuple[str, str]]:
        """Return the lines for pip and uv."""
        return [
            ("pip", f"pip install -i {address}/{date}/ PACKAGE"),
            ("uv", f"uv pip install --index-url {address}/{date}/ PACKAGE"),
            ("Poetry", f"poetry source add --priority=primary mirror {address}/{date}/"),
        ]


class _Chain:
    def __init__(self, *parts: Bound) -> None:
        self._parts = parts

    async def answer(self, incoming: Incoming) -> ASGIApp | None:
        for part in self._parts:
            response = await part.answer(incoming)
            if response is not None:
                return response
        return None

"""What `httpcache` finds through the entry point: Python package indexes, dated, live and pinned."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urljoin

from distlib.index import DEFAULT_INDEX
from starlette.types import ASGIApp

from httpcache.adapter import Bound, Option
from httpcache.errors import BadAddress
from httpcache.incoming import Incoming
from httpcache.mirror import Mirror
from httpcache.settings import Settings
from httpcache.target import canonical_url

from .dated import Dated
from .registry import Registry
from .rewrite import Pinned

PYPI = "pypi"


class PypiAdapter:
    """See `httpcache.adapter.Adapter`."""

    options = (Option("pypi-upstream", "URL", "the simple index behind the dated and live addresses (PyPI's)"),)

    def check(self, settings: Settings) -> None:
        """Raise BadAddress where the address of the index cannot be one."""
        try:
            _index(settings)
        except BadAddress as error:
            raise BadAddress(
                "--pypi-upstream takes the http or https address of a simple index, without a user"
            ) from error

    def bind(self, mirror: Mirror) -> Bound:
        """Return the adapter at work on a mirror."""
        registry = Registry(PYPI, _index(mirror.settings), mirror)
        return _Chain(Dated(registry, mirror), Pinned(mirror))

    def usage(self, address: str, date: str) -> Sequence[tuple[str, str]]:
        """Return the lines for pip and uv."""
        return [
            ("pip", f"pip install -i {address}/{date}/ PACKAGE"),
            ("uv", f"uv pip install --index-url {address}/{date}/ PACKAGE"),
            ("Poetry", f"poetry source add --priority=primary mirror {address}/{date}/"),
        ]


def _index(settings: Settings) -> str:
    """Return the address of the simple index, with a slash at its end. Raises BadAddress."""
    given = settings.adapters.get("pypi_upstream") or urljoin(DEFAULT_INDEX, "/simple/")
    return canonical_url(given.rstrip("/") + "/")


class _Chain:
    def __init__(self, *parts: Bound) -> None:
        self._parts = parts

    async def answer(self, incoming: Incoming) -> ASGIApp | None:
        for part in self._parts:
            response = await part.answer(incoming)
            if response is not None:
                return response
        return None

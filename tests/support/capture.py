"""`httpcache capture` between a data folder and a registry."""

from __future__ import annotations

from pathlib import Path
from subprocess import CompletedProcess

import anyio

from httpcache.store.local import LocalStore
from pypi_adapter.history.serials import Proof, Proofs
from pypi_adapter.registry.passes import Pass, Passes
from pypi_adapter.registry.scope import ALL
from tests.support.command import run
from tests.support.mirror import Mirror
from tests.support.registries import PyPI

AT_ONCE = ("--pypi-second-look", "0")
"""What is deleted counts at once, where a test does not say otherwise."""


class Here:
    """A data folder, a registry, and `httpcache capture` between them."""

    def __init__(self, folder: Path, pypi: PyPI) -> None:
        self.mirror = Mirror(folder, pypi.url)
        self.pypi = pypi
        self.environment: dict[str, str] = {}
        """Of the command, besides that of the tests."""

    def capture(self, scope: str | Path = ALL) -> str:
        """Make a pass that must succeed; return its summary."""
        made = self.try_capture(scope)
        assert made.returncode == 0, made.stderr
        return made.stdout

    def try_capture(self, scope: str | Path = ALL, *more: str | Path, seconds: float = 60) -> CompletedProcess[str]:
        """Run the command."""
        options = ("--data", self.mirror.data, "--pypi-upstream", self.pypi.url, "--log-level", "error", *AT_ONCE)
        return run("capture", *options, "--pypi-capture", scope, *more, environment=self.environment, seconds=seconds)

    def prove_serials(self) -> None:
        """Let it be known that the registry's serials move with changes, as it is once one was seen to."""

        async def prove() -> None:
            await Proofs(store, "pypi").append(Proof(0, "proved", 1, 2))

        store = LocalStore(self.mirror.data)
        try:
            anyio.run(prove)
        finally:
            store.close()

    def passes(self) -> list[Pass]:
        """The completed passes."""
        store = LocalStore(self.mirror.data)
        try:
            return list(anyio.run(Passes(store, "pypi").all))
        finally:
            store.close()

    def asked(self) -> list[str]:
        """The pages that were asked for since the last call."""
        paths = [request.path for request in self.pypi.index.requests if request.path.startswith("/simple/")]
        self.pypi.index.requests.clear()
        return sorted(path.removeprefix("/simple/").rstrip("/") for path in paths)

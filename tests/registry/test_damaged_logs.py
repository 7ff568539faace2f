"""A log with a value that cannot be read: every reader gets the same error, each time, and nothing is appended."""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from httpcache import zstd
from httpcache.errors import StoreError
from httpcache.store.errors import RESTORE
from httpcache.store.local import LocalStore
from httpcache.store.log import Log
from httpcache.store.store import Store
from pypi_adapter.history.doubts import Doubts
from pypi_adapter.history.history import Doubtful
from pypi_adapter.history.project_log import ProjectLog, entries_log
from pypi_adapter.history.rescue_log import RESCUED, RescueLog, RescueOutcome
from pypi_adapter.history.serials import Proof, Proofs
from pypi_adapter.policy.policy import Policy
from pypi_adapter.policy.rule_log import CurrentPolicy, RuleCommand, RuleLog, Subject
from pypi_adapter.registry.index_url import IndexUrlLog
from pypi_adapter.registry.passes import Pass, Passes
from pypi_adapter.registry.project_list import projects_log
from pypi_adapter.registry.requested_projects import RequestedProjects
from pypi_adapter.registry.scope import ALL, Scope
from pypi_adapter.registry.undo import undo

INDEX = "https://registry.invalid/simple/"
OUTCOME = RescueOutcome(1, "a-1.tar.gz", "id-1", 1, RESCUED)

# The name of each log, what the message calls it, and who reads or appends to it.
LOGS: dict[str, tuple[str, str, list[Callable[[Store], Awaitable[object]]]]] = {
    "observations": (
        "pypi/demo",
        "demo",
        [
            lambda store: entries_log(store, "pypi", "demo").all(),
            lambda store: ProjectLog(store, "pypi", "demo").read_log(),
        ],
    ),
    "rescues": (
        "pypi/demo rescues",
        "the rescues of demo",
        [
            lambda store: RescueLog(store, "pypi", "demo").all(),
            lambda store: RescueLog(store, "pypi", "demo").add(OUTCOME),
        ],
    ),
    "doubts": (
        "pypi/demo doubts",
        "the doubts about pypi/demo",
        [
            lambda store: Doubts(store, "pypi/demo").begun(),
            lambda store: Doubts(store, "pypi/demo", 1).settle(1, Doubtful("it is gone")),
            lambda store: Doubts(store, "pypi/demo").clear(1),
        ],
    ),
    "serials": (
        "pypi/ serials",
        "the serials of pypi",
        [
            lambda store: Proofs(store, "pypi").known(-1),
            lambda store: Proofs(store, "pypi").append(Proof(1, "demo", 1, 2)),
            lambda store: undo(store, "pypi", 0, remove=True),
        ],
    ),
    "rules": (
        "pypi/ rules",
        "rules",
        [
            lambda store: CurrentPolicy(store, Policy()).current(),
            lambda store: RuleLog(store).append(RuleCommand(1, "block", Subject("demo"))),
        ],
    ),
    "captures": (
        "pypi/ passes",
        "captures",
        [
            lambda store: Passes(store, "pypi").counted(),
            lambda store: Passes(store, "pypi").append(Pass(1, 1, 1, Scope(ALL))),
            lambda store: undo(store, "pypi", 0, remove=True),
        ],
    ),
    "list": (
        "pypi/ projects",
        "the list of projects",
        [
            lambda store: projects_log(store, "pypi").all(),
            lambda store: undo(store, "pypi", 0, remove=True),
        ],
    ),
    "requested": (
        "pypi/ logged",
        "requested projects",
        [
            lambda store: RequestedProjects(store, "pypi").all(),
            lambda store: RequestedProjects(store, "pypi").position("demo"),
            lambda store: RequestedProjects(store, "pypi").note("demo"),
            lambda store: undo(store, "pypi", 0, remove=True),
        ],
    ),
    "address": (
        "pypi/ address",
        "the address of pypi",
        [
            lambda store: IndexUrlLog(store, "pypi").check(INDEX),
            lambda store: IndexUrlLog(store, "pypi").is_known(),
            lambda store: IndexUrlLog(store, "pypi").move(INDEX),
        ],
    ),
}


@pytest.mark.parametrize(
    "value",
    [b"\xff", zlib.compress(b"\xff"), zstd.compress(b"\xff"), zstd.compress(b"\xff")[:-1]],
    ids=["raw", "zlib", "zstd", "cut"],
)
@pytest.mark.parametrize(("name", "what", "users"), LOGS.values(), ids=LOGS)
def test_a_value_that_cannot_be_read(
    name: str, what: str, users: list[Callable[[Store], Awaitable[object]]], value: bytes, tmp_path: Path
) -> None:
    async def work() -> None:
        store = LocalStore(tmp_path / "data")
        try:
            assert await Log(store, name).append(0, value)
            for use in users * 2:
                with pytest.raises(StoreError) as raised:
                    await use(store)
                assert raised.value.text == f"the log of {what} is damaged: {RESTORE}"
                assert raised.value.status == 503
            assert await Log(store, name).read() == [value]
        finally:
            store.close()

    anyio.run(work)


def test_the_address_of_a_registry_that_has_moved_at_no_time(tmp_path: Path) -> None:
    async def work() -> None:
        store = LocalStore(tmp_path / "data")
        try:
            assert await Log(store, "pypi/ address").append(0, f"{INDEX} yesterday".encode())
            with pytest.raises(StoreError, match="the log of the address of pypi is damaged"):
                await IndexUrlLog(store, "pypi").check(INDEX)
        finally:
            store.close()

    anyio.run(work)

"""Turns of what is read ahead: which comes first, how many at once, and what is dropped."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import anyio
import pytest

from httpcache.errors import MirrorError, StoreError
from pypi_adapter.web import turns as turns_module
from pypi_adapter.web.turns import AT_ONCE, WAITING, Step, Turns
from tests.support.inprocess import running


def wanted() -> bool:
    return True


def play(tmp_path: Path, work: Callable[[Turns], Awaitable[None]]) -> None:
    async def play() -> None:
        async with running(tmp_path) as mirror:
            await work(Turns(mirror, 3))

    anyio.run(play)


def noting(taken: list[int], number: int, error: Exception | None = None) -> Step:
    """A step that notes its number, and fails then if an error is given."""

    async def step() -> None:
        taken.append(number)
        if error:
            raise error

    return step


def test_what_is_near_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns_module, "AT_ONCE", 1)

    async def work(turns: Turns) -> None:
        taken: list[int] = []
        for number, depth in enumerate((2, 0, 1, 0, 2)):
            turns.later(depth, noting(taken, number), wanted)
        await anyio.wait_all_tasks_blocked()
        assert taken == [1, 3, 2, 0, 4]

    play(tmp_path, work)


def test_a_few_at_once(tmp_path: Path) -> None:
    async def work(turns: Turns) -> None:
        taken: list[int] = []
        release = anyio.Event()

        async def step(number: int) -> None:
            taken.append(number)
            await release.wait()

        for number in range(AT_ONCE + 5):
            turns.later(0, partial(step, number), wanted)
        await anyio.wait_all_tasks_blocked()
        assert len(taken) == AT_ONCE
        release.set()
        await anyio.wait_all_tasks_blocked()
        assert sorted(taken) == list(range(AT_ONCE + 5))

    play(tmp_path, work)


def test_what_is_not_wanted_any_more_is_dropped(tmp_path: Path) -> None:
    """It is asked when the turn comes, not before."""

    async def work(turns: Turns) -> None:
        taken: list[int] = []
        given_up = anyio.Event()
        turns.later(0, noting(taken, 0), lambda: not given_up.is_set())
        turns.later(0, noting(taken, 1), given_up.is_set)
        given_up.set()
        await anyio.wait_all_tasks_blocked()
        assert taken == [1]

    play(tmp_path, work)


def test_more_than_can_wait_is_dropped(tmp_path: Path) -> None:
    async def work(turns: Turns) -> None:
        taken: list[int] = []
        for number in range(WAITING + 5):
            turns.later(number % 3, noting(taken, number), wanted)
        await anyio.wait_all_tasks_blocked()
        assert sorted(taken) == list(range(WAITING))

    play(tmp_path, work)


@pytest.mark.parametrize(("error", "expected"), [(MirrorError("no"), [0, 1, 2]), (StoreError("full"), [0])])
def test_after_a_failure(
    error: MirrorError, expected: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of an upstream concerns that step alone; one of the store ends reading ahead for a time."""
    monkeypatch.setattr(turns_module, "AT_ONCE", 1)

    async def work(turns: Turns) -> None:
        taken: list[int] = []
        turns.later(0, noting(taken, 0, error), wanted)
        turns.later(0, noting(taken, 1), wanted)
        await anyio.wait_all_tasks_blocked()
        turns.later(0, noting(taken, 2), wanted)
        await anyio.wait_all_tasks_blocked()
        assert taken == expected

    play(tmp_path, work)

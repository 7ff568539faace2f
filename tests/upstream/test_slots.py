"""The slots of requests to upstreams: never more than allowed, and all given back, whoever is cut off while waiting."""

from __future__ import annotations

from collections import Counter

import anyio
import anyio.lowlevel
from hypothesis import given, settings
from hypothesis import strategies as st

from httpcache.upstream.limits import Slots
from tests.support.examples import examples

TOTAL, EACH = 3, 2
STEPS = st.integers(0, 5)


@settings(max_examples=examples(200), deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), STEPS, STEPS, STEPS), max_size=14))
def test_slots_are_bounded_and_given_back(requests: list[tuple[str, int, int, int]]) -> None:
    """Each request begins after some turns of the event loop, holds its slot for some, and is cut off after some."""
    slots, used = Slots(TOTAL, EACH), Counter[str]()

    async def turns(count: int) -> None:
        for _ in range(count):
            await anyio.lowlevel.checkpoint()

    async def hold(origin: str, steps: int) -> None:
        async with slots.turn(origin):
            used[origin] += 1
            try:
                assert used.total() <= TOTAL
                assert used[origin] <= EACH
                await turns(steps)
            finally:
                used[origin] -= 1

    async def request(origin: str, start: int, steps: int, patience: int) -> None:
        await turns(start)
        async with anyio.create_task_group() as group:
            group.start_soon(hold, origin, steps)
            if patience:  # else nobody cuts it off
                await turns(patience)
                group.cancel_scope.cancel()

    async def work() -> None:
        async with anyio.create_task_group() as group:
            for each in requests:
                group.start_soon(request, *each)
        async with anyio.create_task_group() as group:  # all can be had again
            for origin in "abc":
                group.start_soon(hold, origin, 1)
        assert not slots.are_taken
        assert slots._total.value == TOTAL
        assert not slots._origins

    anyio.run(work)

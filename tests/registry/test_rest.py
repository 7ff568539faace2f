"""How long a registry is left alone, on a clock of the test's own."""

from __future__ import annotations

from itertools import count

import anyio
import pytest

from pypi_adapter.registry.rest import LONGEST, Rest


@pytest.fixture
def anyio_backend() -> str:
    """Rests are awaited on asyncio, as everywhere."""
    return "asyncio"


@pytest.mark.anyio
@pytest.mark.parametrize("looks", range(1, 8))
async def test_a_rest_may_end_between_any_two_looks_at_the_clock(looks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    it = Rest()
    it.extend(0.0)
    end = -it.left + anyio.current_time()
    times = (end - 1.0 if number < looks else end + 1.0 for number in count())
    with monkeypatch.context() as patched:
        patched.setattr(anyio, "current_time", lambda: next(times))
        it.extend(1.0)
        with anyio.fail_after(30):
            await it.over()


@pytest.mark.anyio
async def test_a_rest_that_is_extended_while_it_is_awaited_lasts_to_the_new_end() -> None:
    it = Rest()
    it.extend(0.05)
    ended: list[float] = []

    async def wait() -> None:
        await it.over()
        ended.append(it.left)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.sleep(0.01)
        it.extend(0.2)
    assert ended
    assert ended[0] <= 0


@pytest.mark.anyio
async def test_a_rest_is_bounded() -> None:
    it = Rest()
    it.extend(1e12)
    assert LONGEST - 5 < it.left <= LONGEST

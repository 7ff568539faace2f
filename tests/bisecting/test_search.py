"""The search for the first bad resolution of a row: that it finds it, and how often it builds."""

from __future__ import annotations

from math import ceil, log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypi_adapter.bisecting.search import Boundary, Verdict, changes, first_bad

ROWS = st.lists(st.integers(0, 5), min_size=1, max_size=60)


@given(ROWS)
def test_changes_tell_all_resolutions_that_matter(row: list[int]) -> None:
    found = changes(len(row), row.__getitem__)
    assert found[0] == 0
    assert found == sorted(set(found))
    for place in found[1:]:
        assert row[place] != row[place - 1]
    assert row[found[-1]] == row[-1]


@given(st.lists(st.integers(1, 9), min_size=2, max_size=60), st.data())
def test_every_change_of_a_row_that_only_grows_is_found(lengths: list[int], data: st.DataObject) -> None:
    row = [number for number, length in enumerate(lengths) for _ in range(length)]
    wanted = [sum(lengths[:number]) for number in range(len(lengths))]
    looked: set[int] = set()

    def resolution(place: int) -> int:
        looked.add(place)
        return row[place]

    assert changes(len(row), resolution) == wanted
    assert len(looked) <= 2 + len(lengths) * ceil(log2(len(row) + 1))


@given(st.integers(2, 500), st.data())
def test_the_first_bad_one_with_few_builds(count: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(1, count - 1))
    row = [10 * number for number in range(count)]
    judged: list[int] = []

    def judge(place: int) -> Verdict:
        judged.append(place)
        return Verdict.BAD if place >= 10 * first else Verdict.GOOD

    assert first_bad(row, judge, lambda left: None) == Boundary(10 * (first - 1), 10 * first, [])
    assert len(judged) == len(set(judged)) <= ceil(log2(count))


@given(st.integers(2, 60), st.data())
def test_what_is_skipped_is_told(count: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(1, count - 1))
    skips = data.draw(st.sets(st.integers(1, max(1, count - 2))))

    def judge(place: int) -> Verdict:
        if place in skips:
            return Verdict.SKIP
        return Verdict.BAD if place >= first else Verdict.GOOD

    found = first_bad(range(count), judge, lambda left: None)
    assert found.good < first <= found.bad
    assert list(found.skipped) == list(range(found.good + 1, found.bad))
    assert set(found.skipped) <= skips


@pytest.mark.parametrize("count", [2, 3, 10])
def test_it_says_how_many_are_left(count: int) -> None:
    told: list[int] = []
    first_bad(range(count), lambda place: Verdict.GOOD, told.append)
    assert told == sorted(told, reverse=True)
    assert all(left < count for left in told)

"""The search for the first bad one of a row of resolutions, with as few builds as it takes. Pure.

A row is indexed by candidates: instants, in their order. Many have the same resolution; what is resolved is cheap and
what is built is not, so the row is resolved as far as needed first, and each resolution is built once at most.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from enum import Enum
from typing import NamedTuple


class Verdict(Enum):
    """What a build has shown."""

    GOOD = "good"
    BAD = "bad"
    SKIP = "skip"


class Boundary(NamedTuple):
    """Where it broke: between the candidates `good` and `bad`. `skipped` are those between that could not be judged.

    Without any, `bad` directly follows `good` among the candidates where the resolution changes.
    """

    good: int
    bad: int
    skipped: Sequence[int] = ()


def changes(count: int, resolution: Callable[[int], Hashable]) -> list[int]:
    """Return the candidates, of `count`, whose resolution differs from that of the one before; the first one is 0.

    Where the resolution is the same at both ends of a stretch, what is between is not looked at: whatever it is, it
    has come and gone.
    """
    found = [0]

    def look(low: int, high: int) -> None:
        if resolution(low) == resolution(high):
            return
        if high == low + 1:
            found.append(high)
            return
        middle = (low + high) // 2
        look(low, middle)
        look(middle, high)

    look(0, count - 1)
    return found


def first_bad(row: Sequence[int], judge: Callable[[int], Verdict], told: Callable[[int], None]) -> Boundary:
    """Return where a row that begins good and ends bad turns bad, for the last time.

    `told` is called with the number of candidates left before each one is judged. One that is skipped is passed over
    for its neighbours, the nearest to the middle first.
    """
    low, high = 0, len(row) - 1
    skipped: set[int] = set()
    while True:
        left = [place for place in range(low + 1, high) if place not in skipped]
        if not left:
            between = [row[place] for place in range(low + 1, high)]
            return Boundary(row[low], row[high], between)
        told(len(left))
        middle = (low + high) / 2
        place = min(left, key=lambda each: (abs(each - middle), each))
        match judge(row[place]):
            case Verdict.GOOD:
                low = place
            case Verdict.BAD:
                high = place
            case Verdict.SKIP:
                skipped.add(place)

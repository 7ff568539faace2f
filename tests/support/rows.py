"""Tables of tests that take long: a few rows of a full product each time, and all of them in `make soak`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest


def diagonal(first: Sequence[Any], second: Sequence[Any]) -> list[Any]:
    """All pairs for `parametrize`, those off the diagonals marked `soak`.

    Without them each value of the longer sequence has one row, and each of the shorter its even share of rows.
    """
    pairs, step = product(enumerate(first), enumerate(second)), min(len(first), len(second))
    return [
        (one, other) if (i - j) % step == 0 else pytest.param(one, other, marks=pytest.mark.soak)
        for (i, one), (j, other) in pairs
    ]

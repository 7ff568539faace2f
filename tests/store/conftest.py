"""Fixtures of the tests of the store."""

from __future__ import annotations

import pytest

from tests.support.engines import INDEXES, IndexMaker


@pytest.fixture(params=INDEXES.values(), ids=list(INDEXES))
def maker(request: pytest.FixtureRequest) -> IndexMaker:
    """What opens an index, of each kind in turn."""
    made: IndexMaker = request.param
    return made

"""Fixtures: a cluster on the servers that all tests of a process share, or on servers of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import objects, postgres
from tests.support.cluster import Cluster
from tests.support.registries import PyPI


@pytest.fixture
def cluster(tmp_path: Path, pypi: PyPI) -> Iterator[Cluster]:
    """A cluster without nodes yet, in front of `pypi`."""
    made = Cluster(tmp_path, postgres.shared(), objects.server(), pypi.url)
    yield made
    made.close()

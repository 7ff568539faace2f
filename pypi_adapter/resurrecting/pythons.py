"""The versions of Python that uv can resolve for, and which of them existed at an instant. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from packaging.specifiers import SpecifierSet

from .asked import Alternatives

RELEASED = {
    "3.15": "2026-10-01",
    "3.14": "2025-10-07",
    "3.13": "2024-10-07",
    "3.12": "2023-10-02",
    "3.11": "2022-10-24",
    "3.10": "2021-10-04",
    "3.9": "2020-10-05",
    "3.8": "2019-10-14",
    "3.7": "2018-06-27",
    "3.6": "2016-12-23",
}
"""When each was released. uv resolves for none that is older."""

PATCHES = 40  # more than any has


def candidates(instant: datetime, wanted: Sequence[Alternatives]) -> list[str]:
    """Return the versions to try, the newest first: those that existed, or the oldest if none did.

    `wanted` are versions that are allowed, by several files: all of them count.
    """
    existing = [each for each, date in RELEASED.items() if datetime.fromisoformat(date).replace(tzinfo=UTC) <= instant]
    return [each for each in existing or [list(RELEASED)[-1]] if all(_allows(allowed, each) for allowed in wanted)]


def _allows(allowed: Alternatives, python: str) -> bool:
    return any(_contains(each, python) for each in allowed)


def _contains(specifiers: SpecifierSet, python: str) -> bool:
    return any(f"{python}.{patch}" in specifiers for patch in range(PATCHES))


def newest_patch(python: str) -> str:
    """Return what uv is to resolve for: it would take 3.8 for 3.8.0, which many releases exclude."""
    return f"{python}.99"

"""Counts that the tests state at the end of a run: rows tried, kills survived, faults injected."""

from __future__ import annotations

from collections import Counter

counts: Counter[str] = Counter()


def tally(name: str, count: int = 1) -> None:
    """Add to a count that the summary of the run shows."""
    counts[name] += count

"""How upstreams have answered, from what all processes of the server have counted. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from httpcache.metrics import UPSTREAM_DURATION, UPSTREAM_REQUESTS, Snapshot

_ANSWERS = ("1xx", "2xx", "3xx", "4xx")


class Answered(NamedTuple):
    """Requests to one upstream since the server began: how many, how many failed (5xx or no answer), and with what.

    `seconds` is how long an answer took to begin on average, None if there was none.
    """

    requests: int
    failed: int
    causes: Mapping[str, int]
    seconds: float | None

    @property
    def rate(self) -> float:
        """The part of the requests that failed, in percent."""
        return 100 * self.failed / self.requests if self.requests else 0.0


def by_origin(snapshots: Iterable[Snapshot]) -> dict[str, Answered]:
    """Return how each upstream has answered, by its origin."""
    results: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
    times: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for snapshot in snapshots:
        for name, labels, value in snapshot.counts:
            if name == UPSTREAM_REQUESTS:
                results[labels[0]][labels[1]] += round(value)
        for name, labels, buckets, total in snapshot.times:
            if name == UPSTREAM_DURATION:
                times[labels[0]][0] += sum(buckets)
                times[labels[0]][1] += total
    return {origin: _answered(found, *times[origin]) for origin, found in sorted(results.items())}


def _answered(results: Mapping[str, int], count: float, total: float) -> Answered:
    causes = {result: number for result, number in sorted(results.items()) if result not in _ANSWERS}
    return Answered(sum(results.values()), sum(causes.values()), causes, total / count if count else None)

"""What a process counts, for `/-/metrics`: plain numbers in memory, so that to count costs next to nothing.

FAMILIES has every metric, with its labels and what it says. Names and units follow Prometheus' conventions. How the
numbers of several processes are put together, see `web.sharing`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import NamedTuple

import msgspec

from .logs import Line

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""The upper bounds of the buckets of every histogram, in seconds; the last bucket has none."""
ORIGINS = 100
"""Upstreams that are told apart; all others are OTHER."""
OTHER = "other"

Labels = tuple[str, ...]


class Type(Enum):
    """What a metric is for Prometheus."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Family(NamedTuple):
    """A metric: its name without the `_total` of a counter, what it is, what it says, and the names of its labels."""

    name: str
    type: Type
    help: str
    labels: Labels = ()


REQUESTS = "httpcache_requests"
BYTES = "httpcache_response_bytes"
DURATION = "httpcache_request_duration_seconds"
ERRORS = "httpcache_error_responses"
UPSTREAM_REQUESTS = "httpcache_upstream_requests"
UPSTREAM_BYTES = "httpcache_upstream_received_bytes"
UPSTREAM_CUT = "httpcache_upstream_cut_responses"
UPSTREAM_DURATION = "httpcache_upstream_response_seconds"
DOWNLOADS = "httpcache_downloads_under_way"
ENDED = "httpcache_downloads"
SHARED = "httpcache_downloads_shared"
FROZEN_BYTES = "httpcache_frozen_bytes"
STORE_ENTRIES = "httpcache_store_entries"
STORE_BYTES = "httpcache_store_bytes"
STORE_PINS = "httpcache_store_pins"
DISK_FREE = "httpcache_disk_free_bytes"
DISK_SIZE = "httpcache_disk_size_bytes"
CAPTURE_TIME = "httpcache_capture_timestamp_seconds"
CAPTURE_DURATION = "httpcache_capture_duration_seconds"
CAPTURE_FAILED = "httpcache_capture_failed_projects"
CAPTURE_CHANGED = "httpcache_capture_changed_projects"
WITHHELD = "httpcache_withheld_requests"
REMOVED = "httpcache_removed_files"
WORKERS = "httpcache_workers"
CPU = "httpcache_cpu_seconds"
MEMORY = "httpcache_resident_memory_bytes"
INFO = "httpcache_build_info"

_C, _G, _H = Type.COUNTER, Type.GAUGE, Type.HISTOGRAM
FAMILIES = {
    family.name: family
    for family in (
        Family(
            REQUESTS, _C, "Requests answered, by what was asked for and where the answer came from.", ("kind", "result")
        ),
        Family(BYTES, _C, "Bytes of the bodies of answers.", ("kind", "result")),
        Family(DURATION, _H, "Time from a request's head until its answer was handed over.", ("kind", "result")),
        Family(ERRORS, _C, "Answers that are errors of the mirror, by their cause.", ("error",)),
        Family(
            UPSTREAM_REQUESTS, _C, "Requests to upstreams, by the answer or the reason for none.", ("origin", "result")
        ),
        Family(UPSTREAM_BYTES, _C, "Bytes of bodies received from upstreams.", ("origin",)),
        Family(UPSTREAM_CUT, _C, "Answers of upstreams that broke off or became too slow.", ("origin", "cause")),
        Family(UPSTREAM_DURATION, _H, "Time until an upstream's answer began.", ("origin",)),
        Family(DOWNLOADS, _G, "Downloads under way now, by their state.", ("state",)),
        Family(ENDED, _C, "Downloads that have ended, by their result.", ("result",)),
        Family(SHARED, _C, "Requests that joined a download that was under way."),
        Family(FROZEN_BYTES, _C, "Bytes of bodies that were frozen."),
        Family(STORE_ENTRIES, _G, "Entries of the store, by pin.", ("pin",)),
        Family(
            STORE_BYTES, _G, "Bytes of the entries' bodies, each counted as often as it is named, by pin.", ("pin",)
        ),
        Family(STORE_PINS, _G, "Pins that have entries."),
        Family(DISK_FREE, _G, "Bytes free on the disk of the data folder."),
        Family(DISK_SIZE, _G, "Bytes of the disk of the data folder."),
        Family(CAPTURE_TIME, _G, "When the last complete capture ended, since the epoch.", ("registry",)),
        Family(CAPTURE_DURATION, _G, "How long the last complete capture took.", ("registry",)),
        Family(CAPTURE_FAILED, _G, "Projects that the last capture could not fetch.", ("registry",)),
        Family(CAPTURE_CHANGED, _G, "Projects that had changed for the last capture.", ("registry",)),
        Family(WITHHELD, _C, "Requests for files that rules or advisories withhold.", ("registry",)),
        Family(REMOVED, _C, "Files that a registry was found to have removed, by outcome.", ("registry", "outcome")),
        Family(WORKERS, _G, "Processes that answer requests."),
        Family(CPU, _C, "Seconds of CPU time, of all processes."),
        Family(MEMORY, _G, "Bytes of memory in use, of all processes."),
        Family(INFO, _G, "The version that runs; always 1.", ("version",)),
    )
}


class Sample(NamedTuple):
    """A value of a gauge now, or of a counter so far."""

    name: str
    labels: Labels
    value: float


class Times:
    """Durations in buckets."""

    __slots__ = ("buckets", "sum")

    def __init__(self) -> None:
        self.buckets = [0] * (len(SECONDS) + 1)
        self.sum = 0.0

    def note(self, seconds: float) -> None:
        """Note one duration."""
        self.sum += seconds
        self.buckets[bisect_left(SECONDS, seconds)] += 1


class Answers(Times):
    """Answers of one kind and result: their durations, and the bytes of their bodies."""

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0


class Snapshot(msgspec.Struct, array_like=True):
    """The numbers of a process: when they were taken (seconds since the epoch), counters, gauges, and histograms.

    `times` has the buckets and the sum of each series, and `lines` the last errors that the process has logged.
    """

    taken: float
    counts: list[Sample]
    gauges: list[Sample]
    times: list[tuple[str, Labels, list[int], float]]
    lines: list[Line] = []


class Metrics:
    """What one process counts."""

    def __init__(self) -> None:
        self._counts: defaultdict[tuple[str, Labels], float] = defaultdict(float)
        self._times: defaultdict[tuple[str, Labels], Times] = defaultdict(Times)
        self._answers: defaultdict[Labels, Answers] = defaultdict(Answers)
        self._sources: list[Callable[[], Iterable[Sample]]] = []
        self._origins: set[str] = set()

    def count(self, name: str, *labels: str, by: float = 1) -> None:
        """Add to a counter."""
        self._counts[name, labels] += by

    def time(self, name: str, *labels: str, seconds: float) -> None:
        """Note a duration in a histogram."""
        self._times[name, labels].note(seconds)

    def answers(self, kind: str, result: str) -> Answers:
        """Return where the answers of a kind and result are noted."""
        return self._answers[kind, result]

    def origin(self, name: str) -> str:
        """Return the label for an upstream: its name, or OTHER if there are too many."""
        if name not in self._origins:
            if len(self._origins) >= ORIGINS:
                return OTHER
            self._origins.add(name)
        return name

    @contextmanager
    def telling(self, source: Callable[[], Iterable[Sample]]) -> Iterator[None]:
        """Ask a function for gauges whenever a snapshot is taken inside the block. Those of several are added up."""
        self._sources.append(source)
        try:
            yield
        finally:
            self._sources.remove(source)

    def snapshot(self, taken: float, more: Iterable[Sample] = ()) -> Snapshot:
        """Return all numbers, with `more` counters that are kept elsewhere."""
        counts = [Sample(name, labels, value) for (name, labels), value in self._counts.items()]
        times = [(name, labels, noted.buckets, noted.sum) for (name, labels), noted in self._times.items()]
        for labels, answers in self._answers.items():
            counts.append(Sample(REQUESTS, labels, sum(answers.buckets)))
            counts.append(Sample(BYTES, labels, answers.bytes))
            times.append((DURATION, labels, answers.buckets, answers.sum))
        gauges = [sample for source in self._sources for sample in source()]
        return Snapshot(taken, [*counts, *more], gauges, times)

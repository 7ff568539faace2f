"""Answers `/-/metrics`: the numbers of all processes of the server, and of the store, as Prometheus reads them."""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from httpcache import __version__, metrics
from httpcache.adapter import Bound
from httpcache.errors import MirrorError
from httpcache.metrics import FAMILIES, SECONDS, Family, Labels, Sample, Snapshot, Type
from httpcache.store.base import PinTotals
from httpcache.store.store import Store

from .sharing import Sharing

PINS = 50  # that are told apart, those with the most bytes; all others are "other"
FRESH = 15.0  # seconds for which what was read from the store is told again


class Exposition:
    """The endpoint."""

    def __init__(self, store: Store, adapters: Sequence[Bound], sharing: Sharing) -> None:
        self._store = store
        self._adapters = adapters
        self._sharing = sharing
        self._read: list[Sample] = []
        self._until = 0.0

    async def __call__(self, request: Request) -> Response:
        """Answer a request. Nothing fails because the store cannot be read: its numbers are missing then."""
        gauges = await self._of_store()
        registry = CollectorRegistry()
        registry.register(_Found(self._sharing.all(), gauges))
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"content-type": content_type, "cache-control": "no-store"})

    async def _of_store(self) -> list[Sample]:
        if time.monotonic() >= self._until:
            self._read = [Sample(metrics.INFO, (__version__,), 1), *_disk(self._store)]
            try:
                self._read += _by_pin(await self._store.index.pins())
                for adapter in self._adapters:
                    self._read += await adapter.measures()
            except MirrorError:
                return self._read
            self._until = time.monotonic() + FRESH
        return self._read


def _by_pin(totals: Sequence[PinTotals]) -> Iterator[Sample]:
    yield Sample(metrics.STORE_PINS, (), len(totals))
    largest = sorted(totals, key=lambda total: (-total.bytes, total.pin))
    named, rest = largest[:PINS], largest[PINS:]
    if rest:
        named.append(PinTotals(metrics.OTHER, sum(each.entries for each in rest), sum(each.bytes for each in rest)))
    for pin, entries, size in named:
        yield Sample(metrics.STORE_ENTRIES, (pin,), entries)
        yield Sample(metrics.STORE_BYTES, (pin,), size)


def _disk(store: Store) -> list[Sample]:
    try:
        usage = shutil.disk_usage(store.spool)
    except OSError:
        return []
    return [Sample(metrics.DISK_FREE, (), usage.free), Sample(metrics.DISK_SIZE, (), usage.total)]


class _Found(Collector):
    """What was found, for prometheus-client."""

    def __init__(self, snapshots: Iterable[Snapshot], gauges: Iterable[Sample]) -> None:
        self._values: defaultdict[str, defaultdict[Labels, float]] = defaultdict(lambda: defaultdict(float))
        self._times: dict[tuple[str, Labels], tuple[list[int], float]] = {}
        for name, labels, value in gauges:
            self._values[name][labels] = value
        for snapshot in snapshots:
            for name, labels, value in (*snapshot.counts, *snapshot.gauges):
                self._values[name][labels] += value
            for name, labels, buckets, total in snapshot.times:
                so_far, sums = self._times.get((name, labels), ([0] * len(buckets), 0.0))
                self._times[name, labels] = [a + b for a, b in zip(so_far, buckets, strict=True)], sums + total

    def collect(self) -> Iterator[Metric]:
        for family in FAMILIES.values():
            match family.type:
                case Type.COUNTER:
                    found: CounterMetricFamily | GaugeMetricFamily = CounterMetricFamily(
                        family.name, family.help, labels=family.labels
                    )
                case Type.GAUGE:
                    found = GaugeMetricFamily(family.name, family.help, labels=family.labels)
                case Type.HISTOGRAM:
                    yield self._histogram(family)
                    continue
            if family.type is Type.COUNTER and not family.labels:
                self._values[family.name].setdefault((), 0)  # it exists before there is anything to count
            for labels, value in sorted(self._values[family.name].items()):
                found.add_metric(labels, value)
            yield found

    def _histogram(self, family: Family) -> Metric:
        found = HistogramMetricFamily(family.name, family.help, labels=family.labels)
        for (name, labels), (buckets, total) in sorted(self._times.items()):
            if name == family.name:
                found.add_metric(labels, list(_cumulative(buckets)), total)
        return found


def _cumulative(buckets: Sequence[int]) -> Iterator[tuple[str, float]]:
    """Yield each bucket's upper bound, as Prometheus writes it, with the number of durations up to it."""
    total = 0
    for bound, count in zip((*map(str, SECONDS), "+Inf"), buckets, strict=True):
        total += count
        yield bound, total

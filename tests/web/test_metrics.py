"""`/-/metrics`: each request counts once, under its kind and result, whichever worker answers, and whoever dies."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import anyio
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from httpcache.metrics import FAMILIES, ORIGINS, OTHER, SECONDS, Metrics, Type
from httpcache.store.base import PinTotals
from httpcache.web import exposition, sharing
from httpcache.web.accounting import result
from httpcache.web.sharing import Sharing
from tests.support import http
from tests.support.config import table
from tests.support.index import hrefs
from tests.support.inside import processes, until
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.registries import PyPI
from tests.support.upstream import CUT, Response, Upstream

ROOT = Path(__file__).parents[2]
PIN = "tools-2024-01-02"
BODY = b"x" * 1000
HTML = {"Accept": "text/html"}

Values = dict[tuple[str, tuple[str, ...]], float]


def metrics(server: Mirror) -> Values:
    """All values, by their name and the values of their labels."""
    answer = http.get(f"{server.url}/-/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def requests(found: Values) -> dict[tuple[str, ...], float]:
    """Requests by kind and result, without those for the mirror's own pages."""
    return {
        labels: value
        for (name, labels), value in found.items()
        if name == "httpcache_requests_total" and labels[0] != "own"
    }


def settled(server: Mirror, condition: Callable[[Values], bool]) -> Values:
    """The metrics once a condition holds: what other workers count is seen within a second."""
    found: list[Values] = []

    def holds() -> bool:
        found.append(metrics(server))
        return condition(found[-1])

    until(holds, "metrics")
    return found[-1]


def test_every_kind_of_request(pypi: PyPI, upstream: Upstream, mirror: Callable[..., Mirror], tmp_path: Path) -> None:
    thing = wheel("thing", "1.0")
    pypi.upload(thing, "2024-01-01T12:00:00Z")
    bad = wheel("bad", "1.0")
    pypi.upload(bad, "2024-01-01T12:00:00Z")
    upstream.pages["/file"] = Response(BODY)
    config = tmp_path / "httpcache.toml"
    config.write_text(
        table("registry", name="own", index=pypi.url)
        + table("group", name="both", registries=["own", "pypi"])
        + table("block", project="bad", reason="malware")
    )
    server = mirror(pypi, "--config", str(config))
    page = f"{server.at('2024-01-02')}thing/"
    [link] = hrefs(http.get(page, headers=HTML).content)
    for _ in range(2):
        assert http.get(page, headers=HTML).status_code == 200
    file = server.same(link)
    for _ in range(3):
        assert http.get(file).content == thing.data
    assert http.get(file.partition("#")[0] + ".metadata").status_code == 200
    assert http.get(f"{server.at('live')}thing/", headers=HTML).status_code == 200
    assert http.get(f"{server.at('both/2024-01-02')}thing/", headers=HTML).status_code == 200
    assert http.get(f"{server.at('live')}none/", headers=HTML).status_code == 404
    pinned = server.pin(PIN, f"{upstream.url}/file")
    for _ in range(3):
        assert http.get(pinned).content == BODY
    assert http.head(pinned).status_code == 200
    assert http.get(f"{server.url}/nothing").status_code in (400, 404)
    digest = bad.sha256
    assert http.get(f"{server.url}/files/bad/{digest}/{bad.filename}").status_code == 403

    found = metrics(server)
    assert requests(found) == {
        ("dated", "fetched"): 1,
        ("dated", "memory"): 2,
        ("file", "fetched"): 1,
        ("file", "memory"): 2,
        ("file", "error_4xx"): 1,
        ("metadata", "fetched"): 1,
        ("live", "revalidated"): 1,
        ("live", "error_4xx"): 1,
        ("group", "fetched"): 1,
        ("pinned", "fetched"): 1,
        ("pinned", "memory"): 2,
        ("pinned", "disk"): 1,
        ("other", "error_4xx"): 1,
    }
    assert found["httpcache_response_bytes_total", ("pinned", "memory")] == 2 * len(BODY)
    assert found["httpcache_request_duration_seconds_count", ("pinned", "memory")] == 2
    assert found["httpcache_request_duration_seconds_bucket", ("pinned", "+Inf", "memory")] == 2
    assert found["httpcache_error_responses_total", ("Refused",)] == 1
    assert found["httpcache_error_responses_total", ("StoreFull",)] == 0  # else the first would be no increase
    assert found["httpcache_withheld_requests_total", ("pypi",)] == 1
    assert found["httpcache_upstream_requests_total", (upstream.url, "2xx")] == 1
    assert found["httpcache_upstream_received_bytes_total", (upstream.url,)] == len(BODY)
    assert found["httpcache_upstream_response_seconds_count", (upstream.url,)] == 1
    assert found["httpcache_store_entries", (PIN,)] == 1
    assert found["httpcache_store_bytes", (PIN,)] == len(BODY)
    assert found["httpcache_disk_free_bytes", ()] > 0
    assert found["httpcache_workers", ()] == 1


def test_workers_are_added_up_and_what_a_dead_one_counted_stays(
    upstream: Upstream, mirror: Callable[..., Mirror]
) -> None:
    upstream.pages["/file"] = Response(BODY)
    server = mirror("--workers", "3")
    pinned = server.pin(PIN, f"{upstream.url}/file")

    def hits(found: Values) -> float:
        return sum(value for (kind, *_), value in requests(found).items() if kind == "pinned")

    for _ in range(60):
        assert http.get(pinned).content == BODY
    settled(server, lambda found: hits(found) == 60 and found["httpcache_workers", ()] == 3)
    before = set(processes(server))
    assert server.process is not None
    os.kill(max(before - {server.process.pid}), signal.SIGKILL)
    until(lambda: set(processes(server)) != before and len(processes(server)) == len(before), "another worker")
    for _ in range(60):
        assert http.get(pinned).content == BODY
    found = settled(server, lambda found: hits(found) == 120)
    assert found["httpcache_response_bytes_total", ("pinned", "fetched")] == len(BODY)


def test_downloads_that_are_shared_or_fail(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    go = threading.Event()
    length = {"Content-Length": str(2 * len(BODY))}
    upstream.pages |= {
        "/slow": Response([BODY, go, BODY], headers=length),
        "/cut": Response([BODY, CUT], headers=length),
    }
    server = mirror()
    slow = server.pin(PIN, f"{upstream.url}/slow")
    with ThreadPoolExecutor(3) as threads:
        waiting = [threads.submit(http.get, slow) for _ in range(3)]
        shared = ("httpcache_downloads_shared_total", ())
        found = settled(server, lambda found: found.get(shared) == 2)
        assert found["httpcache_downloads_under_way", ("receiving",)] == 1
        go.set()
        assert [each.result().content for each in waiting] == [2 * BODY] * 3
    with suppress(httpx.RemoteProtocolError):
        http.get(server.pin(PIN, f"{upstream.url}/cut"))
    assert http.get(server.pin(PIN, "http://127.0.0.1:1/refused")).status_code == 502

    found = metrics(server)
    assert found["httpcache_downloads_under_way", ("receiving",)] == 0
    assert found["httpcache_downloads_total", ("frozen",)] == 1
    assert found["httpcache_downloads_total", ("failed",)] == 2
    assert found["httpcache_frozen_bytes_total", ()] == 2 * len(BODY)
    assert requests(found)["pinned", "shared"] == 2
    assert requests(found)["pinned", "error_5xx"] == 1
    assert found["httpcache_error_responses_total", ("Unreachable",)] == 1
    assert found["httpcache_upstream_requests_total", ("http://127.0.0.1:1", "Unreachable")] == 1
    assert found["httpcache_upstream_cut_responses_total", ("BadUpstream", upstream.url)] == 1


def test_counters_go_on_over_a_reload(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    upstream.pages["/file"] = Response(BODY)
    server = mirror()
    for _ in range(3):
        assert http.get(server.pin(PIN, f"{upstream.url}/file")).content == BODY
    before = metrics(server)
    assert server.process is not None
    server.process.send_signal(signal.SIGHUP)
    until(lambda: "the settings were read again" in server.log(), "the new settings")
    for _ in range(3):
        assert http.get(server.pin(PIN, f"{upstream.url}/file")).content == BODY
    found = metrics(server)
    assert sum(requests(found).values()) == sum(requests(before).values()) + 3
    assert found["httpcache_workers", ()] == 1


# The parts


@pytest.mark.parametrize(
    ("status", "cache_status", "expected"),
    [
        (200, "httpcache; hit", "disk"),
        (304, "httpcache; hit", "disk"),
        (404, "httpcache; hit", "error_4xx"),
        (200, "httpcache; hit; detail=recalled", "engine"),
        (307, "httpcache; hit", "engine"),
        (200, "httpcache; fwd=uri-miss; stored", "fetched"),
        (200, "httpcache; fwd=uri-miss; fwd-status=200; stored; collapsed", "shared"),
        (200, "httpcache; fwd=stale", "revalidated"),
        (502, "httpcache; fwd=uri-miss; detail=Unreachable", "error_5xx"),
        (403, "httpcache; detail=Refused", "error_4xx"),
        (307, "", "made"),
        (200, "", "made"),
        (0, "", "aborted"),
    ],
)
def test_what_an_answer_counts_as(status: int, cache_status: str, expected: str) -> None:
    assert result(status, cache_status) == expected


def test_upstreams_that_are_told_apart_have_a_bound() -> None:
    counting = Metrics()
    names = [f"https://host{number}.example" for number in range(ORIGINS + 5)]
    assert [counting.origin(name) for name in names] == names[:ORIGINS] + [OTHER] * 5
    assert counting.origin(names[0]) == names[0]


def test_pins_that_are_told_apart_have_a_bound() -> None:
    totals = [PinTotals(f"pin{number:03}", 1, number) for number in range(exposition.PINS + 3)]
    found = {(sample.name, sample.labels): sample.value for sample in exposition._by_pin(totals)}
    assert found["httpcache_store_pins", ()] == len(totals)
    assert found["httpcache_store_entries", (OTHER,)] == 3
    assert found["httpcache_store_bytes", (OTHER,)] == 0 + 1 + 2
    assert sum(value for (name, _), value in found.items() if name == "httpcache_store_entries") == len(totals)


def test_a_duration_is_in_the_bucket_of_the_next_bound() -> None:
    counting = Metrics()
    for seconds in (0.0, SECONDS[0], SECONDS[0] * 1.01, SECONDS[-1], SECONDS[-1] * 2):
        counting.time("httpcache_upstream_response_seconds", "x", seconds=seconds)
    [(_, _, buckets, total)] = counting.snapshot(1.0).times
    assert buckets == [2, 1] + [0] * (len(SECONDS) - 3) + [1, 1]
    assert total == pytest.approx(3 * SECONDS[-1] + SECONDS[0] * 2.01)


def test_gauges_of_a_process_that_has_not_written_for_long_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        one, other = Metrics(), Metrics()
        one.count("httpcache_downloads_shared")
        other.count("httpcache_downloads_shared")
        reading = Sharing(one, tmp_path)
        async with reading.running():
            hung = Sharing(other, tmp_path)
            async with hung.running():
                await anyio.sleep(0.01)
                assert _workers(reading) == (2, 2)
                monkeypatch.setattr(sharing, "ALIVE", -1.0)
                assert _workers(reading) == (2, 0)
                monkeypatch.undo()
            assert _workers(reading) == (2, 1)  # one that has ended says so

    anyio.run(work)


def _workers(reading: Sharing) -> tuple[float, float]:
    counts = Counter[str]()
    for snapshot in reading.all():
        for name, _, value in (*snapshot.counts, *snapshot.gauges):
            counts[name] += value  # type: ignore[assignment]
    return counts["httpcache_downloads_shared"], counts["httpcache_workers"]


def test_names_follow_the_conventions() -> None:
    for family in FAMILIES.values():
        assert family.name.startswith("httpcache_")
        assert not family.name.endswith("_total"), "prometheus-client adds it"
        assert family.help.endswith(".")
        if family.type is Type.HISTOGRAM:
            assert family.name.endswith("_seconds")


def test_every_metric_is_in_the_docs_and_none_else() -> None:
    text = (ROOT / "docs/monitoring.md").read_text()
    named = set(re.findall(r"^\| `(httpcache_\w+)`", text, re.MULTILINE))
    assert named == {
        f"{family.name}_total" if family.type is Type.COUNTER else family.name for family in FAMILIES.values()
    }

"""Upload times in HTML pages and in odd spellings: read, kept, written as PEP 700 has them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypi_adapter.instants import read_instant
from pypi_adapter.simple.upload_time import upload_time
from tests.support.clients import NOWHERE, Clients
from tests.support.config import configured, table
from tests.support.index import ask, document, filenames, json_file, json_files, json_page
from tests.support.mirror import Mirror
from tests.support.packages import Dist, wheel
from tests.support.upstream import Response, Upstream

LEGACY = "text/html"
AT = "2024-01-02T03:04:05.000000Z"


@pytest.mark.parametrize(
    ("spelled", "written"),
    [
        ("2024-01-02T03:04:05Z", "2024-01-02T03:04:05Z"),
        ("2024-01-02T03:04:05.6Z", "2024-01-02T03:04:05.6Z"),
        ("2024-01-02T03:04:05.678901Z", "2024-01-02T03:04:05.678901Z"),
        ("2024-01-02T03:04:05.678901234Z", "2024-01-02T03:04:05.678901Z"),
        ("2024-01-02T03:04:05,5Z", "2024-01-02T03:04:05.500000Z"),
        ("2024-01-02T03:04:05", AT),
        ("2024-01-02t03:04:05z", AT),
        ("2024-01-02 03:04:05", AT),
        ("2024-01-02 03:04:05Z", AT),
        ("2024-01-02 03:04:05 UTC", AT),
        ("2024-01-02 03:04:05 GMT", AT),
        (" 2024-01-02T03:04:05Z\n", AT),
        ("2024-01-02T03:04Z", "2024-01-02T03:04:00.000000Z"),
        ("2024-01-02T03:04:05+00:00", AT),
        ("2024-01-02T03:04:05-00:00", AT),
        ("2024-01-02T05:04:05+02:00", AT),
        ("2024-01-02T05:04:05+0200", AT),
        ("2024-01-02T05:04:05+02", AT),
        ("2024-01-01T21:34:05 -05:30", AT),
        ("2024-01-01T23:59:60Z", "2024-01-01T23:59:59.000000Z"),
        ("2024-01-01T23:59:60.5Z", "2024-01-01T23:59:59.500000Z"),
        ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00Z"),
        ("2023-02-29T00:00:00Z", None),
        ("2024-13-01T00:00:00Z", None),
        ("2024-01-02T24:00:01Z", None),
        ("2024-01-02T03:60:00Z", None),
        ("2024-01-02T03:04:61Z", None),
        ("2024-01-02T03:04:05+99:99", None),
        ("0001-01-01T00:00:00+01:00", None),
        ("9999-12-31T23:59:59-01:00", None),
        ("0000-01-01T00:00:00Z", None),
        ("2024-01-02", None),
        ("2024-W01-2T03:04:05Z", None),
        ("20240102T030405Z", None),
        ("Tue, 02 Jan 2024 03:04:05 GMT", None),
        ("1704164645", None),
        ("yesterday", None),
        ("2024-01-02T03:04:05Zulu", None),
        ("2024-01-02T03:04:05 Europe/Paris", None),
        ("٢٠٢٤-01-02T03:04:05Z", None),
        ("", None),
    ],
)
def test_spellings(spelled: str, written: str | None) -> None:
    assert upload_time(spelled) == written


ZONES = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(st.datetimes(timezones=ZONES, min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1)))  # noqa: DTZ001
def test_any_offset_is_the_same_moment(moment: datetime) -> None:
    found = upload_time(moment.isoformat())
    assert found is not None
    assert read_instant(found) == read_instant(moment.isoformat())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", found)
    assert moment.astimezone(UTC).replace(tzinfo=None).isoformat() in found
    assert upload_time(found) == found


@given(
    st.text() | st.from_regex(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d)?(\.\d+)?([Zz]|[+-]\d\d:?\d\d)?", fullmatch=True)
)
def test_what_is_read_is_a_moment(text: str) -> None:
    found = upload_time(text)
    assert found is None or read_instant(found) is not None
    assert found is None or upload_time(found) == found


# --- a registry of HTML pages with times, as PyTorch's


def publish(upstream: Upstream, *dists: tuple[Dist, str]) -> str:
    """Put files on a page with `data-upload-time`; returns the address of the index."""
    anchors = ""
    for dist, at in dists:
        upstream.pages[f"/whl/{dist.filename}"] = Response(dist.data, 200, {})
        anchors += (
            f'<a href="/whl/{dist.filename}#sha256={dist.sha256}" data-upload-time="{at}">{dist.filename}</a><br/>'
        )
    page = f"<!DOCTYPE html><html><body><h1>Links for thing</h1>{anchors}</body></html>"
    upstream.pages["/whl/thing/"] = Response(page.encode(), 200, {"Content-Type": "text/html"})
    return f"{upstream.url}/whl/"


ONE, TWO, THREE = (wheel("thing", f"{version}.0") for version in (1, 2, 3))
TIMES = ((ONE, "2024-01-01T10:00:00Z"), (TWO, "2024-02-01 11:00:00+01:00"), (THREE, "2024-03-01T00:00:00"))


@pytest.mark.parametrize("newest", ["2024-01-15T00:00:00Z", "2024-02-15T00:00:00Z", "2024-03-15T00:00:00Z"])
def test_uv_leaves_out_what_is_newer_through_a_pin_as_it_does_straight(
    newest: str, upstream: Upstream, server: Mirror, pin: str, clients: Clients
) -> None:
    index = publish(
        upstream, (ONE, "2024-01-01T10:00:00Z"), (TWO, "2024-02-01T10:00:00Z"), (THREE, "2024-03-01T00:00:00Z")
    )
    straight, pinned = (
        clients.uv_compile(address, ["thing"], "--exclude-newer", newest) for address in (index, server.pin(pin, index))
    )
    assert pinned == straight
    assert pinned["thing"].version == f"{newest[6:7]}.0"
    html = ask(f"{server.pin(pin, index)}thing/", LEGACY).text
    assert html.count("data-upload-time=") == 3
    assert 'data-upload-time="2024-01-01T10:00:00Z"' in html


def test_odd_spellings_are_written_right_for_uv(upstream: Upstream, server: Mirror, pin: str, clients: Clients) -> None:
    """In HTML, and in JSON, where uv takes nothing else and leaves out what has no time."""
    index = server.pin(pin, publish(upstream, *TIMES))
    assert clients.uv_compile(index, ["thing"], "--exclude-newer", "2024-02-15T00:00:00Z")["thing"].version == "2.0"
    files = [
        json_file(f"/whl/{dist.filename}", **{"hashes": {"sha256": dist.sha256}, "upload-time": at})
        for dist, at in (*TIMES, (wheel("thing", "0.5"), "a while ago"))
    ]
    upstream.pages["/json/thing/"] = json_page(json_files(*files))
    index = server.pin(pin, f"{upstream.url}/json/")
    assert clients.uv_compile(index, ["thing"], "--exclude-newer", "2024-02-15T00:00:00Z")["thing"].version == "2.0"
    assert [file.get("upload-time") for file in document(f"{index}thing/")["files"]] == [
        "2024-01-01T10:00:00Z", "2024-02-01T10:00:00.000000Z", "2024-03-01T00:00:00.000000Z", None,
    ]  # fmt: skip


def test_a_named_registry_with_such_pages_has_dates(tmp_path: Path, upstream: Upstream) -> None:
    index = publish(upstream, *TIMES)
    expected = {
        "2024-01-01": 0,
        "2024-01-02": 1,
        "2024-02-01": 1,
        "2024-02-01T10:00:01Z": 2,
        "2024-03-01": 2,
        "2024-03-02": 3,
    }
    with configured(tmp_path, table("registry", name="torch", index=index), f"{NOWHERE}/") as running:
        assert {at: len(filenames(running.at(f"torch/{at}/thing"))) for at in expected} == expected
        newest = running.at("torch/2024-03-02/thing")
        assert filenames(newest) == [dist.filename for dist, _ in TIMES]
        assert 'data-upload-time="2024-02-01T10:00:00.000000Z"' in ask(newest, LEGACY).text

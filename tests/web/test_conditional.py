"""Conditional requests and ranges as RFC 9110 sections 13 and 14 have them: tables, no I/O."""

from __future__ import annotations

from email.utils import format_datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from httpcache.web.conditional import MAX_RANGES, Plan, parse_range, plan

TAG = '"abc"'
BEFORE, MODIFIED, AFTER = (f"Tue, 02 Jan 2024 03:04:{second:02} GMT" for second in (4, 5, 6))
WHOLE = Plan(200)


def planned(headers: dict[str, str], *, etag: str | None = TAG, modified: str | None = MODIFIED) -> int:
    """The status for a file of 100 bytes."""
    return plan("GET", headers, etag=etag, modified=modified, size=100).status


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ('"abc"', 304), ('W/"abc"', 304), ("*", 304), (' "abc" ', 304), ('"x", "abc"', 304), ('"x",W/"abc" ,"y"', 304),
        ('"x"', 200), ("abc", 200), ('"ABC"', 200), ('"abcd"', 200), ("", 200), ('"x", "y"', 200),
    ],
)  # fmt: skip
def test_if_none_match_compares_weakly(header: str, status: int) -> None:
    """Section 13.1.2."""
    assert planned({"if-none-match": header}) == status


@pytest.mark.parametrize(
    ("header", "status"),
    [('"abc"', 200), ("*", 200), ('"x", "abc"', 200), ('W/"abc"', 412), ('"x"', 412), ("abc", 412)],
)
def test_if_match_compares_strongly(header: str, status: int) -> None:
    """Section 13.1.1: a weak tag never matches."""
    assert planned({"if-match": header}) == status


@pytest.mark.parametrize(
    ("since", "status"),
    [
        (BEFORE, 200), (MODIFIED, 304), (AFTER, 304), ("Tuesday, 02-Jan-24 03:04:05 GMT", 304),
        ("Tue Jan  2 03:04:05 2024", 304), ("", 200), ("soon", 200), ("0", 200),
    ],
)  # fmt: skip
def test_if_modified_since(since: str, status: int) -> None:
    """Section 13.1.3, in the three forms of a date of section 5.6.7."""
    assert planned({"if-modified-since": since}) == status
    assert planned({"if-modified-since": since}, modified=None) == 200


@pytest.mark.parametrize(("since", "status"), [(BEFORE, 412), (MODIFIED, 200), (AFTER, 200), ("soon", 200)])
def test_if_unmodified_since(since: str, status: int) -> None:
    """Section 13.1.4."""
    assert planned({"if-unmodified-since": since}) == status
    assert planned({"if-unmodified-since": since}, modified=None) == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"if-match": '"x"', "if-none-match": TAG}, 412),
        ({"if-match": TAG, "if-none-match": TAG}, 304),
        ({"if-match": TAG, "if-unmodified-since": BEFORE}, 200),
        ({"if-unmodified-since": BEFORE, "if-none-match": TAG}, 412),
        ({"if-none-match": '"x"', "if-modified-since": AFTER}, 200),
        ({"if-none-match": TAG, "range": "bytes=0-1"}, 304),
        ({"if-match": '"x"', "range": "bytes=0-1"}, 412),
        ({"if-match": TAG, "range": "bytes=0-1", "if-range": TAG}, 206),
        ({"if-range": TAG}, 200),
    ],
)
def test_the_order_of_conditions(headers: dict[str, str], status: int) -> None:
    """Section 13.2.2."""
    assert planned(headers) == status


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (TAG, 206), (MODIFIED, 206),
        ('"x"', 200), ('W/"abc"', 200), (BEFORE, 200), (AFTER, 200), ("*", 200), ("", 200), (f'{TAG}, "x"', 200),
    ],
)  # fmt: skip
def test_if_range_compares_exactly(header: str, status: int) -> None:
    """Section 13.1.5: no list, no star, a strong tag, and a date only if it is the same."""
    assert planned({"range": "bytes=0-1", "if-range": header}) == status
    assert planned({"range": "bytes=0-1", "if-range": header}, etag=None, modified=None) == 200


def test_the_size_is_not_known() -> None:
    """Section 14.2: a range may be ignored."""
    assert plan("GET", {"range": "bytes=0-1"}, etag=TAG, modified=None, size=None) == WHOLE


@pytest.mark.parametrize(
    ("text", "ranges"),
    [
        # one
        ("bytes=0-0", [(0, 1)]), ("bytes=0-99", [(0, 100)]), ("bytes=99-", [(99, 100)]), ("bytes=10-1000", [(10, 100)]),
        ("bytes=-1", [(99, 100)]), ("bytes=-100", [(0, 100)]), ("bytes=-1000", [(0, 100)]), ("BYTES=0-0", [(0, 1)]),
        # several, in the order asked; empty list elements are to be accepted (section 5.6.1.2)
        ("bytes=0-0,99-99", [(0, 1), (99, 100)]), ("bytes=50-59, 0-9", [(50, 60), (0, 10)]),
        ("bytes=, 0-0,,-1,", [(0, 1), (99, 100)]), ("bytes=0-0,100-", [(0, 1)]), ("bytes=0-9,5-14", [(0, 10), (5, 15)]),
        # none that can be satisfied
        ("bytes=100-", []), ("bytes=100-200,300-", []), ("bytes=-0", []),
        # to be ignored: another unit, bad syntax, an attack
        ("lines=0-0", None), ("0-0", None), ("bytes", None), ("bytes=", None), ("bytes=-", None), ("bytes=a-b", None),
        ("bytes=5-4", None), ("bytes=0-0;1-1", None), ("bytes=0-0,x", None), ("bytes=--1", None), ("bytes=+1-2", None),
        ("bytes=0x1-2", None), ("bytes=1.0-2", None), ("bytes=0-0,5-4", None), ("", None),
        ("bytes=0-,0-", None), ("bytes=" + ",".join(["0-0"] * (MAX_RANGES + 1)), None),
    ],
)  # fmt: skip
def test_ranges_of_100_bytes(text: str, ranges: list[tuple[int, int]] | None) -> None:
    found = parse_range(text, 100)
    assert (found if found is None else list(found)) == ranges
    status = 200 if ranges is None else 206 if ranges else 416
    assert plan("GET", {"range": text}, etag=TAG, modified=None, size=100).status == status


@pytest.mark.parametrize("text", ["bytes=0-", "bytes=0-0", "bytes=-1"])
def test_ranges_of_nothing(text: str) -> None:
    assert parse_range(text, 0) == ()


numbers = st.integers(0, 10**20).map(str) | st.integers(0, 200).map(str) | st.just("")
specs = st.tuples(numbers, numbers).map("-".join) | st.text("0123456789-, x", max_size=5)


@given(st.lists(specs, max_size=20).map(lambda parts: "bytes=" + ",".join(parts)) | st.text(), st.integers(0, 150))
def test_ranges_lie_inside(text: str, size: int) -> None:
    ranges = parse_range(text, size)
    if ranges:
        assert all(0 <= start < stop <= size for start, stop in ranges)
        assert len(ranges) == 1 or sum(stop - start for start, stop in ranges) <= size


@given(st.integers(0, 99), st.integers(0, 99))
def test_a_range_is_what_was_asked(first: int, last: int) -> None:
    wanted = ((first, last + 1),) if first <= last else None
    assert parse_range(f"bytes={first}-{last}", 100) == wanted


headers = st.dictionaries(
    st.sampled_from(["if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range", "range"]),
    st.text(st.characters(max_codepoint=255))
    | st.sampled_from([TAG, "*", MODIFIED, "bytes=0-1"])
    | st.datetimes().map(format_datetime)
    | st.builds(
        "{} {} {} {}:{} {}".format, *[st.sampled_from(["Jan", "Mon,", "1", "99", "2024", "+9999999999", "-"])] * 6
    ),
)


@given(headers, st.none() | st.just(TAG), st.none() | st.just(MODIFIED) | st.text(), st.none() | st.integers(0, 9))
@example({"if-modified-since": "Mon, 01 Jan 2024 00:00:00 +99999999999999"}, TAG, MODIFIED, 1)
@example({"if-modified-since": "Mon, 01 Jan 2024 00:00:00 -2400"}, TAG, MODIFIED, 1)
@example({"if-modified-since": "Mon, 01 Jan 0001 00:00:00 +2300"}, TAG, MODIFIED, 1)
def test_no_header_is_an_error(headers: dict[str, str], etag: str | None, modified: str | None, size: int) -> None:
    """Whatever a client, or the upstream in its Last-Modified, writes."""
    assert plan("GET", headers, etag=etag, modified=modified, size=size).status in (200, 206, 304, 412, 416)

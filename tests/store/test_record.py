"""What a record keeps of the redirects to it: bounded, and without anything that a query can hold."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from httpcache.store.record import HOPS, HOPS_BYTES, LEFT_OUT, Record, decode, encode, hops
from tests.support.examples import examples

URLS = st.lists(st.text("abc/?=&", max_size=400).map(lambda rest: f"http://h/{rest}"), max_size=2 * HOPS)


@settings(max_examples=examples(200))
@given(URLS)
def test_redirects_are_kept_within_bounds(urls: Sequence[str]) -> None:
    kept = hops(urls)
    named = [address for address in kept if address != LEFT_OUT]
    assert named == [url.partition("?")[0] for url in urls[: len(named)]]
    assert len(named) <= HOPS
    assert sum(map(len, named)) <= HOPS_BYTES
    assert (LEFT_OUT in kept) == (len(named) < len(urls))
    assert "?" not in "".join(kept)


@pytest.mark.parametrize("through", [(), ("http://h/a",), ("http://h/a", LEFT_OUT)])
def test_a_record_comes_back(through: tuple[str, ...]) -> None:
    """One without redirects is written as before there were any, so earlier ones are read like it."""
    record = Record("t", "p", "http://h/", "http://h/", "d" * 64, 3, 1.0, through=through)
    assert decode(encode(record)) == record
    assert (b"through" in encode(record)) == bool(through)

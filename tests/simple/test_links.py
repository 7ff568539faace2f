"""Links of index pages that are taken as they are: the fast path does not differ from the slow one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from httpcache.errors import BadAddress
from httpcache.target import canonical_url
from pypi_adapter.simple.links import _PLAIN_URL, resolve

PORTS = (
    0, 1, 79, 80, 81, 442, 443, 444, 999, 1000, 8080, 9999, 10000, 18301, 59999, 60000, 64999, 65000, 65499, 65500,
    65529, 65530, 65535, 65536, 65540, 65600, 66000, 70000, 99999, 100000,
)  # fmt: skip


@given(st.from_regex(_PLAIN_URL, fullmatch=True))
def test_the_short_way_is_the_same_as_the_long_one(url: str) -> None:
    assert resolve("https://example.com/simple/", f" {url}") == url  # a space in front goes the long way


@pytest.mark.parametrize("end", ["", "?", ";", ";?", ";a", "?a", "?;", "??", "?a?", ";/", "/;/b", ";a?b;"])
def test_what_urljoin_would_leave_out(end: str) -> None:
    url = f"https://files.example/a{end}"
    assert resolve("https://example.com/simple/", url) == url == resolve("https://example.com/simple/", f" {url}")


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("port", PORTS)
def test_every_port_can_be_linked(port: int, scheme: str) -> None:
    url, valid = f"{scheme}://files.example:{port}/a/b-1.whl", 0 < port < 65536
    assert (_PLAIN_URL.fullmatch(url) is not None) is valid
    assert resolve("https://example.com/simple/", url) == (url if valid else None)
    if valid:
        default = port == {"http": 80, "https": 443}[scheme]
        assert canonical_url(url) == (url.replace(f":{port}/", "/") if default else url)
        return
    with pytest.raises(BadAddress):
        canonical_url(url)

"""Build labels in addresses: what is labelled means what it means without, and no other address is touched."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from httpcache.errors import BadAddress
from httpcache.label import LABEL, Labelled, read_label

NAMES = ("internal", "all")
INDEXES = st.sampled_from(
    [
        "2023-11-18", "2023-11-18T15:30:00Z", "2023-11-18T15%3A30%3A00Z", "live", "live-7d", "tools-2023-11-18",
        "a--b-2023-11-18", "internal/2023-11-18", "all/live",
    ]
)  # fmt: skip
RESTS = st.sampled_from(
    [
        "", "/", "/requests/", "/requests/json", "/simple/", "/https://example.com/a--b-2024-01-02--c.whl",
        "/https%3A//example.com/?x=1", "/raw/https://example.com/", "/-x/", "/--/",
    ]
) | st.text().map(lambda text: f"/x{text}")  # fmt: skip
LABELS = st.from_regex(LABEL, fullmatch=True).filter(lambda label: not re.fullmatch(r"\d+[A-Za-z]", label))


@given(INDEXES, LABELS, RESTS)
def test_a_label_is_taken_out_and_nothing_else_changes(index: str, label: str, rest: str) -> None:
    found = read_label(f"/{index}--{label}{rest}", NAMES, ())
    plain = index.replace("%3A", ":")
    assert found == Labelled(label, plain, f"/{index}{rest}", f"/{index}--{label}/-")


@given(INDEXES, LABELS, RESTS, st.sampled_from(["/files/a/b/c-1.0.whl", "/internal/files/a/b/c-1.0.whl", ""]))
def test_a_link_in_an_answer_leads_to_the_plain_address_and_stays_in_the_label(
    index: str, label: str, rest: str, file: str
) -> None:
    page = read_label(f"/{index}--{label}{rest}", NAMES, ())
    assert page
    plain = file or f"/{index}{rest}"
    link = read_label(page.root + plain, NAMES, ())
    assert link == page._replace(path=plain)


@given(INDEXES, LABELS, RESTS)
def test_what_has_no_label_is_none_of_them(index: str, label: str, rest: str) -> None:
    assert read_label(f"/{index}{rest}", NAMES, ()) is None
    assert read_label(f"/plain--{label}{rest}", NAMES, ()) is None  # a pin without a date can have any name
    assert read_label(f"/other/{index.rpartition('/')[2]}--{label}{rest}", NAMES, ()) is None
    assert read_label(f"/tools-2023-11-18--{label}{rest}", NAMES, (f"tools-2023-11-18--{label}",)) is None


@pytest.mark.parametrize(
    "label", ["", "a--b", "-a", "a-", ".a", "a.", "a b", "a%20b", "ä", "a+b", "x" * 65, "a" * 150, "--"]
)
def test_an_invalid_label_is_refused(label: str) -> None:
    for address in (
        f"/2023-11-18--{label}/x/",
        f"/internal/2023-11-18--{label}/x/",
        f"/t-2023-11-18--{label}/https://h/",
    ):
        with pytest.raises(BadAddress, match="not a valid build label"):
            read_label(address, NAMES, ())


@pytest.mark.parametrize("label", ["7d", "1D", "30d", "1w", "2m"])
@pytest.mark.parametrize("name", ["", "internal/"])
def test_a_mistyped_cooldown_is_no_label(name: str, label: str) -> None:
    """It would be the live index, without the cooldown that was meant."""
    with pytest.raises(BadAddress, match=f"write /{name}live-{label}/"):
        read_label(f"/{name}live--{label}/x/", NAMES, ())
    for address in (f"/{name}live--{label}-x/x/", f"/{name}live-7d--{label}/x/", f"/{name}live--7/x/"):
        assert read_label(address, NAMES, ())


@pytest.mark.parametrize("inner", ["/2023-11-18--c/x/", "/tools-2024-01-02--c/https://h/", "/internal/live--c/x/"])
def test_two_labels_are_refused(inner: str) -> None:
    with pytest.raises(BadAddress, match="two build labels"):
        read_label(f"/2023-11-18--b/-{inner}", NAMES, ())


def test_a_long_address_of_labels_costs_little() -> None:
    with pytest.raises(BadAddress, match="two build labels"):
        read_label("/2023-11-18--b/-" * 5000, NAMES, ())
    assert read_label("/" + "2023-11-18T" * 6000, NAMES, ()) is None

"""Pages of dates that are kept in memory, and what is given without the history: files that are frozen."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

import anyio
import pytest

from httpcache.lru import SizedLRU
from httpcache.store import keys
from httpcache.store.local import LocalStore
from pypi_adapter.addresses import linked
from pypi_adapter.history.history import History, Observation
from pypi_adapter.history.snapshot import take_snapshot
from pypi_adapter.policy.policy import Policy
from pypi_adapter.policy.rules import Rule, Rules
from pypi_adapter.simple.model import File, Page, ProjectStatus
from pypi_adapter.simple.negotiation import MediaType
from pypi_adapter.web.dated_pages import DatedPage, DatedPages
from tests.support import http
from tests.support.index import BROWSER, PIP, ask, filenames, instant
from tests.support.inside import checked_records, damage_body
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.registries import PyPI

OLD = "2024-01-01T00:00:00Z"
DATE = "2024-01-02"
DEMO, LATER = wheel("demo", "1.0"), wheel("demo", "1.1")


# --- pages that are kept


def rules(*given: Rule) -> Policy:
    return Policy(Rules(given, ()))


def file(name: str) -> File:
    return File(name, f"https://files.example.org/{name}", {"sha256": sha256(name.encode()).hexdigest()})


ONE, TWO = file("p-1.0.tar.gz"), file("p-2.0.tar.gz")
HISTORY = History()
for at, seen in ((100, (ONE,)), (200, (ONE,)), (300, (ONE, TWO))):
    HISTORY.extend(HISTORY.observe(Observation(at, Page("p", seen))))
COMPACT = take_snapshot(HISTORY, lambda file: linked(file, "", "p"))
QUARANTINED = ProjectStatus("quarantined")


class Client:
    """Asks for pages."""

    def __init__(self) -> None:
        self._pages = DatedPages()

    def body(
        self, at: int, policy: Policy, status: ProjectStatus | None = None, form: MediaType = MediaType.JSON
    ) -> DatedPage:
        snapshot_page = COMPACT.at(at)
        assert snapshot_page
        return anyio.run(self._pages.rendered, "p", snapshot_page, form, policy, status)

    def read(
        self, at: int, policy: Policy, status: ProjectStatus | None = None, form: MediaType = MediaType.JSON
    ) -> tuple[str, str]:
        """The page and its Cache-Control."""
        body, cache_control = self.body(at, policy, status, form)
        return body.plain.decode(), cache_control


def test_one_body_for_all_instants_between_two_changes() -> None:
    client, policy = Client(), rules()
    first = client.body(100, policy)
    assert client.body(299, policy) is first
    assert client.body(300, policy) is not first
    assert client.body(100, policy, None, MediaType.HTML) is not first


@pytest.mark.parametrize(
    "rule",
    [
        Rule("p", None, None, "evil", "us"),
        Rule("p", ">=2", None, "evil", "us"),
        Rule(None, None, TWO.hashes["sha256"], "evil", "us"),
        Rule("p", None, TWO.hashes["sha256"], "evil", "us"),
    ],
)
@pytest.mark.parametrize("form", [MediaType.JSON, MediaType.HTML])
def test_a_rule_counts_from_when_it_is_there_until_it_is_gone(rule: Rule, form: MediaType) -> None:
    client, free, ruled = Client(), rules(), rules(rule)
    whole = client.read(300, free, None, form)
    assert TWO.filename in whole[0]
    assert "immutable" in whole[1]
    for policy in (ruled, rules(rule)):
        held = client.read(300, policy, None, form)
        assert TWO.filename not in held[0]
        assert "immutable" not in held[1]
        assert client.body(300, policy, None, form) is client.body(300, policy, None, form)
    assert client.read(300, free, None, form) == whole


def test_a_rule_that_withholds_nothing_at_an_instant_leaves_its_page_for_ever() -> None:
    body, cache_control = Client().read(100, rules(Rule("p", ">=2", None, "evil", "us")))
    assert (body, cache_control) == Client().read(100, rules())
    assert "immutable" in cache_control


def test_a_rule_about_a_content_in_another_project() -> None:
    body, cache_control = Client().read(300, rules(Rule("q", None, ONE.hashes["sha256"], "evil", "us")))
    assert (body, cache_control) == Client().read(300, rules())
    assert "immutable" in cache_control


def test_a_quarantine_counts_from_when_it_is_observed_until_it_ends() -> None:
    client, policy = Client(), rules()
    whole = client.body(100, policy)
    assert ONE.filename not in client.read(100, policy, QUARANTINED)[0]
    assert client.body(100, policy, ProjectStatus("archived")) is whole


def test_what_was_used_last_is_kept_up_to_so_many_bytes() -> None:
    kept: SizedLRU[str, int] = SizedLRU(10)
    for name in "abc":
        kept.put(name, 0, 4)
    assert [kept.get(name) for name in "abc"] == [None, 0, 0]
    kept.get("b")
    kept.put("d", 0, 4)
    assert [kept.get(name) for name in "bcd"] == [0, None, 0]
    kept.put("b", 1, 6)  # it has grown
    assert [kept.get(name) for name in "bd"] == [1, 0]
    kept.put("large", 0, 99)
    assert [kept.get(name) for name in ("b", "d", "large")] == [None, None, 0]


def test_only_the_answer_that_was_observed_for_says_so(pypi: PyPI, mirror: Callable[..., Mirror]) -> None:
    pypi.upload(DEMO, OLD)
    running: Mirror = mirror(pypi)
    for accept in (PIP, BROWSER):
        at = f"{running.at(instant())}demo/"
        first, second = ask(at, accept), ask(at, accept)
        assert first.headers["cache-status"] == "httpcache; fwd=uri-miss; stored"
        assert second.headers["cache-status"] == "httpcache; hit"
        assert first.content == second.content
        same = {"content-type", "etag", "cache-control", "vary", "content-security-policy"}
        assert {name: first.headers[name] for name in same} == {name: second.headers[name] for name in same}


# --- files


@pytest.fixture
def frozen(pypi: PyPI, mirror: Callable[..., Mirror]) -> tuple[Mirror, str]:
    """A mirror that has a wheel and its metadata frozen, and the address of the wheel."""
    pypi.upload(DEMO, OLD)
    running: Mirror = mirror(pypi)
    filenames(f"{running.at(DATE)}demo/")
    address = f"/files/demo/{DEMO.sha256}/{DEMO.filename}"
    for suffix in ("", ".metadata"):
        assert http.get(f"{running.url}{address}{suffix}").status_code == 200
    return running, address


def lose_log(running: Mirror) -> None:
    async def work() -> None:
        store = LocalStore(running.data)
        assert await store.remove(keys.numbered(keys.log("pypi/demo"), 0))
        store.close()

    running.stop()
    anyio.run(work)


def test_a_frozen_file_needs_no_listing(frozen: tuple[Mirror, str]) -> None:
    running, address = frozen
    lose_log(running)
    running.start("--offline")
    assert http.get(f"{running.url}{address}").content == DEMO.data
    assert b"Name: demo" in http.get(f"{running.url}{address}.metadata").content


def test_a_frozen_file_is_withheld(frozen: tuple[Mirror, str], pypi: PyPI) -> None:
    """By the registry's quarantine, as soon as it is observed."""
    running, address = frozen
    pypi.set_status("demo", "quarantined", "a worm")
    filenames(f"{running.at('live')}demo/")
    for suffix in ("", ".metadata"):
        answer = http.get(f"{running.url}{address}{suffix}")
        assert answer.status_code == 403
        assert f"{DEMO.filename} is withheld by the registry" in answer.text
        assert "a worm" in answer.text


@pytest.mark.parametrize("suffix", ["", ".metadata"])
def test_a_frozen_file_that_is_damaged_is_asked_for_where_its_listing_says(
    suffix: str, frozen: tuple[Mirror, str]
) -> None:
    running, address = frozen
    good = http.get(f"{running.url}{address}{suffix}").content
    running.stop()
    damage_body(running.data, good, lambda path: path.write_bytes(good[::-1]))
    running.start()
    assert http.get(f"{running.url}{address}{suffix}").content == good
    assert checked_records(running.data)


def test_another_content_under_the_name_of_a_frozen_file(frozen: tuple[Mirror, str]) -> None:
    running, address = frozen
    for wrong in (LATER.sha256, f"id-{DEMO.sha256}", DEMO.sha256.upper()):
        assert http.get(f"{running.url}{address.replace(DEMO.sha256, wrong)}").status_code == 404

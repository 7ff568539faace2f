"""How wrong keys are counted, how rates are kept, and what a list of commands comes to: pure, or in one process."""

from __future__ import annotations

from base64 import b64encode
from ipaddress import IPv6Address
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from httpcache.access_keys import Rights, digest, key_of, new_key, split_key
from httpcache.credentials import read_credentials
from httpcache.errors import Refused, without_keys
from httpcache.keys.current import CurrentKeys
from httpcache.keys.guesses import ADDRESSES, MINUTE, MOST, Guesses
from httpcache.keys.key_log import Added, KeyLog, Rate, Revoked, added, issued
from httpcache.keys.rates import Rates
from httpcache.store.local import LocalStore
from httpcache.target import shown_address

KEY = "hck_0123456789abcdefghijABCDEFGHIJ-_"


class Clock:
    """A clock that the test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def basic(text: str) -> str:
    return f"Basic {b64encode(text.encode()).decode()}"


# Their shape


@pytest.mark.parametrize("key", [KEY, *(new_key() for _ in range(20))], ids=range(21))
def test_keys_are_long_and_fit_everywhere(key: str) -> None:
    """In an address and in a header as they are; and what is recognised is what is made."""
    assert len(key) == 36
    assert split_key(f"/k/{key}/x".encode()) == (key, b"/x")
    assert key_of(f"Bearer {key}") == key_of(basic(f"user:{key}")) == key
    assert key not in without_keys(f"x {key} /k/{key}/x?{key}")
    assert len(digest(key)) == 32


@pytest.mark.parametrize(
    ("authorization", "key"),
    {
        f"Bearer {KEY}": KEY,
        f"bearer  {KEY} ": KEY,
        basic(f"x:{KEY}"): KEY,
        basic(f":{KEY}"): KEY,
        basic(f"{KEY}:"): KEY,
        basic(KEY): KEY,
        basic(f"{KEY}:other"): KEY,
        basic(f"x:a{KEY}"): None,
        f"Bearer x{KEY}": None,
        f"Digest {KEY}": None,
        KEY: None,
        "Basic !": None,
        "Basic": None,
        "": None,
        basic("x:hck"): None,
    }.items(),
)
def test_where_a_key_stands(authorization: str, key: str | None) -> None:
    """In Basic and Bearer alone; and what has one is no login for an upstream."""
    assert key_of(authorization) == key
    assert bool(read_credentials({"authorization": authorization}, ()).levels[-1]) == (key is None)


@pytest.mark.parametrize(
    ("path", "split"),
    {
        f"/k/{KEY}/2024-01-02/": (KEY, b"/2024-01-02/"),
        f"/k/{KEY}": (KEY, b"/"),
        f"/k/{KEY}/": (KEY, b"/"),
        f"/k/{KEY}//x/k/": (KEY, b"//x/k/"),
        "/k/hck_": ("hck_", b"/"),
        "/k/https://host/": None,
        f"/K/{KEY}/": None,
        f"//k/{KEY}/": None,
        f"/x/k/{KEY}/": None,
    }.items(),
)
def test_where_a_key_begins_an_address(path: str, split: tuple[str, bytes] | None) -> None:
    assert split_key(path.encode()) == split


@pytest.mark.parametrize(
    ("path", "shown"),
    {
        f"/k/{KEY}/pin/https://host/x": "/pin/https://host/x",
        f"/mirror/k/{KEY}/2024-01-02/six/": "/mirror/2024-01-02/six/",
        f"/k/{KEY}": "/",
        f"/pin/https://host/{KEY}": "/pin/https://host/hck_…",
        f"/pin/https://{KEY}@host/x": "/pin/https://host/x",
        f"/pin/https%3A//x:{KEY}%40host": "/pin/https://host/",
        f"/{KEY}/x": "/hck_…/x",
    }.items(),
)
def test_no_log_shows_a_key(path: str, shown: str) -> None:
    assert shown_address(path.encode(), b"") == shown
    assert KEY not in shown_address(path.encode(), f"a={KEY}&{KEY}".encode())


# What they open


@pytest.mark.parametrize(
    ("pins", "registries", "opens"),
    [
        ([], [], {"pin", "other", "one", "two", "both"}),
        (["tools"], [], {"pin"}),
        ([], ["one"], {"one"}),
        ([], ["one", "two"], {"one", "two", "both"}),
        ([], ["both"], {"one", "two", "both"}),
        ([], ["only-one"], {"one"}),
        (["tools"], ["two"], {"pin", "two"}),
        (["x"], [], set()),
    ],
)
def test_what_rights_open(pins: list[str], registries: list[str], opens: set[str]) -> None:
    """A group is opened by its name, or by those of all its registries; its name opens these too."""
    rights = Rights("key", frozenset(pins), frozenset(registries))
    one, two = {"one", "both", "only-one"}, {"two", "both"}

    def is_open(what: str) -> bool:
        try:
            if what in ("pin", "other"):
                rights.check_pin("tools-2024-01-02" if what == "pin" else "other-2024-01-02")
            else:
                rights.check_registries(what, {"one": [one], "two": [two], "both": [one, two]}[what])
        except Refused:
            return False
        return True

    assert {what for what in ("pin", "other", "one", "two", "both") if is_open(what)} == opens


# Guesses


def test_guesses_of_one_client() -> None:
    clock = Clock()
    guesses = Guesses(clock)
    guesses.right("192.0.2.1", 7)
    assert [guesses.wrong("192.0.2.1") for _ in range(MOST)] == [False] * (MOST - 1) + [True]
    assert guesses.wait("192.0.2.1", None) == guesses.wait("192.0.2.1", 8) == MINUTE
    assert guesses.wait("192.0.2.1", 7) == guesses.wait("192.0.2.2", None) == guesses.wait("192.0.2.2", 8) == 0
    clock.now += MINUTE
    assert guesses.wait("192.0.2.1", None) == 0
    assert not guesses.wrong("192.0.2.1")
    assert guesses.wait("192.0.2.1", None) == 0


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("2001:db8::1", "2001:db8::2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("", "192.0.2.2", False),
    ],
)
def test_what_counts_as_one_client(first: str, second: str, same: bool) -> None:
    """Whoever has an address of IPv6 usually has the whole network of it."""
    guesses = Guesses()
    for _ in range(MOST):
        guesses.wrong(first)
    assert bool(guesses.wait(second, None)) == same


def test_guesses_take_little_memory() -> None:
    """However many addresses they come from; those that come last are counted."""
    guesses = Guesses()
    for number in range(ADDRESSES + 100):
        client = str(IPv6Address(number << 64))
        guesses.wrong(client)
        guesses.right(client, number)
    assert len(guesses._wrong._values) == ADDRESSES
    assert len(guesses._right._values) == ADDRESSES


# Rates


@given(st.integers(1, 50), st.floats(1e3, 1e5))
def test_as_many_as_a_rate_says(requests: int, seconds: float) -> None:
    """All at once if they like, and one more only after its time; a refused one moves nothing."""
    rates = Rates(None)
    rate = Rate(requests, seconds)
    assert [rates.wait(1, rate) for _ in range(requests)] == [0.0] * requests
    step = seconds / requests
    for _ in range(3):
        assert step * 0.9 - 1 < rates.wait(1, rate) <= step
    assert rates.wait(2, rate) == 0
    rates.close()


def test_processes_share_a_rate(tmp_path: Path) -> None:
    first, second = Rates(tmp_path), Rates(tmp_path)
    rate = Rate(4, 3600.0)
    assert [each.wait(1, rate) for each in (first, second) * 2] == [0.0] * 4
    assert first.wait(1, rate) > 0
    assert second.wait(1, rate) > 0
    for each in (first, second):
        each.close()


# The log


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abc")), max_size=12))
def test_what_commands_come_to(commands: list[tuple[bool, str]]) -> None:
    """The key that was added last under a name is the one that is revoked, and only once."""
    entries: list[Added | Revoked] = []
    active: dict[str, int] = {}
    revoked: set[int] = set()
    for adds, name in commands:
        if adds and name in active:
            continue
        if adds:
            active[name] = len(entries)
        elif name in active:
            revoked.add(active.pop(name))
        entries.append(added(new_key(), Rights(name), expires=None, rate=None) if adds else Revoked(name, 1.0))
    found = issued(entries)
    assert {each.number for each in found if each.revoked is None} == set(active.values())
    assert {each.number for each in found if each.revoked is not None} == revoked


def test_what_one_process_adds_another_knows(tmp_path: Path) -> None:
    """And what it revokes; the store has no key, only hashes."""

    async def work() -> str:
        stores = LocalStore(tmp_path), LocalStore(tmp_path)
        try:
            current, log, key = CurrentKeys(stores[0]), KeyLog(stores[1]), new_key()
            assert await current.find(key) is None
            await log.add(added(key, Rights("ci"), expires=None, rate=Rate(1, 1.0)))
            found = await current.find(key)
            assert found is not None
            assert (found.key.name, found.key.rate, found.state(0.0)) == ("ci", Rate(1, 1.0), "active")
            assert await current.find(key[:-1] + "!") is None
            await log.revoke("ci")
            found = await current.find(key)
            assert found is not None
            assert found.state(0.0) == "revoked"
        finally:
            for store in stores:
                store.close()
        return key

    key = anyio.run(work)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and key.encode() in path.read_bytes()]

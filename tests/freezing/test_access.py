"""What an answer is worth, as tables: who reads what, what proves access, what may not be frozen."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from httpcache.freezing.access import Proof, Verdict, proof, verdict
from httpcache.store.record import Absence, Record
from httpcache.upstream.sign_in import challenge, challenged_realm, is_misplaced

BINARY, HTML, JSON = "application/octet-stream", "text/html; charset=utf-8", "application/json"


def record(scope: str = "", *, created: float = 5.0, kind: str = BINARY) -> Record:
    headers = {"content-type": kind} if kind else {}
    return Record("t", "pin", "u", "f", "d", 1, created, scope, headers, place="here" if scope else "")


def absence(created: float) -> Absence:
    return Absence("t", "pin", "u", 404, created)


OPEN = {"open_to_all": False, "granted": False, "sound": True}
MINE, THEIRS = frozenset({"", "alice"}), frozenset({"", "mallory"})


@pytest.mark.parametrize(
    ("found", "missing", "scopes", "facts", "expected"),
    [
        (None, None, MINE, {}, Verdict.FETCH),
        (None, None, MINE, {"open_to_all": True}, Verdict.FETCH),
        (None, absence(1), MINE, {}, Verdict.ABSENT),
        (None, absence(1), MINE, {"open_to_all": True}, Verdict.ABSENT),
        (record(), None, frozenset({""}), {}, Verdict.SERVE),
        (record(), absence(1), MINE, {}, Verdict.ABSENT),
        (record(), absence(5), MINE, {}, Verdict.ABSENT),
        (record(), absence(9), MINE, {}, Verdict.SERVE),
        (record(), absence(1), MINE, {"open_to_all": True}, Verdict.ABSENT),
        (record("alice"), absence(1), MINE, {}, Verdict.ABSENT),
        (record("alice"), absence(1), THEIRS, {"open_to_all": True}, Verdict.SERVE),
        (record("alice"), None, MINE, {}, Verdict.SERVE),
        (record("alice"), None, THEIRS, {}, Verdict.ASK),
        (record("alice"), absence(9), THEIRS, {}, Verdict.ASK),
        (record("alice"), None, frozenset({""}), {}, Verdict.ASK),
        (record("alice"), None, THEIRS, {"granted": True}, Verdict.SERVE),
        (record("alice"), None, frozenset({""}), {"open_to_all": True}, Verdict.SERVE),
        (record("alice"), None, THEIRS, {"sound": False}, Verdict.ASK),
        (record("alice"), None, MINE, {"sound": False}, Verdict.MEND),
        (record(), None, MINE, {"sound": False}, Verdict.MEND),
        (record(), absence(1), MINE, {"sound": False}, Verdict.ABSENT),
    ],
)
def test_verdict(
    found: Record | None, missing: Absence | None, scopes: frozenset[str], facts: dict[str, bool], expected: Verdict
) -> None:
    assert verdict(found, missing, scopes, **(OPEN | facts)) is expected


@given(st.sampled_from(["alice", "bob"]), st.sets(st.sampled_from(["", "alice", "bob", "mallory"])), st.booleans())
def test_a_private_copy_is_never_served_to_who_has_no_right(scope: str, scopes: set[str], sound: bool) -> None:
    for missing in (None, absence(1), absence(9)):
        found = verdict(record(scope), missing, scopes, open_to_all=False, granted=False, sound=sound)
        assert (found in (Verdict.SERVE, Verdict.MEND)) <= (scope in scopes)


@pytest.mark.parametrize(
    ("frozen", "place", "kind", "expected"),
    [
        (BINARY, "here", BINARY, Proof.NOTHING),
        (BINARY, "here", "", Proof.NOTHING),
        ("", "here", BINARY, Proof.NOTHING),
        ("text/plain", "here", "Text/Plain; charset=x", Proof.NOTHING),
        ("text/plain", "here", BINARY, Proof.BYTES),
        (BINARY, "elsewhere", BINARY, Proof.BYTES),
        (BINARY, "", BINARY, Proof.BYTES),
        (BINARY, "here", HTML, Proof.BYTES),
        (BINARY, "here", JSON, Proof.BYTES),
        (BINARY, "here", "application/problem+json", Proof.BYTES),
        ("", "here", "application/xhtml+xml", Proof.BYTES),
        (HTML, "here", HTML, Proof.PAGE),
        (HTML, "here", JSON, Proof.PAGE),
        (JSON, "here", "application/vnd.pypi.simple.v1+json", Proof.PAGE),
        (JSON, "here", "text/xml", Proof.PAGE),
        (HTML, "elsewhere", HTML, Proof.BYTES),
    ],
)
def test_proof(frozen: str, place: str, kind: str, expected: Proof) -> None:
    found = record("alice", kind=frozen)
    assert proof(found, place, kind) is expected


H, OTHER = "https://h", "https://cdn"


@pytest.mark.parametrize(
    ("asked", "url", "kind", "expected"),
    [
        (f"{H}/x.tar.gz", f"{H}/login", HTML, True),
        (f"{H}/x.tar.gz", f"{OTHER}/login?from=/x.tar.gz", HTML, True),
        (f"{H}/x.tar.gz", f"{H}/login", "application/xhtml+xml", True),
        (f"{H}/x.whl?token=1", f"{H}/login", "TEXT/HTML", True),
        (f"{H}/x.7z", f"{H}/login", HTML, True),
        (f"{H}/x.deb", f"{H}/", HTML, True),
        (f"{H}/x.tar.gz", f"{H}/x.tar.gz", HTML, False),
        (f"{H}/x.tar.gz", f"{OTHER}/blob", BINARY, False),
        (f"{H}/x.tar.gz", f"{OTHER}/error", JSON, False),
        (f"{H}/x.html", f"{H}/login", HTML, False),
        (f"{H}/x.PHP?file=y.zip", f"{H}/login", HTML, False),
        (f"{H}/docs/", f"{H}/docs/index.html", HTML, False),
        (f"{H}/docs", f"{H}/docs/", HTML, False),
        (f"{H}/v1.0", f"{H}/docs/", HTML, False),
        (f"{H}/", f"{H}/login", HTML, False),
        (f"{H}", f"{H}/login", HTML, False),
        (f"{H}/simple/ruamel.yaml", f"{H}/simple/ruamel-yaml/", HTML, False),
        (f"{H}/simple/Zope.Interface", f"{OTHER}/simple/zope-interface/", HTML, False),
        (f"{H}/a.b/c", f"{H}/login", HTML, False),
    ],
)
def test_is_misplaced(asked: str, url: str, kind: str, expected: bool) -> None:
    assert is_misplaced(asked, url, kind) is expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('Basic realm="x"', '"x"'),
        ('basic charset="UTF-8", realm="x"', None),
        ('Negotiate, Basic realm="GitLab Packages"', '"GitLab Packages"'),
        ('Bearer realm="https://h/token",service="r", Basic realm=plain', '"plain"'),
        ('BASIC  REALM = "a\\"b"', '"a\\"b"'),
        ('Basic realm="a\x00b"', None),
        ('Basic realm="' + "x" * 300 + '"', None),
        ("Basic", None),
        ("", None),
        ('Bearer realm="x"', None),
    ],
)
def test_the_realm_of_a_challenge(header: str, expected: str | None) -> None:
    assert challenged_realm(header) == expected


def test_a_challenge_without_a_known_realm_names_the_origin() -> None:
    assert challenge("https://h", None) == challenge("https://h", "") == 'Basic realm="https://h"'
    assert challenge("https://h", '"x"') == 'Basic realm="x"'


@given(st.text(), st.text())
def test_no_header_is_an_error(header: str, text: str) -> None:
    for one, two in itertools.permutations((header, text), 2):
        assert "\n" not in (challenged_realm(one) or "")
        assert is_misplaced(f"{H}/{one}", f"{H}/{two}", one) in (True, False)

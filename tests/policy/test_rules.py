"""Block rules: what they name, exceptions, what cannot be told, and rules as an operator writes them."""

from __future__ import annotations

import time
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from httpcache.errors import MirrorError
from httpcache.settings_file import SettingsFile
from pypi_adapter.policy.policy import Tables
from pypi_adapter.policy.rules import Rule, Rules, read_rules

A, B = "a" * 64, "b" * 64


def rule(project: str | None = None, versions: str | None = None, sha256: str | None = None) -> Rule:
    return Rule(project, versions, sha256, "stole keys", "settings")


@pytest.mark.parametrize(
    ("blocked", "file", "expected"),
    [
        (rule("evil"), ("evil", "1.0", A), True),
        (rule("evil"), ("evil", None, None), True),
        (rule("evil"), ("evil-2", "1.0", A), False),
        (rule("p", "==1.0"), ("p", "1.0", A), True),
        (rule("p", "==1.0"), ("p", "1.0.0", A), True),
        (rule("p", "==1.0.0"), ("p", "v1", A), True),
        (rule("p", "==1.0"), ("p", "1.0.1", A), False),
        (rule("p", "==1.0"), ("p", "1.0+cu121", A), True),
        (rule("p", "==1.0"), ("q", "1.0", A), False),
        (rule("p", ">=1.0,<1.2"), ("p", "1.1", None), True),
        (rule("p", ">=1.0,<1.2"), ("p", "1.1rc1", None), True),
        (rule("p", ">=1.0,<1.2"), ("p", "1.2", None), False),
        (rule("p", "==1.*"), ("p", "1.5.dev3", None), True),
        (rule("p", "==1.0"), ("p", None, A), True),
        (rule("p", "==1.0"), ("p", "2004-final", A), True),
        (rule("p", "==1.0"), ("p", "1" * 5000, A), True),
        (rule("p", "==1.0"), ("q", None, A), False),
        (rule(sha256=A), ("p", "1.0", A), True),
        (rule(sha256=A), ("p", "1.0", B), False),
        (rule(sha256=A), ("p", "1.0", None), False),
        (rule("p", sha256=A), ("p", None, A), True),
        (rule("p", sha256=A), ("q", None, A), False),
    ],
)
def test_a_file(blocked: Rule, file: tuple[str, str | None, str | None], expected: bool) -> None:
    found = Rules([blocked], []).file(*file)
    assert (found is not None) == expected
    assert found is None or (found.source, found.versions) == (blocked.source, blocked.versions)


@pytest.mark.parametrize(("version", "told"), [("1.0", True), (None, False), ("2004-final", False)])
def test_the_reason_says_if_the_version_cannot_be_told(version: str | None, told: bool) -> None:
    found = Rules([rule("p", "==1.0")], []).file("p", version, A)
    assert found is not None
    assert found.reason.startswith("stole keys")
    assert ("the version of this file is unknown" in found.reason) == (not told)
    assert ("==1.0" in found.reason) == (not told)


@pytest.mark.parametrize(
    ("blocked", "allowed", "file", "expected"),
    [
        (rule("p"), rule("p"), ("p", "1.0", A), False),
        (rule("p"), rule("p"), ("p", None, None), False),
        (rule("p"), rule("q"), ("p", "1.0", A), True),
        (rule("p"), rule("p", "==1.0"), ("p", "1.0.0", A), False),
        (rule("p"), rule("p", "==1.0"), ("p", "1.1", A), True),
        (rule("p"), rule("p", "==1.0"), ("p", None, A), True),
        (rule("p", "==1.1"), rule("p", ">0"), ("p", None, A), True),
        (rule("p", "==1.1"), rule("p"), ("p", None, A), False),
        (rule("p", "<2"), rule("p", "==1.*"), ("p", "1.1rc1", A), False),
        (rule("p", "<2"), rule("p", "==1.*"), ("p", "0.9", A), True),
        (rule("p"), rule(sha256=A), ("p", None, A), False),
        (rule("p"), rule(sha256=A), ("p", None, B), True),
        (rule("p"), rule(sha256=A), ("p", None, None), True),
        (rule("p"), rule("p", sha256=A), ("p", None, A), False),
        (rule(sha256=A), rule("q", sha256=A), ("p", None, A), True),
        (rule(sha256=A), rule("p"), ("p", "1.0", A), False),
    ],
)
def test_exceptions_win(blocked: Rule, allowed: Rule, file: tuple[str, str | None, str | None], expected: bool) -> None:
    assert (Rules([blocked], [allowed]).file(*file) is not None) == expected


def test_a_project() -> None:
    whole = rule("p")
    assert Rules([rule("p", "==1"), whole, rule("p")], []).project("p") is whole
    assert Rules([whole], []).project("q") is None
    assert Rules([rule("p", ">=0"), rule("p", sha256=A), rule(sha256=B)], []).project("p") is None
    for allowed in (rule("p"), rule("p", "==1"), rule("p", sha256=A)):
        assert Rules([whole], [allowed]).project("p") is None
    for allowed in (rule("q"), rule(sha256=A)):
        assert Rules([whole], [allowed]).project("p") is whole


@pytest.mark.parametrize(
    ("project", "versions", "sha256"),
    [
        (None, None, None),
        (None, "==1.0", None),
        (None, "==1.0", A),
        ("p", "==1.0", A),
        ("P", None, None),
        ("p_q", None, None),
        ("p", "", None),
        ("p", " , ", None),
        ("p", "1.0", None),
        ("p", ">=1.0+x", None),
        ("p", "==" + "1" * 5000, None),
        (None, None, "A" * 64),
        (None, None, "a" * 63),
        (None, None, ""),
    ],
)
def test_no_rules(project: str | None, versions: str | None, sha256: str | None) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        rule(project, versions, sha256)


# --- against a slow model

versions = st.sampled_from(["0.9", "1", "1.0.0", "1.0rc1", "1.0.dev1", "1.0.post1", "1.0+x", "1!0.1", "2.0"])
specifiers = st.sampled_from(["==1.0", "<1.0", "<=1.0", ">=1.0rc1", ">0.9,!=1.0", "==1.*", "~=1.0", "===1", "!=2"])
names, digests = st.sampled_from(["p", "q"]), st.sampled_from([A, B])
rules = st.lists(
    st.builds(rule, names)
    | st.builds(rule, names, specifiers)
    | st.builds(rule, st.none() | names, st.none(), digests),
    max_size=4,
)


def names_it(each: Rule, name: str, version: str | None, sha256: str | None, *, surely: bool) -> bool:
    """Whether a rule names a file; if its version cannot be told: surely or maybe."""
    if each.project not in (None, name) or each.sha256 not in (None, sha256):
        return False
    if each.versions is None:
        return True
    return not surely if version is None else SpecifierSet(each.versions).contains(Version(version), prereleases=True)


@given(rules, rules, names, st.none() | versions, st.none() | digests)
def test_the_model_agrees(
    blocked: list[Rule], allowed: list[Rule], name: str, version: str | None, sha256: str | None
) -> None:
    file = (name, version, sha256)
    excepted = any(names_it(each, *file, surely=True) for each in allowed)
    maybe = any(names_it(each, *file, surely=False) for each in blocked)
    assert (Rules(blocked, allowed).file(*file) is not None) == (maybe and not excepted)


@given(rules, rules, names, st.none() | versions, st.none() | digests)
def test_of_a_blocked_project_no_file_may_be_had_but_an_excepted_content(
    blocked: list[Rule], allowed: list[Rule], name: str, version: str | None, sha256: str | None
) -> None:
    both = Rules(blocked, allowed)
    if both.project(name) and both.file(name, version, sha256) is None:
        assert rule(sha256=sha256) in allowed


def test_many_rules_cost_a_lookup_nothing() -> None:
    many = [rule(f"evil-{number}", "==1.0" if number % 2 else None) for number in range(100_000)]
    many += [rule(sha256=f"{number:064x}") for number in range(100_000)]
    both = Rules(many, [])
    started = time.process_time()
    assert sum(both.file(f"evil-{number}", "1.0", A) is not None for number in range(0, 100_000, 100)) == 1000
    assert sum(both.file("p", "1.0", f"{number:064x}") is not None for number in range(0, 100_000, 100)) == 1000
    assert time.process_time() - started < 1, "2,000 lookups, each far below a pass over the rules"


# --- as an operator writes them

DOCUMENT = f"""
[[block]]
project = "Typo_Squat"
reason = "  takes tokens "

[[block]]
project = "num2words"
versions = ">=0.5.15,<=0.5.16"

[[block]]
sha256 = "{A.upper()}"

[[allow]]
project = "num2words"
sha256 = "{B}"
reason = "read by us on 2025-07-30"
"""


def read(document: str) -> tuple[list[Rule], list[Rule]]:
    """The blocks and the exceptions of a settings file."""
    file = SettingsFile(Path("rules.toml"), tomllib.loads(document), document)
    tables = file.tables(Tables)
    return read_rules(tables.block, "block", file), read_rules(tables.allow, "allow", file)


def test_reading() -> None:
    assert read(DOCUMENT) == (
        [
            Rule("typo-squat", None, None, "takes tokens", "rules.toml"),
            Rule("num2words", ">=0.5.15,<=0.5.16", None, "no reason given", "rules.toml"),
            Rule(None, None, A, "no reason given", "rules.toml"),
        ],
        [Rule("num2words", None, B, "read by us on 2025-07-30", "rules.toml")],
    )
    assert read("") == ([], [])


@pytest.mark.parametrize(
    ("document", "line", "what"),
    [
        ('[block]\nproject = "p"', 1, "write [[block]]"),
        ("block = [1]", 1, "must be a table, not a whole number"),
        ('[[block]]\nproject = "p"\n[[block]]\nproject = "p"\nversion = "1"', 5, "did you mean 'versions'?"),
        ("[[block]]\nproject = 1", 2, "must be a string"),
    ],
)
def test_errors_of_the_form_say_where(document: str, line: int, what: str) -> None:
    with pytest.raises(MirrorError) as caught:
        read(document)
    assert caught.value.text.startswith(f"rules.toml:{line}: ")
    assert what in caught.value.text


@pytest.mark.parametrize(
    ("document", "where", "what"),
    [
        ('\n[[block]]\nreason = "r"', "2: [[block]]", "neither a project nor a sha256"),
        ('[[block]]\nproject = ""', "1: [[block]]", "name is invalid"),
        ('[[block]]\nproject = "a/b"', "1: [[block]]", "name is invalid: 'a/b'"),
        ('[[block]]\nproject = "p"\nversions = "1.0"', "1: [[block]]", "Invalid specifier: '1.0'"),
        ('[[block]]\nproject = "p"\nversions = ""', "1: [[block]]", "is empty: for all versions leave it out"),
        ('[[block]]\nversions = "==1"', "1: [[block]]", "neither a project nor a sha256"),
        (f'[[block]]\nversions = "==1"\nsha256 = "{A}"', "1: [[block]]", "versions need a project"),
        ('[[block]]\nproject = "p"\n[[block]]\nsha256 = "abc"', "3: [[block]]", "'abc' is not a sha256"),
        ('[[allow]]\nproject = "p"', "1: [[allow]]", "it has no reason"),
        ('[[allow]]\nproject = "p"\nreason = " "', "1: [[allow]]", "it has no reason"),
    ],
)
def test_errors_say_where_and_how_to_write_it(document: str, where: str, what: str) -> None:
    with pytest.raises(MirrorError) as caught:
        read(document)
    text = caught.value.text
    assert text.startswith(f"rules.toml:{where}: ")
    assert what in text
    assert 'project = "name"' in text
    assert text.endswith('reason = "why" ([[allow]] needs one)')

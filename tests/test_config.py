"""The tables of the settings file: what is read from them, and what stops the start with a text on how to write it."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import pytest

from httpcache import settings_file
from httpcache.errors import MirrorError
from pypi_adapter.config import Config, GroupConfig, read_config
from pypi_adapter.registry.scope import ALL, LISTED, REQUESTED, Scope
from tests.support.command import run, told
from tests.support.config import table
from tests.support.mirror import free_port

SECRET = "S3CRET of ours, ü"
INDEX = "https://gitlab.example/api/v4/projects/7/packages/pypi/simple"
ENVIRONMENT = {
    "TOKEN": SECRET,
    "EMPTY": "",
    "TWO_LINES": f"{SECRET}\n{SECRET}",
    "BYTES": "S3CRET\udcff",
    "PLAIN": "t0ken",
}
BASIC: dict[str, Any] = {"user": "ci", "password": {"env": "TOKEN"}}


def read(folder: Path, text: str) -> Config:
    (folder / "mirror.toml").write_text(text)
    return read_config(settings_file.read(folder / "mirror.toml"), ENVIRONMENT)


def registry(name: str = "internal", index: str = INDEX, **keys: object) -> str:
    return table("registry", name=name, index=index, **keys)


def test_all_of_it(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t0ken\n")
    (tmp_path / "names").write_text("Some.Thing # of ours\n\n")
    config = read(
        tmp_path,
        registry(**BASIC)
        + registry("second", "HTTPS://Other.example:443/simple/", header="Private-Token", value={"file": "token"})
        + registry("third", header="Authorization", value={"env": "PLAIN"}, capture="names")
        + registry("open", capture="all")
        + table("group", name="everything", registries=["internal", "pypi"])
        + table("block", project="evil")
        + '[cooldown]\nexempt = ["Our.Own"]\n',
    )
    basic = "Basic " + base64.b64encode(f"ci:{SECRET}".encode()).decode()
    assert [(each.name, each.index, each.credentials.levels) for each in config.registries] == [
        ("internal", f"{INDEX}/", ((("authorization", basic),),)),
        ("second", "https://other.example/simple/", ((("private-token", "t0ken"),),)),
        ("third", f"{INDEX}/", ((("authorization", "t0ken"),),)),
        ("open", f"{INDEX}/", ((),)),
    ]
    scopes = [Scope(REQUESTED), Scope(REQUESTED), Scope(LISTED, ("some-thing",)), Scope(ALL)]
    assert [each.capture for each in config.registries] == scopes
    assert config.groups == (GroupConfig("everything", ("internal", "pypi")),)
    for policy in (config.policy, config.named_policy):
        assert policy.rules.project("evil")
        assert policy.exempt == {"our-own"}
    assert "S3CRET" not in repr(config)
    assert "t0ken" not in repr(config)


def test_advisories_are_for_the_built_in_registry(tmp_path: Path) -> None:
    """A project of ours may have the name of a public piece of malware."""
    (tmp_path / "osv").mkdir()
    (tmp_path / "osv/MAL-1.json").write_text(
        '{"id": "MAL-1", "modified": "2024-01-01T00:00:00Z", '
        '"affected": [{"package": {"ecosystem": "PyPI", "name": "ours"}}]}'
    )
    config = read(tmp_path, table("advisories", path="osv"))
    assert config.policy.rules.project("ours")
    assert not config.named_policy.rules.project("ours")


@pytest.mark.parametrize("name", ["a", "7", "internal", "a-b", "live-", "live-7", "lived", "pypi2", "2024", "r2024-01"])
def test_a_name(name: str, tmp_path: Path) -> None:
    if name.endswith("-"):
        with pytest.raises(MirrorError):
            read(tmp_path, registry(name))
    else:
        assert read(tmp_path, registry(name)).registries[0].name == name


@pytest.mark.parametrize(
    "name",
    [
        "", "pypi", "files", "live", "live-7d", "live-0d", "2024-01-02", "2024-1-2", "2024-99-99", "ours-2024-01-02",
        "internal2024-13-01", "2024-01-02t03", "Internal", "in_ternal", "in.ternal", "-", "-a", "a-", "a/b", "ä", "a b",
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["registry", "group"])
def test_no_name(kind: str, name: str, tmp_path: Path) -> None:
    """It could be taken for something else that an address begins with."""
    text = registry(name) if kind == "registry" else table("group", name=name, registries=["pypi"])
    with pytest.raises(MirrorError, match="is not a valid name for a registry or a group"):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (registry(user="ci", password=SECRET), "write { env = "),
        (registry(header="X", value=SECRET), "write { env = "),
        (registry(user="ci", password=["S3CRET"]), "write { env = "),
        (registry(user="ci", password={"env": "TOKEN", "file": "x"}), "write { env = "),
        (registry(user="ci", password={"plain": SECRET}), "write { env = "),
        (registry(user="ci", password={}), "write { env = "),
        (registry(user="ci", password={"env": "NOWHERE"}), "the variable NOWHERE is not set"),
        (registry(user="ci", password={"env": "EMPTY"}), "the variable EMPTY is empty"),
        (registry(user="ci", password={"env": "TWO_LINES"}), "the variable TWO_LINES contains control characters"),
        (registry(user="ci", password={"env": "BYTES"}), "the variable BYTES contains control characters, or bytes"),
        (registry(user="ci", password={"file": "nowhere"}), "nowhere cannot be read: No such file"),
        (registry(user="ci", password={"file": "a\0b"}), "cannot be read"),
        (registry(user="ci", password={"file": "empty"}), "empty is empty"),
        (registry(user="ci", password={"file": "lines"}), "lines contains control characters"),
        (registry(user="ci", password={"file": "bytes"}), "bytes contains control characters"),
        (registry(user="c:i", password={"env": "TOKEN"}), "user: it has a colon"),
        (registry(user="c\ni", password={"env": "TOKEN"}), "user: it has a colon or a control character"),
        (registry(header="X", value={"env": "TOKEN"}), "a header cannot carry"),
        (registry(header="X:", value={"env": "PLAIN"}), "is not a valid header name"),
        (registry(user="ci"), "user and password, or header and value"),
        (registry(password={"env": "TOKEN"}), "user and password, or header and value"),
        (registry(header="X", **BASIC), "user and password, or header and value"),
        (registry(header="X", password={"env": "TOKEN"}), "user and password, or header and value"),
        (registry(pasword="S3CRET"), "unknown key 'pasword' in [[registry]]: did you mean 'password'?"),
        (registry(index="https://ci:S3CRET@gitlab.example/simple/"), "index: not the URL of a simple index"),
        (registry(index="https://gitlab.example/simple/?token=S3CRET"), "index: not the URL of a simple index"),
        (registry(index="gitlab.example/simple/"), "index: not the URL of a simple index"),
        (registry(index="/srv/simple/"), "index: not the URL of a simple index"),
        (registry(capture="everything"), "is not a capture scope"),
        (registry() + registry(), "two registries or groups are named 'internal'"),
        (registry() + table("group", name="internal", registries=["pypi"]), "two registries or groups are named"),
        (table("group", name="all", registries=["internal"]), "there is no registry named 'internal'"),
        (table("group", name="a", registries=["pypi"]) + table("group", name="b", registries=["a"]),
         "no registry named 'a'"),
        (table("group", name="all", registries=[]), "each only once"),
        (table("group", name="all", registries=["pypi", "pypi"]), "each only once"),
        (table("group", name="all"), "[[group]] has no key 'registries'"),
        ('[[registry]]\nname = "internal"\n', "[[registry]] has no key 'index'"),
        ('[registry]\nname = "internal"\n', "write [[registry]]"),
        ("registry = S3CRET\n", "mirror.toml:1: this is not TOML: Invalid value"),
    ],
)  # fmt: skip
def test_what_makes_no_sense(text: str, said: str, tmp_path: Path) -> None:
    """One line that says where it is and how to write it, without the secret that may be there."""
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "lines").write_text("S3CRET\nS3CRET\n")
    (tmp_path / "bytes").write_bytes(b"S3CRET\xff")
    with pytest.raises(MirrorError) as raised:
        read(tmp_path, text)
    assert said in raised.value.text
    assert re.search(r"/mirror\.toml:[1-9]\d*: ", raised.value.text)
    assert "\n" not in raised.value.text
    assert "S3CRET" not in raised.value.text


def test_a_secret_that_is_missing_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "mirror.toml").write_text(registry(user="ci", password={"env": "NO_SUCH_TOKEN"}))
    arguments: list[str | Path] = [
        "--port",
        f"{free_port()}",
        "--data",
        tmp_path / "data",
        "--config",
        tmp_path / "mirror.toml",
    ]
    said = told(run("serve", *arguments))
    assert "[[registry]] 'internal': password: the variable NO_SUCH_TOKEN is not set" in said
    assert not (tmp_path / "data").exists()

"""Settings from the file, variables and options: what counts, what is shown of them, and what is wrong with a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from httpcache.adapter import adapters
from httpcache.command.cli import program
from httpcache.command.in_force import InForce, every
from httpcache.errors import MirrorError
from httpcache.kinds import FLAG
from httpcache.settings import Settings, declared
from tests.support.command import run, told
from tests.support.examples import examples
from tests.support.mirror import Mirror

ROOT = Path(__file__).resolve().parents[2]
INSTALLED = list(adapters())


def in_force(file: Path | None, variables: Mapping[str, str], *arguments: str, command: str = "serve") -> InForce:
    """What is in force of a command's settings."""
    found: list[InForce] = []

    def keep(**options: Any) -> None:
        found.append(click.get_current_context().obj)

    one = program(INSTALLED).commands[command]
    one.callback = keep
    config = ["--config", str(file)] if file else []
    with pytest.MonkeyPatch.context() as patch:
        for name, text in variables.items():
            patch.setenv(name, text)
        one.main([*config, *arguments], standalone_mode=False)
    return found[0]


def value(
    name: str, file: Path | None, variables: Mapping[str, str], *arguments: str
) -> tuple[object, tuple[str, ...]]:
    found = in_force(file, variables, *arguments).found[name]
    return found.value, found.origins


@pytest.mark.parametrize(
    ("name", "text", "variables", "arguments", "expected"),
    [
        ("port", "", {}, [], 8080),
        ("port", "port = 80", {}, [], 80),
        ("port", "port = '80'", {}, [], 80),
        ("port", "port = 80", {"HTTPCACHE_PORT": "81"}, [], 81),
        ("port", "port = 80", {"HTTPCACHE_PORT": ""}, [], 80),
        ("port", "port = 80", {"HTTPCACHE_PORT": "81"}, ["--port", "82"], 82),
        ("port", "", {"HTTPCACHE_PORT": "81"}, ["--port", "82"], 82),
        ("max-file", "", {}, [], 32 * 1024**3),
        ("max-file", "max-file = 65536", {}, [], 65536),
        ("max-file", "max-file = '1M'", {}, [], 1024**2),
        ("deadline", "deadline = 1.5", {}, [], 1.5),
        ("deadline", "deadline = '1.5'", {}, [], 1.5),
        ("capture-every", "capture-every = 2", {}, [], 120.0),
        ("cors", "", {}, [], False),
        ("cors", "cors = true", {}, [], True),
        ("cors", "cors = 'yes'", {}, [], True),
        ("cors", "cors = true", {"HTTPCACHE_CORS": "0"}, [], False),
        ("cors", "cors = true", {}, ["--no-cors"], False),
        ("cors", "", {"HTTPCACHE_CORS": "Yes"}, [], True),
        ("cors", "", {"HTTPCACHE_CORS": ""}, [], False),
        ("cors", "", {"HTTPCACHE_CORS": "0"}, ["--cors"], True),
        ("allow-port", "", {}, [], ()),
        ("allow-port", "allow-port = [81, '82']", {}, [], (81, 82)),
        ("allow-port", "allow-port = '81, 82,'", {}, [], (81, 82)),
        ("allow-port", "allow-port = []", {"HTTPCACHE_ALLOW_PORT": "81, 82,"}, [], (81, 82)),
        ("allow-port", "allow-port = [80]", {"HTTPCACHE_ALLOW_PORT": "81,82"},
         ["--allow-port", "83,84", "--allow-port", "85"], (80, 81, 82, 83, 84, 85)),
        ("credential-header", "credential-header = ['X-Our-Key']", {}, [], (*Settings.credential_headers, "x-our-key")),
        ("pypi-read-ahead", "pypi-read-ahead = false", {}, [], False),
        ("pypi-read-ahead", "pypi-read-ahead = 'off'", {}, ["--pypi-read-ahead", "on"], True),
        ("pypi-second-look", "pypi-second-look = 0", {}, [], 0),
    ],
)  # fmt: skip
def test_what_counts(
    name: str, text: str, variables: dict[str, str], arguments: list[str], expected: object, tmp_path: Path
) -> None:
    """The option, else the variable, else the file, else the default; those of a list add up."""
    (tmp_path / "mirror.toml").write_text(text)
    found, _ = value(name, tmp_path / "mirror.toml", variables, *arguments)
    assert (found, type(found)) == (expected, type(expected))


GIVEN = st.none() | st.integers(1, 9)
LISTED = st.lists(st.integers(1, 9), max_size=3)


@settings(max_examples=examples(100), deadline=None)
@given(st.sampled_from(["workers", "stall-timeout", "max-page"]), GIVEN, GIVEN, GIVEN)
def test_the_strongest_counts(name: str, file: int | None, variable: int | None, option: int | None) -> None:
    setting = next(each for each in every(INSTALLED) if each.name == name)
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as made:
        patch.chdir(made)
        if file is not None:
            Path("httpcache.toml").write_text(f"# here\n{name} = {file}\n")
        variables = {} if variable is None else {setting.variable: str(variable)}
        arguments = [] if option is None else [setting.option, str(option)]
        found, origins = value(name, None, variables, *arguments)
    places = [(option, setting.option), (variable, setting.variable), (file, "httpcache.toml:2")]
    expected = next(((each, (where,)) for each, where in places if each is not None), (setting.default, ()))
    assert (found, origins) == expected


@settings(max_examples=examples(100), deadline=None)
@given(LISTED, LISTED, LISTED)
def test_the_values_of_a_list_add_up(file: list[int], variable: list[int], options: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as made:
        patch.chdir(made)
        Path("httpcache.toml").write_text(f"allow-port = {file}\n")
        variables = {"HTTPCACHE_ALLOW_PORT": ",".join(map(str, variable))}
        arguments = [part for each in options for part in ("--allow-port", str(each))]
        found, origins = value("allow-port", None, variables, *arguments)
    assert found == (*file, *variable, *options)
    named = [(True, "httpcache.toml:1"), (variable, "HTTPCACHE_ALLOW_PORT"), (options, "--allow-port")]
    assert origins == tuple(where for is_given, where in named if is_given)


def test_every_setting_can_be_written_as_it_is_shown() -> None:
    """And a value of TOML's own types is read like its text."""
    for setting in every(INSTALLED):
        values = setting.default if setting.is_list else [setting.default]
        for each in values:
            if each is not None:
                assert setting.kind.read(setting.kind.write(each)) == each, setting.name
    assert len({setting.name for setting in every(INSTALLED)}) == len(every(INSTALLED))
    assert all(setting.kind is FLAG for setting in every(INSTALLED) if not setting.kind.metavar)
    assert Settings() == Settings(**{field: setting.default for field, setting in declared().items()})


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below/names").write_text("Demo\n")
    file = tmp_path / "below/mirror.toml"
    file.write_text("data = 'store'\nca-bundle = '/ca.pem'\npypi-capture = 'names'\n")
    found = in_force(file, {}).found
    assert found["data"].value == tmp_path / "below/store"
    assert found["ca-bundle"].value == Path("/ca.pem")
    assert found["pypi-capture"].value.names == ("demo",)
    assert in_force(None, {"HTTPCACHE_DATA": "store"}).found["data"].value == Path("store")


# What is wrong


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("\nprot = 1", 2, "unknown key 'prot': did you mean 'port'?"),
        ("allow_network = []", 1, "did you mean 'allow-network'?"),
        ("HTTPCACHE_PORT = 1", 1, "unknown key 'HTTPCACHE_PORT'"),
        ("[registery]\nname = 1", 1, "did you mean 'registry'?"),
        ("port = 0", 1, "port: '0' is not a port: use 1 to 65535"),
        ("\n\nport = true", 3, "port: write a whole number or a string"),
        ("port = 80.5", 1, "port: write a whole number or a string"),
        ("port = [80]", 1, "port: write a whole number or a string"),
        ("port = {a = 1}", 1, "port: write a whole number or a string"),
        ("host = 1", 1, "host: write a string"),
        ("cors = 1", 1, "cors: write true, false or a string"),
        ("cors = 'maybe'", 1, "cors: 'maybe' is not a boolean"),
        ("max-file = '1X'", 1, "max-file: '1X' is not a size"),
        ("deadline = -1", 1, "deadline: '-1' is not a duration"),
        ("deadline = nan", 1, "deadline: 'nan' is not a duration"),
        ("deadline = 2024-01-01", 1, "deadline: write a number or a string"),
        ("log-level = 'wraning'", 1,
         "log-level: 'wraning' is not one of debug, info, warning, error: did you mean warning?"),
        ("allow-network = ['10.0.0.0/8',\n'home']", 2, "allow-network: 'home' is not a network"),
        ("allow-network = '10.0.0.0/8,home'", 1, "allow-network: 'home' is not a network"),
        ("allow-port = 80", 1, "allow-port: write a list"),
        ("allow-port = [\n80,\n[81]]", 3, "allow-port: write a whole number or a string"),
        ("bind = ['a=ftp://x']", 1, "bind: 'a=ftp://x' is not a binding"),
        ("share = ['a-2024-01-02']", 1, "share: 'a-2024-01-02' ends in a date: use 'a'"),
        ("pypi-upstream = 'https://ci:S3CRET@x/'", 1, "pypi-upstream: not the URL of a simple index"),
        ("pypi-capture = 'nowhere'", 1, "is not a capture scope"),
        ('[[registry]]\nname = "a"\nindex = "https://x/"\nport = 80', 4,
         "unknown key 'port' in [[registry]]: there are name, index, user, password, header, value, capture, "
         "read-ahead; settings go above the first table"),
        ("port = 80\nport = 81", 2, "this is not TOML: Cannot overwrite a value"),
        ("port = 80\nhost = ", 2, "this is not TOML: Invalid value"),
        ("port = 80\nhost = 'a", 2, "this is not TOML"),
        ("[[group]]\nname = 'g'\nregistries = ['pypy']", 3, "there is no registry named 'pypy': did you mean 'pypi'?"),
        ("[[advisories]]\npaht = 'x'", 2, "unknown key 'paht' in [[advisories]]: did you mean 'path'?"),
        ("[[advisories]]\npath = 'nowhere'", 2, "nowhere"),
        ("[cooldown]\n\nexempt = ['a', 1]", 3, "cooldown.exempt: this must be a string, not a whole number"),
        ("cooldown.exemt = []", 1, "unknown key 'exemt' in [cooldown]: did you mean 'exempt'?"),
        ("[[block]]\nproject = 'a'\n[[block]]\nversions = '1'", 3, "it has neither a project nor a sha256"),
        ('registry = [{name = "a", index = "https://x/"},\n{indx = "x"}]', 2, "did you mean 'index'?"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file(text: str, line: int, said: str, tmp_path: Path) -> None:
    """File, line, key, and the nearest right one."""
    file = tmp_path / "mirror.toml"
    file.write_text(text)
    with pytest.raises(MirrorError) as raised:
        in_force(file, {}).settings(INSTALLED, {})
    assert raised.value.text.startswith(f"{file}:{line}: ")
    assert said in raised.value.text
    assert "S3CRET" not in raised.value.text


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"# \xff\n")
    for name, said in (("nowhere", "No such file"), ("latin", "not text in UTF-8"), (".", "Is a directory")):
        for command in ("serve", "ls", "settings"):
            line = told(run(command, "--data", tmp_path / "data", "--config", tmp_path / name))
            assert said in line
            assert str(tmp_path / name) in line
    assert not (tmp_path / "data").exists()


def test_what_contradicts_itself_is_said(tmp_path: Path) -> None:
    (tmp_path / "mirror.toml").write_text("offline = true\ncapture = true\n")
    assert "--offline forbids that" in told(run("settings", "--config", tmp_path / "mirror.toml"))


def test_a_command_checks_the_keys_of_the_whole_file_and_reads_its_own_values(tmp_path: Path) -> None:
    file = tmp_path / "mirror.toml"
    file.write_text("port = 0\nregistry = 1\n")
    assert in_force(file, {}, command="ls").found["data"].value == Path("data")
    file.write_text("dta = 'x'\n")
    with pytest.raises(MirrorError, match="did you mean 'data'"):
        in_force(file, {}, command="ls")


# What is shown


def test_settings_says_what_is_in_force_and_from_where(tmp_path: Path) -> None:
    file = tmp_path / "mirror.toml"
    file.write_text("workers = 2\n\nmax-file = '1M'\nallow-port = [81]\n[[block]]\nproject = 'evil'\n")
    ran = run(
        "settings", "--config", file, "--stall-timeout", "5", "--allow-port", "83", "--capture-every", "3",
        environment={"HTTPCACHE_PORT": "81", "HTTPCACHE_ALLOW_PORT": "82"},
    )  # fmt: skip
    assert ran.returncode == 0, ran
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in ran.stdout.splitlines() if line.startswith("  ")}
    assert ran.stdout.splitlines()[0] == f"settings file: {file}"
    assert rows["workers"] == f"2 {file}:1"
    assert rows["max-file"] == f"1M bytes {file}:3"
    assert rows["stall-timeout"] == "5 seconds --stall-timeout"
    assert rows["capture-every"] == "3 minutes --capture-every"
    assert rows["port"] == "81 HTTPCACHE_PORT"
    assert rows["allow-port"] == f"81, 82, 83 {file}:4, HTTPCACHE_ALLOW_PORT, --allow-port"
    assert rows["host"] == "127.0.0.1 default"
    assert rows["[block]"] == f"{file}:5"
    assert set(rows) - {"[block]"} == {setting.name for setting in every(INSTALLED)}


def test_settings_as_json(tmp_path: Path) -> None:
    (tmp_path / "mirror.toml").write_text("max-file = '1M'\n[cooldown]\n")
    ran = run("settings", "--json", environment={"HTTPCACHE_CONFIG": str(tmp_path / "mirror.toml")})
    document = json.loads(ran.stdout)
    assert document["file"] == str(tmp_path / "mirror.toml")
    assert document["tables"] == {"cooldown": f"{tmp_path / 'mirror.toml'}:2"}
    rows = {row.pop("name"): row for row in document["settings"]}
    assert rows["max-file"] == {"value": "1M", "unit": "bytes", "from": [f"{tmp_path / 'mirror.toml'}:1"]}
    assert rows["port"] == {"value": "8080", "unit": None, "from": ["default"]}
    assert rows["proxy"] == {"value": None, "unit": None, "from": ["default"]}


@pytest.mark.parametrize("how", [[], ["--json"]])
def test_settings_shows_no_secrets(how: list[str], tmp_path: Path) -> None:
    (tmp_path / "mirror.toml").write_text(
        "proxy = 'http://me:S3CRET@127.0.0.1:1'\n[[registry]]\nname = 'a'\nindex = 'https://x/'\n"
        "user = 'me'\npassword = {env = 'TOKEN'}\n"
    )
    ran = run(
        "settings", *how, "--config", tmp_path / "mirror.toml", "--index", "postgresql://me:S3CRET@h/d",
        "--blobs", "s3://me:S3CRET@bucket/x", environment={"TOKEN": "S3CRET"},
    )  # fmt: skip
    assert ran.returncode == 0, ran
    assert "S3CRET" not in ran.stdout + ran.stderr
    assert ran.stdout.count("(set)") == 2


def test_the_server_says_which_file_it_read(tmp_path: Path) -> None:
    server = Mirror(tmp_path)
    (tmp_path / "httpcache.toml").write_text("log-level = 'warning'\n")
    try:
        server.start()
        assert f"  settings: {tmp_path / 'httpcache.toml'}\n" in server.log()
        server.stop()
    finally:
        server.kill()


@pytest.mark.parametrize("file", sorted(ROOT.glob("examples/**/httpcache.toml")), ids=lambda file: file.parent.name)
def test_every_example_can_be_used(file: Path) -> None:
    assert in_force(file, {}).settings(INSTALLED, {"GITLAB_TOKEN": "x"}).data == Path("/var/lib/httpcache")


def test_what_the_example_says_is_in_force() -> None:
    file = ROOT / "examples/httpcache.toml"
    chosen = in_force(file, {}).settings(INSTALLED, {"GITLAB_TOKEN": "x"})
    assert (chosen.workers, chosen.max_file, chosen.capture) == (2, 64 * 1024**3, True)
    assert chosen.bindings == (("gitlab", "https://gitlab.example.com"),)

"""The command: what it refuses to start on, what it prints, how it ends, and an operator's work beside a server."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest
from lxml.html import document_fromstring

from tests.support import http
from tests.support.clients import Clients
from tests.support.command import run, told
from tests.support.inside import bodies, checked_records
from tests.support.mirror import COMMAND, STOP, Mirror, free_port
from tests.support.packages import wheel
from tests.support.registries import Registry
from tests.support.upstream import Response, Upstream

BODY = b"0123456789" * 1000


# What it does not start on


def test_the_port_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        line = told(run("serve", "--port", f"{port}", "--data", tmp_path / "data"))
    assert f"{port}" in line
    assert "--port" in line


def test_a_second_server_on_the_same_port(server: Mirror, tmp_path: Path) -> None:
    assert f"{server.port}" in told(run("serve", "--port", f"{server.port}", "--data", tmp_path / "data"))


@pytest.mark.parametrize("where", ["file", "file/below"])
def test_a_folder_that_cannot_be(where: str, tmp_path: Path) -> None:
    """Root may write everywhere, but not below a file."""
    (tmp_path / "file").write_text("not a folder")
    line = told(run("serve", "--port", f"{free_port()}", "--data", tmp_path / where))
    assert str(tmp_path / where) in line
    assert "--data" in line


@pytest.mark.parametrize("missing", ["psycopg", "psycopg_pool", "obstore", "diskcache"])
def test_a_store_on_several_machines_without_the_packages_for_it(missing: str, tmp_path: Path) -> None:
    (tmp_path / f"{missing}.py").write_text(f"raise ModuleNotFoundError('No module', name={missing!r})\n")
    place = ("--index", "postgresql://127.0.0.1:1/none", "--blobs", f"file://{tmp_path}", "--data", tmp_path / "data")
    for command in (["serve", "--port", f"{free_port()}"], ["ls"]):
        line = told(run(*command, *place, environment={"PYTHONPATH": f"{tmp_path}"}))
        assert missing in line
        assert "install 'freezing-mirror[cluster]'" in line


def test_a_folder_of_another_version(tmp_path: Path) -> None:
    (tmp_path / "VERSION").write_text("999\n")
    for command in (["serve", "--port", f"{free_port()}"], ["ls"], ["show", "/a/https://b/"], ["forget", "a"]):
        line = told(run(*command, "--data", tmp_path))
        assert "999" in line
        assert "--data" in line
    assert [path.name for path in tmp_path.iterdir()] == ["VERSION"]


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    for command in (["serve", "--port", f"{free_port()}"], ["ls"], ["show", "/a/https://b/"], ["forget", "a", "--yes"]):
        assert "--data" in told(run(*command, "--data", tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


@pytest.mark.parametrize("command", [["ls"], ["show", "/a/https://b/"], ["forget", "a", "--yes"]])
def test_an_operator_makes_no_folder(command: list[str], tmp_path: Path) -> None:
    assert "--data" in told(run(*command, "--data", tmp_path / "data"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("port", "http"), ("port", "0"), ("port", "65536"), ("workers", "0"), ("workers", "-1"), ("log-level", "loud"),
        ("allow-network", "home"), ("allow-network", "10.0.0.1/8"), ("root-path", "prefix"),
    ],
)  # fmt: skip
def test_a_setting_that_makes_no_sense(option: str, value: str, tmp_path: Path) -> None:
    """It says which, in words and not with a traceback, also where it comes from the environment."""
    ports = [] if option == "port" else ["--port", f"{free_port()}"]
    variable = "HTTPCACHE_" + option.upper().replace("-", "_")
    ran = run("serve", "--data", tmp_path / "data", *ports, environment={variable: value})
    assert ran.returncode in (1, 2)
    assert "Traceback" not in ran.stderr
    assert f"--{option}" in ran.stderr or variable in ran.stderr
    assert not (tmp_path / "data").exists()


def test_what_cannot_be_read_is_named() -> None:
    """The option, or the variable; and the name that was probably meant, without all the options of the command."""
    for arguments, variables, parts in (
        (["serve", "--port", "0"], {"HTTPCACHE_PORT": "1"}, ["--port", "'0'"]),
        (["serve"], {"HTTPCACHE_PORT": "0"}, ["HTTPCACHE_PORT", "'0'"]),
        (["serve"], {"HTTPCACHE_ALLOW_NETWORK": "10.0.0.0/8,home"}, ["HTTPCACHE_ALLOW_NETWORK", "'home'"]),
        (["serve"], {"HTTPCACHE_CORS": "maybe"}, ["HTTPCACHE_CORS", "'maybe'", "1 or 0"]),
        (["serve", "--prot", "1"], {}, ["--prot", "--port"]),
        (["sreve"], {}, ["'sreve'", "'serve'"]),
        (["show"], {}, ["ADDRESS"]),
    ):
        ran = run(*arguments, environment=variables)
        assert ran.returncode == 2, ran
        assert len(ran.stderr.splitlines()) == 4, ran
        assert [part for part in parts if part not in ran.stderr.splitlines()[-1]] == []


def test_a_command_reads_only_its_own_variables() -> None:
    assert run("pin", environment={"HTTPCACHE_PORT": "http"}).returncode == 0
    assert run("--version", environment={"HTTPCACHE_PORT": "http"}).returncode == 0


# Serving


def test_the_lines_that_it_prints(server: Mirror) -> None:
    log = server.log()
    assert f"httpcache serves {server.url} from {server.data}\n" in log
    days = [
        (datetime.now(UTC) - timedelta(days=each)).date().isoformat() for each in (0, 1)
    ]  # it may have started before
    for line in (
        f"pip install -i {server.url}/{{}}/ ",
        f"uv pip install --index-url {server.url}/{{}}/ ",
        f"curl -fLO {server.url}/mypin-{{}}/https://",
    ):
        assert any(line.format(day) in log for day in days)


@pytest.mark.parametrize("path", ["/-/health", "/-/ready"])
def test_probes(path: str, server: Mirror) -> None:
    answer = http.get(server.url + path)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert http.head(server.url + path).status_code == 200


def test_every_option_is_an_environment_variable(upstream: Upstream, tmp_path: Path) -> None:
    upstream.pages["/file"] = BODY
    port, data = free_port(), tmp_path / "data"
    settings = {
        "HTTPCACHE_HOST": "127.0.0.1",
        "HTTPCACHE_PORT": f"{port}",
        "HTTPCACHE_DATA": str(data),
        "HTTPCACHE_WORKERS": "2",
        "HTTPCACHE_ALLOW_NETWORK": "192.0.2.0/24, 127.0.0.0/8",
        "HTTPCACHE_CREDENTIAL_HEADER": "X-Our-Key,X-Their-Key",
        "HTTPCACHE_LOG_LEVEL": "warning",
        "HTTPCACHE_ROOT_PATH": "/mirror",
        "HTTPCACHE_PYPI_UPSTREAM": f"{upstream.url}/simple/",
    }
    address = f"http://127.0.0.1:{port}/mirror"
    command = [str(COMMAND), "serve"]
    with subprocess.Popen(command, env=os.environ | settings, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"httpcache serves {address} from {data}\n"
        try:
            transport = httpx.HTTPTransport(retries=10)
            with httpx.Client(transport=transport, timeout=30) as client:
                url = f"{address}/env/{upstream.url}/file"
                assert client.get(url, headers={"X-Their-Key": "k"}).content == BODY
                assert upstream.requests[0].headers["x-their-key"] == "k"
                assert client.get(f"{address}/2024-01-02/thing/").status_code == 404
            assert upstream.count("/simple/thing/") == 1
        finally:
            process.terminate()
            process.stdout.read()
    assert process.returncode == 0
    listed = run("ls", "env", environment={"HTTPCACHE_DATA": str(data)})
    assert f"{upstream.url}/file" in listed.stdout


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_what_is_in_flight_is_finished(
    how: signal.Signals, workers: int, upstream: Upstream, mirror: Callable[..., Mirror]
) -> None:
    """A client in the middle of a first fetch gets all of it, and it is frozen; then the exit code is 0."""
    release = threading.Event()
    upstream.pages["/file"] = Response([BODY, release, BODY])
    running: Mirror = mirror("--workers", f"{workers}")
    process = running.process
    assert process is not None
    with http.stream("GET", running.pin("flight", f"{upstream.url}/file")) as answer:
        chunks = answer.iter_raw()
        start = next(chunks)
        process.send_signal(how)
        refused = threading.Thread(target=_until_refused, args=(running,))
        refused.start()
        refused.join(10)  # it takes no more, or it still does: either way the download goes on
        release.set()
        assert start + b"".join(chunks) == BODY * 2
    assert process.wait(STOP) == 0
    assert [record.size for record in checked_records(running.data)] == [len(BODY) * 2]


def _until_refused(running: Mirror) -> None:
    try:
        while http.get(f"{running.url}/-/health", timeout=1):
            pass
    except httpx.TransportError:
        return


def test_a_download_without_a_client_is_finished_too(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    release = threading.Event()
    upstream.pages["/file"] = Response([BODY, release, BODY])
    running: Mirror = mirror()
    with http.stream("GET", running.pin("flight", f"{upstream.url}/file")) as answer:
        next(answer.iter_raw())
    assert running.process is not None
    running.process.send_signal(signal.SIGTERM)
    release.set()
    running.stop()
    assert [record.size for record in checked_records(running.data)] == [len(BODY) * 2]


def test_a_signal_with_nothing_to_do(mirror: Callable[..., Mirror]) -> None:
    """An open connection that asks for nothing does not hold it up."""
    running: Mirror = mirror()
    with socket.create_connection(("127.0.0.1", running.port)), httpx.Client() as client:
        client.get(f"{running.url}/-/health")
        running.stop()


# The page


def test_the_page_says_how_to_use_this_mirror(server: Mirror) -> None:
    answer = http.get(f"{server.url}/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert f"pip install -i {server.url}/" in answer.text
    assert f"curl -fLO {server.url}/" in answer.text
    assert document_fromstring(answer.text).xpath("//main//pre")
    assert http.head(f"{server.url}/").status_code == 200


@pytest.mark.parametrize("host", ["evil<script>", 'a"onload="x', "evil.example/path", "user@evil", "a b", "{rows}"])
def test_the_page_does_not_repeat_a_hostile_host(host: str, server: Mirror) -> None:
    answer = http.get(f"{server.url}/", headers={"Host": host})
    assert host not in answer.text
    assert answer.status_code == 400 or f"{server.url}/" in answer.text


# Beside a running server


@pytest.fixture
def filled(upstream: Upstream, mirror: Callable[..., Mirror]) -> Mirror:
    """A running mirror with two pins."""
    upstream.otherwise = lambda request: Response(request.target.encode(), headers={"Content-Type": "text/x-thing"})
    running: Mirror = mirror()
    for pin, name in (("one", "/a?v=1"), ("one", "/a?v=2"), ("one", "/b"), ("two", "/b")):
        http.get(running.pin(pin, upstream.url + name)).raise_for_status()
    return running


def test_ls(filled: Mirror, upstream: Upstream) -> None:
    pins = run("ls", "--data", filled.data)
    assert [line.split()[:2] for line in pins.stdout.splitlines()] == [["one", "3"], ["two", "1"]]
    listed = run("ls", "two", "--data", filled.data).stdout
    assert f"/two/{upstream.url}/b" in listed
    assert "/one/" not in listed
    assert "'nothing'" in told(run("ls", "nothing", "--data", filled.data))


@pytest.mark.parametrize("form", ["/two/{url}/b", "two/{url}/b", "{mirror}/two/{url}/b", "/two/{merged}/b"])
def test_show(form: str, filled: Mirror, upstream: Upstream) -> None:
    names = {"url": upstream.url, "mirror": filled.url, "merged": upstream.url.replace("//", "/")}
    shown = run("show", form.format(**names), "--data", filled.data)
    assert shown.returncode == 0
    record = next(record for record in checked_records(filled.data) if record.pin == "two")
    for part in (f"/two/{upstream.url}/b", record.digest, "2 bytes", "text/x-thing", "everyone"):
        assert part in shown.stdout
    assert "not frozen" in told(run("show", f"/three/{upstream.url}/b", "--data", filled.data))


@pytest.mark.parametrize("bad", ["/two/ftp://127.0.0.1/", "/two-2024-02-30/https://h/", "/"])
def test_show_what_is_no_address(bad: str, filled: Mirror) -> None:
    told(run("show", bad, "--data", filled.data))


@pytest.mark.parametrize("answer", ["n\n", "\n", "", "what?\n"])
def test_forget_asks(answer: str, filled: Mirror, upstream: Upstream) -> None:
    ran = run("forget", "one", "--data", filled.data, stdin=answer)
    assert "[y/N]" in ran.stdout
    assert f"/one/{upstream.url}/b" in ran.stdout
    assert len(checked_records(filled.data)) == 4
    assert ran.returncode != 0


@pytest.mark.parametrize("arguments", [["--yes"], []])
def test_forget_a_pin(arguments: list[str], filled: Mirror, upstream: Upstream) -> None:
    """Its bytes go with it, but those that another pin has too stay; the next request fetches again."""
    ran = run("forget", "one", *arguments, "--data", filled.data, stdin="y\n")
    assert ran.returncode == 0, ran
    assert [record.pin for record in checked_records(filled.data)] == ["two"]
    assert len(bodies(filled.data)) == 1
    assert upstream.count() == 4
    assert http.get(filled.pin("two", f"{upstream.url}/b")).text == "/b"
    assert upstream.count() == 4
    assert http.get(filled.pin("one", f"{upstream.url}/b")).text == "/b"
    assert upstream.count() == 5
    told(run("forget", "nothing", "--yes", "--data", filled.data))


def test_forget_an_address_and_no_other(filled: Mirror, upstream: Upstream) -> None:
    """A query is part of the target: the other one stays."""
    ran = run("forget", f"/one/{upstream.url}/a?v=1", "--yes", "--data", filled.data)
    assert ran.returncode == 0
    upstream.stop()
    answers = [http.get(filled.pin("one", f"{upstream.url}/a?v={number}")).status_code for number in (1, 2)]
    assert answers == [502, 200]


def test_what_is_forgotten_is_private_again(upstreams: Callable[..., Upstream], mirror: Callable[..., Mirror]) -> None:
    """Nobody reads the next copy because they could read the forgotten one."""
    upstream = upstreams(tokens={"Private-Token": "alice"})
    upstream.pages["/file"] = BODY
    running: Mirror = mirror()
    address = running.pin("private", f"{upstream.url}/file")
    for who in ("alice", "bob"):
        upstream.tokens = {"Private-Token": who}
        assert http.get(address, headers={"Private-Token": who}).content == BODY
    run("forget", "private", "--yes", "--data", running.data)
    upstream.tokens = {"Private-Token": "alice"}
    assert http.get(address, headers={"Private-Token": "alice"}).content == BODY
    assert http.get(address, headers={"Private-Token": "bob"}).status_code == 401


def test_a_forgotten_registry_can_be_pinned_again(
    registry: Callable[..., Registry], mirror: Callable[..., Mirror], clients: Clients
) -> None:
    """Its pages and what they announced are gone with it: the next install gets what the registry has now."""
    index = registry("ngc")
    index.upload(wheel("some-thing", "1.0"))
    running: Mirror = mirror()
    page = running.pin("again", index.url)
    clients.pip_install(page, ["some-thing"])
    assert run("forget", "again", "--yes", "--data", running.data).returncode == 0
    running.restart()
    index.upload(new := wheel("some-thing", "2.0"))
    assert clients.pip_install(page, ["some-thing"])["some-thing"].hashes == {new.sha256}


def test_pin() -> None:
    ran = run("pin", "--mirror", "http://127.0.0.1:1234/")
    assert ran.returncode == 0
    today = datetime.now(UTC).date().isoformat()
    assert re.search(rf"^pin +mypin-{today}$", ran.stdout, re.MULTILINE)
    instant = re.search(r"^now +(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)$", ran.stdout, re.MULTILINE)
    assert instant
    for when in (today, instant[1]):
        assert f"pip install -i http://127.0.0.1:1234/{when}/ " in ran.stdout
        assert re.search(rf"uv .*http://127\.0\.0\.1:1234/{when}/", ran.stdout)
        assert re.search(rf"poetry .*http://127\.0\.0\.1:1234/{when}/", ran.stdout)


def test_help_names_every_command() -> None:
    ran = run("--help")
    assert ran.returncode == 0
    for command in ("serve", "ls", "show", "forget", "pin", "history", "block", "allow", "unblock", "blocks"):
        assert re.search(rf"^ +{command}\b", ran.stdout, re.MULTILINE)
    assert run().returncode == 2


# What it is


@pytest.mark.parametrize("command", [[COMMAND], [sys.executable, "-m", "httpcache"]])
def test_the_version_is_that_of_the_distribution(command: list[str | Path]) -> None:
    ran = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert ran.stdout == f"httpcache {version('freezing-mirror')}\n"


def test_the_module_is_the_command(tmp_path: Path) -> None:
    """Exit code and message, too."""
    ran = subprocess.run(
        [sys.executable, "-m", "httpcache", "ls", "--data", tmp_path], capture_output=True, text=True, check=False
    )
    assert told(ran) == told(run("ls", "--data", tmp_path))

"""The systemd unit: what systemd-analyze says of it, and what a systemd makes of it that is booted in a bare Debian."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.support import booted, container, http
from tests.support.booted import Booted
from tests.support.container import ROOT
from tests.support.inside import until
from tests.support.mirror import free_port
from tests.support.upstream import Upstream

UNIT: Final = ROOT / "examples/systemd/httpcache.service"
PAGE: Final = (ROOT / "docs/installing.md").read_text()
INSTALL, START, *_ = re.findall(r"^```sh\n(.*?)^```", PAGE.partition("## systemd")[2], re.MULTILINE | re.DOTALL)
WORST: Final = 30
"""Tenths: the highest exposure level that `systemd-analyze security` may find."""
NAME: Final = "httpcache.service"
SETTINGS: Final = "/etc/httpcache/httpcache.toml"

ATTEMPTS: Final = """
import ctypes, mmap, os, socket
def attempt(name, function):
    try:
        function()
        print(name, "done", flush=True)
    except OSError as error:
        print(name, os.strerror(error.errno), flush=True)
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "")
attempt("write-data", lambda: open("/var/lib/httpcache/written", "w"))
attempt("write-tmp", lambda: open("/tmp/written", "w"))
attempt("write-etc", lambda: open("/etc/written", "w"))
attempt("write-itself", lambda: open("/opt/httpcache/written", "w"))
attempt("read-home", lambda: os.listdir("/home/somebody"))
attempt("read-settings", lambda: open("/etc/httpcache/httpcache.toml"))
attempt("read-secrets", lambda: open("/etc/httpcache/secrets.env"))
attempt("see-processes", lambda: os.stat("/proc/1/status"))
attempt("executable-memory", lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC))
attempt("tcp", lambda: socket.socket(socket.AF_INET6))
attempt("netlink", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW))
attempt("namespace", lambda: call(272, 0x10000000))
attempt("trace", lambda: call(101, 0, 0, 0, 0))
attempt("kernel-log", lambda: open("/dev/kmsg"))
attempt("set-user-id", lambda: os.chmod("/tmp/written", 0o4755))
"""
"""Python that tries what a program taken over would try; the numbers are those of x86-64: unshare and ptrace."""


@pytest.fixture(scope="module")
def analyze() -> str:
    """The tool, of whatever version this machine has."""
    found = shutil.which("systemd-analyze")
    if found is None:
        pytest.skip("there is no systemd-analyze (Debian: apt-get install systemd)")
    return found


def test_the_unit_is_hardened(analyze: str) -> None:
    line = [analyze, "security", "--offline=true", "--no-pager", f"--threshold={WORST}", str(UNIT)]
    ran = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Overall exposure level" in ran.stdout


def test_the_unit_is_understood(analyze: str, tmp_path: Path) -> None:
    """With a program that is there in place of the one that is not installed here."""
    unit = tmp_path / NAME
    unit.write_text(UNIT.read_text().replace("/opt/httpcache/bin/httpcache", "/bin/true"))
    ran = subprocess.run([analyze, "verify", unit], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_the_page_tells_what_systemd_analyze_does(analyze: str) -> None:
    told = re.search(r"`systemd-analyze security httpcache` gives it ([\d.]+) of 10", PAGE)
    line = [analyze, "security", "--offline=true", "--no-pager", str(UNIT)]
    ran = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    found = re.search(r"Overall exposure level for httpcache.service: ([\d.]+)", ran.stdout)
    assert told is not None
    assert found is not None
    assert abs(float(told[1]) - float(found[1])) < 0.5  # versions of systemd differ a little


@pytest.fixture(scope="module")
def machine(real_pypi: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    """A Debian where the commands of the page have been run, and systemd."""
    if why := container.refused() or booted.refused():
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("machine")
    try:
        root = container.build(booted.installed(INSTALL.splitlines()), folder).root
        (root / "home/somebody").mkdir()
        (root / "attempts.py").write_text(ATTEMPTS)
        with Booted(root, folder / "console") as started:
            started.run("install", "-m", "600", "/dev/null", "/etc/httpcache/secrets.env")
            yield started
    except subprocess.CalledProcessError as error:
        pytest.fail(f"{error}\n{error.output}")
    finally:
        shutil.rmtree(folder)


@pytest.mark.pypi
def test_the_service_serves(machine: Booted, upstream: Upstream) -> None:
    """The commands of the page start it; it freezes, comes back when it is killed, and ends with 0."""
    upstream.pages["/file"] = b"frozen"
    port = free_port()
    machine.run("sed", "-i", f's|^port = .*|port = {port}\\nallow-network = "127.0.0.0/8"|', SETTINGS)
    for command in START.splitlines()[:2]:
        machine.run(*command.split())
    until(lambda: _ready(port), "the service")
    address = f"http://127.0.0.1:{port}/tools-2024-01-02/{upstream.url}/file"
    assert http.get(address).content == b"frozen"
    assert http.get(f"http://127.0.0.1:{port}/").status_code == 200
    listed = re.search(r"`runuser ([^`]*)`", PAGE)
    assert listed is not None
    assert "tools-2024-01-02" in machine.run("runuser", *listed[1].split())
    upstream.stop()

    machine.run("sed", "-i", "s|^port = .*|&\\noffline = true|", SETTINGS)
    machine.run("systemctl", "reload", NAME)
    until(lambda: b"offline" in http.get(f"{address}-2").content, "the settings")

    first = machine.property(NAME, "MainPID")
    machine.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", NAME)
    until(lambda: machine.property(NAME, "MainPID") not in ("0", first) and _ready(port), "the service again")
    assert http.get(address).content == b"frozen"
    assert machine.property(NAME, "NRestarts") == "1"

    machine.run("systemctl", "stop", NAME)
    assert [machine.property(NAME, name) for name in ("Result", "ExecMainCode", "ExecMainStatus")] == [
        "success", "1", "0",
    ]  # fmt: skip
    owners = machine.run("find", "/var/lib/httpcache", "-printf", "%u %M\n").splitlines()
    assert {owner[:20] for owner in owners} <= {"httpcache drwx------", "httpcache -rw-------"}


@pytest.mark.pypi
def test_what_the_service_may_not_do(machine: Booted) -> None:
    """In place of the server a program runs that tries what the unit forbids, and what it allows."""
    drop_in = "[Service]\nType=oneshot\nRestart=no\nExecStart=\nExecStart=/opt/httpcache/bin/python /attempts.py\n"
    folder = f"/run/systemd/system/{NAME}.d"
    machine.run(
        "sh", "-c", f"mkdir -p {folder} && printf '{drop_in}' >{folder}/attempts.conf && systemctl daemon-reload"
    )
    try:
        machine.run("systemctl", "restart", NAME)
        said = machine.run("journalctl", "--output=cat", f"--unit={NAME}")
    finally:
        machine.run("sh", "-c", f"rm -r {folder} && systemctl daemon-reload")
    assert outcomes(said) == {
        "write-data": "done",
        "write-tmp": "done",
        "write-etc": "Read-only file system",
        "write-itself": "Read-only file system",
        "read-home": "Permission denied",
        "read-settings": "done",
        "read-secrets": "Permission denied",
        "see-processes": "No such file or directory",
        "executable-memory": "Permission denied",
        "tcp": "done",
        "netlink": "Address family not supported by protocol",
        "namespace": "Operation not permitted",
        "trace": "Operation not permitted",
        "kernel-log": "No such file or directory",
        "set-user-id": "Operation not permitted",
    }

    free = outcomes(machine.run("runuser", "-u", "httpcache", "/opt/httpcache/bin/python", "/attempts.py"))
    assert {name for name, outcome in free.items() if outcome == "done"} >= {
        "read-home", "see-processes", "executable-memory", "netlink", "namespace", "trace", "set-user-id",
    }, "without the unit"  # fmt: skip


def outcomes(said: str) -> dict[str, str]:
    """What came of each attempt, from what was printed: `done`, or an error."""
    return dict(re.findall(r"^([a-z-]+) (done|[A-Z][a-z -]+)$", said, re.MULTILINE))


def _ready(port: int) -> bool:
    try:
        return http.get(f"http://127.0.0.1:{port}/-/ready").status_code == 200
    except httpx.TransportError:
        return False

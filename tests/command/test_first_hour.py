"""What a newcomer copies, types and mistypes."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from httpcache.command.options import mistyped
from tests.support import http
from tests.support.command import run
from tests.support.mirror import Mirror

ROOT = Path(__file__).resolve().parents[2]
READ = [
    *ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *(ROOT / "examples").rglob("*"), ROOT / "Containerfile",
    *ROOT.glob("httpcache/**/*.py"), *ROOT.glob("*_adapter/**/*.py"),
]  # fmt: skip


def curls(text: str) -> Iterator[str]:
    """The lines in which curl saves what it gets to a file."""
    for line in text.splitlines():
        for command in re.findall(r"\bcurl\b([^|;&]*)", line):
            if re.search(r"(?:^|\s)-\w*[oO]", command) and "/dev/null" not in command:
                yield f"curl{command}"


def test_curl_saves_no_errors_as_files(server: Mirror) -> None:
    """`-f` everywhere: without, the text of an error is saved under the name of the file."""
    texts = [path.read_text(errors="replace") for path in READ if path.is_file()]
    texts += [http.get(server.url).text, server.log(), run("pin", "--mirror", server.url).stdout]
    found = [command for text in texts for command in curls(text)]
    assert len(found) >= 6
    assert [command for command in found if not re.search(r"\s-\w*f", command)] == []
    assert list(curls("curl -LO http://x")) == ["curl -LO http://x"]


def test_the_quick_start_installs_everywhere() -> None:
    """A package without compiled wheels: the first lines that one reads are for whatever Python one has."""
    for page in ("README.md", "docs/index.md", "docs/first-steps.md"):
        quick = (ROOT / page).read_text()
        assert "/2023-11-18/ requests" in quick
        assert "onnx" not in quick
    assert "onnx==1.14.0" in (ROOT / "docs/dates.md").read_text()


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("HTTPCACHE_WORKER", "HTTPCACHE_WORKERS"),
        ("HTTPCACHE_ALLOW_NETWORKS", "HTTPCACHE_ALLOW_NETWORK"),
        ("HTTPCACHE_PYPI_UPSTRAEM", "HTTPCACHE_PYPI_UPSTREAM"),
        ("HTTPCACHE_WORKERS", None),
        ("HTTPCACHE_TOKEN_OF_ACME", None),
        ("HTTPCACHE_MIRROR", None),
        ("WORKER", None),
    ],
)
def test_a_variable_that_is_nearly_one(name: str, meant: str | None) -> None:
    warnings = mistyped(
        {name: "2"}, [f"HTTPCACHE_{name}" for name in ("WORKERS", "ALLOW_NETWORK", "PYPI_UPSTREAM", "PORT", "PROXY")]
    )
    assert [meant in warning for warning in warnings if meant] == ([True] if meant else [])
    assert bool(warnings) is (meant is not None)


def test_a_mistyped_variable_is_a_warning(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path, environment={"HTTPCACHE_WORKER": "2", "HTTPCACHE_SECRET": "pa55w0rd"})
    mirror.start()
    try:
        assert "ignoring the unknown environment variable HTTPCACHE_WORKER" in mirror.log()
        assert "HTTPCACHE_SECRET" not in mirror.log()
        refused = run("captures", "--data", mirror.data, "--registry", "foo")
        assert (refused.returncode, "no logs of 'foo'" in refused.stderr) == (1, True)
        never = run("captures", "--data", mirror.data)
        assert (never.returncode, "no capture of pypi" in never.stderr) == (1, True)
        mirror.stop()
    finally:
        mirror.kill()


@pytest.mark.parametrize("address", ["notaurl", "mirror:8080", "ftp://mirror/", "http://", ""])
def test_pin_wants_an_address(address: str) -> None:
    refused = run("pin", "--mirror", address)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "http://127.0.0.1:8080" in refused.stderr


def test_lists_by_comma() -> None:
    """On the command line as in the environment; what cannot be read is refused."""
    refused = run("serve", "--allow-port", "8080,8443,x")
    assert refused.returncode == 2
    assert "--allow-port" in refused.stderr.splitlines()[-1]
    assert "'x'" in refused.stderr


def test_make_serve_passes_options_on() -> None:
    command = ["make", "-n", "serve", "ARGS=--capture --log-level debug"]
    environment = {"PATH": os.environ["PATH"]}
    said = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    assert re.search(r"httpcache serve .*--data data --capture --log-level debug\n", said)

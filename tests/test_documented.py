"""What the docs say is what there is: options in a table, names that exist, commands that do what they promise."""

from __future__ import annotations

import ast
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from httpcache.adapter import adapters
from httpcache.command import reference
from tests.support import http
from tests.support.command import run
from tests.support.index import ask
from tests.support.mirror import Mirror
from tests.support.registries import JSON
from tests.support.upstream import CUT, Response, Upstream

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob(".github/**/*.md"), ROOT / "requirements/README.md"]
)
OPERATING = (ROOT / "docs/operating.md").read_text()

PACKAGES = ("httpcache", "pypi_adapter", "npm_adapter", "benchmarks")
LISTED = ("git", "ls-files", "--cached", "--others", "--exclude-standard")
FILES = subprocess.run(LISTED, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
"""What is in the repository, or about to be."""

OTHERS = {
    "--exclude-newer", "--find-links", "--uploaded-prior-to", "--trusted-host", "--generate-hashes", "--index-url",
    "--default-index", "--netrc", "--tries", "--user",
}  # fmt: skip
"""Options of other programs that stand alone in the docs; those of the mirror's own commands are asked for."""


def documented() -> Iterator[tuple[str, bool, str]]:
    """Page, whether it is a line of a block (else a span in backticks), and text of all code in the docs."""
    for path in PAGES:
        text = path.read_text()
        page = path.relative_to(ROOT).as_posix()
        blocks = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
        yield from ((page, True, line) for block in blocks.findall(text) for line in block.splitlines()[1:-1])
        yield from ((page, False, " ".join(span.split())) for span in re.findall(r"`([^`]+)`", blocks.sub("", text)))


CODE = list(documented())


@cache
def options(command: str) -> frozenset[str]:
    """The options of a command, as its help tells them; of the whole program for ''."""
    ran = run(*command.split(), "--help")
    assert ran.returncode == 0, f"httpcache {command}: {ran.stderr}"
    return frozenset(re.findall(r"(?<![\w-])--[a-z][a-z-]+", ran.stdout)) - {"--help"}


def commands(text: str) -> list[tuple[str, str]]:
    """The commands `httpcache NAME` in a text, each with what stands behind it."""
    text = text.partition(" #")[0]
    return re.findall(r"(?:^|[\s/;|(])httpcache ((?:index |key )?[a-z][a-z-]*)((?: [^|;&#]*)?)", text)


def exists(name: str) -> bool:
    """Whether a dotted name is a module, something in one, or a group of entry points."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: object = import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            if not hasattr(found, part):
                return bool(entry_points(group=name))
            found = getattr(found, part)
        return True
    return False


def test_the_page_of_the_settings_is_current() -> None:
    """`make settings-page` writes it."""
    written = (ROOT / "docs/settings.md").read_text()
    assert written == reference.page(list(adapters()))
    rows = re.findall(r"^\| (`--[^|]*) \|", written, re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"--[a-z][a-z-]+", row)} | {"--config"}
    assert listed == options("serve")
    assert options("capture") <= listed


def test_every_command_that_is_named_exists() -> None:
    """With the options that stand behind it."""
    named = [(page, *found) for page, _, text in CODE for found in commands(text)]
    assert {name for _, name, _ in named} >= {"serve", "capture", "ls", "forget", "block", "moved", "pin"}
    for page, name, behind in named:
        unknown = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", behind)) - options(name)
        assert not unknown, f"{page}: httpcache {name} has no {unknown}"


def test_every_option_that_is_named_exists() -> None:
    measuring = "".join(path.read_text() for path in ROOT.glob("benchmarks/**/*.py"))
    own = options("").union(*(options(name) for _, _, text in CODE for name, _ in commands(text)))
    known = own | set(re.findall(r'"(--[a-z][a-z-]+)"', measuring))
    named = {
        (page, found[0]) for page, block, text in CODE if not block and (found := re.match(r"--[a-z][a-z-]+", text))
    }
    assert len(named) > 40
    assert {(page, name) for page, name in named if name not in known | OTHERS} == set()
    assert not own & OTHERS


def test_every_module_that_is_named_exists() -> None:
    dotted = re.compile(rf"(?<![\w./-])(?:{'|'.join(PACKAGES)})(?:\.[A-Za-z_]\w*)+(?![\w/])")
    named = {(page, name) for page, _, text in CODE for name in dotted.findall(text)}
    named = {
        (page, name) for page, name in named if name.rpartition(".")[2] not in ("conf", "service", "toml")
    }  # files
    assert {name for _, name in named} >= {"httpcache.adapters"}
    assert {(page, name) for page, name in named if not exists(name)} == set()
    assert exists("httpcache.errors.MirrorError")
    assert not exists("httpcache.nothing")
    assert not exists("httpcache.errors.Nothing")


def test_every_path_that_is_named_exists() -> None:
    """Of a file without a folder: somewhere in the repository."""
    named = {
        (page, text) for page, block, text in CODE
        if not block and re.fullmatch(r"[\w.-]+(?:/[\w.-]+)*/?", text) and "<" not in text
    }  # fmt: skip
    tops = {file.split("/")[0] for file in FILES} | {"site", "dist"}
    paths = {(page, text) for page, text in named if "/" in text and text.split("/")[0] in tops}
    files = {(page, text) for page, text in named if re.fullmatch(r"\w+\.(?:py|md|sh)", text)}
    made = ("site/", "dist/")
    assert len(paths) > 10
    assert {(page, text) for page, text in paths if not text.startswith(made) and not (ROOT / text).exists()} == set()
    there = {file.rpartition("/")[2] for file in FILES}
    assert {(page, text) for page, text in files if text not in there} == set()


def test_links_lead_to_pages() -> None:
    """Those of the pages that no site is built from; `make docs` checks the others, their anchors too."""
    for path in PAGES:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", path.read_text()):
            assert (path.parent / link).exists(), f"{path.name}: {link}"


def test_a_page_for_each_task_is_on_the_site() -> None:
    listed = set(re.findall(r": ([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    assert listed == {path.name for path in ROOT.glob("docs/*.md")}


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


def test_the_live_backup_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Whatever the umask of the shell: the index has the key of the scopes, the blobs are private copies."""
    (tmp_path / "data/index").mkdir(parents=True)
    (tmp_path / "data/blobs/ab").mkdir(parents=True, mode=0o755)
    (tmp_path / "data/blobs/ab/abcd").write_text("secret")
    (tmp_path / "data/VERSION").write_text("2")
    with sqlite3.connect(tmp_path / "data/index/index.db") as index:
        index.execute("create table kept (value)")
    (lines,) = (block for block in re.findall(r"```sh\n(.*?)```", OPERATING, re.DOTALL) if ".backup(" in block)
    subprocess.run(["sh", "-ec", f"umask 022\n{lines}"], cwd=tmp_path, check=True)
    assert (tmp_path / "backup/blobs/ab/abcd").read_text() == "secret"
    for path in (tmp_path / "backup", tmp_path / "backup/index", tmp_path / "backup/index/index.db"):
        assert path.stat().st_mode & 0o077 == 0, path


# What an answer says of where it came from


@pytest.mark.parametrize("status", [401, 403, 404, 410, 429, 500, 503])
def test_an_error_of_an_upstream_says_so(status: int, upstream: Upstream, server: Mirror, pin: str) -> None:
    """Of a file, a distribution file, its metadata, an index page, and the upstream's own bytes."""
    upstream.otherwise = lambda _: Response(b"no", status, {"WWW-Authenticate": "Basic"} if status == 401 else {})
    for path in ("x", "x-1.tar.gz", "x-1-py3-none-any.whl.metadata", "simple/x/"):
        for raw in ("", "raw/"):
            for accept in (JSON, "text/html", "*/*"):
                got = ask(f"{server.url}/{pin}/{raw}{upstream.url}/{path}", accept)
                assert got.status_code in (status, 502), got.text
                assert re.match(
                    r"httpcache; (hit|fwd=uri-miss; (fwd-status=\d{3}|detail=\w+))", got.headers["cache-status"]
                )


def test_what_is_no_answer_says_so(upstream: Upstream, server: Mirror, pin: str) -> None:
    upstream.pages["/cut"] = Response([CUT], headers={"Content-Length": "5"})
    upstream.pages["/loop"] = Response(b"", 302, {"Location": "/loop"})
    upstream.pages["/part"] = Response(b"x", 206)
    for place in ("/cut", "/loop", "/part"):
        got = http.get(server.pin(pin, upstream.url + place))
        assert (got.status_code, got.headers["cache-status"]) == (502, "httpcache; fwd=uri-miss; detail=BadUpstream")
    upstream.pages["/x"] = b"0123456789"
    for _ in range(2):
        for headers in ({"Range": "bytes=50-"}, {"If-Match": '"x"'}):
            got = http.get(server.pin(pin, f"{upstream.url}/x"), headers=headers)
            assert got.status_code in (412, 416)
            assert got.headers["cache-status"].startswith("httpcache; ")
    upstream.stop()
    got = http.get(server.pin(pin, f"{upstream.url}/y"))
    assert (got.status_code, got.headers["cache-status"]) == (502, "httpcache; fwd=uri-miss; detail=Unreachable")


def messages() -> Iterator[str]:
    """All strings in the code, with `…` for what is filled in."""
    for path in (path for package in PACKAGES[:3] for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
                yield node.value if isinstance(node.value, str) else node.value.decode("latin-1")


def test_messages_in_troubleshooting_are_in_the_code() -> None:
    """Those in the tables of what the mirror says; `…` stands for anything."""
    page = (ROOT / "docs/troubleshooting.md").read_text()
    table = page.partition("## What the mirror says")[2].partition("## What an answer says")[0]
    texts = [
        text for cell in re.findall(r"^\| ([^|]*) \|", table, re.MULTILINE) for text in re.findall("`([^`]+)`", cell)
    ]
    known = list(messages())
    assert len(texts) > 40
    shapes = {text: re.compile(".*".join(map(re.escape, text.strip("… ").split("…"))), re.DOTALL) for text in texts}
    assert [text for text, shape in shapes.items() if not any(map(shape.search, known))] == []


@pytest.mark.skipif(shutil.which("sh") is None, reason="there is no shell")
def test_examples_of_a_shell_are_ones() -> None:
    """Every block of shell lines in the docs can be read by a shell."""
    blocks = [block for path in PAGES for block in re.findall(r"```sh\n(.*?)```", path.read_text(), re.DOTALL)]
    assert len(blocks) > 20
    for block in blocks:
        subprocess.run(["sh", "-n"], input=block.encode(), check=True)

"""Rules laid down by command: in force in a running server, kept in the store, and what they may be about."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.utils import canonicalize_name

from httpcache.errors import MirrorError, StoreError
from httpcache.store.local import LocalStore
from httpcache.store.log import Log
from pypi_adapter.instants import now
from pypi_adapter.policy.policy import Policy
from pypi_adapter.policy.rule_log import CurrentPolicy, RuleCommand, RuleLog, Subject, parse_subject
from pypi_adapter.policy.rules import Rule, Rules
from tests.support import http
from tests.support.clients import ClientError, Clients
from tests.support.command import run, told
from tests.support.index import ask, document, filenames
from tests.support.inside import processes, until
from tests.support.mirror import Mirror
from tests.support.packages import Dist, wheel
from tests.support.registries import PyPI

DATE = "2024-01-02"
OLD = "2023-06-01T00:00:00Z"
GOOD, BAD = wheel("demo", "1.0"), wheel("demo", "1.1")
OTHER = wheel("other", "1.0")
A = "a" * 64


@contextmanager
def standing(pid: int) -> Iterator[None]:
    """A process that does nothing meanwhile, in none of its threads."""
    threads = Path(f"/proc/{pid}/task")
    os.kill(pid, signal.SIGSTOP)
    try:
        until(lambda: all(") T " in path.read_text() for path in threads.glob("*/stat")), "a process that stands")
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture
def filled(pypi: PyPI) -> PyPI:
    """A PyPI with three files."""
    for dist in (GOOD, BAD, OTHER):
        pypi.upload(dist, OLD)
    return pypi


@pytest.fixture
def running(filled: PyPI, mirror: Callable[..., Mirror]) -> Mirror:
    """A mirror in front of it."""
    return mirror(filled)


def commanded(server: Mirror, *arguments: str) -> list[str]:
    """What a command beside a server prints, after checking that it did what it was asked."""
    ran = run(*arguments, "--data", server.data)
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout.splitlines()


def link(server: Mirror, dist: Dist) -> str:
    """The address of a file, whether it is listed or not."""
    return f"{server.url}/files/{dist.name}/{dist.sha256}/{dist.filename}"


def follows(server: Mirror, *dists: Dist, at: str = DATE) -> None:
    """Return when just these files are on the page of demo."""
    wanted = sorted(dist.filename for dist in dists)
    until(lambda: filenames(f"{server.at(at)}demo/") == wanted, f"a page of {wanted}")


# A running server


@pytest.mark.parametrize("at", [DATE, "live", "live-7d"])
def test_a_project_is_blocked_and_back(at: str, running: Mirror, clients: Clients) -> None:
    """At every date, whether it was frozen before (GOOD) or not (BAD); then the same bytes are back."""
    assert filenames(f"{running.at(at)}demo/") == [GOOD.filename, BAD.filename]
    assert http.get(link(running, GOOD)).content == GOOD.data
    assert commanded(running, "block", "Demo", "--reason", "steals\ncredentials") == [
        "blocked: demo (steals credentials)"
    ]
    follows(running, at=at)
    page = document(f"{running.at(at)}demo/")
    assert page["project-status"]["status"] == "quarantined"
    who = f"steals credentials (httpcache block, {datetime.now(UTC).date()})"
    assert page["project-status"]["reason"] == f"withheld by this mirror: {who}"
    for dist in (GOOD, BAD):
        for address in (link(running, dist), f"{link(running, dist)}.metadata"):
            answer = http.get(address)
            assert answer.status_code == 403
            assert f"{dist.filename} is withheld by this mirror: {who}" in answer.text
    assert [project["name"] for project in document(running.at(at))["projects"]] == ["other"]
    with pytest.raises(ClientError, match="from versions: none"):
        clients.install("pip", running.at(at), ["demo"])
    assert clients.install("pip", running.at(at), ["other"])["other"].hashes == {OTHER.sha256}

    assert commanded(running, "unblock", "demo") == ["removed: block demo (steals credentials)"]
    follows(running, GOOD, BAD, at=at)
    assert "project-status" not in document(f"{running.at(at)}demo/")
    for dist in (GOOD, BAD):
        assert http.get(link(running, dist)).content == dist.data
    assert clients.install("pip", running.at(at), ["demo"])["demo"].hashes == {BAD.sha256}


def test_an_address_in_a_lock_file_is_refused(running: Mirror, clients: Clients) -> None:
    """pip says that it is forbidden."""
    assert filenames(f"{running.at(DATE)}demo/") == [GOOD.filename, BAD.filename]
    commanded(running, "block", "demo")
    follows(running)
    with pytest.raises(ClientError, match="403"):
        clients.install("pip", running.at(DATE), [f"demo @ {link(running, GOOD)}"])


@pytest.mark.parametrize("what", ["demo >1.0, <2", f"sha256:{BAD.sha256.upper()}", f"DEMO@sha256:{BAD.sha256}"])
def test_a_file_is_blocked(what: str, running: Mirror, clients: Clients) -> None:
    """pip takes the other version."""
    assert clients.install("pip", running.at(DATE), ["demo"])["demo"].version == "1.1"
    commanded(running, "block", what)
    follows(running, GOOD)
    assert "no reason given" in http.get(link(running, BAD)).text
    assert clients.install("pip", running.at(DATE), ["demo"])["demo"].version == "1.0"


def test_a_page_that_lacks_files_is_not_kept_for_long(running: Mirror) -> None:
    """Caches and installers keep a whole page of a date for ever; this one can have its files again."""
    page = f"{running.at(DATE)}demo/"
    assert "immutable" in ask(page).headers["cache-control"]
    commanded(running, "block", "demo==1.1")
    follows(running, GOOD)
    assert ask(page).headers["cache-control"] == "public, max-age=60"
    commanded(running, "unblock", "demo==1.1")
    follows(running, GOOD, BAD)
    assert "immutable" in ask(page).headers["cache-control"]


def test_an_exception_from_the_settings_file(filled: PyPI, mirror: Callable[..., Mirror], tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('[[block]]\nproject = "demo"\nreason = "evil"\n')
    running = mirror(filled, "--config", str(rules))
    assert filenames(f"{running.at(DATE)}demo/") == []
    assert commanded(running, "allow", "demo==1.0", "--reason", "audited") == [
        "exempt from all blocks: demo==1.0 (audited)"
    ]
    follows(running, GOOD)
    assert http.get(link(running, GOOD)).content == GOOD.data
    assert "evil (rules.toml)" in http.get(link(running, BAD)).text
    commanded(running, "unblock", "demo==1.0")
    follows(running)
    assert "no rule was set for exactly" in told(run("unblock", "demo", "--data", running.data))


def test_every_worker_follows(filled: PyPI, mirror: Callable[..., Mirror]) -> None:
    """Each is asked while the other stands still, from before the rule to after it."""
    running = mirror(filled, "--workers", "2")
    assert running.process is not None
    others = [pid for pid in processes(running) if pid != running.process.pid]

    def each(*dists: Dist) -> None:
        for pid in others:
            with standing(pid):
                follows(running, *dists)

    assert len(others) >= 2
    each(GOOD, BAD)
    commanded(running, "block", "demo>1")
    each(GOOD)
    commanded(running, "unblock", "demo>1")
    each(GOOD, BAD)


def test_a_rule_outlives_the_server(running: Mirror) -> None:
    commanded(running, "block", "demo>1")
    running.restart()
    assert filenames(f"{running.at(DATE)}demo/") == [GOOD.filename]


def test_where_the_rules_cannot_be_read_nothing_is_served(running: Mirror) -> None:
    """Also what was served a moment ago: it may be withheld by now."""
    page = f"{running.at(DATE)}demo/"
    assert filenames(page) == [GOOD.filename, BAD.filename]
    assert http.get(link(running, GOOD)).content == GOOD.data
    anyio.run(_append, running.data, 0, b"\x93nonsense")
    until(lambda: ask(page).status_code == 503, "an error")
    for address in (page, running.at("live"), link(running, GOOD), f"{link(running, GOOD)}.metadata"):
        answer = ask(address)
        assert answer.status_code == 503
        assert "the log of rules is damaged" in answer.text
    for command in (["blocks"], ["block", "demo"], ["unblock", "demo"], ["allow", "demo", "--reason", "x"]):
        assert "the log of rules is damaged" in told(run(*command, "--data", running.data))


async def _append(data: Path, number: int, value: bytes) -> None:
    store = LocalStore(data)
    try:
        assert await Log(store, "pypi/ rules").append(number, value)
    finally:
        store.close()


# The commands


def test_what_is_listed(running: Mirror) -> None:
    assert commanded(running, "blocks") == commanded(running, "blocks", "--all") == []
    commanded(running, "block", "Demo_X>=1.2,<2", "--reason", "evil")
    commanded(running, "block", "demo", "--reason", "first")
    commanded(running, "block", "demo", "--reason", "second")
    commanded(running, "block", f"demo@sha256:{A}")
    commanded(running, "allow", f"demo@sha256:{A}", "--reason", "a false alarm")
    commanded(running, "unblock", "demo-x <2, >=1.2")
    today = datetime.now(UTC).date().isoformat()
    in_force = ["block demo (second)", f"allow demo@sha256:{A} (a false alarm)"]
    assert _told(commanded(running, "blocks"), today) == in_force
    assert _told(commanded(running, "blocks", "--all"), today) == [
        "block demo-x<2,>=1.2 (evil)",
        "block demo (first)",
        "block demo (second)",
        f"block demo@sha256:{A} (no reason given)",
        f"allow demo@sha256:{A} (a false alarm)",
        "unblock demo-x<2,>=1.2",
    ]


def _told(lines: list[str], day: str) -> list[str]:
    """Lines without their times, which are all of that day."""
    assert all(re.match(rf"{day}T\d\d:\d\d:\d\dZ  ", line) for line in lines)
    return [line[22:] for line in lines]


def test_a_block_names_the_exceptions_that_win(running: Mirror) -> None:
    commanded(running, "allow", "demo==1.0", "--reason", "audited")
    commanded(running, "allow", f"sha256:{A}", "--reason", "known")
    wins = "an exception is in force and overrides it: "
    assert commanded(running, "block", "demo") == [
        "blocked: demo (no reason given)",
        f"{wins}demo==1.0 (audited)",
    ]
    assert commanded(running, "block", f"other@sha256:{A}")[1:] == [f"{wins}sha256:{A} (known)"]
    assert len(commanded(running, "block", "other")) == 1


def test_what_is_not_there_cannot_be_taken_back(running: Mirror) -> None:
    commanded(running, "block", "demo")
    for what in ("demo==1.0", "other", f"demo@sha256:{A}"):
        assert "httpcache blocks" in told(run("unblock", what, "--data", running.data))
    commanded(running, "unblock", "demo")
    told(run("unblock", "demo", "--data", running.data))
    assert len(commanded(running, "blocks", "--all")) == 2


def test_commands_at_once_all_land(running: Mirror) -> None:
    names = [f"project-{number}" for number in range(8)]
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(lambda name: commanded(running, "block", name), names))
    listed = [line.split()[2] for line in commanded(running, "blocks")]
    assert sorted(listed) == names


@pytest.mark.parametrize(
    "what",
    [
        "", " ", "-", "demo-", "de mo", "démo", "demo>", "demo>=x", "demo 1.0", "demo[extra]",
        "demo; python_version < '3'", "demo @ https://example.com/x.whl", "sha256:12", f"sha256:{A}0", f"sha512:{A}",
        f"demo@{A}", f"demo@sha256:{A}>1", f"de mo@sha256:{A}", f"@sha256:{A}", ">=1.0", "demo>=1+x", "demo\n",
        f"demo=={'1' * 5000}", "demo===\x1b[31m", "demo===\N{NO-BREAK SPACE}",
    ],
)  # fmt: skip
def test_what_no_rule_can_be_about(what: str) -> None:
    with pytest.raises(MirrorError, match=r"evil.*'evil>=1\.2,<2'.*sha256:.*evil@sha256:") as caught:
        parse_subject(what)
    assert caught.value.text.isprintable()


@pytest.mark.parametrize("command", [["block"], ["unblock"], ["allow", "--reason", "x"]])
@pytest.mark.parametrize("what", ["demo[extra]", b"demo\xff".decode(errors="surrogateescape")])
def test_a_command_says_how_to_write_it(command: list[str], what: str, server: Mirror) -> None:
    assert "'evil>=1.2,<2'" in told(run(*command, what, "--data", server.data))


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["allow", "demo", "--reason", " \n"], 1),
        (["allow", "demo", "--reason", "\x1b[31m"], 1),
        (["block", "demo", "--reason", b"\xff".decode(errors="surrogateescape")], 1),
        (["allow", "demo"], 2),
        (["block"], 2),
        (["blocks", "demo"], 2),
    ],
)
def test_arguments_that_make_no_sense(arguments: list[str], code: int, server: Mirror) -> None:
    ran = run(*arguments, "--data", server.data)
    assert ran.returncode == code
    if code == 1:
        assert "--reason" in told(ran)
    assert commanded(server, "blocks", "--all") == []


# What a rule may be about

names = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,10}[A-Za-z0-9])?", fullmatch=True)
versions = st.sampled_from(["1", "1.0", "2.0rc1", "1!2.3.post4.dev5", "v3"])
operators = st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "==="])
specifiers = st.builds(str.__add__, operators, versions) | st.sampled_from(["~=1.4", "==1.*"])
spaces = st.sampled_from(["", " "])
digests = st.text("0123456789abcdefABCDEF", min_size=64, max_size=64)


@given(names, st.lists(specifiers), spaces)
def test_projects_and_versions(name: str, written: list[str], space: str) -> None:
    what = parse_subject(f"{space}{name}{space}" + f"{space},{space}".join(written))
    assert (what.project, what.sha256, what.versions is None) == (canonicalize_name(name), None, not written)
    assert set((what.versions or "").split(",")) <= {part.replace(" ", "") for part in written} | {""}
    assert parse_subject(f"{name}{','.join(reversed(written))}") == parse_subject(str(what)) == what


@given(st.none() | names, digests, spaces)
def test_contents(name: str | None, digest: str, space: str) -> None:
    what = parse_subject(f"{name}{space}@{space}sha256:{digest}" if name else f"sha256:{digest}")
    assert what == Subject(name and canonicalize_name(name), None, digest.lower())
    assert parse_subject(str(what)) == what


@given(st.text() | st.text("evil0.@=<>, sha256:*+!~-"))
def test_anything_is_read_or_refused(text: str) -> None:
    try:
        what = parse_subject(text)
    except MirrorError:
        return
    assert str(what).isprintable()
    assert parse_subject(str(what)) == what


# The rulebook alone


def test_a_command_is_followed_at_once(tmp_path: Path) -> None:
    """The very same policy while nothing has changed, also if something else was written; then the new one."""

    async def check(store: LocalStore) -> None:
        policy = Policy(Rules([_rule("bad")], [_rule("kept")]), frozenset(["ours"]))
        book, orders = CurrentPolicy(store, policy), RuleLog(store)
        assert await book.current() is policy
        assert await book.current() is policy
        await store.add("m/other", b"1")
        assert await book.current() is policy
        await orders.append(RuleCommand(now(), "block", Subject("demo"), "stolen"))
        current = await book.current()
        assert current.exempt == policy.exempt
        assert [bool(current.rules.project(name)) for name in ("bad", "demo", "good")] == [True, True, False]
        assert await book.current() is current
        await orders.append(RuleCommand(now(), "allow", Subject("bad"), "false alarm"))
        await orders.append(RuleCommand(now(), "block", Subject("kept"), "in vain"))
        await orders.append(RuleCommand(now(), "unblock", Subject("demo")))
        current = await book.current()
        assert [bool(current.rules.project(name)) for name in ("bad", "demo", "kept")] == [False] * 3
        assert policy.rules.project("bad")

    _with_store(tmp_path, check)


def _rule(project: str) -> Rule:
    return Rule(project, None, None, "said so", "rules.toml")


def test_many_ask_at_once(tmp_path: Path) -> None:
    """They share one reading, and one policy comes of it."""

    async def check(store: LocalStore) -> None:
        await RuleLog(store).append(RuleCommand(now(), "block", Subject("demo")))
        book = CurrentPolicy(store, Policy())
        found: list[Policy] = []

        async def asked() -> None:
            found.append(await book.current())

        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(asked)
        assert len(set(map(id, found))) == 1
        assert found[0].rules.project("demo")

    _with_store(tmp_path, check)


@pytest.mark.parametrize(
    "value",
    [
        b"", b"\xc1", b"\x94\x01\xa5blurb\x93\xa1p\xc0\xc0\xa0", b"\x94\x01\xa5block\x93\xa1P\xc0\xc0\xa0",
        b"\x94\x01\xa5block\x93\xc0\xc0\xc0\xa0", b"\x94\x01\xa5block\x93\xa1p\xa3abc\xc0\xa0",
    ],
    ids=["empty", "no MessagePack", "no kind", "no name", "about nothing", "no specifiers"],
)  # fmt: skip
def test_a_damaged_entry(value: bytes, tmp_path: Path) -> None:
    """It stays an error, and is none that is skipped at the next reading."""

    async def check(store: LocalStore) -> None:
        await RuleLog(store).append(RuleCommand(now(), "block", Subject("demo")))
        await Log(store, "pypi/ rules").append(1, value)
        book = CurrentPolicy(store, Policy())
        for _ in range(2):
            with pytest.raises(StoreError, match="the log of rules is damaged"):
                await book.current()

    _with_store(tmp_path, check)


def _with_store(folder: Path, check: Callable[[LocalStore], Awaitable[None]]) -> None:
    async def work() -> None:
        store = LocalStore(folder / "data")
        try:
            await check(store)
        finally:
            store.close()

    anyio.run(work)

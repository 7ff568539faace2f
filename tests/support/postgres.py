"""A PostgreSQL server on 127.0.0.1, in a temporary folder, with a fresh database for each test that asks for one."""

from __future__ import annotations

import functools
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

ACCOUNTS = ("postgres", "nobody")
"""Whom the server runs as if the tests run as root, which it refuses."""

OWNER = "mirror"
"""The role of the index: it owns its database, and has no other rights."""

_numbers = itertools.count()


class Postgres:
    """A server that can be stopped, killed and started again; its data stay. Commits are durable (fsync)."""

    def __init__(self, **settings: object) -> None:
        """Start one with these settings besides its own. Skips the test where no server can run."""
        self._settings = settings
        self._programs = _programs()
        self._account = _account()
        self.folder = Path(tempfile.mkdtemp(prefix="httpcache-postgres-"))
        if self._account is not None:
            os.chown(self.folder, self._account.pw_uid, self._account.pw_gid)
        self._data = self.folder / "data"
        self._log = self.folder / "log"
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._create()

    def _create(self) -> None:
        self._run("initdb", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-locale")
        self.start()
        self.execute(f"CREATE ROLE {OWNER} LOGIN")

    def _run(self, program: str, *options: str) -> None:
        """Run a program that makes the folder of the data."""
        line = [str(self._programs / program), "-D", str(self._data), *options]
        with self._log.open("ab") as log:
            subprocess.run(line, stdout=log, stderr=log, check=True, **self._identity)

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        deadline = time.monotonic() + 60
        while not self._answers():
            assert time.monotonic() < deadline, self.log()
            if self._process is None or self._process.poll() is not None:  # also if the one before still ends
                self._process = self._begin()
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End the server: SIGINT ends its sessions, SIGKILL leaves it no time for anything."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(60)
            self._process = None

    def close(self) -> None:
        """End the server, and remove its folder."""
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder)

    def database(self) -> str:
        """Make an empty database. Returns its address, for the role OWNER."""
        name = f"test{os.getpid()}_{next(_numbers)}"
        self.execute(f"CREATE DATABASE {name} OWNER {OWNER}")
        return f"postgresql://{OWNER}@127.0.0.1:{self.port}/{name}"

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Execute a statement as the superuser in a database, or in that of an address. Returns its rows."""
        name = database.rpartition("/")[2]
        with psycopg.connect(self._address(name), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def log(self) -> str:
        """What the server has logged."""
        return self._log.read_text(errors="replace")

    def _begin(self) -> subprocess.Popen[bytes]:
        options = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "on",
            "shared_buffers": "16MB",
            "log_line_prefix": "%d ",
            **self._settings,
        }
        settings = [f"--{name}={value}" for name, value in options.items()]
        line = [str(self._programs / "postgres"), "-D", str(self._data), *settings]
        with self._log.open("ab") as log:
            return subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self._identity)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self._address("postgres"), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def _address(self, name: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    @property
    def _identity(self) -> dict[str, Any]:
        """Who runs the programs of the server, and where."""
        if self._account is None:
            return {"cwd": self.folder}
        as_whom = {"user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": []}
        return {"cwd": self.folder, **as_whom}


class Standby(Postgres):
    """A server that follows another one, for which a commit of that one waits, until it is promoted."""

    def __init__(self, first: Postgres) -> None:
        self._first = first
        super().__init__()

    def _create(self) -> None:
        self._run("pg_basebackup", "--write-recovery-conf", "--checkpoint=fast", "-d", self._first._address("postgres"))
        self.start()
        self._first.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        self._first.execute("SELECT pg_reload_conf()")

    def promote(self) -> None:
        """Make it the one that takes changes."""
        self.execute("SELECT pg_promote()")


def _programs() -> Path:
    found = [Path(path).resolve().parent for path in (shutil.which("postgres"), shutil.which("initdb")) if path]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    for folder in found:
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            return folder
    pytest.skip("PostgreSQL is not installed here (Debian: apt-get install postgresql, or make postgres-tools)")


def _account() -> pwd.struct_passwd | None:
    """Whom to run as, if not as who runs the tests."""
    if os.geteuid() != 0:
        return None
    for account in pwd.getpwall():
        if account.pw_name in ACCOUNTS:
            return account
    pytest.skip(f"PostgreSQL does not run as root, and there is none of {', '.join(ACCOUNTS)} here")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@functools.cache
def shared() -> Postgres:
    """The one server of all tests of this process that neither stop it nor change its settings."""
    return Postgres()


def close_shared() -> None:
    """End the server, if a test has asked for it."""
    if shared.cache_info().currsize:
        shared().close()
        shared.cache_clear()

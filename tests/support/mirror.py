"""The mirror under test: the installed command, as a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx

from tests.support.clients import NOWHERE

COMMAND: Final = Path(sys.executable).with_name("httpcache")
START: Final = 30.0
"""Seconds within which it has to be ready."""
STOP: Final = 40.0
"""Seconds within which SIGTERM has to end it."""
RESERVED: Final = 200
"""Ports that are held at once: far more than one test asks for."""

_reserved: deque[socket.socket] = deque()


class Mirror:
    """One `httpcache serve` with its own data folder; `restart` keeps port and data."""

    def __init__(
        self,
        folder: Path,
        pypi_upstream: str | None = None,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Set it up; `start` runs it. Without `pypi_upstream` there is no PyPI behind it.

        `environment` is added to that of the tests.
        """
        self.folder = folder
        self.data = folder / "data"
        self.port = free_port()
        self.pypi_upstream = pypi_upstream or f"{NOWHERE}/simple/"
        self.arguments = tuple(arguments)
        self.environment = dict(environment or {})
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def url(self) -> str:
        """The origin, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def at(self, address: str) -> str:
        """The index at a date, an instant or `live`: `/2024-01-02/`."""
        return f"{self.url}/{address.strip('/')}/"

    def pin(self, pin: str, target: str, credentials: str = "") -> str:
        """The frozen address of `target` under `pin`, with `user:password` in it if given."""
        origin = f"http://{credentials}@127.0.0.1:{self.port}" if credentials else self.url
        return f"{origin}/{pin}/{target}"

    def same(self, link: str) -> str:
        """A link from a page of this mirror, which must be path-absolute, as a full address."""
        assert urlsplit(link).netloc == "", link
        assert link.startswith("/"), link
        return self.url + link

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self.process is not None and self.process.poll() is None

    def start(self, *arguments: str, ready: bool = True) -> Mirror:
        """Run the command, with `arguments` in place of the ones it was set up with if there are any."""
        assert not self.running
        if arguments:
            self.arguments = arguments
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.upper().startswith(("HTTPCACHE_", "PIP_", "UV_")) and "proxy" not in name.lower()
        }
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [COMMAND, "serve", *self._options(), *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=inherited | self.environment,
                cwd=self.folder,
                start_new_session=True,
            )
        if ready:
            self._wait_until_ready(self.process)
        return self

    def _options(self) -> list[str]:
        options = ["--host", "127.0.0.1", "--port", f"{self.port}", "--allow-network", "127.0.0.0/8"]
        options += ["--pypi-second-look", "0"]  # what is deleted counts at once, where a test does not say otherwise
        return [*options, "--data", str(self.data), "--pypi-upstream", self.pypi_upstream]

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.url}/-/ready", timeout=2, trust_env=False).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            try:
                code = process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
            self.process = None
            raise AssertionError(f"httpcache serve ended at once with {code}:\n{self.log()}")
        self.kill()
        raise AssertionError(f"not ready within {START} s:\n{self.log()}")

    def terminate(self) -> None:
        """Send SIGTERM and do not wait; `wait` does."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float) -> int | None:
        """The exit code, None if it still runs after so many seconds."""
        assert self.process is not None
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def stop(self) -> None:
        """SIGTERM, and see that it ends in time with exit code 0."""
        if self.process is None:
            return
        process, self.process = self.process, None
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(STOP)
        except subprocess.TimeoutExpired:
            self.process = process
            self.kill()
            raise AssertionError(f"still running {STOP} s after SIGTERM:\n{self.log()}") from None
        assert code == 0, f"exit code {code} after SIGTERM:\n{self.log()}"

    def kill(self) -> None:
        """SIGKILL to the whole process group it started, workers too."""
        if self.process is None:
            return
        process, self.process = self.process, None
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def restart(self, *arguments: str) -> Mirror:
        """Stop, or what a `kill` left, and start again on the same port and data."""
        self.stop()
        return self.start(*arguments)

    def log(self) -> str:
        """All that it printed."""
        return (self.folder / "log").read_text(errors="replace")


def free_port() -> int:
    """A port on 127.0.0.1 that nothing has, and that nothing else is given while the test runs.

    A socket is bound to it and does not listen: the kernel then chooses it for nobody, and a server that is told to
    listen on it still can.
    """
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("127.0.0.1", 0))
    _reserved.append(reserved)
    if len(_reserved) > RESERVED:
        _reserved.popleft().close()
    return int(reserved.getsockname()[1])

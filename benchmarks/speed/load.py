"""Load with wrk: answers a second, and CPU seconds of the server's tree for each answer.

Answers a second are the bytes that wrk read, divided by the bytes of one whole answer (head included, counted once
over a socket), divided by the seconds. So answers that were on their way at the end count as far as they had come; a
count of whole answers would be wrong by up to 16 of perhaps 100 where an answer has 100 MB. What went wrong is counted
apart: a figure with errors has a note.

wrk runs on the same machine, in one thread. On two cores a server with one worker has a core to itself, and wrk has
the other: where wrk takes all of it, a faster server would not have shown.
"""

from __future__ import annotations

import re
import resource
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from .process import Child, Unavailable, clean_environment

CONNECTIONS: Final = 16
_TIMEOUT: Final = 120
"""Seconds that an answer may take before wrk calls it an error."""
_SCRIPT: Final = Path(__file__).with_name("wrk.lua")
_SAID: Final = re.compile(r"^RESULT (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Run:
    """What wrk counted: whole answers, bytes, seconds, how many requests went wrong; and its own seconds of CPU."""

    answers: int
    bytes: int
    seconds: float
    errors: int
    cpu: float = 0.0

    def rate(self, wire: int) -> float:
        """Answers a second, if one is `wire` bytes long."""
        return self.bytes / wire / self.seconds


@dataclass(frozen=True)
class Loaded:
    """One run against a server: answers a second, seconds of CPU for each, errors, wrk's share of a core."""

    rate: float
    cpu: float
    errors: int
    wrk: float


def parse(output: str) -> Run:
    """Read what wrk.lua prints at the end. Raises Unavailable with the last line of wrk's output if it is not there."""
    said = _SAID.search(output)
    if not said:
        raise Unavailable(f"wrk failed: {(output.strip() or 'it printed nothing').splitlines()[-1]}")
    values = {name: int(value) for name, value in (part.split("=") for part in said[1].split())}
    errors = sum(values[name] for name in ("connect", "read", "write", "status", "timeout"))
    return Run(values["requests"], values["bytes"], values["microseconds"] / 1e6, errors)


def wrk(url: str, accept: str, seconds: float, *arguments: str) -> Run:
    """Run wrk with one thread; `arguments` are for wrk.lua: how many addresses `url` stands for."""
    tool = shutil.which("wrk")
    if not tool:
        raise Unavailable("wrk is not installed: apt-get install wrk")
    options = [f"-c{CONNECTIONS}", "-t1", f"-d{max(1, round(seconds))}s", "--timeout", f"{_TIMEOUT}s"]
    command = [tool, *options, "-H", f"Accept: {accept}", "-s", str(_SCRIPT), url, *arguments]
    before = _children()
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=False)
    return replace(parse(done.stdout + done.stderr), cpu=_children() - before)


def _children() -> float:
    """Seconds of CPU of the children that have ended: between two calls, of what ran to its end meanwhile."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def load(child: Child, url: str, accept: str, wire: int, seconds: float, *arguments: str) -> Loaded:
    """Run wrk against a server, and count what its tree takes until it has come to rest."""
    before = child.cpu()
    ran = wrk(url, accept, seconds, *arguments)
    cpu = child.cpu_at_rest() - before
    rate = ran.rate(wire)
    return Loaded(rate, cpu / max(rate * ran.seconds, 1e-9), ran.errors, ran.cpu / ran.seconds)


def wire_size(url: str, accept: str) -> tuple[int, float]:
    """Return the bytes of one whole answer, head included, and the seconds it took."""
    parts = urlsplit(url)
    request = f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
    started, size = time.perf_counter(), 0
    with socket.create_connection((parts.hostname, parts.port), timeout=_TIMEOUT) as connection:
        connection.sendall(request.encode())
        while chunk := connection.recv(1 << 20):
            size += len(chunk)
    return size, time.perf_counter() - started

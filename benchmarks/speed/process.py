"""Processes that the benchmark starts, ends by their ids, and measures from outside: CPU and memory of a whole tree.

A child has a session of its own, and everything in that session is counted as its tree: workers, and what they start.
CPU is the kernel's count of nanoseconds on a core, user and system together, of the processes that live, and of those
that have ended once their parent has waited for them. Memory is told twice. PSS shares a page that n processes map
among them, so the sum over the tree is what the tree takes; it is sampled, so a short peak can be missed. The sum of
each process's peak RSS is kept by the kernel and misses nothing, but counts shared pages more than once, and adds up
peaks that may not have been at the same time: it is an upper bound.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Final

import httpx

READY: Final = 60.0
"""Seconds within which a server has to answer."""
STOP: Final = 30.0
"""Seconds that a server has to end after SIGTERM, before its session is killed."""
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_CPU_CLOCK: Final = 2
"""CPUCLOCK_SCHED of the kernel's posix-timers: nanoseconds that the scheduler gave a process, all threads together."""


class Unavailable(Exception):
    """A server or a measurement cannot be had; the text says why."""


class Child:
    """A process of the benchmark, in a session of its own; `log` has what it printed, `stack` ends it."""

    def __init__(
        self,
        command: Sequence[str | Path],
        folder: Path,
        stack: ExitStack,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._stopped = False
        with (folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=clean_environment() | dict(environment or {}),
                cwd=folder,
                start_new_session=True,
            )
        stack.callback(self.stop)

    def wait_until_ready(self, url: str, every: float = 0.05) -> None:
        """Wait until an address answers with anything below 500. Raises Unavailable with the last lines of the log."""
        deadline = time.monotonic() + READY
        with httpx.Client(trust_env=False, timeout=READY) as client:
            while time.monotonic() < deadline and self._process.poll() is None:
                with suppress(httpx.TransportError):
                    if client.get(url).status_code < 500:
                        return
                time.sleep(every)
        self.stop()
        raise Unavailable(f"it did not start: {self.last_words()}")

    def last_words(self) -> str:
        """The end of what it printed, in one line."""
        lines = (self.folder / "log").read_text(errors="replace").split("\n")
        return " | ".join(line.strip() for line in lines[-4:] if line.strip())[-300:]

    def stop(self) -> None:
        """SIGTERM to the process, time to end, then SIGKILL to what is left of its group; once."""
        if self._stopped:
            return
        self._stopped = True
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # the group that it leads
        self._process.wait()

    def _pids(self) -> list[int]:
        """The processes of its session."""
        running = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
        return [pid for pid in running if (fields := _stat(pid)) and int(fields[3]) == self._process.pid]

    def cpu(self) -> float:
        """Seconds of CPU that the tree has taken so far."""
        return sum(map(_cpu, self._pids()))

    def cpu_at_rest(self) -> float:
        """The same, once the tree has done next to nothing for a while: what goes on behind an answer counts too."""
        before = self.cpu()
        for _ in range(100):
            time.sleep(0.05)
            after = self.cpu()
            if after - before < 0.0005:
                break
            before = after
        return after

    def memory(self) -> Memory:
        """What the tree has in memory now."""
        pids = self._pids()
        return Memory(sum(map(_pss, pids)), sum(map(_peak_rss, pids)))


class Memory:
    """Bytes of a tree: `pss` now, and the sum of the `peak_rss` of each process. `|` takes the larger of both."""

    def __init__(self, pss: int = 0, peak_rss: int = 0) -> None:
        self.pss = pss
        self.peak_rss = peak_rss

    def __or__(self, other: Memory) -> Memory:
        return Memory(max(self.pss, other.pss), max(self.peak_rss, other.peak_rss))


class Sampler:
    """Samples the memory of children in a thread, and keeps the peaks by the name of the child and the phase."""

    def __init__(self, every: float = 0.2) -> None:
        self.phase = "start"
        self.peaks: dict[tuple[str, str], Memory] = {}
        self._every = every
        self._children: dict[str, Child] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def watch(self, name: str, child: Child) -> None:
        """Sample this child from now on, in the place of an earlier one of that name."""
        self._children = {**self._children, name: child}

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._every):
            for name, child in self._children.items():
                found = child.memory()
                if found.pss:  # it has not ended
                    key = name, self.phase
                    self.peaks[key] = self.peaks.get(key, Memory()) | found


def clean_environment() -> dict[str, str]:
    """The environment without what would change a server or a client: proxies, and variables of the tools."""
    tools = ("HTTPCACHE_", "PIP_", "UV_", "PROXPI_", "DEVPI", "GUNICORN_", "FLASK_", "MAKE", "MFLAGS", "PYTHONPATH")
    return {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(tools) and "proxy" not in name.lower()
    }


def free_port() -> int:
    """A port on 127.0.0.1 that nothing has, of five digits as are all that Linux gives away."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat from the third on; none if the process has gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return []


def _cpu(pid: int) -> float:
    fields = _stat(pid)
    with suppress(OSError):
        waited_for = (int(fields[13]) + int(fields[14])) / _TICKS if fields else 0.0
        return time.clock_gettime((~pid << 3) | _CPU_CLOCK) + waited_for
    return 0.0


def _pss(pid: int) -> int:
    return _kilobytes(pid, "smaps_rollup", "Pss:")


def _peak_rss(pid: int) -> int:
    return _kilobytes(pid, "status", "VmHWM:")


def _kilobytes(pid: int, file: str, field: str) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    return 0

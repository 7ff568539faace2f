"""What a worker process runs: the application, which is replaced as a whole when the settings change.

A request ends on the application that it began on. One that was replaced goes on until its last request and its last
download are over; nothing is cut off. So all that an application is made of can change while it runs, and a mistake
leaves the worker as it was.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import signal
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import anyio
import sniffio
from anyio.abc import TaskGroup, TaskStatus
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from httpcache.adapter import Adapter
from httpcache.errors import MirrorError
from httpcache.metrics import Metrics
from httpcache.settings import Settings
from httpcache.web.app import ADMIN, build
from httpcache.web.sharing import Sharing

from .admin import listening
from .ending import Ending, watch

log = logging.getLogger("httpcache")

AT_ONCE: Final = signal.SIGUSR1
"""The signal that tells a worker to stop waiting: SIGTERM and SIGINT may come twice, from its parent and elsewhere."""
LARGE: Final = 512 * 1024
"""Allocations of at least this many bytes are mapped from the system and returned to it one by one."""
SPARE: Final = 8 * 1024 * 1024
"""Free bytes that a heap may keep: downloads constantly allocate and free about as much."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8


def load(parent: int, adapters: Sequence[Adapter], shared: Path, settings: Settings, news: Connection) -> ASGIApp:
    """Return the application in a worker, and make the worker end when its parent does.

    `shared` is the folder of the server's metrics. `news` brings further settings that come into force while it runs.
    """
    threading.Thread(target=watch, args=(parent,), daemon=True).start()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # it is for the parent, and may come to all processes of a group
    _bound_memory()
    sniffio.thread_local.name = "asyncio"  # anyio and httpcore ask at every step, and sniffio asks the system
    gc.freeze()  # what a worker starts with stays: the garbage collector need not look at it again
    return Worker(adapters, Sharing(Metrics(), shared), settings, news)


class Worker:
    """The application of a worker. It is replaced when `news` brings settings."""

    def __init__(self, adapters: Sequence[Adapter], sharing: Sharing, settings: Settings, news: Connection) -> None:
        self._adapters = adapters
        self._sharing = sharing
        self._settings = settings
        self._news = news
        listening = str(settings.unix_socket) if settings.unix_socket else settings.port
        self._ending = Ending(listening, settings.max_clients)
        self._stopping = anyio.Event()
        self._renewing = anyio.Lock()
        self._living: set[_Living] = set()
        self._current: _Living
        self._tasks: TaskGroup

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or live."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        self._ending.note(scope)
        current = self._current
        current.requests += 1
        try:
            await current.app(scope, receive, send)
        finally:
            current.requests -= 1
            if current.is_replaced and not current.requests:
                current.stop.set()

    async def _admin(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request at the port of the mirror's own pages."""
        await self({**scope, ADMIN: True}, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        """Start, report that or why not in one line, and end at the server's word."""
        await receive()
        _end_in_time(self._ending)
        async with self._sharing.running(), anyio.create_task_group() as self._tasks:
            try:
                await self._begin(self._settings)
            except MirrorError as error:
                await send({"type": "lifespan.startup.failed", "message": f"httpcache: {error.text}"})
                return
            except Exception:
                await send({"type": "lifespan.startup.failed", "message": traceback.format_exc()})
                raise
            loop = asyncio.get_running_loop()
            loop.add_reader(self._news.fileno(), self._read_news)
            async with listening(self._admin, self._settings):
                await send({"type": "lifespan.startup.complete"})
                await receive()
            loop.remove_reader(self._news.fileno())
            self._stopping.set()
            for living in self._living:
                living.stop.set()
        await send({"type": "lifespan.shutdown.complete"})

    def _read_news(self) -> None:
        try:
            self._tasks.start_soon(self._renew, self._news.recv())
        except (EOFError, OSError):  # the parent is gone, and this process will be too
            asyncio.get_running_loop().remove_reader(self._news.fileno())

    async def _renew(self, settings: Settings) -> None:
        """Replace the application; if that fails, go on with the one there is."""
        async with self._renewing:
            try:
                await self._begin(settings)
            except MirrorError as error:
                log.error("this worker keeps the settings that it had: %s", error.text)
            except Exception:
                log.exception("this worker keeps the settings that it had")

    async def _begin(self, settings: Settings) -> None:
        """Start an application with these settings and let it answer from now on. Raises MirrorError."""
        new = _Living(build(settings, self._adapters, self._over, self._sharing))
        self._living.add(new)
        await self._tasks.start(self._keep, new)
        old, self._current = getattr(self, "_current", None), new
        if old:
            old.replace()

    async def _keep(self, living: _Living, *, task_status: TaskStatus[None]) -> None:
        """Keep an application alive. What goes wrong at the end of one that was replaced harms no other."""
        try:
            await living.live(task_status.started)
        except MirrorError:
            if not living.has_started:
                raise
        except Exception:
            if not living.is_replaced:
                raise
            log.exception("an application that was replaced did not end well")
        finally:
            self._living.discard(living)

    async def _over(self) -> None:
        """Wait until downloads need not be waited for: not as long as this worker runs on."""
        await self._stopping.wait()
        await self._ending.over()


class _Living:
    """An application with its lifespan, and how many requests are under way on it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.requests = 0
        self.has_started = False
        self.is_replaced = False
        self.stop = anyio.Event()

    def replace(self) -> None:
        """Say that no more requests will come: it ends after the last one under way."""
        self.is_replaced = True
        if not self.requests:
            self.stop.set()

    async def live(self, started: Callable[[], None]) -> None:
        """Run the lifespan (see the ASGI specification) until `stop` is set. Raises what its start raises."""

        async def receive() -> Message:
            if not self.has_started:
                return {"type": "lifespan.startup"}
            await self.stop.wait()
            return {"type": "lifespan.shutdown"}

        async def send(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                self.has_started = True
                started()

        await self.app({"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}}, receive, send)


def _end_in_time(ending: Ending) -> None:
    """Begin the shutdown at SIGTERM, which a worker gets whatever its parent got; granian itself handles SIGINT.

    granian then stops accepting connections, closes idle ones, and waits for the others.
    """
    loop = asyncio.get_running_loop()

    def begin() -> None:
        ending.begin()
        os.kill(os.getpid(), signal.SIGINT)

    loop.add_signal_handler(signal.SIGTERM, begin)
    loop.add_signal_handler(AT_ONCE, ending.cut)


def _bound_memory() -> None:
    """Make glibc return the memory that large index pages took: by default each thread has a heap and keeps it.

    See mallopt(3); other C libraries do not have it.
    """
    with suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in ((M_ARENA_MAX, 2), (M_MMAP_THRESHOLD, LARGE), (M_TRIM_THRESHOLD, SPARE)):
            mallopt(option, value)

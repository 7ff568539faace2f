"""The doctor's look at an object store: a probe is written, read back and removed. Nothing is left of it."""

from __future__ import annotations

import secrets
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from httpcache.errors import StoreError
from httpcache.store.objects import PATIENCE, Objects

from .health import OK, PROBLEM, WARNING, Finding

NAME = "httpcache-doctor-"
"""What the name of a probe begins with: that of no body does, so one that is left does not count as one."""
SIZE = 4096  # bytes
SLOW = 2.0  # seconds for all that is done with a probe
READABLE = "the mirror's object store has other bytes than were written to it"
LASTING = "the probe is still there after it was removed"


class _Step(NamedTuple):
    done: str
    advice: str


_OPEN = _Step("opened", "correct --blobs, or the variables of the object store (AWS_ENDPOINT_URL, AWS_REGION, ...)")
_WRITE = _Step("written", "let its credentials write objects (s3:PutObject), and check that the bucket is there")
_READ = _Step("read", "let its credentials read objects (s3:GetObject); if bytes differ, check what is in between")
_REMOVE = _Step("removed", "let its credentials remove objects (s3:DeleteObject): `forget` and `gc` need it")
_MISS = _Step(
    "missed", "let its credentials list the bucket (s3:ListBucket), or else what is not there looks forbidden"
)


async def check_blobs(address: str, patience: float = PATIENCE) -> Finding:
    """Say whether an object store does all that a mirror asks of it. `patience` is in seconds, for one answer."""
    probe = _Probe(address, patience)
    began = time.monotonic()
    try:
        await probe.run()
    except StoreError as error:
        left = f"; {probe.name} is left in it: remove it" if probe.is_left else ""
        return Finding(
            "blobs", PROBLEM, f"a probe could not be {probe.step.done}: {error.text}{left}", probe.step.advice
        )
    took = time.monotonic() - began
    text = f"a probe was written, read and removed in {1000 * took:.0f} ms"
    slow = "the object store or the network to it is slow: each first download waits for it"
    return Finding("blobs", WARNING if took > SLOW else OK, text, slow if took > SLOW else None)


class _Probe:
    """An object. `step` is what is done with it, or was when it failed."""

    def __init__(self, address: str, patience: float) -> None:
        self.name = f"{NAME}{secrets.token_hex(8)}"
        self.step = _OPEN
        self.is_left = False
        self._address = address
        self._patience = patience
        self._body = secrets.token_bytes(SIZE)

    async def run(self) -> None:
        """Do each step. Raises StoreError."""
        objects = Objects(self._address, self._patience)
        self.step = _WRITE
        with TemporaryDirectory(prefix=NAME) as folder:
            file = Path(folder) / "probe"
            file.write_bytes(self._body)
            await objects.put(self.name, file, SIZE)
        self.is_left = True
        self.step = _READ
        try:
            if b"".join([chunk async for chunk in objects.read(self.name, SIZE)]) != self._body:
                raise StoreError(READABLE)
        except StoreError:
            with suppress(StoreError):
                await objects.delete(self.name)
                self.is_left = False
            raise
        self.step = _REMOVE
        await objects.delete(self.name)
        self.is_left = False
        self.step = _MISS
        if await objects.stamp(self.name):
            self.step, self.is_left = _REMOVE, True
            raise StoreError(LASTING)

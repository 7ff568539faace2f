"""A real nginx in front of a mirror, as in the examples."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import httpx

from tests.support import http
from tests.support.mirror import Mirror, free_port

NGINX: Final = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
EXAMPLE: Final = Path(__file__).parents[2] / "examples/nginx/nginx.conf"


@contextmanager
def nginx(folder: Path, server: Mirror, block: str) -> Iterator[str]:
    """nginx with this server block, which listens on a free port; its address."""
    port = free_port()
    block = block.replace("{port}", f"{port}").replace("127.0.0.1:8080", f"127.0.0.1:{server.port}")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log {folder}/error.log;\nevents {{}}\n"
        f"http {{ access_log off;\n{places}{block} }}\n"
    )
    command = [str(NGINX), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
    with subprocess.Popen(command) as process:
        try:
            for _ in range(200):
                with suppress(httpx.TransportError):
                    http.get(f"http://127.0.0.1:{port}/")
                    break
                assert process.poll() is None, (folder / "error.log").read_text()
                time.sleep(0.05)  # nginx does not say when it listens
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()

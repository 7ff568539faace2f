"""Makes a data folder of today's format, and notes what it answers, for `test_formats`.

    python -m tests.store.formats.make format-3

Once for each format, with the version that introduced it: what is there is never made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from tests.support import http
from tests.support.command import run
from tests.support.index import ago, document, instant
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.registries import JSON, PyPI
from tests.support.upstream import Response, Upstream

HERE = Path(__file__).parent
ANY = "*/*"
SIZES = {"/empty": 0, "/small": 5, "/edge": 16 * 1024, "/big": 50_000}


def fill(mirror: Mirror, pypi: PyPI, upstream: Upstream) -> Iterator[tuple[str, str]]:
    """Do with a mirror what people do; yield the path and the `Accept` of each answer that must stay."""
    upstream.pages = {path: Response(os.urandom(size)) for path, size in SIZES.items()}
    upstream.pages["/typed"] = Response(b"<p>page</p>", headers={"Content-Type": "text/html; charset=utf-8"})
    for pin in ("a-2024-01-02", "b-2024-01-02"):
        for path in upstream.pages:
            yield f"/{pin}/{upstream.url}{path}", ANY
    one = [wheel("one", f"{version}.0") for version in range(1, 4)]
    pypi.upload(one[0], "2023-01-01T00:00:00Z")
    pypi.upload(one[1], "2023-06-01T00:00:00Z", yanked="broken")
    for file in document(f"{mirror.url}/2023-07-01/one/")["files"]:
        for suffix in ("", ".metadata"):
            yield urlsplit(file["url"]).path + suffix, ANY
    pypi.upload(wheel("other", "1.0"), "2023-06-01T00:00:00Z")
    pypi.upload(wheel("bad", "1.0"), "2023-06-01T00:00:00Z")
    pypi.upload(wheel("kept", "1.0"), ago(days=1))
    times = []
    for change in (
        lambda: pypi.upload(one[2], ago(seconds=1)),
        lambda: pypi.yank(one[0], "old"),
        lambda: pypi.delete(one[1]),
        lambda: pypi.set_status("other", "archived", "no longer kept"),
    ):
        times.append(instant())
        for project in ("one", "other"):
            http.get(f"{mirror.url}/{times[-1]}/{project}/")
        time.sleep(1.1)
        change()
    run("block", "bad", "--reason", "test", "--data", mirror.data)
    options = ("--data", mirror.data, "--pypi-upstream", pypi.url, "--pypi-second-look", "0")
    assert run("capture", *options, "--allow-network", "127.0.0.0/8").returncode == 0
    times.append(instant())
    for at in ("2023-02-01", "2023-07-01", *times):
        for project in ("one", "other", "bad", "kept", "none"):
            yield f"/{at}/{project}/", JSON


def make(name: str, folder: Path) -> None:
    """Write `formats/<name>.json` and `.tar.xz`."""
    upstream, pypi = Upstream(), PyPI(Upstream(), Upstream())
    mirror = Mirror(folder, pypi.url).start()
    asked = []
    for path, accept in fill(mirror, pypi, upstream):
        http.get(mirror.url + path, headers={"Accept": accept})
        asked.append((path, accept))
    mirror.stop()
    for each in (upstream, *pypi.upstreams):
        each.stop()
    mirror.start("--offline")
    answers = [(path, accept, http.get(mirror.url + path, headers={"Accept": accept})) for path, accept in asked]
    mirror.stop()
    told = {
        "pypi_upstream": pypi.url,
        "ls": run("ls", "--data", mirror.data).stdout.split("\n"),
        "answers": [
            (path, accept, answer.status_code, hashlib.sha256(answer.content).hexdigest())
            for path, accept, answer in answers
            if answer.status_code in (200, 404)
        ],
    }
    (HERE / f"{name}.json").write_text(json.dumps(told, indent=1) + "\n")
    with tarfile.open(HERE / f"{name}.tar.xz", "w:xz") as archive:
        archive.add(mirror.data, "data")


if __name__ == "__main__":
    with TemporaryDirectory() as made_in:
        make(sys.argv[1], Path(made_in))

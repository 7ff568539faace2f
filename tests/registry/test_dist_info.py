"""Where the METADATA of a wheel is: in the folder that pip takes for its own, by the name alone."""

from __future__ import annotations

import gzip
import io
import itertools
import zipfile
from collections.abc import Callable
from hashlib import sha256

import pytest

from httpcache.errors import BadUpstream
from pypi_adapter.registry.wheel_metadata import _metadata_name
from tests.support import http
from tests.support.clients import Clients
from tests.support.index import document, json_file, json_files, json_page
from tests.support.mirror import Mirror
from tests.support.packages import wheel
from tests.support.registries import PyPI
from tests.support.upstream import Response

OWN = b"Metadata-Version: 2.1\nName: x-y\nVersion: 1.0\n"
FILENAME = "x_y-1.0-py3-none-any.whl"


def renamed(*folders: str) -> bytes:
    """A real wheel of `x-y` with these folders in the place of its `.dist-info`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(wheel("x-y", "1.0").data)) as given, zipfile.ZipFile(buffer, "w") as made:
        for name, folder in itertools.product(given.namelist(), folders):
            new = name.replace("x_y-1.0.dist-info", folder)
            if new not in made.namelist():
                made.writestr(new, given.read(name).replace(b"x_y-1.0.dist-info", folders[0].encode()))
    return buffer.getvalue()


FOUND = ["x_y-1.0.dist-info", "x_y-1.0-1.dist-info", "x_y.dist-info", "X-y-1.0.dist-info", "X.Y-1.0.dist-info",
         "x_y_z-1.0.dist-info", "x_y-.dist-info"]  # fmt: skip


@pytest.mark.parametrize("folder", FOUND)
def test_one_folder(folder: str) -> None:
    assert _metadata_name(["x_y.py", f"{folder}/METADATA", f"{folder}/WHEEL"], FILENAME) == f"{folder}/METADATA"


@pytest.mark.parametrize("folder", FOUND[:5])
@pytest.mark.parametrize("beside", ["other-1.0.dist-info", "x_y_z-1.0.dist-info", "x_yz.dist-info", "a/x_y.dist-info"])
def test_another_project_beside_it(folder: str, beside: str) -> None:
    assert _metadata_name([f"{beside}/METADATA", f"{folder}/METADATA"], FILENAME) == f"{folder}/METADATA"


@pytest.mark.parametrize(
    ("folders", "text"),
    [
        ([], "has no METADATA"),
        (["other-1.0.dist-info"], "has no METADATA"),
        (["a/x_y-1.0.dist-info"], "has no METADATA"),
        ([".dist-info"], "has no METADATA"),
        (["x_y-1.0.dist-info", "x_y-2.0.dist-info"], "'x_y-1.0.dist-info' and 'x_y-2.0.dist-info'"),
        (["x_y-1.0.dist-info", "x.y.dist-info"], "'x_y-1.0.dist-info' and 'x.y.dist-info'"),
        (["x_y_a-1.dist-info", "x_y_b-1.dist-info"], "x_y_a-1"),
        (["x_y-1\x1b.dist-info", "x_y-2.0.dist-info"], "x1b"),
    ],
)
def test_none_or_two(folders: list[str], text: str) -> None:
    with pytest.raises(BadUpstream) as raised:
        _metadata_name([f"{folder}/METADATA" for folder in folders], FILENAME)
    assert text in raised.value.text
    assert raised.value.text.isprintable()


@pytest.fixture
def put(pypi: PyPI, server: Mirror, pin: str) -> Callable[..., str]:
    """Put a wheel of `x-y` behind a pin; return its address there."""

    def at(data: bytes, **said: object) -> str:
        pypi.files.pages[f"/{FILENAME}"] = data
        file = json_file(f"{pypi.files.url}/{FILENAME}", hashes={"sha256": sha256(data).hexdigest()}, **said)
        pypi.index.pages["/simple/x-y/"] = json_page(json_files(file))
        (file,) = document(server.pin(pin, f"{pypi.url}x-y/"))["files"]
        return server.same(str(file["url"]))

    return at


@pytest.mark.parametrize(
    ("client", "folder"), [("pip", "x_y-1.0-1.dist-info"), ("oldpip", "x_y.dist-info"), ("uv", "X-y-1.0.dist-info")]
)
def test_installers(
    client: str, folder: str, put: Callable[..., str], pypi: PyPI, server: Mirror, pin: str, clients: Clients
) -> None:
    put(renamed(folder))
    assert clients.install(client, server.pin(pin, pypi.url), ["x-y"])["x-y"].version == "1.0"


@pytest.mark.parametrize("folder", ["x_y-1.0-1.dist-info", "x_y.dist-info", "X-y-1.0.dist-info"])
def test_it_is_read(folder: str, put: Callable[..., str]) -> None:
    assert http.get(put(renamed(folder)) + ".metadata").content == wheel("x-y", "1.0").metadata


def test_two_folders_are_refused_with_a_text(put: Callable[..., str]) -> None:
    answer = http.get(put(renamed("x_y-1.0.dist-info", "x_y-2.0.dist-info")) + ".metadata")
    assert answer.status_code == 502
    assert "'x_y-1.0.dist-info' and 'x_y-2.0.dist-info'" in answer.text


# --- the upstream's own metadata file

WHEEL = wheel("x-y", "1.0")
HASHED = {"core-metadata": {"sha256": WHEEL.metadata_sha256}}


@pytest.mark.parametrize(
    "own",
    [
        OWN,
        Response(b"<html>log in</html>"),
        Response(WHEEL.metadata, 200, {"Content-Encoding": "br"}),
        Response(gzip.compress(WHEEL.metadata), 200, {"Content-Encoding": "gzip"}),
        Response(WHEEL.metadata, 200, {"Content-Encoding": "gzip"}),
    ],
    ids=["another", "a login page", "right, said to be in a coding", "in a coding", "said to be in a coding"],
)
def test_what_the_index_announced_counts(own: bytes | Response, put: Callable[..., str], pypi: PyPI) -> None:
    """Where the upstream's metadata file is another, the wheel has the right one."""
    address = put(WHEEL.data, **HASHED)
    pypi.files.pages[f"/{FILENAME}.metadata"] = own
    answers = [http.get(address + ".metadata") for _ in range(2)]
    assert [(answer.status_code, answer.content) for answer in answers] == [(200, WHEEL.metadata)] * 2
    assert "content-encoding" not in answers[0].headers

"""What a bill of materials is made of: licences as packages declare them, and what differs between two builds."""

from __future__ import annotations

import gzip
import io
import tarfile
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from httpcache.adapter import Described
from httpcache.errors import Damaged
from httpcache.sbom.comparison import ADDED, CHANGED, OTHER_FILES, REMOVED, differences
from httpcache.sbom.components import Component
from httpcache.store import keys, tarballs
from httpcache.store.builds import File
from httpcache.store.layout import prepare
from httpcache.store.local import LocalStore
from httpcache.store.record import Record
from npm_adapter.described import _licences
from pypi_adapter.described import licences

LONG = "Copyright someone\n        All rights reserved"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ("License-Expression: MIT\nLicense: other\nClassifier: License :: OSI Approved :: BSD License", ("MIT",)),
        ("License: Apache 2.0\nClassifier: License :: OSI Approved :: BSD License", ("Apache 2.0",)),
        (f"License: {LONG}\nClassifier: License :: OSI Approved :: BSD License", ("BSD License",)),
        (f"License: {LONG}", ("Copyright someone",)),
        ("License: UNKNOWN", ()),
        ("Classifier: License :: OSI Approved", ()),
        (
            "Classifier: License :: OSI Approved :: MIT License\nClassifier: License :: Public Domain",
            ("MIT License", "Public Domain"),
        ),
        ("Classifier: Programming Language :: Python", ()),
        ("", ()),
    ],
)  # fmt: skip
def test_the_licences_in_metadata(headers: str, expected: tuple[str, ...]) -> None:
    assert licences(f"Metadata-Version: 2.4\nName: a\nVersion: 1\n{headers}\n\nLicense: text".encode()) == expected


@given(st.binary())
def test_metadata_that_is_none_has_no_licence_and_no_error(data: bytes) -> None:
    assert isinstance(licences(data), tuple)
    assert isinstance(_licences(data), tuple)


@pytest.mark.parametrize(
    ("manifest", "expected"),
    [
        (b'{"license": "ISC"}', ("ISC",)),
        (b'{"license": {"type": "MIT", "url": "x"}}', ("MIT",)),
        (b'{"licenses": [{"type": "MIT"}, {"type": "GPL-3.0"}, {}]}', ("MIT", "GPL-3.0")),
        (b'{"license": 1}', ()),
        (b'{"license": ""}', ()),
        (b"[]", ()),
        (b"", ()),
    ],
)
def test_the_licences_in_a_manifest(manifest: bytes, expected: tuple[str, ...]) -> None:
    assert _licences(manifest) == expected


def component(name: str, version: str, content: str, *, known: bool = True) -> Component:
    filename = f"{name}-{version}.whl"
    digest = sha256(content.encode()).hexdigest()
    file = File("b", "2024-01-02", "files", f"{name}/x/{filename}", "key", digest, 1, False, "")
    return Component(file, Described("pypi", name, version) if known else None, ("2024-01-02",), 1.0)


A, B = component("a", "1", "a"), component("b", "1", "b")
TABLE = [
    ([A, B], [B, A], []),
    ([A], [A, B], [(ADDED, "b", (), ("1",))]),
    ([A, B], [A], [(REMOVED, "b", ("1",), ())]),
    ([A], [component("a", "2", "new")], [(CHANGED, "a", ("1",), ("2",))]),
    ([A], [A, component("a", "2", "new")], [(CHANGED, "a", ("1",), ("1", "2"))]),
    ([A], [component("a", "1", "other bytes")], [(OTHER_FILES, "a", ("1",), ("1",))]),
    ([component("a", "1", "a", known=False)], [A], [(REMOVED, "a/x/a-1.whl", ("",), ()), (ADDED, "a", (), ("1",))]),
]


@pytest.mark.parametrize(("before", "after", "expected"), TABLE)
def test_what_differs(
    before: list[Component], after: list[Component], expected: list[tuple[str, str, tuple[str, ...], tuple[str, ...]]]
) -> None:
    assert [(each.kind, each.name, each.before, each.after) for each in differences(before, after)] == expected


def archive(*members: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return gzip.compress(buffer.getvalue())


@pytest.mark.anyio
async def test_a_member_of_a_frozen_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one that is wanted; nothing of what is no archive, is cut off, or unpacks to too much."""
    monkeypatch.setattr(tarballs._Bounded, "left", 100_000)
    prepare(tmp_path)
    store = LocalStore(tmp_path)

    async def found(data: bytes) -> bytes | None:
        digest = sha256(data).hexdigest()
        (file := tmp_path / "file").write_bytes(data)
        record = Record(digest, "p", "u", "u", digest, len(data), 1.0)
        await store.freeze(keys.record(digest), record, file)
        return await tarballs.member(store, digest, len(data), lambda name: name.endswith("/PKG-INFO"))

    whole = archive(("a/setup.py", b"x" * 30_000), ("a/PKG-INFO", b"one"), ("b/PKG-INFO", b"two"))
    assert await found(whole) == b"one"
    assert await found(archive(("a/setup.py", b"x"))) is None
    assert await found(whole[:-200][: len(whole) // 4]) is None
    assert await found(b"no archive") is None
    assert await found(archive(("a/huge", b"\0" * 200_000), ("a/PKG-INFO", b"one"))) is None
    with pytest.raises(Damaged):
        await tarballs.member(store, "0" * 64, 10, lambda _: True)
    store.close()

"""Merkle trees against RFC 6962's own words, and the forms in which they are served."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Sequence
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from httpcache.audit.note import BadNote, Key, Signer, read
from httpcache.audit.tiles import HASH, WIDTH, Tile, node_hash, wanted, width
from httpcache.audit.tree import (
    EMPTY,
    Grown,
    Invalid,
    Span,
    check_consistency,
    check_inclusion,
    consistency,
    fold,
    inclusion,
    leaf_hash,
    root,
)
from tests.support.examples import examples

# The leaves and roots with which implementations of RFC 6962 are tested since Certificate Transparency's first one.
LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def plain_root(leaves: Sequence[bytes]) -> bytes:
    """The root, as RFC 6962 section 2.1 says it."""
    if not leaves:
        return sha256().digest()
    if len(leaves) == 1:
        return sha256(b"\0" + leaves[0]).digest()
    half = 1
    while half * 2 < len(leaves):
        half *= 2
    return sha256(b"\1" + plain_root(leaves[:half]) + plain_root(leaves[half:])).digest()


def made(size: int) -> list[bytes]:
    return [b"leaf %d" % number for number in range(size)]


class Served:
    """A tree as it is served: its tiles."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self.size = len(leaves)
        self._levels = [[leaf_hash(leaf) for leaf in leaves]]
        while len(self._levels[-1]) >= WIDTH:
            row = self._levels[-1]
            self._levels.append([fold(row[at : at + WIDTH]) for at in range(0, len(row) - WIDTH + 1, WIDTH)])

    def hashes(self, spans: Sequence[Span]) -> list[bytes]:
        """The roots over spans, read from tiles."""
        tiles = {
            tile: b"".join(self._levels[tile.level][tile.number * WIDTH :][: tile.width])
            for tile in wanted(spans, self.size)
        }
        assert all(len(data) == tile.width * HASH for tile, data in tiles.items())
        return [root(span, lambda node: node_hash(node, self.size, tiles)) for span in spans]


def test_the_roots_that_are_known() -> None:
    grown = Grown()
    found = [grown.root]
    for leaf in LEAVES:
        grown.add(leaf_hash(bytes.fromhex(leaf)))
        found.append(grown.root)
    assert [each.hex() for each in found] == ROOTS
    assert found[0] == EMPTY


sizes = st.integers(1, 40) | st.sampled_from([255, 256, 257, 511, 512, 513, 700])


@settings(max_examples=examples(120))
@given(sizes, st.data())
def test_proofs_prove_what_is_so_and_nothing_else(size: int, data: st.DataObject) -> None:
    leaves = made(size)
    served, whole = Served(leaves), plain_root(leaves)
    assert served.hashes([Span(0, size)]) == [whole]

    number = data.draw(st.integers(0, size - 1))
    proof = served.hashes(inclusion(number, size))
    check_inclusion(leaf_hash(leaves[number]), number, size, proof, whole)
    old = data.draw(st.integers(1, size))
    earlier, path = plain_root(leaves[:old]), served.hashes(consistency(old, size))
    check_consistency(old, earlier, size, whole, path)

    other = leaf_hash(b"another")
    leaf = leaf_hash(leaves[number])
    not_so = [(other, number, size, proof, whole), (leaf, number, size, [*proof, other], whole)]
    not_so += [(leaf, size, size, proof, whole), (leaf, number, size, proof, other)]
    not_so += [(leaf, number, size, changed, whole) for changed in without_one(proof, other)]
    for arguments in not_so:
        with pytest.raises(Invalid):
            check_inclusion(*arguments)
    broken = [(old, other, size, whole, path), (old, earlier, size, other, path), (size + 1, whole, size, whole, [])]
    broken += [(old, earlier, size, whole, changed) for changed in [*without_one(path, other), [*path, other]]]
    for given_so in broken:
        with pytest.raises(Invalid):
            check_consistency(*given_so)


def without_one(proof: list[bytes], other: bytes) -> list[list[bytes]]:
    """A proof in which one hash is missing, or another one."""
    found = [[*proof[:place], *proof[place + 1 :]] for place in range(len(proof))]
    return found + [[*proof[:place], other, *proof[place + 1 :]] for place in range(len(proof))]


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 0), "0/000"),
        (Tile(1, 1234067), "1/x001/x234/067"),
        (Tile(-1, 999), "entries/999"),
        (Tile(0, 273, 112), "0/273.p/112"),
        (Tile(63, 1000), "63/x001/000"),
    ],
)
def test_paths_of_tiles(tile: Tile, path: str) -> None:
    assert tile.path == path
    assert Tile.read(path) == tile


@pytest.mark.parametrize(
    "path",
    ["", "0", "64/000", "00/000", "0/0", "0/x000/001", "0/000.p/0", "0/000.p/256", "0/000.p/01", "0/x001", "a/000",
     "0/000/", "0/" + "x001/" * 9 + "001", "0/٠٠٠"],
)  # fmt: skip
def test_what_is_no_path_of_a_tile(path: str) -> None:
    with pytest.raises(ValueError, match="path of a tile"):
        Tile.read(path)


def test_widths_of_tiles() -> None:
    """The example of the specification: a tree of 70,000."""
    size = 70_000
    assert [width(0, 272, size), width(0, 273, size), width(0, 274, size)] == [256, 112, 0]
    assert [width(1, 0, size), width(1, 1, size), width(2, 0, size), width(3, 0, size)] == [256, 17, 1, 0]


SIGNER = Signer(bytes(range(32)))


def test_a_checkpoint_as_others_read_it() -> None:
    note = SIGNER.sign(3, bytes(32), 1_700_000_000)
    name, number, key = str(SIGNER.key).split("+", 2)
    text, _, lines = note.rpartition("\n\n")
    assert text == f"{name}\n3\n{b64encode(bytes(32)).decode()}"
    public = b64decode(key)
    assert public[:1] == b"\1"
    plain, timed = (b64decode(line.split(" ")[2]) for line in lines.splitlines())
    assert plain[:4].hex() == number == sha256(f"{name}\n".encode() + public).hexdigest()[:8]
    verifier = Ed25519PublicKey.from_public_bytes(public[1:])
    verifier.verify(plain[4:], f"{text}\n".encode())
    assert timed[:4] == sha256(f"{name}\n\4".encode() + public[1:]).digest()[:4]
    verifier.verify(timed[12:], f"cosignature/v1\ntime {int.from_bytes(timed[4:12], 'big')}\n{text}\n".encode())


def test_a_checkpoint_that_is_read_again() -> None:
    note = SIGNER.sign(3, bytes(32), 1_700_000_000)
    witnessed = f"{note}— witness.example/w1 {b64encode(bytes(76)).decode()}\n"
    for text in (note, witnessed):
        found = read(text, SIGNER.key)
        assert (found.size, found.root, found.time) == (3, bytes(32), 1_700_000_000)
    assert Key.read(f"{SIGNER.key}\n") == SIGNER.key


CHANGES = {
    "another size": lambda note: note.replace("\n3\n", "\n4\n"),
    "another root": lambda note: note.replace("AAAA", "AAAB", 1),
    "another name": lambda note: note.replace("httpcache-", "httpcache_"),
    "another time": lambda note: _with_time(note),
    "no plain signature": lambda note: "\n".join([*note.split("\n")[:4], *note.split("\n")[5:]]),
    "no time": lambda note: "\n".join([*note.split("\n")[:5], ""]),
    "a line more": lambda note: note.replace("\n\n", "\nmore\n\n"),
    "nothing": lambda note: "",
    "no base64": lambda note: note + "— x !\n",
    "too long": lambda note: note + "— x AAAA\n" * 4000,
}


def _with_time(note: str) -> str:
    *before, timed, _ = note.split("\n")
    mark, name, value = timed.split(" ")
    raw = bytearray(b64decode(value))
    raw[11] ^= 1
    return "\n".join([*before, f"{mark} {name} {b64encode(raw).decode()}", ""])


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_a_checkpoint_that_was_changed(change: object) -> None:
    assert callable(change)
    with pytest.raises(BadNote):
        read(change(SIGNER.sign(3, bytes(32), 1_700_000_000)), SIGNER.key)


@pytest.mark.parametrize("text", ["", "a+b", "a+00000000+AQ==", "httpcache-x+00+!", f"{SIGNER.key}"[:-4] + "AAA="])
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(BadNote):
        Key.read(text)

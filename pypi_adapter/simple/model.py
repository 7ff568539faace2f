"""The model of simple index pages, one for both of their forms. Pure: no network, no state.

It has what the later rules added to PEP 503: yanked files (PEP 592), metadata files (PEP 658, PEP 714), sizes, times
and versions (PEP 700), alternate locations (PEP 708), attestations (PEP 740) and project status (PEP 792). What a page
does not say is not made up.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import TypeAlias
from urllib.parse import urlsplit

import msgspec

# The hashes a link's fragment may name, the one to write first: every index has sha256, then by strength.
HASHES = (
    "sha256", "sha512", "sha384", "sha3_512", "sha3_384", "sha3_256", "blake2b", "blake2s",
    "sha224", "sha3_224", "sha1", "md5",
)  # fmt: skip
_DIGEST_LENGTHS = {name: 2 * hashlib.new(name, usedforsecurity=False).digest_size for name in HASHES}
HEX = re.compile(r"[0-9a-fA-F]+", re.ASCII)
SHA256 = re.compile(r"[0-9a-f]{64}")
"""A sha256 as pages of the mirror have it."""
_DISTRIBUTION_ENDINGS = (
    ".whl", ".tar.gz", ".zip", ".tar.bz2", ".tgz", ".tbz", ".tar.xz", ".txz", ".tar.lz", ".tlz", ".tar.lzma",
    ".tar.z", ".tar", ".egg", ".exe", ".msi", ".rpm", ".deb", ".dmg",
)  # fmt: skip

Identity: TypeAlias = tuple[str, str]
"""What makes two listings the same file: the name and the content."""

QUARANTINED = "quarantined"
"""The status of a project that nothing may be installed of (PEP 792)."""


class BadPage(ValueError):
    """The body is not an index page that can be understood."""


class File(msgspec.Struct, frozen=True, rename="kebab", omit_defaults=True, gc=False):
    """One distribution file as an index lists it. `None` is what the index does not say.

    `url` is absolute and has no fragment and no user. `size` is in bytes, `upload_time` as PEP 700 writes it.
    `yanked` is the reason where there is one (PEP 592). `core_metadata` is whether a metadata file exists, or
    its hashes (PEP 658, PEP 714). `provenance` is an address (PEP 740).
    """

    filename: str
    url: str
    hashes: dict[str, str]
    requires_python: str | None = None
    size: int | None = None
    upload_time: str | None = None
    yanked: bool | str = False
    core_metadata: bool | dict[str, str] | None = None
    gpg_sig: bool | None = None
    provenance: str | None = None


class ProjectStatus(msgspec.Struct, frozen=True):
    """A project's status marker, such as `archived`, and why (PEP 792)."""

    status: str
    reason: str | None = None


class Unread(msgspec.Struct, frozen=True):
    """What stood on a page and could not be read.

    `entries` are the names of files whose entries cannot be used; `nameless`: there is an entry of which not even that
    can be read. `fields` are those of files by file name, and `page` those of the page, by their names in the model.
    """

    entries: frozenset[str] = frozenset()
    nameless: bool = False
    fields: dict[str, tuple[str, ...]] = {}
    page: tuple[str, ...] = ()


class Page(msgspec.Struct, frozen=True):
    """A project's page: its files in the index's order, and what the index says of the project.

    `versions` is `None` where the index lists none (PEP 700). `serial` grows with each change of the project.
    `tracks` and `alternate_locations` are addresses as written, without a user (PEP 708). `unread` is None where all
    of the page could be read.
    """

    name: str
    files: tuple[File, ...] = ()
    versions: tuple[str, ...] | None = None
    serial: int | None = None
    status: ProjectStatus | None = None
    tracks: tuple[str, ...] = ()
    alternate_locations: tuple[str, ...] = ()
    unread: Unread | None = None


class ProjectList(msgspec.Struct, frozen=True):
    """The root page of an index: the names of its projects, in its order and spelling.

    `serials` are those of the projects, in the same order; empty where the index does not tell all of them. `unread`:
    an entry could not be read, so that a name that is missing may be there.
    """

    names: tuple[str, ...]
    serial: int | None = None
    serials: tuple[int, ...] = ()
    unread: bool = False


def identity(file: File) -> Identity:
    """A file's name and what tells its content: the sha256, else all hashes, else the size, else the path.

    Neither the host nor the query of its address tell anything, and the path only where nothing else does: they can be
    signed anew each time that a page is asked for.
    """
    content = file.hashes.get("sha256")
    if content is None:
        content = ",".join(f"{name}={digest}" for name, digest in sorted(file.hashes.items()))
    if not content:
        content = urlsplit(file.url).path if file.size is None else f"size={file.size}"
    return file.filename, content


def strongest(hashes: dict[str, str]) -> tuple[str, str] | None:
    """The hash to hold a file to: sha256 where there is one, else the strongest; its name, and its value in hex.

    A value that cannot be one of that name is passed over.
    """
    return next(((name, hashes[name].lower()) for name in HASHES if _is_digest(name, hashes.get(name, ""))), None)


def _is_digest(name: str, text: str) -> bool:
    return len(text) == _DIGEST_LENGTHS[name] and HEX.fullmatch(text) is not None


def map_files(page: Page, change: Callable[[File], File | None]) -> Page:
    """The page with each file changed, for example its address; those for which there is None are left out."""
    return msgspec.structs.replace(page, files=tuple(file for file in map(change, page.files) if file))


def is_distribution(filename: str) -> bool:
    """Whether a name is one that distribution files have, by its ending."""
    return filename.lower().endswith(_DISTRIBUTION_ENDINGS)


def is_derived(file: File) -> bool:
    """Whether a file is a wheel of which the index has no metadata file: its METADATA has to be read out of it."""
    return file.filename.endswith(".whl") and not file.core_metadata

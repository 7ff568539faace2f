"""The model of simple index pages, for both HTML and JSON. Pure: no network, no state.

It includes what later PEPs added to PEP 503: yanked files (PEP 592), metadata files (PEP 658, PEP 714), sizes, times
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

# The hashes that a link's fragment may give, in order of preference: sha256, which every index has, then by strength.
HASHES = (
    "sha256", "sha512", "sha384", "sha3_512", "sha3_384", "sha3_256", "blake2b", "blake2s",
    "sha224", "sha3_224", "sha1", "md5",
)  # fmt: skip
_DIGEST_LENGTHS = {name: 2 * hashlib.new(name, usedforsecurity=False).digest_size for name in HASHES}
HEX = re.compile(r"[0-9a-fA-F]+", re.ASCII)
SHA256 = re.compile(r"[0-9a-f]{64}")
"""A sha256 as it is written on pages of the mirror."""
_DISTRIBUTION_ENDINGS = (
    ".whl", ".tar.gz", ".zip", ".tar.bz2", ".tgz", ".tbz", ".tar.xz", ".txz", ".tar.lz", ".tlz", ".tar.lzma",
    ".tar.z", ".tar", ".egg", ".exe", ".msi", ".rpm", ".deb", ".dmg",
)  # fmt: skip

Identity: TypeAlias = tuple[str, str]
"""Two listings with equal identities are the same file: its name, and what identifies its content."""

QUARANTINED = "quarantined"
"""The status of a project from which nothing may be installed (PEP 792)."""


class BadPage(ValueError):
    """The body is not an index page, or cannot be parsed."""


class File(msgspec.Struct, frozen=True, rename="kebab", omit_defaults=True, gc=False):
    """One distribution file as an index lists it. `None` means that the index does not say.

    `url` is absolute, without fragment and user. `size` is in bytes, `upload_time` in the format of PEP 700.
    `yanked` is the reason, if one is given (PEP 592). `core_metadata` tells whether a metadata file exists, or has
    its hashes (PEP 658, PEP 714). `provenance` is a URL (PEP 740).
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
    """A project's status marker, such as `archived`, and the reason for it (PEP 792)."""

    status: str
    reason: str | None = None


class Unread(msgspec.Struct, frozen=True):
    """What was on a page but could not be read.

    `entries` has the names of files whose entries cannot be used; `nameless`: there is an entry whose name cannot be
    read either. `fields` has the fields of files, by file name, and `page` those of the page, both by their names in
    the model.
    """

    entries: frozenset[str] = frozenset()
    nameless: bool = False
    fields: dict[str, tuple[str, ...]] = {}
    page: tuple[str, ...] = ()


class Page(msgspec.Struct, frozen=True):
    """A project's page: its files in the index's order, and what the index says about the project.

    `versions` is `None` if the index does not list them (PEP 700). `serial` grows with each change of the project.
    `tracks` and `alternate_locations` are URLs as written, without a user (PEP 708). `unread` is None if the whole page
    could be read.
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

    `serials` are those of the projects, in the same order; empty unless the index gives all of them. `unread`: an
    entry could not be read, so a name that is missing here may be in the index.
    """

    names: tuple[str, ...]
    serial: int | None = None
    serials: tuple[int, ...] = ()
    unread: bool = False


def identity(file: File) -> Identity:
    """Return a file's name and what identifies its content: the sha256, else all hashes, else the size, else the path.

    The host and query of its URL are ignored, and the path is only a last resort, because they can be signed anew for
    each request for the page.
    """
    content = file.hashes.get("sha256")
    if content is None:
        content = ",".join(f"{name}={digest}" for name, digest in sorted(file.hashes.items()))
    if not content:
        content = urlsplit(file.url).path if file.size is None else f"size={file.size}"
    return file.filename, content


def strongest(hashes: dict[str, str]) -> tuple[str, str] | None:
    """Return the name and hex value of the hash to verify a file against: sha256 if present, else the strongest.

    A value that is not valid for its name is skipped.
    """
    return next(((name, hashes[name].lower()) for name in HASHES if _is_digest(name, hashes.get(name, ""))), None)


def _is_digest(name: str, text: str) -> bool:
    return len(text) == _DIGEST_LENGTHS[name] and HEX.fullmatch(text) is not None


def map_files(page: Page, change: Callable[[File], File | None]) -> Page:
    """Return the page with each file changed, for example its URL. A file is left out if `change` returns None."""
    return msgspec.structs.replace(page, files=tuple(file for file in map(change, page.files) if file))


def is_distribution(filename: str) -> bool:
    """Whether a name is that of a distribution file, by its extension."""
    return filename.lower().endswith(_DISTRIBUTION_ENDINGS)


def is_derived(file: File) -> bool:
    """Whether a file is a wheel without a metadata file in the index, so that METADATA must be read from the wheel."""
    return file.filename.endswith(".whl") and not file.core_metadata

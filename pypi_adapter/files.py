"""The files of a registry on the mirror: their addresses, and how they and their metadata are fetched and frozen."""

from __future__ import annotations

import re
from dataclasses import replace
from hashlib import sha256

from httpcache.flight import Digest, Live, Passed
from httpcache.mirror import Expected, Mirror, Want
from httpcache.record import Record
from httpcache.target import Target

from .asking import Asking
from .metadata import SUFFIX, MetadataSource, metadata_url, settle
from .page import File, strongest

_SHA256 = re.compile(r"[0-9a-f]{64}")


def token(file: File) -> str:
    """Return what stands for a file's content in its address: its sha256, or where the index has none, its URL's."""
    announced = file.hashes.get("sha256", "")
    return announced if _SHA256.fullmatch(announced) else f"url-{sha256(file.url.encode()).hexdigest()}"


class Files:
    """The files that a registry's pages list. They are trusted; `path` is what their addresses begin with."""

    def __init__(self, path: str, asking: Asking, mirror: Mirror) -> None:
        self._path = path
        self._asking = asking
        self._mirror = mirror

    async def open(self, project: str, file: File) -> Record | Live | Passed:
        """Return a file, frozen after its digest was checked. Raises MirrorError."""
        return await self._mirror.answer(self._target(project, file), self._want(project, file))

    async def open_metadata(self, project: str, file: File) -> Record | Live | Passed:
        """Return the metadata file of a wheel (PEP 658). Raises MirrorError."""
        return await self._mirror.answer(self._target(project, file, SUFFIX), self._metadata_want(project, file))

    async def freeze(self, project: str, file: File) -> Record | Passed:
        """Return a file once it is frozen and checked, or what the registry says now. Raises MirrorError."""
        return await self._mirror.whole(self._target(project, file), replace(self._want(project, file), anew=True))

    def _target(self, project: str, file: File, suffix: str = "") -> Target:
        address = f"{self._path}/files/{project}/{token(file)}/{file.filename}{suffix}"
        return Target(*address.removeprefix("/").split("/", 1))

    def _want(self, project: str, file: File) -> Want:
        async def expect() -> Expected:
            return Expected(file_digests(file), file.size)

        async def frozen(wheel: Record) -> None:
            if file.filename.endswith(".whl") and not metadata_digests(file):
                await settle(self._mirror, self._target(project, file, SUFFIX), Want(), file.filename, wheel)

        return Want(source=lambda: self._asking.ask(file.url), expect=expect, frozen=frozen)

    def _metadata_want(self, project: str, file: File) -> Want:
        target, want = self._target(project, file), self._want(project, file)
        source = MetadataSource(
            filename=file.filename,
            url=file.url,
            own=(lambda: self._asking.ask(metadata_url(file.url))) if file.core_metadata else None,
            frozen=lambda: self._mirror.frozen(target, want),
            ask=lambda headers: self._asking.ask(file.url, headers),
            freeze=lambda: self._mirror.whole(target, want),
            path=self._mirror.store.blob_path,
            digests=file_digests(file),
            announced=bool(metadata_digests(file)),
        )

        async def expect() -> Expected:
            return Expected(metadata_digests(file))

        return Want(source=source, expect=expect)


def file_digests(file: File) -> tuple[Digest, ...]:
    """Return the digest that the index announced of a file, if it did."""
    found = strongest(file.hashes)
    return (Digest(*found),) if found else ()


def metadata_digests(file: File) -> tuple[Digest, ...]:
    """Return the digest that the index announced of a file's metadata (PEP 658), if it did."""
    found = strongest(file.core_metadata) if isinstance(file.core_metadata, dict) else None
    return (Digest(*found),) if found else ()

"""`httpcache builds`: the labelled builds, or what one of them took."""

from __future__ import annotations

from httpcache.errors import NotFound
from httpcache.store.builds import Build
from httpcache.store.store import Store
from httpcache.units import short_size

from .rows import Rows, instant


async def builds(store: Store, *, rows: Rows, label: str | None) -> int:
    """Print the builds, the one that was used last first, or the files of one by address.

    Raises NotFound, StoreError.
    """
    if label is None:
        for build in await store.builds.all():
            rows.add(
                f"{build.label:32} {instant(build.last)} {build.files:6} {short_size(build.bytes):>10}  "
                f"{', '.join(build.indexes)}",
                build=build.label, first=instant(build.first), last=instant(build.last), indexes=build.indexes,
                files=build.files, bytes=build.bytes, complete=build.is_whole,
            )  # fmt: skip
        return 0
    build = await found(store, label)
    for file, first in await store.builds.files(label):
        address = f"/{file.pin}/{file.url}"
        rows.add(
            f"{instant(first)} {file.digest[:12]} {short_size(file.size):>10}  {address}",
            address=address, sha256=file.digest, bytes=file.size, taken=instant(first), through=file.through,
            private=file.is_private, client=file.client,
        )  # fmt: skip
    if not build.is_whole:
        rows.note(incomplete(build))
    return 0


async def found(store: Store, label: str) -> Build:
    """Return a build. Raises NotFound if there is none with this label."""
    build = await store.builds.get(label)
    if build is None:
        raise NotFound(f"no build has the label {label!r}: `httpcache builds` lists them")
    return build


def incomplete(build: Build) -> str:
    """Return what to say of a build that reached a bound."""
    return f"build {build.label} took more than is recorded: {build.files} files are"

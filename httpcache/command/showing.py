"""`httpcache show`: everything that is known of a frozen address, and who was answered with it, and when."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches

from httpcache.adapter import Adapter, Story
from httpcache.errors import NotFound, one_line, redact
from httpcache.fields import map_links
from httpcache.settings_file import SettingsFile
from httpcache.store.base import Place
from httpcache.store.record import Absence, Entry, Record, shown
from httpcache.store.store import Store
from httpcache.store.usage import Reader, Used
from httpcache.target import Target

from .maintenance import entries, to_target, values
from .rows import Rows, instant

NEAR = 3  # addresses that are offered for one that is not frozen
LOOKED_AT = 200  # addresses of the pin on each side of it, to find those


async def show(store: Store, *, adapters: Sequence[Adapter], file: SettingsFile, rows: Rows, address: str) -> int:
    """Print every record of an address; `file` has the rules. Raises BadAddress, NotFound, MirrorError."""
    target = to_target(address)
    found = [entry async for _, entry in entries(store, target.pin, target)]
    if not found:
        raise NotFound(await _not_there(store, target))
    used = await store.usage.entries([target.key])
    readers = await store.usage.readers(target.key)
    for entry in found:
        digest = entry.digest if isinstance(entry, Record) else ""
        stories = [await adapter.story(store, file, target, digest) for adapter in adapters]
        story = next(filter(None, stories), Story((), None))
        more = _more(entry, used.get(target.key), readers, story)
        lines = [*_lines(entry, used.get(target.key), readers), *_told(story), " "]
        rows.add("\n".join(lines), **values(entry), **more)
    return 0


def _more(entry: Entry, used: Used | None, readers: list[Reader], story: Story) -> dict[str, object]:
    """Return what programs are told besides what `ls` tells."""
    record = entry if isinstance(entry, Record) else None
    return {
        "from": record.final if record else None,
        "through": list(record.through) if record else [],
        "private": bool(record and record.scope),
        "headers": dict(_headers(record)) if record else {},
        "hits": used.hits if used else 0,
        "first_use": instant(used.first) if used else None,
        "last_use": instant(used.last) if used else None,
        "readers": [
            {"client": reader.client, "hits": reader.hits, "first": instant(reader.first), "last": instant(reader.last)}
            for reader in readers
        ],
        "listed": [
            {"page": each.page, "since": instant(each.since), "until": instant(each.until)} for each in story.listed
        ],
        "withheld": story.withheld,
    }


def _told(story: Story) -> Iterator[str]:
    for each in story.listed:
        until = f" until {instant(each.until)}" if each.until is not None else ""
        yield f"listed    {each.page} from {instant(each.since)}{until}"
    if story.withheld:
        yield f"withheld  {story.withheld}"


def _lines(entry: Entry, used: Used | None, readers: list[Reader]) -> Iterator[str]:
    yield f"address   /{entry.pin}/{entry.url}"
    if isinstance(entry, Absence):
        yield f"absent    frozen as status {entry.status}"
        yield f"frozen    {instant(entry.created)}"
    else:
        yield f"from      {entry.final}"
        for address in entry.through:
            yield f"through   {address}"
        yield f"sha256    {entry.digest}"
        yield f"size      {entry.size} bytes"
        yield f"frozen    {instant(entry.created)}"
        yield f"readers   {'those whose credentials the upstream accepts' if entry.scope else 'everyone'}"
        for name, value in _headers(entry):
            yield f"{name}: {value}"
    if used is None:
        yield "used      never, as far as the usage journal goes"
        return
    yield f"used      {used.hits} times, from {instant(used.first)} to {instant(used.last)}, last by"
    for reader in readers:
        yield f"          {reader.client:39} {reader.hits:6} times, {instant(reader.first)} to {instant(reader.last)}"


def _headers(record: Record) -> Iterator[tuple[str, str]]:
    for name, value in record.headers.items():
        yield name, one_line(map_links(value, redact) if name == "link" else value)


async def _not_there(store: Store, target: Target) -> str:
    """Return an error that names addresses like this one: under its pin, or the same one under other pins."""
    address = shown(target)
    behind = await store.index.records(target.pin, after=Place(address[: len(address) // 2], ""), limit=LOOKED_AT)
    same = [
        f"/{pin.pin}/{address}"
        for pin in await store.index.pins()
        if await store.index.records(pin.pin, address=address, limit=1)
    ]
    known = {f"/{target.pin}/{place.address}" for place, _ in behind}
    near = [*same, *get_close_matches(f"/{target.pin}/{address}", known.difference(same), NEAR, 0.8)][:NEAR]
    hint = f"; frozen is {', '.join(near)}" if near else ": `httpcache ls PIN` lists what is frozen under a pin"
    return f"{target} is not frozen here{hint}"

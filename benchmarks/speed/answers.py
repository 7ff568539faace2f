"""Asks each server once for everything that is measured, and compares the answers with the replica's own.

That warms the server, and makes sure that all are measured with the same work: a page has to have all files with their
digests, a wheel has to be the replica's to the byte.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from hashlib import sha256
from typing import Final
from urllib.parse import urljoin, urlsplit

import httpx
import msgspec

from .load import wire_size
from .pages import JSON
from .process import Unavailable

ANY: Final = "*/*"
_PATIENCE: Final = 60.0
"""Seconds in which a server has to have fetched a file: proxpi sends clients to the upstream until it has."""


class _Entry(msgspec.Struct):
    filename: str
    url: str
    hashes: dict[str, str]


class _Page(msgspec.Struct):
    files: list[_Entry]


@dataclass(frozen=True)
class Answer:
    """What is measured: an address, its `Accept`, the bytes of one answer, its seconds when it was asked for alone."""

    url: str
    accept: str
    wire: int
    seconds: float


def page(index: str, project: str, origin: str) -> Answer:
    """Ask for a project's page and check it against `origin`'s. Raises Unavailable where it is another."""
    url = f"{index}{project}/"
    if _files(url) != _files(f"{origin}/simple/{project}/"):
        raise Unavailable(f"the page of {project} has other files than the upstream's")
    return Answer(url, JSON, *wire_size(url, JSON))


def wheel(index: str, project: str, digest: str) -> Answer:
    """Ask for the one wheel of a project and check its bytes. Raises Unavailable where they are not right."""
    url = f"{index}{project}/"
    (entry,) = _page(url).files
    address = urljoin(url, entry.url).partition("#")[0]
    if urlsplit(address).netloc != urlsplit(index).netloc:
        raise Unavailable(f"the links of {project} do not lead through it but to {urlsplit(address).netloc}")
    body = _file(address)
    if sha256(body).hexdigest() != digest:
        raise Unavailable(f"{entry.filename} has other bytes than the upstream's")
    wire, seconds = wire_size(address, ANY)
    if wire <= len(body):
        raise Unavailable(f"{entry.filename} came whole the first time, and as {wire} bytes the second time")
    return Answer(address, ANY, wire, seconds)


def get(url: str, accept: str = ANY) -> httpx.Response:
    """Ask for an address; redirects are not followed."""
    return httpx.get(url, headers={"accept": accept, "accept-encoding": "identity"}, timeout=300, trust_env=False)


def _files(url: str) -> dict[str, str]:
    return {entry.filename: entry.hashes["sha256"] for entry in _page(url).files}


def _page(url: str) -> _Page:
    answer = get(url, JSON)
    if answer.status_code != 200 or JSON not in answer.headers.get("content-type", ""):
        raise Unavailable(f"{url} is no page in JSON but {answer.status_code}, {answer.headers.get('content-type')}")
    return msgspec.json.decode(answer.content, type=_Page)


def _file(url: str) -> bytes:
    deadline = time.monotonic() + _PATIENCE
    while True:
        answer = get(url)
        if answer.status_code == 200:
            return answer.content
        if time.monotonic() > deadline or not answer.is_redirect:
            raise Unavailable(f"{url} answers {answer.status_code}")
        time.sleep(0.2)

"""Holds a mirror to what it has answered: the same for ever, whole, and nothing else but for a rule in force."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from typing import Final
from urllib.parse import urlsplit

import httpx

from tests.support import http
from tests.support.mirror import Mirror
from tests.support.registries import JSON

END: Final = b"the end"
OFF, MAYBE, ON = "off", "maybe", "on"


def made(path: str, number: int) -> bytes:
    """The body that an upstream has for its request of this number: no two are the same, and each tells what it is."""
    return f"{path} {number}\n".encode() * (1 + number * 7919 % 4000) + END


class Rule:
    """Whether something withholds a project: certainly, certainly not, or perhaps, since it is just being said."""

    def __init__(self) -> None:
        """Nothing does."""
        self._said: list[tuple[float, str]] = [(0.0, OFF)]

    @property
    def state(self) -> str:
        """What holds now."""
        return self._said[-1][1]

    def say(self, state: str) -> None:
        """From now on this holds."""
        self._said.append((time.monotonic(), state))

    def during(self, began: float, ended: float) -> set[str]:
        """All that held at some time in between."""
        ends = [at for at, _ in self._said[1:]] + [inf]
        return {state for (at, state), until in zip(self._said, ends, strict=True) if at <= ended and until >= began}


class Answers:
    """What each address has answered first. `wrong`: all that may not be; `compared`: answers that were held to one.

    `rules`: of the projects that something can withhold. Paths are those of the mirror, from its root.
    """

    def __init__(self, rules: dict[str, Rule]) -> None:
        """Nothing has been answered yet."""
        self.rules = rules
        self.first: dict[str, tuple[str, float]] = {}
        self.wrong: list[str] = []
        self.compared = self.withheld = self.absences = 0
        self._forgotten: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._gone: dict[str, set[str]] = defaultdict(set)
        self._lock = threading.Lock()

    def ask(self, mirror: Mirror, path: str) -> httpx.Response | None:
        """Ask, and judge the answer; None where the connection broke, so that the client knows."""
        began = time.monotonic()
        try:
            found = http.get(mirror.url + path, headers={"Accept": JSON})
        except httpx.TransportError:
            return None
        with self._lock:
            fault = self._fault(path, found, began, time.monotonic())
            if fault:
                self.wrong.append(f"{path} {fault}; {found.status_code} {found.headers.get('cache-status')}")
        return found

    @contextmanager
    def forgetting(self, path: str) -> Iterator[None]:
        """In here an address is being forgotten: afterwards it has another first answer, and never the old one."""
        began = time.monotonic()
        with self._lock:
            self._forgotten[path].append((began, inf))
        yield
        with self._lock:
            self._forgotten[path][-1] = (began, time.monotonic())
            old, _ = self.first.pop(path)
            if "/file" in path:  # of which there are no two the same
                self._gone[path].add(old)

    def _fault(self, path: str, found: httpx.Response, began: float, ended: float) -> str:
        """What is wrong with an answer that came between two instants."""
        rule = self.rules.get(_project(path))
        states = rule.during(began, ended) if rule else {OFF}
        if _is_withheld(found):
            self.withheld += 1
            return "is withheld without a rule" if states == {OFF} else ""
        if found.status_code == 200 and states == {ON}:
            return "is served against a rule in force"
        if found.status_code == 200 and (broken := _broken(path, found.content)):
            return broken
        if path.startswith("/live/") or any(a <= ended and b >= began for a, b in self._forgotten[path]):
            return ""
        first, since = self.first.get(path, ("", inf))
        if not (found.status_code == 200 or (found.status_code == 404 and _lasts(path))):
            return f"is an error, and was {first}" if since < began else ""
        answer = hashlib.sha256(found.content).hexdigest() if found.status_code == 200 else "absent"
        if answer in self._gone[path]:
            return "was forgotten, and is there again"
        if not first:
            self.first[path] = (answer, ended)
            return ""
        self.compared += 1
        self.absences += answer == "absent"
        return "" if answer == first else f"is {answer}, and was {first}"


def _project(path: str) -> str:
    """The project of `/<instant>/<project>/` and `/files/<project>/...`; what is behind a pin no rule changes."""
    parts = path.split("/")
    return "" if ":" in parts[2] else parts[2]


def _lasts(path: str) -> bool:
    """Whether a 404 of this address is for ever, as a registry's "no such project" is; of a file it is not."""
    return path.endswith("/")


def _is_withheld(found: httpx.Response) -> bool:
    if found.status_code == 403:
        return "withheld by" in found.text
    if found.status_code != 200 or found.headers["content-type"] != JSON or b'"quarantined"' not in found.content:
        return False
    page = found.json()
    return bool(page["files"] == [] and page["project-status"]["status"] == "quarantined")


def _broken(path: str, body: bytes) -> str:
    """What shows by itself that a body is not one that an upstream had."""
    if path.startswith("/files/"):
        return "" if hashlib.sha256(body).hexdigest() == path.split("/")[3] else "has other bytes than its digest"
    if path.endswith("/"):
        return "" if isinstance(json.loads(body)["files"], list) else "is no page"
    name = urlsplit(path.split("/", 2)[2]).path
    line = body.partition(b"\n")[0].decode(errors="replace")
    number = line.removeprefix(f"{name} ")
    return "" if number.isdecimal() and body == made(name, int(number)) else f"is cut or mixed: {line[:60]}"

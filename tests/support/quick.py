"""Which tests are quick: those that start no process and open no socket, as their code and their fixtures tell."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final

import pytest

STARTERS: Final = frozenset(
    {"subprocess", "multiprocessing", "fork", "forkpty", "posix_spawn", "spawnv", "run_process", "open_process"}
    | {"socket", "socketserver", "ThreadingHTTPServer", "create_server", "start_server", "create_tcp_listener", "serve"}
)
"""Names of what starts a process or opens a socket. Code that uses one is not quick, whatever it does with it."""

REFUSED: Final = frozenset({"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "socket.bind"})
"""The audit events of the same (`sys.addaudithook`)."""


def is_quick(item: pytest.Item) -> bool:
    """Whether neither the test nor a fixture of it reaches a starter."""
    if not isinstance(item, pytest.Function) or item.get_closest_marker("soak"):
        return False
    fixtures = [each.func for found in item._fixtureinfo.name2fixturedefs.values() for each in found]
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return not any(map(starts, (item.function, *fixtures, *(each for each in parameters if callable(each)))))


@functools.cache
def starts(entry: Any) -> bool:
    """Whether code that a function or class of the tests leads to names a starter."""
    seen: set[int] = set()
    waiting = [entry]
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        for function in _functions(each):
            for code in _codes(function.__code__):
                if STARTERS.intersection(code.co_names):
                    return True
                waiting += _named(code, function)
    return False


def _functions(each: Any) -> Iterator[FunctionType]:
    """The functions of the tests' own code that run if a value is called or used."""
    if isinstance(each, type):
        for owner in each.__mro__:
            if _is_ours(owner):
                for member in vars(owner).values():
                    member = member.fget if isinstance(member, property) else inspect.unwrap(_bare(member))
                    if isinstance(member, FunctionType):
                        yield member
        return
    each = inspect.unwrap(_bare(each))
    if isinstance(each, FunctionType) and _is_ours(each):
        yield each
        inner = getattr(each, "hypothesis", None)  # `given` puts its own function around the test
        if inner is not None:
            yield inner.inner_test


def _bare(member: Any) -> Any:
    return getattr(member, "__func__", member) if isinstance(member, (staticmethod, classmethod)) else member


def _codes(code: CodeType) -> Iterator[CodeType]:
    """The code of a function and of the functions in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _named(code: CodeType, function: FunctionType) -> Iterator[Any]:
    """The values that code of a function names: of its module, of the tests' modules that it names, of its closure."""
    spaces = [function.__globals__]
    spaces += [
        vars(value)
        for name in code.co_names
        if isinstance(value := function.__globals__.get(name), ModuleType) and value.__name__.startswith("tests.")
    ]
    for space in spaces:
        yield from (space[name] for name in code.co_names if name in space)
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not filled yet
            continue


def _is_ours(value: Any) -> bool:
    return str(getattr(value, "__module__", "")).partition(".")[0] in ("tests", "benchmarks")


class Watch:
    """Refuses what a quick test must not do while `running`; it cannot be taken away from the process again."""

    def __init__(self) -> None:
        self.running = False
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.running and event in REFUSED:
            raise AssertionError(f"a quick test must not do this: {event} {arguments!r:.200}")

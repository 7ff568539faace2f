"""Reads what setup.py and setup.cfg ask for: nothing is run, so setup.py as far as it is constant."""

from __future__ import annotations

import ast
import configparser
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from httpcache.errors import MirrorError

from .asked import Wanted
from .requirement_files import read_requirements, read_text

_DEEPEST = 20  # names and functions that lead to others


def read_setup_cfg(file: Path, base: Path, wanted: Wanted) -> None:
    """Add what the section `options` of a setup.cfg asks for."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(read_text(file))
    except (MirrorError, configparser.Error) as error:
        wanted.leave(file.name, file.name, f"it cannot be read: {error}")
        return
    wanted.files.append(file.name)
    options = dict(parser["options"]) if "options" in parser else {}
    required = options.get("install_requires", options.get("install-requires", ""))
    if required.startswith("file:"):
        for name in required.removeprefix("file:").split(","):
            named(name.strip(), file.name, base, wanted)
    else:
        for line in required.splitlines() if "\n" in required else required.split(";"):
            ask(line, file.name, wanted)
    if python := options.get("python_requires", options.get("python-requires", "")):
        wanted.python(python, file.name)


def named(name: str, where: str, base: Path, wanted: Wanted) -> None:
    """Add what a requirements file asks for that another file names."""
    try:
        read_requirements(base / name, base, wanted)
    except MirrorError as error:
        wanted.leave(name, where, error.text)


def ask(text: str, where: str, wanted: Wanted) -> None:
    """Add a requirement if there is one."""
    line = text.partition(" #")[0].strip()
    if line and not line.startswith("#"):
        wanted.ask(line, where)


def read_setup_py(file: Path, base: Path, wanted: Wanted) -> None:
    """Add what the call of `setup` in a setup.py asks for.

    Constants are followed through names, lists and sums of them. Where a file is read, that file is.
    """
    try:
        text = read_text(file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of strings with odd escapes
            tree = ast.parse(text)
    except (MirrorError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        wanted.leave(file.name, file.name, f"it cannot be read: {error}")
        return
    wanted.files.append(file.name)
    reader = _SetupPy(tree, file.name, base, wanted)
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and _called(call) == "setup":
            reader.read(call)


def _called(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")


class _SetupPy:
    """What names stand for in a setup.py, as far as it is constant."""

    def __init__(self, tree: ast.Module, where: str, base: Path, wanted: Wanted) -> None:
        self._where, self._base, self._wanted = where, base, wanted
        self._values: dict[str, ast.expr] = {}
        self._functions = {each.name: each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef)}
        self._added: dict[str, list[ast.expr]] = {}
        self._keys: dict[str, ast.expr] = {}
        for statement in tree.body:
            self._note(statement)
        conditional = (
            each for inner in ast.walk(tree) if isinstance(inner, ast.If | ast.Try) for each in ast.walk(inner)
        )
        for name, value in dict.fromkeys(_additions(conditional)):
            wanted.leave(ast.unparse(value), where, f"{name} has it under a condition")

    def _note(self, statement: ast.stmt) -> None:
        match statement:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
            ):
                self._values[name] = value
                self._added.pop(name, None)
            case ast.Assign(targets=[ast.Subscript(slice=ast.Constant(value=str(key)))], value=value):
                self._keys[key] = value  # of a dictionary that `setup` is given
            case _:
                for name, value in _additions([statement]):
                    self._added.setdefault(name, []).append(value)

    def read(self, call: ast.Call) -> None:
        """Add what a call asks for."""
        given = {**self._keys, **{each.arg: each.value for each in call.keywords if each.arg is not None}}
        for each in call.keywords:
            if each.arg is None:
                given |= self._dictionary(each.value)
        if "install_requires" in given:
            self._require(given["install_requires"])
        for key, value in self._dictionary(given.get("extras_require")).items():
            if key.startswith(":"):  # an extra without a name is no extra: what is wanted where a marker holds
                for text in self._texts(value, 0) or ():
                    ask(f"{text} ; {key[1:]}", self._where, self._wanted)
        if "python_requires" in given:
            for text in self._texts(given["python_requires"], 0) or ():
                self._wanted.python(text, self._where)

    def _dictionary(self, value: ast.expr | None) -> dict[str, ast.expr]:
        if isinstance(value, ast.Name):
            value = self._values.get(value.id, value)
        if isinstance(value, ast.Dict):
            pairs = zip(value.keys, value.values, strict=True)
            return {str(key.value): each for key, each in pairs if isinstance(key, ast.Constant)}
        if isinstance(value, ast.Call) and _called(value) == "dict":
            return {each.arg: each.value for each in value.keywords if each.arg is not None}
        return {}

    def _require(self, value: ast.expr) -> None:
        texts = self._texts(value, 0)
        if texts is not None:
            for text in texts:
                for line in text.splitlines():
                    ask(line, self._where, self._wanted)
        elif files := sorted(set(self._files(value, 0))):
            for name in files:
                named(name, self._where, self._base, self._wanted)
        else:
            self._wanted.leave(
                f"install_requires={ast.unparse(value)}", self._where, "it is computed, and nothing is run"
            )

    def _texts(self, value: ast.expr, depth: int) -> list[str] | None:
        """Return the strings that an expression is made of, None if it is not constant."""
        if depth > _DEEPEST:
            return None
        match value:
            case ast.Constant(value=str(text)):
                return [text]
            case ast.Constant(value=None):
                return []
            case ast.List(elts=each) | ast.Tuple(elts=each) | ast.Set(elts=each):
                return self._all(each, depth)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return self._all([left, right], depth)
            case ast.Starred(value=inner):
                return self._texts(inner, depth + 1)
            case ast.Name(id=name) if name in self._values:
                return self._all([self._values[name], *self._added.get(name, ())], depth)
            case ast.Call(func=ast.Name(id="list" | "tuple" | "set" | "sorted"), args=[inner], keywords=[]):
                return self._texts(inner, depth + 1)
            case ast.Call(func=ast.Attribute(value=inner, attr="split"), args=[]):
                return _parts(self._texts(inner, depth + 1), str.split)
            case (
                ast.Call(func=ast.Attribute(value=inner, attr="splitlines"))
                | ast.Call(func=ast.Attribute(value=inner, attr="split"), args=[ast.Constant(value="\n")])
            ):
                return _parts(self._texts(inner, depth + 1), str.splitlines)
        return None

    def _all(self, values: Sequence[ast.expr], depth: int) -> list[str] | None:
        found = [self._texts(each, depth + 1) for each in values]
        return None if None in found else [text for texts in found for text in texts or ()]

    def _files(self, value: ast.AST, depth: int) -> Iterator[str]:
        """Yield the files that are named where an expression is computed: those that are in the checkout."""
        if depth > _DEEPEST:
            return
        for inner in ast.walk(value):
            match inner:
                case ast.Constant(value=str(text)) if text.endswith((".txt", ".in", ".pip")):
                    if not text.startswith("/") and ".." not in text and (self._base / text).is_file():
                        yield text
                case ast.Name(id=name) if name in self._values and self._values[name] is not value:
                    yield from self._files(self._values[name], depth + 1)
                case ast.Call(func=ast.Name(id=name)) if name in self._functions:
                    yield from self._files(self._functions[name], depth + 1)


def _parts(texts: Sequence[str] | None, split: Callable[[str], list[str]]) -> list[str] | None:
    return None if texts is None else [part for text in texts for part in split(text)]


def _additions(nodes: Iterable[ast.AST]) -> Iterator[tuple[str, ast.expr]]:
    """Yield what is added to lists: a name, and an expression that is a list."""
    for node in nodes:
        match node:
            case ast.AugAssign(target=ast.Name(id=name), op=ast.Add(), value=value):
                yield name, value
            case ast.Expr(
                value=ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="append" | "extend"), args=[value])
            ):
                yield name, value

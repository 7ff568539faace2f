"""A mirror with an operator's configuration: registries, groups, rules."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.support.mirror import Mirror


def table(kind: str, **keys: object) -> str:
    """One `[[registry]]`, `[[group]]` or `[[block]]`; a mapping becomes an inline table."""
    return f"[[{kind}]]\n" + "".join(f"{key} = {_value(value)}\n" for key, value in keys.items())


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {json.dumps(each)}" for key, each in value.items()) + " }"
    return json.dumps(value)


@contextmanager
def configured(
    folder: Path, config: str, pypi_upstream: str, *arguments: str, environment: Mapping[str, str] | None = None
) -> Iterator[Mirror]:
    """A running mirror with this configuration; at the end it must end with exit code 0."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mirror.toml").write_text(config)
    options = ["--config", str(folder / "mirror.toml"), *arguments]
    server = Mirror(folder, pypi_upstream, options, environment)
    try:
        yield server.start()
        server.stop()
    finally:
        server.kill()

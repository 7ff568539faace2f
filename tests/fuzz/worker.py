"""Fuzzes one target with atheris until the time is over or a promise breaks; `run` starts it."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["httpcache", "pypi_adapter", "packaging", "zipfile", "email", "ipaddress"]):
    from tests.fuzz.targets import TARGETS


def main(name: str, seconds: str, corpus: str) -> None:
    """Fuzz; the process ends here, with 0 if nothing was found."""
    logging.disable()
    target, folder = TARGETS[name], Path(corpus)
    for number, seed in enumerate((*target.seeds, *target.found)):
        (folder / f"seed-{number}").write_bytes(seed)
    words = folder.with_suffix(".words")
    words.write_text("".join(f'"{_quoted(word)}"\n' for word in target.words))
    options = [f"-max_total_time={seconds}", f"-dict={words}", "-timeout=20", "-rss_limit_mb=4096", "-max_len=4096"]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={folder}-", corpus], _told(name, target.run))
    atheris.Fuzz()


def _told(name: str, run: Callable[[bytes], None]) -> Callable[[bytes], None]:
    def one(data: bytes) -> None:
        try:
            run(data)
        except BaseException:
            print(f"\n{name} breaks at {data!r}\n{traceback.format_exc(limit=-5)}", file=sys.stderr, flush=True)
            raise

    return one


def _quoted(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    main(*sys.argv[1:])

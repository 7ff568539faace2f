"""What commands run with: the environment, the settings in force, the store that they name, a bar for progress."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from httpcache.adapter import Adapter, Progress
from httpcache.errors import StoreError
from httpcache.settings import Location, Settings

if TYPE_CHECKING:
    from httpcache.store.store import Store

    from .in_force import InForce


def environment() -> Mapping[str, str]:
    """Return the variables of the environment; nothing else reads them."""
    return dict(os.environ)


def settings(installed: Sequence[Adapter]) -> Settings:
    """Return the settings of the command that runs. Raises MirrorError if they are invalid."""
    in_force: InForce = click.get_current_context().obj
    return in_force.settings(installed, environment())


def with_store(where: dict[str, Any], work: Callable[[Store], Awaitable[int]]) -> int:
    """Run work on the store that the options name; return its exit code. Raises MirrorError."""
    from tempfile import TemporaryDirectory

    import anyio

    from httpcache.store.opening import opened

    location = Location(**where)
    check_there(location)

    async def on_store() -> int:
        with TemporaryDirectory(prefix="httpcache-") as folder:  # of a node: this command needs none of its cache
            async with opened(location if location.is_embedded else replace(location, data=Path(folder))) as store:
                return await work(store)

    return anyio.run(on_store)


def check_there(location: Location) -> None:
    """Raise StoreError if a store in a folder is not there."""
    try:
        is_there = not location.is_embedded or (location.data / "VERSION").exists()
    except OSError as error:
        raise StoreError(
            f"{location.data} cannot be read ({error.strerror}): run this command as the user that runs the server"
        ) from error
    if not is_there:
        raise StoreError(f"{location.data} is not the data folder of a mirror: name one with --data")


def progress() -> Progress:
    """Return a bar on a terminal, or lines in the log."""
    import logging

    from rich.console import Console
    from rich.logging import RichHandler

    from .progress import Bar, Lines

    console = Console(stderr=True)
    if not console.is_terminal:
        logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
        return Lines()
    # Log lines and the progress bar must not overwrite each other.
    logging.basicConfig(format="%(message)s", handlers=[RichHandler(console=console, show_path=False)])
    return Bar(console)

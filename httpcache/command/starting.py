"""Commands that take the settings of a server: `httpcache serve` and `capture`, `ready`, `settings`, `doctor`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import click

from httpcache.adapter import Adapter, today, usage
from httpcache.errors import MirrorError
from httpcache.settings import Settings

from . import users
from .in_force import InForce, every
from .options import mistyped
from .rows import Rows, say
from .running import environment, progress, settings


def serve(installed: Sequence[Adapter], **options: Any) -> int:
    """Run the mirror. Raises MirrorError."""
    from httpcache.store.layout import is_read_only

    from . import listening, serve
    from .reloading import Reloading

    reloading = Reloading(click.get_current_context().obj, installed, environment())
    own = reloading.settings
    known = [*(setting.variable for setting in every(installed)), "HTTPCACHE_CONFIG"]
    for line in mistyped(environment(), known):
        print(f"httpcache: {line}", file=sys.stderr)
    listening.check(own)
    _prepare(own)
    address = listening.address(own)
    print(f"httpcache serves {listening.shown(own)} from {own.data}")
    if own.file.path:
        print(f"  settings: {own.file.path.absolute()}")
    for title, line in usage(address, installed, today()):
        print(f"  {title + ':':8} {line}")
    sys.stdout.flush()
    with nullcontext() if is_read_only(own.data) else users.beside(own.data):
        return serve.run(reloading, installed)


def _prepare(settings: Settings) -> None:
    """Take over the folder of an earlier version, and remove what dead processes left. Raises MirrorError."""
    from httpcache.freezing.spool import Spool
    from httpcache.store import takeover
    from httpcache.store.layout import is_read_only, prepare
    from httpcache.store.opening import prepare_node

    if settings.location.is_embedded:
        if takeover.is_due(settings.data):
            with users.alone(settings.data):
                takeover.take_over(settings.data, say)
        prepare(settings.data)
    else:
        prepare_node(settings.data)
    if not is_read_only(settings.data):
        Spool(settings.data / "spool").clean()
    elif not settings.offline:
        raise MirrorError(f"{settings.data} is read-only: serve it with --offline, or make it writable")


def capture(installed: Sequence[Adapter], **options: Any) -> int:
    """Record what has changed at the registries. Raises MirrorError."""
    import anyio

    from httpcache import logs

    from . import scheduler

    own = settings(installed)
    if own.offline:
        raise MirrorError("a capture sends requests to upstreams: run it without --offline")
    logs.begin(own.log_level)
    try:
        anyio.run(scheduler.capture, own, installed, progress(), lambda last: True, say, backend_options=scheduler.LOOP)
    except KeyboardInterrupt:
        print("httpcache: interrupted: what is done is kept, and the next capture does the rest", file=sys.stderr)
        raise
    return 0


def ready(**listens: Any) -> int:
    """Ask the server with these settings whether it is ready. Raises MirrorError."""
    from . import ready

    say(ready.ask(**listens))
    return 0


def show_settings(installed: Sequence[Adapter], as_json: bool, **options: Any) -> int:
    """Print the settings in force. Raises MirrorError."""
    from . import shown

    in_force: InForce = click.get_current_context().obj
    in_force.settings(installed, environment())
    print(shown.as_json(in_force, installed) if as_json else "\n".join(shown.lines(in_force, installed)))
    return 0


def doctor(installed: Sequence[Adapter], as_json: bool, **options: Any) -> int:
    """Look at all that the mirror needs; return 1 if there is a problem. Raises MirrorError."""
    import anyio

    from . import doctor

    rows = Rows(as_json)
    try:
        own = settings(installed)
    except MirrorError as error:
        rows.add(f"problem  settings: {error.text}", check="settings", level="problem", finding=error.text, advice=None)
        return 1
    known = [*(setting.variable for setting in every(installed)), "HTTPCACHE_CONFIG"]
    return anyio.run(doctor.examine, own, installed, environment(), known, rows)

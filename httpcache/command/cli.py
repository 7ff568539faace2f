"""The command: `httpcache serve`, and what an operator does beside it. The only place that reads the environment."""

from __future__ import annotations

import argparse
import logging
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import fields
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import anyio
from rich.console import Console
from rich.logging import RichHandler

from httpcache import __version__, logs
from httpcache.adapter import Adapter, Argument, Progress, adapters, today, usage
from httpcache.errors import MirrorError, one_line
from httpcache.freezing.spool import Spool
from httpcache.settings import Settings
from httpcache.store.base import Store
from httpcache.store.layout import is_read_only
from httpcache.store.local import LocalStore
from httpcache.units import exact_size
from httpcache.upstream import transport

from . import maintenance, scheduler, users
from .options import (
    Options,
    binding,
    count,
    header_size,
    kept_header,
    minutes,
    mistyped,
    network,
    one_of,
    pin_name,
    port,
    prefix,
    seconds,
    size,
)
from .progress import Bar, Lines

LEVELS = ("debug", "info", "warning", "error")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 0, or 1 with one line on stderr that says what to do."""
    found = list(adapters())
    try:
        options = _parser(found).parse_args(argv)
    except argparse.ArgumentTypeError as error:  # of a variable: argparse itself reports those of options
        print(f"httpcache: {error}", file=sys.stderr)
        return 2
    try:
        return int(options.run(options, found))
    except MirrorError as error:
        print(f"httpcache: {error.text}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:
        return 130


def _parser(found: Sequence[Adapter]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="httpcache",
        description="A mirror that makes builds repeatable. Every option is also an environment variable: "
        "--allow-network is HTTPCACHE_ALLOW_NETWORK. Lists are separated by commas, or the option is repeated.",
    )
    parser.add_argument("--version", action="version", version=f"httpcache {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="run the mirror")
    _data(serve)
    _add_server(Options(serve, os.environ))
    _add_mirror(Options(serve, os.environ), found)
    serve.set_defaults(run=_serve)

    capture = commands.add_parser("capture", help="observe now what has changed at the registries, and keep it")
    _data(capture)
    _add_mirror(Options(capture, os.environ), found)
    capture.set_defaults(run=_capture)

    ls = commands.add_parser("ls", help="list pins, or what is frozen under one")
    _data(ls)
    ls.add_argument("pin", nargs="?", metavar="PIN")
    ls.set_defaults(run=_ls)

    show = commands.add_parser("show", help="tell everything that is known of a frozen address")
    _data(show)
    show.add_argument("address", metavar="ADDRESS", help="/<pin>/<url>, with or without the mirror's own address")
    show.set_defaults(run=_show)

    verify = commands.add_parser("verify", help="read every entry and every byte, and say what is damaged")
    _data(verify)
    verify.set_defaults(run=_verify)

    forget = commands.add_parser("forget", help="remove frozen copies; says what will be lost and asks")
    _data(forget)
    forget.add_argument("what", metavar="ADDRESS|PIN")
    forget.add_argument("--yes", action="store_true", help="do not ask")
    forget.set_defaults(run=_forget)

    for command in (command for adapter in found for command in adapter.commands):
        added = commands.add_parser(command.name, help=command.help)
        _data(added)
        for argument in command.arguments:
            _add_argument(added, argument)
        added.set_defaults(run=_added, command=command)

    pin = commands.add_parser("pin", help="print today's pin and this instant, with lines for the installers")
    pin.add_argument("--mirror", default=os.environ.get("HTTPCACHE_MIRROR", "http://127.0.0.1:8080"), metavar="URL")
    pin.set_defaults(run=_pin)
    return parser


def _data(parser: argparse.ArgumentParser) -> None:
    Options(parser, os.environ).one("data", Path("data"), Path, metavar="DIR", help="folder of the store (%(default)s)")


def _add_argument(parser: argparse.ArgumentParser, argument: Argument) -> None:
    """Add an argument of an adapter's command."""
    if not argument.name.startswith("--"):
        parser.add_argument(argument.name, metavar=argument.metavar, help=argument.help)
    elif argument.metavar:
        parser.add_argument(argument.name, metavar=argument.metavar, required=argument.required, help=argument.help)
    else:
        parser.add_argument(argument.name, action="store_true", help=argument.help)


def _add_server(add: Options) -> None:
    """Add the options that only a server has: each has the name of a setting."""
    usual = Settings(Path())
    add.one("host", usual.host, str, metavar="HOST", help="address to listen on (%(default)s)")
    add.one("port", usual.port, port, metavar="PORT", help="port to listen on (%(default)s)")
    add.one("workers", usual.workers, count, metavar="N", help="processes that answer requests (%(default)s)")
    add.one("root-path", usual.root_path, prefix, metavar="/PREFIX", help="where a proxy in front shows the mirror")
    add.flag("root-path-stripped", help="the proxy in front takes the root path off requests (else the mirror does)")
    add.flag("cors", help="let web pages of any origin read what is public")
    add.flag("capture", help="observe what has changed at the registries, at 00:00 UTC and at start if that was missed")
    add.one("capture-every", None, minutes, metavar="MINUTES", help="the same, and so many minutes after the last time")
    for name, metavar, read, what in (
        ("max-clients", "N", count, "connections of clients, for each process"),
        ("client-timeout", "SECONDS", seconds, "for a client to ask, or to take some of its answer"),
    ):
        default = getattr(usual, name.replace("-", "_"))
        add.one(name, default, read, metavar=metavar, help=f"{what} ({default:g})")


def _add_mirror(add: Options, found: Sequence[Adapter]) -> None:
    """Add the options of what asks upstreams."""
    usual = Settings(Path())
    add.flag("offline", help="ask no upstream")
    add.one("log-level", usual.log_level, one_of(*LEVELS), metavar="LEVEL", help=f"{', '.join(LEVELS)} (%(default)s)")
    for adapter in found:
        for option in adapter.options:
            add.one(option.name, None, str, metavar=option.metavar, help=option.help)

    add.many("allow-network", network, metavar="CIDR", help="a network that requests may be fetched from")
    add.many("allow-port", port, metavar="PORT", help="a port of public addresses, besides 80 and 443")
    add.one("proxy", usual.proxy, str, metavar="URL", help="an HTTP proxy that upstreams are asked through")
    add.one("ca-bundle", usual.ca_bundle, Path, metavar="FILE", help="authorities to trust, in place of the system's")
    add.many("credential-header", str.lower, metavar="NAME", help="one more header that carries credentials")
    add.many("bind", binding, metavar="PREFIX=ORIGIN", help="credentials under these pins are for this origin")
    add.flag("respect-no-store", help="pass on what an upstream marks `no-store` or `private`, and do not freeze it")
    add.many("share", pin_name, metavar="PREFIX", help="private copies under these pins are for everybody")

    add.many("keep-header", kept_header, metavar="NAME", help="one more header of upstreams' answers that is kept")

    for name, metavar, read, what in (
        ("max-file", "SIZE", size, "largest file"),
        ("max-page", "SIZE", size, "largest index page"),
        ("max-header", "SIZE", header_size, "largest head of a request or an upstream's answer"),
        ("max-redirects", "N", count, "redirects that are followed"),
        ("connect-timeout", "SECONDS", seconds, "to connect to an upstream"),
        ("stall-timeout", "SECONDS", seconds, "that an upstream may send nothing, or too little"),
        ("min-rate", "SIZE", size, "a second that is enough"),
        ("deadline", "SECONDS", seconds, "for one whole download"),
        ("max-connections", "N", count, "exchanges with upstreams at once, for each process"),
        ("max-connections-per-origin", "N", count, "of these with one origin"),
    ):
        default = getattr(usual, name.replace("-", "_"))
        shown = exact_size(default) if metavar == "SIZE" else f"{default:g}"
        add.one(name, default, read, metavar=metavar, help=f"{what} ({shown})")


def _serve(options: argparse.Namespace, found: Sequence[Adapter]) -> int:
    from . import serve  # granian, which the other commands need not load

    settings = _settings(options, found)
    for line in mistyped(os.environ, vars(options)):
        print(f"httpcache: {line}", file=sys.stderr)
    _check_address(settings)
    with closing(LocalStore(settings.data)) as store:
        if not store.read_only:
            Spool(store.spool).clean()
        elif not settings.offline:
            raise MirrorError(f"{settings.data} is read-only: serve what it holds with --offline, or make it writable")
    address = _address(settings)
    print(f"httpcache serves {address} from {settings.data}")
    for title, line in usage(address, found, today()):
        print(f"  {title + ':':8} {line}")
    sys.stdout.flush()
    with nullcontext() if is_read_only(settings.data) else users.beside(settings.data):
        return serve.run(settings, found)


def _capture(options: argparse.Namespace, found: Sequence[Adapter]) -> int:
    settings = _settings(options, found)
    if settings.offline:
        raise MirrorError("--offline asks no upstream, and a capture asks nothing else: leave it out")
    logs.begin(settings.log_level)
    console = Console(stderr=True)
    progress: Progress = Lines()
    if console.is_terminal:  # where log lines and the bar must not write over each other
        progress = Bar(console)
        logging.basicConfig(format="%(message)s", handlers=[RichHandler(console=console, show_path=False)])
    else:
        logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    try:
        anyio.run(scheduler.capture, settings, found, progress, lambda last: True, _say, backend_options=scheduler.LOOP)
    except KeyboardInterrupt:
        print("httpcache: stopped: what was done is kept, and the next capture does the rest", file=sys.stderr)
        raise
    return 0


def _settings(options: argparse.Namespace, found: Sequence[Adapter]) -> Settings:
    """Return the settings that options and environment give. Raises MirrorError where they make no sense."""
    given = vars(options)
    names = {field.name for field in fields(Settings)} & given.keys()
    settings = Settings(
        **{name: given[name] for name in names},
        allow_networks=tuple(options.allow_network),
        allow_ports=tuple(options.allow_port),
        credential_headers=(*Settings.credential_headers, *options.credential_header),
        bindings=tuple(options.bind),
        shared=tuple(options.share),
        keep_headers=tuple(options.keep_header),
        environment=dict(os.environ),
        adapters={
            name: value
            for adapter in found
            for option in adapter.options
            if (value := getattr(options, name := option.name.replace("-", "_"))) is not None
        },
    )
    if settings.root_path_stripped and not settings.root_path:
        raise MirrorError("--root-path-stripped says that a proxy takes a prefix off: name it with --root-path")
    secret = set(settings.keep_headers) & set(settings.credential_headers)
    if secret:
        raise MirrorError(f"--keep-header {secret.pop()} carries credentials, which are never kept: leave it out")
    if settings.offline and (settings.capture or settings.capture_every):
        raise MirrorError("--offline asks no upstream, and --capture asks nothing else: leave one of them out")
    transport.check(settings)
    for adapter in found:
        adapter.check(settings)
    return settings


def _ls(options: argparse.Namespace, found: Sequence[Adapter]) -> int:
    return _with_store(options, partial(maintenance.ls, pin=options.pin))


def _show(options: argparse.Namespace, found: Sequence[Adapter]) -> int:
    return _with_store(options, partial(maintenance.show, address=options.address))


def _verify(options: argparse.Namespace, found: Sequence[Adapter]) -> int:
    return _with_store(options, maintenance.verify)


def _forget(options: argparse.Namespace, found: Sequence[Adapter]) -> int:
    return _with_store(options, partial(maintenance.forget, what=options.what, yes=options.yes))


def _added(options: argparse.Namespace, found: Sequence[Adapter]) -> int:
    async def work(store: Store) -> int:
        with users.alone(options.data) if options.command.alone else nullcontext():
            for line in await options.command.run(store, vars(options)):
                _say(line)
        return 0

    return _with_store(options, work)


def _say(line: str) -> None:
    """Print a line that can have a stranger's text in it."""
    print(one_line(line).encode(sys.stdout.encoding, "backslashreplace").decode(sys.stdout.encoding))


def _pin(options: argparse.Namespace, found: Sequence[Adapter]) -> int:
    address = urlsplit(options.mirror)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise MirrorError("--mirror takes the address of the mirror, for example http://127.0.0.1:8080")
    for line in maintenance.pins(options.mirror.rstrip("/"), found):
        print(line)
    return 0


def _with_store(options: argparse.Namespace, work: Callable[[Store], Awaitable[int]]) -> int:
    try:
        is_there = (options.data / "VERSION").exists()
    except OSError as error:
        raise MirrorError(f"{options.data} cannot be read ({error.strerror}): be the user that serves") from error
    if not is_there:
        raise MirrorError(f"{options.data} is no data folder of a mirror: name it with --data")
    store = LocalStore(options.data)
    try:
        return anyio.run(work, store)
    finally:
        store.close()


def _address(settings: Settings) -> str:
    host = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(settings.host, settings.host)  # noqa: S104
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}{settings.root_path}"


def _check_address(settings: Settings) -> None:
    """Raise MirrorError unless the address is free: granian would only say so in a traceback of a worker."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((settings.host, settings.port))
    except OSError as error:
        raise MirrorError(
            f"cannot listen on {settings.host} port {settings.port} ({error.strerror}): "
            "stop what listens there, or choose another with --port"
        ) from error

"""The command: `httpcache serve`, and what an operator does beside it. The only place that reads the environment."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import anyio

from . import operate
from .adapter import Adapter, adapters
from .app import build
from .errors import MirrorError
from .local import LocalStore
from .pages import today, usage
from .settings import Settings
from .spool import Spool
from .store import Store

GRACE_SECONDS = 25  # from the signal to the last resort; above what downloads get
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
        "--allow-network is HTTPCACHE_ALLOW_NETWORK; lists are separated by commas there.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="run the mirror")
    _option(serve, "host", "127.0.0.1", metavar="HOST", help="address to listen on (%(default)s)")
    _option(serve, "port", "8080", metavar="PORT", type=_port, help="port to listen on (%(default)s)")
    _data(serve)
    _option(serve, "workers", "1", metavar="N", type=_count, help="processes that answer requests (%(default)s)")
    _option(
        serve,
        "root-path",
        "",
        metavar="/PREFIX",
        type=_prefix,
        help="where a proxy in front shows the mirror",
    )
    _list(
        serve,
        "allow-network",
        _network,
        metavar="CIDR",
        help="a network that requests may be fetched from",
    )
    _list(
        serve,
        "credential-header",
        str.lower,
        metavar="NAME",
        help="one more header that carries credentials",
    )
    serve.add_argument("--offline", action="store_true", default=_flag("HTTPCACHE_OFFLINE"), help="ask no upstream")
    _option(serve, "log-level", "info", metavar="LEVEL", choices=LEVELS, help=f"{', '.join(LEVELS)} (%(default)s)")
    for adapter in found:
        for option in adapter.options:
            _option(serve, option.name, None, metavar=option.metavar, help=option.help)
    serve.set_defaults(run=_serve)

    ls = commands.add_parser("ls", help="list pins, or what is frozen under one")
    _data(ls)
    ls.add_argument("pin", nargs="?", metavar="PIN")
    ls.set_defaults(run=_ls)

    show = commands.add_parser("show", help="tell everything that is known of a frozen address")
    _data(show)
    show.add_argument("address", metavar="ADDRESS", help="/<pin>/<url>, with or without the mirror's own address")
    show.set_defaults(run=_show)

    forget = commands.add_parser("forget", help="remove frozen copies; says what will be lost and asks")
    _data(forget)
    forget.add_argument("what", metavar="ADDRESS|PIN")
    forget.add_argument("--yes", action="store_true", help="do not ask")
    forget.set_defaults(run=_forget)

    pin = commands.add_parser("pin", help="print today's pin and this instant, with lines for the installers")
    pin.add_argument("--mirror", default=os.environ.get("HTTPCACHE_MIRROR", "http://127.0.0.1:8080"), metavar="URL")
    pin.set_defaults(run=_pin)
    return parser


def _serve(options: argparse.Namespace, found: Sequence[Adapter]) -> int:
    settings = Settings(
        data=options.data,
        host=options.host,
        port=options.port,
        workers=options.workers,
        root_path=options.root_path,
        allow_networks=tuple(options.allow_network),
        offline=options.offline,
        credential_headers=(*Settings.credential_headers, *options.credential_header),
        log_level=options.log_level,
        adapters={
            name: value
            for adapter in found
            for option in adapter.options
            if (value := getattr(options, name := option.name.replace("-", "_"))) is not None
        },
    )
    for adapter in found:
        adapter.check(settings)
    _check_address(settings)
    store = LocalStore(settings.data)
    Spool(store.spool).clean()
    store.close()
    address = _address(settings)
    print(f"httpcache serves {address} from {settings.data}")
    for title, line in usage(address, found, today()):
        print(f"  {title + ':':8} {line}")
    sys.stdout.flush()
    return _run(settings, found)


def _run(settings: Settings, found: Sequence[Adapter]) -> int:
    from granian import Granian
    from granian.constants import Interfaces
    from granian.log import LogLevels

    server = Granian(
        "httpcache",
        address=settings.host,
        port=settings.port,
        interface=Interfaces.ASGI,
        workers=settings.workers,
        workers_kill_timeout=GRACE_SECONDS,
        respawn_failed_workers=True,
        websockets=False,
        log_level=LogLevels.warning if settings.log_level == "info" else LogLevels(settings.log_level),
    )
    server.serve(target_loader=partial(build, settings, found), wrap_loader=False)
    return 0


def _ls(options: argparse.Namespace, found: Sequence[Adapter]) -> int:
    return _with_store(options, partial(operate.ls, pin=options.pin))


def _show(options: argparse.Namespace, found: Sequence[Adapter]) -> int:
    return _with_store(options, partial(operate.show, address=options.address))


def _forget(options: argparse.Namespace, found: Sequence[Adapter]) -> int:
    return _with_store(options, partial(operate.forget, what=options.what, yes=options.yes))


def _pin(options: argparse.Namespace, found: Sequence[Adapter]) -> int:
    for line in operate.pins(options.mirror.rstrip("/"), found):
        print(line)
    return 0


def _with_store(options: argparse.Namespace, work: Callable[[Store], Awaitable[int]]) -> int:
    if not (options.data / "VERSION").exists():
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


def _option(parser: argparse.ArgumentParser, name: str, default: str | None, **more: Any) -> None:
    """Add an option whose default comes from the environment; argparse reads a text default as it reads a value."""
    given = os.environ.get(_variable(name), default)
    choices = more.get("choices")
    if choices and given not in choices:
        raise argparse.ArgumentTypeError(f"{_variable(name)}: {given!r} is none of {', '.join(choices)}")
    parser.add_argument(f"--{name}", default=given, **more)


def _list(parser: argparse.ArgumentParser, name: str, read: Callable[[str], object], **more: Any) -> None:
    """Add an option that can be repeated; in the environment its values are separated by commas."""
    parts = [part.strip() for part in os.environ.get(_variable(name), "").split(",") if part.strip()]
    try:
        default = [read(part) for part in parts]
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{_variable(name)}: {error}") from error
    parser.add_argument(f"--{name}", action="append", default=default, type=read, **more)


def _variable(name: str) -> str:
    return f"HTTPCACHE_{name.upper().replace('-', '_')}"


def _data(parser: argparse.ArgumentParser) -> None:
    _option(parser, "data", "data", metavar="DIR", type=Path, help="folder of the store (%(default)s)")


def _flag(variable: str) -> bool:
    return os.environ.get(variable, "").lower() in ("1", "true", "yes", "on")


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: use 1 to 65535")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of processes: use 1 or more")
    return int(text)


def _prefix(text: str) -> str:
    if text and not text.startswith("/"):
        raise argparse.ArgumentTypeError(f"{text!r} does not begin with a slash")
    return text.rstrip("/")


def _network(text: str) -> object:
    try:
        return ip_network(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no network: {error}") from error


if __name__ == "__main__":
    sys.exit(main())

"""The `httpcache` command: `serve`, and commands for operators. Only this module reads the environment."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import anyio
import click
from rich.console import Console
from rich.logging import RichHandler

from httpcache import __version__, logs
from httpcache.adapter import Adapter, Argument, Command, Progress, adapters, today, usage
from httpcache.errors import MirrorError, one_line
from httpcache.freezing.spool import Spool
from httpcache.settings import Location, Settings
from httpcache.store import takeover
from httpcache.store.layout import is_read_only, prepare
from httpcache.store.opening import opened, prepare_node
from httpcache.store.store import Store
from httpcache.units import exact_size
from httpcache.upstream import transport

from . import copying, maintenance, scheduler, users
from .options import (
    ListOption,
    Option,
    binding,
    count,
    flag,
    header_size,
    kept_header,
    minutes,
    mistyped,
    network,
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
    installed = list(adapters())
    try:
        return int(program(installed).main(argv, "httpcache", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except MirrorError as error:
        print(f"httpcache: {error.text}", file=sys.stderr)
        return 1
    except click.Abort:
        return 130


class _Program(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order they were added, not alphabetically."""
        return list(self.commands)


def program(installed: Sequence[Adapter]) -> click.Group:
    """Return the program with all its commands, including those of adapters."""
    top = _Program(
        context_settings={"help_option_names": ["-h", "--help"]},
        help="A mirror that makes builds repeatable. Every option is also an environment variable: "
        "--allow-network is HTTPCACHE_ALLOW_NETWORK. For several values, repeat the option or separate them by commas.",
    )
    click.version_option(__version__, message="httpcache %(version)s")(top)

    def add(name: str, run: Callable[..., int], text: str, *params: click.Parameter) -> None:
        top.add_command(click.Command(name, callback=run, help=text, short_help=text, params=[*params]))

    where = list(_store_options())
    mirror_options = list(_mirror_options(installed))
    add("serve", partial(_serve, installed), "run the mirror", *where, *_server_options(), *mirror_options)
    what_for = "record now what has changed at the registries since the last capture"
    add("capture", partial(_capture, installed), what_for, *where, *mirror_options)
    add("ls", _ls, "list the pins, or what is frozen under one", *where, click.Argument(["pin"], required=False))
    address = click.Argument(["address"], help="/<pin>/<url>, with or without the mirror's own address")
    add("show", _show, "show everything that is known about a frozen address", *where, address)
    add("verify", _verify, "read every entry and every byte, and report what is damaged", *where)
    removed = click.Argument(["address_or_pin"], metavar="ADDRESS|PIN")
    yes = click.Option(["--yes"], is_flag=True, help="do not ask for confirmation")
    add("forget", _forget, "remove frozen copies; shows what will be lost and asks first", *where, removed, yes)
    index = click.Group("index", help="look after the index of a store on several machines")
    index_url = _setting("index", "URL", str, "PostgreSQL database, postgresql://...")
    text = "make the tables of the index, or bring them up to date"
    index.add_command(click.Command("upgrade", callback=_upgrade, help=text, short_help=text, params=[index_url]))
    top.add_command(index)
    stores = [click.Argument([name], metavar="DIR|INDEX,BLOBS") for name in ("source", "target")]
    add("copy", _copy, "copy a mirror to another store; what is there already is left out", *stores)
    for command in (command for adapter in installed for command in adapter.commands):
        add(command.name, partial(_added, command), command.help, *where, *map(_argument, command.arguments))
    mirror = Option("mirror", "URL", str, "address of the mirror", "http://127.0.0.1:8080")
    what_for = "print today's pin and the current instant, with lines for installers"
    add("pin", partial(_pin, installed), what_for, mirror)
    return top


def _argument(argument: Argument) -> click.Parameter:
    """Return an argument of an adapter's command as a click parameter."""
    if not argument.name.startswith("--"):
        return click.Argument([argument.name], metavar=argument.metavar, help=argument.help)
    if argument.metavar:
        return click.Option([argument.name], metavar=argument.metavar, required=argument.required, help=argument.help)
    return click.Option([argument.name], is_flag=True, help=argument.help)


def _setting(name: str, metavar: str, read: Any, text: str) -> Option:
    """Return the option for a setting with one value, its default written as an operator would write it."""
    usual = getattr(Settings(Path("data")), name.replace("-", "_"))
    if isinstance(usual, int | float):
        usual = exact_size(usual) if metavar == "SIZE" else f"{usual:g}"
    return Option(name, metavar, read, text, usual)


def _store_options() -> Iterator[Option]:
    """Yield the options that say where the store is (see `settings.Location`)."""
    yield _setting("data", "DIR", Path, "folder of the store, or of what a node keeps of it")
    yield _setting("index", "URL", str, "PostgreSQL database of a store on several machines, postgresql://...")
    yield _setting("blobs", "URL", str, "object store of it: s3://, gs:// or az://bucket/prefix, or file:///folder")
    yield _setting("local-cache", "SIZE", size, "bytes of frozen files that a node keeps on its own disk")


def _server_options() -> Iterator[Option]:
    """Yield the options that only the server has."""
    yield _setting("host", "HOST", str, "address to listen on")
    yield _setting("port", "PORT", port, "port to listen on")
    yield _setting("workers", "N", count, "number of worker processes")
    yield _setting("root-path", "/PREFIX", prefix, "path under which a reverse proxy serves the mirror")
    yield flag("root-path-stripped", "the reverse proxy strips the root path from requests (else the mirror does)")
    text = "redirect to the object store for public files of this size that the node does not have"
    yield Option("redirect-above", "SIZE", size, text)
    yield flag("cors", "let web pages of any origin read what is public (CORS)")
    yield flag("capture", "capture every day at 00:00 UTC, and at the start if a day was missed")
    yield _setting("capture-every", "MINUTES", minutes, "like --capture, and also this many minutes after the last one")
    yield _setting("max-clients", "N", count, "client connections at once, per process")
    yield _setting("client-timeout", "SECONDS", seconds, "time for a client to send its request, or to read some data")


def _mirror_options(installed: Sequence[Adapter]) -> Iterator[Option]:
    """Yield the options of commands that send requests to upstreams."""
    yield flag("offline", "send no requests to upstreams")
    yield _setting("log-level", "LEVEL", click.Choice(LEVELS), f"lowest level to log: {', '.join(LEVELS)}")
    for option in (option for adapter in installed for option in adapter.options):
        yield Option(option.name, option.metavar, str, option.help)

    yield ListOption("allow-network", "CIDR", network, "non-public network that may be fetched from (SSRF)")
    yield ListOption(
        "allow-port", "PORT", port, "port of public addresses that may be fetched from, besides 80 and 443"
    )
    yield _setting("proxy", "URL", str, "HTTP proxy for requests to upstreams")
    yield _setting("ca-bundle", "FILE", Path, "PEM file of certificate authorities to trust instead of the system's")
    yield ListOption("credential-header", "NAME", str.lower, "another request header that carries credentials")
    yield ListOption("bind", "PREFIX=ORIGIN", binding, "send credentials under these pins to this origin only")
    yield flag("respect-no-store", "do not freeze responses that an upstream marks `no-store` or `private`")
    yield ListOption("share", "PREFIX", pin_name, "let every client read the private copies under these pins")
    yield ListOption("keep-header", "NAME", kept_header, "another upstream response header to keep")

    yield _setting("max-file", "SIZE", size, "largest file, in bytes (or with K, M, G)")
    yield _setting("max-page", "SIZE", size, "largest index page, in bytes, decompressed")
    yield _setting("max-header", "SIZE", header_size, "largest head of a request or an upstream's response, in bytes")
    yield _setting("max-redirects", "N", count, "number of redirects to follow")
    yield _setting("connect-timeout", "SECONDS", seconds, "time to connect to an upstream")
    yield _setting("stall-timeout", "SECONDS", seconds, "time an upstream may send nothing, or less than --min-rate")
    yield _setting("min-rate", "SIZE", size, "lowest rate of an upstream, in bytes per second")
    yield _setting("deadline", "SECONDS", seconds, "time for one whole download")
    yield _setting("max-connections", "N", count, "requests to upstreams at once, per process")
    yield _setting("max-connections-per-origin", "N", count, "requests to one origin at once, per process")


def _serve(installed: Sequence[Adapter], **options: Any) -> int:
    from . import serve  # imports granian, which the other commands do not need

    settings = _settings(options, installed)
    for line in mistyped(os.environ, options):
        print(f"httpcache: {line}", file=sys.stderr)
    _check_address(settings)
    _prepare(settings)
    address = _address(settings)
    print(f"httpcache serves {address} from {settings.data}")
    for title, line in usage(address, installed, today()):
        print(f"  {title + ':':8} {line}")
    sys.stdout.flush()
    with nullcontext() if is_read_only(settings.data) else users.beside(settings.data):
        return serve.run(settings, installed)


def _capture(installed: Sequence[Adapter], **options: Any) -> int:
    settings = _settings(options, installed)
    if settings.offline:
        raise MirrorError("a capture sends requests to upstreams: run it without --offline")
    logs.begin(settings.log_level)
    try:
        anyio.run(
            scheduler.capture, settings, installed, _progress(), lambda last: True, _say, backend_options=scheduler.LOOP
        )
    except KeyboardInterrupt:
        print("httpcache: interrupted: what is done is kept, and the next capture does the rest", file=sys.stderr)
        raise
    return 0


def _settings(options: dict[str, Any], installed: Sequence[Adapter]) -> Settings:
    """Return the settings from options and environment. Raises MirrorError if they are invalid."""
    names = {field.name for field in fields(Settings)} & options.keys()
    settings = Settings(
        **{name: options[name] for name in names},
        allow_networks=options["allow_network"],
        allow_ports=options["allow_port"],
        credential_headers=(*Settings.credential_headers, *options["credential_header"]),
        bindings=options["bind"],
        shared=options["share"],
        keep_headers=options["keep_header"],
        environment=dict(os.environ),
        adapters={
            name: value
            for adapter in installed
            for option in adapter.options
            if (value := options[name := option.name.replace("-", "_")]) is not None
        },
    )
    if settings.root_path_stripped and not settings.root_path:
        raise MirrorError("--root-path-stripped needs --root-path: name the prefix that the proxy strips")
    secret = set(settings.keep_headers) & set(settings.credential_headers)
    if secret:
        raise MirrorError(f"--keep-header {secret.pop()} carries credentials, which are never kept: remove it")
    if settings.offline and (settings.capture or settings.capture_every):
        raise MirrorError("--capture sends requests to upstreams, --offline forbids that: remove one of them")
    transport.check(settings)
    for adapter in installed:
        adapter.check(settings)
    return settings


def _prepare(settings: Settings) -> None:
    """Take over the folder of an earlier version, and remove what dead processes left. Raises MirrorError."""
    if settings.location.is_embedded:
        if takeover.is_due(settings.data):
            with users.alone(settings.data):
                takeover.take_over(settings.data, _say)
        prepare(settings.data)
    else:
        prepare_node(settings.data)
    if not is_read_only(settings.data):
        Spool(settings.data / "spool").clean()
    elif not settings.offline:
        raise MirrorError(f"{settings.data} is read-only: serve it with --offline, or make it writable")


def _ls(pin: str | None, **where: Any) -> int:
    return _with_store(where, partial(maintenance.ls, pin=pin))


def _show(address: str, **where: Any) -> int:
    return _with_store(where, partial(maintenance.show, address=address))


def _verify(**where: Any) -> int:
    return _with_store(where, maintenance.verify)


def _forget(address_or_pin: str, yes: bool, **where: Any) -> int:
    return _with_store(where, partial(maintenance.forget, address_or_pin=address_or_pin, yes=yes))


def _upgrade(index: str | None) -> int:
    if not index:
        raise MirrorError("name the PostgreSQL database with --index, postgresql://user@host/database")
    try:
        from httpcache.store import postgres_schema  # an embedded store needs none of what it imports
    except ImportError as error:
        raise MirrorError(f"--index needs {error.name}: install 'freezing-mirror[cluster]'") from error
    _say("the index is up to date" if postgres_schema.upgrade(index) else "there was nothing to do")
    return 0


def _copy(source: str, target: str) -> int:
    async def work() -> copying.Outcome:
        with TemporaryDirectory(prefix="httpcache-") as folder:
            places = [copying.location(text, Path(folder) / name) for name, text in (("from", source), ("to", target))]
            if places[0].is_embedded and not (places[0].data / "VERSION").exists():
                raise MirrorError(f"{places[0].data} is not the data folder of a mirror")
            async with opened(places[0]) as one, opened(places[1]) as other:
                return await copying.copy(one, other, _progress())

    outcome = anyio.run(work)
    for line in outcome.problems:
        print(f"httpcache: {one_line(line)}", file=sys.stderr)
    _say(copying.summary(outcome))
    return 1 if outcome.problems else 0


def _progress() -> Progress:
    """Return a bar on a terminal, or lines in the log."""
    console = Console(stderr=True)
    if not console.is_terminal:
        logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
        return Lines()
    # Log lines and the progress bar must not overwrite each other.
    logging.basicConfig(format="%(message)s", handlers=[RichHandler(console=console, show_path=False)])
    return Bar(console)


def _added(command: Command, data: Path, index: str | None, blobs: str | None, local_cache: int, **given: Any) -> int:
    async def work(store: Store) -> int:
        with users.alone(data) if command.alone else nullcontext():
            for line in await command.run(store, given):
                _say(line)
        return 0

    return _with_store({"data": data, "index": index, "blobs": blobs, "local_cache": local_cache}, work)


def _say(line: str) -> None:
    """Print a line that may contain untrusted text."""
    print(one_line(line).encode(sys.stdout.encoding, "backslashreplace").decode(sys.stdout.encoding))


def _pin(installed: Sequence[Adapter], mirror: str) -> int:
    address = urlsplit(mirror)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise MirrorError("--mirror is not an http or https URL: use one like http://127.0.0.1:8080")
    for line in maintenance.pins(mirror.rstrip("/"), installed):
        print(line)
    return 0


def _with_store(where: dict[str, Any], work: Callable[[Store], Awaitable[int]]) -> int:
    """Run work on the store that the options name."""
    location = Location(**where)
    try:
        is_there = not location.is_embedded or (location.data / "VERSION").exists()
    except OSError as error:
        raise MirrorError(
            f"{location.data} cannot be read ({error.strerror}): run this command as the user that runs the server"
        ) from error
    if not is_there:
        raise MirrorError(f"{location.data} is not the data folder of a mirror: name one with --data")

    async def on_store() -> int:
        with TemporaryDirectory(prefix="httpcache-") as folder:  # of a node: this command needs none of its cache
            async with opened(location if location.is_embedded else replace(location, data=Path(folder))) as store:
                return await work(store)

    return anyio.run(on_store)


def _address(settings: Settings) -> str:
    host = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(settings.host, settings.host)  # noqa: S104
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}{settings.root_path}"


def _check_address(settings: Settings) -> None:
    """Raise MirrorError if the address is in use: granian would only say so in a worker's traceback."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((settings.host, settings.port))
    except OSError as error:
        raise MirrorError(
            f"cannot listen on {settings.host} port {settings.port} ({error.strerror}): "
            "stop the program that listens there, or choose another port with --port"
        ) from error

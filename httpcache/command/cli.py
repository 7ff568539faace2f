"""The `httpcache` command: `serve`, and commands for operators. Only this module reads the environment.

A command imports what it needs when it runs, so that those that list something start quickly.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from httpcache import __version__
from httpcache.adapter import Adapter, Argument, Build, Command, Progress, Tool, Wish, adapters, today, usage
from httpcache.errors import BadAddress, MirrorError, StoreError, one_line
from httpcache.settings import SERVER, STORE, Location, Settings, declared

from . import users
from .in_force import FILE, InForce, every, find
from .options import GIVEN, Option, mistyped
from .rows import Rows, say

if TYPE_CHECKING:
    from httpcache.store.store import Store


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code (see docs/commands.md). An error is one line that says what to do."""
    installed = list(adapters())
    try:
        return int(program(installed).main(argv, "httpcache", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except MirrorError as error:
        print(f"httpcache: {error.text}", file=sys.stderr)
        return _code(error)
    except click.Abort:
        return 130


def _code(error: MirrorError) -> int:
    """Return the exit code of a command that could not do what it was asked."""
    if isinstance(error, BadAddress):
        return 2
    return 3 if isinstance(error, StoreError) else 1


class _Program(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order they were added, not alphabetically."""
        return list(self.commands)


class _Command(click.Command):
    """A command whose function receives the settings in force by name, besides its own arguments.

    If it has settings, it has `--config` too, and the context's `obj` is an `InForce`.
    """

    def __init__(
        self, installed: Sequence[Adapter], name: str, run: Callable[..., int], text: str, *params: Any
    ) -> None:
        self._installed = installed
        self._settings = [param.setting for param in params if isinstance(param, Option)]
        config = [click.Option(["--config"], **_CONFIG)] if self._settings else []
        super().__init__(name, callback=run, help=text, short_help=text, params=[*config, *params])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. Raises MirrorError, also if the file is not valid."""
        if self._settings:
            path = ctx.params.pop("config")
            ctx.obj = find(self._settings, ctx.meta.get(GIVEN, {}), path, self._installed)
            ctx.params |= {name.replace("-", "_"): found.value for name, found in ctx.obj.found.items()}
        return super().invoke(ctx)


_CONFIG: dict[str, Any] = {
    "metavar": "FILE",
    "type": Path,
    "envvar": "HTTPCACHE_CONFIG",
    "help": f"settings file (TOML) [default: {FILE}, if it is there]",
}


def program(installed: Sequence[Adapter]) -> click.Group:
    """Return the program with all its commands, including those of adapters."""
    top = _Program(
        context_settings={"help_option_names": ["-h", "--help"]},
        help="A mirror that makes builds repeatable. Every setting has a key in the settings file, an environment "
        "variable and an option: allow-network, HTTPCACHE_ALLOW_NETWORK, --allow-network. For several values, repeat "
        "the option or separate them by commas.",
    )
    click.version_option(__version__, message="httpcache %(version)s")(top)

    def add(name: str, run: Callable[..., int], text: str, *params: click.Parameter) -> None:
        top.add_command(_Command(installed, name, run, text, *params))

    own = list(map(Option, every(installed)))
    where = [option for option in own if option.setting.section.readers == STORE]
    mirror_options = [option for option in own if option.setting.section.readers != SERVER]
    add("serve", partial(_serve, installed), "run the mirror", *own)
    what_for = "record now what has changed at the registries since the last capture"
    add("capture", partial(_capture, installed), what_for, *mirror_options)
    listens = [option for option in own if option.setting.name in ("host", "port", "unix-socket", "tls-cert")]
    add("ready", _ready, "ask the server with these settings, on this machine, whether it is ready", *listens)
    as_json = click.Option(["--json", "as_json"], is_flag=True, help="print JSON: an object on each line")
    pins = partial(_pins, installed)
    what_for = "show the settings in force for serve, and where each comes from; no secrets"
    add("settings", partial(_show_settings, installed), what_for, as_json, *own)
    add(
        "ls",
        _ls,
        "list the pins, or what is frozen under one",
        *where,
        as_json,
        click.Argument(["pin"], required=False, shell_complete=pins),
    )
    what_for = "show for each pin: entries, bytes, bytes that other pins have too, hits, and the last use"
    add("stats", _stats, what_for, *where, as_json)
    what_for = "look at all that the mirror needs, and say what to do about problems; changes nothing"
    add("doctor", partial(_doctor, installed), what_for, as_json, *own)
    address = click.Argument(["address"], help="/<pin>/<url>, with or without the mirror's own address")
    add("show", _show, "show everything that is known about a frozen address", *where, as_json, address)
    repair = click.Option(["--repair"], is_flag=True, help="fetch again what is damaged; only the same bytes are taken")
    resume = click.Option(["--resume"], is_flag=True, help="go on where the last run was interrupted")
    what_for = "read every entry and every byte, and report what is damaged"
    add("verify", partial(_verify, installed), what_for, *mirror_options, as_json, repair, resume)
    dry_run = click.Option(["--dry-run"], is_flag=True, help="only list what would be removed")
    add("gc", _gc, "remove frozen files that no entry names any more", *where, as_json, dry_run)
    removed = click.Argument(["address_or_pin"], metavar="[ADDRESS|PIN]", required=False, shell_complete=pins)
    yes = click.Option(["--yes"], is_flag=True, help="do not ask for confirmation")
    unused = click.Option(["--unused-for"], metavar="SPAN", help="what was not used for 180d (days) or 26w (weeks)")
    keep = click.Option(["--keep-last"], metavar="N", type=click.IntRange(0), help="of PIN-<date>, all but the last N")
    what_for = "remove frozen copies; shows what will be lost and asks first"
    add("forget", _forget, what_for, *where, removed, unused, keep, yes)
    index = click.Group("index", help="look after the index of a store on several machines")
    text = "make the tables of the index, or bring them up to date"
    index.add_command(_Command(installed, "upgrade", _upgrade, text, Option(declared()["index"])))
    top.add_command(index)
    stores = [click.Argument([name], metavar="DIR|INDEX,BLOBS") for name in ("source", "target")]
    add("copy", _copy, "copy a mirror to another store; what is there already is left out", *stores)
    what_for = "write pins and indexes to one file, for a mirror without a network"
    add("export", partial(_export, installed), what_for, *where, *_export_params())
    add("import", _import, "take in a file that was exported: all of it, or nothing", *where, *_import_params())
    for command in (command for adapter in installed for command in adapter.commands):
        arguments = [*[as_json] * command.lists, *map(_argument, command.arguments)]
        add(command.name, partial(_added, command), command.help, *where, *arguments)
    mirror = click.Option(
        ["--mirror"],
        metavar="URL",
        envvar="HTTPCACHE_MIRROR",
        help="address of the mirror",
        default="http://127.0.0.1:8080",
        show_default=True,
    )
    add("warm", partial(_warm, installed), "freeze beforehand what builds will ask for", *_warm_params(), mirror)
    for tool in (tool for adapter in installed for tool in adapter.tools):
        add(tool.name, partial(_tool, tool), tool.help, *map(_argument, tool.arguments), mirror)
    add("pages-password", _pages_password, "make the hash of a password for --pages-password-hash")
    what_for = "print today's pin and the current instant, with lines for installers"
    add("pin", partial(_pin, installed), what_for, as_json, mirror)
    shell = click.Argument(["shell"], type=click.Choice(["bash", "zsh", "fish"]))
    add("completion", _completion, "print the script by which a shell completes commands and pins", shell)
    return top


def _argument(argument: Argument) -> click.Parameter:
    """Return an argument of an adapter's command as a click parameter."""
    if not argument.name.startswith("--"):
        count = -1 if argument.many else 1
        return click.Argument([argument.name], metavar=argument.metavar, help=argument.help, nargs=count)
    names = [argument.short, argument.name] if argument.short else [argument.name]
    if argument.metavar:
        return click.Option(names, metavar=argument.metavar, required=argument.required, help=argument.help)
    return click.Option(names, is_flag=True, help=argument.help)


def _serve(installed: Sequence[Adapter], **options: Any) -> int:
    from httpcache.store.layout import is_read_only

    from . import listening, serve
    from .reloading import Reloading

    reloading = Reloading(click.get_current_context().obj, installed, dict(os.environ))
    settings = reloading.settings
    known = [*(setting.variable for setting in every(installed)), "HTTPCACHE_CONFIG"]
    for line in mistyped(os.environ, known):
        print(f"httpcache: {line}", file=sys.stderr)
    listening.check(settings)
    _prepare(settings)
    address = listening.address(settings)
    print(f"httpcache serves {listening.shown(settings)} from {settings.data}")
    if settings.file.path:
        print(f"  settings: {settings.file.path.absolute()}")
    for title, line in usage(address, installed, today()):
        print(f"  {title + ':':8} {line}")
    sys.stdout.flush()
    with nullcontext() if is_read_only(settings.data) else users.beside(settings.data):
        return serve.run(reloading, installed)


def _capture(installed: Sequence[Adapter], **options: Any) -> int:
    import anyio

    from httpcache import logs

    from . import scheduler

    settings = _settings(installed)
    if settings.offline:
        raise MirrorError("a capture sends requests to upstreams: run it without --offline")
    logs.begin(settings.log_level)
    try:
        anyio.run(
            scheduler.capture, settings, installed, _progress(), lambda last: True, say, backend_options=scheduler.LOOP
        )
    except KeyboardInterrupt:
        print("httpcache: interrupted: what is done is kept, and the next capture does the rest", file=sys.stderr)
        raise
    return 0


def _show_settings(installed: Sequence[Adapter], as_json: bool, **options: Any) -> int:
    from . import shown

    in_force: InForce = click.get_current_context().obj
    in_force.settings(installed, dict(os.environ))
    print(shown.as_json(in_force, installed) if as_json else "\n".join(shown.lines(in_force, installed)))
    return 0


def _ready(**listens: Any) -> int:
    from . import ready

    say(ready.ask(**listens))
    return 0


def _settings(installed: Sequence[Adapter]) -> Settings:
    """Return the settings of the command that runs. Raises MirrorError if they are invalid."""
    in_force: InForce = click.get_current_context().obj
    return in_force.settings(installed, dict(os.environ))


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


def _ls(pin: str | None, as_json: bool, **where: Any) -> int:
    from . import maintenance

    return _with_store(where, partial(maintenance.ls, rows=Rows(as_json), pin=pin))


def _stats(as_json: bool, **where: Any) -> int:
    from .stats import stats

    return _with_store(where, partial(stats, rows=Rows(as_json)))


def _show(address: str, as_json: bool, **where: Any) -> int:
    from .showing import show

    return _with_store(where, partial(show, rows=Rows(as_json), address=address))


def _verify(
    installed: Sequence[Adapter],
    as_json: bool,
    repair: bool,
    resume: bool,
    data: Path,
    index: str | None,
    blobs: str | None,
    local_cache: int,
    **options: Any,
) -> int:
    from .verifying import STATE, verify

    settings = _settings(installed) if repair else None
    state = None if index else data / STATE
    if settings and settings.offline:
        raise MirrorError("--repair sends requests to upstreams: run it without --offline")
    if resume and not state:
        raise MirrorError("--resume is for a store in a folder: leave it out")
    how = partial(verify, rows=Rows(as_json), progress=_progress(), state=state, resume=resume)

    async def work(store: Store) -> int:
        if not settings:
            return await how(store)
        from .repairing import repairing

        async with repairing(store, settings, installed) as mend:
            return await how(store, repair=mend)

    return _with_store({"data": data, "index": index, "blobs": blobs, "local_cache": local_cache}, work)


def _gc(as_json: bool, dry_run: bool, **where: Any) -> int:
    from .collecting import collect

    return _with_store(where, partial(collect, rows=Rows(as_json), dry_run=dry_run))


def _forget(address_or_pin: str | None, yes: bool, unused_for: str | None, keep_last: int | None, **where: Any) -> int:
    from . import maintenance, retention

    if unused_for is not None and keep_last is None:
        pin = address_or_pin.strip("/") if address_or_pin else None
        seconds = retention.span(unused_for)
        return _with_store(where, partial(retention.forget_unused, seconds=seconds, pin=pin, yes=yes))
    if address_or_pin is None or unused_for is not None:
        raise click.UsageError("name an address or a pin, and one of --unused-for and --keep-last at most")
    if keep_last is not None:
        return _with_store(
            where, partial(retention.forget_older, prefix=address_or_pin.strip("/"), keep=keep_last, yes=yes)
        )
    return _with_store(where, partial(maintenance.forget, address_or_pin=address_or_pin, yes=yes))


def _pages_password() -> int:
    from . import password

    return password.pages_password()


def _upgrade(index: str | None) -> int:
    if not index:
        raise MirrorError("name the PostgreSQL database with --index, postgresql://user@host/database")
    try:
        from httpcache.store import postgres_schema  # an embedded store needs none of what it imports
    except ImportError as error:
        raise MirrorError(f"--index needs {error.name}: install 'freezing-mirror[cluster]'") from error
    say("the index is up to date" if postgres_schema.upgrade(index) else "there was nothing to do")
    return 0


def _copy(source: str, target: str) -> int:
    import anyio

    from httpcache.store.opening import opened

    from . import copying

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
    say(copying.summary(outcome))
    return 1 if outcome.problems else 0


def _export_params() -> Iterator[click.Parameter]:
    file = click.Path(path_type=Path)
    text = "pins, and indexes with a date or without: tools-2024-01-02, pypi@2024-01-02, team"
    yield click.Argument(["selected"], metavar="PIN|INDEX@DATE...", nargs=-1, required=True, help=text)
    yield click.Argument(["path"], metavar="FILE", type=file)
    yield click.Option(["--since"], metavar="DATE", default="", help="leave out what was frozen or observed before")
    text = "leave out what this manifest or earlier archive has"
    yield click.Option(["--have"], metavar="MANIFEST", type=file, help=text)
    yield click.Option(["--sign"], metavar="KEY", type=file, help="sign with this key of OpenSSH")
    yield click.Option(["--manifest-only"], is_flag=True, help="write only what is here, for --have elsewhere")


def _export(
    installed: Sequence[Adapter],
    selected: Sequence[str],
    path: Path,
    since: str,
    have: Path | None,
    sign: Path | None,
    manifest_only: bool,
    **where: Any,
) -> int:
    from . import carrying

    wanted = carrying.Wanted(selected, path, since, have, sign, manifest_only)
    file, progress = click.get_current_context().obj.file, _progress()

    async def work(store: Store) -> int:
        found = await carrying.export(store, wanted=wanted, adapters=installed, file=file, progress=progress)
        say(found)
        return 0

    return _with_store(where, work)


def _import_params() -> Iterator[click.Parameter]:
    file = click.Path(path_type=Path)
    yield click.Argument(["path"], metavar="FILE", type=file, help="the archive, or - for standard input")
    text = "only if it is signed by one of these (the allowed signers of OpenSSH)"
    yield click.Option(["--trust"], metavar="FILE", type=file, help=text)


def _import(path: Path, trust: Path | None, **where: Any) -> int:
    from httpcache.store.layout import prepare

    from . import carrying

    location, progress = Location(**where), _progress()
    if location.is_embedded:
        prepare(location.data)

    async def work(store: Store) -> int:
        say(await carrying.take(store, path=path, trust=trust, progress=progress))
        return 0

    return _with_store(where, work)


def _progress() -> Progress:
    """Return a bar on a terminal, or lines in the log."""
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


def _warm_params() -> Iterator[click.Parameter]:
    file = click.Path(path_type=Path)
    yield click.Argument(["index"], help="an index such as 2024-01-02 or team/live, or a pin")
    text = "requirements or lock file: pylock.toml, uv.lock, poetry.lock, pdm.lock, Pipfile.lock, package-lock.json"
    yield click.Option(["-r", "--requirements"], metavar="FILE", type=file, multiple=True, help=text)
    yield click.Option(["--urls"], metavar="FILE", type=file, multiple=True, help="file of URLs, for a pin")
    text = "file of names of projects: their newest versions"
    yield click.Option(["--projects"], metavar="FILE", type=file, multiple=True, help=text)
    yield click.Option(
        ["--at"], metavar="DATE", help="the index (pypi, or the name of another) as of a date or instant"
    )
    yield click.Option(["--python", "pythons"], metavar="VERSION", multiple=True, help="for this version of Python")
    text = "for this platform, such as linux-x86_64"
    yield click.Option(["--platform", "platforms"], metavar="NAME", multiple=True, help=text)


def _warm(
    installed: Sequence[Adapter],
    index: str,
    requirements: Sequence[Path],
    urls: Sequence[Path],
    projects: Sequence[Path],
    at: str | None,
    pythons: tuple[str, ...],
    platforms: tuple[str, ...],
    mirror: str,
) -> int:
    from . import asking, warm

    if not (requirements or urls or projects):
        raise MirrorError("nothing to warm: name a requirements or lock file (-r), or a file of --urls or --projects")
    asker = asking.Asker(mirror)
    base = f"{asker.url}/{warm.address(index, at)}"
    builds = [Build(base, file, (), pythons, platforms) for file in requirements]
    builds += [Build(base, None, warm.names(file), pythons, platforms) for file in projects]
    wanted = chain(
        (Wish(f"{base}/{url}", url) for file in urls for url in warm.names(file)),
        *(warm.wishes(build, asker, installed) for build in builds),
    )
    outcome = warm.run(asker, wanted, _progress())
    for name, reason in outcome.unmet:
        print(f"httpcache: {one_line(name)}: {one_line(reason)}", file=sys.stderr)
    say(outcome.summary)
    return 1 if outcome.unmet else 0


def _tool(tool: Tool, mirror: str, **given: Any) -> int:
    from .asking import Asker

    return tool.run(Asker(mirror, os.environ), given)


def _added(
    command: Command,
    data: Path,
    index: str | None,
    blobs: str | None,
    local_cache: int,
    as_json: bool = False,
    **given: Any,
) -> int:
    async def work(store: Store) -> int:
        rows = Rows(as_json)
        with users.alone(data) if command.alone else nullcontext():
            for row in await command.run(store, given):
                rows.add(row.text, **row.values)
        return 0

    return _with_store({"data": data, "index": index, "blobs": blobs, "local_cache": local_cache}, work)


def _doctor(installed: Sequence[Adapter], as_json: bool, **options: Any) -> int:
    import anyio

    from . import doctor

    rows = Rows(as_json)
    try:
        settings = _settings(installed)
    except MirrorError as error:
        rows.add(f"problem  settings: {error.text}", check="settings", level="problem", finding=error.text, advice=None)
        return 1
    known = [*(setting.variable for setting in every(installed)), "HTTPCACHE_CONFIG"]
    return anyio.run(doctor.examine, settings, installed, dict(os.environ), known, rows)


def _completion(shell: str) -> int:
    from . import completing

    context = click.get_current_context()
    print(completing.script(context.find_root().command, shell))
    return 0


def _pins(installed: Sequence[Adapter], *completed: Any) -> list[Any]:
    from . import completing

    return completing.pins(installed, *completed)


def _pin(installed: Sequence[Adapter], mirror: str, as_json: bool) -> int:
    address = urlsplit(mirror)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise MirrorError("--mirror is not an http or https URL: use one like http://127.0.0.1:8080")
    from . import maintenance

    maintenance.pins(mirror.rstrip("/"), installed, Rows(as_json))
    return 0


def _with_store(where: dict[str, Any], work: Callable[[Store], Awaitable[int]]) -> int:
    """Run work on the store that the options name."""
    import anyio

    from httpcache.store.opening import opened

    location = Location(**where)
    try:
        is_there = not location.is_embedded or (location.data / "VERSION").exists()
    except OSError as error:
        raise StoreError(
            f"{location.data} cannot be read ({error.strerror}): run this command as the user that runs the server"
        ) from error
    if not is_there:
        raise StoreError(f"{location.data} is not the data folder of a mirror: name one with --data")

    async def on_store() -> int:
        with TemporaryDirectory(prefix="httpcache-") as folder:  # of a node: this command needs none of its cache
            async with opened(location if location.is_embedded else replace(location, data=Path(folder))) as store:
                return await work(store)

    return anyio.run(on_store)

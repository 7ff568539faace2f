"""The `httpcache` command: declares its commands with their options, and hands on to the modules that run them.

These import what they need when they run, so that commands that list something start quickly.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from httpcache import __version__
from httpcache.adapter import Adapter, Argument, adapters
from httpcache.errors import BadAddress, MirrorError, StoreError
from httpcache.settings import SERVER, STORE, declared

from . import auditing, keying, remote, starting, transfers, upkeep
from .in_force import FILE, every, find
from .options import GIVEN, Option


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
    add("serve", partial(starting.serve, installed), "run the mirror", *own)
    what_for = "record now what has changed at the registries since the last capture"
    add("capture", partial(starting.capture, installed), what_for, *mirror_options)
    listens = [option for option in own if option.setting.name in ("host", "port", "unix-socket", "tls-cert")]
    add("ready", starting.ready, "ask the server with these settings, on this machine, whether it is ready", *listens)
    as_json = click.Option(["--json", "as_json"], is_flag=True, help="print JSON: an object on each line")
    pins = partial(_pins, installed)
    what_for = "show the settings in force for serve, and where each comes from; no secrets"
    add("settings", partial(starting.show_settings, installed), what_for, as_json, *own)
    listed = click.Argument(["pin"], required=False, shell_complete=pins)
    add("ls", upkeep.ls, "list the pins, or what is frozen under one", *where, as_json, listed)
    what_for = "show for each pin: entries, bytes, bytes that other pins have too, hits, and the last use"
    add("stats", upkeep.stats, what_for, *where, as_json)
    label = click.Argument(["label"], metavar="[BUILD]", required=False)
    add("builds", upkeep.builds, "list the labelled builds, or what one took", *where, as_json, label)
    what_for = "write the bill of materials (SBOM) of a build, or compare what two builds took"
    add("sbom", partial(upkeep.sbom, installed), what_for, *mirror_options, as_json, *upkeep.sbom_params())
    what_for = "look at all that the mirror needs, and say what to do about problems"
    add("doctor", partial(starting.doctor, installed), what_for, as_json, *own)
    address = click.Argument(["address"], help="/<pin>/<url>, with or without the mirror's own address")
    add(
        "show",
        partial(upkeep.show, installed),
        "show everything that is known about a frozen address",
        *where,
        as_json,
        address,
    )
    repair = click.Option(["--repair"], is_flag=True, help="fetch again what is damaged; only the same bytes are taken")
    resume = click.Option(["--resume"], is_flag=True, help="go on where the last run was interrupted")
    what_for = "read every entry and every byte, and report what is damaged"
    add("verify", partial(upkeep.verify, installed), what_for, *mirror_options, as_json, repair, resume)
    dry_run = click.Option(["--dry-run"], is_flag=True, help="only list what would be removed")
    what_for = "show that no history was rewritten: every entry of a log is in the Merkle log, and nothing else"
    add("audit", partial(auditing.audit, installed), what_for, *where, as_json, *auditing.params())
    add("gc", upkeep.gc, "remove frozen files that no entry names any more", *where, as_json, dry_run)
    removed = click.Argument(["address_or_pin"], metavar="[ADDRESS|PIN]", required=False, shell_complete=pins)
    yes = click.Option(["--yes"], is_flag=True, help="do not ask for confirmation")
    unused = click.Option(["--unused-for"], metavar="SPAN", help="what was not used for 180d (days) or 26w (weeks)")
    keep = click.Option(["--keep-last"], metavar="N", type=click.IntRange(0), help="of PIN-<date>, all but the last N")
    what_for = "remove frozen copies; shows what will be lost and asks first"
    add("forget", upkeep.forget, what_for, *where, removed, unused, keep, yes)
    key = click.Group("key", help="make access keys, for serve --require-keys, list and revoke them")
    for name, run, text, params in keying.commands(as_json):
        key.add_command(_Command(installed, name, run, text, *where, *params))
    top.add_command(key)
    index = click.Group("index", help="look after the index of a store on several machines")
    text = "make the tables of the index, or bring them up to date"
    index.add_command(_Command(installed, "upgrade", upkeep.upgrade, text, Option(declared()["index"])))
    top.add_command(index)
    stores = [click.Argument([name], metavar="DIR|INDEX,BLOBS") for name in ("source", "target")]
    add("copy", transfers.copy, "copy a mirror to another store; what is there already is left out", *stores)
    what_for = "write pins and indexes to one file, for a mirror without a network"
    add("export", partial(transfers.export, installed), what_for, *where, *transfers.export_params(), as_json)
    what_for = "take in a file that was exported: all of it, or nothing"
    add("import", transfers.import_, what_for, *where, *transfers.import_params(), as_json)
    for command in (command for adapter in installed for command in adapter.commands):
        arguments = [*[as_json] * command.lists, *map(_argument, command.arguments)]
        add(command.name, partial(upkeep.added, command), command.help, *where, *arguments)
    mirror = click.Option(
        ["--mirror"],
        metavar="URL",
        envvar="HTTPCACHE_MIRROR",
        help="address of the mirror",
        default="http://127.0.0.1:8080",
        show_default=True,
    )
    what_for = "freeze beforehand what builds will ask for"
    add("warm", partial(remote.warm, installed), what_for, *remote.warm_params(), as_json, mirror)
    what_for = "write a lock file of what requirements resolve to at a date, or say whether a lock file is frozen here"
    add("lock", partial(remote.lock, installed), what_for, *remote.lock_params(), as_json, mirror)
    for tool in (tool for adapter in installed for tool in adapter.tools):
        add(tool.name, partial(remote.tool, tool), tool.help, *map(_argument, tool.arguments), mirror)
    add("pages-password", _pages_password, "make the hash of a password for --pages-password-hash")
    what_for = "print today's pin and the current instant, with lines for installers"
    add("pin", partial(remote.pin, installed), what_for, as_json, mirror)
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


def _pages_password() -> int:
    from . import password

    return password.pages_password()


def _completion(shell: str) -> int:
    from . import completing

    context = click.get_current_context()
    print(completing.script(context.find_root().command, shell))
    return 0


def _pins(installed: Sequence[Adapter], *completed: Any) -> list[Any]:
    from . import completing

    return completing.pins(installed, *completed)

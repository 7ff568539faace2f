"""Makes the hash of the pages' password for the settings."""

from __future__ import annotations

import sys

import click

from httpcache.errors import MirrorError
from httpcache.login import make_hash

SHORTEST = 8  # characters


def pages_password() -> int:
    """Print the hash of a password, which a terminal is asked for twice, else the first line of stdin is one."""
    if sys.stdin.isatty():
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        password = sys.stdin.readline().rstrip("\n")
    if len(password) < SHORTEST:
        raise MirrorError(f"the password is too short: use at least {SHORTEST} characters")
    click.echo(make_hash(password))
    return 0

"""The keys of the store: what each entry is found by, in one place. `<hash>` is a sha256 in hex.

r/<hash>             Record or Absence of a target
g/<hash>/<scope>     the right of a scope to read a private record
l/<hash>/<number>    the entries of a log, numbered from 0
h/<hash>             when a host was found to ignore ranges
o/<hash>             an origin that has asked for credentials
m/<name>             what belongs to the store itself, such as its secret
"""

from __future__ import annotations

from hashlib import sha256

RECORDS = "r/"
GRANTS = "g/"
SECRET = "m/secret"  # noqa: S105
"""What the scopes of credentials are keyed with."""


def record(name: str) -> str:
    """Return the key of a record or an absence; `name` is a sha256 in hex."""
    return f"{RECORDS}{name}"


def grant(target: str, digest: str, scope: str) -> str:
    """Return the key of the right of a scope to read the private copy with that digest of a target."""
    return f"{GRANTS}{target}/{digest}/{scope}"


def target_of(grant: str) -> str:
    """Return the target that a grant is about."""
    return grant.split("/")[1]


def log(name: str) -> str:
    """Return what the keys of a log begin with; a number follows."""
    return f"l/{_hash(name)}/"


def host(name: str) -> str:
    """Return the key of what is known of a file host (scheme, name and port)."""
    return f"h/{_hash(name)}"


def challenge(prefix: str, origin: str) -> str:
    """Return the key of the credentials that an origin has asked for under the pins with that prefix."""
    return f"o/{_hash(f'{prefix} {origin}')}"


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()

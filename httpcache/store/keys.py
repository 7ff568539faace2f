"""The keys of the store, all defined here. `<hash>` is a sha256 in hex.

r/<hash>             the Record or Absence of a target
g/<hash>/<scope>     the right of a scope to read a private record
l/<hash>/<number>    the entries of a log, numbered from 0 with ten digits
h/<hash>             when a host was found to ignore ranges
o/<hash>             the credentials that an origin has asked for
t/<level>/<number>   the hashes of a level of the Merkle log's tree (see audit/tree_log.py)
c/<hour>/<size>      a signed checkpoint of the Merkle log
m/<name>             data of the store itself, such as its secret
"""

from __future__ import annotations

from hashlib import sha256

RECORDS = "r/"
GRANTS = "g/"
LOGS = "l/"
SECRET = "m/secret"  # noqa: S105
"""The key of the secret that the scopes of credentials are derived with (a keyed hash)."""
LOG_KEY = "m/log-key"
"""The key of the private key that signs checkpoints of the Merkle log."""
TREE = "t/"
CHECKPOINTS = "c/"
OF_MERKLE_LOG = (LOG_KEY, TREE, CHECKPOINTS)
"""What belongs to the Merkle log of one store, and to no copy of it."""


def record(name: str) -> str:
    """Return the key of a record or absence; `name` is a sha256 in hex."""
    return f"{RECORDS}{name}"


def grant(target: str, digest: str, scope: str) -> str:
    """Return the key of the right of a scope to read the private copy of a target with this digest."""
    return f"{grants(target)}{digest}/{scope}"


def grants(target: str) -> str:
    """Return the prefix of the keys of all grants of a target."""
    return f"{GRANTS}{target}/"


def log(name: str) -> str:
    """Return the prefix of the keys of a log; a number follows it."""
    return f"{LOGS}{_hash(name)}/"


def numbered(log: str, number: int) -> str:
    """Return the key of a value of a log. Keys sort like their numbers."""
    return f"{log}{number:010}"


def tree_level(level: int) -> str:
    """Return the prefix of the keys of a level of the Merkle log's tree; a number follows it."""
    return f"{TREE}{level}/"


def host(name: str) -> str:
    """Return the key of what is known about a file host (scheme, name and port)."""
    return f"h/{_hash(name)}"


def challenge(prefix: str, origin: str) -> str:
    """Return the key of the credentials that an origin has asked for under the pins with that prefix."""
    return f"o/{_hash(f'{prefix} {origin}')}"


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()

"""Signatures of archives, by `ssh-keygen -Y` of OpenSSH: keys that people have, and their file of allowed signers."""

from __future__ import annotations

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from httpcache.errors import MirrorError

from .layout import Refused

NAMESPACE = "httpcache-export"
PATIENCE = 60  # seconds


def sign(text: bytes, key: Path) -> bytes:
    """Sign a text with a private key, or the agent's of a public one. Raises MirrorError."""
    ran = _keygen("-Y", "sign", "-n", NAMESPACE, "-f", str(key), stdin=text)
    if ran.returncode:
        raise MirrorError(f"the archive cannot be signed with {key}: {_said(ran)}")
    return ran.stdout


def check(text: bytes, signature: bytes, trusted: Path) -> str:
    """Return whose signature of a text this is.

    `trusted` is a file of allowed signers (ssh-keygen(1)): each line a name, then a public key. Raises Refused, also
    if none of them has signed it.
    """
    if not trusted.is_file():
        raise MirrorError(f"{trusted} is not a file: write a name and a public key on each line")
    with TemporaryDirectory(prefix="httpcache-") as folder:
        path = Path(folder) / "signature"
        path.write_bytes(signature)
        named = ("-n", NAMESPACE, "-s", str(path), "-f", str(trusted))
        found = _keygen("-Y", "find-principals", *named[2:])
        for name in found.stdout.decode(errors="replace").splitlines() if not found.returncode else ():
            if not _keygen("-Y", "verify", "-I", name, *named, stdin=text).returncode:
                return name
    raise Refused(f"the archive is not signed by anyone in {trusted}, or was changed since: ask for one that is")


def _keygen(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(  # noqa: S603
            ["ssh-keygen", *arguments],  # noqa: S607
            input=stdin,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
    except FileNotFoundError as error:
        raise MirrorError("signatures need ssh-keygen of OpenSSH 8.9 or later: install openssh-client") from error
    except subprocess.TimeoutExpired as error:
        raise MirrorError(
            f"ssh-keygen has not answered for {PATIENCE} s: is the key one that asks for a touch?"
        ) from error


def _said(ran: subprocess.CompletedProcess[bytes]) -> str:
    return ran.stderr.decode(errors="replace").strip().splitlines()[-1:][0] if ran.stderr.strip() else "no reason given"

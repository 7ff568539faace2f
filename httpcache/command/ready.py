"""Asks the server on this machine whether it is ready: the health check of the container, and of scripts."""

from __future__ import annotations

import socket
import ssl
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final

from httpcache.errors import MirrorError

SECONDS: Final = 4.0
"""How long an answer may take: a server that cannot read its store says so within two."""
ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing listens there, it is asked
"""An address to ask at for those that stand for all addresses."""


def ask(host: str, port: int, unix_socket: Path | None, tls_cert: Path | None) -> str:
    """Return what `/-/ready` answers where a server with these settings listens. No proxy is asked.

    The certificate is not checked: its name need not be that of this machine. Raises MirrorError if nothing answers, or
    the server is not ready.
    """
    where = str(unix_socket) if unix_socket else f"{host} port {port}"
    try:
        with closing(_open(host, port, unix_socket)) as plain:
            connection = HTTPConnection("localhost")
            connection.sock = _trusting().wrap_socket(plain) if tls_cert else plain
            connection.request("GET", "/-/ready")
            with closing(connection), connection.getresponse() as answer:
                status, text = answer.status, answer.read(1000).decode(errors="replace").strip()
    except (OSError, HTTPException) as error:
        raise MirrorError(f"no mirror answers at {where}: {error or type(error).__name__}") from error
    if status != 200:
        raise MirrorError(f"the mirror at {where} is not ready: {text}")
    return text


def _open(host: str, port: int, unix_socket: Path | None) -> socket.socket:
    if not unix_socket:
        return socket.create_connection((ANYWHERE.get(host, host), port), SECONDS)
    plain = socket.socket(socket.AF_UNIX)
    plain.settimeout(SECONDS)
    try:
        plain.connect(str(unix_socket))
    except OSError:
        plain.close()
        raise
    return plain


def _trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context

"""Where the server listens: a port or a Unix domain socket, with or without TLS; checked before it starts."""

from __future__ import annotations

import logging
import os
import socket
import ssl
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from httpcache.errors import MirrorError
from httpcache.settings import Settings

log = logging.getLogger("httpcache")

RENEWED_SECONDS: Final = 5.0
"""Seconds between two looks at the files of the certificate."""

LONGEST_PATH: Final = 107
"""Bytes in the path of a Unix socket (unix(7))."""


def address(settings: Settings) -> str:
    """Return the URL of the mirror, as far as it is known; that of a Unix socket has no port."""
    scheme = "https" if settings.tls_cert else "http"
    if settings.unix_socket:
        return f"{scheme}://localhost{settings.root_path}"
    host = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(settings.host, settings.host)  # noqa: S104
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{settings.port}{settings.root_path}"


def shown(settings: Settings) -> str:
    """Return where the server listens, for the operator."""
    return f"{address(settings)} at {settings.unix_socket}" if settings.unix_socket else address(settings)


def check(settings: Settings) -> None:
    """Raise MirrorError if the server cannot listen there, or the certificate cannot be used.

    granian would only say so in a worker's traceback.
    """
    if bool(settings.tls_cert) != bool(settings.tls_key):
        given, missing = ("--tls-cert", "--tls-key") if settings.tls_cert else ("--tls-key", "--tls-cert")
        raise MirrorError(f"{given} needs {missing}: TLS takes a certificate and its private key")
    if settings.tls_cert and settings.tls_key:
        _check_certificate(settings.tls_cert, settings.tls_key)
    if settings.unix_socket:
        _check_socket(settings.unix_socket)
    else:
        _check_port(settings.host, settings.port, "--port")
    if settings.admin_port is not None:
        if settings.admin_port == settings.port and not settings.unix_socket:
            raise MirrorError(f"--port and --admin-port are both {settings.port}: choose another port for one of them")
        _check_port(settings.admin_host, settings.admin_port, "--admin-port")


def _check_port(host: str, port: int, option: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise MirrorError(
            f"cannot listen on {host} port {port} ({error.strerror}): "
            f"stop the program that listens there, or choose another port with {option}"
        ) from error


def _check_socket(path: Path) -> None:
    """Remove a socket on which nobody listens any more. Raises MirrorError if anything else is there."""
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise MirrorError(f"cannot listen on {path}: its path is longer than {LONGEST_PATH} bytes")
    try:
        is_socket = stat.S_ISSOCK(path.lstat().st_mode)
    except FileNotFoundError:
        if not os.access(path.parent, os.W_OK):
            raise MirrorError(f"cannot listen on {path}: its folder is missing, or may not be written to") from None
        return
    except OSError as error:
        raise MirrorError(f"cannot listen on {path}: {error.strerror}") from error
    if not is_socket:
        raise MirrorError(f"cannot listen on {path}: it is a file: choose another path with --unix-socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        if probe.connect_ex(str(path)) == 0:
            raise MirrorError(f"cannot listen on {path}: a program listens there: stop it, or choose another path")
    path.unlink(missing_ok=True)


def _check_certificate(cert: Path, key: Path) -> None:
    for file in (cert, key):
        try:
            file.read_bytes()
        except OSError as error:
            raise MirrorError(f"the TLS file {file} cannot be read: {error.strerror}") from error
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or str(error)
        raise MirrorError(
            f"{cert} and {key} are no certificate and its private key without a password, in PEM ({reason})"
        ) from error


def _no_password() -> str:
    raise ValueError("the key has a password")


@contextmanager
def renewing(settings: Settings, renew: Callable[[], None]) -> Iterator[None]:
    """Call `renew`, in another thread, whenever the certificate on the disk is another one that can be used."""
    if not (settings.tls_cert and settings.tls_key):
        yield
        return
    ended = threading.Event()
    watching = threading.Thread(target=_watch, args=(settings.tls_cert, settings.tls_key, renew, ended), daemon=True)
    watching.start()
    try:
        yield
    finally:
        ended.set()


def _watch(cert: Path, key: Path, renew: Callable[[], None], ended: threading.Event) -> None:
    served = refused = _state(cert, key)
    while not ended.wait(RENEWED_SECONDS):
        found = _state(cert, key)
        if found in (served, refused):
            continue
        try:
            _check_certificate(cert, key)
        except MirrorError as error:
            refused = found
            log.error("the certificate stays the one from before: %s", error.text)
        else:
            served = refused = found
            log.info("the certificate is renewed")
            renew()


def _state(cert: Path, key: Path) -> tuple[tuple[int, int, int], ...]:
    """Return what differs once the files have changed, also if they were replaced."""
    found = []
    with suppress(OSError):
        for file in (cert, key):
            status = file.stat()
            found.append((status.st_ino, status.st_mtime_ns, status.st_size))
    return tuple(found)

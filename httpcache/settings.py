"""The settings of a mirror. Only the command reads them from options and the environment; the rest is handed them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from .credentials import DEFAULT_HEADERS

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


@dataclass(frozen=True)
class Settings:
    """What an operator can set.

    `data`: the folder of the store. `host`, `port`: where to listen. `workers`: processes. `root_path`: the prefix
    under which a proxy in front shows the mirror, "" or "/prefix"; `root_path_stripped`: the proxy takes it off
    requests, else the mirror does. `offline`: ask no upstream. `log_level`: a level of `logging`. `capture`: make
    passes of the capture beside the server, at 00:00 UTC; `capture_every`: so many seconds after the last one too.
    `adapters`: the options of the adapters by their names (`pypi_upstream`), those that were given. `environment`: the
    variables that a configuration may name, for secrets.

    The network: `allow_networks` and `allow_ports` are what addresses from requests may reach besides public addresses
    on ports 80 and 443. `proxy`: the URL of an HTTP proxy that upstreams are asked through. `ca_bundle`: a PEM file of
    the authorities to trust in place of the system's.

    Credentials: `credential_headers` are the request headers, besides `Authorization`, that carry some. `bindings`:
    prefixes of pins with the origins that credentials under them go to. `shared`: prefixes of pins whose private copies
    everybody may read. `respect_no_store`: what an upstream forbids to store is passed on and not frozen.

    For clients: `keep_headers` are headers of upstreams' answers, in lower case, that are kept besides the usual ones;
    `cors`: web pages of any origin may read what is public.

    Bounds on what an upstream may do: `max_file`, `max_page` (an index page, unpacked), `max_header` (the head of an
    answer, or of a client's request) in bytes; `max_redirects`; `connect_timeout`, `stall_timeout` (without a byte, or
    below `min_rate` bytes a second) and `deadline` (one whole download) in seconds; `max_connections` and
    `max_connections_per_origin` at once, for each process.

    Bounds on clients: `max_clients` connections for each process; `client_timeout` in seconds, for a client to send the
    head of a request, and to take some of its answer.
    """

    data: Path
    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 1
    root_path: str = ""
    root_path_stripped: bool = False
    offline: bool = False
    log_level: str = "info"
    capture: bool = False
    capture_every: float | None = None
    adapters: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    allow_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    allow_ports: tuple[int, ...] = ()
    proxy: str | None = field(default=None, repr=False)
    ca_bundle: Path | None = None
    credential_headers: tuple[str, ...] = DEFAULT_HEADERS
    bindings: tuple[tuple[str, str], ...] = ()
    shared: tuple[str, ...] = ()
    respect_no_store: bool = False
    keep_headers: tuple[str, ...] = ()
    cors: bool = False
    max_file: int = 32 * GIB
    max_page: int = 128 * MIB
    max_header: int = 64 * KIB
    max_redirects: int = 10
    connect_timeout: float = 10.0
    stall_timeout: float = 60.0
    min_rate: int = KIB
    deadline: float = 6 * 3600.0
    max_connections: int = 200
    max_connections_per_origin: int = 32
    max_clients: int = 4096
    client_timeout: float = 30.0

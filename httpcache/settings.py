"""The settings of a mirror. Only the command reads options and the environment; everything else receives a Settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from .credentials import DEFAULT_HEADERS
from .errors import MirrorError

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


@dataclass(frozen=True)
class Location:
    """Where a store is.

    `data`: the folder of the embedded store, or else of what this node has of it. `index`: the URL of a PostgreSQL
    database, and `blobs`: that of an object store or a shared folder; both None for the embedded store. `local_cache`:
    bytes of bodies that a node keeps in its folder.
    """

    data: Path
    index: str | None = None
    blobs: str | None = None
    local_cache: int = 10 * GIB

    def __post_init__(self) -> None:
        """Raise MirrorError if one of `index` and `blobs` is missing."""
        if bool(self.index) != bool(self.blobs):
            given, missing = ("--index", "--blobs") if self.index else ("--blobs", "--index")
            raise MirrorError(f"{given} needs {missing}: a store on several machines has an index and blobs")

    @property
    def is_embedded(self) -> bool:
        """Whether all of it is in the folder."""
        return not self.index


@dataclass(frozen=True)
class Settings:
    """What an operator can set.

    `data`, `index`, `blobs`, `local_cache`: where the store is, see Location. `host`, `port`: where to listen.
    `workers`: the number of processes. `root_path`: the prefix under which a reverse proxy serves the mirror, "" or
    "/prefix"; `root_path_stripped`: whether the proxy strips it from requests; if not, the mirror does. `offline`: send
    no requests to upstreams. `log_level`: a level of `logging`. `capture`: make capture passes while serving, at 00:00
    UTC; `capture_every`: also that many seconds after the last one. `adapters`: the adapters' options that were given,
    by name (`pypi_upstream`). `environment`: the variables that a configuration file may refer to, for secrets.

    Network: `allow_networks` and `allow_ports` are what URLs from requests may reach besides public addresses on ports
    80 and 443. `proxy`: the URL of an HTTP proxy for requests to upstreams. `ca_bundle`: a PEM file of certificate
    authorities to trust instead of the system's.

    Credentials: `credential_headers` are the request headers besides `Authorization` that carry credentials.
    `bindings`: pin prefixes with the origins that credentials under them are sent to. `shared`: pin prefixes whose
    private copies every client may read. `respect_no_store`: pass on responses with `no-store` or `private` without
    freezing them.

    For clients: `redirect_above`: send them to the object store for public files of at least so many bytes that this
    node does not have, None for never; `keep_headers` are upstream response headers, in lower case, to keep besides the
    usual ones; `cors`: let web pages of any origin read what is public.

    Bounds on upstreams: `max_file`, `max_page` (an index page, decompressed) and `max_header` (the head of a response,
    or of a client's request) in bytes; `max_redirects`; `connect_timeout`, `stall_timeout` (without a byte, or below
    `min_rate` bytes per second) and `deadline` (one whole download) in seconds; `max_connections` and
    `max_connections_per_origin` at once, per process.

    Bounds on clients: `max_clients` connections per process; `client_timeout` in seconds, for a client to send the head
    of a request, and to accept more of a response.
    """

    data: Path
    index: str | None = field(default=None, repr=False)
    blobs: str | None = None
    local_cache: int = 10 * GIB
    redirect_above: int | None = None
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

    @property
    def location(self) -> Location:
        """Where the store is. Raises MirrorError."""
        return Location(self.data, self.index, self.blobs, self.local_cache)

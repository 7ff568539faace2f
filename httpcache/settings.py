"""The settings of a mirror: each is declared once, with its kind, default and help. See docs/settings.md.

Only the command reads the file, the environment and options; everything else receives a Settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from . import kinds
from .credentials import DEFAULT_HEADERS
from .errors import MirrorError
from .kinds import Kind
from .settings_file import SettingsFile
from .units import DAY

T = TypeVar("T")

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
TEXT, JSON = "text", "json"
OFF, ON, PASSWORD = "off", "on", "password"
LOOPBACK = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True)
class Section:
    """Settings about one thing. `readers` says which commands take them: STORE, UPSTREAMS or SERVER."""

    title: str
    readers: str


STORE, UPSTREAMS, SERVER = "every command that opens the store", "serve and capture", "serve"

PLACE = Section("The store", STORE)
SERVING = Section("Serving", SERVER)
CAPTURE = Section("Capture beside the server", SERVER)
CLIENTS = Section("Bounds on clients", SERVER)
GENERAL = Section("In general", UPSTREAMS)
NETWORK = Section("The network", UPSTREAMS)
CREDENTIALS = Section("Credentials and privacy", UPSTREAMS)
BOUNDS = Section("Bounds on upstreams", UPSTREAMS)


@dataclass(frozen=True)
class Setting(Generic[T]):
    """Something that an operator can set: `max-file` in the file, HTTPCACHE_MAX_FILE, or `--max-file`.

    `default` is its value if it is not set, None if there is none; `usual` describes that in words. `is_list`: it has
    any number of values of this kind, and those of the default, the file, the variable and the options add up.
    `is_secret`: it can contain a password, and is shown without. `is_fixed`: a running server cannot change it.
    """

    name: str
    kind: Kind[Any]
    help: str
    section: Section
    default: T
    usual: str = ""
    is_list: bool = False
    is_secret: bool = False
    is_fixed: bool = False

    @property
    def option(self) -> str:
        """The option, `--max-file`."""
        return f"--{self.name}"

    @property
    def variable(self) -> str:
        """The environment variable, `HTTPCACHE_MAX_FILE`."""
        return f"HTTPCACHE_{self.name.upper().replace('-', '_')}"

    @property
    def description(self) -> str:
        """The help, with the unit of a size."""
        return f"{self.help}, in bytes" if self.kind.unit == "bytes" and "bytes" not in self.help else self.help

    @property
    def usual_text(self) -> str:
        """The default in words, "" for none."""
        return self.usual or self.write(self.default)

    def write(self, value: Any) -> str:
        """Return a value as an operator would write it, "" for None."""
        if value is None:
            return ""
        return ", ".join(map(self.kind.write, value)) if self.is_list else self.kind.write(value)

    def of(self, settings: Settings) -> T:
        """Return the value of a setting that an adapter declares."""
        return cast(T, settings.adapters.get(self.name, self.default))


def setting(default: T, kind: Kind[Any], section: Section, help: str, name: str = "", **more: Any) -> T:  # noqa: A002
    """Declare a field of Settings. Its name is that of the field, with hyphens, unless another is given."""
    declared = Setting(name, kind, help, section, default, **more)
    return field(default=default, repr=not declared.is_secret, metadata={"setting": declared})


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
    """What an operator can set. Sizes are in bytes, times in seconds; connections and clients are per process.

    Besides: `adapters`, the values of the adapters' settings by name (see `Setting.of`); `file`, the settings file,
    whose tables the adapters read; `environment`, the variables that these may refer to, for secrets.
    """

    data: Path = setting(
        Path("data"), kinds.FOLDER, PLACE, "folder of the store, or of what a node keeps of it", is_fixed=True
    )
    index: str | None = setting(
        None, kinds.text("URL"), PLACE, "PostgreSQL database of a store on several machines, postgresql://...",
        is_secret=True, is_fixed=True,
    )  # fmt: skip
    blobs: str | None = setting(
        None, kinds.text("URL"), PLACE,
        "object store of it: s3://, gs:// or az://bucket/prefix, or file:///folder", is_fixed=True,
    )  # fmt: skip
    local_cache: int = setting(
        10 * GIB, kinds.SIZE, PLACE, "bytes of frozen files that a node keeps on its own disk", is_fixed=True
    )

    host: str = setting("127.0.0.1", kinds.text("HOST"), SERVING, "address to listen on", is_fixed=True)
    port: int = setting(8080, kinds.PORT, SERVING, "port to listen on", is_fixed=True)
    unix_socket: Path | None = setting(
        None, kinds.FILE, SERVING, "Unix domain socket to listen on, instead of host and port", is_fixed=True
    )
    tls_cert: Path | None = setting(
        None, kinds.FILE, SERVING, "PEM file with a certificate and its chain: serve https, also by HTTP/2",
        is_fixed=True,
    )  # fmt: skip
    tls_key: Path | None = setting(None, kinds.FILE, SERVING, "PEM file with its private key", is_fixed=True)
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = setting(
        LOOPBACK, kinds.NETWORK, SERVING, "network of reverse proxies whose X-Forwarded-For and -Proto are believed",
        "trusted-proxy", is_list=True,
    )  # fmt: skip
    workers: int = setting(1, kinds.COUNT, SERVING, "number of worker processes", is_fixed=True)
    admin_port: int | None = setting(
        None, kinds.PORT, SERVING, "another port for the pages and metrics below /-/, which --port then does not have",
        is_fixed=True,
    )  # fmt: skip
    admin_host: str = setting(
        "127.0.0.1", kinds.text("HOST"), SERVING, "address to listen on for --admin-port", is_fixed=True
    )
    root_path: str = setting("", kinds.PREFIX, SERVING, "path under which a reverse proxy serves the mirror")
    root_path_stripped: bool = setting(
        False, kinds.FLAG, SERVING, "the reverse proxy strips the root path from requests (else the mirror does)"
    )
    redirect_above: int | None = setting(
        None, kinds.SIZE, SERVING,
        "redirect to the object store for public files of this size that the node does not have",
    )  # fmt: skip
    keep_builds: float = setting(
        365 * DAY, kinds.SPAN, SERVING, "time for which what a labelled build took is kept after its last request"
    )
    cors: bool = setting(False, kinds.FLAG, SERVING, "let web pages of any origin read what is public (CORS)")
    access_log: bool = setting(
        False, kinds.FLAG, SERVING, "log each request, with an id that it may bring as X-Request-ID"
    )
    traces: bool = setting(
        False, kinds.FLAG, SERVING, "send OpenTelemetry traces to where OTEL_EXPORTER_OTLP_ENDPOINT says", is_fixed=True
    )
    pages: str = setting(
        ON, kinds.choice("WHETHER", (OFF, ON, PASSWORD)), SERVING,
        "the pages for people below /-/: off, on, or password: they and the metrics are for who has logged in",
    )  # fmt: skip
    pages_password_hash: str | None = setting(
        None, kinds.PASSWORD_HASH, SERVING, "what `httpcache pages-password` prints", is_secret=True
    )

    require_keys: bool = setting(
        False, kinds.FLAG, SERVING, "answer only who has an access key (httpcache key add), but for health checks"
    )

    capture: bool = setting(
        False, kinds.FLAG, CAPTURE, "capture every day at 00:00 UTC, and at the start if a day was missed",
    )  # fmt: skip
    capture_every: float | None = setting(
        None, kinds.MINUTES, CAPTURE, "like --capture, and also this many minutes after the last one"
    )

    max_clients: int = setting(4096, kinds.COUNT, CLIENTS, "client connections at once, per process", is_fixed=True)
    client_timeout: float = setting(
        30.0, kinds.SECONDS, CLIENTS, "time for a client to send its request, or to read some data", is_fixed=True
    )

    offline: bool = setting(False, kinds.FLAG, GENERAL, "send no requests to upstreams")
    log_format: str = setting(
        TEXT, kinds.choice("FORM", (TEXT, JSON)), GENERAL, "form of the log: text, or json, an object in each line"
    )
    log_level: str = setting(
        "info", kinds.choice("LEVEL", LEVELS), GENERAL, f"lowest level to log: {', '.join(LEVELS)}"
    )

    allow_networks: tuple[IPv4Network | IPv6Network, ...] = setting(
        (), kinds.NETWORK, NETWORK, "non-public network that may be fetched from (SSRF)", "allow-network", is_list=True
    )
    allow_ports: tuple[int, ...] = setting(
        (), kinds.PORT, NETWORK, "port of public addresses that may be fetched from, besides 80 and 443", "allow-port",
        is_list=True,
    )  # fmt: skip
    proxy: str | None = setting(
        None, kinds.text("URL"), NETWORK,
        "HTTP proxy for requests to upstreams, http://[user:password@]host:port", is_secret=True,
    )  # fmt: skip
    ca_bundle: Path | None = setting(
        None, kinds.FILE, NETWORK, "PEM file of certificate authorities to trust instead of the system's"
    )

    credential_headers: tuple[str, ...] = setting(
        DEFAULT_HEADERS, kinds.HEADER, CREDENTIALS, "another request header that carries credentials",
        "credential-header", is_list=True,
    )  # fmt: skip
    bindings: tuple[tuple[str, str], ...] = setting(
        (), kinds.BINDING, CREDENTIALS, "send credentials under these pins to this origin only", "bind", is_list=True
    )
    shared: tuple[str, ...] = setting(
        (), kinds.PIN, CREDENTIALS, "let every client read the private copies under these pins", "share", is_list=True
    )
    respect_no_store: bool = setting(
        False, kinds.FLAG, CREDENTIALS, "do not freeze responses that an upstream marks `no-store` or `private`"
    )
    keep_headers: tuple[str, ...] = setting(
        (), kinds.KEPT_HEADER, CREDENTIALS, "another upstream response header to keep", "keep-header", is_list=True
    )

    max_file: int = setting(32 * GIB, kinds.SIZE, BOUNDS, "largest file")
    max_page: int = setting(128 * MIB, kinds.SIZE, BOUNDS, "largest index page, decompressed")
    max_header: int = setting(
        64 * KIB, kinds.HEADER_SIZE, BOUNDS, "largest head of a request or an upstream's response", is_fixed=True
    )
    max_redirects: int = setting(10, kinds.COUNT, BOUNDS, "number of redirects to follow")
    connect_timeout: float = setting(10.0, kinds.SECONDS, BOUNDS, "time to connect to an upstream")
    stall_timeout: float = setting(
        60.0, kinds.SECONDS, BOUNDS, "time an upstream may send nothing, or less than --min-rate"
    )
    min_rate: int = setting(KIB, kinds.SIZE, BOUNDS, "lowest rate of an upstream, in bytes per second")
    deadline: float = setting(6 * 3600.0, kinds.SECONDS, BOUNDS, "time for one whole download")
    max_connections: int = setting(
        200, kinds.COUNT, BOUNDS, "requests to upstreams at once, per process", is_fixed=True
    )
    max_connections_per_origin: int = setting(32, kinds.COUNT, BOUNDS, "requests to one origin at once, per process")

    adapters: Mapping[str, Any] = field(default_factory=dict, repr=False)
    file: SettingsFile = field(default_factory=SettingsFile, repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def location(self) -> Location:
        """Where the store is. Raises MirrorError."""
        return Location(self.data, self.index, self.blobs, self.local_cache)


@cache
def declared() -> Mapping[str, Setting[Any]]:
    """Return the mirror's own settings, by field of Settings."""
    return {
        each.name: replace(found, name=found.name or each.name.replace("_", "-"))
        for each in fields(Settings)
        if (found := each.metadata.get("setting"))
    }

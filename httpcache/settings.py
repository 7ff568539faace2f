"""The settings of a mirror. Only the command reads them from options and the environment; the rest is handed them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from .credentials import DEFAULT_HEADERS


@dataclass(frozen=True)
class Settings:
    """What an operator can set.

    `data`: the folder of the store. `host`, `port`: where to listen. `workers`: processes. `root_path`: the prefix
    under which a proxy in front shows the mirror, "" or "/prefix". `allow_networks`: networks that addresses from
    requests may reach besides the public ones. `offline`: ask no upstream. `credential_headers`: the request headers,
    besides `Authorization`, that carry credentials. `log_level`: a level of `logging`. `adapters`: the options of the
    adapters by their names (`pypi_upstream`), those that were given.
    """

    data: Path
    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 1
    root_path: str = ""
    allow_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    offline: bool = False
    credential_headers: tuple[str, ...] = DEFAULT_HEADERS
    log_level: str = "info"
    adapters: Mapping[str, str] = field(default_factory=dict)

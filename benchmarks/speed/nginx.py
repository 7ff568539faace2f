"""nginx in several roles, a process tree each: an upstream, a static server, a caching mirror, a balancer before nodes.

All have what Debian's configuration has (sendfile, tcp_nopush), as many workers as this mirror, connections that stay
open, and, but for the upstream, no access log. The static one is the limit: the kernel sends files that nobody has to
look into. The caching one is what a mirror made of nginx alone has to be: `proxy_cache`, and `sub_filter` that makes
the links on pages lead through it. nginx filters what it sends and not what it keeps, so it does so at each answer.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from .pages import JSON
from .process import Child, Unavailable, free_port

_FORMS: Final = f"""
    map $http_accept $form {{ default html; "~application/vnd\\.pypi\\.simple\\.v1\\+json" json; }}
    types {{ {JSON} json; text/html html; }}
    default_type application/octet-stream;
"""
_LOG: Final = """
    log_format line '$request_uri $status';
    access_log {log} line;
"""
_HELD: Final = "gzip_static on; gzip_vary on; add_header Cache-Control 'max-age={}, public';"


def executable() -> str:
    """The path of nginx, which is not always in a user's PATH. Raises Unavailable where there is none."""
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if not found:
        raise Unavailable("nginx is not installed: apt-get install nginx-light")
    return found


class Nginx:
    """An nginx on a port of its own, that is ended with `stack`; it can be run in one of these roles."""

    def __init__(self, folder: Path, workers: int, stack: ExitStack) -> None:
        self.folder = folder
        self._stack = stack
        self.port = free_port()
        self._workers = workers

    @property
    def url(self) -> str:
        """The origin, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def requests(self) -> list[str]:
        """The addresses that were asked for, as the access log has them."""
        return [address for address, _ in self.answers]

    @property
    def answers(self) -> list[tuple[str, int]]:
        """The addresses with the status that each was answered with."""
        lines = (self.folder / "access").read_text().splitlines()
        return [(address, int(status)) for address, _, status in (line.partition(" ") for line in lines)]

    def upstream(self, replica: Path) -> Child:
        """Run the registry that all mirrors mirror: with an access log, where its requests are counted."""
        return self._start(_LOG.format(log=self.folder / "access") + _FORMS, _files(replica, "upstream"))

    def compressed(self, replica: Path) -> Child:
        """Run the same with what PyPI's answers have besides: gzip, where it is asked for, and how long they hold."""
        http = _LOG.format(log=self.folder / "access") + _FORMS
        return self._start(http, _files(replica, "upstream", _HELD.format(600), _HELD.format(365_000_000)))

    def static(self, replica: Path) -> Child:
        """Run the limit: the same files, with no log."""
        return self._start("access_log off;" + _FORMS, _files(replica, "static"))

    def cache(self, upstream: str) -> Child:
        """Run the mirror made of nginx alone."""
        http = f"""
    access_log off;
    proxy_cache_path {self.folder}/cache levels=1:2 keys_zone=mirror:64m inactive=30d use_temp_path=off;
    upstream registry {{ server {upstream.removeprefix("http://")}; keepalive 32; }}
"""
        server = f"""
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Accept-Encoding "";
        proxy_cache mirror;
        proxy_cache_valid 200 30d;
        proxy_cache_lock on;
        location / {{ proxy_pass http://registry; }}
        location /simple/ {{
            proxy_pass http://registry;
            sub_filter_types {JSON};
            sub_filter_once off;
            sub_filter {upstream}/packages/ {self.url}/packages/;
        }}
"""
        return self._start(http, server)

    def balance(self, origins: Sequence[str]) -> Child:
        """Run what stands before the nodes of a mirror: the same address goes to the same one."""
        servers = " ".join(f"server {origin.removeprefix('http://')};" for origin in origins)
        http = f"""
    access_log off;
    upstream mirror {{ hash $request_uri consistent; {servers} keepalive 64; }}
"""
        server = """
        merge_slashes off;
        proxy_http_version 1.1;
        proxy_set_header Host $http_host;
        proxy_set_header Connection "";
        proxy_buffering off;
        location / { proxy_pass http://mirror; }
"""
        return self._start(http, server)

    def _start(self, http: str, server: str) -> Child:
        self.folder.mkdir(parents=True)
        temporary = "".join(
            f"    {kind}_temp_path {self.folder}/temporary-{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        configuration = self.folder / "nginx.conf"
        configuration.write_text(f"""{"user root;" if os.geteuid() == 0 else ""}
daemon off;
worker_processes {self._workers};
pid {self.folder}/pid;
events {{ worker_connections 2048; }}
http {{
{temporary}
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    absolute_redirect off;
    {http}
    server {{
        listen 127.0.0.1:{self.port};
        {server}
    }}
}}
""")
        command: list[str | Path] = [executable(), "-p", self.folder, "-c", configuration, "-e", self.folder / "log"]
        child = Child(command, self.folder, self._stack)
        child.wait_until_ready(f"{self.url}/simple/")
        return child


def _files(replica: Path, site: str, of_pages: str = "", of_files: str = "") -> str:
    """The locations of a site's pages and of all files, with further directives of each."""
    return f"""
        location /simple/ {{ root {replica}/pages/{site}; index index.$form; add_header Vary Accept; {of_pages} }}
        location / {{ root {replica}; {of_files} }}
"""

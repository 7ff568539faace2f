"""The prefix under which a proxy shows the mirror: taken off once, by one of the two, and every name taken literally.

So what the proxy refuses by its address is not to be had under another one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from httpcache.kinds import PREFIX
from tests.support import http
from tests.support.command import run, told
from tests.support.config import configured, table
from tests.support.index import html_page
from tests.support.mirror import Mirror, free_port
from tests.support.nginx import EXAMPLE, NGINX, nginx
from tests.support.rawupstream import get
from tests.support.upstream import Response, Upstream

MODES = {"the mirror takes it off": [], "the proxy takes it off": ["--root-path-stripped"]}

# Ways to write /mirror/internal/live/foo/, which the proxy refuses
ATTACKS = [
    "/mirror/mirror/internal/live/foo/", "/mirror/mirror/mirror/internal/live/foo/", "/mirror/%69nternal/live/foo/",
    "/mirror/mirror/%69nternal/live/foo/", "/mirror//internal/live/foo/", "/mirror/./internal/live/foo/",
    "/mirror/x/../internal/live/foo/", "/mirror/x/%2e%2e/internal/live/foo/", "/%6dirror/internal/live/foo/",
    "/mirror/%6dirror/internal/live/foo/", "//mirror/internal/live/foo/", "/mirror/INTERNAL/live/foo/",
    "/mirror/internal%2Flive/foo/", "/mirror%2Finternal/live/foo/", "/mirror/%2Finternal/live/foo/",
    "/mirror/internal;x/live/foo/", "/mirror/%2569nternal/live/foo/", "/x/mirror/internal/live/foo/",
    "/mirror/internal%00/live/foo/", "/mirror/%5cinternal/live/foo/",
    "/mirror/internal/%6cive/foo/", "/mirror/internal/%66iles/foo/x/y.whl", "/mirror/%6cive/foo/",
    "/mirror/%67roup/live/foo/",
]  # fmt: skip


@pytest.fixture
def registries(upstreams: Callable[..., Upstream]) -> tuple[Upstream, Upstream]:
    """A private registry and the one behind the dates; both have `foo`."""
    found = upstreams(), upstreams()
    for each in found:
        each.pages["/simple/foo/"] = html_page("foo-1.tar.gz")
    return found


@contextmanager
def running(registries: tuple[Upstream, Upstream], folder: Path, *options: str) -> Iterator[Mirror]:
    private, public = registries
    config = table("registry", name="internal", index=f"{private.url}/simple/")
    config += table("group", name="group", registries=["internal", "pypi"])
    with configured(folder, config, f"{public.url}/simple/", "--root-path", "/mirror", *options) as server:
        yield server


@pytest.mark.parametrize("root", ["/a b", "/a//b", "/..", "/a/./b", "/%6d", "/a?b", "/a#b", '/a"b'])
def test_a_root_path_that_is_none(root: str) -> None:
    with pytest.raises(ValueError, match="is not a valid prefix"):
        PREFIX.read(root)


@pytest.mark.parametrize(("root", "read"), [("", ""), ("/", ""), ("/a", "/a"), ("/a-b/v1.2/", "/a-b/v1.2")])
def test_root_paths(root: str, read: str) -> None:
    assert PREFIX.read(root) == read


def test_a_stripped_prefix_needs_a_name(tmp_path: Path) -> None:
    text = told(run("serve", "--port", f"{free_port()}", "--data", tmp_path / "d", "--root-path-stripped"))
    assert "--root-path" in text


def example() -> str:
    """The server of the example, in the clear, and with a registry that is refused."""
    text = EXAMPLE.read_text()
    lines = [line for line in text.splitlines() if "ssl_certificate" not in line]
    text = "\n".join(lines).replace("listen 443 ssl http2;", "listen 127.0.0.1:{port};")
    deny = "location /mirror/internal/ { deny all; }\n"
    return text.replace("    location /mirror/ {", f"    {deny}    location /mirror/ {{", 1)


@pytest.mark.parametrize("mode", MODES)
def test_no_name_is_read_in_another_spelling(
    mode: str, registries: tuple[Upstream, Upstream], upstream: Upstream, tmp_path: Path
) -> None:
    """Straight to the mirror, byte by byte, and behind an nginx that refuses a registry."""
    upstream.otherwise = lambda request: Response(request.target.encode())
    stripped = MODES[mode]
    with running(registries, tmp_path / "mirror", *stripped) as server:
        front = server.url + ("" if stripped else "/mirror")
        for path in ATTACKS:
            got = get(server.url + (path.removeprefix("/mirror") if stripped and path.startswith("/mirror/") else path))
            assert got.status in (400, 404), (path, got.lines)
            assert len(got.text) > 20
        if not stripped:
            check_what_is_not_below(server, upstream)
        assert [request.target for each in registries for request in each.requests] == []
        if NGINX is None:
            pytest.skip("nginx is not installed")
        check_nginx(registries, upstream, server, tmp_path, stripped=bool(stripped))
        assert http.get(f"{front}/internal/live/foo/", headers={"Accept": "text/html"}).status_code == 200


def check_what_is_not_below(server: Mirror, upstream: Upstream) -> None:
    """It is not there, and the text says where it is; only probes of the machine may ask without the prefix."""
    for path in ("/", "/mirror", f"/pin/{upstream.url}/x", "/mirrors/", "/live/foo/", "/-/metrics", "/Mirror/"):
        got = http.get(server.url + path)
        assert got.status_code == 404
        assert "/mirror/" in got.text
    below = [f"/mirror{path}" for path in ("/", "/-/health", "/-/ready", f"/pin/{upstream.url}/x")]
    for path in ("/-/health", "/-/ready", *below):
        assert http.get(server.url + path).status_code == 200
    assert f"{server.url}/mirror/" in http.get(f"{server.url}/mirror/").text


def check_nginx(
    registries: tuple[Upstream, Upstream], upstream: Upstream, server: Mirror, folder: Path, *, stripped: bool
) -> None:
    """The private registry is reached in no spelling; and the rest is, in the spelling of the client."""
    block = example()
    if stripped:
        by_path = block.replace("proxy_pass http://127.0.0.1:8080;", "proxy_pass http://127.0.0.1:8080/;")
        with nginx(folder, server, by_path) as front:  # the prefix is gone before the mirror sees the address
            for path in ["/mirror/internal/live/foo/", *(path for path in ATTACKS if "nternal" in path)]:
                assert get(front + path).status in (400, 403, 404), path
        block = block.replace("proxy_pass http://127.0.0.1:8080;", "proxy_pass http://127.0.0.1:8080$below;")
        block = 'map $request_uri $below { "~^/mirror(?<rest>/.*)$" $rest; default /; }\n' + block
    with nginx(folder, server, block) as front:
        for path in ["/mirror/internal/live/foo/", *ATTACKS]:
            assert get(front + path).status in (400, 403, 404), path
        assert [request.target for request in registries[0].requests] == []
        target = f"{upstream.url}/a+b%2Bc/%7E//d?e=%2F+[]"
        assert get(f"{front}/mirror/pin-2024-01-02/{target}").text == target.removeprefix(upstream.url)
        assert get(f"{front}/mirror/group/live/foo/", Accept="text/html").status == 200

"""Packuments behind a pin over HTTP: their links, their two forms, and their tarballs' digests."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from npm_adapter import packument
from tests.support.mirror import Mirror
from tests.support.npm import ABBREVIATED, ASKED, NpmRegistry, integrity
from tests.support.upstream import Response, Upstream


@pytest.fixture
def registry(upstream: Upstream) -> NpmRegistry:
    """One package with one version, `left`."""
    found = NpmRegistry(upstream)
    found.publish("left", "1.0.0", scripts={"install": "true"})
    return found


def get(url: str, accept: str | None = ASKED, **headers: str) -> httpx.Response:
    """The answer; without `Accept` if that is None."""
    with httpx.Client(trust_env=False, timeout=60) as client:
        del client.headers["accept"]
        return client.get(url, headers=headers | ({"accept": accept} if accept else {}))


def links(answer: httpx.Response) -> list[str]:
    """The addresses of the tarballs of a packument."""
    answer.raise_for_status()
    return [manifest["dist"]["tarball"] for manifest in answer.json()["versions"].values()]


EVERY_ACCEPT = [ASKED, "application/json", "*/*", "text/html,*/*;q=0.8", None, "application/json, text/plain, */*"]


@pytest.mark.parametrize("first", EVERY_ACCEPT)
def test_every_client_gets_links_that_stay_in_the_pin(
    first: str | None, registry: NpmRegistry, server: Mirror, pin: str
) -> None:
    """Whoever came first: one moment is frozen, and both forms are made of it."""
    address = server.pin(pin, registry.url + "left")
    tarball = server.pin(pin, registry.url + "left/-/left-1.0.0.tgz")
    assert links(get(address, first)) == [tarball]
    registry.publish("left", "2.0.0")
    for accept in EVERY_ACCEPT:
        assert links(get(address, accept)) == [tarball]
    assert registry.upstream.count("/npm/left") == 1


def test_the_short_form_has_what_an_installer_needs(registry: NpmRegistry, server: Mirror, pin: str) -> None:
    address = server.pin(pin, registry.url + "left")
    short, whole = get(address), get(address, "application/json")
    assert short.headers["content-type"] == ABBREVIATED
    assert set(short.json()) == {"name", "dist-tags", "modified", "versions"}
    manifest = short.json()["versions"]["1.0.0"]
    assert set(manifest) == {"name", "version", "dist", "hasInstallScript"}
    assert whole.headers["content-type"] == "application/json"
    assert whole.json()["readme"] == "# Long"


def test_the_upstreams_own_bytes_are_to_be_had(registry: NpmRegistry, server: Mirror, pin: str) -> None:
    original = json.dumps(registry.packuments["left"]).encode()
    get(server.pin(pin, registry.url + "left")).raise_for_status()
    assert get(server.pin(pin, "raw/" + registry.url + "left"), "*/*").content == original


@pytest.mark.parametrize("accept", [ASKED, "*/*"])
def test_links_have_the_host_that_was_asked_and_are_for_nobody_else(
    accept: str, registry: NpmRegistry, server: Mirror, pin: str
) -> None:
    address = server.pin(pin, registry.url + "left")
    for host in ("one.test:8080", "two.test", "one.test:8080"):
        answer = get(address, accept, host=host)
        assert links(answer)[0].startswith(f"http://{host}/{pin}/")
        assert answer.headers["cache-control"].startswith("private")
    answer = get(address, accept, host="three.test", **{"x-forwarded-proto": "https"})
    assert links(answer)[0].startswith(f"https://three.test/{pin}/")
    assert get(address, accept, host='a"b/c').status_code == 400


WRONG = [
    ({"integrity": integrity(b"other")}, False),
    ({"integrity": "", "shasum": hashlib.sha1(b"other").hexdigest()}, False),
    ({"integrity": integrity(b"other", "sha1")}, False),
    ({"integrity": f"{integrity(b'it', 'sha1')} {integrity(b'other')}"}, False),  # the strongest alone counts
    ({"integrity": f"{integrity(b'other')} {integrity(b'it')}"}, True),  # of two, one is right
    ({"integrity": integrity(b"it"), "shasum": "0" * 40}, True),
    ({"integrity": integrity(b"it", "sha384") + "?foo"}, True),
    ({"integrity": "sha512-nonsense md5-AAAA", "shasum": hashlib.sha1(b"it").hexdigest().upper()}, True),
    ({"integrity": ["list"], "shasum": 12}, True),  # nothing is announced
    ({"integrity": None, "shasum": None}, True),
]


@pytest.mark.parametrize(("dist", "right"), WRONG)
def test_a_tarball_is_what_its_packument_announced(
    dist: dict[str, Any], right: bool, registry: NpmRegistry, server: Mirror, pin: str
) -> None:
    registry.packuments["left"]["versions"]["1.0.0"]["dist"] |= dist
    registry.upstream.pages["/npm/left/-/left-1.0.0.tgz"] = b"it"
    (link,) = links(get(server.pin(pin, registry.url + "left")))
    answer = get(link, "*/*")
    if right:
        assert answer.content == b"it"
    else:
        assert answer.status_code == 502
        assert "was announced" in answer.text
        registry.upstream.pages["/npm/left/-/left-1.0.0.tgz"] = b"other"
        assert get(link, "*/*").content == b"other"


@pytest.mark.parametrize(
    ("link", "leads"),
    [
        ("{files}/left-1.0.0.tgz", "{files}/left-1.0.0.tgz"),
        ("{files}/download/left/1.0.0/5f3a", "{files}/download/left/1.0.0/5f3a"),
        ("{files}/left-1.0.0.tgz?sig=a%2Fb+c", "{files}/left-1.0.0.tgz?sig=a%2Fb+c"),
        ("left/-/left-1.0.0.tgz", "{registry}left/-/left-1.0.0.tgz"),
        ("/else/left-1.0.0.tgz", "{origin}/else/left-1.0.0.tgz"),
        ("ftp://host/left-1.0.0.tgz", None),
        ("file:///etc/passwd", None),
        ("http://", None),
    ],
)
def test_where_links_lead(
    link: str, leads: str | None, registry: NpmRegistry, upstreams: Callable[..., Upstream], server: Mirror, pin: str
) -> None:
    files = upstreams()
    names = {"files": files.url, "registry": registry.url, "origin": registry.upstream.url}
    dist = registry.packuments["left"]["versions"]["1.0.0"]["dist"]
    dist["tarball"] = link.format(**names)
    found = get(server.pin(pin, registry.url + "left")).json()["versions"]["1.0.0"]["dist"]
    assert found.get("tarball") == (server.pin(pin, leads.format(**names)) if leads else None)
    if leads:
        other = Response(b"other", headers={"Content-Type": "application/octet-stream"})
        registry.upstream.pages.clear()
        registry.upstream.otherwise = files.otherwise = lambda _: other
        assert get(found["tarball"], "*/*", **{"user-agent": "npm/10"}).status_code == 502


@pytest.mark.parametrize("name", ["@acme/lib", "@acme%2flib", "@acme%2Flib", "@acme/lib/1.0.0", "@acme/lib/latest"])
def test_scoped_packages_and_manifests_of_versions(name: str, registry: NpmRegistry, server: Mirror, pin: str) -> None:
    registry.publish("@acme/lib", "1.0.0")
    answer = get(server.pin(pin, registry.url + name), "application/json").json()
    manifest = answer["versions"]["1.0.0"] if "versions" in answer else answer
    assert manifest["dist"]["tarball"] == server.pin(pin, registry.url + "@acme/lib/-/lib-1.0.0.tgz")


@pytest.mark.parametrize("coded", [False, True])
def test_a_packument_of_25_megabytes(coded: bool, registry: NpmRegistry, server: Mirror, pin: str) -> None:
    for number in range(100):
        registry.packuments["left"]["versions"][f"2.0.{number}"] = {
            "name": "left",
            "version": f"2.0.{number}",
            "description": "x" * 250_000,
            "dist": {"tarball": f"{registry.url}left/-/left-2.0.{number}.tgz"},
        }
    body = json.dumps(registry.packuments["left"]).encode()
    headers = {"Content-Type": "application/json"} | ({"Content-Encoding": "gzip"} if coded else {})
    registry.upstream.pages["/npm/left"] = Response(gzip.compress(body, 1) if coded else body, headers=headers)
    answer = get(server.pin(pin, registry.url + "left"))
    assert len(links(answer)) == 101
    assert len(answer.content) < 100_000
    assert all(link.startswith(server.url) for link in links(answer))


@pytest.mark.parametrize("kind", ["application/json", "text/html", "text/plain"])
@pytest.mark.parametrize("body", [b'{"error": "sign in"}', b"<html>sign in</html>", b'{"name": "left", "versions": 1'])
def test_what_is_no_packument_is_not_frozen_as_one(
    kind: str, body: bytes, registry: NpmRegistry, server: Mirror, pin: str
) -> None:
    registry.upstream.pages["/npm/left"] = Response(body, headers={"Content-Type": kind})
    answer = get(server.pin(pin, registry.url + "left"))
    assert answer.status_code == 502
    assert "is not a packument" in answer.text
    del registry.upstream.pages["/npm/left"]
    assert len(links(get(server.pin(pin, registry.url + "left")))) == 1


@pytest.mark.parametrize(
    ("path", "body"), [("-/ping", b"{}"), ("-/v1/search", b'{"objects": []}'), ("x.tgz", b"\x1f\x8b")]
)
@pytest.mark.parametrize("accept", [ASKED, "*/*"])
def test_other_answers_are_the_upstreams_own(
    path: str, body: bytes, accept: str, registry: NpmRegistry, server: Mirror, pin: str
) -> None:
    registry.upstream.pages[f"/npm/{path}"] = Response(body, headers={"Content-Type": "application/json"})
    for _ in range(2):
        assert get(server.pin(pin, registry.url + path), accept).content == body


def test_packuments_of_others_do_not_speak_for_a_tarball(
    registry: NpmRegistry, upstreams: Callable[..., Upstream], server: Mirror, pin: str
) -> None:
    """Another registry that announces other bytes of the same tarball cannot keep it from being fetched."""
    other = NpmRegistry(upstreams())
    other.publish("left", "1.0.0", content="other", link=registry.url + "left/-/left-1.0.0.tgz")
    links(get(server.pin(pin, other.url + "left")))
    (link,) = links(get(server.pin(pin, registry.url + "left")))
    assert get(link, "*/*").status_code == 200


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "versions", "version", "dist", "tarball", "integrity", "shasum", "time", "1"]),
            inner,
            max_size=5,
        )
    ),
)


def tarballs(document: dict[str, Any]) -> list[Any]:
    """Return the links of a packument, wherever an installer looks for one."""
    versions = document.get("versions")
    manifests = (document, *(versions.values() if isinstance(versions, dict) else ()))
    dists = [manifest["dist"] for manifest in manifests if isinstance(manifest, dict) and "dist" in manifest]
    return [dist["tarball"] for dist in dists if isinstance(dist, dict) and "tarball" in dist]


@given(JSON, st.binary(max_size=20))
@example({"name": "", "versions": {"name": None, "tarball": None}}, b"")
def test_any_json_is_read_or_is_no_packument(value: Any, junk: bytes) -> None:
    """A part that cannot be read costs that part; every link that is left has been led."""
    packument.read(junk)
    for document in (
        packument.read(json.dumps(value).encode()),
        packument.read(json.dumps({**PACKUMENT, "x": value}).encode()),
    ):
        if document is not None:
            base = "http://host/npm/left"
            assert packument.registry(document, base) in (None, "http://host/npm/")
            for address, digests in packument.announced(document, base):
                assert address.url.startswith("http")
                assert all(len(bytes.fromhex(digest.value)) in (20, 32, 48, 64) for digest in digests)
            packument.lead(document, base, lambda address: "led")
            assert set(tarballs(packument.abbreviated(document))) <= {"led"}


PACKUMENT = {"name": "left", "versions": {"1": {"dist": {"tarball": "/a.tgz"}}}}

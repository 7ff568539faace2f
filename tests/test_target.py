"""Addresses: all forms that clients make of one are one target, different targets stay so, and the wire shows it."""

from __future__ import annotations

import socket
from urllib.parse import quote, unquote

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from httpcache.errors import BadAddress, redact
from httpcache.target import _CANONICAL, Target, canonical_url, check_pin, looks_like_url, origin, parse_target
from tests.support import http
from tests.support.clients import Clients
from tests.support.mirror import Mirror
from tests.support.upstream import Response, Upstream

UNRESERVED = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
URL = "https://example.com/a/b%2Bc.whl"


def parsed(path: str) -> Target:
    """The target of a path with its query, as a server takes them apart."""
    raw, _, query = path.partition("?")
    return parse_target(raw, query)


# One target, many forms


@pytest.mark.parametrize(
    "form",
    [
        "https://example.com/a/b+c.whl", "https:/example.com/a/b+c.whl", "https:///example.com/a/b+c.whl",
        "https%3A//example.com/a/b+c.whl", "https%3a/example.com/a/b+c.whl", "https%3a%2f%2fexample.com/a/b+c.whl",
        "https%3A%2F%2Fexample.com/a/b+c.whl", "HTTPS://example.com/a/b+c.whl", "/https://example.com/a/b+c.whl",
        "https://EXAMPLE.com/a/b+c.whl", "https://example.com:443/a/b+c.whl", "https://example.com:/a/b+c.whl",
        "https://example.com./a/b+c.whl", "https://example.com%3A443/a/b+c.whl", "https://ex%61mple.com/a/b+c.whl",
        "https://example.com/a/b%2Bc.whl", "https://example.com/a/b%2bc.whl", "https://example.com/a/b%2Bc%2Ewhl",
        "https://example.com/%61/%62+c.whl", "https://example.com/./a/./b+c.whl", "https://example.com/x/../a/b+c.whl",
        "https://example.com/../../a/b+c.whl", "https://example.com/x/%2E%2e/a/b+c.whl",
        "https://example.com/a/b+c.whl#sha256=abc",
    ],
)  # fmt: skip
def test_forms_of_one_target(form: str) -> None:
    target = parse_target(f"/pin-2024-01-02/{form}")
    assert (target.pin, target.url) == ("pin-2024-01-02", URL)
    assert target == parsed(target.path)
    assert target.key == Target("pin-2024-01-02", URL).key


@pytest.mark.parametrize(
    ("form", "url"),
    [
        ("http://h", "http://h/"), ("http://h:80/", "http://h/"), ("http://h:443/", "http://h:443/"),
        ("http://h:8080", "http://h:8080/"), ("http://h:0080/", "http://h/"), ("http://[::1]:8080/x", "http://[::1]:8080/x"),
        ("https://h/a/", "https://h/a/"), ("https://h/a/.", "https://h/a/"), ("https://h/a/b/..", "https://h/a/"),
        ("https://h//a", "https://h//a"), ("https://h/a//b", "https://h/a//b"), ("https://h/a%2Fb", "https://h/a%2Fb"),
        ("https://h/a%2fb", "https://h/a%2Fb"), ("https://h/a%20b", "https://h/a%20b"), ("https://h/%7Ea", "https://h/~a"),
        ("https://h/%25", "https://h/%25"), ("https://h/100%", "https://h/100%25"), ("https://h/a@1:b;c=d,e", "https://h/a@1:b;c=d,e"),
        ("https://h/a%3Fb", "https://h/a%3Fb"), ("https://h/a%23b", "https://h/a%23b"), ("https://h/a%0Ab", "https://h/a%0Ab"),
        ("https://h/%ff", "https://h/%FF"), ("https://h/%C3%A9", "https://h/%C3%A9"),
        ("https://b%C3%BCcher.example/", "https://xn--bcher-kva.example/"),
        ("https://xn--bcher-kva.example/", "https://xn--bcher-kva.example/"), ("https://a_b.example/", "https://a_b.example/"),
    ],
)  # fmt: skip
def test_the_canonical_form(form: str, url: str) -> None:
    assert canonical_url(form) == url
    assert canonical_url(url) == url


@pytest.mark.parametrize(
    ("query", "canonical"),
    [
        ("", ""), ("a=b&c=d", "?a=b&c=d"), ("a=%2b", "?a=%2B"), ("a=+", "?a=+"), ("a=%7e%41", "?a=~A"),
        ("a=/:@?", "?a=/:@?"), ("a=%2F", "?a=%2F"), ("a=%26", "?a=%26"), ("x", "?x"), ("a[]=1", "?a%5B%5D=1"),
        ("a=%20", "?a=%20"), ('a="', "?a=%22"), ("c=d&a=b", "?c=d&a=b"), ("%3Fa", "?%3Fa"),
    ],
)  # fmt: skip
def test_the_canonical_query(query: str, canonical: str) -> None:
    assert canonical_url("https://h/", query) == f"https://h/{canonical}"
    assert canonical_url("https://h/", canonical[1:]) == f"https://h/{canonical}"


hosts = st.sampled_from(["h", "example.com", "a-b.example", "127.0.0.1", "[::1]", "xn--bcher-kva.example"])
ports = st.sampled_from(["", ":80", ":443", ":8080"])
segments = st.text(st.characters(codec="utf-8"), max_size=8)
paths = st.lists(segments, max_size=4)
queries = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#"), max_size=12)
pins = st.sampled_from(["p", "pin-2024-01-02", "a.b_c-d", "x" * 100])


@given(pins, st.sampled_from(["http", "https"]), hosts, ports, paths, queries)
@example("p", "https", "h", "", [], "%%341")
@example("p", "https", "h", "", ["%%341"], "")
def test_round_trip(pin: str, scheme: str, host: str, port: str, path: list[str], query: str) -> None:
    """The address that the mirror writes for a target names that target, mangled or not."""
    url = f"{scheme}://{host}{port}/" + "/".join(quote(segment, safe="") for segment in path)
    target = parse_target(f"/{pin}/{url}", query)
    assert parsed(target.path) == target
    raw, mark, rest = target.path.partition("?")
    for form in (raw.replace("://", ":/"), raw.replace("://", "%3A/"), raw.replace("://", "%3a%2f%2f", 1)):
        assert parsed(form + mark + rest) == target
    assert target.url.isascii()
    assert target.url.isprintable()
    assert target.origin == origin(url.lower()) or port


@given(st.text(UNRESERVED + "+!$&'()*,;=:@", min_size=1).filter(lambda text: text.strip(".")), st.data())
def test_quoted_or_not(segment: str, data: st.DataObject) -> None:
    """Each character by itself, in either case."""
    forms = [data.draw(st.sampled_from([char, f"%{ord(char):02X}", f"%{ord(char):02x}"])) for char in segment]
    assert canonical_url("https://h/" + "".join(forms)) == canonical_url(f"https://h/{quote(segment, safe='')}")


@given(paths, paths)
def test_different_paths_are_different_targets(one: list[str], other: list[str]) -> None:
    """What is different after unquoting its segments is different here, but for dot segments."""
    urls = ["https://h/" + "/".join(quote(segment, safe="") for segment in path) for path in (one, other)]
    same = (one or [""]) == (other or [""])
    if not {".", ".."} & {*one, *other}:
        assert (canonical_url(urls[0]) == canonical_url(urls[1])) is same


@given(st.from_regex(_CANONICAL, fullmatch=True) | st.from_regex(_CANONICAL))
def test_the_short_way_is_the_same_as_the_long_one(url: str) -> None:
    try:
        found = canonical_url("/" + url)  # a slash in front goes the long way
    except BadAddress:
        found = None
    if found is None:
        assert not _CANONICAL.fullmatch(url)
    else:
        assert canonical_url(url) == found
        assert canonical_url(found) == found


@given(st.text(max_size=30), st.text(max_size=10))
def test_no_text_is_an_error_of_ours(path: str, query: str) -> None:
    """Whatever comes is a target or a BadAddress, and what is a target is in its canonical form."""
    for raw in (path, f"/p/https://{path}", f"/p/https://h/{path}"):
        try:
            target = parse_target(raw, query)
        except BadAddress:
            continue
        assert parsed(target.path) == target


def test_distinct_targets() -> None:
    urls = [
        "https://h/a", "https://h/A", "https://h/a/", "https://h//a", "https://h/a%2Fb", "https://h/a/b", "http://h/a",
        "https://h:8443/a", "https://i/a", "https://h/a?", "https://h/a?b", "https://h/a?B", "https://h/a?b=",
        "https://h/a?b+c", "https://h/a?b%2Bc", "https://h/a?b%20c", "https://h/a?b&c", "https://h/a?b%26c",
        "https://h/a?c&b", "https://h/a%3Fb", "https://h/a%20b", "https://h/a%2Bb", "https://h/a%252Bb",
    ]  # fmt: skip
    targets = {url: parsed(f"/p/{url}") for url in urls}
    targets["other pin"] = parsed("/P/https://h/a")
    assert targets.pop("https://h/a?") == targets["https://h/a"]  # an empty query is none
    assert len({target.key for target in targets.values()}) == len(set(targets.values())) == len(targets)


# What is no target


@pytest.mark.parametrize(
    "pin",
    [
        "pin-2024-02-30", "pin-2024-13-01", "pin-2024-1-2", "pin-0000-01-01", "2023-02-29", "pin-2024-00-10",
        "", ".", "..", "-", "-pin", ".pin", "_pin", "a b", "a%20b", "a/b", "é", "x" * 101, "a\n", "a:b", "a@b",
    ],
)  # fmt: skip
def test_no_pins(pin: str) -> None:
    with pytest.raises(BadAddress) as raised:
        check_pin(pin)
    assert raised.value.status == 400


@pytest.mark.parametrize("pin", ["nvidia-2024-02-29", "p", "2024-01-02", "v1.2_3", "a-2024", "a-2024-01", "A" * 100])
def test_pins(pin: str) -> None:
    assert check_pin(pin) == pin


@pytest.mark.parametrize(
    "url",
    [
        "", "file", "example.com/a", "ftp://h/a", "file:///etc/passwd", "httpsx://h/", "https:h/a", "https:", "https://",
        "https:///", "https://?", "https://user:pass@/a", "https://user:pass@h:x/a", "https://user%40h%2Fi/a", "https://user%3Apass%40/",
        "https://h:x/", "https://h:0/", "https://h:65536/", "https://h:99999/", "https://:80/", "https://h:80:80/",
        "https://[::1/", "https://::1/", "https://[h]/", "https://a..b/", "https://-a/", "https://a b/", "https://a%20b/",
        "https://a%2Fb/", "https://a%00b/", "https://%ff/", "https://" + "a" * 254 + "/", "javascript:alert(1)",
        "https://h\\@i/", "https://h%0d%0aX:y/",
    ],
)  # fmt: skip
def test_no_targets(url: str) -> None:
    with pytest.raises(BadAddress) as raised:
        parse_target(f"/p/{url}")
    for secret in ("pass@", "pass%40"):
        assert secret not in raised.value.text


@pytest.mark.parametrize(
    ("raw", "is_url"),
    [
        ("https://h", True),
        ("https:/h", True),
        ("HTTP%3A%2F%2Fh", True),
        ("/https://h", True),
        ("httpx://h", False),
        ("h/a", False),
    ],
)
def test_looks_like_url(raw: str, is_url: bool) -> None:
    assert looks_like_url(raw) is is_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://h/a", "https://h/a"), ("https://u:p@h/a", "https://h/a"), ("https://h/a?k=v&s=secret", "https://h/a?k=…&s=…"),
        ("https://h/a?secret", "https://h/a?…"), ("https://h/a?k=", "https://h/a?k=…"), ("https://u@h/a@b", "https://h/a@b"),
        ("https://h/a?k=u@v", "https://h/a?k=…"),
    ],
)  # fmt: skip
def test_redact(url: str, shown: str) -> None:
    assert redact(url) == shown


# On the wire


ON_THE_WIRE = [  # as it is sent, and its one form
    ("/a/b+c.whl", "/a/b%2Bc.whl"), ("/a/b%2bc.whl", "/a/b%2Bc.whl"), ("/%61%7E", "/a~"), ("/a%2fb", "/a%2Fb"),
    ("/a//b", "/a//b"), ("/a%20b", "/a%20b"), ("/%C3%A9%ff", "/%C3%A9%FF"), ("/a%0Ab", "/a%0Ab"), ("/a%3Fb", "/a%3Fb"),
    ("/(a)!$&'*,;=:@", "/(a)!$&'*,;=:@"), ("/%28a%29%21%3B%3D", "/(a)!;="), ("/a?b+c=%2b&d=%7e", "/a?b+c=%2B&d=~"),
    ("/a?x=/y?z", "/a?x=/y?z"), ("/a?b[]={}", "/a?b%5B%5D=%7B%7D"), ("/a|b", "/a%7Cb"), ("/a[b]", "/a%5Bb%5D"),
    ("/a%00b", "/a%00b"), ("/a?%0A", "/a?%0A"), ("/100%", "/100%25"), ("/a?100%", "/a?100%25"), ("/~a'b", "/~a'b"),
]  # fmt: skip
REPAIRED = [  # as it is given, as it is sent: what every client does to dot segments, and what HTTP does not allow
    ("/a/./b/../c", "/a/c"), ("/a/%2e%2E/c%7e", "/c%7e"), ("/a/b/..", "/a/"), ("/a?", "/a"), ("/a\\b", "/a%5Cb"),
]  # fmt: skip


def raw_get(server: Mirror, path: bytes) -> tuple[int, bytes]:
    """A GET with exactly these bytes as its target: clients would quote them their own way."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


@pytest.mark.parametrize(("given", "wire"), [(sent, sent) for sent, _ in ON_THE_WIRE] + REPAIRED)
def test_the_upstream_gets_what_was_asked_for(
    given: str, wire: str, upstream: Upstream, server: Mirror, pin: str
) -> None:
    upstream.otherwise = lambda _: Response(b"here")
    status, body = raw_get(server, f"/{pin}/{upstream.url}{given}".encode())
    assert status == 200, body
    assert [request.target for request in upstream.requests] == [wire]


@pytest.mark.parametrize(("sent", "canonical"), ON_THE_WIRE)
def test_the_key_is_of_the_canonical_form(sent: str, canonical: str) -> None:
    target = parsed(f"/p/https://h{sent}")
    assert (target.url, target.wire) == (f"https://h{canonical}", f"https://h{sent}")
    assert target == parsed(f"/p/https://h{canonical}")
    assert target.key == parsed(f"/p/https://h{canonical}").key


@pytest.mark.parametrize(
    ("sent", "wire"), [("/é", "/%C3%A9"), ("/a?é=é", "/a?%C3%A9=%C3%A9"), ("/日本.whl", "/%E6%97%A5%E6%9C%AC.whl")]
)
def test_what_is_not_ascii_is_utf8(
    sent: str, wire: str, upstream: Upstream, server: Mirror, pin: str, clients: Clients
) -> None:
    """curl quotes a path (in lower case) and sends a query as it was typed, which HTTP does not allow."""
    upstream.otherwise = lambda _: Response(b"here")
    assert clients.curl("-f", server.pin(pin, upstream.url + sent)).checked().output == "here"
    assert clients.curl("-f", server.pin(pin, upstream.url + wire)).checked().output == "here"
    assert [request.target.upper() for request in upstream.requests] == [wire.upper()]


@pytest.mark.parametrize("form", ["{url}", "{merged}", "{quoted}", "{all}"])
def test_a_mangled_address_over_the_wire(form: str, upstream: Upstream, server: Mirror, pin: str) -> None:
    upstream.pages["/a+b.whl"] = b"here"
    url = f"{upstream.url}/a+b.whl"
    merged = url.replace("://", ":/")
    forms = {"url": url, "merged": merged, "quoted": merged.replace(":/", "%3A/", 1), "all": quote(url, safe="/")}
    raw_get(server, f"/{pin}/{url}".encode())
    assert raw_get(server, f"/{pin}/{form.format(**forms)}".encode()) == (200, b"here")
    assert upstream.count() == 1


@pytest.mark.parametrize(
    "bad", ["x-2024-02-30/http://127.0.0.1/", "p/ftp://127.0.0.1/", "p/http://u:S3CRET@127.0.0.1:x/", "p/", "p"]
)
def test_a_bad_address_is_a_400_that_says_what_is_wrong(bad: str, server: Mirror) -> None:
    answer = http.get(f"{server.url}/{bad}")
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "S3CRET" not in answer.text


def test_the_keys_are_hashes() -> None:
    """No key is ever a path of a file."""
    key = parsed("/p/https://h/../../etc/passwd").key
    assert len(key) == 64
    assert set(key) <= set("0123456789abcdef")
    assert unquote(parsed("/p/https://h/a%2Fb").url) == "https://h/a/b"
    assert str(parsed("/p/https://h/a?token=secret")) == "/p/https://h/a?token=…"
    assert httpx.URL(parsed("/p/https://h/a%2Fb").url).raw_path == b"/a%2Fb"

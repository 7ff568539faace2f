"""The log of requests, the ids that they have in it, and the trace that they belong to."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support import http
from tests.support.mirror import Mirror
from tests.support.upstream import Request, Response, Upstream, redirect

PIN = "tools-2024-01-02"
BODY = b"x" * 1000
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def lines(server: Mirror) -> list[dict[str, object]]:
    """What was logged, of a log in JSON. Everything but what is printed at the start is in it."""
    return [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]


def requests(server: Mirror) -> list[dict[str, object]]:
    return [line for line in lines(server) if line["logger"] == "httpcache.access"]


def test_one_line_for_each_request(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    upstream.pages["/file?a=1&token=secret"] = Response(BODY)
    server = mirror("--access-log", "--log-format", "json", "--workers", "2")
    address = server.pin(PIN, f"{upstream.url}/file?a=1&token=secret")
    shown = f"/{PIN}/{upstream.url}/file?a=…&token=…"
    for _ in range(3):
        assert http.get(address).content == BODY
    assert http.get(address, headers={"Range": "bytes=0-9"}).status_code == 206
    assert http.head(address).status_code == 200
    assert http.request("POST", address).status_code == 405
    assert http.get(f"{server.url}/live/?token=secret").status_code in (200, 502)
    assert http.get(f"{server.url}/user:secret@host/x").status_code >= 400
    server.stop()

    found = [line for line in requests(server) if line["target"] != "/-/ready"]
    told = [(line["method"], line["target"], line["status"], line["bytes"]) for line in found[:6]]
    assert told == [
        ("GET", shown, 200, len(BODY)),
        ("GET", shown, 200, len(BODY)),
        ("GET", shown, 200, len(BODY)),
        ("GET", shown, 206, 10),
        ("HEAD", shown, 200, 0),
        ("POST", shown, 405, told[5][3]),
    ]
    assert [line["pin"] for line in found[:6]] == [PIN] * 6
    assert "stored" in str(found[0]["cache_status"])
    assert [line["cache_status"] for line in found[1:4]] == ["httpcache; hit"] * 3
    assert {line["client"] for line in found} == {"127.0.0.1"}
    assert all(0 <= float(str(line["seconds"])) < 60 for line in found)
    assert len({line["request_id"] for line in found}) == len(found) == 8
    assert "secret" not in json.dumps(found)


def test_the_same_as_text(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    upstream.pages["/file"] = Response(BODY)
    server = mirror("--access-log", "--log-level", "error")  # the level is for the rest of the log
    assert http.get(server.pin(PIN, f"{upstream.url}/file"), headers={"X-Request-ID": "build-1"}).content == BODY
    server.stop()
    [line] = [line for line in server.log().splitlines() if "target=/tools" in line]
    assert re.fullmatch(
        rf"[\d-]+ [\d:,]+ INFO method=GET pin={PIN} target=/{PIN}/{upstream.url}/file status=200 bytes=1000 "
        r'seconds=[\d.e-]+ cache_status="httpcache; fwd[^"]+" request_id=build-1 client=127\.0\.0\.1',
        line,
    )


def test_nothing_is_logged_and_no_id_sent_unless_asked_for(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    upstream.pages["/file"] = Response(BODY)
    server = mirror()
    answer = http.get(server.pin(PIN, f"{upstream.url}/file"), headers={"X-Request-ID": "build-1"})
    assert "x-request-id" not in answer.headers
    server.stop()
    assert "method=" not in server.log()


@pytest.mark.parametrize(
    ("given", "is_taken"),
    [
        (["3f1c9a"], True),
        (["Root=1-67891233-abcdef012345678912345678"], True),
        (["a" * 128], True),
        (["a" * 129], False),
        ([""], False),
        (["two words"], False),
        (['quo"te'], False),
        (["{}"], False),
        (["one", "two"], False),
    ],
)
def test_an_id_is_taken_if_it_is_one(given: list[str], is_taken: bool, logged: Mirror) -> None:
    headers = [("X-Request-ID", each) for each in given]
    for path in ("/-/health", "/nothing"):  # hits and misses are alike in this
        sent = http.get(f"{logged.url}{path}", headers=headers).headers.get_list("x-request-id")
        assert sent == given if is_taken else (len(sent) == 1 and re.fullmatch("[0-9a-f]{32}", sent[0]))


@pytest.fixture
def logged(mirror: Callable[..., Mirror]) -> Mirror:
    return mirror("--access-log")


# Traces


def test_the_trace_of_a_request_is_handed_on(upstream: Upstream, mirror: Callable[..., Mirror]) -> None:
    """To each upstream on the way; each download has that of the request that began it, whatever else goes on."""
    go = threading.Event()
    names = [f"/{number}" for number in range(6)]

    def moved(request: Request) -> Response:
        go.wait(30)
        return redirect(f"/to{request.path}")

    upstream.pages |= dict.fromkeys(names, moved) | {f"/to{name}": Response(BODY) for name in names}
    server = mirror()
    traces = {name: TRACE.replace("b7ad", f"b{number}ad") for number, name in enumerate(names)}

    def ask(name: str) -> int:
        address = server.pin(PIN, f"{upstream.url}{name}")
        return http.get(address, headers={"traceparent": traces[name]} if name != "/0" else {}).status_code

    with ThreadPoolExecutor(len(names)) as threads:
        waiting = [threads.submit(ask, name) for name in names]
        go.set()
        assert {each.result() for each in waiting} == {200}
    found = {request.path: request.headers.get("traceparent") for request in upstream.requests}
    expected: dict[str, str | None] = {**traces, "/0": None}
    assert found == expected | {f"/to{name}": trace for name, trace in expected.items()}


@pytest.mark.parametrize(
    "given",
    [
        "",
        "not a trace",
        TRACE.upper(),
        TRACE + "-more",
        TRACE.replace("00-", "ff-"),
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01",
    ],
)
def test_what_is_no_trace_is_not_handed_on(given: str, upstream: Upstream, server: Mirror, pin: str) -> None:
    upstream.pages["/file"] = Response(BODY)
    assert http.get(server.pin(pin, f"{upstream.url}/file"), headers={"traceparent": given}).status_code == 200
    assert [request.headers.get("traceparent") for request in upstream.requests] == [None]

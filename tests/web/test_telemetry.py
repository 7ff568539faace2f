"""OpenTelemetry traces, as a collector receives them; and that nothing of it is imported unless they are asked for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.support import http
from tests.support.mirror import Mirror
from tests.support.upstream import Response, Upstream

PIN = "tools-2024-01-02"
BODY = b"x" * 1000
TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector:
    """Receives spans over OTLP and HTTP."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.services: set[str] = set()
        bodies = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def spans(self) -> list[Span]:
        found = []
        for body in self.bodies:
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.services.add(_attributes(resource.resource)["service.name"])
                found += [span for scope in resource.scope_spans for span in scope.spans]
        return found


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


def _attributes(holder: object) -> dict[str, str]:
    return {each.key: _text(each.value) for each in holder.attributes}  # type: ignore[attr-defined]


def _text(value: AnyValue) -> str:
    return str(getattr(value, value.WhichOneof("value") or "string_value"))


def test_spans_of_requests_and_of_those_to_upstreams(collector: Collector, upstream: Upstream, tmp_path: Path) -> None:
    upstream.pages["/file?token=S3CRET"] = Response(BODY)
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_RESOURCE_ATTRIBUTES": "deployment=test"}
    server = Mirror(tmp_path / "mirror", None, ["--traces"], environment).start()
    try:
        address = server.pin(PIN, f"{upstream.url}/file?token=S3CRET")
        given = {"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-01", "Authorization": "Bearer S3CRET"}
        assert http.get(address, headers=given).content == BODY
        assert http.get(server.pin(PIN, "http://127.0.0.1:1/refused?token=S3CRET")).status_code == 502
        server.stop()
    finally:
        server.kill()

    spans = [span for span in collector.spans() if _attributes(span).get("url.path") != "/-/ready"]
    assert collector.services == {"httpcache"}
    assert not any(b"S3CRET" in body for body in collector.bodies)
    [first] = [span for span in spans if span.parent_span_id.hex() == PARENT_ID]
    assert first.kind == Span.SPAN_KIND_SERVER
    assert first.trace_id.hex() == TRACE_ID
    assert first.name == f"GET {PIN}"
    assert _attributes(first) == {
        "http.request.method": "GET",
        "url.path": f"/{PIN}/{upstream.url}/file",
        "url.query": "token=…",
        "http.response.status_code": "200",
        "http.response.body.size": str(len(BODY)),
        "httpcache.cache_status": "httpcache; fwd=uri-miss; fwd-status=200; stored",
    }
    asked = [span for span in spans if span.parent_span_id == first.span_id]
    assert {span.kind for span in asked} == {Span.SPAN_KIND_CLIENT}
    sent = {request.headers["traceparent"] for request in upstream.requests}
    assert sent == {f"00-{TRACE_ID}-{span.span_id.hex()}-01" for span in asked}
    [failed] = [span for span in spans if _attributes(span).get("error.type")]
    assert _attributes(failed)["error.type"] == "Unreachable"
    assert _attributes(failed)["url.full"] == "http://127.0.0.1:1/refused?token=…"
    assert failed.status.message == ""
    assert not failed.events


def test_a_collector_that_is_away_harms_nothing(upstream: Upstream, tmp_path: Path) -> None:
    upstream.pages["/file"] = Response(BODY)
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    server = Mirror(tmp_path / "mirror", None, ["--traces"], environment).start()
    try:
        for _ in range(3):
            assert http.get(server.pin(PIN, f"{upstream.url}/file")).content == BODY
        server.stop()  # in time, with exit code 0
    finally:
        server.kill()


def test_it_is_not_imported_unless_it_is_used() -> None:
    code = "import sys, httpcache.command.serve; print([name for name in sys.modules if 'opentelemetry' in name])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['opentelemetry.sdk'] = None\n"
        "from pathlib import Path\n"
        "from httpcache.errors import MirrorError\n"
        "from httpcache.settings import Settings\n"
        "from httpcache.web.app import build\n"
        "try: build(Settings(Path('data'), traces=True), [])\n"
        "except MirrorError as error: print(error.text)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "freezing-mirror[otel]" in ran.stdout

"""Records a span for each request, and for each request to an upstream, and sends them on (OpenTelemetry, OTLP).

Where to, and how much, say OpenTelemetry's own variables, such as OTEL_EXPORTER_OTLP_ENDPOINT. Names and attributes
follow its conventions for HTTP. Nothing imports this module unless `--traces` is set.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import anyio.to_thread
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Receive, Scope, Send

from httpcache import __version__, trace
from httpcache.errors import redact
from httpcache.target import origin, shown_address, split_path

from .accounting import Sent

FLUSH = 2000  # milliseconds to send the last spans
_propagator = TraceContextTextMapPropagator()


@cache
def provider() -> TracerProvider:
    """Return what records the spans of this process."""
    own = Resource({"service.name": "httpcache", "service.version": __version__})
    made = TracerProvider(resource=own.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
    made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return made


class Traced:
    """An application whose requests are recorded."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._tracer = provider().get_tracer("httpcache", __version__)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            await anyio.to_thread.run_sync(provider().force_flush, FLUSH)  # the lifespan is over
            return
        target = shown_address(scope["raw_path"], scope["query_string"])
        path, _, query = target.partition("?")
        attributes = {"http.request.method": scope["method"], "url.path": path, "url.query": query}
        parents = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        with self._tracer.start_as_current_span(
            f"{scope['method']} {split_path(target).pin}",
            _propagator.extract({trace.PARENT: parents.get(trace.PARENT, "")}),
            SpanKind.SERVER,
            attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            trace.record(self._asking)
            sent = Sent(send)
            try:
                await self._app(scope, receive, sent)
            finally:
                span.set_attribute("http.response.status_code", sent.status)
                span.set_attribute("http.response.body.size", sent.bytes)
                span.set_attribute("httpcache.cache_status", sent.cache_status)
                if sent.status >= 500:
                    span.set_status(StatusCode.ERROR)

    @contextmanager
    def _asking(self, url: str) -> Iterator[str]:
        with _span_of(self._tracer, url):
            carrier: dict[str, str] = {}
            _propagator.inject(carrier)
            yield carrier.get(trace.PARENT, "")


@contextmanager
def _span_of(tracer: Tracer, url: str) -> Iterator[None]:
    """Record a request to an upstream until its answer begins. The text of an error is not recorded."""
    attributes = {"http.request.method": "GET", "url.full": redact(url), "server.address": origin(url)}
    with tracer.start_as_current_span(
        "GET", kind=SpanKind.CLIENT, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield
        except BaseException as error:
            span.set_attribute("error.type", type(error).__name__)
            span.set_status(StatusCode.ERROR)
            raise

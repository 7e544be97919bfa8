"""One trace, from the client's traceparent to the worker, received by a real OTLP endpoint."""

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from slowpool.config import Pool
from tests.support.basics import wait_until
from tests.support.client import request
from tests.support.process import Instance

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


class Collector:
    """An OTLP endpoint that keeps the spans it receives."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        spans = self.spans

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers["Content-Encoding"] == "gzip":
                    body = gzip.decompress(body)
                sent = ExportTraceServiceRequest.FromString(body)
                for resource in sent.resource_spans:
                    for scope in resource.scope_spans:
                        spans.extend(scope.spans)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    thread = threading.Thread(target=collector.server.serve_forever)
    thread.start()
    yield collector
    collector.server.shutdown()
    thread.join()
    collector.server.server_close()


def test_one_trace_leads_from_the_client_through_the_queue_to_the_worker(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")  # milliseconds until spans are sent
    with Instance(Pool.SLOW, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, expected="") as instance:
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        assert request(instance.port, "/slow_threaded?id=1&n=500", headers=headers).status == 200
        assert instance.get("/-/readyz").status == 200
        wait_until(lambda: len(collector.spans) >= 3)
    spans = {span.name: span for span in collector.spans}
    assert {span.trace_id.hex() for span in collector.spans} == {TRACE}, (
        "the system's own routes are not traced"
    )
    (server,) = [span for span in collector.spans if span.kind == span.SPAN_KIND_SERVER]
    assert server.parent_span_id.hex() == PARENT
    queue, worker = spans["slow.queue"], spans["slow.worker"]
    assert queue.parent_span_id == worker.parent_span_id == server.span_id
    assert queue.end_time_unix_nano == worker.start_time_unix_nano
    assert server.start_time_unix_nano <= queue.start_time_unix_nano
    assert worker.end_time_unix_nano <= server.end_time_unix_nano

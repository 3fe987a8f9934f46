"""Spans of requests, as a collector gets them."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from leadline.chat.events import Usage
from leadline.config import ConfigurationError, TracesSection
from leadline.ids import new_uuid
from leadline.ledger.totals import Totals
from leadline.ledger.usage import UsageRecord
from leadline.operations.traces import Traces, tracing
from tests.cli.process import NO_MODEL, Serving, init
from tests.raw import post
from tests.scripted.server import DEADLINE_SECONDS, ScriptedServer

_PATH = "/v1/chat/completions"
_SERVER = Span.SpanKind.SPAN_KIND_SERVER


class Collector:
    """Keeps every delivery."""

    def __init__(self) -> None:
        self.bodies: Queue[bytes] = Queue()
        kept = self.bodies

        class Take(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()
                kept.put(body)

            def log_message(self, *_: object) -> None: ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Take)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.section = TracesSection(f"http://127.0.0.1:{self.http.server_port}/v1/traces", 1.0)

    def body(self) -> bytes:
        return self.bodies.get(timeout=DEADLINE_SECONDS)


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    # The library compresses nothing unless it is told so; this machine's variables tell it nothing.
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_COMPRESSION", raising=False)
    collecting = Collector()
    yield collecting
    collecting.http.shutdown()
    collecting.http.server_close()


def spans_of(body: bytes) -> list[Span]:
    told = ExportTraceServiceRequest.FromString(body)
    return [span for resource in told.resource_spans for scope in resource.scope_spans for span in scope.spans]


def attributes(span: Span) -> dict[str, Any]:
    return {one.key: getattr(one.value, str(one.value.WhichOneof("value"))) for one in span.attributes}


def test_a_request_is_a_trace_with_its_id_its_parts_and_no_word_of_it(
    server: ScriptedServer, collector: Collector
) -> None:
    totals = server.instance.ledger.totals
    traces = Traces(collector.section, totals)
    question = b'{"model": "echo", "stream": true, "messages": [{"role": "user", "content": "Sesame opens"}]}'
    answer = post(server.port, _PATH, server.api_key, question)
    server.run(traces.close())
    body = collector.body()
    root, *parts = sorted(spans_of(body), key=lambda span: (span.kind != _SERVER, span.start_time_unix_nano))
    told = attributes(root)

    assert root.trace_id == UUID(answer.headers["x-request-id"]).bytes
    assert (root.name, root.kind) == ("chat echo", _SERVER)
    assert [part.name for part in parts] == ["admit", "wait for the first token", "generate"]
    assert {(part.trace_id, part.parent_span_id) for part in parts} == {(root.trace_id, root.span_id)}
    edges = [root.start_time_unix_nano, *(part.end_time_unix_nano for part in parts)]
    assert edges == sorted(edges)
    assert edges[-1] == root.end_time_unix_nano
    assert (told["gen_ai.request.model"], told["gen_ai.usage.input_tokens"], told["leadline.status"]) == (
        *("echo", 2),
        "finished",
    )
    assert told["leadline.cost_ticks"] == -server.charges()[0].amount_ticks
    assert b"Sesame" not in body
    assert server.api_key.encode() not in body
    assert totals.told is None


def record(request_id: str, **more: Any) -> UsageRecord:
    known = {"status": "finished", "usage": Usage(2), "total_milliseconds": 1} | more
    return UsageRecord("org", request_id, 1_000, 9_000, "key", "model", _PATH, **known)


async def test_only_a_part_of_them_is_told_and_errors_are_errors(collector: Collector) -> None:
    half = TracesSection(collector.section.endpoint, 0.5)
    totals = Totals()
    traces = Traces(half, totals)
    low, high = UUID(int=1 << 100 | 1), UUID(int=(1 << 100) | ((1 << 48) - 1))
    totals.add(record(str(low), status="failed", error="engine_failed", usage=Usage()), 0)
    totals.add(record(str(high)), 0)
    await traces.close()
    told = [span for span in spans_of(collector.body()) if span.kind == _SERVER]

    assert [span.trace_id for span in told] == [low.bytes]
    assert attributes(told[0])["error.type"] == "engine_failed"
    assert told[0].status.code == told[0].status.STATUS_CODE_ERROR
    assert collector.bodies.empty()


async def test_a_collector_that_is_away_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests are counted as always, and a stop ends within its own deadline."""
    monkeypatch.setattr("leadline.operations.traces.CLOSE_SECONDS", 0.1)
    totals = Totals()
    traces = Traces(TracesSection("http://127.0.0.1:9/v1/traces", 1.0), totals)
    for _ in range(5_000):
        totals.add(record(str(new_uuid())), 7)
    await traces.close()

    [charged] = totals.places.values()
    assert charged.cost_ticks == 35_000


async def test_without_an_endpoint_nothing_is_told_and_nothing_is_loaded() -> None:
    totals = Totals()
    async with tracing(TracesSection(), totals):
        assert totals.told is None
    program = "import sys, leadline.operations.serve; sys.exit(any('opentelemetry' in name for name in sys.modules))"
    assert (await asyncio.to_thread(subprocess.run, [sys.executable, "-c", program], check=False)).returncode == 0


async def test_an_endpoint_without_the_libraries_is_an_error_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigurationError, match=r"leadline\[traces\]"):
        async with tracing(TracesSection("http://127.0.0.1:9/v1/traces"), Totals()):
            pass


@pytest.mark.slow
async def test_a_server_with_an_endpoint_tells_of_what_it_refuses_too(collector: Collector, tmp_path: Path) -> None:
    data = tmp_path / "data"
    key = init(data, "--key", "app").json["api_key"]
    (data / "leadline.toml").write_text(
        f'[traces]\nendpoint = "{collector.section.endpoint}"\nsample_ratio = 1.0\n{NO_MODEL}'
    )
    serving = await Serving.start(data)
    port = urlsplit((await serving.event("serving"))["base_url"]).port
    assert port is not None
    question = b'{"model": "tiny", "messages": [{"role": "user", "content": "Hello"}]}'
    refused = await asyncio.to_thread(post, port, _PATH, key, question)
    code = await serving.stop()
    [span] = spans_of(await asyncio.to_thread(collector.body))

    assert (refused.status, code) == (503, 0)
    assert span.trace_id == UUID(refused.headers["x-request-id"]).bytes
    assert attributes(span)["error.type"] == "unavailable"
    assert span.status.code == span.status.STATUS_CODE_UNSET

"""Traces by setting: spans of requests, for a collector that speaks OTLP over HTTP.

A trace is made of the record of a request when that has ended, so it costs nothing before, and holds what a record
holds: never a prompt or an answer. The trace's id is the request's, so whoever has an `x-request-id` finds it.
OpenTelemetry's libraries are loaded only where `[traces] endpoint` is set.
"""

import asyncio
import importlib.util
import logging
import threading
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from leadline import __version__
from leadline.administration.metrics import PROVIDER, operation
from leadline.config import ConfigurationError, TracesSection
from leadline.ledger.totals import Totals
from leadline.ledger.usage import UsageRecord

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

# What a stop waits for the collector, and what one delivery may take.
CLOSE_SECONDS = 3.0
_DELIVERY_SECONDS = 5
_SAMPLED_OF = 1 << 48
_SAMPLED_DIGITS = 12
_NANOSECONDS = 1_000
_log = logging.getLogger("leadline.traces")


class Traces:
    """Hears of each record that `totals` count, and sends a part of them on. Its queue holds 2,048 spans; more are
    dropped while the collector is away."""

    def __init__(self, section: TracesSection, totals: Totals) -> None:
        assert section.endpoint is not None
        self._totals = totals
        # By the id's last 48 bits, which are random.
        self._below = round(section.sample_ratio * _SAMPLED_OF)
        self._ids, self._provider = _provider(section.endpoint)
        self._tracer = self._provider.get_tracer("leadline", __version__)
        totals.told = self._tell

    async def close(self) -> None:
        """Send what is left, for a while; what the collector does not take by then is lost."""
        self._totals.told = None
        # A daemon: a collector that does not answer must not keep the process.
        sending = threading.Thread(target=self._provider.shutdown, name="traces-close", daemon=True)
        sending.start()
        await asyncio.to_thread(sending.join, CLOSE_SECONDS)
        if sending.is_alive():
            _log.warning("the last traces were not taken in time")

    def _tell(self, record: UsageRecord) -> None:
        if int(record.request_id[-_SAMPLED_DIGITS:], 16) < self._below:
            self._ids.next_trace_id = uuid.UUID(record.request_id).int
            self._send(record)

    def _send(self, record: UsageRecord) -> None:
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

        name = operation(record.endpoint)
        root = self._tracer.start_span(
            f"{name} {record.model}",
            kind=SpanKind.SERVER,
            attributes=_attributes(record, name),
            start_time=record.began_at * _NANOSECONDS,
        )
        if record.error and record.status != "refused":
            root.set_status(Status(StatusCode.ERROR, record.error))
        if record.status != "refused":
            context = set_span_in_context(root)
            for part, begins, ends in _parts(record):
                span = self._tracer.start_span(part, context, start_time=begins * _NANOSECONDS)
                span.end(ends * _NANOSECONDS)
        root.end(record.at * _NANOSECONDS)


@asynccontextmanager
async def tracing(section: TracesSection, totals: Totals) -> AsyncIterator[None]:
    """Trace what `totals` hear of meanwhile, where an endpoint is set. ConfigurationError where the libraries are
    missing."""
    if section.endpoint is None:
        yield
        return
    if not _is_installed():
        raise ConfigurationError("[traces] needs OpenTelemetry's libraries: pip install 'leadline[traces]'.")
    traces = Traces(section, totals)
    try:
        yield
    finally:
        await traces.close()


def _is_installed() -> bool:
    try:
        return importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        return False


def _attributes(record: UsageRecord, operation_name: str) -> dict[str, str | int]:
    """Those of OpenTelemetry's conventions for generative AI, and ours."""
    usage = record.usage
    told: dict[str, str | int] = {
        "gen_ai.operation.name": operation_name,
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": record.model,
        "gen_ai.usage.input_tokens": usage.prompt_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens + usage.reasoning_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
        "leadline.endpoint": record.endpoint,
        "leadline.status": record.status,
        "leadline.streamed": record.streamed,
        "leadline.cost_ticks": record.cost_ticks,
        "leadline.organisation.id": record.organisation_id,
        "leadline.key.id": record.key_id,
    }
    return told | {"error.type": record.error} if record.error else told


def _parts(record: UsageRecord) -> list[tuple[str, int, int]]:
    """What a request's time went to: until it was admitted, until its first token, and from then on. In
    microseconds."""
    admitted = max(record.began_at, record.at - record.total_milliseconds * 1_000)
    parts = [("admit", record.began_at, admitted)]
    if record.first_token_milliseconds is None:
        return [*parts, ("generate", admitted, record.at)]
    first = min(record.at, admitted + record.first_token_milliseconds * 1_000)
    return [*parts, ("wait for the first token", admitted, first), ("generate", first, record.at)]


class _Ids(Protocol):
    next_trace_id: int


def _provider(endpoint: str) -> "tuple[_Ids, TracerProvider]":
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON

    class Ids(RandomIdGenerator):
        """A trace's id is that of its request, set just before."""

        next_trace_id = 0

        def generate_trace_id(self) -> int:
            return self.next_trace_id

    ids = Ids()
    resource = Resource.create({"service.name": "leadline", "service.version": __version__})
    provider = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False, id_generator=ids)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint, timeout=_DELIVERY_SECONDS)))
    return ids, provider

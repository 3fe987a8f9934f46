"""What `/metrics` says. There is a series for each model, endpoint, error, engine and state, and none for
organisations, keys or users: however many those are, the page stays small.

Names that begin with `gen_ai` are those of OpenTelemetry's semantic conventions for generative AI, spelled as
Prometheus spells them.
"""

import asyncio
import os
import resource
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from typing import get_args

from leadline import __version__
from leadline.administration.engine_facts import EngineFacts, engine_facts
from leadline.administration.exposition import Exposition
from leadline.administration.instance import Instance
from leadline.administration.system import own_memory_bytes
from leadline.clock import MICROSECONDS_PER_SECOND
from leadline.engines.engine import State, WorkerStatus
from leadline.ledger.totals import OTHERS, TOKEN_KINDS, Place, Totals

PROVIDER = "leadline"
_MILLISECONDS = 1_000
# What the conventions call chat is the rest.
_OPERATIONS = {
    "/v1/completions": "text_completion",
    "/v1/complete": "text_completion",
    "xai_api.Sample/SampleText": "text_completion",
    "xai_api.Sample/SampleTextStreaming": "text_completion",
    "/v1/embeddings": "embeddings",
    "xai_api.Embedder/Embed": "embeddings",
    OTHERS: OTHERS,
}


async def metrics_text(instance: Instance) -> str:
    """As it is at this moment. Counters begin at 0 with the server."""
    text = Exposition()
    text.metric("leadline_info", "gauge", "The version that runs.")
    text.value("leadline_info", 1, version=__version__)
    _requests(instance.ledger.totals, text)
    _charges(instance.ledger.totals, text)
    _generations(instance.ledger.totals, text)
    facts = engine_facts(instance)
    _running(instance, facts, text)
    _engines(facts, text)
    _workers(facts, text)
    await _database(instance, text)
    for name, kind, meaning, number in _process(instance):
        text.one(name, kind, meaning, number)
    return text.text()


def operation(endpoint: str) -> str:
    """What the conventions call what is asked for at `endpoint`."""
    return _OPERATIONS.get(endpoint, "chat")


def _requests(totals: Totals, text: Exposition) -> None:
    requests, errors = Counter[tuple[str, str]](), Counter[tuple[str, str, str]]()
    for end, ended in totals.ends.items():
        requests[end.model, end.status] += ended.requests
        if end.error:
            errors[end.model, end.endpoint, end.error] += ended.requests
    text.metric("leadline_requests_total", "counter", "Requests that ended, by how.")
    for (model, status), count in sorted(requests.items()):
        text.value("leadline_requests_total", count, model=model, status=status)
    text.metric(
        "leadline_request_errors_total", "counter", "Requests that were refused or ended by an error, by which."
    )
    for (model, endpoint, error), count in sorted(errors.items()):
        text.value("leadline_request_errors_total", count, model=model, endpoint=endpoint, error=error)


def _charges(totals: Totals, text: Exposition) -> None:
    tokens, ticks = Counter[tuple[str, str]](), Counter[str]()
    for place, charged in totals.places.items():
        ticks[place.model] += charged.cost_ticks
        for kind, count in zip(TOKEN_KINDS, charged.tokens, strict=True):
            tokens[place.model, kind] += count
    text.metric("leadline_tokens_total", "counter", "Tokens that were charged. Cached and image are part of prompt.")
    for (model, kind), count in sorted(tokens.items()):
        text.value("leadline_tokens_total", count, model=model, kind=kind)
    text.metric("leadline_charged_ticks_total", "counter", "What was charged; 10^10 ticks are one US dollar.")
    for model, count in sorted(ticks.items()):
        text.value("leadline_charged_ticks_total", count, model=model)


def _generations(totals: Totals, text: Exposition) -> None:
    """What OpenTelemetry's conventions have names for."""
    name = "gen_ai_server_request_duration_seconds"
    text.metric(name, "histogram", "From a request's admission to its end. Refused ones are not in it.")
    for end, ended in sorted(totals.ends.items()):
        labels = _conventional(Place(end.model, end.endpoint)) | {"status": end.status, "error_type": end.error}
        text.histogram(name, ended.durations, labels, _MILLISECONDS)
    places = sorted(totals.places.items())
    name = "gen_ai_client_token_usage"
    text.metric(name, "histogram", "Tokens of each request that was charged; output has those of reasoning, too.")
    for place, charged in places:
        for kind, histogram in (("input", charged.inputs), ("output", charged.outputs)):
            text.histogram(name, histogram, _conventional(place) | {"gen_ai_token_type": kind})
    name = "gen_ai_server_time_to_first_token_seconds"
    text.metric(name, "histogram", "From a stream's admission to its first token. Of streams that finished.")
    for place, charged in places:
        text.histogram(name, charged.first_token, _conventional(place), _MILLISECONDS)
    name = "gen_ai_server_time_per_output_token_seconds"
    text.metric(name, "histogram", "From a stream's first token on, its mean. Of streams that finished.")
    for place, charged in places:
        text.histogram(name, charged.per_token, _conventional(place), _MILLISECONDS)


def _conventional(place: Place) -> dict[str, str]:
    return {
        "gen_ai_operation_name": operation(place.endpoint),
        "gen_ai_provider_name": PROVIDER,
        "gen_ai_request_model": place.model,
        "endpoint": place.endpoint,
    }


def _running(instance: Instance, facts: list[EngineFacts], text: Exposition) -> None:
    activity = instance.activity
    text.metric("leadline_running_requests", "gauge", "Requests that run now.")
    for one in facts:
        for model in one.models:
            running = 0 if activity is None else activity.running(model)
            text.value("leadline_running_requests", running, model=model, engine=one.name)
    text.metric("leadline_open_streams", "gauge", "Those of them that are streams.")
    for one in facts:
        for model in one.models:
            streams = 0 if activity is None else activity.streams(model)
            text.value("leadline_open_streams", streams, model=model, engine=one.name)


def _engines(facts: list[EngineFacts], text: Exposition) -> None:
    text.metric("leadline_engine_ready", "gauge", "Whether the engine takes requests.")
    for one in facts:
        text.value("leadline_engine_ready", int(one.status.ready), engine=one.name)
    text.metric("leadline_engine_state", "gauge", "1 for the state in which the model of an embedded engine is.")
    for one in facts:
        for state in get_args(State) if one.status.state is not None else ():
            text.value("leadline_engine_state", int(one.status.state == state), engine=one.name, state=state)
    text.metric("leadline_engine_waiting_requests", "gauge", "Requests that wait for an embedded engine.")
    for one in facts:
        if one.status.waiting is not None:
            text.value("leadline_engine_waiting_requests", one.status.waiting, engine=one.name)
    text.metric("leadline_engine_memory_bytes", "gauge", "What an embedded engine has in memory.")
    for one in facts:
        if one.status.memory_bytes is not None:
            text.value("leadline_engine_memory_bytes", one.status.memory_bytes, engine=one.name)


def _workers(facts: list[EngineFacts], text: Exposition) -> None:
    """Of engines that are made of several servers."""
    workers: dict[tuple[str, str], WorkerStatus] = {}
    for one in facts:
        for worker in one.status.workers:
            # One that was taken out and added again is there twice while it drains.
            workers.setdefault((one.name, worker.at), worker)
    figures: tuple[tuple[str, str, str, Callable[[WorkerStatus], int]], ...] = (
        ("ready", "gauge", "Whether the worker takes requests.", lambda one: one.state == "ready"),
        ("running_requests", "gauge", "Requests that run on the worker now.", lambda one: one.running),
        ("failures_total", "counter", "Tries at requests that failed there.", lambda one: one.failures),
        ("prompt_tokens_total", "counter", "By its own count, cached ones included.", lambda one: one.prompt_tokens),
        ("cached_tokens_total", "counter", "Those of them that it had cached.", lambda one: one.cached_tokens),
    )
    for name, kind, meaning, figure in figures:
        text.metric(f"leadline_worker_{name}", kind, meaning)
        for (engine, at), worker in workers.items():
            text.value(f"leadline_worker_{name}", int(figure(worker)), engine=engine, worker=at)


async def _database(instance: Instance, text: Exposition) -> None:
    database = instance.database
    text.one("leadline_database_waiting_writes", "gauge", "Writes that wait for the disk.", database.waiting)
    text.one("leadline_database_writable", "gauge", "Whether the last write reached the disk.", int(database.writable))
    name = "leadline_database_commit_seconds"
    text.metric(name, "histogram", "How long commits took, from the first statement until the disk had them.")
    text.histogram(name, database.commits)
    facts = await database.facts()
    text.one("leadline_database_bytes", "gauge", "The size of the database's file.", facts.size_bytes)
    text.one("leadline_database_log_bytes", "gauge", "The size of its write-ahead log.", facts.log_bytes)
    disk = await asyncio.to_thread(shutil.disk_usage, instance.data)
    text.one("leadline_disk_free_bytes", "gauge", "What is free on the disk of the data folder.", disk.free)


def _process(instance: Instance) -> Iterator[tuple[str, str, str, float]]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    began = instance.opened_at / MICROSECONDS_PER_SECOND
    yield "process_start_time_seconds", "gauge", "When the server started, in seconds since 1970.", began
    yield "process_cpu_seconds_total", "counter", "Processor time that was used.", used.ru_utime + used.ru_stime
    yield "process_resident_memory_bytes", "gauge", "What this process has in memory.", own_memory_bytes()
    try:
        yield "process_open_fds", "gauge", "Files and sockets that are open.", len(os.listdir("/proc/self/fd"))
    except OSError:
        return
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield "process_max_fds", "gauge", "The most of them.", soft

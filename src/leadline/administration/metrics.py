"""What `/metrics` says, in the text format of Prometheus. There is a series for each model, engine and state, and none
for organisations, keys or users: however many those are, the page stays small."""

import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import get_args

from leadline import __version__
from leadline.administration.engine_facts import engine_facts
from leadline.administration.instance import Instance
from leadline.administration.system import own_memory_bytes
from leadline.clock import MICROSECONDS_PER_SECOND
from leadline.engines.engine import State

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_ESCAPED = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


@dataclass(slots=True)
class _Text:
    """The lines, under one heading for each metric."""

    lines: list[str] = field(default_factory=list)

    def metric(self, name: str, kind: str, meaning: str) -> None:
        self.lines += [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"]

    def value(self, name: str, number: float, **labels: str) -> None:
        told = ",".join(f'{label}="{text.translate(_ESCAPED)}"' for label, text in labels.items())
        self.lines.append(f"{name}{{{told}}} {number}" if told else f"{name} {number}")

    def one(self, name: str, kind: str, meaning: str, number: float) -> None:
        self.metric(name, kind, meaning)
        self.value(name, number)


async def metrics_text(instance: Instance) -> str:
    """As it is at this moment. Counters begin at 0 with the server."""
    text = _Text()
    text.metric("leadline_info", "gauge", "The version that runs.")
    text.value("leadline_info", 1, version=__version__)
    _requests(instance, text)
    _engines(instance, text)
    await _database(instance, text)
    for name, kind, meaning, number in _process(instance):
        text.one(name, kind, meaning, number)
    return "\n".join([*text.lines, ""])


def _requests(instance: Instance, text: _Text) -> None:
    totals = sorted(instance.ledger.totals.models.items())
    text.metric("leadline_requests_total", "counter", "Requests that ended, by how.")
    for model, total in totals:
        for status, count in sorted(total.requests.items()):
            text.value("leadline_requests_total", count, model=model, status=status)
    text.metric("leadline_tokens_total", "counter", "Tokens that were charged. Cached and image are part of prompt.")
    for model, total in totals:
        for kind, count in sorted(total.tokens.items()):
            text.value("leadline_tokens_total", count, model=model, kind=kind)
    text.metric("leadline_charged_ticks_total", "counter", "What was charged; 10^10 ticks are one US dollar.")
    for model, total in totals:
        text.value("leadline_charged_ticks_total", total.cost_ticks, model=model)


def _engines(instance: Instance, text: _Text) -> None:
    facts, activity = engine_facts(instance), instance.activity
    text.metric("leadline_running_requests", "gauge", "Requests that run now.")
    for one in facts:
        for model in one.models:
            running = 0 if activity is None else activity.running(model)
            text.value("leadline_running_requests", running, model=model, engine=one.name)
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


async def _database(instance: Instance, text: _Text) -> None:
    database = instance.database
    text.one("leadline_database_waiting_writes", "gauge", "Writes that wait for the disk.", database.waiting)
    text.one("leadline_database_writable", "gauge", "Whether the last write reached the disk.", int(database.writable))
    facts = await database.facts()
    text.one("leadline_database_bytes", "gauge", "The size of the database's file.", facts.size_bytes)
    text.one("leadline_database_log_bytes", "gauge", "The size of its write-ahead log.", facts.log_bytes)


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

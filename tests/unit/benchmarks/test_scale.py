"""docs/scale.md quotes `benchmarks.scale`, and that what can be measured anew in a test."""

import asyncio
from pathlib import Path

from benchmarks.scale import MEASURED, PAGE, limits, steps, waits, with_tables, workloads
from leadline.administration.commands.run import run
from leadline.administration.instance import Instance
from leadline.chat.events import Usage
from leadline.ids import new_uuid
from leadline.ledger.books import Hold, Outcome
from leadline.ledger.usage import UsageRecord
from leadline.money import Ticks
from leadline.storage.database import Write
from tests.raw import post
from tests.scripted.server import EMAIL, ScriptedServer

_REQUESTS = 4_000
_AT = 1_795_983_966_676_989


def test_the_page_quotes_what_the_program_computes() -> None:
    page = PAGE.read_text("utf-8")

    assert page.count("<!-- computed -->") == page.count("<!-- end -->") == 7
    assert with_tables(page) == page


def test_a_loaded_queue_waits_longer_than_an_idle_one_and_as_theory_says() -> None:
    """A whole answer has no chunks: then all tasks take as long, and the mean wait of such a queue is known."""
    request, busy = MEASURED["request"].value, 0.7
    waited = waits(busy, 0)
    known = request * busy / (2 * (1 - busy))

    assert abs(sum(waited) / len(waited) - known) < 0.05 * known
    assert waits(0.95, 300)[-2_000] > waits(0.5, 300)[-2_000]


def test_the_lowest_limit_is_named_first_and_steps_are_multiples() -> None:
    for load in workloads():
        rates = [one.requests_per_second for one in limits(load)]
        assert rates == sorted(rates)
    one, machine, *_ = steps()
    assert machine.requests_per_second == one.requests_per_second * machine.instances


async def test_a_request_takes_as_many_bytes_on_disk_as_the_page_says(tmp_path: Path) -> None:
    instance = await Instance.open(tmp_path / "data")
    try:
        arguments = {"email": EMAIL, "org": "Northwind", "password": "correct horse"}
        made = await run(instance, "init", arguments | {"first": {"credit": "1000", "key": None}})
        before = await _bytes(instance, tmp_path / "before")
        for first in range(0, _REQUESTS, 500):
            charges = (_charge(instance, made["organisation_id"], first + number) for number in range(500))
            await asyncio.gather(*charges)
        grown = (await _bytes(instance, tmp_path / "after") - before) / _REQUESTS
        gone = (Write(f"DELETE FROM {table}", rows=None) for table in ("records_of", "usage_records"))
        await instance.database.commit(*gone)
        left = (await _bytes(instance, tmp_path / "left") - before) / _REQUESTS
    finally:
        await instance.close()

    assert abs(grown - MEASURED["record"].value) < 0.1 * MEASURED["record"].value
    assert abs(left - MEASURED["entry"].value) < 0.1 * MEASURED["entry"].value


async def _bytes(instance: Instance, copy: Path) -> int:
    await instance.ledger.tick()
    await instance.database.backup(copy)
    return copy.stat().st_size


def _charge(instance: Instance, organisation_id: str, number: int) -> "asyncio.Future[None]":
    request_id, at = str(new_uuid()), _AT + number * 500_000
    hold = Hold(request_id, organisation_id, "key", "model", "/v1/chat/completions", Ticks(10_000_000), at)
    record = UsageRecord(
        *(organisation_id, request_id, at, at + 7_500_000, "key", "model", "/v1/chat/completions", "finished"),
        streamed=True,
        usage=Usage(prompt_tokens=500, cached_tokens=100, output_tokens=300),
        cost_ticks=3_250_000,
        first_token_milliseconds=400,
        total_milliseconds=7_500,
    )
    instance.ledger.reserve(hold)
    return instance.ledger.settle(hold, lambda: Outcome(record, ()))


def test_a_chunk_has_as_many_bytes_as_the_page_says(server: ScriptedServer) -> None:
    question = b'{"model": "echo", "stream": true, "messages": [{"role": "user", "content": "%s"}]}' % (b"words " * 100)
    answer = post(server.port, "/v1/chat/completions", server.api_key, question)
    chunk = len(answer.body) / answer.body.count(b"data:")

    assert abs(chunk - MEASURED["chunk_bytes"].value) < 5

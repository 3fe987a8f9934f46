"""The money path: what is reserved, refused, charged and given back."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

import pytest

from leadline.accounts.api_key import NONE, ApiKey
from leadline.administration.commands.run import run
from leadline.administration.instance import Instance
from leadline.catalog.catalog import Catalog, Model
from leadline.catalog.prices import Prices, prices_of
from leadline.chat.events import Finished, TextDelta
from leadline.chat.request import ChatRequest, Message, Text
from leadline.config import Limit, PriceSection
from leadline.errors import (
    CreditsHeld,
    EngineFailed,
    InsufficientCredits,
    InvalidRequest,
    PermissionDenied,
    RateLimited,
    Unavailable,
)
from leadline.ids import new_uuid
from leadline.ledger.audit import audit
from leadline.limits.limiter import Limiter
from leadline.money import Ticks
from leadline.operations.app import build_pipeline
from leadline.serving.generation import Call, Generation
from leadline.serving.pipeline import FIRST_SLICE_TOKENS, Pipeline
from leadline.storage.database import DatabaseUnusable
from tests.fold import collect
from tests.scripted.engine import SCRIPTS, ScriptedEngine

PRICES = prices_of(PriceSection(input=Decimal(1), output=Decimal(2)))
INPUT, OUTPUT = 10_000, 20_000
FREE = Prices(Ticks(0), Ticks(0), Ticks(0), Ticks(0), Ticks(0))


@dataclass
class House:
    instance: Instance
    engine: ScriptedEngine
    pipeline: Pipeline
    caller: ApiKey

    async def start(self, model: str, text: str, *, stream: bool = False, **more: object) -> Generation:
        request = ChatRequest(model, (Message("user", (Text(text),)),), **more)
        return await self.pipeline.start(self.caller, request, Call(new_uuid(), "/v1/chat/completions", stream))

    def held(self) -> int:
        return self.instance.ledger.balance(self.caller.organisation_id).held_ticks

    async def set_credits(self, ticks: int) -> None:
        """Exactly this much, by an adjustment of the one grant."""
        await self.instance.ledger.grant(self.caller.organisation_id, Ticks(ticks), "test")

    async def charges(self) -> list[int]:
        entries = await self.instance.ledger.entries(self.caller.organisation_id)
        return [-entry.amount_ticks for entry in entries if entry.kind == "charge"]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """An organisation without credits."""
    instance = await Instance.open(tmp_path)
    person = {"email": "alice@northwind.example", "org": "Northwind", "password": "correct horse"}
    made = await run(instance, "init", person | {"first": {"credit": "0", "key": None}})
    engine = ScriptedEngine(SCRIPTS)
    models = [Model(name, engine, name, PRICES, 500) for name in SCRIPTS]
    models.append(Model("free", engine, "echo", FREE, 500))
    pipeline = build_pipeline(instance, Catalog(models))
    yield House(instance, engine, pipeline, instance.keys.authenticate(made["api_key"]))
    assert (await audit(instance.database, instance.ledger)).broken == ()
    await instance.close()


async def whole(generation: Generation) -> str:
    async with generation:
        answer = await collect(generation.events(), generation.choices)
    return "".join(block.text for block in answer.choices[0].content if isinstance(block, Text))


async def test_the_worst_case_is_held_while_it_runs_and_what_was_used_is_charged(house):
    await house.set_credits(10**10)
    generation = await house.start("echo", "a b c", max_output_tokens=100)
    assert house.held() == 3 * INPUT + 100 * OUTPUT
    assert await whole(generation) == "a b c"
    assert house.held() == 0
    assert await house.charges() == [3 * INPUT + 3 * OUTPUT] == [generation.cost_ticks]


async def test_what_cannot_be_paid_is_refused_and_the_engine_never_hears_of_it(house):
    await house.set_credits(3 * INPUT + 100 * OUTPUT - 1)
    with pytest.raises(InsufficientCredits):
        await house.start("echo", "a b c", max_output_tokens=100)
    assert house.engine.requests == []
    assert house.held() == 0


async def test_the_engine_is_told_whose_work_it_may_use_again(house):
    await house.set_credits(10**10)
    await whole(await house.start("echo", "a", max_output_tokens=1))
    assert house.engine.requests[-1].cache_scope == house.caller.organisation_id


async def test_the_last_tick_can_be_spent(house):
    await house.set_credits(3 * INPUT + 3 * OUTPUT)
    assert await whole(await house.start("echo", "a b c", max_output_tokens=3)) == "a b c"
    balance = house.instance.ledger.balance(house.caller.organisation_id)
    assert balance.balance_ticks == 0


async def test_without_a_limit_the_answer_ends_where_the_credits_end(house):
    afforded = FIRST_SLICE_TOKENS + 5
    await house.set_credits(200 * INPUT + afforded * OUTPUT)
    text = await whole(await house.start("echo", "w " * 200))
    assert len(text.split()) == afforded
    assert house.instance.ledger.balance(house.caller.organisation_id).balance_ticks == 0


async def test_without_a_limit_less_than_a_first_slice_is_refused(house):
    await house.set_credits(200 * INPUT + (FIRST_SLICE_TOKENS - 1) * OUTPUT)
    with pytest.raises(InsufficientCredits):
        await house.start("echo", "w " * 200)


async def test_credits_that_running_requests_hold_are_told_from_spent_ones(house):
    await house.set_credits(3 * INPUT + 100 * OUTPUT)
    running = await house.start("echo", "a b c", max_output_tokens=100)
    with pytest.raises(CreditsHeld):
        await house.start("echo", "a b c", max_output_tokens=100)
    await whole(running)
    with pytest.raises(InsufficientCredits):
        await house.start("echo", "a b c", max_output_tokens=100)


async def test_of_many_at_once_only_those_run_that_can_be_paid(house):
    cost = 1 * INPUT + 10 * OUTPUT
    await house.set_credits(3 * cost)
    outcomes = await asyncio.gather(
        *(house.start("slow", "a", max_output_tokens=10) for _ in range(100)), return_exceptions=True
    )
    admitted = [outcome for outcome in outcomes if isinstance(outcome, Generation)]
    assert len(admitted) == 3
    assert all(isinstance(outcome, CreditsHeld) for outcome in outcomes if outcome not in admitted)
    for generation in admitted:
        await generation.close()
    assert house.held() == 0


async def test_a_model_without_prices_answers_at_balance_0_and_writes_an_entry(house):
    assert await whole(await house.start("free", "a b")) == "a b"
    assert await house.charges() == [0]


async def test_a_limiter_refusal_holds_nothing_and_a_ledger_refusal_gives_the_limiter_back(house):
    house.pipeline = replace(house.pipeline, limiter=Limiter(Limit(concurrent_requests=1)))
    with pytest.raises(InsufficientCredits):
        await house.start("echo", "a", max_output_tokens=5)
    await house.set_credits(10**10)
    running = await house.start("echo", "a", max_output_tokens=5)
    held = house.held()
    with pytest.raises(RateLimited):
        await house.start("echo", "a", max_output_tokens=5)
    assert house.held() == held
    await whole(running)
    assert await whole(await house.start("echo", "a", max_output_tokens=5)) == "a"


async def test_max_tokens_beyond_the_context_is_clamped_for_the_hold_too(house):
    await house.set_credits(10**10)
    generation = await house.start("echo", "a b c", max_output_tokens=10**6)
    assert house.held() == 3 * INPUT + 997 * OUTPUT
    await generation.close()


async def test_a_prompt_that_fills_the_context_is_refused_with_both_numbers(house):
    await house.set_credits(10**10)
    with pytest.raises(InvalidRequest, match=r"1000 tokens.* 1000"):
        await house.start("echo", "w " * 1000)


async def test_an_engine_that_is_not_ready_is_unavailable_and_says_why(house):
    house.engine.ready = False
    with pytest.raises(Unavailable, match="loading"):
        await house.start("free", "a")


@pytest.mark.parametrize(("stream", "charged"), [(True, [INPUT + 2 * OUTPUT]), (False, [])])
async def test_a_break_after_the_first_token_costs_what_a_stream_delivered_and_a_whole_answer_nothing(
    house, stream, charged
):
    await house.set_credits(10**10)
    with pytest.raises(EngineFailed):
        await whole(await house.start("broken-after", "a", stream=stream))
    assert await house.charges() == charged
    assert house.held() == 0


async def test_a_bug_of_ours_costs_nothing(house):
    await house.set_credits(10**10)
    with pytest.raises(RuntimeError):
        await whole(await house.start("crash", "a"))
    assert await house.charges() == []
    assert house.held() == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_a_streams_hold_is_on_disk_from_the_first_tick_on_and_gone_with_its_charge(house, stream):
    await house.set_credits(10**10)
    async with await house.start("slow", "a", stream=stream) as generation:
        batches = generation.events()
        await anext(batches)
        await house.pipeline.running.tick()
        [(held,)] = await house.instance.database.rows("SELECT COUNT(*) FROM holds")
        assert held == stream
        await batches.aclose()
    [(held,)] = await house.instance.database.rows("SELECT COUNT(*) FROM holds")
    assert held == 0


async def test_settling_runs_to_its_end_under_cancellation(house):
    await house.set_credits(10**10)
    started = asyncio.Event()

    async def client() -> None:
        async with await house.start("slow", "a b", stream=True) as generation:
            async for batch in generation.events():
                if batch == (TextDelta(" three"),):
                    started.set()

    task = asyncio.create_task(client())
    await started.wait()
    task.cancel()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await house.charges() == [2 * INPUT + 3 * OUTPUT]
    assert house.held() == 0
    assert house.engine.aborted == ["slow"]


async def test_closing_twice_charges_once(house):
    await house.set_credits(10**10)
    generation = await house.start("echo", "a")
    await whole(generation)
    await generation.close()
    assert len(await house.charges()) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_the_last_event_comes_after_the_commit_of_its_charge(house, stream):
    await house.set_credits(10**10)
    async with await house.start("echo", "a", stream=stream) as generation:
        async for batch in generation.events():
            charged = await house.charges()
            assert bool(charged) == isinstance(batch[-1], Finished)


@pytest.mark.parametrize(("stream", "charged"), [(True, [INPUT + OUTPUT]), (False, [])])
async def test_without_a_commit_no_answer_is_finished_and_later_what_was_delivered_is_charged(
    house, monkeypatch, stream, charged
):
    await house.set_credits(10**10)
    generation = await house.start("echo", "a", stream=stream)
    batches = generation.events()
    seen = [*await anext(batches), *await anext(batches)]
    submit = house.instance.database.submit

    def refuse(_work: object, _item: object, told: Callable[[Exception], None]) -> None:
        asyncio.get_running_loop().call_soon(told, DatabaseUnusable("disk full"))

    monkeypatch.setattr(house.instance.database, "submit", refuse)
    generation.commit_seconds = 0.01
    monkeypatch.setattr("leadline.ledger.ledger.RETRY_SECONDS", 0.001)
    with pytest.raises(Unavailable, match="not complete"):
        seen += await anext(batches)
    await generation.close()
    assert not any(isinstance(event, Finished) for event in seen)
    assert house.held() > 0

    monkeypatch.setattr(house.instance.database, "submit", submit)
    while house.held():
        await asyncio.sleep(0.001)
    assert await house.charges() == charged


async def test_counting_is_free(house):
    request = ChatRequest("echo", (Message("user", (Text("a b c"),)),))
    assert await house.pipeline.count_prompt_tokens(house.caller, request) == 3
    assert await house.charges() == []


async def test_a_request_is_charged_under_its_own_id(house):
    await house.set_credits(10**10)
    request_id = uuid.UUID("01930000-0000-7000-8000-000000000001")
    request = ChatRequest("echo", (Message("user", (Text("a"),)),))
    await whole(await house.pipeline.start(house.caller, request, Call(request_id, "/v1/messages", False)))
    entries = await house.instance.ledger.entries(house.caller.organisation_id)
    assert entries[-1].request_id == str(request_id)


async def test_a_key_for_nothing_is_refused_every_model_also_one_that_answers_to_every_name(house):
    [model] = [one for one in house.pipeline.catalog.models if one.name == "echo"]
    anything = replace(house.pipeline, catalog=Catalog([replace(model, aliases=("*",))]))
    house.pipeline, everyone = anything, house.caller
    house.caller = replace(everyone, models=NONE)
    with pytest.raises(PermissionDenied, match="may not use the model echo"):
        await house.start("echo", "hi")
    assert anything.models(house.caller) == ()
    house.caller = replace(everyone, endpoints=NONE)
    with pytest.raises(PermissionDenied, match="may not use any endpoint"):
        await house.start("echo", "hi")
    assert not house.engine.requests
    assert house.held() == 0

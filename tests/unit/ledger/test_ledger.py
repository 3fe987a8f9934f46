import asyncio
import uuid
from typing import Any

import pytest

from leadline.chat.events import Usage
from leadline.errors import CreditsHeld, InsufficientCredits
from leadline.ledger.audit import audit
from leadline.ledger.ledger import Balance, Charge, Hold, Ledger
from leadline.money import Ticks, usd
from leadline.storage.database import Database, DatabaseUnusable

USAGE = Usage(prompt_tokens=7, cached_tokens=3, image_tokens=1, output_tokens=5, reasoning_tokens=2)


def hold(ticks: int) -> Hold:
    return Hold(str(uuid.uuid4()), "org_alice", "key-1", "mock", Ticks(ticks))


def charge(ticks: int) -> Charge:
    return Charge(Ticks(ticks), USAGE, "/v1/chat/completions")


def balance(balance_ticks: int, held_ticks: int = 0) -> Balance:
    return Balance(Ticks(balance_ticks), Ticks(held_ticks))


async def settled_books(database: Database) -> Balance:
    """What a server that starts now would find."""
    again = Ledger(database)
    await again.load()
    return again.balance("org_alice")


async def test_a_request_is_charged_what_it_used_and_the_rest_comes_back(ledger: Ledger, database: Database) -> None:
    await ledger.grant("org_alice", Ticks(100), "welcome")
    running = hold(80)

    ledger.reserve(running)
    while_running = ledger.balance("org_alice")
    await ledger.settle(running, charge(30))

    assert while_running == balance(100, held_ticks=80)
    assert ledger.balance("org_alice") == await settled_books(database) == balance(70)


async def test_an_entry_tells_the_request_its_key_model_and_tokens(ledger: Ledger, database: Database) -> None:
    await ledger.grant("org_alice", Ticks(100), "welcome")
    running = hold(80)
    ledger.reserve(running)
    await ledger.settle(running, Charge(Ticks(30), USAGE, "/v1/messages", "interrupted"))

    [given, spent] = await ledger.entries("org_alice")
    [details] = await database.rows(
        "SELECT endpoint, reserved_ticks, prompt_tokens, cached_tokens, image_tokens, output_tokens, reasoning_tokens"
        " FROM entries WHERE id = $1",
        spent.id,
    )

    assert (given.kind, given.amount_ticks, given.reason, given.request_id) == ("grant", 100, "welcome", None)
    assert (spent.kind, spent.amount_ticks, spent.reason) == ("charge", -30, "interrupted")
    assert (spent.id, spent.request_id, spent.key_id, spent.model) == (running.request_id,) * 2 + ("key-1", "mock")
    assert details == ("/v1/messages", 80, 7, 3, 1, 5, 2)


async def test_a_request_that_can_cost_more_than_is_left_is_refused_with_both_amounts(ledger: Ledger) -> None:
    await ledger.grant("org_alice", usd("0.50"), "welcome")

    with pytest.raises(InsufficientCredits, match=r"up to \$0\.75, and \$0\.50 of credits are left"):
        ledger.reserve(hold(usd("0.75")))

    assert ledger.balance("org_alice") == balance(usd("0.50"))


async def test_a_request_that_only_has_to_wait_for_another_is_told_so(ledger: Ledger) -> None:
    await ledger.grant("org_alice", Ticks(100), "welcome")
    ledger.reserve(hold(60))

    with pytest.raises(CreditsHeld) as refused:
        ledger.reserve(hold(41))
    ledger.reserve(hold(40))

    assert refused.value.retry_after_seconds == 1
    assert ledger.balance("org_alice") == balance(100, held_ticks=100)


async def test_a_free_request_runs_at_balance_zero_and_leaves_an_entry(ledger: Ledger) -> None:
    free = hold(0)

    ledger.reserve(free)
    await ledger.settle(free, charge(0))

    assert [(entry.kind, entry.amount_ticks) for entry in await ledger.entries("org_alice")] == [("charge", 0)]


async def test_settling_again_and_again_charges_once(ledger: Ledger, database: Database) -> None:
    await ledger.grant("org_alice", Ticks(100), "welcome")
    running = hold(80)
    ledger.reserve(running)
    await ledger.secure(running)

    await asyncio.gather(*(ledger.settle(running, charge(30)) for _ in range(5)), ledger.release(running))
    await ledger.settle(running, charge(80))

    assert ledger.balance("org_alice") == await settled_books(database) == balance(70)
    assert len(await ledger.entries("org_alice")) == 2


async def test_a_released_request_costs_nothing_and_leaves_nothing(ledger: Ledger, database: Database) -> None:
    await ledger.grant("org_alice", Ticks(100), "welcome")
    running, secured = hold(30), hold(40)
    ledger.reserve(running)
    ledger.reserve(secured)
    await ledger.secure(secured)

    await ledger.release(running)
    await ledger.release(secured)

    assert ledger.balance("org_alice") == balance(100)
    assert [entry.kind for entry in await ledger.entries("org_alice")] == ["grant"]
    assert await database.rows("SELECT * FROM holds") == []


async def test_a_charge_above_its_reservation_is_impossible(ledger: Ledger, database: Database) -> None:
    await ledger.grant("org_alice", Ticks(100), "welcome")
    running = hold(80)
    ledger.reserve(running)

    for wrong in (81, -1):
        with pytest.raises(AssertionError, match="never exceeds its reservation"):
            await ledger.settle(running, charge(wrong))

    assert await settled_books(database) == balance(100)


async def test_credits_come_back_only_once_the_charge_is_durable(ledger: Ledger, commits: Any) -> None:
    await ledger.grant("org_alice", Ticks(100), "welcome")
    running = hold(80)
    ledger.reserve(running)
    commits.let_wait()
    settling = asyncio.ensure_future(ledger.settle(running, charge(30)))
    await asyncio.sleep(0)

    with pytest.raises(CreditsHeld):
        ledger.reserve(hold(21))
    commits.let_go()
    await settling

    ledger.reserve(hold(70))


@pytest.mark.parametrize("secured", [False, True])
async def test_a_charge_that_the_disk_refused_can_be_tried_again(
    ledger: Ledger, database: Database, commits: Any, secured: bool
) -> None:
    await ledger.grant("org_alice", Ticks(100), "welcome")
    running = hold(80)
    ledger.reserve(running)
    if secured:
        await ledger.secure(running)
    commits.refusals = 1
    with pytest.raises(DatabaseUnusable):
        await ledger.settle(running, charge(30))
    in_between = ledger.balance("org_alice")

    await ledger.settle(running, charge(30))

    assert in_between == balance(100, held_ticks=80)
    assert ledger.balance("org_alice") == await settled_books(database) == balance(70)
    assert (await audit(database)).broken == ()


async def test_a_grant_that_the_disk_refused_gives_nothing(ledger: Ledger, database: Database, commits: Any) -> None:
    commits.refusals = 1

    with pytest.raises(DatabaseUnusable):
        await ledger.grant("org_alice", Ticks(100), "welcome")

    assert ledger.balance("org_alice") == await settled_books(database) == balance(0)


async def test_what_a_crash_left_held_is_given_back_at_the_next_start(ledger: Ledger, database: Database) -> None:
    await ledger.grant("org_alice", Ticks(100), "welcome")
    for running in (hold(10), hold(20), hold(30)):
        ledger.reserve(running)
        await ledger.secure(running)
    ledger.reserve(hold(40))

    again = Ledger(database)
    released = await again.load()

    assert released == 3
    assert again.balance("org_alice") == balance(100)
    assert await again.load() == 0


async def test_the_newest_entries_are_shown_last(ledger: Ledger) -> None:
    for number in range(1, 6):
        await ledger.grant("org_alice", Ticks(number), f"grant {number}")

    everything = [entry.reason for entry in await ledger.entries("org_alice")]
    newest = [entry.reason for entry in await ledger.entries("org_alice", limit=2)]

    assert everything == [f"grant {number}" for number in range(1, 6)]
    assert newest == ["grant 4", "grant 5"]

"""The ledger in pages is the ledger."""

import pytest

from leadline.ledger.ledger import Ledger
from leadline.ledger.statement import Statement, statement
from leadline.money import Ticks
from leadline.storage.database import Database
from tests.unit.ledger.scenes import finished, hold


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leadline.ledger.statement.PAGE_ENTRIES", 3)


async def fill(ledger: Ledger) -> None:
    await ledger.grant("org_alice", Ticks(100), "welcome")
    for _ in range(6):
        running = hold(10)
        ledger.reserve(running)
        await ledger.settle(running, finished(running, 7))


def numbers(page: Statement) -> tuple[list[int], bool, bool]:
    return [line.number for line in page.lines], page.newer, page.older


async def test_all_pages_together_are_all_entries_and_sum_to_the_balance(ledger: Ledger, database: Database) -> None:
    await fill(ledger)

    pages, before = [], None
    while not pages or pages[-1].older:
        pages.append(await statement(database, "org_alice", before=before))
        before = pages[-1].lines[-1].number

    lines = [line.entry for page in pages for line in page.lines]
    assert list(reversed(lines)) == await ledger.entries("org_alice")
    assert sum(entry.amount_ticks for entry in lines) == ledger.balance("org_alice").balance_ticks
    assert [numbers(page) for page in pages] == [
        ([7, 6, 5], False, True),
        ([4, 3, 2], True, True),
        ([1], True, False),
    ]


async def test_the_pages_lead_back_to_the_newest(ledger: Ledger, database: Database) -> None:
    await fill(ledger)

    assert numbers(await statement(database, "org_alice", after=1)) == ([4, 3, 2], True, True)
    assert numbers(await statement(database, "org_alice", after=4)) == ([7, 6, 5], False, True)


async def test_nobody_sees_the_entries_of_others(ledger: Ledger, database: Database) -> None:
    await fill(ledger)

    assert numbers(await statement(database, "org_bob")) == ([], False, False)

from pathlib import Path

import apsw
import pytest

from leadline.chat.events import Usage
from leadline.ledger.audit import Audit, audit
from leadline.ledger.ledger import Charge, Hold, Ledger
from leadline.money import Ticks
from leadline.storage.database import Database

CHARGE = (
    "INSERT INTO entries (id, organisation_id, at, kind, amount_ticks, reason, request_id, reserved_ticks)"
    " VALUES ({id}, 'org_alice', 1, 'charge', {amount}, '', {request_id}, {reserved})"
)
MOVE = "UPDATE accounts SET balance_ticks = balance_ticks + {0}"
HOLD = "INSERT INTO holds VALUES ({0}, 'org_alice', 'key-1', 'mock', {1}, 1)"
ENTRY = (
    "INSERT INTO entries (id, organisation_id, at, kind, amount_ticks, reason)"
    " VALUES ('e', 'org_alice', 1, {0}, {1}, '')"
)


@pytest.fixture
async def books(ledger: Ledger, database: Database) -> Database:
    """Books in order: a grant of 100, request `r1` charged 30 of 80, and request `r2` holding 20."""
    await ledger.grant("org_alice", Ticks(100), "welcome")
    charged, running = (Hold(name, "org_alice", "key-1", "mock", Ticks(80)) for name in ("r1", "r2"))
    running.ticks = Ticks(20)
    for hold in (charged, running):
        ledger.reserve(hold)
        await ledger.secure(hold)
    await ledger.settle(charged, Charge(Ticks(30), Usage(prompt_tokens=1), "/v1/messages"))
    return database


def plant(path: Path, *statements: str) -> None:
    """Change rows behind the back of every rule that the database itself knows."""
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA ignore_check_constraints = ON")
    for statement in statements:
        connection.execute(statement)
    connection.close()


async def test_books_in_order_pass(books: Database) -> None:
    assert await audit(books) == Audit(checked=2, broken=())


async def test_an_empty_ledger_passes(database: Database) -> None:
    assert await audit(database) == Audit(checked=0, broken=())


@pytest.mark.parametrize(
    ("statements", "told"),
    [
        ([MOVE.format(5)], "I1: the entries of org_alice sum to 70 ticks, its balance is 75"),
        (
            ["UPDATE entries SET amount_ticks = 101 WHERE kind = 'grant'"],
            "I1: the entries of org_alice sum to 71 ticks, its balance is 70",
        ),
        (["DELETE FROM entries"], "I1: the entries of org_alice sum to 0 ticks, its balance is 70"),
        ([HOLD.format("'r3'", 51)], "I3: org_alice has a balance of 70 ticks and 71 held"),
        (
            ["DELETE FROM holds", ENTRY.format("'adjustment'", -71), MOVE.format(-71)],
            "I3: org_alice has a balance of -1 ticks and 0 held",
        ),
        ([HOLD.format("'r1'", 1)], "I4: request r1 is charged and still held"),
        (
            [CHARGE.format(id="'r3'", request_id="'r3'", amount=-9, reserved=8), MOVE.format(-9)],
            "I6: request r3 was charged 9 ticks of 8 reserved",
        ),
        (
            [CHARGE.format(id="'r3'", request_id="'r3'", amount=9, reserved=10), MOVE.format(9)],
            "I6: request r3 was charged -9 ticks of 10 reserved",
        ),
        (
            [CHARGE.format(id="'r3'", request_id="'r3'", amount=-9, reserved="NULL"), MOVE.format(-9)],
            "I6: request r3 was charged 9 ticks of None reserved",
        ),
        (
            [CHARGE.format(id="'again'", request_id="'r3'", amount=-9, reserved=10), MOVE.format(-9)],
            "I6: request again was charged 9 ticks of 10 reserved",
        ),
        (
            [CHARGE.format(id="'nobodys'", request_id="NULL", amount=-9, reserved=10), MOVE.format(-9)],
            "I6: request nobodys was charged 9 ticks of 10 reserved",
        ),
        ([ENTRY.format("'grant'", -1), MOVE.format(-1)], "an entry of kind grant has the wrong sign: e"),
        ([ENTRY.format("'refund'", 0)], "an entry of kind refund has the wrong sign: e"),
    ],
)
async def test_a_broken_rule_is_found_and_named(
    books: Database, database_path: Path, statements: list[str], told: str
) -> None:
    plant(database_path, *statements)

    assert (await audit(books)).broken == (told,)


async def test_every_broken_rule_is_named_the_first_one_first(books: Database, database_path: Path) -> None:
    plant(database_path, HOLD.format("'r1'", 1), MOVE.format(-70))

    assert [line[:2] for line in (await audit(books)).broken] == ["I1", "I3", "I4"]

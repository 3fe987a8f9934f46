"""Rows that were changed behind the back of every rule, and the rule that finds them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import psycopg
import pytest

from leadline.chat.events import Usage
from leadline.ledger.audit import Audit, audit
from leadline.ledger.books import ENTRY_COLUMNS, digest_after
from leadline.ledger.ledger import Ledger
from leadline.ledger.token_costs import COST_COLUMNS
from leadline.ledger.usage import COUNTS
from leadline.money import Ticks
from leadline.storage.database import Database, Write
from tests.postgres import unchecked
from tests.unit.ledger.scenes import DAY, HOUR, NOON, SECOND, SteppedClock, failed, finished, hold, id_at, record

MOVE = "UPDATE accounts SET balance_ticks = balance_ticks + {0}"
HOLD = "INSERT INTO holds VALUES ({0}, 'org_alice', 'key-1', 'mock', '/', {1}, {2}, 0, 0, 0, 0, 0, 0, 0)"
ENTRY = (
    "INSERT INTO entries (organisation_id, number, id, at, kind, amount_ticks, reason, request_id, reserved_ticks,"
    " digest) VALUES ('{organisation}', 3, {id}, 1, '{kind}', {amount}, '', {request_id}, {reserved}, '')"
)
RECORD = (
    "INSERT INTO usage_records SELECT 9, 'r3', meter_id, began_at, at, '{status}', '', 0, 0, 0, 0, 0, 0, {cost}, NULL,"
    " 0 FROM usage_records WHERE request_id = 'r1'"
)
TABLES = ("usage_records", "usage_hours", "usage_days", "usage_hours_by", "usage_days_by")
GROUP = f"org_alice, key-1, mock, /v1/chat/completions, day {NOON // DAY}"
HOURS, RECORDS = f"I8: hours and days differ for {GROUP}", f"I8: records and days differ for {GROUP}"


def entry(
    kind: str,
    amount: int,
    *,
    id: str = "'e'",
    request_id: str = "NULL",
    reserved: str = "NULL",
    organisation: str = "org_alice",
) -> str:
    return ENTRY.format(
        kind=kind, amount=amount, id=id, request_id=request_id, reserved=reserved, organisation=organisation
    )


def charge(amount: int, request: str = "'r3'", *, id: str | None = None, reserved: str = "10") -> str:
    return entry("charge", amount, id=id or request, request_id=request, reserved=reserved)


@pytest.fixture
async def books(ledger: Ledger, database: Database) -> Ledger:
    """Books in order: a grant of 100, request `r1` charged 30 of 80, and request `r2` holding 20."""
    await ledger.grant("org_alice", Ticks(100), "welcome")
    charged, running = hold(80, name="r1"), hold(20, name="r2")
    for one in (charged, running):
        ledger.reserve(one)
        await ledger.checkpoint([(one, 0, Usage())])
    await ledger.settle(charged, finished(charged, 30))
    await ledger.tick()
    return ledger


@pytest.fixture
async def broken(books: Ledger, database: Database, clock: SteppedClock) -> "Broken":
    return Broken(books, database, clock)


class Broken:
    def __init__(self, books: Ledger, database: Database, clock: SteppedClock) -> None:
        self._books, self._database, self._clock = books, database, clock

    async def __call__(self) -> tuple[str, ...]:
        return (await audit(self._database, self._books, self._clock)).broken


def plant(place: Path | str, *statements: str) -> None:
    """Change rows behind the back of every rule that the database itself knows."""
    with behind(place) as execute:
        for statement in statements:
            execute(statement)


@contextmanager
def behind(place: Path | str) -> Iterator[Callable[[str], Any]]:
    """Executes what nothing checks."""
    if isinstance(place, str):
        unchecked(place)
        with psycopg.connect(place, autocommit=True) as connection:
            yield connection.execute
        return
    connection = apsw.Connection(str(place))
    connection.execute("PRAGMA ignore_check_constraints = ON")
    yield connection.execute
    connection.close()


def chain_anew(place: Path | str) -> None:
    """What somebody would do who changes entries and knows of their chain."""
    digest = ""
    with behind(place) as execute:
        for row in list(execute(f"SELECT {ENTRY_COLUMNS} FROM entries ORDER BY number")):
            digest = digest_after(digest, row)
            execute(f"UPDATE entries SET digest = '{digest}' WHERE id = '{row[1]}'")
        execute("UPDATE facts SET value = 0 WHERE name = 'entries_indexed'")


async def test_books_in_order_pass(books: Ledger, database: Database, clock: SteppedClock) -> None:
    assert await audit(database, books, clock) == Audit(checked=2, broken=())


async def test_an_empty_ledger_passes(ledger: Ledger, database: Database, clock: SteppedClock) -> None:
    assert await audit(database, ledger, clock) == Audit(checked=0, broken=())


@pytest.mark.parametrize(
    ("statements", "told"),
    [
        ([MOVE.format(5)], "I1: the entries of org_alice sum to 70 ticks, its balance is 75"),
        (
            ["UPDATE entries SET amount_ticks = 101 WHERE kind = 'grant'"],
            "I1: the entries of org_alice sum to 71 ticks, its balance is 70",
        ),
        (
            [entry("grant", 5, organisation="org_charlie")],
            "I1: there are entries of org_charlie, which has no account",
        ),
        ([entry("grant", -1), MOVE.format(-1)], "I1: an entry of kind grant has the wrong sign: e"),
        ([entry("refund", 0)], "I1: an entry of kind refund has the wrong sign: e"),
        ([entry("expiry", 1), MOVE.format(1)], "I1: an entry of kind expiry has the wrong sign: e"),
        ([HOLD.format("'r3'", 51, NOON)], "I3: org_alice has a balance of 70 ticks and 71 held"),
        (
            ["DELETE FROM holds", entry("adjustment", -71), MOVE.format(-71)],
            "I3: org_alice has a balance of -1 ticks and 0 held",
        ),
        (
            ["INSERT INTO expiring_grants VALUES ('org_alice', 1, 'e', 71)"],
            "I3: org_alice has 71 ticks left in grants that expire, its balance is 70",
        ),
        ([HOLD.format("'r1'", 1, NOON)], "I4: request r1 is charged and still held"),
        (
            [charge(0, "'r1'", id="'again'")],
            "I4: request r1 is charged 2 times",
        ),
        (
            [charge(-9, reserved="8"), MOVE.format(-9)],
            "I6: request r3 was charged 9 ticks of 8 reserved",
        ),
        (
            [charge(-9, reserved="NULL"), MOVE.format(-9)],
            "I6: request r3 was charged 9 ticks of None reserved",
        ),
        (
            [charge(-9, id="'again'"), MOVE.format(-9)],
            "I6: request again was charged 9 ticks of 10 reserved",
        ),
        (
            [charge(-9, "NULL", id="'nobodys'"), MOVE.format(-9)],
            "I6: request nobodys was charged 9 ticks of 10 reserved",
        ),
        (
            ["UPDATE usage_records SET cost_ticks = 29"],
            "I5: request r1 cost 29 ticks and was charged 30",
        ),
        ([RECORD.format(status="finished", cost=0)], "I5: request r3 cost 0 ticks and was charged None"),
        ([RECORD.format(status="interrupted", cost=3)], "I5: request r3 cost 3 ticks and was charged None"),
        ([RECORD.format(status="refused", cost=3)], "I5: request r3 cost 3 ticks and was charged None"),
        (["UPDATE usage_records SET status = 'failed'"], "I5: request r1 cost 30 ticks and was charged 30"),
        ([HOLD.format("'r3'", 1, NOON - 60 * SECOND - 1)], "I7: request r3 is held, but does not run"),
        (
            [f"UPDATE {table} SET cost_ticks = 31" for table in ("usage_days", "usage_hours")],
            "I8: the days of org_alice sum to 31 ticks, its charges to 30",
        ),
    ],
)
async def test_a_broken_rule_is_found_and_named(
    broken: Broken, database_place: Path | str, statements: list[str], told: str
) -> None:
    plant(database_place, *statements)
    chain_anew(database_place)

    assert (await broken())[0] == told


@pytest.mark.parametrize(
    "amount",
    [9, 1],
)
async def test_a_charge_that_gives_is_found(broken: Broken, database_place: Path | str, amount: int) -> None:
    plant(database_place, charge(amount), MOVE.format(amount))
    chain_anew(database_place)

    assert (await broken())[0] == "I1: an entry of kind charge has the wrong sign: r3"


@pytest.mark.parametrize(
    ("statements", "rules"),
    [
        ([MOVE.format(5)], ["I1"]),
        (["UPDATE entries SET amount_ticks = 101 WHERE kind = 'grant'"], ["I1"]),
        ([HOLD.format("'r3'", 51, NOON)], ["I3"]),
        ([HOLD.format("'r1'", 1, NOON)], ["I4"]),
        ([HOLD.format("'r3'", 1, NOON - 60 * SECOND - 1)], ["I7"]),
        (["UPDATE usage_records SET cost_ticks = 29"], ["I5", "I8"]),
        ([charge(-9), MOVE.format(-9)], ["I8"]),
        ([HOLD.format("'r1'", 1, NOON), MOVE.format(-70)], ["I1", "I3", "I4"]),
        (["DELETE FROM entries"], ["I1", "I5", "I8"]),
        (
            [charge(-9, "'r1'", id="'again'", reserved="8"), HOLD.format("'again'", 99, 1)],
            ["I1", "I3", "I4", "I4", "I6", "I7", "I8"],
        ),
    ],
)
async def test_only_the_rules_that_are_broken_are_named_the_first_one_first(
    broken: Broken, database_place: Path | str, statements: list[str], rules: list[str]
) -> None:
    plant(database_place, *statements)
    chain_anew(database_place)

    assert [line[:2] for line in await broken()] == rules


async def test_memory_that_contradicts_itself_is_named_before_the_rest(
    books: Ledger, broken: Broken, database_place: Path | str
) -> None:
    books._held["org_alice"] += 5
    plant(database_place, MOVE.format(5))

    told = await broken()

    assert told[1] == "I2: org_alice has 25 ticks held, its running requests 20"
    assert [line[:2] for line in told] == ["I1", "I2"]


async def test_a_request_that_runs_for_long_is_no_orphan(broken: Broken, clock: SteppedClock) -> None:
    clock.step(HOUR)

    assert await broken() == ()


async def test_a_hold_is_no_orphan_within_its_first_minute(broken: Broken, database_place: Path | str) -> None:
    plant(database_place, HOLD.format("'r3'", 1, NOON - 60 * SECOND))

    assert await broken() == ()


async def test_failed_and_refused_requests_are_in_order(books: Ledger, broken: Broken, clock: SteppedClock) -> None:
    running = hold(20, name=id_at(NOON))
    books.reserve(running)
    await books.settle(running, failed(running))
    books.note(record(hold(0, name=id_at(NOON, 1)), status="refused"))
    await books.tick()

    assert await broken() == ()


@pytest.mark.parametrize("column", COUNTS)
async def test_an_hour_that_differs_from_its_day_is_found(
    broken: Broken, database_place: Path | str, column: str
) -> None:
    plant(database_place, f"UPDATE usage_hours SET {column} = {column} + 1")

    assert HOURS in await broken()


@pytest.mark.parametrize("column", COUNTS)
async def test_a_day_that_differs_from_its_hours_and_records_is_found(
    broken: Broken, database_place: Path | str, column: str
) -> None:
    plant(database_place, f"UPDATE usage_days SET {column} = {column} + 1")

    assert {HOURS, RECORDS} <= set(await broken())


@pytest.mark.parametrize("column", COUNTS[3:])
async def test_a_record_that_differs_from_its_day_is_found(
    broken: Broken, database_place: Path | str, column: str
) -> None:
    plant(database_place, f"UPDATE usage_records SET {column} = {column} + 1")

    assert RECORDS in await broken()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE usage_records SET meter_id = meter_id + 1",
        "UPDATE usage_records SET status = 'refused'",
        f"UPDATE usage_records SET at = at + {DAY}",
        "DELETE FROM usage_records",
    ],
)
async def test_a_record_that_is_elsewhere_or_gone_is_found(
    broken: Broken, database_place: Path | str, statement: str
) -> None:
    plant(database_place, statement)

    assert RECORDS in await broken()


@pytest.mark.parametrize("table", ["usage_hours", "usage_days"])
async def test_a_sum_that_is_gone_is_found(broken: Broken, database_place: Path | str, table: str) -> None:
    plant(database_place, f"DELETE FROM {table}")

    assert HOURS in await broken()


@pytest.mark.parametrize("column", [*COUNTS, *COST_COLUMNS])
@pytest.mark.parametrize(("table", "other"), [("usage_days_by", "meters"), ("usage_hours_by", "hours")])
async def test_a_sum_of_a_side_that_differs_from_its_meters_or_hours_is_found(
    broken: Broken, database_place: Path | str, table: str, other: str, column: str
) -> None:
    plant(database_place, f"UPDATE {table} SET {column} = {column} + 1 WHERE side = 'key'")

    assert f"I8: {other} and days differ for key key-1 of org_alice, day {NOON // DAY}" in await broken()


async def test_a_charge_that_is_not_indexed_yet_is_in_order(books: Ledger, broken: Broken) -> None:
    running = hold(20, name=id_at(NOON))
    books.reserve(running)
    await books.settle(running, finished(running, 10))

    assert await broken() == ()


CHANGES = {
    "number": "number + 10",
    "id": "id || 'x'",
    "organisation_id": "'org_charlie'",
    "at": "at + 1",
    "kind": "CASE kind WHEN 'adjustment' THEN 'refund' ELSE 'adjustment' END",
    "amount_ticks": "amount_ticks + 1",
    "reason": "reason || 'x'",
    "request_id": "COALESCE(request_id, '') || 'x'",
    "key_id": "COALESCE(key_id, '') || 'x'",
    "model": "COALESCE(model, '') || 'x'",
    "reserved_ticks": "COALESCE(reserved_ticks, 0) + 1",
    "digest": "'00' || substr(digest, 3)",
}


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize(("column", "changed"), CHANGES.items(), ids=CHANGES)
async def test_an_entry_of_which_one_column_was_changed_is_found(
    broken: Broken, database_place: Path | str, column: str, changed: str, number: int
) -> None:
    plant(database_place, f"UPDATE entries SET {column} = {changed} WHERE number = {number}")

    *_, last = await broken()
    assert last.startswith("I9: the chain of entries")


def test_every_column_of_an_entry_is_tried() -> None:
    assert list(CHANGES) == [*ENTRY_COLUMNS.split(", "), "digest"]


@pytest.mark.parametrize("column", ["request_id", "key_id", "model"])
async def test_nothing_is_not_the_same_as_an_empty_text_in_an_entry(
    broken: Broken, database_place: Path | str, column: str
) -> None:
    plant(database_place, f"UPDATE entries SET {column} = '' WHERE number = 1")

    assert await broken() == ("I9: the chain of entries breaks at entry 1",)


@pytest.mark.parametrize(
    ("statements", "told"),
    [
        (["DELETE FROM entries WHERE number = 2"], "I9: the chain of entries ends at entry 1, but there were 2"),
        (["DELETE FROM entries WHERE number = 1"], "I9: the chain of entries breaks at entry 2"),
        (["DELETE FROM entries"], "I9: the chain of entries ends at entry 0, but there were 2"),
        (
            [f"UPDATE entries SET number = {new} WHERE number = {old}" for old, new in ((1, 9), (2, 1), (9, 2))],
            "I9: the chain of entries breaks at entry 1",
        ),
        ([entry("adjustment", 0)], "I9: the chain of entries breaks at entry 3"),
    ],
    ids=["last gone", "first gone", "all gone", "swapped", "one more"],
)
async def test_a_broken_chain_is_found(
    broken: Broken, database_place: Path | str, statements: list[str], told: str
) -> None:
    plant(database_place, *statements)

    assert (await broken())[-1] == told


async def test_a_number_that_was_left_out_is_found_even_if_the_chain_is_made_anew(
    broken: Broken, database_place: Path | str
) -> None:
    plant(database_place, "UPDATE entries SET number = 3 WHERE number = 2")
    chain_anew(database_place)

    assert await broken() == ("I9: the chain of entries breaks at entry 3",)


async def test_an_entry_that_was_changed_with_its_own_digest_breaks_the_chain_at_the_next_one(
    broken: Broken, database_place: Path | str
) -> None:
    plant(database_place, "UPDATE entries SET reason = 'a bribe' WHERE number = 1")
    with behind(database_place) as execute:
        changed = execute(f"SELECT {ENTRY_COLUMNS} FROM entries WHERE number = 1").fetchone()
        execute(f"UPDATE entries SET digest = '{digest_after('', changed)}' WHERE number = 1")

    assert await broken() == ("I9: the chain of entries breaks at entry 2",)


async def test_a_charge_that_was_wiped_out_everywhere_is_found_by_the_chain_alone(
    broken: Broken, database_place: Path | str
) -> None:
    plant(
        database_place,
        "DELETE FROM entries WHERE number = 2",
        *(f"DELETE FROM {table}" for table in TABLES),
        MOVE.format(30),
    )

    assert await broken() == ("I9: the chain of entries ends at entry 1, but there were 2",)


async def test_of_many_rows_that_break_one_rule_only_some_are_named(broken: Broken, database_place: Path | str) -> None:
    plant(
        database_place,
        *(entry("refund", 0, id=f"'e{number}'").replace(" 3,", f" {number},", 1) for number in range(3, 60)),
    )
    chain_anew(database_place)

    assert [line[:2] for line in await broken()] == ["I1"] * 20


async def test_a_long_audit_tells_how_far_it_is(ledger: Ledger, database: Database, clock: SteppedClock) -> None:
    await database.commit(
        Write(
            "WITH RECURSIVE n (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM n WHERE number < 20001)"
            " INSERT INTO entries (organisation_id, number, id, at, kind, amount_ticks, reason, digest)"
            " SELECT 'org_alice', number, 'e' || number, 1, 'adjustment', 1, '', '' FROM n",
            rows=None,
        ),
        Write("UPDATE accounts SET balance_ticks = 20001"),
    )
    await ledger.load()
    heard: list[int] = []

    audited = await audit(database, ledger, clock, heard.append)

    assert audited == Audit(checked=20_001, broken=())
    assert heard == [10_000, 20_000]

"""An upgrade splits the costs of old records, and adds them up, exactly as it is done from then on."""

import asyncio
import uuid
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leadline.catalog.prices import Prices
from leadline.chat.events import Usage
from leadline.ledger.token_costs import COST_COLUMNS, TOKEN_CLASSES
from leadline.ledger.usage import COUNTS, index_records
from leadline.money import Ticks
from leadline.storage.database import Database
from tests.unit.ledger.histories import STEPS, History

FILES = sorted(resources.files("leadline.storage").joinpath("migrations").iterdir(), key=lambda file: file.name)
SPLIT_SINCE = 14
SUMS = tuple(
    f"SELECT meter_id, {period}, {', '.join((*COUNTS, *COST_COLUMNS))} FROM usage_{period}s ORDER BY 1, 2"
    for period in ("hour", "day")
)
OF_SIDES = tuple(
    f"SELECT organisation_id, side, name, {period}, {', '.join((*COUNTS, *COST_COLUMNS))} FROM usage_{period}s_by"
    " ORDER BY 1, 2, 3, 4"
    for period in ("hour", "day")
)
FOUND = "SELECT organisation_id, request_id, number, meter_id, outcome FROM records_of ORDER BY 1, 2"


def before_the_split(path: Path, indexed: Path, first: int) -> None:
    """The usage of the database at `indexed` as it was kept before its costs were split; only the `first` records were
    indexed."""
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE migrations (number BIGINT PRIMARY KEY, name TEXT NOT NULL, applied_at BIGINT)")
    for file in FILES:
        if int(file.name[:4]) < SPLIT_SINCE and file.name.endswith(".sql"):
            connection.execute(file.read_text("utf-8"))
            connection.execute("INSERT INTO migrations VALUES (?, ?, 1)", (int(file.name[:4]), file.name))
    connection.execute("ATTACH ? AS new", (str(indexed),))
    for table in ("meters", "prices", "usage_records"):
        connection.execute(f"INSERT INTO {table} SELECT * FROM new.{table}")
    for period in ("hour", "day"):
        columns = ", ".join(("meter_id", period, *COUNTS))
        connection.execute(f"INSERT INTO usage_{period}s SELECT {columns} FROM new.usage_{period}s")
    connection.execute(
        "INSERT INTO records_of SELECT organisation_id, request_id, number FROM new.records_of WHERE number <= ?",
        (first,),
    )
    connection.execute(
        "UPDATE facts SET value = MIN(?, (SELECT COALESCE(MAX(number), 0) FROM usage_records))"
        " WHERE name = 'records_indexed'",
        (first,),
    )
    connection.close()


@given(steps=STEPS, first=st.integers(0, 25))
@settings(
    max_examples=settings().max_examples // 20,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_the_upgrade_splits_costs_as_the_index_does(
    tmp_path_factory: pytest.TempPathFactory, steps: Sequence[tuple[Any, ...]], first: int
) -> None:
    async def test() -> None:
        folder = tmp_path_factory.mktemp("upgrade")
        indexed, upgraded = folder / f"{uuid.uuid4().hex}.db", folder / f"{uuid.uuid4().hex}.db"
        history = await History.opened(indexed)
        await history.play(steps)
        await history.database.together(index_records, None)
        expected = [await history.database.rows(query) for query in (*SUMS, *OF_SIDES, FOUND)]
        split = [sum(parts[name] for _, parts in history.records) for name in TOKEN_CLASSES]
        await history.database.close()
        before_the_split(upgraded, indexed, first)

        database = Database(upgraded)
        await database.together(index_records, None)

        assert [await database.rows(query) for query in (*SUMS, *OF_SIDES, FOUND)] == expected
        sums = ", ".join(f"COALESCE(SUM({name}), 0)" for name in COST_COLUMNS)
        for table in ("usage_hours", "usage_days"):
            assert await database.rows(f"SELECT {sums} FROM {table}") == [tuple(split)]
        await database.close()

    asyncio.run(test())


async def test_a_prompt_at_the_threshold_has_the_prices_of_a_long_context(tmp_path: Path) -> None:
    history = await History.opened(tmp_path / "threshold.db")
    place = ("tiny", "key-1", "/v1/messages")
    prices = Prices(Ticks(1), None, None, Ticks(2), None, 20, Ticks(10), output_long_context=Ticks(30))
    await history.play(
        [
            ("price", "tiny", prices),
            ("request", place, ("finished", Usage(20, 5, 0, 3, 2), 10**6, 0)),
            ("request", place, ("finished", Usage(19, 5, 0, 3, 2), 10**6, 0)),
            ("tick", None, None),
        ]
    )

    [row] = await history.database.rows(f"SELECT {', '.join(COST_COLUMNS)}, cost_ticks FROM usage_days")

    assert row == (150 + 14, 5 + 5, 0, 90 + 6, 60 + 4, 305 + 29)
    await history.database.close()

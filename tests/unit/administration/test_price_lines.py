"""How a request's price came about: its lines add up to its charge."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hypothesis import HealthCheck, given, settings

from leadline.administration.commands.requests import price_lines
from leadline.ledger.explorer import TOKEN_CLASSES
from tests.unit.ledger.histories import STEPS, History


@given(steps=STEPS)
@settings(
    max_examples=settings().max_examples * 3 // 10,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_the_lines_of_any_request_add_up_to_its_charge(
    new_place: Callable[[], Path | str], steps: Sequence[tuple[Any, ...]]
) -> None:
    async def test() -> None:
        history = await History.opened(new_place())
        await history.play(steps)
        instance: Any = SimpleNamespace(prices=history.prices)
        for record, parts in history.records:
            lines = price_lines(instance, record)
            assert sum(line["ticks"] for line in lines) == record.cost_ticks
            by_class = {line["class"]: line["ticks"] for line in lines}
            if "reserved" not in by_class:
                assert {name: by_class.get(name, 0) for name in TOKEN_CLASSES} == {
                    name: parts[name] for name in TOKEN_CLASSES
                }
        await history.database.close()

    asyncio.run(test())

"""A whole generation at once, for tests: in the product each batch goes through an encoder as it comes."""

from collections.abc import AsyncIterable

from leadline.chat.collect import ChatAnswer, Collector
from leadline.chat.events import ChatEvent


async def collect(batches: AsyncIterable[tuple[ChatEvent, ...]], choices: int = 1) -> ChatAnswer:
    """Fold all of a generation's events."""
    collector = Collector(choices)
    async for batch in batches:
        if answer := collector.add(batch):
            return answer
    raise AssertionError("an engine must end with Finished or raise")

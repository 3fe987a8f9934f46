"""The vectors of a request: each cut to the dimensions that were asked for, the same for every engine."""

import math
from array import array
from collections.abc import AsyncGenerator
from contextlib import aclosing

from leadline.chat.events import ChatEvent, Embedded, Finished, Usage
from leadline.chat.request import ChatRequest
from leadline.engines.engine import Engine
from leadline.errors import InvalidRequest


async def embed(
    engine: Engine, request: ChatRequest, prompt_estimate: int
) -> AsyncGenerator[tuple[ChatEvent, ...], None]:
    """The events of all prompts of `request`. Where the engine does not count, each has `prompt_estimate` tokens."""
    assert request.vectors is not None
    dimensions = request.vectors.dimensions
    uncounted = Finished(Usage(prompt_tokens=prompt_estimate * len(request.prompts)))
    async with aclosing(engine.embed(request)) as batches:
        async for batch in batches:
            cut = batch if dimensions is None else tuple(_cut(event, dimensions) for event in batch)
            last = cut[-1]
            yield (*cut[:-1], uncounted) if isinstance(last, Finished) and not last.usage.prompt_tokens else cut


def _cut(event: ChatEvent, dimensions: int) -> ChatEvent:
    """The first dimensions of a vector, made one long again."""
    if not isinstance(event, Embedded) or len(event.vector) == dimensions:
        return event
    if len(event.vector) < dimensions:
        raise InvalidRequest(
            f"dimensions is {dimensions}, but the vectors of this model have {len(event.vector)}.", "dimensions"
        )
    kept = event.vector[:dimensions]
    length = math.hypot(*kept) or 1.0
    return Embedded(array("f", (value / length for value in kept)), event.choice)

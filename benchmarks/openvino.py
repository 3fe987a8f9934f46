"""OpenVINO GenAI's child without Leadline around it: asked over its own socket, in its own words."""

import time
from dataclasses import dataclass
from typing import Any

import msgspec

from benchmarks.load import Answer
from leadline.engines.openvino import wire
from leadline.engines.openvino.link import Link
from leadline.errors import EngineFailed

# SmolLM2's.
_TURN = "<|im_start|>{role}\n{content}<|im_end|>\n"
_ANSWER = "<|im_start|>assistant\n"


@dataclass(frozen=True, slots=True)
class Child:
    """It gets the bodies that Leadline gets, as prompts. All requests share its one connection."""

    link: Link

    def close(self) -> None:
        """There are no further connections."""

    async def ask(self, body: bytes) -> Answer:
        request: dict[str, Any] = msgspec.json.decode(body)
        began, first, output_tokens = time.perf_counter(), 0.0, 0
        text = "".join(_TURN.format_map(message) for message in request["messages"]) + _ANSWER
        started: wire.Began | None = None
        async for batch in self.link.generate(_generate(self.link.number(), text, request["max_tokens"])):
            for message in batch:
                match message:
                    case wire.Began():
                        started = message
                    case wire.Wrote(_, said, tokens):
                        first = first or (time.perf_counter() if said else 0.0)
                        output_tokens += tokens
        if started is None or not first:
            raise EngineFailed("The child sent no text.")
        return Answer(first - began, started.prompt_tokens, started.cached_tokens, output_tokens)


def _generate(number: int, text: str, most_tokens: int) -> wire.Generate:
    """As Leadline asks for an answer at temperature 0."""
    return wire.Generate(
        number=number,
        prompt=[(text, True)],
        most_tokens=most_tokens,
        temperature=0.0,
        top_p=1.0,
        top_k=40,
        min_p=0.05,
        presence_penalty=0.0,
        frequency_penalty=0.0,
        seed=0,
        grammar=None,
        kept=[],
        logprobs=False,
        scope="",
    )

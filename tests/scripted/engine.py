"""An engine that replays scripts: what it answers, where it breaks, and where it waits are the test's choice."""

import asyncio
import math
from array import array
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass, field, replace

from leadline.chat.events import (
    ChatEvent,
    ChoiceFinished,
    Embedded,
    Finished,
    ReasoningDelta,
    Started,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    ToolCallStarted,
    Usage,
)
from leadline.chat.request import ChatRequest, Text, ToolResult
from leadline.engines.engine import EngineStatus, ModelFacts, Token, Unneeded
from leadline.errors import EngineFailed, Unavailable

# Of the models whose names begin so.
EMBEDS = frozenset(("embeddings",))
CAPABILITIES = frozenset(("chat", "completions", "tools", "json", "logprobs", "reasoning"))


@dataclass(frozen=True)
class Stall:
    """Wait here until the engine's `release` is set, or the request is aborted."""


@dataclass(frozen=True)
class Pause:
    """Wait here for so long; with 0 the loop's other tasks have a turn."""

    seconds: float = 0.0


Step = tuple[ChatEvent, ...] | Exception | Stall | Pause
Script = Callable[[ChatRequest], Iterable[Step]]


@dataclass
class ScriptedEngine:
    """`scripts` by upstream model name. Every request, abort and end is on record; events are set from the loop."""

    scripts: dict[str, Script]
    name: str = "scripted"
    ready: bool = True
    context_tokens: int | None = 1000
    requests: list[ChatRequest] = field(default_factory=list)
    aborted: list[str] = field(default_factory=list)
    running: int = 0
    release: asyncio.Event = field(default_factory=asyncio.Event)
    # Told of each request that ends, however it does.
    on_end: Callable[[ChatRequest], None] = lambda _: None

    @property
    def status(self) -> EngineStatus:
        return EngineStatus(self.ready, "scripted" if self.ready else "loading")

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def take(self) -> Unneeded:
        if not self.ready:
            raise Unavailable("The engine is not ready: loading. Try again in a moment.")
        return Unneeded()

    def facts(self, model: str) -> ModelFacts:
        capabilities = EMBEDS if model.startswith("embed") else CAPABILITIES
        return ModelFacts(self.context_tokens, capabilities, ("scripted", model))

    def leaves_room(self, request: ChatRequest) -> bool:
        return True

    def most_prompt_tokens(self, request: ChatRequest) -> int:
        return prompt_tokens(request)

    async def count_prompt_tokens(self, request: ChatRequest) -> int | None:
        return prompt_tokens(request)

    async def tokenize(self, model: str, text: str) -> tuple[Token, ...] | None:
        """A token a word, numbered by its length."""
        return tuple(Token(len(word), word.encode()) for word in text.split())

    def embed(self, request: ChatRequest) -> AsyncGenerator[tuple[ChatEvent, ...], None]:
        return self.generate(request)

    async def generate(self, request: ChatRequest) -> AsyncGenerator[tuple[ChatEvent, ...], None]:
        self.requests.append(request)
        self.running += 1
        ended = False
        try:
            for step in self.scripts[request.model](request):
                if isinstance(step, Stall):
                    await self.release.wait()
                elif isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
                elif isinstance(step, Exception):
                    ended = True
                    raise step
                else:
                    yield step
            ended = True
        finally:
            self.running -= 1
            if not ended:
                self.aborted.append(request.model)
            self.on_end(request)


def prompt_tokens(request: ChatRequest) -> int:
    """A token a word, and one for each token."""
    if request.prompts:
        return sum(len(prompt.split() if isinstance(prompt, str) else prompt) for prompt in request.prompts)
    return sum(len(words(message.content)) for message in request.messages)


def prompt_words(prompt: str | tuple[int, ...]) -> list[str]:
    """A token id is a word, `t` with its number."""
    return prompt.split() if isinstance(prompt, str) else [f"t{token_id}" for token_id in prompt]


def words(blocks: Iterable[object]) -> list[str]:
    out: list[str] = []
    for block in blocks:
        match block:
            case Text():
                out += block.text.split()
            case ToolResult():
                out += words(block.content)
            case _:
                out.append("block")
    return out


def echo(request: ChatRequest) -> Iterable[Step]:
    """The words of the last message or of the prompt, one a token, as many as are allowed."""
    said = prompt_words(request.prompts[0]) if request.prompts else words(request.messages[-1].content)
    most = request.max_output_tokens or 0
    prompt = prompt_tokens(request)
    yield (Started(prompt, 0),)
    for number, word in enumerate(said[:most]):
        text = word if number == 0 else f" {word}"
        logprobs = ()
        if request.top_logprobs is not None:
            top = tuple(TokenLogprob(f"other{i}", -2.0 - i, (111,)) for i in range(request.top_logprobs))
            logprobs = (TokenLogprob(text, -0.5, tuple(text.encode()), top),)
        yield (TextDelta(text, 1, 0, logprobs),)
    yield (
        ChoiceFinished("length" if len(said) > most else "stop"),
        Finished(Usage(prompt_tokens=prompt, output_tokens=min(most, len(said)))),
    )


def slow_echo(request: ChatRequest) -> Iterable[Step]:
    """Three words, then it stalls."""
    yield (Started(prompt_tokens(request), 0),)
    for word in ("one", " two", " three"):
        yield (TextDelta(word),)
    yield Stall()
    yield (ChoiceFinished("stop"), Finished(Usage(prompt_tokens=prompt_tokens(request), output_tokens=3)))


def stall(request: ChatRequest) -> Iterable[Step]:
    """Begins on the prompt and says nothing."""
    yield (Started(prompt_tokens(request), 0),)
    yield Stall()
    yield (ChoiceFinished("stop"), Finished(Usage(prompt_tokens=prompt_tokens(request))))


def broken_before(_: ChatRequest) -> Iterable[Step]:
    yield EngineFailed("The engine broke.")


def broken_in_prompt(request: ChatRequest) -> Iterable[Step]:
    yield (Started(prompt_tokens(request), 0),)
    yield EngineFailed("The engine broke.")


def broken_after(request: ChatRequest) -> Iterable[Step]:
    yield (Started(prompt_tokens(request), 0),)
    yield (TextDelta("one"), TextDelta(" two"))
    yield EngineFailed("The engine broke.")


def busy(_: ChatRequest) -> Iterable[Step]:
    yield Unavailable("The engine is busy.")


def crash(_: ChatRequest) -> Iterable[Step]:
    """A bug of ours, not a fact."""
    yield RuntimeError("a secret of the inside")


def weather(request: ChatRequest) -> Iterable[Step]:
    """Thinks, speaks, and calls two tools; once it has their results, it answers."""
    prompt = prompt_tokens(request)
    if request.messages[-1].role == "tool":
        yield from echo(request)
        return
    cached = min(2, prompt)
    yield (Started(prompt, cached),)
    yield (ReasoningDelta("hm"), ReasoningDelta(", two"))
    yield (TextDelta("Let me look."),)
    yield (ToolCallStarted(0, "call_a", "weather"), ToolCallDelta(0, '{"city":'), ToolCallDelta(0, '"Paris"}'))
    yield (ToolCallStarted(1, "call_b", "clock"), ToolCallDelta(1, "{}", 0))
    yield (
        ChoiceFinished("tool_calls"),
        Finished(Usage(prompt_tokens=prompt, cached_tokens=cached, output_tokens=5, reasoning_tokens=2)),
    )


def vector(prompt: str | tuple[int, ...]) -> "array[float]":
    """Four numbers of the words or tokens, one long."""
    lengths = [len(word) for word in prompt.split()] if isinstance(prompt, str) else list(prompt)
    numbers = [1.0, float(len(lengths)), float(sum(lengths)), float(max(lengths, default=0))]
    return array("f", (number / math.hypot(*numbers) for number in numbers))


def embed(request: ChatRequest) -> Iterable[Step]:
    """The vectors, the last one first."""
    counts = [prompt_tokens(replace(request, prompts=(prompt,))) for prompt in request.prompts]
    yield tuple(Started(count) for count in counts)
    yield tuple(Embedded(vector(prompt), number) for number, prompt in enumerate(request.prompts))[::-1]
    yield (Finished(Usage(prompt_tokens=sum(counts))),)


def embed_stall(request: ChatRequest) -> Iterable[Step]:
    """Begins on the prompts and says nothing."""
    yield tuple(Started() for _ in request.prompts)
    yield Stall()
    yield from embed(request)


def embed_uncounted(request: ChatRequest) -> Iterable[Step]:
    yield tuple(Started() for _ in request.prompts)
    yield tuple(Embedded(vector(prompt), number) for number, prompt in enumerate(request.prompts))
    yield (Finished(Usage()),)


SCRIPTS: dict[str, Script] = {
    "echo": echo,
    "slow": slow_echo,
    "stall": stall,
    "broken-before": broken_before,
    "broken-in-prompt": broken_in_prompt,
    "broken-after": broken_after,
    "busy": busy,
    "crash": crash,
    "weather": weather,
    "embed": embed,
    "embed-stall": embed_stall,
    "embed-uncounted": embed_uncounted,
    "embed-broken": broken_in_prompt,
}

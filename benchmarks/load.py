"""The load: the same requests, by the same client, to whichever server is measured."""

import asyncio
import random
import time
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import msgspec

from leadline.engines.upstream.http import HttpClient
from leadline.engines.upstream.sse import EventParser
from leadline.errors import EngineFailed

MODEL = "smollm2-135m-instruct"
MAX_TOKENS = 64
_WAIT_SECONDS = 120.0
_SYSTEM = "You are Grok, a chatbot inspired by the Hitchhikers Guide to the Galaxy."
_WORDS = (
    *("river", "stone", "window", "garden", "winter", "music", "paper", "silver", "morning", "bridge", "letter"),
    *("forest", "engine", "market", "island", "mirror", "summer", "kitchen", "shadow", "doctor", "ticket", "planet"),
    *("harbor", "candle", "blanket", "farmer", "valley", "rocket", "pencil", "castle"),
)
_TASK = "Write a long story with all of these words."
# With the rest of the prompt, about 200 tokens.
_WORDS_IN_TEXT = 155


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta


class _PromptDetails(msgspec.Struct):
    cached_tokens: int = 0


class _Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int
    prompt_tokens_details: _PromptDetails | None = None


class _Chunk(msgspec.Struct):
    choices: tuple[_Choice, ...] = ()
    usage: _Usage | None = None


_decoder = msgspec.json.Decoder(_Chunk)


@dataclass(frozen=True, slots=True)
class Answer:
    """One streamed answer. The tokens are the server's own final count."""

    ttft_seconds: float
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Burst:
    """Requests sent together, from the first byte sent to the last one received. Answers in the requests' order."""

    answers: tuple[Answer, ...]
    seconds: float


def bodies(concurrency: int, name: str) -> list[bytes]:
    """The requests of one burst. No two texts of a run begin alike, so no cached prompt helps."""
    return [_body(f"{concurrency} {name} {number}") for number in range(concurrency)]


def _body(name: str) -> bytes:
    words = " ".join(random.Random(name).choices(_WORDS, k=_WORDS_IN_TEXT))
    request = {
        "model": MODEL,
        "messages": [
            {"role": "system", "content": _SYSTEM},
            {"role": "user", "content": f"{words}. {_TASK}"},
        ],
        "max_tokens": MAX_TOKENS,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return msgspec.json.encode(request)


class Asked(Protocol):
    """What is measured in place of an HTTP server."""

    def close(self) -> None: ...

    async def ask(self, body: bytes) -> Answer: ...


async def burst(client: HttpClient | Asked, requests: list[bytes]) -> Burst:
    """Send all `requests` together, on new connections."""
    client.close()
    began = time.perf_counter()
    try:
        async with asyncio.TaskGroup() as group:
            ask = partial(_ask, client) if isinstance(client, HttpClient) else client.ask
            tasks = [group.create_task(ask(body)) for body in requests]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return Burst(tuple(task.result() for task in tasks), time.perf_counter() - began)


async def _ask(client: HttpClient, body: bytes) -> Answer:
    began = time.perf_counter()
    response = await client.send("POST", "/v1/chat/completions", body, _WAIT_SECONDS)
    try:
        if response.status != 200:
            text = (await response.read(_WAIT_SECONDS)).decode("utf-8", "replace")
            raise EngineFailed(f"{client.name} answered {response.status}: {text}")
        events, first, usage = EventParser(), 0.0, None
        while piece := await response.piece(_WAIT_SECONDS):
            for payload in events.feed(piece):
                if payload == b"[DONE]":
                    continue
                chunk = _decoder.decode(payload)
                if not first and any(choice.delta.content for choice in chunk.choices):
                    first = time.perf_counter()
                usage = chunk.usage or usage
    finally:
        response.close()
    if not first or usage is None:
        raise EngineFailed(f"{client.name} sent no text, or no usage.")
    cached = usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else 0
    return Answer(first - began, usage.prompt_tokens, cached, usage.completion_tokens)

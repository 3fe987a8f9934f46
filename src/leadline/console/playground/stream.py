"""An answer on its way to the playground: lines of JSON, each an object with one name that says what it holds.

`started` comes first, then any number of `text` and `thought`, and last `end` or `error`. Empty lines say nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

import msgspec
from starlette.responses import Response

from leadline.chat.collect import ChatAnswer, Collector
from leadline.chat.events import ReasoningDelta, TextDelta, Usage
from leadline.chat.request import Text
from leadline.console.playground.refusals import Refusal
from leadline.console.playground.rich_text import Node, code_block, rich_text
from leadline.errors import ClientGone, LeadlineError, Unavailable
from leadline.money import show_usd
from leadline.serving.generation import Generation
from leadline.web.exchange import Exchange, Receive, Send

# With nothing to say for this long, an empty line goes out; a reader who takes nothing for so long is given up.
KEEP_ALIVE_SECONDS = 10.0
STALLED_SECONDS = 30.0
# Batches that are written before others have their turn.
_BATCHES_PER_TURN = 32
_READERS = ThreadPoolExecutor(2, "leadline-rich-text")
_encode = msgspec.json.encode


class AnswerStream(Response):
    """Runs a generation that was admitted, and settles it. `refusal_of` puts an error into words, `standing` says what
    the answer left of credits and limits."""

    media_type = "application/x-ndjson"

    def __init__(
        self,
        generation: Generation,
        refusal_of: Callable[[LeadlineError], Refusal],
        standing: Callable[[], dict[str, Any]],
        *,
        is_json: bool,
    ) -> None:
        self.status_code, self.background = 200, None
        self.init_headers({"x-accel-buffering": "no", "x-request-id": str(generation.request_id)})
        self._generation, self._refusal_of, self._standing = generation, refusal_of, standing
        self._is_json = is_json

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send, self._generation.request_id)
        writer = _Writer(exchange)
        with suppress(ClientGone):
            last = await self._run(exchange, writer)
            await writer.write(last)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _run(self, exchange: Exchange, writer: "_Writer") -> dict[str, Any]:
        """What the last line says. The engine is free again before it is written."""
        generation, answer = self._generation, None
        try:
            async with generation:
                start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
                await exchange.send(start)
                async with exchange.while_connected(), writer.kept_alive():
                    answer = await self._pass_on(exchange, writer)
        except ClientGone:
            raise
        except Exception as error:
            return {"error": self._refusal_of(exchange.told(error))}
        return {"end": await self._told(answer)}

    async def _pass_on(self, exchange: Exchange, writer: "_Writer") -> ChatAnswer:
        generation = self._generation
        await writer.write({"started": {"request": str(generation.request_id), "model": generation.model}})
        collector, written = Collector(), 0
        try:
            async with aclosing(generation.events()) as batches:
                async for batch in batches:
                    # Before the write: whoever hangs up meanwhile has not been given this batch.
                    written += 1
                    if written % _BATCHES_PER_TURN == 0:
                        await asyncio.sleep(0)
                    answer = collector.add(batch)
                    if answer is not None and not generation.streams:
                        await writer.write({"text": _text_of(answer)})
                    elif lines := _lines(batch) if generation.streams else []:
                        await writer.write(*lines)
                    if answer is not None:
                        return answer
        except asyncio.CancelledError:
            stopping = Unavailable("The server is stopping. Ask again in a moment.")
            raise generation.why_cancelled(stopping, gone=exchange.gone) from None
        raise AssertionError("an engine must end with Finished or raise")

    async def _told(self, answer: ChatAnswer | None) -> dict[str, Any]:
        """How the answer stands at its end."""
        assert answer is not None
        generation, text = self._generation, _text_of(answer)
        return {
            "request": str(generation.request_id),
            "finish": answer.choices[0].finish_reason,
            "content": await content_of(text, is_json=self._is_json),
            **figures(answer.usage, generation.cost_ticks),
            **speed(answer.usage, generation.first_token_milliseconds, generation.milliseconds),
            **self._standing(),
        }


async def content_of(text: str, *, is_json: bool) -> list[Node]:
    """The tree of what a model wrote. It is read in a thread, of which there are few: it may be long."""
    if is_json:
        return [code_block(text, "json")]
    return await asyncio.get_running_loop().run_in_executor(_READERS, rich_text, text)


def figures(usage: Usage, cost_ticks: int) -> dict[str, Any]:
    tokens = {
        "input": usage.prompt_tokens,
        "cached": usage.cached_tokens,
        "output": usage.output_tokens,
        "reasoning": usage.reasoning_tokens,
    }
    return {"tokens": tokens, "cost": show_usd(cost_ticks)}


def speed(usage: Usage, first_token_milliseconds: int | None, total_milliseconds: int) -> dict[str, Any]:
    """Tokens a second are those after the first."""
    after_first = usage.output_tokens + usage.reasoning_tokens - 1
    took = total_milliseconds - (first_token_milliseconds or 0)
    per_second = round(after_first * 1000 / took, 1) if after_first > 0 and took > 0 else None
    return {
        "first_token_milliseconds": first_token_milliseconds,
        "total_milliseconds": total_milliseconds,
        "tokens_per_second": per_second,
    }


def _lines(batch: tuple[Any, ...]) -> list[dict[str, Any]]:
    """What came together and is of one kind is one line."""
    lines: list[dict[str, Any]] = []
    for event in batch:
        name = "text" if isinstance(event, TextDelta) else "thought" if isinstance(event, ReasoningDelta) else ""
        if not name:
            continue
        if lines and name in lines[-1]:
            lines[-1][name] += event.text
        else:
            lines.append({name: event.text})
    return lines


def _text_of(answer: ChatAnswer) -> str:
    return "".join(block.text for block in answer.choices[0].content if isinstance(block, Text))


class _Writer:
    """Writes lines, whole ones, and empty ones while there is nothing to say."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._loop = asyncio.get_running_loop()
        self._wrote_at = self._loop.time()

    async def write(self, *lines: dict[str, Any]) -> None:
        await self._send(b"".join(_encode(line) + b"\n" for line in lines))

    @asynccontextmanager
    async def kept_alive(self) -> AsyncIterator[None]:
        beat = asyncio.create_task(self._beat())
        try:
            yield
        finally:
            beat.cancel()

    async def _beat(self) -> None:
        while True:
            silent = self._loop.time() - self._wrote_at
            if silent >= KEEP_ALIVE_SECONDS:
                with suppress(ClientGone):
                    await self._send(b"\n")
                silent = 0
            await asyncio.sleep(max(0.01, KEEP_ALIVE_SECONDS - silent))

    async def _send(self, piece: bytes) -> None:
        self._wrote_at = self._loop.time()
        try:
            async with asyncio.timeout(STALLED_SECONDS):
                await self._exchange.send({"type": "http.response.body", "body": piece, "more_body": True})
        except TimeoutError:
            raise ClientGone from None
        if self._exchange.lost:
            raise ClientGone

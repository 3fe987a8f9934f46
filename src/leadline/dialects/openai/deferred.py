"""xAI's deferred completions: the request is answered with its id at once, the completion is fetched later."""

import asyncio
from collections.abc import Coroutine
from contextlib import aclosing
from typing import Any

import msgspec

from leadline.chat.events import Finished
from leadline.chat.request import ChatRequest
from leadline.dialects.answers import Form, record_once, send_recorded, start
from leadline.dialects.exchange import Exchange
from leadline.dialects.openai.errors import encode_error
from leadline.errors import LeadlineError, Unavailable
from leadline.serving.deferred import Deferred
from leadline.serving.generation import Generation
from leadline.serving.pipeline import Caller, Pipeline
from leadline.serving.replays import Recording

_JSON = b"application/json"
_STOPPED = "The server was stopped before this deferred request had ended, so it cost nothing. Send it again."


async def defer_chat(pipeline: Pipeline, caller: Caller, exchange: Exchange, request: ChatRequest, form: Form) -> None:
    """Admit `request`, answer with its id, and run it without its client. With an Idempotency-Key it runs once."""
    key = exchange.header(b"idempotency-key")
    told = msgspec.json.encode({"request_id": str(exchange.request_id)})
    if key is None:
        generation = await start(pipeline, caller, exchange, request, form)
        pipeline.deferred.begin(generation)
        pipeline.deferred.run(_make(exchange, generation, form, pipeline.deferred))
        await exchange.respond(200, told, [], _JSON)
        return

    async def begin(recording: Recording) -> Coroutine[Any, Any, None]:
        generation = await start(pipeline, caller, exchange, request, form)
        pipeline.deferred.begin(generation)
        recording.content_type = _JSON
        recording.add(told)
        recording.end()
        pipeline.replays.keep(generation, recording, lambda _: told)
        return _make(exchange, generation, form, pipeline.deferred)

    await send_recorded(exchange, await record_once(pipeline, caller, exchange, key, begin), form)


async def show_deferred_completion(pipeline: Pipeline, caller: Caller, exchange: Exchange) -> None:
    """202 while it runs, then the completion, once; or the error that came of it."""
    answer = await pipeline.take_deferred(caller, exchange.stored_id)
    if answer is None:
        await exchange.respond(202, b"", [], _JSON)
    else:
        headers = [] if answer.status == 200 else [(b"x-should-retry", b"false")]
        await exchange.respond(answer.status, answer.body, headers, _JSON)


async def _make(exchange: Exchange, generation: Generation, form: Form, deferred: Deferred) -> None:
    """Run the generation to its end and keep what came of it. Cut short by a stop it costs nothing."""

    async def fail(error: LeadlineError) -> None:
        await deferred.fail(generation, *encode_error(error, str(generation.request_id)))

    try:
        async with generation:
            encoder = form.whole(generation)
            deferred.keep(generation, encoder.encode)
            try:
                async with aclosing(generation.events()) as batches:
                    async for batch in batches:
                        if not isinstance(batch[-1], Finished):
                            encoder.encode(batch)
            except asyncio.CancelledError:
                generation.fail(Unavailable(_STOPPED))
                raise
    except asyncio.CancelledError:
        await fail(generation.stopped_by or Unavailable(_STOPPED))
        raise
    except Exception as error:
        await fail(exchange.told(error))
    finally:
        deferred.end(generation)

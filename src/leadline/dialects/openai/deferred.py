"""xAI's deferred completions: the request is answered with its id at once, the completion is fetched later."""

from collections.abc import Coroutine, Mapping
from typing import Any

import msgspec

from leadline.dialects.answers import Form, record_exchange, send_recorded, start
from leadline.dialects.openai.decode import Body, to_request
from leadline.dialects.openai.encode import encode_answer
from leadline.dialects.recordings import Recorder
from leadline.serving.codec import KeptAnswer
from leadline.serving.pipeline import Caller, Pipeline
from leadline.serving.replays import Recording
from leadline.web.exchange import Exchange

_JSON = b"application/json"
# The note on a kept answer that is told in the words before `tools`.
FUNCTIONS: Mapping[str, bytes] = {"openai": b"functions"}


async def defer_chat(pipeline: Pipeline, caller: Caller, exchange: Exchange, body: Body, form: Form) -> None:
    """Admit a request, answer with its id, and run it without its client. With an Idempotency-Key it runs once."""
    request, notes = to_request(body), FUNCTIONS if body.speaks_of_functions else {}
    key = exchange.header(b"idempotency-key")
    told = msgspec.json.encode({"request_id": str(exchange.request_id)})
    if key is None:
        generation = await start(pipeline, caller, exchange, request, form)
        pipeline.deferred.run(pipeline.deferred.make(generation, notes, exchange.told))
        await exchange.respond(200, told, [], _JSON)
        return

    async def begin(recording: Recording) -> Coroutine[Any, Any, None]:
        generation = await start(pipeline, caller, exchange, request, form)
        recording.content_type = _JSON
        Recorder(pipeline.replays, recording, exchange.told).announce(generation, told)
        return pipeline.deferred.make(generation, notes, exchange.told)

    await send_recorded(exchange, await record_exchange(pipeline, caller, exchange, key, begin), form)


async def show_deferred_completion(pipeline: Pipeline, caller: Caller, exchange: Exchange) -> None:
    """202 while it runs, then the completion, once; or the error that came of it."""
    kept = await pipeline.take_deferred(caller, exchange.stored_id)
    if kept is None:
        await exchange.respond(202, b"", [], _JSON)
    else:
        await exchange.respond(200, encode_kept(kept), [], _JSON)


def encode_kept(kept: KeptAnswer) -> bytes:
    """A completion that was kept, whichever dialect made it."""
    return encode_answer(kept, kept.answer, functions=kept.notes.get("openai") == FUNCTIONS["openai"])

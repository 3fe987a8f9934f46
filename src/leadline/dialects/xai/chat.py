"""The service `xai_api.Chat`: completions whole, streamed, deferred and stored, and the compaction of a context."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any

from leadline.chat.collect import ChatAnswer, Collector
from leadline.chat.events import ChatEvent, Finished
from leadline.chat.request import ChatRequest, Message
from leadline.dialects.field_names import naming
from leadline.dialects.presented import told
from leadline.dialects.xai.decode import FIELDS, to_request
from leadline.dialects.xai.encode import ChunkEncoder, Seal, encode_completion, encode_usage
from leadline.dialects.xai.fields import model_of, optional
from leadline.dialects.xai.messages import Seals, to_messages
from leadline.dialects.xai.protos import chat, deferred
from leadline.dialects.xai.rpc import Rpc
from leadline.errors import NotFound, PreviousResponseNotFound
from leadline.serving.codec import KeptAnswer
from leadline.serving.compaction import compaction_request, open_context, seal_context
from leadline.serving.generation import Call, Generation, LookUp, nothing_more
from leadline.serving.stored import kept_of

NOTE = "xai"


async def get_completion(rpc: Rpc, wire: Any) -> Any:
    async with await _begin(rpc, wire, stream=False) as generation:
        answer = await fold(rpc, generation, _keep(rpc, wire, generation))
    return encode_completion(generation, answer, settings_of(wire), _seal(rpc, wire))


async def get_completion_chunk(rpc: Rpc, wire: Any) -> None:
    async with await _begin(rpc, wire, stream=True) as generation:
        keep = _keep(rpc, wire, generation)
        encoder = ChunkEncoder(generation, generation.choices, _seal(rpc, wire))
        try:
            async with aclosing(generation.events()) as batches:
                async for batch in batches:
                    keep(batch)
                    if chunk := encoder.encode(batch):
                        await rpc.write(chunk)
        except asyncio.CancelledError:
            raise rpc.why_cancelled(generation) from None


async def start_deferred_completion(rpc: Rpc, wire: Any) -> Any:
    generation = await _begin(rpc, wire, stream=False)
    deferring, note = rpc.pipeline.deferred, settings_of(wire).SerializeToString()
    deferring.run(deferring.make(generation, {NOTE: note}, partial(_told, rpc)))
    return deferred.StartDeferredResponse(request_id=str(rpc.request_id))


async def get_deferred_completion(rpc: Rpc, wire: Any) -> Any:
    kept = await rpc.pipeline.take_deferred(rpc.caller, wire.request_id)
    if kept is None:
        return chat.GetDeferredCompletionResponse(status=deferred.PENDING)
    return chat.GetDeferredCompletionResponse(status=deferred.DONE, response=encode_kept(kept))


async def get_stored_completion(rpc: Rpc, wire: Any) -> Any:
    return encode_kept(await _find(rpc, wire.response_id))


async def delete_stored_completion(rpc: Rpc, wire: Any) -> Any:
    if not await rpc.pipeline.delete_stored(rpc.caller, "response", wire.response_id):
        raise _unknown(wire.response_id)
    return chat.DeleteStoredCompletionResponse(response_id=wire.response_id)


async def compact_context(rpc: Rpc, wire: Any) -> Any:
    messages = to_messages(wire.input, _seals(rpc), "input")
    request = compaction_request(model_of(wire), messages)
    with naming({"messages": "input"}):
        generation = await start(rpc, request, stream=False)
    async with generation:
        answer = await fold(rpc, generation)
    organisation_id = rpc.caller.organisation_id
    context, dropped = seal_context(rpc.pipeline.stored, organisation_id, messages, answer.choices[0])
    return chat.CompactContextResponse(
        id=str(rpc.request_id),
        encrypted_content=context,
        dropped_message_count=dropped,
        usage=encode_usage(answer.usage, generation.cost_ticks),
    )


async def start(
    rpc: Rpc, request: ChatRequest, *, stream: bool, scope: str = "chat", look_up: LookUp = nothing_more
) -> Generation:
    """Admit `request`, or refuse it. What the limits leave is told at the call's end."""
    call = Call(rpc.request_id, rpc.endpoint, stream, scope, look_up=look_up)
    generation = await rpc.pipeline.start(rpc.caller, request, call)
    rpc.tell_limits(generation.limits)
    return generation


async def fold(
    rpc: Rpc, generation: Generation, keep: Callable[[tuple[ChatEvent, ...]], None] = lambda _: None
) -> ChatAnswer:
    """The whole answer of a generation, each batch of which is shown to `keep`."""
    collector = Collector(generation.choices)
    try:
        async with aclosing(generation.events()) as batches:
            async for batch in batches:
                keep(batch)
                answer = collector.add(batch)
    except asyncio.CancelledError:
        raise rpc.why_cancelled(generation) from None
    assert answer is not None, "an engine must end with Finished or raise"
    return answer


def encode_kept(kept: KeptAnswer) -> Any:
    """An answer that was kept, whichever dialect made it."""
    note = kept.notes.get(NOTE)
    settings = None if note is None else chat.RequestSettings.FromString(note)
    return encode_completion(kept, kept.answer, settings)


async def _begin(rpc: Rpc, wire: Any, *, stream: bool) -> Generation:
    """Admit a request for a completion. What refers to something stored is looked up once the limits let it in."""
    with naming(FIELDS):
        return await start(rpc, to_request(wire, ()), stream=stream, look_up=_look_up(rpc, wire))


async def whole_request(rpc: Rpc, wire: Any) -> ChatRequest:
    """The request in our own words, with all that it refers to; or why not."""
    with naming(FIELDS):
        return await _look_up(rpc, wire)(to_request(wire, ()))


def _look_up(rpc: Rpc, wire: Any) -> LookUp:
    """What gives a request its messages. Those that hold all they need are looked at here."""
    previous_id, pending = optional(wire, "previous_response_id"), _has_files(wire.messages)
    own = () if pending else to_messages(wire.messages, _seals(rpc))

    async def look_up(request: ChatRequest) -> ChatRequest:
        before: tuple[Message, ...] = ()
        if previous_id:
            kept = await rpc.pipeline.find_stored(rpc.caller, "response", previous_id)
            if kept is None:
                raise PreviousResponseNotFound(f"previous_response_id: {_unknown(previous_id)}")
            before = kept.messages
        if pending:
            await _fetch_files(rpc, wire.messages)
        return replace(request, messages=(*before, *(own or to_messages(wire.messages, _seals(rpc)))))

    return look_up


def _has_files(messages: Any) -> bool:
    return any(part.HasField("file") and part.file.file_id for message in messages for part in message.content)


async def _fetch_files(rpc: Rpc, messages: Any) -> None:
    """Put the content of each file in the place of its id."""
    for message in messages:
        for part in message.content:
            if part.HasField("file") and part.file.file_id:
                part.text = await rpc.pipeline.file_text(rpc.caller, part.file.file_id)


def _keep(rpc: Rpc, wire: Any, generation: Generation) -> Callable[[tuple[ChatEvent, ...]], None]:
    """Keep the answer with its charge, where that is asked for. Each batch is to be shown to what it gives."""
    if not wire.store_messages:
        return lambda _: None
    collector, note = Collector(generation.choices), settings_of(wire).SerializeToString()

    def kept_with(batch: tuple[ChatEvent, ...]) -> KeptAnswer:
        answer = collector.add(batch)
        assert answer is not None, "only the last batch is kept with"
        return kept_of(generation, answer, {NOTE: note})

    def keep(batch: tuple[ChatEvent, ...]) -> None:
        if not isinstance(batch[-1], Finished):
            collector.add(batch)

    rpc.pipeline.stored.keep(generation, "response", kept_with)
    return keep


def settings_of(wire: Any) -> Any:
    """What the request asked for, as the answer tells it."""
    settings = chat.RequestSettings()
    for field, value in wire.ListFields():
        if field.name in _ECHOED:
            target = getattr(settings, field.name)
            if field.is_repeated:
                target.extend(value)
            elif field.message_type is not None:
                target.CopyFrom(value)
            else:
                setattr(settings, field.name, value)
    settings.parallel_tool_calls = optional(wire, "parallel_tool_calls") is not False
    return settings


_ECHOED = frozenset(chat.RequestSettings.DESCRIPTOR.fields_by_name) & frozenset(
    chat.GetCompletionsRequest.DESCRIPTOR.fields_by_name
)


def _seal(rpc: Rpc, wire: Any) -> Seal | None:
    if not wire.use_encrypted_content:
        return None
    return partial(rpc.pipeline.stored.seal_reasoning, rpc.caller.organisation_id)


def _seals(rpc: Rpc) -> Seals:
    stored, organisation_id = rpc.pipeline.stored, rpc.caller.organisation_id
    return Seals(partial(stored.open_reasoning, organisation_id), partial(open_context, stored, organisation_id))


def _told(rpc: Rpc, error: Exception) -> Any:
    return told(error, str(rpc.request_id), rpc.path)


async def _find(rpc: Rpc, response_id: str) -> KeptAnswer:
    kept = await rpc.pipeline.find_stored(rpc.caller, "response", response_id)
    if kept is None:
        raise _unknown(response_id)
    return kept


def _unknown(response_id: str) -> NotFound:
    return NotFound(
        f"There is no stored response {response_id[:100]}. It is older than 30 days, was deleted or not stored, or"
        " never was."
    )


HANDLERS = {
    "/xai_api.Chat/GetCompletion": get_completion,
    "/xai_api.Chat/GetCompletionChunk": get_completion_chunk,
    "/xai_api.Chat/StartDeferredCompletion": start_deferred_completion,
    "/xai_api.Chat/GetDeferredCompletion": get_deferred_completion,
    "/xai_api.Chat/GetStoredCompletion": get_stored_completion,
    "/xai_api.Chat/DeleteStoredCompletion": delete_stored_completion,
    "/xai_api.Chat/CompactContext": compact_context,
}

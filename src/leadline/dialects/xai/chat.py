"""The service `xai_api.Chat`: completions whole, streamed, deferred and stored, and the compaction of a context."""

from collections.abc import Coroutine
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from leadline.chat.collect import ChatAnswer, Collector
from leadline.chat.events import ChatEvent, Finished
from leadline.chat.request import ChatRequest, Message
from leadline.dialects.field_names import naming
from leadline.dialects.recordings import Encoder, Recorder, collected
from leadline.dialects.xai.answers import EncoderOf, answer, asked_once, read, record, start
from leadline.dialects.xai.decode import FIELDS, to_request
from leadline.dialects.xai.encode import ChunkEncoder, Seal, encode_completion, encode_usage
from leadline.dialects.xai.fields import model_of, optional
from leadline.dialects.xai.messages import Seals, to_messages
from leadline.dialects.xai.protos import chat, deferred
from leadline.dialects.xai.rpc import Rpc, serialized
from leadline.errors import NotFound, PreviousResponseNotFound
from leadline.serving.codec import KeptAnswer
from leadline.serving.compaction import compaction_request, open_context, seal_context
from leadline.serving.generation import Generation, LookUp
from leadline.serving.stored import kept_of

NOTE = "xai"


async def get_completion(rpc: Rpc, wire: Any) -> Any:
    settings, seal = settings_of(wire), _seal(rpc, wire)

    def encode(generation: Generation, answered: ChatAnswer) -> bytes:
        return serialized(encode_completion(generation, answered, settings, seal))

    return await _complete(rpc, wire, collected(encode), stream=False)


async def get_completion_chunk(rpc: Rpc, wire: Any) -> Any:
    seal = _seal(rpc, wire)

    def encoder_of(generation: Generation) -> Encoder:
        return ChunkEncoder(generation, generation.choices, seal)

    return await _complete(rpc, wire, encoder_of, stream=True)


async def start_deferred_completion(rpc: Rpc, wire: Any) -> Any:
    """With an Idempotency-Key the request runs once."""
    deferring, note = rpc.pipeline.deferred, settings_of(wire).SerializeToString()
    call = rpc.as_call(stream=False, look_up=_look_up(rpc, wire))
    told = serialized(deferred.StartDeferredResponse(request_id=str(rpc.request_id)))

    def make(generation: Generation) -> Coroutine[Any, Any, None]:
        return deferring.make(generation, {NOTE: note}, rpc.told, stores=wire.store_messages)

    async def run(generation: Generation, recorder: Recorder) -> None:
        recorder.announce(generation, told)
        await make(generation)

    with naming(FIELDS):
        request, asked = to_request(wire, ()), asked_once(rpc, wire)
        if asked is not None:
            return await read(rpc, await record(rpc, asked, request, call, run), streams=False)
        deferring.run(make(await start(rpc, request, call)))
    return told


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
    organisation_id = rpc.caller.organisation_id

    def encode(generation: Generation, answered: ChatAnswer) -> bytes:
        context, dropped = seal_context(rpc.pipeline.stored, organisation_id, messages, answered.choices[0])
        response = chat.CompactContextResponse(
            id=str(generation.request_id),
            encrypted_content=context,
            dropped_message_count=dropped,
            usage=encode_usage(answered.usage, generation.cost_ticks),
        )
        return serialized(response)

    with naming({"messages": "input"}):
        return await answer(rpc, wire, request, rpc.as_call(stream=False), collected(encode))


def encode_kept(kept: KeptAnswer) -> Any:
    """An answer that was kept, whichever dialect made it."""
    note = kept.notes.get(NOTE)
    settings = None if note is None else chat.RequestSettings.FromString(note)
    return encode_completion(kept, kept.answer, settings)


async def _complete(rpc: Rpc, wire: Any, encoder_of: EncoderOf, *, stream: bool) -> bytes | None:
    """Answer a request for a completion. What refers to something stored is looked up once the limits let it in."""
    call = rpc.as_call(stream=stream, look_up=_look_up(rpc, wire))
    with naming(FIELDS):
        return await answer(rpc, wire, to_request(wire, ()), call, _keeping(rpc, wire, encoder_of))


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


def _keeping(rpc: Rpc, wire: Any, encoder_of: EncoderOf) -> EncoderOf:
    """An encoder that also keeps the answer with its charge, where that is asked for."""
    if not wire.store_messages:
        return encoder_of
    note = settings_of(wire).SerializeToString()

    def keeping(generation: Generation) -> Encoder:
        keeper = _Keeper(encoder_of(generation), generation, note, Collector(generation.choices))
        rpc.pipeline.stored.keep(generation, "response", keeper.kept_with)
        return keeper

    return keeping


@dataclass(frozen=True, slots=True)
class _Keeper:
    """An encoder that gathers what it encodes, to be kept."""

    encoder: Encoder
    generation: Generation
    note: bytes
    collector: Collector

    def encode(self, batch: tuple[ChatEvent, ...]) -> bytes:
        if not isinstance(batch[-1], Finished):
            self.collector.add(batch)
        return self.encoder.encode(batch)

    def kept_with(self, batch: tuple[ChatEvent, ...]) -> KeptAnswer:
        answered = self.collector.add(batch)
        assert answered is not None, "only the last batch is kept with"
        return kept_of(self.generation, answered, {NOTE: self.note})


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

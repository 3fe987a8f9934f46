"""One conversation over REST and over gRPC: the model gets the same prompt, and the client the same answer for the same
money. Conversations and answers are drawn."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from leadline.dialects.xai.protos import chat, embed, sample
from leadline.dialects.xai.protos import image as images
from tests.conformance import test_same_in_all as in_all
from tests.conformance.remote import Remote
from tests.conformance.told import Told, told
from tests.conformance.xai.questions import ask, said
from tests.conformance.xai.rpcs import bearer, call, plain_channel
from tests.raw import post
from tests.scripted.server import ScriptedServer
from tests.scripted.upstream import Reply, delta, finish, sse

Json = dict[str, Any]
REASONS = {
    sample.REASON_STOP: "stop",
    sample.REASON_MAX_LEN: "length",
    sample.REASON_TOOL_CALLS: "tool_calls",
}
MODES = {"auto": chat.TOOL_MODE_AUTO, "none": chat.TOOL_MODE_NONE, "required": chat.TOOL_MODE_REQUIRED}


def in_rpc(conversation: in_all.Conversation) -> Any:
    def parts(spoken: tuple[in_all.Said, ...]) -> list[Any]:
        seen = images.ImageUrlContent(image_url=in_all.URL)
        return [chat.Content(text=one) if isinstance(one, str) else chat.Content(image_url=seen) for one in spoken]

    messages = []
    if conversation.system:
        messages.append(chat.Message(role=chat.ROLE_SYSTEM, content=parts((conversation.system,))))
    for turn in conversation.turns:
        messages.append(chat.Message(role=chat.ROLE_USER, content=parts(turn.user)))
        if turn.text or turn.calls:
            calls = [
                chat.ToolCall(
                    id=one.call_id,
                    function=chat.FunctionCall(name=one.name, arguments=in_all.compact(one.arguments)),
                )
                for one in turn.calls
            ]
            thought = {"reasoning_content": turn.thought} if turn.thought else {}
            messages.append(
                chat.Message(role=chat.ROLE_ASSISTANT, content=parts((turn.text,)), tool_calls=calls, **thought)
            )
        # Results are those of the calls in their order, with or without an id.
        for one in turn.calls:
            messages.append(chat.Message(role=chat.ROLE_TOOL, content=parts(one.result)))
    asked = chat.GetCompletionsRequest(messages=messages, max_tokens=64, n=1)
    for tool in conversation.tools:
        function = chat.Function(
            name=tool["name"], description=tool["description"], parameters=json.dumps(tool["schema"])
        )
        asked.tools.add(function=function)
    if conversation.tools:
        if conversation.choice in MODES:
            asked.tool_choice.mode = MODES[conversation.choice]
        else:
            asked.tool_choice.function_name = conversation.choice
    return asked


def told_in_rpc(messages: tuple[bytes, ...], *, stream: bool) -> Told:
    """What a completion tells, whole or in chunks."""
    whole = chat.GetChatCompletionResponse()
    if not stream:
        whole.MergeFromString(messages[0])
        [output] = whole.outputs
        said_there, reason, usage = output.message, output.finish_reason, whole.usage
    else:
        said_there, reason, usage = chat.Delta(), 0, None
        for message in messages:
            chunk = chat.GetChatCompletionChunk.FromString(message)
            for output in chunk.outputs:
                said_there.content += output.delta.content
                said_there.reasoning_content += output.delta.reasoning_content
                said_there.tool_calls.extend(output.delta.tool_calls)
                reason = output.finish_reason or reason
            usage = chunk.usage
    return Told(
        *(said_there.reasoning_content, said_there.content),
        tuple((one.id, one.function.name, json.loads(one.function.arguments)) for one in said_there.tool_calls),
        *(REASONS[reason], usage.prompt_tokens, usage.cached_prompt_text_tokens),
        usage.completion_tokens + usage.reasoning_tokens,
        usage.cost_in_usd_ticks,
    )


def over_rpc(server: ScriptedServer, path: str, asked: Any) -> tuple[bytes, ...]:
    with plain_channel(server.grpc_address) as channel:
        outcome = call(channel, f"/xai_api.{path}", [asked], bearer(server.api_key))
    assert outcome.code == "OK", outcome
    return outcome.messages


def over_rest(server: ScriptedServer, path: str, **body: Any) -> Any:
    answer = post(server.port, path, server.api_key, json.dumps(body).encode())
    assert answer.status == 200, answer.body
    return answer


def charge_of(server: ScriptedServer) -> tuple[Any, ...]:
    charge = server.charges()[-1]
    return charge.amount_ticks, charge.model, charge.kind, charge.reason, charge.key_id


@given(in_all.conversations(), in_all.answers, st.booleans(), st.sampled_from(["openai", "vllm"]))
def test_a_conversation_is_the_same_over_both(remote: Remote, conversation, answer, stream, kind):
    spoken, calls = answer
    chunks = [delta(content=piece) for piece in spoken]
    for index, (name, arguments) in enumerate(calls):
        function = {"name": name, "arguments": in_all.compact(arguments)}
        chunks.append(delta(tool_calls=[{"index": index, "id": f"made_{index}", "function": function}]))
    usage = {"prompt_tokens": 40, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 11}}
    remote.upstream.reply = Reply(pieces=(sse(*chunks, finish("stop", **usage)),))
    server, found = remote.server, []
    body = in_all.in_chat(conversation) | {"temperature": conversation.temperature}
    options = {"stream_options": {"include_usage": True}} if stream else {}
    rest = over_rest(server, "/v1/chat/completions", model=kind, stream=stream, **body, **options)
    found.append((told("chat", stream, rest.body), remote.upstream.bodies[-1], charge_of(server)))
    asked = in_rpc(conversation)
    asked.model, asked.temperature = kind, conversation.temperature
    path = "Chat/GetCompletionChunk" if stream else "Chat/GetCompletion"
    answered = told_in_rpc(over_rpc(server, path, asked), stream=stream)
    found.append((answered, remote.upstream.bodies[-1], charge_of(server)))
    assert found[0] == found[1]
    assert answered.text == "".join(spoken)
    assert -charge_of(server)[0] == answered.ticks


def test_choices_and_log_probabilities_are_the_same_over_both(server):
    wanted: Json = {"n": 3, "max_tokens": 2, "logprobs": True, "top_logprobs": 2, "seed": 7, "stop": ["x"]}
    rest = over_rest(
        server,
        "/v1/chat/completions",
        **{"model": "echo", "messages": [{"role": "user", "content": "größe ist alles"}]} | wanted,
    ).json
    answered = chat.GetChatCompletionResponse.FromString(
        over_rpc(server, "Chat/GetCompletion", ask(messages=[said("größe ist alles")], **wanted))[0]
    )
    for choice, output in zip(rest["choices"], answered.outputs, strict=True):
        assert (choice["message"]["content"], choice["finish_reason"]) == (
            *(output.message.content, REASONS[output.finish_reason]),
        )
        assert [_token(one) | {"top": [_token(other) for other in one["top_logprobs"]]} for one in _tokens(choice)] == [
            _wire_token(one) | {"top": [_wire_token(other) for other in one.top_logprobs]}
            for one in output.logprobs.content
        ]
    spent = rest["usage"]
    assert (spent["prompt_tokens"], spent["completion_tokens"], spent["cost_in_usd_ticks"]) == (
        *(answered.usage.prompt_tokens, answered.usage.completion_tokens, answered.usage.cost_in_usd_ticks),
    )
    assert rest["system_fingerprint"] == answered.system_fingerprint
    one, other = server.charges()
    assert one.amount_ticks == other.amount_ticks
    assert server.engine.requests[:3] == server.engine.requests[3:]


def _tokens(choice: Json) -> list[Json]:
    tokens: list[Json] = choice["logprobs"]["content"]
    return tokens


def _token(one: Json) -> Json:
    return {"token": one["token"], "logprob": round(one["logprob"], 5), "bytes": bytes(one["bytes"])}


def _wire_token(one: Any) -> Json:
    return {"token": one.token, "logprob": round(one.logprob, 5), "bytes": one.bytes}


def test_thoughts_and_calls_are_the_same_over_both(server):
    body = {"model": "weather", "messages": [{"role": "user", "content": "how is it"}], "max_tokens": 64}
    for stream in (False, True):
        options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
        rest = told("chat", stream, over_rest(server, "/v1/chat/completions", **body, **options).body)
        path = "Chat/GetCompletionChunk" if stream else "Chat/GetCompletion"
        asked = ask("weather", messages=[said("how is it")], max_tokens=64)
        assert told_in_rpc(over_rpc(server, path, asked), stream=stream) == rest
    assert len({charge.amount_ticks for charge in server.charges()}) == 1


def test_plain_prompts_are_gone_on_with_the_same_over_both(server):
    wanted: Json = {"n": 2, "max_tokens": 2, "temperature": 0.5, "stop": ["x"]}
    rest = over_rest(server, "/v1/completions", model="echo", prompt=["a b c", "d"], **wanted).json
    asked = sample.SampleTextRequest(model="echo", prompt=["a b c", "d"], **wanted)
    answered = sample.SampleTextResponse.FromString(over_rpc(server, "Sample/SampleText", asked)[0])
    assert [(choice["index"], choice["text"], choice["finish_reason"]) for choice in rest["choices"]] == [
        (choice.index, choice.text, REASONS[choice.finish_reason]) for choice in answered.choices
    ]
    assert (rest["usage"]["prompt_tokens"], rest["usage"]["completion_tokens"], rest["usage"]["cost_in_usd_ticks"]) == (
        *(answered.usage.prompt_tokens, answered.usage.completion_tokens, answered.usage.cost_in_usd_ticks),
    )
    assert server.charges()[0].amount_ticks == server.charges()[1].amount_ticks
    assert server.engine.requests[:4] == server.engine.requests[4:]


def test_vectors_are_the_same_over_both(server):
    texts = ["a b", "größe"]
    rest = over_rest(server, "/v1/embeddings", model="embed", input=texts, encoding_format="base64").json
    asked = embed.EmbedRequest(
        model="embed", input=[embed.EmbedInput(string=text) for text in texts], encoding_format=embed.FORMAT_BASE64
    )
    answered = embed.EmbedResponse.FromString(over_rpc(server, "Embedder/Embed", asked)[0])
    assert [one["embedding"] for one in rest["data"]] == [one.embeddings[0].base64_array for one in answered.embeddings]
    assert server.charges()[0].amount_ticks == server.charges()[1].amount_ticks
    assert server.engine.requests[0] == server.engine.requests[1]

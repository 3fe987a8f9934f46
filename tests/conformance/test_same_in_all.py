"""One conversation in three dialects: the model gets the same prompt, and the client the same answer for the same
money. Conversations and answers are drawn."""

import json
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.conformance.remote import Remote
from tests.conformance.told import PATHS, ask, told
from tests.raw import post
from tests.scripted.upstream import Reply, delta, finish, sse

Json = dict[str, Any]
# As we write it, so that decoding changes nothing.
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4AWNo+N8AAAQCAgC7yg/iAAAAAElFTkSuQmCC"
URL = f"data:image/png;base64,{PIXEL}"
# What of an engine's request is the prompt, and how it is to be answered.
PROMPT = ("messages", "tools", "tool_choice", "parallel_tool_calls", "temperature", "top_p", "max_tokens")


@dataclass(frozen=True)
class Seen:
    """A picture."""


Said = str | Seen


@dataclass(frozen=True)
class Called:
    call_id: str
    name: str
    arguments: Json
    result: tuple[Said, ...]


@dataclass(frozen=True)
class Turn:
    """What a user says, and what the assistant thinks, says and calls then; the last turn is a user's alone."""

    user: tuple[Said, ...]
    thought: str = ""
    text: str = ""
    calls: tuple[Called, ...] = ()


@dataclass(frozen=True)
class Conversation:
    system: str
    turns: tuple[Turn, ...]
    tools: tuple[Json, ...]
    choice: str
    temperature: float = field(default=1.0)


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
saids = st.lists(texts | st.just(Seen()), min_size=1, max_size=3).map(tuple)
objects = st.dictionaries(texts, st.integers(-99, 99) | texts | st.lists(texts, max_size=2), max_size=2)
NAMES = ("weather", "clock", "größe")
answers = st.tuples(st.lists(texts, max_size=3), st.lists(st.tuples(st.sampled_from(NAMES), objects), max_size=2))


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    turns = []
    for number in range(draw(st.integers(0, 3))):
        calls = tuple(
            Called(f"call_{number}_{i}", draw(st.sampled_from(NAMES)), draw(objects), draw(saids))
            for i in range(draw(st.integers(0, 2)))
        )
        text = draw(texts if not calls else texts | st.just(""))
        turns.append(Turn(draw(saids), draw(texts | st.just("")), text, calls))
    tools = tuple(
        {"name": name, "description": draw(texts), "schema": {"type": "object", "description": draw(texts)}}
        for name in draw(st.lists(st.sampled_from(NAMES), unique=True))
    )
    choice = draw(st.sampled_from(["auto", "none", "required", *(tool["name"] for tool in tools)])) if tools else "auto"
    last = Turn(draw(saids))
    return Conversation(
        draw(texts | st.just("")), (*turns, last), tools, choice, draw(st.sampled_from([0.0, 0.5, 1.0]))
    )


def compact(arguments: Json) -> str:
    return json.dumps(arguments, ensure_ascii=False, separators=(",", ":"))


def in_chat(conversation: Conversation) -> Json:
    def parts(said: tuple[Said, ...]) -> list[Json]:
        image = {"type": "image_url", "image_url": {"url": URL}}
        return [{"type": "text", "text": one} if isinstance(one, str) else image for one in said]

    messages: list[Json] = [{"role": "system", "content": conversation.system}] if conversation.system else []
    for turn in conversation.turns:
        messages.append({"role": "user", "content": parts(turn.user)})
        if turn.text or turn.calls:
            answer: Json = {"role": "assistant", "content": turn.text or None}
            if turn.thought:
                answer["reasoning_content"] = turn.thought
            if turn.calls:
                answer["tool_calls"] = [
                    {
                        "id": call.call_id,
                        "type": "function",
                        "function": {"name": call.name, "arguments": compact(call.arguments)},
                    }
                    for call in turn.calls
                ]
            messages.append(answer)
        for call in turn.calls:
            messages.append({"role": "tool", "tool_call_id": call.call_id, "content": parts(call.result)})
    body: Json = {"messages": messages, "max_tokens": 64}
    if conversation.tools:
        body["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": tool["name"],
                    "description": tool["description"],
                    "parameters": tool["schema"],
                },
            }
            for tool in conversation.tools
        ]
        named = {"type": "function", "function": {"name": conversation.choice}}
        body["tool_choice"] = named if conversation.choice in NAMES else conversation.choice
    return body


def in_messages(conversation: Conversation) -> Json:
    def blocks(said: tuple[Said, ...]) -> list[Json]:
        image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
        return [{"type": "text", "text": one} if isinstance(one, str) else image for one in said]

    messages: list[Json] = []
    results: list[Json] = []
    for turn in conversation.turns:
        messages.append({"role": "user", "content": [*results, *blocks(turn.user)]})
        content: list[Json] = []
        if turn.text or turn.calls:
            content += [{"type": "thinking", "thinking": turn.thought, "signature": "x"}] if turn.thought else []
            content += [{"type": "text", "text": turn.text}] if turn.text else []
            content += [
                {"type": "tool_use", "id": call.call_id, "name": call.name, "input": call.arguments}
                for call in turn.calls
            ]
            messages.append({"role": "assistant", "content": content})
        results = [
            {"type": "tool_result", "tool_use_id": call.call_id, "content": blocks(call.result)} for call in turn.calls
        ]
    body: Json = {"messages": messages, "max_tokens": 64, "thinking": None}
    if conversation.system:
        body["system"] = [{"type": "text", "text": conversation.system, "cache_control": {"type": "ephemeral"}}]
    if conversation.tools:
        body["tools"] = [
            {"name": tool["name"], "description": tool["description"], "input_schema": tool["schema"]}
            for tool in conversation.tools
        ]
        choices = {"auto": {"type": "auto"}, "none": {"type": "none"}, "required": {"type": "any"}}
        body["tool_choice"] = choices.get(conversation.choice, {"type": "tool", "name": conversation.choice})
    return body


def in_responses(conversation: Conversation) -> Json:
    def parts(said: tuple[Said, ...]) -> list[Json]:
        image = {"type": "input_image", "image_url": URL}
        return [{"type": "input_text", "text": one} if isinstance(one, str) else image for one in said]

    items: list[Json] = []
    for turn in conversation.turns:
        items.append({"type": "message", "role": "user", "content": parts(turn.user)})
        if turn.text or turn.calls:
            thought = {"type": "reasoning_text", "text": turn.thought}
            items += [{"type": "reasoning", "id": "rs_1", "summary": [], "content": [thought]}] if turn.thought else []
            text = {"type": "output_text", "text": turn.text}
            items += [{"type": "message", "role": "assistant", "content": [text]}] if turn.text else []
        for call in turn.calls:
            called = {"call_id": call.call_id, "name": call.name, "arguments": compact(call.arguments)}
            items.append({"type": "function_call"} | called)
        for call in turn.calls:
            items.append({"type": "function_call_output", "call_id": call.call_id, "output": parts(call.result)})
    body: Json = {"input": items, "max_output_tokens": 64, "store": False}
    if conversation.system:
        body["instructions"] = conversation.system
    if conversation.tools:
        body["tools"] = [
            {
                "type": "function",
                "name": tool["name"],
                "description": tool["description"],
                "parameters": tool["schema"],
            }
            for tool in conversation.tools
        ]
        named = {"type": "function", "name": conversation.choice}
        body["tool_choice"] = named if conversation.choice in NAMES else conversation.choice
    return body


IN = {"chat": in_chat, "messages": in_messages, "responses": in_responses}


@given(conversations(), answers, st.booleans(), st.sampled_from(["openai", "vllm"]))
def test_a_conversation_is_the_same_in_every_dialect(remote: Remote, conversation, answer, stream, kind):
    said, calls = answer
    chunks = [delta(content=piece) for piece in said]
    for index, (name, arguments) in enumerate(calls):
        function = {"name": name, "arguments": compact(arguments)}
        chunks.append(delta(tool_calls=[{"index": index, "id": f"made_{index}", "function": function}]))
    usage = {"prompt_tokens": 40, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 11}}
    remote.upstream.reply = Reply(pieces=(sse(*chunks, finish("stop", **usage)),))
    prompts, answers, entries = [], [], []
    for dialect, encode in IN.items():
        body = encode(conversation) | {"temperature": conversation.temperature}
        found = ask(remote.server, dialect, stream, kind, **body)
        assert found.status == 200, found.body
        answers.append(told(dialect, stream, found.body))
        sent = remote.upstream.bodies[-1]
        prompts.append({name: sent.get(name) for name in PROMPT})
        charge = remote.server.charges()[-1]
        entries.append((charge.amount_ticks, charge.model, charge.kind, charge.reason))
    assert prompts[0] == prompts[1] == prompts[2]
    assert answers[0] == answers[1] == answers[2]
    assert entries[0] == entries[1] == entries[2]
    assert answers[0].text == "".join(said)
    assert [call[1:] for call in answers[0].calls] == list(calls)
    assert -entries[0][0] == answers[0].ticks


@given(conversations(), st.booleans())
def test_tokens_are_counted_alike_in_every_dialect(remote: Remote, conversation, stream):
    """On an engine that counts: what is counted beforehand is what is billed."""
    spoken = [
        Turn(
            tuple(one for one in turn.user if isinstance(one, str)) or ("hi",),
            turn.thought,
            turn.text,
            tuple(Called(call.call_id, call.name, call.arguments, ("so",)) for call in turn.calls),
        )
        for turn in conversation.turns
    ]
    conversation = Conversation(conversation.system, tuple(spoken), conversation.tools, "auto")
    counted, billed = set(), set()
    for dialect, encode in IN.items():
        body = encode(conversation)
        found = ask(remote.server, dialect, stream, "echo", **body)
        assert found.status == 200, found.body
        answer = told(dialect, stream, found.body)
        billed.add((answer.prompt, answer.output, answer.ticks, answer.text))
        path = {"messages": "/v1/messages/count_tokens", "responses": "/v1/responses/input_tokens"}.get(dialect)
        if path is not None:
            asked = json.dumps({"model": "echo"} | body).encode()
            counted.add(post(remote.server.port, path, remote.server.api_key, asked).json["input_tokens"])
    assert len(billed) == 1, billed
    assert counted == {next(iter(billed))[0]}


def test_every_dialect_is_among_them():
    assert IN.keys() == PATHS.keys()

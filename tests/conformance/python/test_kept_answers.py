"""What one dialect keeps another one finds. Of the two, one is Responses or chat completions over HTTP; the other one
keeps and finds in the middle's own words, with no note but its own."""

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from leadline.chat.collect import ChatAnswer, Choice
from leadline.chat.events import TokenLogprob, Usage
from leadline.chat.request import ChatRequest, Image, Message, Reasoning, Text, ToolCall, ToolResult
from leadline.dialects.responses.items import items_of, to_messages
from leadline.errors import EngineFailed, InternalError, InvalidRequest, LeadlineError
from leadline.ids import new_uuid
from leadline.serving.codec import KeptAnswer, KeptError
from leadline.serving.generation import Call
from tests.conformance.grammar.responses import check, check_response, frames
from tests.raw import Answer, post, request
from tests.scripted.server import ScriptedServer

RESPONSES, CHAT, DEFERRED = "/v1/responses", "/v1/chat/completions", "/v1/chat/deferred-completion"
CONVERSATION = (
    Message("system", (Text("Be brief."),), "Mara"),
    Message("user", (Text("Where is"), Text("it warm?"))),
    Message("assistant", (Reasoning("Hm."), Text("Let me look."), ToolCall("call_1", "weather", '{"city":"Rome"}'))),
    Message("tool", (ToolResult("call_1", (Text("warm"),)),)),
    Message("user", (Text("And there?"),)),
)
LOGPROB = TokenLogprob("Yes", -0.5, (89, 101, 115), (TokenLogprob("No", -1.5),))
FIRST = Choice((Reasoning("Well."), Text("Yes."), ToolCall("call_2", "weather", "{}")), "tool_calls", None, (LOGPROB,))
ANSWER = ChatAnswer((FIRST, Choice((Text("Perhaps."),), "stop")), Usage(9, 4, 0, 7, 2))
NOTES = pytest.mark.parametrize("notes", [{}, {"xai": b"\x00\xff"}], ids=["no-note", "other-note"])


def kept(**changes: Any) -> KeptAnswer:
    """An answer as another dialect keeps it."""
    made = KeptAnswer(new_uuid(), 1_700_000_000, "echo", "echo-latest", "fp_1", 12_345, CONVERSATION, ANSWER)
    return replace(made, **changes)


def keep(server: ScriptedServer, answer: KeptAnswer | KeptError, kind: Any = "response") -> str:
    """Keep it for Alice. Its id as Responses spells it."""
    request_id = answer.request_id if isinstance(answer, KeptAnswer) else new_uuid()
    hold = SimpleNamespace(organisation_id=server.organisation_id, request_id=str(request_id))
    generation: Any = SimpleNamespace(hold=hold)
    server.run(server.pipeline.stored.put(generation, kind, answer))
    return f"resp_{request_id.hex}"


def get(server: ScriptedServer, path: str, method: str = "GET") -> Answer:
    return request(server.port, method, path, Authorization=f"Bearer {server.api_key}")


def send(server: ScriptedServer, path: str = RESPONSES, **body: Any) -> Answer:
    return post(server.port, path, server.api_key, json.dumps({"model": "echo"} | body).encode())


def find(server: ScriptedServer, response_id: str) -> KeptAnswer:
    caller = server.pipeline.authenticate(server.api_key)
    found = server.run(server.pipeline.find_stored(caller, "response", response_id))
    assert found is not None
    return found


def take(server: ScriptedServer, request_id: str) -> KeptAnswer | None:
    caller = server.pipeline.authenticate(server.api_key)
    return server.run(server.pipeline.take_deferred(caller, request_id))


def wait(server: ScriptedServer) -> None:
    """Until nothing runs that was deferred."""
    server.wait_until(lambda: not server.pipeline.deferred._tasks)


# Stored by another dialect, found by Responses


@NOTES
def test_a_response_of_another_dialect_is_told_whole(server, notes):
    response_id = keep(server, kept(notes=notes))
    told = get(server, f"{RESPONSES}/{response_id}").json
    check_response(told)
    assert (told["id"], told["model"], told["created_at"]) == (response_id, "echo", 1_700_000_000)
    assert (told["status"], told["store"], told["instructions"]) == ("completed", True, None)
    thought, said, called = told["output"]
    assert (thought["type"], thought["content"][0]["text"]) == ("reasoning", "Well.")
    assert (said["role"], said["content"][0]["text"]) == ("assistant", "Yes.")
    assert [logprob["token"] for logprob in said["content"][0]["logprobs"]] == ["Yes"]
    assert (called["call_id"], called["name"], called["arguments"]) == ("call_2", "weather", "{}")
    usage = told["usage"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["cost_in_usd_ticks"]) == (9, 9, 12_345)


def test_a_response_of_another_dialect_that_was_cut_is_incomplete(server):
    answer = ChatAnswer((Choice((Text("one two"),), "length"),), Usage(1, output_tokens=2))
    told = get(server, f"{RESPONSES}/{keep(server, kept(answer=answer))}").json
    check_response(told)
    assert (told["status"], told["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert told["output"][0]["status"] == "incomplete"


@NOTES
def test_a_response_of_another_dialect_is_told_as_events(server, notes):
    path = f"{RESPONSES}/{keep(server, kept(notes=notes))}"
    streamed = get(server, f"{path}?stream=true").body
    assert check(streamed) == get(server, path).json
    deltas = [event["delta"] for event in frames(streamed) if "delta" in event]
    assert deltas == ["Well.", "Yes.", "{}"]


def test_what_a_response_of_another_dialect_answered_is_listed(server):
    page = get(server, f"{RESPONSES}/{keep(server, kept())}/input_items?order=asc").json
    kinds = [item.get("role") or item["type"] for item in page["data"]]
    assert kinds == ["system", "user", "reasoning", "assistant", "function_call", "function_call_output", "user"]
    assert len({item["id"] for item in page["data"]}) == 7
    assert [part["text"] for part in page["data"][1]["content"]] == ["Where is", "it warm?"]


@NOTES
def test_a_response_goes_on_with_one_of_another_dialect(server, notes):
    before = kept(notes=notes)
    response_id = keep(server, before)
    result = {"type": "function_call_output", "call_id": "call_2", "output": "warmer"}
    second = send(server, input=[result], previous_response_id=response_id).json
    asked = (*before.messages, Message("tool", (ToolResult("call_2", (Text("warmer"),)),)))
    assert server.engine.requests[-1].messages == asked
    get(server, f"{RESPONSES}/{response_id}", "DELETE")
    send(server, input="And now?", previous_response_id=second["id"])
    assert server.engine.requests[-1].messages[: len(asked)] == asked


def test_items_of_another_dialects_response_may_be_referred_to(server):
    path = f"{RESPONSES}/{keep(server, kept())}"
    items = [*get(server, f"{path}/input_items?order=asc").json["data"], *get(server, path).json["output"]]
    references = [{"type": "item_reference", "id": items[number]["id"]} for number in (1, 8)]
    assert send(server, input=references).status == 200
    said = [message.content for message in server.engine.requests[-1].messages]
    assert said == [(Text("Where is"), Text("it warm?")), (Text("Yes."),)]


def test_a_response_of_another_dialect_is_deleted(server):
    response_id = keep(server, kept())
    assert get(server, f"{RESPONSES}/{response_id}", "DELETE").json["deleted"] is True
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/input_items"), ("GET", "?stream=true")):
        assert get(server, f"{RESPONSES}/{response_id}{path}", method).status == 404
    assert send(server, input="x", previous_response_id=response_id).status == 404


def test_turns_become_items_and_turns_again():
    shown = Image("https://northwind.example/a.png", "high")
    conversation = (
        *CONVERSATION,
        Message("user", (Text("This?"), shown, Text("Or that?")), "Alice"),
        Message("assistant", (Text("a"), ToolCall("call_3", "look", "{}"), Text("b"))),
        Message("tool", (ToolResult("call_3", (Text("seen"), shown)),)),
        Message("assistant", (Text("c"),)),
        Message("assistant", (Text("d"),)),
    )
    assert to_messages(items_of(conversation, new_uuid())) == conversation


# Stored by Responses, found by another dialect


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_another_dialect_finds_a_response_and_all_that_it_answered(server, stream):
    first = send(server, model="weather", input="Where?", instructions="Be brief.").json
    results = [{"type": "function_call_output", "call_id": call, "output": "hot"} for call in ("call_a", "call_b")]
    body = {"previous_response_id": first["id"], "instructions": "Be kind."}
    answer = send(server, model="echo-latest", input=[first["output"][0], *results], stream=stream, **body)
    last = check(answer.body) if stream else answer.json
    found = find(server, last["id"])
    instructions, *asked = server.engine.requests[-1].messages
    assert (instructions.role, found.conversation) == ("system", tuple(asked))
    assert found.answer.choices == (Choice((Text("hot"),), "stop"),)
    assert found.messages == (*asked, Message("assistant", (Text("hot"),)))
    assert (found.model, found.requested_model) == ("echo", "echo-latest")
    assert (found.cost_ticks, found.created_at) == (last["usage"]["cost_in_usd_ticks"], last["created_at"])
    assert f"resp_{found.request_id.hex}" == last["id"]


def test_what_the_canonical_part_tells_is_in_no_note(server):
    text = "Zebra-Quagga-Okapi " * 5
    response = send(server, input=text, include=["message.output_text.logprobs"], top_logprobs=1).json
    assert response["output"][0]["content"][0]["text"] == text.strip()
    found = find(server, response["id"])
    assert len(found.answer.choices[0].logprobs) == 5
    assert b"Quagga" not in found.notes["responses"]
    assert get(server, f"{RESPONSES}/{response['id']}").json == response


def test_a_number_of_any_size_in_a_tool_comes_back(server):
    tool = {"type": "function", "name": "count", "parameters": {"const": 10**30}, "strict": False}
    response = send(server, input="x", tools=[tool]).json
    assert response["tools"][0]["parameters"] == {"const": 10**30}
    assert get(server, f"{RESPONSES}/{response['id']}").json == response


# Deferred


def test_a_deferred_completion_is_the_one_that_would_have_come_at_once(server):
    for more in ({}, {"n": 2}, {"logprobs": True, "top_logprobs": 2}, {"model": "weather"}):
        body = {"messages": [{"role": "user", "content": "tell me all"}]} | more
        at_once = send(server, CHAT, **body).json
        request_id = send(server, CHAT, **body, deferred=True).json["request_id"]
        wait(server)
        later = get(server, f"{DEFERRED}/{request_id}").json
        assert later["id"] == request_id
        assert later | {"id": at_once["id"], "created": at_once["created"]} == at_once


def test_a_deferred_call_in_the_words_before_tools_comes_in_those(server):
    body = {"messages": [{"role": "user", "content": "x"}], "functions": [{"name": "weather"}], "deferred": True}
    request_id = send(server, CHAT, model="weather", **body).json["request_id"]
    wait(server)
    [choice] = get(server, f"{DEFERRED}/{request_id}").json["choices"]
    assert (choice["finish_reason"], choice["message"]["function_call"]["name"]) == ("function_call", "weather")


def defer(server: ScriptedServer, model: str = "echo") -> str:
    """A request that another dialect defers."""
    deferred, request_id = server.pipeline.deferred, new_uuid()

    def told(error: Exception) -> LeadlineError:
        return error if isinstance(error, EngineFailed) else InternalError()

    async def start() -> None:
        caller = server.pipeline.authenticate(server.api_key)
        asked = ChatRequest(model, (Message("user", (Text("tell me all"),)),))
        call = Call(request_id, "/xai_api.Chat/StartDeferredCompletion", stream=False)
        generation = await server.pipeline.start(caller, asked, call)
        deferred.run(deferred.make(generation, {"xai": b"\xff"}, told))

    server.run(start())
    return str(request_id)


def test_what_another_dialect_defers_is_fetched_once_as_a_completion(server):
    request_id = defer(server, "slow")
    assert get(server, f"{DEFERRED}/{request_id}").status == 202
    server.loop.call_soon_threadsafe(server.engine.release.set)
    wait(server)
    completion = get(server, f"{DEFERRED}/{request_id}").json
    assert completion["choices"][0]["message"]["content"] == "one two three"
    [charge] = server.charges()
    assert (charge.request_id, -charge.amount_ticks) == (request_id, completion["usage"]["cost_in_usd_ticks"])
    assert get(server, f"{DEFERRED}/{request_id}").status == 404


def test_a_deferred_completion_is_fetched_once_by_another_dialect(server):
    request_id = send(server, CHAT, messages=[{"role": "user", "content": "tell me"}], deferred=True).json["request_id"]
    wait(server)
    found = take(server, request_id)
    assert found is not None
    assert (found.answer.choices, found.conversation) == ((Choice((Text("tell me"),), "stop"),), ())
    assert get(server, f"{DEFERRED}/{request_id}").status == 404


def test_a_failure_of_one_dialect_is_told_by_the_other(server):
    body = {"messages": [{"role": "user", "content": "x"}], "deferred": True}
    request_id = send(server, CHAT, model="broken-after", **body).json["request_id"]
    wait(server)
    for _ in range(2):
        with pytest.raises(EngineFailed):
            take(server, request_id)
    request_id = defer(server, "broken-after")
    wait(server)
    for _ in range(2):
        told = get(server, f"{DEFERRED}/{request_id}")
        assert (told.status, told.headers["x-should-retry"]) == (502, "false")
    assert server.charges() == []


def test_a_failure_names_its_field_and_our_own_is_logged_once(server, caplog):
    error = InvalidRequest("It is too large.", "messages[0].content")
    told = get(server, f"{DEFERRED}/{keep(server, KeptError.of(error), 'deferred')}")
    assert (told.status, told.json["error"]["param"]) == (400, "messages[0].content")
    assert told.json["error"]["message"] == "It is too large."
    request_id = send(server, CHAT, model="crash", messages=[{"role": "user", "content": "x"}], deferred=True)
    wait(server)
    for _ in range(2):
        assert get(server, f"{DEFERRED}/{request_id.json['request_id']}").status == 500
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == ["a request failed"]

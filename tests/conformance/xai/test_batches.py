"""xAI's SDK makes batches, fills them with chats, and fetches what came of them. Both protocols tell the same."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import grpc
import pytest
import xai_sdk
from xai_sdk.chat import user

from leadline.chat.request import (
    ChatRequest,
    Image,
    JsonFormat,
    Message,
    Reasoning,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from leadline.dialects.xai.decode import to_request
from leadline.dialects.xai.encode_request import encode_request
from leadline.dialects.xai.messages import Seals, to_messages
from leadline.dialects.xai.protos import batch, chat
from tests.conformance.xai.questions import ask
from tests.conformance.xai.rpcs import bearer, call
from tests.raw import post, request
from tests.scripted.server import ScriptedServer

SERVICE = "/xai_api.BatchMgmt"
UNKNOWN = "batch_01a21215-e4a7-7b11-b415-5f93b6190a05"
PROMPT_TICKS, OUTPUT_TICKS = 10_000, 20_000


def added(sdk: xai_sdk.Client, texts: dict[str, str], model: str = "echo") -> str:
    """The id of a batch with a chat for each name."""
    batch_id: str = sdk.batch.create("all of them").batch_id
    sdk.batch.add(batch_id, [chat_of(sdk, model, name, text) for name, text in texts.items()])
    return batch_id


def chat_of(sdk: xai_sdk.Client, model: str, name: str | None, text: str, **more: Any) -> Any:
    return sdk.chat.create(model, messages=[user(text)], batch_request_id=name, **more)


def wait(server: ScriptedServer) -> None:
    """Until no request of a batch is pending."""

    async def ended() -> None:
        while await server.instance.database.rows("SELECT 1 FROM batch_requests WHERE state = 'pending' LIMIT 1"):
            await asyncio.sleep(0.002)

    server.run(ended())


def test_chats_become_results_and_the_sums_are_the_ledger_s(server, sdk):
    batch_id = added(sdk, {"one": "tell me all", "two": "tell"})
    sdk.batch.add(batch_id, [chat_of(sdk, "broken-after", "three", "tell")])
    wait(server)

    listed = sdk.batch.list_batch_results(batch_id)
    assert {one.batch_request_id: one.response.content for one in listed.succeeded} == {
        "one": "tell me all",
        "two": "tell",
    }
    [failed] = listed.failed
    assert (failed.batch_request_id, failed.error_message) == ("three", "The engine broke.")
    assert failed.proto.error.code == grpc.StatusCode.INTERNAL.value[0]
    assert listed.pagination_token is None
    found = sdk.batch.get(batch_id)
    state = found.state
    assert (state.num_requests, state.num_success, state.num_error, state.num_pending) == (3, 2, 1, 0)
    charged = -sum(charge.amount_ticks for charge in server.charges())
    assert found.cost_breakdown.total_cost_usd_ticks == charged == 4 * PROMPT_TICKS + 4 * OUTPUT_TICKS
    [of_chat] = found.cost_breakdown.endpoint_costs
    assert (of_chat.endpoint, of_chat.request_count) == ("xai_api.Chat/GetCompletion", 2)
    assert {one.response.id for one in listed.succeeded} == {charge.request_id for charge in server.charges()}


def test_pages_follow_each_other(server, sdk):
    batch_ids = [added(sdk, {str(number): "hi" for number in range(5)}) for _ in range(3)]
    wait(server)
    pages = [sdk.batch.list(limit=2)]
    pages.append(sdk.batch.list(limit=2, pagination_token=pages[0].pagination_token))
    assert [one.batch_id for page in pages for one in page.batches] == batch_ids[::-1]
    assert pages[1].pagination_token == ""
    for ask_for, entries in (
        (sdk.batch.list_batch_requests, "batch_request_metadata"),
        (sdk.batch.list_batch_results, "results"),
    ):
        names, token = [], None
        while True:
            page = ask_for(batch_ids[0], limit=2, pagination_token=token)
            names += [one.batch_request_id for one in getattr(page, entries)]
            if not (token := page.pagination_token):
                break
        assert names == ["0", "1", "2", "3", "4"]


def test_requests_are_listed_by_their_states(server, sdk, channel):
    batch_id = added(sdk, {"slow": "hi"}, "stall")
    sdk.batch.add(batch_id, [chat_of(sdk, "echo", "quick", "hi")])
    server.wait_until(lambda: server.engine.running == 1 and len(server.engine.requests) == 2)
    states = batch.BatchRequestMetadata

    def names(*numbers: int) -> list[str]:
        asked = batch.ListBatchRequestMetadataRequest(batch_id=batch_id, status=numbers)
        path = f"{SERVICE}/ListBatchRequestMetadata"
        outcome = call(channel, path, [asked], bearer(server.api_key))
        told = batch.ListBatchRequestMetadataResponse.FromString(outcome.messages[0])
        return [one.batch_request_id for one in told.batch_request_metadata]

    assert names(states.STATE_PENDING) == ["slow"]
    while not names(states.STATE_SUCCEEDED, states.STATE_FAILED):
        pass
    assert names(states.STATE_SUCCEEDED) == ["quick"]
    assert names() == ["slow", "quick"]
    assert names(states.STATE_CANCELLED) == []


def test_what_is_cancelled_before_it_began_never_runs(server, sdk):
    batch_id = added(sdk, {str(number): "hi" for number in range(30)}, "stall")
    server.wait_until(lambda: server.engine.running > 0)
    cancelled = sdk.batch.cancel(batch_id)
    state = cancelled.state
    assert cancelled.HasField("cancel_time")
    assert state.num_pending == server.engine.running
    assert state.num_cancelled == 30 - state.num_pending
    server.loop.call_soon_threadsafe(server.engine.release.set)
    wait(server)
    state = sdk.batch.get(batch_id).state
    assert (state.num_success + state.num_cancelled, state.num_error) == (30, 0)
    assert len(server.charges()) == state.num_success == len(server.engine.requests)


# An entry, and the field that is to blame.
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"completion_request": ask(temperature=9)}, "completion_request.temperature"),
    ({"completion_request": ask("nobody")}, "completion_request.model"),
    ({"completion_request": ask(store_messages=True)}, "completion_request.store_messages"),
    ({"completion_request": ask(messages=[chat.Message(role=99)])}, "completion_request.messages[0]"),
    ({"image_request": {"prompt": "a cat"}}, "image_request"),
    ({"video_request": {"prompt": "a cat"}}, "video_request"),
    ({}, "request"),
    ({"batch_request_id": "x" * 201, "completion_request": ask()}, "batch_request_id"),
    ({"batch_request_id": "first", "completion_request": ask()}, "batch_request_id"),
]


def test_what_is_wrong_is_named_and_nothing_is_added(server, sdk, channel):
    batch_id = sdk.batch.create("all of them").batch_id
    first = batch.BatchRequest(batch_request_id="first", completion_request=ask())
    for entry, param in WRONG:
        asked = batch.AddBatchRequestsRequest(batch_id=batch_id, batch_requests=[first, batch.BatchRequest(**entry)])
        outcome = call(channel, f"{SERVICE}/AddBatchRequests", [asked], bearer(server.api_key))
        assert outcome.code == "INVALID_ARGUMENT"
        assert outcome.details.startswith(f"batch_requests[1].{param}")
    assert sdk.batch.get(batch_id).state.num_requests == 0


def test_a_batch_of_another_organisation_is_as_one_that_never_was(server, sdk):
    server.command("accounts create", email="bob@southwind.example", org="Southwind", password="battery staple")
    key = server.command("keys create", name="bob", email="bob@southwind.example")["api_key"]
    batch_id = added(sdk, {"one": "hi"})
    wait(server)
    bob = xai_sdk.Client(api_key=key, api_host=server.grpc_address)
    for ask_for in (bob.batch.get, bob.batch.cancel, bob.batch.list_batch_requests, bob.batch.list_batch_results):
        told = []
        for one in (batch_id, UNKNOWN, "nonsense"):
            with pytest.raises(grpc.RpcError) as refused:
                ask_for(one)
            told.append((refused.value.code(), refused.value.details()))
        assert set(told) == {(grpc.StatusCode.NOT_FOUND, told[0][1])}
    with pytest.raises(grpc.RpcError) as refused:
        bob.batch.add(batch_id, [chat_of(bob, "echo", None, "hi")])
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND
    assert list(bob.batch.list().batches) == []
    bob.close()


async def test_the_async_client_does_the_same(server):
    client = xai_sdk.AsyncClient(api_key=server.api_key, api_host=await asyncio.to_thread(lambda: server.grpc_address))
    made = await client.batch.create("all of them")
    question = client.chat.create("echo", messages=[user("hi there")], batch_request_id="one")
    await client.batch.add(made.batch_id, [question])
    while (await client.batch.get(made.batch_id)).state.num_pending:
        pass
    [result] = (await client.batch.list_batch_results(made.batch_id)).results
    assert result.response.content == "hi there"
    await client.close()


def test_both_protocols_tell_the_same(server, sdk, channel):
    """What is added over one is fetched over the other."""
    batch_id = added(sdk, {"over gRPC": "tell me"})
    body = {"model": "echo", "messages": [{"role": "user", "content": "tell me"}], "max_tokens": 9}
    entry = {"batch_request_id": "over HTTP", "batch_request": {"chat_get_completion": body}}
    path = f"/v1/batches/{batch_id}"
    encoded = json.dumps({"batch_requests": [entry]}).encode()
    assert post(server.port, f"{path}/requests", server.api_key, encoded).json == {}
    wait(server)

    told = {one.batch_request_id: one.response for one in sdk.batch.list_batch_results(batch_id).results}
    results = request(server.port, "GET", f"{path}/results", x_api_key=server.api_key).json["results"]
    assert [one["batch_request_id"] for one in results] == list(told)
    for one in results:
        completion = one["batch_result"]["response"]["chat_get_completion"]
        assert told[one["batch_request_id"]].id == completion["id"]
        assert completion["choices"][0]["message"]["content"] == "tell me"
        assert told[one["batch_request_id"]].cost_usd * 10**10 == completion["usage"]["cost_in_usd_ticks"]
    for name, max_tokens in (("over HTTP", 9), ("over gRPC", 0)):
        asked = batch.GetBatchRequestResultRequest(batch_id=batch_id, batch_request_id=name)
        outcome = call(channel, f"{SERVICE}/GetBatchRequestResult", [asked], bearer(server.api_key))
        both = batch.GetBatchRequestResultResponse.FromString(outcome.messages[0])
        wire = both.request.completion_request
        assert (wire.model, wire.messages[0].content[0].text, wire.max_tokens) == ("echo", "tell me", max_tokens)
        assert both.result.response.completion_response.id == told[name].id


def test_a_file_of_lines_becomes_a_batch(server, sdk):
    body = {"model": "echo", "messages": [{"role": "user", "content": "tell me"}]}
    lines = [
        {"batch_request_id": "a", "batch_request": {"chat_get_completion": body}},
        {"custom_id": "b", "method": "POST", "url": "/v1/chat/completions", "body": body},
    ]
    file = sdk.files.upload("\n".join(map(json.dumps, lines)).encode(), filename="requests.jsonl")
    made = sdk.batch.create("all of them", input_file_id=file.id)
    assert (made.input_file_id, made.state.num_requests) == (file.id, 2)
    wait(server)
    assert [one.batch_request_id for one in sdk.batch.list_batch_results(made.batch_id).succeeded] == ["a", "b"]
    with pytest.raises(grpc.RpcError) as refused:
        sdk.batch.add(made.batch_id, [chat_of(sdk, "echo", None, "hi")])
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture
def whole() -> ChatRequest:
    return ChatRequest(
        model="echo",
        messages=(
            Message("system", (Text("Be brief."),)),
            Message("user", (Text("What is this?"), Image("https://example.com/cat.png", "low")), name="alice"),
            Message("assistant", (Reasoning("hm"), Text("Let me look."), ToolCall("c1", "look", '{"a": 1}'))),
            Message("tool", (ToolResult("c1", (Text("a cat"),)),)),
        ),
        max_output_tokens=9,
        sampling=Sampling(0.5, 0.25, 7, 0.5, -0.5),
        stop=("x",),
        choices=2,
        top_logprobs=3,
        tools=(Tool("look", "Looks.", {"type": "object"}, strict=True),),
        tool_choice=ToolChoice("named", "look"),
        parallel_tool_calls=False,
        json_format=JsonFormat({"type": "object"}),
        effort="low",
    )


def test_a_request_that_is_spelled_anew_is_the_same_request(whole):
    requests = [
        whole,
        replace(whole, tool_choice=ToolChoice("required"), json_format=JsonFormat(), effort=None, top_logprobs=None),
        replace(whole, tools=(), tool_choice=ToolChoice(), json_format=None, max_output_tokens=None),
    ]
    seals = Seals(lambda _: None, lambda _: None)
    for one in requests:
        wire = encode_request(one)
        assert to_request(wire, to_messages(wire.messages, seals)) == one

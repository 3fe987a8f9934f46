"""What is kept over REST is found over gRPC, and the other way round."""

import json
from typing import Any

import grpc
import pytest
from xai_sdk.chat import system, user

from leadline.chat.request import Text
from leadline.dialects.xai.protos import deferred
from tests.conformance.grammar.responses import check, check_response
from tests.raw import Answer, post, request
from tests.scripted.server import ScriptedServer


def get(server: ScriptedServer, path: str, method: str = "GET") -> Answer:
    return request(server.port, method, path, Authorization=f"Bearer {server.api_key}")


def send(server: ScriptedServer, path: str, **body: Any) -> Any:
    return post(server.port, path, server.api_key, json.dumps(body).encode()).json


def test_a_conversation_goes_on_from_one_protocol_to_the_other(server, sdk):
    first = sdk.chat.create(model="weather", store_messages=True)
    first.append(system("Be brief."))
    first.append(user("Where?"))
    answer = first.sample()
    told = get(server, f"/v1/responses/{answer.id}").json
    check_response(told)
    assert told["output"][1]["content"][0]["text"] == answer.content
    assert told["usage"]["cost_in_usd_ticks"] == answer.usage.cost_in_usd_ticks
    assert check(get(server, f"/v1/responses/{answer.id}?stream=true").body) == told
    results = [{"type": "function_call_output", "call_id": call.id, "output": "hot"} for call in answer.tool_calls]
    second = send(server, "/v1/responses", model="echo", input=results, previous_response_id=told["id"])
    third = sdk.chat.create(model="echo", previous_response_id=second["id"])
    third.append(user("And now?"))
    assert third.sample().content == "And now?"
    roles = [message.role for message in server.engine.requests[-1].messages]
    assert roles == ["system", "user", "assistant", "tool", "tool", "assistant", "user"]
    [found] = sdk.chat.get_stored_completion(second["id"])
    assert (found.content, found.usage.cost_in_usd_ticks) == ("hot", second["usage"]["cost_in_usd_ticks"])
    sdk.chat.delete_stored_completion(second["id"])
    assert get(server, f"/v1/responses/{second['id']}").status == 404


def test_a_completion_that_one_protocol_deferred_the_other_one_fetches(server, sdk):
    body = {"messages": [{"role": "user", "content": "tell me"}], "deferred": True}
    answers: list[Any] = []
    for model in ("echo", "broken-after"):
        request_id = send(server, "/v1/chat/completions", model=model, **body)["request_id"]
        server.wait_until(lambda: not server.pipeline.deferred._tasks)
        asked = deferred.GetDeferredRequest(request_id=request_id)
        try:
            answers.append(sdk.chat._stub.GetDeferredCompletion(asked).response.outputs[0].message.content)
        except grpc.RpcError as error:
            answers.append(error.code())
    assert answers == ["tell me", grpc.StatusCode.INTERNAL]
    chat = sdk.chat.create(model="echo")
    chat.append(user("and you"))
    request_id = sdk.chat._stub.StartDeferredCompletion(chat.proto).request_id
    server.wait_until(lambda: not server.pipeline.deferred._tasks)
    completion = get(server, f"/v1/chat/deferred-completion/{request_id}").json
    assert completion["choices"][0]["message"]["content"] == "and you"
    assert [message.content for message in server.engine.requests[-1].messages] == [(Text("and you"),)]
    with pytest.raises(grpc.RpcError) as gone:
        sdk.chat._stub.GetDeferredCompletion(deferred.GetDeferredRequest(request_id=request_id))
    assert gone.value.code() == grpc.StatusCode.NOT_FOUND


def defer(server: ScriptedServer, sdk: Any, model: str, **more: Any) -> str:
    """The id of a deferred request that has ended."""
    chat = sdk.chat.create(model=model, **more)
    chat.append(user("tell me"))
    request_id = sdk.chat._stub.StartDeferredCompletion(chat.proto).request_id
    server.wait_until(lambda: not server.pipeline.deferred._tasks)
    return str(request_id)


def test_a_deferred_completion_that_is_stored_stays_when_it_was_fetched(server, sdk):
    request_id = defer(server, sdk, "echo", store_messages=True, temperature=0.5)
    asked = deferred.GetDeferredRequest(request_id=request_id)
    fetched = sdk.chat._stub.GetDeferredCompletion(asked).response
    with pytest.raises(grpc.RpcError):
        sdk.chat._stub.GetDeferredCompletion(asked)
    [stored] = sdk.chat.get_stored_completion(request_id)
    assert stored.proto == fetched
    [charge] = server.charges()
    assert (stored.id, stored.usage.cost_in_usd_ticks) == (charge.request_id, -charge.amount_ticks)
    told = get(server, f"/v1/responses/{request_id}").json
    check_response(told)
    assert told["output"][0]["content"][0]["text"] == "tell me"
    goes_on = sdk.chat.create(model="echo", previous_response_id=request_id)
    goes_on.append(user("and then"))
    assert goes_on.sample().content == "and then"
    roles = [message.role for message in server.engine.requests[-1].messages]
    assert roles == ["user", "assistant", "user"]
    assert sdk.chat.delete_stored_completion(request_id) == request_id
    assert get(server, f"/v1/responses/{request_id}").status == 404


def test_a_stored_completion_that_was_deferred_can_be_deleted_before_it_is_fetched(server, sdk):
    request_id = defer(server, sdk, "echo", store_messages=True)
    sdk.chat.delete_stored_completion(request_id)
    answer = sdk.chat._stub.GetDeferredCompletion(deferred.GetDeferredRequest(request_id=request_id))
    assert answer.response.outputs[0].message.content == "tell me"


@pytest.mark.parametrize(("model", "stores"), [("echo", False), ("broken-after", True)])
def test_a_deferred_completion_is_stored_only_where_that_is_asked_for_and_it_ended_well(server, sdk, model, stores):
    request_id = defer(server, sdk, model, store_messages=stores)
    with pytest.raises(grpc.RpcError) as refused:
        sdk.chat.get_stored_completion(request_id)
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND
    assert get(server, f"/v1/responses/{request_id}").status == 404

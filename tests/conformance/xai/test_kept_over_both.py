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

"""xAI's SDK, sync and async, chats: whole and streamed, with choices, tools, thoughts, JSON and log probabilities."""

import json
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
import xai_sdk
from pydantic import BaseModel
from xai_sdk.chat import assistant, developer, file, required_tool, system, tool, tool_result, user
from xai_sdk.proto import chat_pb2, deferred_pb2

from leadline.chat.events import ChoiceFinished, Finished, ReasoningDelta, Started, TextDelta, Usage
from leadline.chat.request import JsonFormat, Message, Reasoning, Text, ToolCall, ToolChoice, ToolResult
from tests.scripted.engine import SCRIPTS, prompt_tokens
from tests.scripted.server import EMAIL, ScriptedServer

pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
TICKS = 10**10
ASK = "what is the answer"
TOOLS = [
    tool("weather", "Of a city", {"type": "object", "properties": {"city": {"type": "string"}}}),
    tool("clock", "The time", {"type": "object", "properties": {}}),
]
CALLS = [("call_a", "weather", '{"city":"Paris"}'), ("call_b", "clock", "{}")]


class Capital(BaseModel):
    capital: str


def capital(request):
    """An answer in JSON."""
    prompt = prompt_tokens(request)
    yield (Started(prompt),)
    yield (TextDelta('{"capital":'), TextDelta('"Paris"}'))
    yield (ChoiceFinished("stop"), Finished(Usage(prompt, output_tokens=2)))


def thinker(request):
    """Thinks, then says what it was asked."""
    prompt = prompt_tokens(request)
    yield (Started(prompt, 1),)
    yield (ReasoningDelta("hm"), ReasoningDelta(", two"))
    yield (TextDelta("two"),)
    yield (ChoiceFinished("stop"), Finished(Usage(prompt, 1, output_tokens=1, reasoning_tokens=2)))


@pytest.fixture
def server(tmp_path):
    server = ScriptedServer(tmp_path / "data", scripts=SCRIPTS | {"json": capital, "thinker": thinker})
    yield server
    server.stop()


def said(response: Any) -> Any:
    calls = [(call.id, call.function.name, call.function.arguments) for call in response.tool_calls]
    return response.role, response.content, response.reasoning_content, calls, response.finish_reason


def charged(server: ScriptedServer) -> int:
    return -server.charges()[-1].amount_ticks


def test_an_answer_tells_what_it_is_and_what_it_cost(server, either):
    before = datetime.now(UTC) - timedelta(seconds=2)
    answer = either.chat.create(
        "echo-latest", messages=[user(ASK)], user="mara", max_tokens=9, temperature=0.5
    ).sample()
    assert said(answer) == ("ROLE_ASSISTANT", ASK, "", [], "REASON_STOP")
    [charge] = server.charges()
    assert (answer.id, answer.proto.model, charge.model) == (charge.request_id, "echo", "echo")
    assert before < answer.created.astimezone(UTC) < before + timedelta(minutes=5)
    assert answer.system_fingerprint == server.pipeline.catalog.find("echo").fingerprint
    spent = answer.usage
    assert (spent.prompt_tokens, spent.completion_tokens, spent.total_tokens) == (4, 4, 8)
    assert (spent.prompt_text_tokens, spent.cached_prompt_text_tokens, spent.reasoning_tokens) == (4, 0, 0)
    assert answer.cost_usd == charged(server) / TICKS == 120_000 / TICKS
    settings = answer.request_settings
    assert (settings.max_tokens, settings.temperature, settings.user) == (9, 0.5, "mara")
    assert settings.parallel_tool_calls
    assert answer.service_tier == "default"


def test_a_stream_adds_up_to_the_whole_answer(server, either):
    whole = either.chat.create("echo", messages=[user(ASK)]).sample()
    streamed = list(either.chat.create("echo", messages=[user(ASK)]).stream())
    response = streamed[-1][0]
    assert "".join(chunk.content for _, chunk in streamed) == response.content == ASK
    assert said(response) == said(whole)
    assert response.usage == whole.usage
    assert (response.id, response.cost_usd) == (server.charges()[-1].request_id, charged(server) / TICKS)
    assert (response.proto.model, response.system_fingerprint) == (whole.proto.model, whole.system_fingerprint)
    assert response.created >= whole.created


def test_every_chunk_says_whose_it_is_and_only_the_last_one_what_it_cost(server, sdk):
    chunks = [chunk.proto for _, chunk in sdk.chat.create("echo", messages=[user(ASK)]).stream()]
    assert len({(chunk.id, chunk.created.seconds, chunk.model, chunk.system_fingerprint) for chunk in chunks}) == 1
    assert {output.delta.role for chunk in chunks for output in chunk.outputs} == {chat_pb2.ROLE_ASSISTANT}
    assert [chunk.HasField("usage") for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert [output.finish_reason for chunk in chunks for output in chunk.outputs][:-1] == [0] * (len(chunks) - 1)


def test_several_choices_come_by_their_index(server, either):
    chat = either.chat.create("echo", messages=[user(ASK)])
    answers = chat.sample_batch(3)
    assert [answer.content for answer in answers] == [ASK] * 3
    assert (answers[0].usage.prompt_tokens, answers[0].usage.completion_tokens) == (4, 12)
    *_, (streamed, chunks) = chat.stream_batch(3)
    assert len(chunks) == 3
    assert [said(answer) for answer in streamed] == [said(answer) for answer in answers]
    assert streamed[0].usage == answers[0].usage
    assert len(server.charges()) == 2


def test_what_is_cut_says_why(server, either):
    chat = either.chat.create("echo", messages=[user(ASK)], max_tokens=2)
    assert (chat.sample().content, chat.sample().finish_reason) == ("what is", "REASON_MAX_LEN")
    *_, (streamed, _) = chat.stream()
    assert (streamed.content, streamed.finish_reason) == ("what is", "REASON_MAX_LEN")
    stopped = either.chat.create("echo", messages=[user(ASK)], stop=[" the"])
    assert said(stopped.sample())[1::3] == ("what is", "REASON_STOP")
    *_, (streamed, _) = stopped.stream()
    assert (streamed.content, streamed.finish_reason) == ("what is", "REASON_STOP")


def test_log_probabilities_are_those_of_the_tokens(server, either):
    chat = either.chat.create("echo", messages=[user("grün ist")], logprobs=True, top_logprobs=2)
    tokens = chat.sample().logprobs.content
    assert "".join(one.token for one in tokens) == "grün ist"
    assert b"".join(one.bytes for one in tokens) == "grün ist".encode()
    assert [(one.logprob, len(one.top_logprobs)) for one in tokens] == [(-0.5, 2)] * 2
    assert (tokens[0].top_logprobs[0].token, tokens[0].top_logprobs[0].bytes) == ("other0", b"o")
    streamed = [one for _, chunk in chat.stream() for output in chunk.proto.outputs for one in output.logprobs.content]
    assert streamed == list(tokens)


def test_json_is_parsed_into_the_models_of_pydantic(server, either):
    chat = either.chat.create("json", messages=[user("Of France?")])
    answer, shape = chat.parse(Capital)
    assert (shape, answer.content) == (Capital(capital="Paris"), '{"capital":"Paris"}')
    assert server.engine.requests[-1].json_format == JsonFormat(Capital.model_json_schema())
    either.chat.create("json", messages=[user("?")], response_format=Capital).sample()
    assert server.engine.requests[-1].json_format == JsonFormat(Capital.model_json_schema())
    either.chat.create("json", messages=[user("?")], response_format="json_object").sample()
    assert server.engine.requests[-1].json_format == JsonFormat()
    either.chat.create("json", messages=[user("?")], response_format="text").sample()
    assert server.engine.requests[-1].json_format is None


@pytest.mark.parametrize("ids", [True, False])
@pytest.mark.parametrize("stream", [True, False])
def test_functions_are_called_and_their_results_belong_to_them(server, either, ids, stream):
    """Results without ids are those of the calls in their order."""
    chat = either.chat.create("weather", messages=[system("Be brief."), user("How is it?")], tools=TOOLS)
    if stream:
        *_, (answer, _) = chat.stream()
    else:
        answer = chat.sample()
    assert said(answer) == ("ROLE_ASSISTANT", "Let me look.", "hm, two", CALLS, "REASON_TOOL_CALLS")
    assert {call.type for call in answer.tool_calls} == {chat_pb2.TOOL_CALL_TYPE_CLIENT_SIDE_TOOL}
    assert {call.status for call in answer.tool_calls} == {chat_pb2.TOOL_CALL_STATUS_COMPLETED}
    chat.append(answer)
    for call, result in zip(answer.tool_calls, ("rain", "noon"), strict=True):
        chat.append(tool_result(result, call.id) if ids else tool_result(result))
    assert chat.sample().content == "noon"
    assert server.engine.requests[-1].messages[2:] == (
        Message(
            "assistant",
            (Reasoning("hm, two"), Text("Let me look."), *(ToolCall(*call) for call in CALLS)),
        ),
        Message("tool", (ToolResult("call_a", (Text("rain"),)),)),
        Message("tool", (ToolResult("call_b", (Text("noon"),)),)),
    )


def test_a_call_may_be_asked_for_forbidden_or_named(server, sdk):
    for choice, expected in (
        ("auto", ToolChoice()),
        ("none", ToolChoice("none")),
        ("required", ToolChoice("required")),
        (required_tool("clock"), ToolChoice("named", "clock")),
    ):
        answer = sdk.chat.create("weather", messages=[user("?")], tools=TOOLS, tool_choice=choice).sample()
        assert server.engine.requests[-1].tool_choice == expected
        assert answer.request_settings.tools[0].function.name == "weather"


def test_thoughts_are_told_counted_apart_and_sealed_where_that_is_asked_for(server, either):
    chat = either.chat.create("thinker", messages=[user("One and one?")], use_encrypted_content=True)
    whole = chat.sample()
    *_, (streamed, _) = chat.stream()
    for answer in (whole, streamed):
        assert (answer.content, answer.reasoning_content) == ("two", "hm, two")
        assert answer.encrypted_content
        assert b"hm, two" not in b64decode(answer.encrypted_content)
        spent = answer.usage
        assert (spent.completion_tokens, spent.reasoning_tokens, spent.total_tokens) == (1, 2, 6)
        assert (spent.prompt_text_tokens, spent.cached_prompt_text_tokens) == (2, 1)
        # What is sealed is what was thought, whatever is said beside it.
        again = either.chat.create("echo", messages=[user("One and one?")])
        again.append(answer)
        again.messages[-1].reasoning_content = "something else"
        again.append(user("Sure?")).sample()
        thought = server.engine.requests[-1].messages[1]
        assert thought == Message("assistant", (Reasoning("hm, two"), Text("two")))
    plain = either.chat.create("thinker", messages=[user("One and one?")]).sample()
    assert plain.encrypted_content == ""


def test_what_another_organisation_sealed_is_left_out(server, sdk):
    sealed = sdk.chat.create("thinker", messages=[user("?")], use_encrypted_content=True).sample()
    bob = bobs(server)
    chat = bob.chat.create("echo", messages=[user("?")])
    chat.append(sealed)
    chat.messages[-1].reasoning_content = ""
    chat.append(user("Sure?")).sample()
    assert server.engine.requests[-1].messages[1] == Message("assistant", (Text("two"),))
    bob.close()


def bobs(server: ScriptedServer) -> Any:
    """A client of another organisation, with credits."""
    bob = "bob@southwind.example"
    server.command("accounts create", email=bob, org="Southwind", password="battery staple")
    server.command("credits grant", email=bob, amount="1", reason="paid")
    key = server.command("keys create", name="bob", email=bob)["api_key"]
    return xai_sdk.Client(api_key=key, api_host=server.grpc_address)


def test_a_conversation_goes_on(server, either):
    chat = either.chat.create("echo", messages=[developer("Be brief."), assistant("Hello.")])
    for text in ("one", "two"):
        chat.append(user(text))
        chat.append(chat.sample())
    assert [message.role for message in server.engine.requests[-1].messages] == [
        *("system", "assistant", "user", "assistant", "user")
    ]
    assert len(chat.messages) == 6


def test_a_text_file_is_read_with_the_question(server, either):
    chat = either.chat.create("echo")
    chat.append(user("What is in it?", file(data=b"a;b\n1;2\n", filename="table.csv", mime_type="text/csv")))
    chat.sample()
    assert server.engine.requests[-1].messages[0].content[1] == Text("File table.csv:\na;b\n1;2\n")
    with pytest.raises(grpc.RpcError, match=r"file\.url is not supported"):
        either.chat.create("echo", messages=[user(file(url="http://127.0.0.1/x"))]).sample()


def test_an_uploaded_file_is_read_with_the_question(server, either):
    uploaded = either.files.upload(b"a;b\n1;2\n", filename="table.csv")
    either.chat.create("echo", messages=[user("What is in it?", file(uploaded.id))]).sample()
    question, table = server.engine.requests[-1].messages[0].content
    assert (question, "a;b\n1;2" in table.text) == (Text("What is in it?"), True)
    with pytest.raises(grpc.RpcError) as unknown:
        either.chat.create("echo", messages=[user(file("file_nothing"))]).sample()
    assert unknown.value.code() == grpc.StatusCode.NOT_FOUND
    assert len(server.charges()) == 1


# Stored and deferred


def test_an_answer_is_stored_where_that_is_asked_for(server, either):
    first = either.chat.create("echo", messages=[user(ASK)], store_messages=True)
    answer = first.sample()
    *_, (streamed, _) = first.stream()
    batch = first.sample_batch(2)
    for made in ([answer], [streamed], batch):
        found = either.chat.get_stored_completion(made[0].id)
        assert [said(one) for one in found] == [said(one) for one in made]
        assert (found[0].id, found[0].usage, found[0].cost_usd) == (made[0].id, made[0].usage, made[0].cost_usd)
        assert (found[0].created, found[0].system_fingerprint) == (made[0].created, made[0].system_fingerprint)
        assert found[0].request_settings.store_messages
    goes_on = either.chat.create("echo", messages=[user("and then")], previous_response_id=answer.id)
    assert goes_on.sample().content == "and then"
    assert [message.content for message in server.engine.requests[-1].messages] == [
        *((Text(ASK),), (Text(ASK),), (Text("and then"),))
    ]
    assert either.chat.delete_stored_completion(answer.id) == answer.id
    for gone in (
        lambda: either.chat.get_stored_completion(answer.id),
        lambda: either.chat.delete_stored_completion(answer.id),
        goes_on.sample,
    ):
        with pytest.raises(grpc.RpcError) as refused:
            gone()
        assert refused.value.code() == grpc.StatusCode.NOT_FOUND


def test_an_answer_that_nobody_asked_to_store_is_not_stored(server, sdk):
    answer = sdk.chat.create("echo", messages=[user(ASK)]).sample()
    with pytest.raises(grpc.RpcError) as refused:
        sdk.chat.get_stored_completion(answer.id)
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND


def test_nobody_else_can_tell_what_is_stored_or_deferred(server, sdk):
    bob = bobs(server)
    chat = sdk.chat.create("echo", messages=[user(ASK)], store_messages=True)
    stored = chat.sample().id
    deferred = sdk.chat._stub.StartDeferredCompletion(chat.proto).request_id
    server.wait_until(lambda: not server.pipeline.deferred._tasks)
    nobody = "01a21215-e4a7-7b11-b415-5f93b6190a05"

    def refusal(attempt: Any, wanted: str) -> tuple[Any, str]:
        with pytest.raises(grpc.RpcError) as refused:
            attempt(wanted)
        return refused.value.code(), refused.value.details().replace(wanted, "…")

    for attempt, wanted in (
        (bob.chat.get_stored_completion, stored),
        (bob.chat.delete_stored_completion, stored),
        (lambda id_: bob.chat.create("echo", messages=[user("?")], previous_response_id=id_).sample(), stored),
        (
            lambda id_: bob.chat._stub.GetDeferredCompletion(deferred_pb2.GetDeferredRequest(request_id=id_)),
            deferred,
        ),
    ):
        assert refusal(attempt, wanted) == refusal(attempt, nobody)
    assert sdk.chat.get_stored_completion(stored)[0].content == ASK
    bob.close()


def test_an_answer_is_fetched_later(server, either):
    chat = either.chat.create("weather", messages=[user(ASK)], tools=TOOLS)
    quickly = {"interval": timedelta(milliseconds=5), "timeout": timedelta(seconds=30)}
    assert said(chat.defer(**quickly)) == said(chat.sample())
    several = either.chat.create("echo", messages=[user(ASK)]).defer_batch(2, **quickly)
    assert [said(answer) for answer in several] == [("ROLE_ASSISTANT", ASK, "", [], "REASON_STOP")] * 2
    assert {charge.request_id for charge in server.charges()} >= {several[0].id}
    with pytest.raises(grpc.RpcError) as failed:
        either.chat.create("broken-before", messages=[user(ASK)]).defer(**quickly)
    assert (failed.value.code(), failed.value.details()) == (grpc.StatusCode.INTERNAL, "The engine broke.")
    assert len(server.charges()) == 3


def test_a_context_is_compacted_and_goes_on(server, either):
    chat = either.chat.create("echo", messages=[system("Be brief."), user(ASK), assistant("42")])
    compacted = chat.compact()
    assert (compacted.dropped_message_count, compacted.usage.cost_in_usd_ticks) == (2, charged(server))
    assert compacted.id == server.charges()[-1].request_id
    assert b"brief" not in b64decode(compacted.encrypted_content)
    assert len(chat.messages) == 1
    chat.append(user("and then"))
    assert chat.sample().content == "and then"
    instructions, summary, question = server.engine.requests[-1].messages
    assert instructions == Message("system", (Text("Be brief."),))
    assert "Summarize our conversation" in summary.content[0].text  # which the engine echoed
    assert question == Message("user", (Text("and then"),))
    alone = either.chat.compact_context("echo", [user(ASK)])
    assert alone.dropped_message_count == 1


def test_what_was_said_before_a_compacted_context_is_dropped(server, sdk):
    compacted = sdk.chat.compact_context("echo", [system("Be brief."), user("old")])
    chat = sdk.chat.create("echo", messages=[system("Be brief."), user("old"), assistant("older")])
    chat.messages.append(chat_pb2.Message(role=chat_pb2.ROLE_USER, encrypted_content=compacted.encrypted_content))
    chat.append(user("and then")).sample()
    assert [message.role for message in server.engine.requests[-1].messages] == ["system", "user", "user"]


def test_a_context_opens_for_nobody_else(server, sdk):
    compacted = sdk.chat.compact_context("echo", [user(ASK)])
    bob = bobs(server)
    chat = bob.chat.create("echo")
    chat.append(compacted)
    with pytest.raises(grpc.RpcError, match=r"messages\[0\].encrypted_content"):
        chat.sample()
    bob.close()


def test_a_key_of_one_scope_is_refused_in_the_sdks_words(server):
    key = server.command("keys create", name="lists", email=EMAIL, options={"endpoints": ["models"]})["api_key"]
    client = xai_sdk.Client(api_key=key, api_host=server.grpc_address)
    assert [model.name for model in client.models.list_language_models()]
    with pytest.raises(grpc.RpcError, match="may not use chat endpoints") as refused:
        client.chat.create("echo", messages=[user("?")]).sample()
    assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED
    client.close()


def test_schemas_of_tools_are_those_that_were_sent(server, sdk):
    schema = {"type": "object", "properties": {"größe": {"type": ["integer", "null"], "enum": [1, 2.5, None]}}}
    sdk.chat.create("weather", messages=[user("?")], tools=[tool("f", "", schema)]).sample()
    [sent] = server.engine.requests[-1].tools
    assert json.loads(json.dumps(sent.parameters)) == schema

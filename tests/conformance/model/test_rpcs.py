"""xAI's SDK on the real model: what its README shows, and the same answer as over REST."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import grpc
import pytest
import xai_sdk
from pydantic import BaseModel, Field
from xai_sdk.chat import assistant, image, required_tool, system, tool, tool_result, user
from xai_sdk.proto import embed_pb2, embed_pb2_grpc, sample_pb2, sample_pb2_grpc

from tests.conformance.model.bill import Bill
from tests.conformance.model.test_chat import MODEL
from tests.live import LiveServer

pytestmark = [pytest.mark.model, pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")]

ASK = "Tell me about the sea."
DRAWN: Any = {"temperature": 0, "seed": 7, "max_tokens": 24}
WEATHER = tool(
    "weather",
    "The weather of a city.",
    {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
)


class Wave(BaseModel):
    height: int = Field(ge=0, le=99)


@pytest.fixture(scope="module")
def rpc(live: LiveServer) -> Iterator[xai_sdk.Client]:
    client = xai_sdk.Client(api_key=live.api_key, api_host=live.grpc_address)
    yield client
    client.close()


@pytest.fixture
def noted(bill: Bill) -> Any:
    """An answer, once its cost is on the bill that the ledger is held against."""

    def note(answer: Any) -> Any:
        bill.told[answer.id] = answer.usage.cost_in_usd_ticks
        return answer

    return note


def last(stream: Any) -> Any:
    *_, (response, _) = stream
    return response


def test_a_chat_says_the_same_whole_streamed_and_over_rest(rpc, sdk, noted):
    chat = rpc.chat.create(MODEL, messages=[system("Be brief."), user(ASK)], **DRAWN)
    messages: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": ASK}]
    noted(chat.sample())  # from now on the prompt is cached alike
    whole, streamed = noted(chat.sample()), noted(last(chat.stream()))
    rest = sdk.chat.completions.create(model=MODEL, messages=messages, **DRAWN)
    assert whole.content == streamed.content == rest.choices[0].message.content
    assert whole.finish_reason == streamed.finish_reason == "REASON_MAX_LEN"
    assert whole.usage == streamed.usage
    spent = rest.usage
    assert (spent.prompt_tokens, spent.completion_tokens, spent.prompt_tokens_details.cached_tokens) == (
        *(whole.usage.prompt_tokens, whole.usage.completion_tokens, whole.usage.cached_prompt_text_tokens),
    )
    assert spent.cost_in_usd_ticks == whole.usage.cost_in_usd_ticks
    assert rest.system_fingerprint == whole.system_fingerprint == streamed.system_fingerprint


def test_a_conversation_goes_on_and_is_stored(rpc, noted):
    chat = rpc.chat.create(MODEL, messages=[user(ASK)], store_messages=True, **DRAWN)
    answer = noted(chat.sample())
    chat.append(answer).append(user("And of the lakes?"))
    longer = noted(chat.sample())
    assert longer.usage.prompt_tokens > answer.usage.prompt_tokens + answer.usage.completion_tokens
    going_on = rpc.chat.create(MODEL, messages=[user("And of the lakes?")], previous_response_id=answer.id, **DRAWN)
    assert noted(going_on.sample()).usage.prompt_tokens == longer.usage.prompt_tokens
    assert rpc.chat.get_stored_completion(answer.id)[0].content == answer.content
    assert rpc.chat.delete_stored_completion(answer.id) == answer.id
    later = rpc.chat.create(MODEL, messages=[user(ASK)], **DRAWN)
    assert noted(later.defer(interval=timedelta(milliseconds=50))).content


def test_choices_log_probabilities_and_stops(rpc, noted):
    chat = rpc.chat.create(MODEL, messages=[user(ASK)], **DRAWN | {"temperature": 1}, logprobs=True, top_logprobs=2)
    one, other = (answers := chat.sample_batch(2))
    noted(one)
    assert one.content != other.content
    for answer in answers:
        assert "".join(token.token for token in answer.logprobs.content) == answer.content
    plain = noted(rpc.chat.create(MODEL, messages=[user(ASK)], **DRAWN).sample())
    stop = plain.content[5:9]
    cut = noted(rpc.chat.create(MODEL, messages=[user(ASK)], stop=[stop], **DRAWN).sample())
    assert (cut.content, cut.finish_reason) == (plain.content.partition(stop)[0], "REASON_STOP")


def test_an_answer_is_parsed(rpc, noted):
    chat = rpc.chat.create(MODEL, messages=[user("How high is it?")], **DRAWN | {"max_tokens": 128})
    answer, wave = chat.parse(Wave)
    assert noted(answer).content
    assert 0 <= wave.height <= 99


def test_a_function_is_called_and_its_result_read(rpc, noted):
    chat = rpc.chat.create(
        MODEL,
        messages=[user("How is the weather in Paris?")],
        tools=[WEATHER],
        tool_choice=required_tool("weather"),
        parallel_tool_calls=False,
        **DRAWN | {"max_tokens": 64},
    )
    for answer in (noted(chat.sample()), noted(last(chat.stream()))):
        [call] = answer.tool_calls
        assert answer.finish_reason == "REASON_TOOL_CALLS"
        assert json.loads(call.function.arguments)["city"] in ("Paris", "Rome")
    chat.append(answer).append(tool_result("wild, 12°", call.id))
    chat.proto.ClearField("tool_choice")
    assert noted(chat.sample()).usage.prompt_tokens > answer.usage.prompt_tokens


def test_a_context_is_compacted(rpc, bill, noted):
    chat = rpc.chat.create(MODEL, messages=[system("Be brief."), user(ASK), assistant("It is wide.")], **DRAWN)
    compacted = chat.compact()
    bill.told[compacted.id] = compacted.usage.cost_in_usd_ticks
    assert compacted.dropped_message_count == 2
    assert noted(chat.append(user("What was it about?")).sample()).content


def test_models_tokens_and_the_key(rpc, sdk, live):
    model = rpc.models.get_language_model(MODEL)
    assert (model.prompt_text_token_price, model.completion_text_token_price) == (1_000, 4_000)
    assert model.max_prompt_length == 8192
    tokens = rpc.tokenize.tokenize_text("größe <|im_end|>", MODEL)
    over_rest: Any = sdk.post("/tokenize-text", body={"model": MODEL, "text": "größe <|im_end|>"}, cast_to=object)
    assert [token.token_id for token in tokens] == [token["token_id"] for token in over_rest["token_ids"]]
    assert b"".join(token.token_bytes for token in tokens) == "größe <|im_end|>".encode()
    assert rpc.auth.get_api_key_info().api_key_id in live.api_key


def test_plain_prompts_and_vectors(rpc, live, bill):
    metadata = (("authorization", f"Bearer {live.api_key}"),)
    with grpc.insecure_channel(live.grpc_address) as channel:
        asked = sample_pb2.SampleTextRequest(model=MODEL, prompt=["The sea is"], max_tokens=8, temperature=0)
        whole = sample_pb2_grpc.SampleStub(channel).SampleText(asked, metadata=metadata)
        bill.told[whole.id] = whole.usage.cost_in_usd_ticks
        *_, end = pieces = list(sample_pb2_grpc.SampleStub(channel).SampleTextStreaming(asked, metadata=metadata))
        bill.told[end.id] = end.usage.cost_in_usd_ticks
        assert "".join(choice.text for piece in pieces for choice in piece.choices) == whole.choices[0].text
        for model in rpc.models.list_embedding_models():
            inputs = [embed_pb2.EmbedInput(string=text) for text in ("The sea", "The ocean", "A tax form")]
            answer = embed_pb2_grpc.EmbedderStub(channel).Embed(
                embed_pb2.EmbedRequest(model=model.name, input=inputs), metadata=metadata
            )
            [entry] = [one for one in live.ledger() if one["request_id"] == answer.id]
            bill.told[answer.id] = -entry["amount_ticks"]
            sea, ocean, form = (one.embeddings[0].float_array for one in answer.embeddings)
            alike, unlike = (sum(a * b for a, b in zip(sea, one, strict=True)) for one in (ocean, form))
            assert alike > unlike


def test_what_the_model_lacks_is_refused(rpc):
    for refused, words in (
        (rpc.chat.create(MODEL, messages=[user(image("data:image/png;base64,iVBORw0KGgo="))]), "cannot see images"),
        (rpc.chat.create(MODEL, messages=[user(ASK)], reasoning_effort="low"), "no thinking"),
        (rpc.chat.create(MODEL, messages=[user("sea " * 20_000)]), "8192"),
    ):
        for attempt in (refused.sample, lambda one=refused: list(one.stream())):
            with pytest.raises(grpc.RpcError, match=words) as error:
                attempt()
            assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT

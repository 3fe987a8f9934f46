"""What xAI's SDK and its stubs ask for beside the chat: models, the key, tokens, plain prompts, vectors; what is not
here; and the SDK's own telemetry."""

import struct
from base64 import b64decode
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from xai_sdk.chat import tool, user
from xai_sdk.proto import (
    collections_pb2,
    collections_pb2_grpc,
    documents_pb2,
    documents_pb2_grpc,
    embed_pb2,
    embed_pb2_grpc,
    image_pb2,
    image_pb2_grpc,
    models_pb2,
    sample_pb2,
    sample_pb2_grpc,
    video_pb2,
    video_pb2_grpc,
)

from tests.conformance.xai.questions import UNKNOWN
from tests.conformance.xai.rpcs import bearer, call
from tests.raw import request
from tests.scripted.engine import vector
from tests.scripted.server import EMAIL

ANSWER = "what is the answer"


def refused(attempt: Any) -> tuple[str, str]:
    """The code and the details in which the attempt ends."""
    with pytest.raises(grpc.RpcError) as error:
        attempt()
    return error.value.code().name, error.value.details()


def rest(server: Any, path: str) -> Any:
    return request(server.port, "GET", path, Authorization=f"Bearer {server.api_key}").json


def test_language_models_are_those_of_rest_with_the_same_prices(server, either):
    listed = {model.name: model for model in either.models.list_language_models()}
    over_rest = {model["id"]: model for model in rest(server, "/v1/language-models")["models"]}
    assert listed.keys() == over_rest.keys()
    for name, model in listed.items():
        told = over_rest[name]
        assert (model.system_fingerprint, list(model.aliases)) == (told["fingerprint"], told["aliases"])
        for price in ("prompt_text_token", "prompt_image_token", "cached_prompt", "completion_text_token"):
            ours = {"cached_prompt": "cached_prompt_token_price"}.get(price, f"{price}_price")
            theirs = {"cached_prompt": "cached_prompt_text_token_price"}.get(price, f"{price}_price")
            assert getattr(model, ours) == told[theirs], (name, price)
        assert model.created.seconds == told["created"]
        assert list(model.input_modalities) == list(model.output_modalities) == [models_pb2.TEXT]
    echo = listed["echo"]
    assert (echo.max_prompt_length, echo.prompt_text_token_price, echo.completion_text_token_price) == (
        *(1000, 10_000, 20_000),
    )
    assert either.models.get_language_model("echo-latest") == echo
    code, details = refused(lambda: either.models.get_language_model("nothing"))
    assert (code, "nothing" in details) == ("NOT_FOUND", True)
    code, details = refused(lambda: either.models.get_language_model("embed"))
    assert (code, "no language model" in details) == ("NOT_FOUND", True)


def test_embedding_models_are_apart_and_there_are_none_for_images(server, either):
    listed = either.models.list_embedding_models()
    assert {model.name for model in listed} == {"embed", "embed-stall", "embed-uncounted", "embed-broken"}
    assert list(listed[0].output_modalities) == [models_pb2.EMBEDDING]
    assert either.models.get_embedding_model("embed") == next(model for model in listed if model.name == "embed")
    assert refused(lambda: either.models.get_embedding_model("echo"))[0] == "NOT_FOUND"
    assert list(either.models.list_image_generation_models()) == []
    assert refused(lambda: either.models.get_image_generation_model("echo"))[0] == "NOT_FOUND"


def test_the_lists_show_what_the_key_may_use(server, channel):
    options = {"models": ["echo", "embed"]}
    key = server.command("keys create", name="few", email=EMAIL, options=options)["api_key"]
    listed = {}
    for kind in ("Language", "Embedding"):
        outcome = call(channel, f"/xai_api.Models/List{kind}Models", [b""], bearer(key))
        answer = getattr(models_pb2, f"List{kind}ModelsResponse").FromString(outcome.messages[0])
        listed[kind] = [model.name for model in answer.models]
    assert listed == {"Language": ["echo"], "Embedding": ["embed"]}


def test_a_key_is_told_what_it_is(server, either):
    told, over_rest = either.auth.get_api_key_info(), rest(server, "/v1/api-key")
    for field in ("redacted_api_key", "user_id", "name", "modified_by", "team_id", "acls", "api_key_id"):
        value = getattr(told, field)
        assert (list(value) if field == "acls" else value) == over_rest[field]
    assert not any((told.disabled, told.api_key_blocked, told.team_blocked))
    created = datetime.fromisoformat(over_rest["create_time"])
    assert abs((told.create_time.ToDatetime(UTC) - created).total_seconds()) < 1


def test_a_text_is_tokenized_free_of_charge(server, either):
    tokens = either.tokenize.tokenize_text("Hello wörld", "echo-latest")
    assert [(token.token_id, token.string_token, token.token_bytes) for token in tokens] == [
        (5, "Hello", b"Hello"),
        (5, "wörld", "wörld".encode()),
    ]
    assert list(either.tokenize.tokenize_text("", "echo")) == []
    assert refused(lambda: either.tokenize.tokenize_text("a", "nothing"))[0] == "NOT_FOUND"
    assert refused(lambda: either.tokenize.tokenize_text("a", ""))[0] == "INVALID_ARGUMENT"
    assert server.charges() == []


def test_a_plain_prompt_is_gone_on_with(server, channel):
    stub, metadata = sample_pb2_grpc.SampleStub(channel), bearer(server.api_key)
    asked = sample_pb2.SampleTextRequest(model="echo-latest", prompt=[ANSWER], n=2, max_tokens=3)
    whole = stub.SampleText(asked, metadata=metadata)
    assert [(choice.index, choice.text, choice.finish_reason) for choice in whole.choices] == [
        (index, "what is the", sample_pb2.REASON_MAX_LEN) for index in range(2)
    ]
    [charge] = server.charges()
    assert (whole.id, whole.usage.cost_in_usd_ticks) == (charge.request_id, -charge.amount_ticks)
    assert (whole.model, whole.usage.prompt_tokens, whole.usage.completion_tokens) == ("echo", 4, 6)
    pieces = list(stub.SampleTextStreaming(asked, metadata=metadata))
    texts, reasons = ["", ""], [0, 0]
    for piece in pieces:
        assert (piece.id, piece.model, piece.created, piece.system_fingerprint) == (
            *(pieces[0].id, "echo", pieces[0].created, whole.system_fingerprint),
        )
        for choice in piece.choices:
            texts[choice.index] += choice.text
            reasons[choice.index] = reasons[choice.index] or choice.finish_reason
    assert (texts, reasons) == (["what is the"] * 2, [sample_pb2.REASON_MAX_LEN] * 2)
    assert pieces[-1].usage == whole.usage
    assert len(server.charges()) == 2
    several = stub.SampleText(sample_pb2.SampleTextRequest(model="echo", prompt=["a", "b c"]), metadata=metadata)
    assert [choice.text for choice in several.choices] == ["a", "b c"]


def test_texts_are_embedded_as_floats_and_in_base64(server, channel):
    stub, metadata = embed_pb2_grpc.EmbedderStub(channel), bearer(server.api_key)
    texts = ["a b", "größe"]
    inputs = [embed_pb2.EmbedInput(string=text) for text in texts]
    for encoding in (0, embed_pb2.FORMAT_FLOAT, embed_pb2.FORMAT_BASE64):
        asked = embed_pb2.EmbedRequest(model="embed", input=inputs, encoding_format=encoding)
        answer = stub.Embed(asked, metadata=metadata)
        for index, text in enumerate(texts):
            made = answer.embeddings[index]
            [feature] = made.embeddings
            floats = list(feature.float_array) or [
                number for (number,) in struct.iter_unpack("<f", b64decode(feature.base64_array))
            ]
            assert (made.index, floats) == (index, list(vector(text)))
    charge = server.charges()[-1]
    assert (answer.id, answer.model, charge.model) == (charge.request_id, "embed", "embed")
    assert (answer.usage.num_text_embeddings, -charge.amount_ticks) == (2, 30_000)
    assert refused(lambda: stub.Embed(embed_pb2.EmbedRequest(model="echo", input=inputs), metadata=metadata)) == (
        "INVALID_ARGUMENT",
        "The model echo does not support embeddings.",
    )


def test_services_that_are_not_here_say_what_to_use(server, channel, sdk):
    metadata = bearer(server.api_key)
    for attempt, words in (
        (
            lambda: image_pb2_grpc.ImageStub(channel).GenerateImage(
                image_pb2.GenerateImageRequest(prompt="a cat", model="echo"), metadata=metadata
            ),
            "No model here makes images",
        ),
        (
            lambda: video_pb2_grpc.VideoStub(channel).GenerateVideo(
                video_pb2.GenerateVideoRequest(prompt="a cat", model="echo"), metadata=metadata
            ),
            "No model here makes videos",
        ),
        (
            lambda: collections_pb2_grpc.CollectionsStub(channel).ListCollections(
                collections_pb2.ListCollectionsRequest(), metadata=metadata
            ),
            "no collections here",
        ),
        (
            lambda: documents_pb2_grpc.DocumentsStub(channel).Search(
                documents_pb2.SearchRequest(query="cats"), metadata=metadata
            ),
            "no document search here",
        ),
        (lambda: sdk.image.sample("a cat", "echo"), "No model here makes images"),
    ):
        code, details = refused(attempt)
        assert code == "UNIMPLEMENTED"
        assert words in details
    for path in UNKNOWN:
        outcome = call(channel, path, [b"\xff"], metadata)
        words = "Reflection is off" if "Reflection" in path else path
        assert (outcome.code, words in outcome.details) == ("UNIMPLEMENTED", True), outcome


def test_spans_of_the_sdk_tell_answer_usage_and_cost(server, sdk, monkeypatch):
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr("xai_sdk.sync.chat.tracer", provider.get_tracer("test"))
    chat = sdk.chat.create(
        "weather", conversation_id="c7", messages=[user(ANSWER)], tools=[tool("weather", "", {})], store_messages=True
    )
    answer = chat.sample()
    *_, (streamed, _) = chat.stream()
    whole, stream = (span.attributes for span in exporter.get_finished_spans())
    for span, one in ((whole, answer), (stream, streamed)):
        assert span["gen_ai.response.id"] == one.id
        assert (span["gen_ai.response.model"], span["gen_ai.completion.0.role"]) == ("weather", "assistant")
        assert span["gen_ai.usage.cost_in_usd_ticks"] == one.usage.cost_in_usd_ticks
        assert (span["gen_ai.usage.input_tokens"], span["gen_ai.usage.output_tokens"]) == (4, 5)
        assert (span["gen_ai.usage.cached_prompt_text_tokens"], span["gen_ai.usage.reasoning_tokens"]) == (2, 2)
        assert span["gen_ai.response.system_fingerprint"] == one.system_fingerprint
        assert list(span["gen_ai.response.finish_reasons"]) == ["REASON_TOOL_CALLS"]
        assert span["gen_ai.completion.0.content"] == "Let me look."
        assert '"name": "clock"' in span["gen_ai.completion.0.tool_calls"]
    exporter.clear()
    with pytest.raises(grpc.RpcError):
        sdk.chat.create("broken-before", messages=[user("?")]).sample()
    [failed] = exporter.get_finished_spans()
    assert not failed.status.is_ok
    provider.shutdown()

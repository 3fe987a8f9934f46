"""The same picture through every SDK to a real model that sees: the same tokens, the same charge."""

import base64
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest
import xai_sdk
from xai_sdk.chat import image, user

from tests.live import LiveServer
from tests.pictures import data_url, png
from tests.projector import PICTURE_TOKENS, default_projector
from tests.weights import default_weights

pytestmark = [pytest.mark.model, pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")]
MODEL, QUESTION = "sees", "\nThe color of the picture is"
COLD: Any = {"temperature": 0}
CONFIGURATION = """
[[engines]]
name = "sees"
kind = "llamacpp"
weights = "{weights}"
projector = "{projector}"
threads = 1

[[models]]
name = "sees"
engine = "sees"
prices = {{ input = 1.00, cached_input = 0.10, output = 2.00, image = 5.00 }}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    configuration = CONFIGURATION.format(weights=default_weights(), projector=default_projector())
    server = LiveServer(tmp_path_factory.mktemp("sees") / "data", configuration=configuration)
    try:
        yield server
        assert server.cli("credits", "verify")["ok"]
    finally:
        server.stop()


def through_chat(server: LiveServer, colour: str) -> tuple[str, int]:
    content: Any = [{"type": "image_url", "image_url": {"url": data_url(colour)}}, {"type": "text", "text": QUESTION}]
    with openai.OpenAI(base_url=f"{server.base_url}/v1", api_key=server.api_key) as sdk:
        answer = sdk.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": content}], max_tokens=8, temperature=0
        )
    usage = answer.to_dict()["usage"]
    assert isinstance(usage, dict)
    assert usage["prompt_tokens_details"]["image_tokens"] == PICTURE_TOKENS
    assert usage["prompt_tokens_details"]["text_tokens"] == usage["prompt_tokens"] - PICTURE_TOKENS
    return answer.choices[0].message.content or "", usage["cost_in_usd_ticks"]


def through_responses(server: LiveServer, colour: str) -> tuple[str, int]:
    content: Any = [
        {"type": "input_image", "image_url": data_url(colour), "detail": "auto"},
        {"type": "input_text", "text": QUESTION},
    ]
    with openai.OpenAI(base_url=f"{server.base_url}/v1", api_key=server.api_key) as sdk:
        answer = sdk.responses.create(
            model=MODEL, input=[{"role": "user", "content": content}], max_output_tokens=8, temperature=0
        )
    return answer.output_text, answer.to_dict()["usage"]["cost_in_usd_ticks"]  # type: ignore[index, return-value]


def through_messages(server: LiveServer, colour: str) -> tuple[str, int]:
    source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(png(colour)).decode()}
    content: Any = [{"type": "image", "source": source}, {"type": "text", "text": QUESTION}]
    with anthropic.Anthropic(base_url=server.base_url, api_key=server.api_key) as sdk:
        answer = sdk.messages.create(
            model=MODEL, messages=[{"role": "user", "content": content}], max_tokens=8, extra_body=COLD
        )
        counted = sdk.messages.count_tokens(model=MODEL, messages=[{"role": "user", "content": content}])
    told: Any = answer.to_dict()
    assert counted.input_tokens == told["usage"]["input_tokens"] + told["usage"]["cache_read_input_tokens"]
    return told["content"][0]["text"], told["usage"]["cost_in_usd_ticks"]


def through_grpc(server: LiveServer, colour: str) -> tuple[str, int]:
    client = xai_sdk.Client(api_key=server.api_key, api_host=server.grpc_address)
    try:
        said = user(image(data_url(colour)), QUESTION)
        answer = client.chat.create(MODEL, messages=[said], max_tokens=8, temperature=0).sample()
    finally:
        client.close()
    assert answer.usage.prompt_image_tokens == PICTURE_TOKENS
    return answer.content, answer.usage.cost_in_usd_ticks


def test_a_picture_is_seen_and_charged_alike_through_every_sdk(server: LiveServer):
    ways = (through_chat, through_responses, through_messages, through_grpc)
    # The first one finds nothing in the cache.
    through_chat(server, "red")

    answers = [way(server, "red") for way in ways]

    assert len(set(answers)) == 1
    assert " red" in answers[0][0]
    charges = [-entry["amount_ticks"] for entry in server.ledger() if entry["kind"] == "charge"]
    assert charges[1:] == [cost for _, cost in answers]
    assert charges[0] > charges[1] > PICTURE_TOKENS * 50_000


def test_pictures_keep_their_order_between_texts(server: LiveServer):
    with openai.OpenAI(base_url=f"{server.base_url}/v1", api_key=server.api_key) as sdk:
        for one, other in (("red", "blue"), ("blue", "red")):
            urls: Any = [{"type": "image_url", "image_url": {"url": data_url(colour)}} for colour in (one, other)]
            texts: Any = [{"type": "text", "text": text} for text in (" ", "\nThe color of the first picture is")]
            answer = sdk.chat.completions.create(
                model=MODEL,
                messages=[{"role": "user", "content": [urls[0], texts[0], urls[1], texts[1]]}],
                max_tokens=8,
                temperature=0,
            )
            assert f" {one}" in (answer.choices[0].message.content or "")


@pytest.mark.parametrize("url", ["data:image/png;base64,iVBORw0KGgo=", f"{data_url('red')[:70]}AAAA"])
def test_an_image_that_cannot_be_read_is_a_400_and_the_next_one_is_seen(server: LiveServer, url: str):
    with openai.OpenAI(base_url=f"{server.base_url}/v1", api_key=server.api_key) as sdk:
        content: Any = [{"type": "image_url", "image_url": {"url": url}}]
        with pytest.raises(openai.BadRequestError):
            sdk.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": content}])

    assert " blue" in through_chat(server, "blue")[0]

"""The quickstart's image, by its URL, on a real model that sees: as written, and through every SDK."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
import xai_sdk
from xai_sdk.chat import image, user

from tests.conformance.seeds.blocks import BLOCKS
from tests.conformance.seeds.run import run_javascript
from tests.live import LiveServer
from tests.pictures import png
from tests.projector import PICTURE_TOKENS, default_projector
from tests.weights import default_weights

pytestmark = [pytest.mark.model, pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")]
IMAGE_TICKS = 50_000
CONFIGURATION = """
[images]
allow_private_hosts = ["127.0.0.1"]

[[engines]]
name = "sees"
kind = "llamacpp"
weights = "{weights}"
projector = "{projector}"
threads = 1

[[models]]
name = "sees"
engine = "sees"
default_max_output_tokens = 32
prices = {{ input = 1.00, output = 2.00, image = 5.00 }}
"""


class _Gallery(BaseHTTPRequestHandler):
    """One red picture, whatever is asked for."""

    def do_GET(self) -> None:
        picture = png("red")
        self.send_response(200)
        self.send_header("Content-Length", str(len(picture)))
        self.end_headers()
        self.wfile.write(picture)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def picture_url() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Gallery) as gallery:
        threading.Thread(target=gallery.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{gallery.server_port}/red.png"
        gallery.shutdown()


@pytest.fixture
def seeing(tmp_path: Path) -> Iterator[LiveServer]:
    configuration = CONFIGURATION.format(weights=default_weights(), projector=default_projector())
    server = LiveServer(tmp_path / "data", configuration=configuration)
    try:
        yield server
    finally:
        server.stop()


def test_the_quickstarts_image_is_fetched_seen_and_charged(
    seeing: LiveServer, node: str, tmp_path: Path, picture_url: str
) -> None:
    (folder := tmp_path / "block").mkdir()

    printed = run_javascript(BLOCKS["quickstart:89"], seeing, node, folder, image_url=picture_url)

    assert printed.strip()
    [charge] = [entry for entry in seeing.ledger() if entry["kind"] == "charge"]
    assert charge["model"] == "sees"
    assert -charge["amount_ticks"] > PICTURE_TOKENS * IMAGE_TICKS


def test_a_url_is_seen_and_charged_alike_through_every_sdk(seeing: LiveServer, picture_url: str) -> None:
    question, cold = "\nThe color of the picture is", {"temperature": 0}
    shown: Any = {"type": "image_url", "image_url": {"url": picture_url, "detail": "high"}}
    source: Any = {"type": "image", "source": {"type": "url", "url": picture_url}}
    with openai.OpenAI(base_url=f"{seeing.base_url}/v1", api_key=seeing.api_key) as sdk:
        said: Any = [{"role": "user", "content": [shown, {"type": "text", "text": question}]}]
        sdk.chat.completions.create(model="sees", messages=said, max_tokens=8, **cold)
        chat = sdk.chat.completions.create(model="sees", messages=said, max_tokens=8, **cold)
        said = [{"type": "input_image", "image_url": picture_url}, {"type": "input_text", "text": question}]
        response = sdk.responses.create(
            model="sees", input=[{"role": "user", "content": said}], max_output_tokens=8, **cold
        )
    with anthropic.Anthropic(base_url=seeing.base_url, api_key=seeing.api_key) as sdk:
        said = [{"role": "user", "content": [source, {"type": "text", "text": question}]}]
        message = sdk.messages.create(model="sees", messages=said, max_tokens=8, extra_body=cold)
    client = xai_sdk.Client(api_key=seeing.api_key, api_host=seeing.grpc_address)
    sampled = client.chat.create("sees", messages=[user(image(picture_url), question)], max_tokens=8, **cold).sample()
    client.close()

    block: Any = message.content[0]
    texts = {chat.choices[0].message.content, response.output_text, block.text, sampled.content}
    assert len(texts) == 1
    assert " red" in texts.pop()
    _, *charges = [entry["amount_ticks"] for entry in seeing.ledger() if entry["kind"] == "charge"]
    assert len(charges) == 4
    assert len(set(charges)) == 1


def test_a_url_in_a_tools_result_is_seen(seeing: LiveServer, picture_url: str) -> None:
    source: Any = {"type": "image", "source": {"type": "url", "url": picture_url}}
    turns: Any = [
        {"role": "user", "content": "Take a picture."},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "camera", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": [source]}]},
    ]
    with anthropic.Anthropic(base_url=seeing.base_url, api_key=seeing.api_key) as sdk:
        sdk.messages.create(model="sees", messages=turns, max_tokens=4)
    [charge] = [entry for entry in seeing.ledger() if entry["kind"] == "charge"]
    assert -charge["amount_ticks"] > PICTURE_TOKENS * IMAGE_TICKS

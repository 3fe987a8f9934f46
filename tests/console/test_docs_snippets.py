"""Every program in the docs runs, against a live server, as a reader of that server copies it from the page."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from leadline.chat.events import ChoiceFinished, Finished, Started, TextDelta, ToolCallDelta, ToolCallStarted, Usage
from leadline.chat.request import ChatRequest
from leadline.console.docs.reader import Reader
from leadline.console.docs.site import Docs
from leadline.dialects.api import openapi
from tests.conformance.conftest import JAVASCRIPT, node  # noqa: F401 — a fixture
from tests.console.pages_of_docs import Program, Read
from tests.pictures import png
from tests.raw import post, upload
from tests.scripted.engine import ScriptedEngine, Step, embed, prompt_tokens
from tests.scripted.server import ScriptedServer

DOCS = Docs(openapi)
DEADLINE_SECONDS = 300
GUIDES = [path for path in DOCS.paths() if path.startswith(("/docs/quickstart", "/docs/guides/"))]
# Python programs run in one process that has the SDKs loaded, each as a program of its own.
_RUNNER = """
import json, os, sys, traceback
for line in sys.stdin:
    told = json.loads(line)
    os.environ.update(told["environment"])
    print(json.dumps({"begin": told["label"]}), flush=True)
    try:
        exec(compile(told["text"], told["label"], "exec"), {"__name__": "__main__"})
    except BaseException:
        traceback.print_exc()
        sys.exit(1)
    print(flush=True)
"""
_MODULES = """
import { pathToFileURL } from "node:url";
import { readFileSync } from "node:fs";
for (const { file, label, environment } of JSON.parse(readFileSync("modules.json", "utf-8"))) {
  Object.assign(process.env, environment);
  console.log(`{"begin": ${JSON.stringify(label)}}`);
  await import(pathToFileURL(file).href);
  console.log();
}
"""


def knows(request: ChatRequest) -> Iterable[Step]:
    """Calls the first tool where it may, writes the JSON it is asked for, and else says a sentence."""
    prompt = prompt_tokens(request)
    yield (Started(prompt, 0),)
    wants_call = request.tools and request.tool_choice.mode != "none" and request.messages[-1].role != "tool"
    if wants_call:
        arguments = json.dumps(_sample(request.tools[0].parameters))
        yield (ToolCallStarted(0, "call_a", request.tools[0].name), ToolCallDelta(0, arguments))
    elif request.json_format is not None:
        yield (TextDelta(json.dumps(_sample(request.json_format.schema or {}))),)
    else:
        yield from ((TextDelta(word),) for word in ("Paris", " it", " is."))
    finish = ChoiceFinished("tool_calls" if wants_call else "stop")
    yield (finish, Finished(Usage(prompt_tokens=prompt, output_tokens=3)))


def _sample(schema: Any) -> Any:
    if schema.get("type") == "object":
        return {name: _sample(told) for name, told in schema.get("properties", {}).items()}
    return "Paris"


@dataclass
class Scene:
    server: ScriptedServer
    reader: Reader
    folder: Path
    management_key: str

    def programs(self, path: str) -> list[Program]:
        article = DOCS.article(path, self.reader)
        assert article is not None
        return [program for program in Read(article.html).programs if program.language]

    def environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        return kept | {"XAI_API_KEY": self.server.api_key, "XAI_MANAGEMENT_KEY": self.management_key}

    def bash(self, texts: list[str], **more: str) -> str:
        """All in one shell, one after another, as a reader pastes them."""
        script = "set -euo pipefail\nexport LC_ALL=C\n" + "\n".join(texts)
        return self._finished(["bash", "-c", script], environment=self.environment() | more)

    def python(self, programs: list[tuple[Program, dict[str, str]]]) -> str:
        lines = [
            json.dumps({"label": program.label, "text": program.text, "environment": more})
            for program, more in programs
        ]
        command = [sys.executable, "-W", "ignore", "-c", _RUNNER]
        return self._finished(command, "\n".join(lines) + "\n", self.environment())

    def javascript(self, executable: str, programs: list[tuple[Program, dict[str, str]]]) -> str:
        modules = []
        for number, (program, more) in enumerate(programs):
            file = self.folder / f"block{number}.mjs"
            file.write_text(program.text, "utf-8")
            modules.append({"file": str(file), "label": program.label, "environment": more})
        (self.folder / "modules.json").write_text(json.dumps(modules), "utf-8")
        (self.folder / "all.mjs").write_text(_MODULES, "utf-8")
        return self._finished([executable, "all.mjs"], environment=self.environment())

    def _finished(self, command: list[str], sent: str = "", environment: dict[str, str] | None = None) -> str:
        done = subprocess.run(
            command,
            input=sent,
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
            cwd=self.folder,
            env=environment,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("docs")
    (folder / "node_modules").symlink_to(JAVASCRIPT / "node_modules")
    (folder / "picture.png").write_bytes(png("red"))
    (folder / "notes.txt").write_text("Oslo is in Norway.\n")
    sees = ScriptedEngine({"sees": knows})
    scripts = {"knows": knows, "embed": embed}
    server = ScriptedServer(folder / "data", "100", scripts=scripts, engines={"sees": sees})
    reader = Reader.of(server.base_url, server.grpc_address, server.pipeline.catalog.models)
    assert (reader.model, reader.vision_model, reader.embedding_model) == ("knows", "sees", "embed")
    made = server.command("management-keys create", name="docs", email=None)
    yield Scene(server, reader, folder, made["management_key"])
    server.stop()


def outputs_of(printed: str) -> list[str]:
    """What each program printed."""
    return [one.partition("\n")[2].strip() for one in printed.split('{"begin": ')[1:]]


def assert_all_printed(printed: str, programs: list[Any]) -> None:
    outputs = outputs_of(printed)
    assert len(outputs) == len(programs)
    assert all(outputs), printed


@pytest.mark.slow
def test_every_shell_command_of_the_guides_answers(scene):
    ran = 0
    for path in GUIDES:
        texts = [one.text for one in scene.programs(path) if one.label == "curl"]
        if texts:
            printed = scene.bash(texts)
            assert printed.strip(), path
            assert '"error":{' not in printed, (path, printed)
            ran += len(texts)
    assert ran >= 15


@pytest.mark.slow
def test_every_python_program_of_the_guides_runs(scene):
    programs = [
        (program, {})
        for path in GUIDES
        for program in scene.programs(path)
        if program.language == "python" and not program.illustrative
    ]
    assert len(programs) >= 40
    assert_all_printed(scene.python(programs), programs)


@pytest.mark.slow
@pytest.mark.node
def test_every_javascript_program_of_the_guides_runs(scene, node):  # noqa: F811
    programs = [
        (program, {}) for path in GUIDES for program in scene.programs(path) if program.language == "javascript"
    ]
    assert len(programs) >= 14
    assert_all_printed(scene.javascript(node, programs), programs)


def new_id(server: ScriptedServer, path: str) -> str:
    """Of something that the endpoint at this path of the reference is about."""
    asked = {"model": "knows", "messages": [{"role": "user", "content": "hi"}]}

    def send(to: str, body: Any) -> Any:
        return post(server.port, to, server.api_key, json.dumps(body).encode()).json

    if path == "chat":
        id_ = str(send("/v1/chat/completions", asked | {"deferred": True})["request_id"])
        server.wait_until(lambda: not server.pipeline.deferred._running)
        return id_
    if path == "responses":
        return str(send("/v1/responses", {"model": "knows", "input": "hi"})["id"])
    if path == "batches":
        return str(send("/v1/batches", {"name": "all of them"})["batch_id"])
    return str(upload(server.port, server.api_key, "notes.txt", b"Oslo is in Norway.").json["id"])


def of_the_reference(scene: Scene, language: str) -> list[tuple[Program, dict[str, str]]]:
    """With an id of its own for each that wants one."""
    programs = []
    for path in DOCS.reference.paths:
        for program in scene.programs(path):
            if program.language == language:
                wants_id = any(mark in program.text for mark in ("$ID", '["ID"]', "['ID']", "env.ID"))
                id_ = {"ID": new_id(scene.server, path.rpartition("/")[2])} if wants_id else {}
                programs.append((program, id_))
    return programs


@pytest.mark.slow
def test_every_shell_command_of_the_reference_answers(scene):
    programs = of_the_reference(scene, "bash")
    refused = []
    for program, more in programs:
        printed = scene.bash([program.text], **more)
        assert printed.strip(), program
        if '"error":{' in printed:
            refused.append(program.text.splitlines()[0])
    assert len(programs) == sum(len(methods) for methods in json.loads(openapi())["paths"].values())
    # What is never here says so.
    assert len(refused) == 4, refused
    assert all(word in text for word, text in zip(("cancel", "public", "public", "image"), refused, strict=True))


@pytest.mark.slow
def test_every_python_program_of_the_reference_runs(scene):
    programs = of_the_reference(scene, "python")
    assert len(programs) >= 40
    assert_all_printed(scene.python(programs), programs)


@pytest.mark.slow
@pytest.mark.node
def test_every_javascript_program_of_the_reference_runs(scene, node):  # noqa: F811
    programs = of_the_reference(scene, "javascript")
    assert len(programs) >= 30
    assert_all_printed(scene.javascript(node, programs), programs)

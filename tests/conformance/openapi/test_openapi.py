"""`/openapi.json` tells of all that the server serves and of nothing else, and its examples are true."""

import json
import re
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from leadline.chat.events import ChoiceFinished, Embedded, Finished, Started, TextDelta, Usage
from leadline.chat.request import ChatRequest
from leadline.dialects import api
from leadline.dialects.openapi import parameters
from tests.conformance.grammar.described import check_schema, document, operations
from tests.raw import Answer, post, request, upload
from tests.scripted.engine import Step, prompt_tokens
from tests.scripted.server import ScriptedServer

NOTES = b"Oslo is in Norway.\n"
TABLES = (api._OPENAI.table, api._ANTHROPIC.table, api._OF_KEYS)
SERVED = {(method, path) for table in TABLES for path, methods in table.by_path.items() for method in methods}
OPERATIONS = pytest.mark.parametrize(("method", "path"), sorted(operations()))
CONFIGURATION = """
[[engines]]
name = "gpu"
kind = "openai"
url = "http://127.0.0.1:1/v1"
[[models]]
name = "smollm2-135m-instruct"
engine = "gpu"
upstream_model = "says"
aliases = ["grok-2-latest"]
context_tokens = 8192
capabilities = ["chat", "completions"]
prices = { input = 0.10, cached_input = 0.025, output = 0.40 }
[[models]]
name = "all-minilm-l6-v2"
engine = "gpu"
upstream_model = "embed"
capabilities = ["embeddings"]
prices = { input = 0.10, output = 0.40 }
"""
# What is another one in each answer.
OWN = [
    (
        r'"(msg_|resp_|usr_|org_|file_|batch_)?[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}(_\w+)?"',
        r'"\1id\2"',
    ),
    (r'"fp_[0-9a-f]{10}"', '"fp"'),
    (r'"(created|created_at|completed_at)":[0-9]+', r'"\1":0'),
    (r'"[0-9-]{10}T[0-9:.]+Z"', '"time"'),
    (r'"ll_\w{8}…\w{4}"', '"key"'),
    (r'api_key_id":"\w{8}"', 'api_key_id":"key"'),
]


def says(request: ChatRequest) -> Iterable[Step]:
    prompt = prompt_tokens(request)
    yield (Started(prompt, 0),)
    yield (TextDelta("The capital of Norway"), TextDelta(" is Oslo."))
    yield (ChoiceFinished("stop"), Finished(Usage(prompt_tokens=prompt, output_tokens=6)))


def embed(request: ChatRequest) -> Iterable[Step]:
    yield (Started(1),)
    yield (Embedded(array("d", (0.6, -0.8, 0.0)), 0), Finished(Usage(prompt_tokens=1)))


@pytest.fixture(scope="module")
def norway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedServer]:
    data: Path = tmp_path_factory.mktemp("openapi") / "data"
    data.mkdir()
    (data / "leadline.toml").write_text(CONFIGURATION)
    server = ScriptedServer(data, scripts={"says": says, "embed": embed})
    server.engine.context_tokens = 8192
    yield server
    server.stop()


def examples(method: str, path: str, status: str = "200") -> dict[str, Any]:
    """Of an answer, by dialect."""
    answer = operations()[method, path]["responses"].get(status, {})
    content = answer.get("content", {}).get("application/json", {})
    return {name: example["value"] for name, example in content.get("examples", {}).items()}


def is_form(method: str, path: str) -> bool:
    return "multipart/form-data" in operations()[method, path].get("requestBody", {}).get("content", {})


def asked(method: str, path: str) -> Any:
    body = operations()[method, path].get("requestBody")
    if body is None or is_form(method, path):
        return None
    [example] = body["content"]["application/json"]["examples"].values()
    return example["value"]


def test_all_that_is_served_is_described_and_nothing_else():
    assert operations().keys() == SERVED


def test_it_needs_no_key_and_is_whole(norway):
    for method in ("GET", "HEAD"):
        answer = request(norway.port, method, "/openapi.json")
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
        assert bool(answer.body) == (method == "GET")
    told = request(norway.port, "GET", "/openapi.json").json
    assert told == document()
    assert told["openapi"] == "3.1.0"
    schemas = told["components"]["schemas"]
    assert {name.removeprefix("#/components/schemas/") for name in references(told)} <= schemas.keys()
    for schema in schemas.values():
        jsonschema_rs.meta.validate(schema | {"$schema": "https://json-schema.org/draft/2020-12/schema"})
    assert "leadline." not in json.dumps(told), "a module's path"
    assert all(re.fullmatch(r"[\w.-]+", name) for name in schemas)


def references(told: Any) -> Iterator[str]:
    if isinstance(told, dict):
        if isinstance(told.get("$ref"), str) and "/schemas/" in told["$ref"]:
            yield told["$ref"]
        for one in told.values():
            yield from references(one)
    elif isinstance(told, list):
        for one in told:
            yield from references(one)


@OPERATIONS
def test_every_operation_says_what_it_does_and_how_it_refuses(method, path):
    operation = operations()[method, path]
    assert operation["summary"]
    assert operation["security"] == [{"bearer": []}, {"x-api-key": []}]
    assert {"400", "401", "500"} <= operation["responses"].keys()
    named = {parameter["name"] for parameter in operation.get("parameters", ()) if parameter["in"] == "path"}
    assert named == set(re.findall(r"{(\w+)}", path))
    for status, answer in operation["responses"].items():
        assert answer["description"]
        for media, content in answer.get("content", {}).items():
            if media == "application/json":
                assert content["examples"]
                for example in content["examples"].values():
                    check_schema(content["schema"], example["value"])
        assert status == "202" or answer["content"]
    if method == "POST" and "requestBody" in operation and not is_form(method, path):
        check_schema(operation["requestBody"]["content"]["application/json"]["schema"], asked(method, path))
        assert {"413", "415"} <= operation["responses"].keys()


@OPERATIONS
def test_examples_are_answered_as_they_say(norway, method, path):
    for dialect, example in (examples(method, path) or {"openai": None}).items():
        answer = ask(norway, method, path, dialect)
        if path == "/v1/files/{id}/content":
            assert (answer.status, answer.body) == (200, NOTES)
        elif example is None:
            assert str(answer.status) in operations()[method, path]["responses"].keys() - {"200"}
        else:
            assert answer.status == 200, answer.body
            assert alike(answer.json, example) == alike(example, example)


def ask(server: ScriptedServer, method: str, path: str, dialect: str) -> Answer:
    body = asked(method, path)
    if "/responses/{id}" in path:
        before = json.dumps(asked("POST", "/v1/responses")).encode()
        path = path.replace("{id}", post(server.port, "/v1/responses", server.api_key, before).json["id"])
    if "deferred" in path:
        before = json.dumps(asked("POST", "/v1/chat/completions") | {"deferred": True}).encode()
        kept = post(server.port, "/v1/chat/completions", server.api_key, before).json["request_id"]
        server.wait_until(lambda: not server.pipeline.deferred._running)
        path = path.replace("{id}", kept)
    if "/files" in path:
        forget_files(server)
        uploaded = upload(server.port, server.api_key, "notes.txt", NOTES, purpose="assistants")
        if (method, path) == ("POST", "/v1/files"):
            return uploaded
        path = path.replace("{id}", uploaded.json["id"])
    if "/batches" in path:
        path = path.replace("{id}", only_batch(server, filled=body is None))
    path = path.replace("{model}", "all-minilm-l6-v2" if "embedding" in path else "grok-2-latest")
    if body is not None:
        return post(server.port, path, server.api_key, json.dumps(body).encode())
    headers = {"anthropic_version": "2023-06-01"} if dialect == "anthropic" else {}
    return request(server.port, method, path, x_api_key=server.api_key, content_length="0", **headers)


def forget_files(server: ScriptedServer) -> None:
    for file in request(server.port, "GET", "/v1/files", x_api_key=server.api_key).json["data"]:
        request(server.port, "DELETE", f"/v1/files/{file['id']}", x_api_key=server.api_key, content_length="0")


def only_batch(server: ScriptedServer, *, filled: bool) -> str:
    """The id of the only batch that there is; with the request of the example, answered, where it is `filled`."""
    for batch in request(server.port, "GET", "/v1/batches", x_api_key=server.api_key).json["batches"]:
        server.run(server.pipeline.batches.store.delete(batch["batch_id"]))
    body = json.dumps(asked("POST", "/v1/batches")).encode()
    batch_id: str = post(server.port, "/v1/batches", server.api_key, body).json["batch_id"]
    path = "/v1/batches/{id}/requests"
    if filled:
        body = json.dumps(asked("POST", path)).encode()
        post(server.port, path.replace("{id}", batch_id), server.api_key, body)
        while request(server.port, "GET", f"/v1/batches/{batch_id}", x_api_key=server.api_key).json["state"][
            "num_pending"
        ]:
            pass
    return batch_id


def alike(answer: Any, example: Any) -> Any:
    """What two answers have to share. Of a list of models, those that the example has."""
    for name in ("data", "models"):
        if isinstance(example.get(name), list) and all("id" in entry for entry in example[name]):
            ids = {entry["id"] for entry in example[name]}
            if not any(one.startswith(("msg_", "file_")) for one in ids):
                answer = answer | {name: [entry for entry in answer[name] if entry["id"] in ids]}
                answer = {field: value for field, value in answer.items() if field not in ("first_id", "last_id")}
    text = json.dumps(answer, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    for pattern, word in OWN:
        text = re.sub(pattern, word, text)
    return json.loads(text)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"])
def test_streams_are_described(norway, path):
    operation = operations()["POST", path]
    assert operation["responses"]["200"]["content"]["text/event-stream"]["schema"]["description"]
    answer = post(norway.port, path, norway.api_key, json.dumps(asked("POST", path) | {"stream": True}).encode())
    assert answer.headers["content-type"].startswith("text/event-stream")


def test_every_field_of_a_request_says_what_becomes_of_it():
    silent = []
    for (method, path), operation in operations().items():
        if "requestBody" in operation:
            [content] = operation["requestBody"]["content"].values()
            reference = content["schema"]["$ref"]
            schema = document()["components"]["schemas"][reference.rpartition("/")[2]]
            silent += [(method, path, name) for name, told in schema["properties"].items() if "description" not in told]
    assert silent == []
    assert parameters("/v1/tokenize-text") == {"model": "Honoured.", "text": "Honoured.", "user": "Harmless."}
    assert parameters("/v1/chat/completions")["deferred"] == "Honoured: xAI's; not with `stream`"


def test_a_field_of_a_wrong_type_is_wrong_in_the_description_too(norway):
    """The description is that of the very types that decode: they agree on what is wrong."""
    schema = operations()["POST", "/v1/chat/completions"]["requestBody"]["content"]["application/json"]["schema"]
    for odd in ({"temperature": 3}, {"n": 0}, {"stream": "yes"}, {"messages": []}, {"stop": ["x"] * 9}, {"model": ""}):
        body = asked("POST", "/v1/chat/completions") | odd
        with pytest.raises(jsonschema_rs.ValidationError):
            check_schema(schema, body)
        answer = post(norway.port, "/v1/chat/completions", norway.api_key, json.dumps(body).encode())
        assert (answer.status, answer.json["error"]["param"]) == (400, *odd)

"""xAI's own REST endpoints beside the chat: the key that asks, the tokenizer, and the lists of models."""

import json
from typing import Any

import pytest

from tests.raw import Answer, post, request
from tests.scripted.server import EMAIL, ScriptedServer


def get(server: ScriptedServer, path: str, key: str | None = None) -> Answer:
    return request(server.port, "GET", path, Authorization=f"Bearer {key or server.api_key}")


def ask(server: ScriptedServer, path: str, body: dict[str, Any], key: str | None = None) -> Answer:
    return post(server.port, path, key or server.api_key, json.dumps(body).encode())


def new_key(server: ScriptedServer, name: str, **options: Any) -> str:
    made = server.command("keys create", name=name, email=EMAIL, options=options)
    text: str = made["api_key"]
    return text


def test_a_key_is_told_what_it_is_and_may_do(server):
    key = new_key(server, "laptop", endpoints=["chat", "models"], models=["echo"])
    answer = get(server, "/v1/api-key", key)
    assert answer.status == 200
    told = answer.json
    assert told["redacted_api_key"] == f"ll_{told['api_key_id']}…{key[-4:]}"
    assert key.split("_")[1] == told["api_key_id"]
    assert told["acls"] == ["api-key:endpoint:chat", "api-key:endpoint:models", "api-key:model:echo"]
    assert told["name"] == "laptop"
    assert told["team_id"] == server.organisation_id
    assert told["user_id"].startswith("usr_")
    assert (told["team_blocked"], told["api_key_blocked"], told["api_key_disabled"]) == (False, False, False)
    assert told["create_time"] == told["modify_time"]


def test_a_key_for_everything_says_so(server):
    assert get(server, "/v1/api-key").json["acls"] == ["api-key:endpoint:*", "api-key:model:*"]


def test_a_disabled_key_still_hears_that_it_is_disabled(server):
    key = new_key(server, "laptop")
    server.command("keys disable", key="laptop", email=EMAIL)
    told = get(server, "/v1/api-key", key)
    assert (told.status, told.json["api_key_disabled"]) == (200, True)
    assert told.json["modify_time"] >= told.json["create_time"]
    assert get(server, "/v1/models", key).status == 401


def test_the_key_of_a_suspended_organisation_hears_that_its_team_is_blocked(server):
    server.command("accounts suspend", email=EMAIL)
    told = get(server, "/v1/api-key")
    assert (told.status, told.json["team_blocked"]) == (200, True)
    assert get(server, "/v1/me").json["team_blocked"] is True
    assert get(server, "/v1/models").status == 403


@pytest.mark.parametrize("path", ["/v1/api-key", "/v1/me"])
def test_a_revoked_or_unknown_key_hears_nothing(server, path):
    key = new_key(server, "laptop")
    server.command("keys revoke", key="laptop", email=EMAIL)
    assert get(server, path, key).status == 401
    assert get(server, path, "ll_nobody").status == 401
    assert request(server.port, "GET", path).status == 401


@pytest.mark.parametrize("path", ["/v1/api-key", "/v1/me"])
def test_what_only_tells_takes_no_other_verb(server, path):
    answer = post(server.port, path, server.api_key, b"{}")
    assert (answer.status, answer.headers["allow"]) == (405, "GET")


def test_who_am_i(server):
    told = get(server, "/v1/me").json
    assert told["zdr_status"] == "no_zdr"
    assert told["api_key"]["api_key_id"] == get(server, "/v1/api-key").json["api_key_id"]


def test_a_text_is_tokenized_without_a_template_and_free_of_charge(server):
    answer = ask(server, "/v1/tokenize-text", {"model": "echo", "text": "Hello wörld"})
    assert answer.status == 200
    assert answer.json == {
        "token_ids": [
            {"token_id": 5, "string_token": "Hello", "token_bytes": [72, 101, 108, 108, 111]},
            {"token_id": 5, "string_token": "wörld", "token_bytes": [119, 195, 182, 114, 108, 100]},
        ]
    }
    assert server.charges() == []


@pytest.mark.parametrize(
    ("body", "param"),
    [({"model": "echo"}, "text"), ({"text": "a"}, "model"), ({"model": "echo", "text": 7}, "text")],
)
def test_what_cannot_be_tokenized_is_named(server, body, param):
    answer = ask(server, "/v1/tokenize-text", body)
    assert answer.status == 400
    assert answer.json["error"]["param"] == param


def test_a_key_without_the_scope_may_not_tokenize(server):
    key = new_key(server, "chatter", endpoints=["chat"])
    assert ask(server, "/v1/tokenize-text", {"model": "echo", "text": "a"}, key).status == 403


def test_models_that_make_images_are_not_here(server):
    assert get(server, "/v1/image-generation-models").json == {"models": []}
    unknown = get(server, "/v1/image-generation-models/echo")
    assert (unknown.status, unknown.json["error"]["code"]) == (404, "model_not_found")

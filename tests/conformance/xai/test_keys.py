"""Who may call what, over gRPC: every method of the API, and some that are not there, with every kind of key and every
way to send it. The verdicts come from one table."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest

from leadline.clock import MICROSECONDS_PER_DAY
from leadline.dialects.xai import keys as keys_module
from leadline.dialects.xai import server as server_module
from leadline.dialects.xai.protos import METHODS, auth, models
from leadline.dialects.xai.server import HANDLERS
from tests.conformance.xai.questions import AUTH, NOBODY, SCOPES, UNKNOWN, questions, scope_of
from tests.conformance.xai.rpcs import ENDLESS, Metadata, Outcome, bearer, call, plain_channel
from tests.scripted.server import EMAIL, ScriptedServer

BOB = "bob@southwind.example"
CLOSED = frozenset(("UNAUTHENTICATED", "PERMISSION_DENIED"))
EVERY = (*METHODS, *UNKNOWN)
# Those that name a model in their request.
OF_A_MODEL = frozenset(
    f"/xai_api.{name}"
    for name in (
        *("Chat/GetCompletion", "Chat/GetCompletionChunk", "Chat/StartDeferredCompletion", "Chat/CompactContext"),
        *("Models/GetLanguageModel", "Models/GetEmbeddingModel", "Models/GetImageGenerationModel"),
        *("Tokenize/TokenizeText", "Embedder/Embed", "Sample/SampleText", "Sample/SampleTextStreaming"),
    )
)
# What a good key gets that asks for something that is not there.
FINDS_NOTHING = frozenset(("OK", "NOT_FOUND", "INVALID_ARGUMENT"))
# Ways to send a key, which are taken, and ways to send none. `{key}` stands for it.
TAKEN: dict[str, Metadata] = {
    "bearer": (("authorization", "Bearer {key}"),),
    "lower case": (("authorization", "bearer {key}"),),
    "mixed case, many spaces": (("authorization", "  bEaReR   {key} "),),
    "x-api-key": (("x-api-key", "{key}"),),
    "both": (("authorization", "Bearer {key}"), ("x-api-key", "{key}")),
    "twice": (("authorization", "Bearer {key}"),) * 2,
    "beside an empty one": (("authorization", ""), ("x-api-key", "{key}")),
}
ABSENT: dict[str, Metadata] = {
    "no metadata": (),
    "empty": (("authorization", ""),),
    "no key": (("authorization", "Bearer"),),
    "only spaces": (("authorization", "Bearer   "), ("x-api-key", " ")),
    "no scheme": (("authorization", "{key}"),),
    "another scheme": (("authorization", "Basic {key}"),),
    "another name": (("api-key", "{key}"), ("authorization-bin", b"Bearer {key}")),
}
WRONG: dict[str, Metadata] = {
    "wrong": bearer("ll_AAAAAAAA_" + "B" * 38),
    "malformed": bearer("sk-123"),
    "spoilt": (("authorization", "Bearer {key}x"),),
    "two in one": (("authorization", "Bearer {key},{key}"),),
    "very long": bearer("a" * 4000),
    "SQL": (("x-api-key", "'; DROP TABLE api_keys; --"),),
}
TWO_KEYS: dict[str, Metadata] = {
    "two headers": (("authorization", "Bearer {key}"), ("x-api-key", "other")),
    "one header twice": (("authorization", "Bearer {key}"), ("authorization", "Bearer other")),
}


@pytest.fixture
def keys(server: ScriptedServer) -> dict[str, str]:
    """A key for each scope alone, for another model, and of each state."""
    made = {"good": server.api_key}
    for scope in SCOPES:
        made[scope] = _key(server, scope, endpoints=[scope])
    made["of another model"] = _key(server, "other", models=["weather"])
    for state in ("disabled", "revoked"):
        made[state] = _key(server, state)
    made["expired"] = _made_long_ago(server)
    server.command("keys disable", key="disabled", email=EMAIL)
    server.command("keys revoke", key="revoked", email=EMAIL)
    server.command("accounts create", email=BOB, org="Southwind", password="battery staple")
    made["suspended"] = server.command("keys create", name="bob", email=BOB)["api_key"]
    server.command("accounts suspend", email=BOB)
    return made


def _key(server: ScriptedServer, name: str, **options: Any) -> str:
    return str(server.command("keys create", name=name, email=EMAIL, options=options)["api_key"])


def _made_long_ago(server: ScriptedServer) -> str:
    """A key whose time is over."""
    clock = server.instance.keys.clock
    server.instance.keys.clock = lambda: clock() - 2 * MICROSECONDS_PER_DAY
    key = _key(server, "expired", expires="1d")
    server.instance.keys.clock = clock
    return key


def _sent(metadata: Metadata, key: str) -> Metadata:
    return [
        (name, value.replace("{key}", key) if isinstance(value, str) else value.replace(b"{key}", key.encode()))
        for name, value in metadata
    ]


def verdicts(keys: Mapping[str, str], paths: Sequence[str]) -> Iterator[tuple[str, Metadata, str, frozenset[str]]]:
    """Every method with every key: what it is, its metadata, the method's path, and how the call may end."""
    for path in paths:
        good = FINDS_NOTHING if path in HANDLERS else frozenset(("UNIMPLEMENTED",))
        for name, metadata in TAKEN.items():
            yield name, _sent(metadata, keys["good"]), path, good
        for name, metadata in (ABSENT | WRONG).items():
            yield name, _sent(metadata, keys["good"]), path, frozenset(("UNAUTHENTICATED",))
        for name, metadata in TWO_KEYS.items():
            yield name, _sent(metadata, keys["good"]), path, frozenset(("INVALID_ARGUMENT",))
        for state in ("disabled", "expired", "suspended"):
            refused = "PERMISSION_DENIED" if state == "suspended" else "UNAUTHENTICATED"
            yield state, bearer(keys[state]), path, frozenset(("OK" if path == AUTH else refused,))
        yield "revoked", bearer(keys["revoked"]), path, frozenset(("UNAUTHENTICATED",))
        for scope in SCOPES:
            opens = scope_of(path) in (scope, None)
            yield f"only {scope}", bearer(keys[scope]), path, good if opens else frozenset(("PERMISSION_DENIED",))
        other = frozenset(("PERMISSION_DENIED",)) if path in OF_A_MODEL else good
        yield "of another model", bearer(keys["of another model"]), path, other


def wrong_verdicts(channel: grpc.Channel, keys: Mapping[str, str], paths: Sequence[str] = EVERY) -> list[str]:
    asked, wrong = questions(), []
    for name, metadata, path, expected in verdicts(keys, paths):
        outcome = call(channel, path, asked.get(path, [b""]), metadata)
        if outcome.code not in expected:
            wrong.append(f"{path} with {name}: {outcome.code} {outcome.details}, not {'/'.join(sorted(expected))}")
        # What goes on until its client has heard enough has no end at which to tell it.
        if not _tells_its_id(outcome) and not (path == ENDLESS and outcome.messages):
            wrong.append(f"{path} with {name}: no x-request-id in {outcome.trailing}")
        if any(key in outcome.details or key[12:] in outcome.details for key in keys.values()):
            wrong.append(f"{path} with {name}: a key in {outcome.details}")
        if outcome.code in CLOSED and outcome.messages:
            wrong.append(f"{path} with {name}: an answer, and then {outcome.code}")
    return wrong


def _tells_its_id(outcome: Outcome) -> bool:
    return len(outcome.trailing.get("x-request-id", "")) == len(NOBODY)


def test_every_method_opens_for_the_keys_of_one_table_and_for_no_other(server, channel, keys):
    wrong = wrong_verdicts(channel, keys)
    assert not wrong, "\n".join([f"{len(wrong)} are wrong", *wrong[:40]])
    assert METHODS.keys() >= HANDLERS.keys()


async def _forgetful(_rpc: Any, _wire: Any) -> Any:
    return models.ListLanguageModelsResponse()


def test_a_method_that_forgets_to_ask_for_a_key_is_found_out(tmp_path: Path, monkeypatch):
    path = "/xai_api.Models/ListLanguageModels"
    monkeypatch.setattr(keys_module, "FOR_ANY_KEY", frozenset((AUTH, path)))
    monkeypatch.setitem(server_module.HANDLERS, path, _forgetful)
    server = ScriptedServer(tmp_path / "data")
    with plain_channel(server.grpc_address) as channel:
        nobody = dict.fromkeys(("good", "disabled", "expired", "suspended", "revoked", "of another model"), "x" * 46)
        wrong = wrong_verdicts(channel, nobody | dict.fromkeys(SCOPES, "x" * 46), [path])
    server.stop()
    assert any(path in one and "no metadata: OK" in one for one in wrong)


@pytest.mark.parametrize("state", ["disabled", "expired", "suspended"])
def test_a_key_that_may_do_nothing_still_hears_why(server, channel, keys, state):
    outcome = call(channel, AUTH, [b""], bearer(keys[state]))
    info = auth.ApiKey.FromString(outcome.messages[0])
    assert (info.disabled, info.api_key_blocked, info.team_blocked) == tuple(
        state == one for one in ("disabled", "expired", "suspended")
    )


def test_a_refusal_names_the_key_and_what_it_may_do(server, channel, keys):
    path = "/xai_api.Chat/GetCompletion"
    for name, words in {
        "models": ("“models”", "chat", "models"),
        "of another model": ("“other”", "echo"),
        "disabled": ("“disabled” is disabled",),
        "expired": ("“expired” expired on",),
        "revoked": ("Incorrect API key",),
    }.items():
        details = call(channel, path, questions()[path], bearer(keys[name])).details
        assert all(word in details for word in words), details
    assert server.engine.requests == []


def test_a_key_is_so_from_the_next_call_on_over_one_connection(server, channel):
    key, path = _key(server, "changing"), "/xai_api.Chat/GetCompletion"

    def code() -> str:
        return call(channel, path, questions()[path], bearer(key)).code

    assert code() == "OK"
    server.command("keys disable", key="changing", email=EMAIL)
    assert code() == "UNAUTHENTICATED"
    server.command("keys enable", key="changing", email=EMAIL)
    assert code() == "OK"
    server.command("keys revoke", key="changing", email=EMAIL)
    assert code() == "UNAUTHENTICATED"
    assert len(server.charges()) == 2

"""Keys over the management API, and what they may do from the next request on."""

import re
from typing import Any

import grpc
import pytest
import xai_sdk

from leadline.accounts.actor import COMMAND_LINE
from leadline.accounts.roles import Role, role_of
from leadline.accounts.users import NewUser
from leadline.errors import PermissionDenied
from tests.conformance.management.conftest import Management, chat, new_key
from tests.conformance.xai.rpcs import plain_channel
from tests.raw import request
from tests.scripted.server import ScriptedServer

EVERYTHING = ["api-key:endpoint:*", "api-key:model:*"]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def test_a_new_key_is_as_it_was_asked_for(management: Management):
    acls = ["api-key:endpoint:chat", "api-key:model:grok-beta"]
    made = management.create(name="ci", acls=acls, qps=100, qpm=6000, tpm="100000", expireTime="2999-03-31T12:00:00.5Z")
    text = made.pop("apiKey")
    assert re.fullmatch(r"ll_[0-9A-Za-z]{8}_[0-9A-Za-z]{38}", text)
    assert TIME.fullmatch(made["createTime"])
    assert made == {
        "redactedApiKey": f"{text[:11]}…{text[-4:]}",
        "userId": management.ask("GET", "/auth/management-keys/validation")["ownerUserId"],
        "name": "ci",
        "createTime": made["createTime"],
        "modifyTime": made["createTime"],
        "teamId": management.server.organisation_id,
        "apiKeyId": text[3:11],
        "disabled": False,
        "aclStrings": acls,
        "expireTime": "2999-03-31T12:00:00.500000Z",
        "qps": 100,
        "qpm": 6000,
        "tpm": "100000",
    }
    listed = management.ask("GET", "/auth/teams/{team}/api-keys")["apiKeys"]
    assert [key["name"] for key in listed] == ["first-key", "ci"]
    assert listed[1] == made
    shown = management.server.command("keys show", key="ci", email=None)
    assert shown["limits"]["tokens_per_minute"] == 100_000
    assert chat(management.server, text).status == 200


@pytest.mark.parametrize(
    ("acls", "status", "listed"),
    [
        (None, 403, []),
        ([], 403, []),
        (["api-key:endpoint:*"], 403, ["api-key:endpoint:*"]),
        (["api-key:model:*"], 403, ["api-key:model:*"]),
        (["api-key:endpoint:embed", "api-key:model:*"], 403, None),
        (["api-key:endpoint:*", "api-key:model:other"], 403, None),
        (["api-key:endpoint:chat", "api-key:endpoint:auth", "api-key:model:grok-beta"], 200, None),
        (
            ["api-key:endpoint:*", "api-key:endpoint:chat", "api-key:model:*"],
            200,
            ["api-key:endpoint:*", "api-key:model:*"],
        ),
    ],
)
def test_without_both_acls_a_key_may_do_nothing(shared: Management, acls: Any, status: int, listed: Any):
    made = shared.create(acls=acls)
    assert chat(shared.server, made["apiKey"]).status == status
    if listed is not None:
        assert made["aclStrings"] == listed
        assert shared.server.run(identify(shared, made["apiKey"])).acls == listed
    assert shared.server.balance().held_ticks == 0


async def identify(shared: Management, key: str) -> Any:
    return await shared.server.pipeline.describe_key(key)


def test_a_key_for_nothing_lists_no_model_and_says_what_it_is(management: Management):
    key = management.create(acls=[])["apiKey"]
    answers = [
        request(management.server.port, "GET", path, authorization=f"Bearer {key}") for path in ("/v1/models", "/v1/me")
    ]
    assert [answer.status for answer in answers] == [403, 200]
    half = management.create(acls=["api-key:endpoint:*"])["apiKey"]
    assert request(management.server.port, "GET", "/v1/models", authorization=f"Bearer {half}").json["data"] == []


@pytest.mark.parametrize(
    ("body", "mask", "changed"),
    [
        ({"tpm": "5"}, "tpm", {"tpm": "5"}),
        ({"tpm": 5, "name": "not masked"}, "tpm", {"tpm": "5"}),
        ({"tpm": None}, "tpm", {"tpm": None}),
        ({}, "tpm, qps,expire_time", {"tpm": None, "qps": None, "expireTime": None}),
        ({"name": "new", "qpm": "7"}, "name,qpm", {"name": "new", "qpm": 7}),
        ({"name": "new"}, "", {"name": "new"}),
        ({"acls": []}, "acls", {"aclStrings": []}),
        ({"acl_strings": ["api-key:endpoint:chat"]}, "acl_strings", {"aclStrings": ["api-key:endpoint:chat"]}),
        ({"disabled": True}, "disabled", {"disabled": True}),
        ({"disabled": True}, "disabled,name", None),
    ],
)
def test_only_what_the_mask_names_changes(shared: Management, body: Any, mask: str, changed: Any):
    made = shared.create(name="ci", qps=1, qpm=2, tpm="3", expireTime="2999-01-01T00:00:00Z")
    before = {name: value for name, value in made.items() if name != "apiKey"}
    path = f"/auth/api-keys/{made['apiKeyId']}"
    if changed is None:
        assert shared.refused("PUT", path, {"apiKey": body, "fieldMask": mask})[0] == 400
    else:
        after = shared.ask("PUT", path, {"apiKey": body, "fieldMask": mask})
        wanted = before | changed | {"modifyTime": after["modifyTime"]}
        assert after == {name: value for name, value in wanted.items() if value is not None}
        before = after
    assert shared.ask("GET", "/auth/teams/{team}/api-keys")["apiKeys"][-1] == before


def test_a_change_holds_from_the_next_request_on(management: Management):
    made = management.create()
    path = f"/auth/api-keys/{made['apiKeyId']}"
    steps = [
        ({"disabled": True}, 401),
        ({"disabled": False}, 200),
        ({"acls": []}, 403),
        ({"acls": ["api-key:endpoint:*", "api-key:model:*"]}, 200),
        ({"qpm": 1}, 200),
        ({"qpm": 1}, 429),
    ]
    for change, status in steps:
        management.ask("PUT", path, {"apiKey": change})
        assert chat(management.server, made["apiKey"]).status == status, change
    assert management.ask("GET", f"{path}/propagation")["icPropagation"] == {"localhost:8080": True}
    assert management.ask("DELETE", path) == {}
    assert chat(management.server, made["apiKey"]).status == 401
    for method in ("PUT", "DELETE"):
        assert management.refused(method, path, {"apiKey": {"name": "x"}})[0] == 404
    assert len(management.ask("GET", "/auth/teams/{team}/api-keys")["apiKeys"]) == 1


def test_a_rotated_key_has_two_secrets_for_a_while(management: Management):
    made = management.create(expireTime="2999-01-01T00:00:00Z")
    path = f"/auth/api-keys/{made['apiKeyId']}/rotate"
    rotated = management.ask("POST", path, {})
    assert (rotated["apiKeyId"], rotated["expireTime"]) == (made["apiKeyId"], made["expireTime"])
    assert [chat(management.server, one["apiKey"]).status for one in (made, rotated)] == [200, 200]
    again = management.ask(
        "POST", path, {"oldSecretExpireTime": "2001-01-01T00:00:00Z", "expireTime": "2998-01-01T00:00:00Z"}
    )
    assert again["expireTime"] == "2998-01-01T00:00:00.000000Z"
    statuses = [chat(management.server, one["apiKey"]).status for one in (made, rotated, again)]
    assert statuses == [401, 401, 200]
    assert management.refused("POST", path, {"oldSecretExpireTime": "2999-01-01T00:00:00Z"})[2] == "oldSecretExpireTime"
    assert management.refused("POST", path, {"expireTime": "2001-01-01T00:00:00Z"})[2] == "expireTime"


def test_lists_have_pages_and_filters(management: Management):
    for number in range(4):
        management.create(name=f"key {number}", acls=["api-key:endpoint:chat", "api-key:model:*"])
    off = management.create(name="off")
    management.ask("PUT", f"/auth/api-keys/{off['apiKeyId']}", {"apiKey": {"disabled": True}})
    path, names, query = "/auth/teams/{team}/api-keys", [], {}
    while True:
        page = management.ask("GET", path, pageSize=2, **query)
        names += [key["name"] for key in page["apiKeys"]]
        if "paginationToken" not in page:
            break
        query = {"paginationToken": page["paginationToken"]}
    assert names == ["first-key", "key 0", "key 1", "key 2", "key 3", "off"]

    def listed(**query: Any) -> list[str]:
        return [key["name"] for key in management.ask("GET", path, **query)["apiKeys"]]

    assert listed(activeOnly="true") == names[:-1]
    assert listed(aclFilters="api-key:endpoint:embed") == ["first-key", "off"]
    assert listed(**{"aclFilters[]": ["api-key:endpoint:chat", "api-key:model:x"]}) == names
    assert management.refused("GET", path, paginationToken="nobody")[2] == "paginationToken"
    assert management.refused("GET", path, pageSize="many")[2] == "pageSize"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": " \n"}, "name"),
        ({"name": 5}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "x", "acls": "api-key:endpoint:*"}, "acls"),
        ({"name": "x", "acls": ["api-key:endpoint:everything"]}, "acls"),
        ({"name": "x", "acls": ["team-token:endpoint:*"]}, "acls"),
        ({"name": "x", "acls": ["api-key:model:"]}, "acls"),
        ({"name": "x", "acls": ["api-key:model:none"]}, "acls"),
        ({"name": "x", "qps": -1}, "qps"),
        ({"name": "x", "qps": 1.5}, "qps"),
        ({"name": "x", "qpm": "many"}, "qpm"),
        ({"name": "x", "tpm": "9" * 30}, "tpm"),
        ({"name": "x", "expireTime": "tomorrow"}, "expireTime"),
        ({"name": "x", "expireTime": "2001-01-01T00:00:00Z"}, "expireTime"),
        ({"name": "x", "expireTime": "2999-13-01T00:00:00Z"}, "expireTime"),
        ({"name": "x", "disabled": "yes"}, "disabled"),
    ],
)
def test_what_makes_no_sense_is_named(shared: Management, body: Any, field: str):
    before = shared.server.command("keys list", email=None)
    status, message, param = shared.refused("POST", "/auth/teams/{team}/api-keys", body)
    assert (status, param) == (400, field), message
    assert shared.server.command("keys list", email=None) == before


def test_every_change_is_in_the_audit_log_as_the_keys(management: Management):
    own = management.ask("GET", "/auth/management-keys/validation")
    made = management.create(name="ci")
    path = f"/auth/api-keys/{made['apiKeyId']}"
    management.ask("PUT", path, {"apiKey": {"qps": 4}})
    management.ask("POST", f"{path}/rotate", {})
    management.ask("DELETE", path)
    events = management.ask("GET", "/audit/teams/{team}/events", **{"eventFilter.userId": f"llm_{own['apiKeyId']}"})
    verbs = {re.findall(r": keys (\w+) ", event["description"])[0] for event in events["events"]}
    assert verbs == {"create", "change", "rotate", "revoke"}
    assert all(event["description"].startswith("management key “script”: ") for event in events["events"])
    assert "requests_per_second: 0 → 4" in str(events)
    assert made["apiKey"][12:44] not in str(events)


def test_a_management_key_opens_nothing_of_the_inference_api(management: Management):
    server = management.server
    own = f"Bearer {management.key}"
    paths = ("/v1/models", "/v1/api-key", "/v1/me", "/v1/files", "/v1/batches", "/v1/language-models")
    assert {request(server.port, "GET", path, authorization=own).status for path in paths} == {401}
    assert chat(server, management.key).status == 401
    assert request(server.port, "GET", "/v1/models", x_api_key=management.key, anthropic_version="1").status == 401
    with xai_sdk.Client(api_key=management.key, api_host=server.grpc_address) as client:
        for call in (client.models.list_language_models, client.auth.get_api_key_info):
            with pytest.raises(grpc.RpcError) as refused:
                call()
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    with plain_channel(server.grpc_address) as channel:
        call = channel.unary_unary("/xai_api.Chat/GetCompletion")
        with pytest.raises(grpc.RpcError) as refused:
            call(b"", metadata=(("authorization", own),))
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert not server.engine.requests


def test_an_api_key_opens_nothing_of_the_management_api(management: Management):
    stranger = Management(management.server, management.server.api_key)
    for method, path in (("GET", "/auth/management-keys/validation"), ("POST", "/auth/teams/{team}/api-keys")):
        status, message, _ = stranger.refused(method, path, {"name": "x"})
        assert (status, "no management key" in message) == (401, True)
        assert management.server.api_key not in message


def test_a_key_does_what_its_acls_permit_and_nothing_else(management: Management):
    server = management.server
    lists = Management(server, new_key(server, acls=["ListApiKeys"]))
    nothing = Management(server, new_key(server, acls=[]))
    assert lists.ask("GET", "/auth/teams/{team}/api-keys")["apiKeys"]
    assert lists.ask("GET", "/auth/management-keys/validation")["acls"] == ["team-token:endpoint:ListApiKeys"]
    assert nothing.ask("GET", "/auth/management-keys/validation")["acls"] == []
    for one in (lists, nothing):
        status, message, _ = one.refused("POST", "/auth/teams/{team}/api-keys", {"name": "x"})
        assert (status, "team-token:endpoint:CreateApiKey" in message) == (403, True)
    assert nothing.refused("GET", "/auth/teams/{team}/api-keys")[0] == 403
    elsewhere = Management(server, new_key(server, ip_ranges=["203.0.113.0/24"]))
    assert elsewhere.refused("GET", "/auth/management-keys/validation")[0] == 403


def test_another_teams_things_are_not_there(management: Management):
    server = management.server
    other = server.command(
        "accounts create", email="bob@elsewhere.example", org="Elsewhere", password="correct horse battery"
    )
    theirs = server.command("keys create", name="theirs", email="bob@elsewhere.example")
    management = Management(server, management.key, other["organisation_id"])
    for path in (
        "/auth/teams/{team}/api-keys",
        "/v1/billing/teams/{team}/prepaid/balance",
        "/audit/teams/{team}/events",
    ):
        assert management.refused("GET", path)[0] == 404
        never = Management(server, management.key, "org_never")
        assert never.refused("GET", path) == management.refused("GET", path)
    for method, end in (("PUT", ""), ("DELETE", ""), ("POST", "/rotate"), ("GET", "/propagation")):
        assert management.refused(method, f"/auth/api-keys/{theirs['id']}{end}", {"apiKey": {"name": "x"}})[0] == 404
    assert server.command("keys show", key="theirs", email="bob@elsewhere.example")["state"] == "active"


def test_a_key_rests_while_its_owner_may_not_manage(management: Management):
    server = management.server
    server.run(join(server, "noah@northwind.example"))
    noah = Management(
        server, server.command("management-keys create", name="x", email="noah@northwind.example")["management_key"]
    )

    def status() -> int:
        return noah.answer("GET", "/auth/management-keys/validation").status_code

    async def change(change: str) -> None:
        organisations, users = server.instance.organisations, server.instance.users
        user = await users.named("noah@northwind.example")
        match change:
            case "suspend":
                await users.suspend(user, COMMAND_LINE)
            case "resume":
                await users.resume(user, COMMAND_LINE)
            case "remove":
                await organisations.remove_member(server.organisation_id, user.id, COMMAND_LINE)
            case role:
                await organisations.change_role(server.organisation_id, user.id, role_of(role), COMMAND_LINE)

    assert status() == 200
    steps = [("suspend", 401), ("resume", 200), ("developer", 401), ("owner", 200), ("remove", 401)]
    for step, wanted in steps:
        server.run(change(step))
        assert status() == wanted, step
    server.command("accounts suspend", email=None)
    assert management.refused("GET", "/auth/management-keys/validation")[0] == 403


def test_who_may_not_change_settings_has_no_management_key(management: Management):
    server = management.server
    server.run(join(server, "noah@northwind.example", "developer"))
    with pytest.raises(PermissionDenied, match="owner or an admin"):
        server.command("management-keys create", name="x", email="noah@northwind.example")


async def join(server: ScriptedServer, email: str, role: Role = "admin") -> None:
    instance = server.instance
    person = await NewUser.of(instance.passwords, email, "correct horse battery")
    await instance.organisations.join(person, server.organisation_id, role, COMMAND_LINE)

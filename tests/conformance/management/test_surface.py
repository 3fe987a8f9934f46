"""Where the management API is, whom it lets in, and in what words it refuses; whatever comes, nothing is our fault."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leadline.accounts.management_keys import OPERATIONS
from leadline.management import api
from leadline.management.api import ROUTES
from tests.cli.process import NO_MODEL, Serving, init, leadline
from tests.conformance.grammar.answers import check_refusal
from tests.conformance.management.conftest import Management, new_key, served
from tests.raw import Answer, Raw, head, parse, post, request

LIST = "/management/auth/teams/default/api-keys"
# Words of libraries, and of our inside.
FOREIGN = re.compile(
    rb"msgspec|Traceback|Expected `|Object (missing|contains)|JSONDecode|\.py\b|ValidationError|TypeError|KeyError"
    rb"|AttributeError|_Wanted|_Update|<class|object at 0x|NoneType|starlette|uvicorn|apsw|SQLite|Errno|zoneinfo"
)


def test_every_operation_has_a_path_and_every_path_an_operation():
    assert {operation for operation, _ in ROUTES.values()} == {"", *OPERATIONS}
    assert [path for path, (operation, _) in ROUTES.items() if not operation] == [
        ("GET", "/auth/management-keys/validation"),
        ("GET", "/auth/teams"),
    ]


@pytest.mark.parametrize("place", ROUTES, ids=" ".join)
def test_nothing_answers_without_a_key(shared: Management, place: tuple[str, str]):
    method, path = place
    path = re.sub(r"{\w+}", "default", path)
    for headers in ({}, {"authorization": "Bearer llm_x"}, {"authorization": "Basic eA=="}, {"x_api_key": "ll_x"}):
        answer = request(shared.server.port, method, f"/management{path}", **headers)
        check_refusal(answer.status, answer.headers, answer.body, anthropic=False)
        assert answer.status == 401
        assert answer.headers["x-should-retry"] == "false"


def test_a_key_finds_its_team_and_itself(shared: Management):
    own = shared.ask("GET", "/auth/management-keys/validation")
    team = shared.server.organisation_id
    assert (own["teamId"], own["scope"], own["scopeId"]) == (team, "SCOPE_TEAM", team)
    assert own["redactedApiKey"] == f"{shared.key[:12]}…{shared.key[-4:]}"
    assert (own["name"], own["acls"], own["ipRanges"]) == ("script", ["team-token:endpoint:*"], None)
    assert shared.ask("GET", "/auth/teams") == {"teams": [{"teamId": team}]}
    by_id = Management(shared.server, shared.key, team)
    assert by_id.ask("GET", "/auth/teams/{team}/endpoints") == shared.ask("GET", "/auth/teams/{team}/endpoints")


def test_the_catalogue_of_acls_makes_keys(shared: Management):
    acls = [entry["acl"] for entry in shared.ask("GET", "/auth/teams/{team}/endpoints")["acls"]]
    scopes = ("*", "batch", "chat", "embed", "files", "image", "models", "sample", "tokenize")
    assert acls == [f"api-key:endpoint:{name}" for name in scopes]
    assert shared.create(acls=acls)["aclStrings"] == ["api-key:endpoint:*"]


def test_models_are_those_on_offer_with_their_prices(shared: Management):
    [cluster] = shared.ask("GET", "/auth/teams/{team}/models")["clusterConfigs"]
    models = {model["name"]: model for model in cluster["languageModels"]}
    priced = models["grok-beta"]
    prices = ("promptTextTokenPrice", "cachedPromptTokenPrice", "completionTextTokenPrice")
    assert [priced[name] for name in prices] == ["20000", "5000", "100000"]
    assert (priced["rpm"], priced["tpm"], priced["features"]["functionCalling"]) == (480, "2000000", True)
    assert "embed" in [model["name"] for model in cluster["embeddingModels"]]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/management", 404),
        ("GET", "/management/", 404),
        ("GET", "/management/auth", 404),
        ("GET", "/management/v1/collections", 404),
        ("GET", "/management/v1/models", 404),
        ("GET", "/management/auth/teams/default/api-keys/x", 404),
        ("PATCH", LIST, 405),
        ("POST", "/management/auth/management-keys/validation", 405),
        ("GET", LIST + "/", 200),
        ("GET", "/management//auth/teams/default/api-keys", 200),
        ("HEAD", LIST, 200),
        ("GET", "/managements/auth/teams", 404),
    ],
)
def test_paths_are_known_or_refused(shared: Management, method: str, path: str, status: int):
    answer = request(shared.server.port, method, path, authorization=f"Bearer {shared.key}")
    if path.startswith("/management/") or path == "/management":
        assert answer.status == status
        assert (answer.headers.get("allow") == "GET, POST") is (method == "PATCH")
    else:
        # That is no path of the management API, and its key opens nothing else.
        assert answer.status in (401, 404)


def test_bodies_are_bounded_json(shared: Management):
    port, key = shared.server.port, shared.key

    def status(body: bytes, **headers: str) -> int:
        answer = post(port, LIST, key, body, **headers)
        check_refusal(answer.status, answer.headers, answer.body, anthropic=False)
        return answer.status

    assert status(b'{"name": "x"}', content_type="text/plain") == 415
    assert status(b'{"name": "' + b"x" * 2**20 + b'"}') == 413
    for body in (b"", b"{", b"[]", b'{"name": "x", "name": "y"}', b'{"a_b": 1, "aB": 2, "name": "x"}', b"\xff", b"1"):
        assert status(body) == 400, body
    assert status(b"[" * 100 + b"]" * 100) == 400
    # A body that is longer than it may be is not read to its end.
    raw = Raw(port)
    raw.send(head("/management/auth/teams/default/api-keys", key, 2**21, content_type="application/json"))
    assert parse(raw.read_to_end()).status == 413


def test_both_spellings_of_fields_are_one(shared: Management):
    made = shared.create(expire_time="2999-01-01T00:00:00Z")
    assert made["expireTime"] == "2999-01-01T00:00:00.000000Z"
    changed = shared.ask(
        "PUT", f"/auth/api-keys/{made['apiKeyId']}", {"api_key": {"expire_time": None}, "field_mask": "expire_time"}
    )
    assert "expireTime" not in changed


def test_what_fails_here_is_told_in_no_words_of_ours(shared: Management, monkeypatch: pytest.MonkeyPatch):
    def fail() -> None:
        raise KeyError("a secret of the inside")

    monkeypatch.setattr("leadline.management.keys.catalogue", fail)
    answer = shared.answer("GET", "/auth/teams/{team}/endpoints")
    assert (answer.status_code, "inside" in answer.text) == (500, False)


def test_what_takes_too_long_is_ended(shared: Management, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(api, "_DEADLINE_SECONDS", 0)
    assert shared.answer("GET", "/audit/teams/{team}/events").status_code == 504


@pytest.mark.slow
async def test_with_a_port_of_its_own_it_is_there_and_not_on_the_first_one(tmp_path: Path):
    made = init(tmp_path)
    (tmp_path / "leadline.toml").write_text(NO_MODEL + "[management]\nport = 0\n")
    key = leadline("management-keys", "create", "--name", "x", "--data", str(tmp_path)).out.strip()
    serving = await Serving.start(tmp_path)
    try:
        first = urlsplit((await serving.event("serving"))["base_url"]).port
        own = urlsplit((await serving.event("management"))["base_url"]).port
        assert first is not None
        assert own is not None

        def status(port: int, path: str, key: str) -> int:
            return request(port, "GET", path, authorization=f"Bearer {key}").status

        validation = "/auth/management-keys/validation"
        assert status(own, validation, key) == status(own, f"/management{validation}", key) == 200
        assert status(own, "/v1/models", made.json["api_key"]) == 401
        assert status(first, f"/management{validation}", key) == 404
        assert status(first, "/v1/models", made.json["api_key"]) == 200
    finally:
        code = await serving.stop()
    assert code == 0


IDS = st.one_of(
    st.sampled_from(["default", "", "..", "%00", "%2e%2e%2f", "é", "a" * 3000, "%ff", "null", "{team_id}", "'", "*"]),
    st.text(max_size=20).map(lambda text: "".join(f"%{byte:02x}" for byte in text.encode("utf-8", "ignore"))),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=30),
    st.sampled_from(["1", "-1", "9" * 40, "2999-01-01T00:00:00Z", "api-key:endpoint:*", "TIME_UNIT_SECOND", "\x00"]),
)
_TIMES = {"startTime": "2026-01-01 00:00:00", "endTime": "2026-01-03 00:00:00", "timezone": "Europe/Oslo"}
_VALUE = {"name": "usd", "aggregation": "AGGREGATION_SUM"}
_QUESTION = {"timeRange": _TIMES, "timeUnit": "TIME_UNIT_DAY", "values": [_VALUE], "groupBy": ["model"]}
_ADDRESS = {"line1": "1 Quay Street", "city": "Oslo", "country": "NO"}
_KEY = {"name": "x", "acls": ["api-key:endpoint:*"], "qps": 1, "qpm": "2", "tpm": "3", "disabled": True}
BODIES: dict[str, Any] = {
    "CreateApiKey": _KEY | {"expireTime": "2999-01-01T00:00:00Z"},
    "UpdateApiKey": {"apiKey": _KEY, "fieldMask": "name,acls,qps"},
    "RotateApiKey": {"expireTime": "2999-01-01T00:00:00Z", "oldSecretExpireTime": "2001-01-01T00:00:00Z"},
    "SetBillingInfo": {"billingInfo": {"name": "x", "address": _ADDRESS, "taxNumber": "1"}},
    "SetDefaultPaymentMethod": {"paymentMethodId": "pm_1"},
    "SetSoftSpendingLimit": {"desiredSoftSpendingLimit": {"val": "5"}, "desiredWarningLimit": {"val": "4"}},
    "TopUpOrGetExistingPendingChange": {"amount": {"val": "-500"}},
    "AnalyzeBillingItems": {"analyticsRequest": _QUESTION | {"filters": ["model:echo"]}},
}
NAMES = st.sampled_from(sorted({name for body in BODIES.values() for name in re.findall(r"'(\w+)':", str(body))}))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(NAMES, inner, max_size=5)),
    max_leaves=12,
)
QUERY_NAMES = ["pageSize", "paginationToken", "pageToken", "aclFilters[]", "activeOnly", "eventFilter.userId"]
QUERY_NAMES += ["eventFilter.query", "eventFilter.eventId", "eventTimeFrom", "eventTimeTo", "orderBy", "since.year"]
QUERY_NAMES += ["since.month", "billingCycle.year", "billingCycle.month", "invoiceIds.invoiceIds"]
QUERIES = st.lists(
    st.tuples(st.sampled_from(QUERY_NAMES), IDS | st.sampled_from(["0", "1", "99999", "%", "-1"])), max_size=4
)


@settings(max_examples=6 * settings.default.max_examples)
@given(place=st.sampled_from(sorted(ROUTES)), data=st.data())
def test_nothing_that_is_sent_is_our_fault(shared_server: Management, place: tuple[str, str], data: st.DataObject):
    method, path = place
    own = shared_server.create()["apiKeyId"] if "{api_key_id}" in path else ""
    right = {"{team_id}": "default", "{api_key_id}": own}
    path = re.sub(r"{\w+}", lambda name: right[name[0]] if data.draw(st.integers(0, 9)) else data.draw(IDS), path)
    query = "&".join(f"{name}={value}" for name, value in data.draw(QUERIES))
    body = changed(data, BODIES[ROUTES[place][0]]) if method in ("POST", "PUT") else None
    answer = send(shared_server, method, f"/management{path}?{query}", body)
    assert answer.status in (200, 400, 401, 404, 405, 413, 415), (answer.status, answer.body)
    if answer.status != 200 and answer.body != b"Invalid HTTP request received.":
        check_refusal(answer.status, answer.headers, answer.body, anthropic=False)
        assert not FOREIGN.search(answer.body), answer.body


def changed(data: st.DataObject, value: Any) -> Any:
    """A body in which something is not as it should be, or all of it."""
    if not isinstance(value, dict | list) or not value or data.draw(st.integers(0, 5)) == 0:
        return data.draw(VALUES)
    places = list(value) if isinstance(value, dict) else list(range(len(value)))
    place = data.draw(st.sampled_from(places))
    copy = value.copy()
    copy[place] = changed(data, value[place])
    return copy


def send(management: Management, method: str, target: str, body: Any) -> Answer:
    content = b"" if body is None else json.dumps(body).encode()
    lines = [
        f"{method} {target} HTTP/1.1",
        "Host: test",
        "Connection: close",
        f"Authorization: Bearer {management.key}",
    ]
    lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    raw = Raw(management.server.port)
    raw.send("\r\n".join(lines).encode("utf-8", "surrogatepass") + b"\r\n\r\n" + content)
    return parse(raw.read_to_end())


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Management]:
    """Whatever it holds may be changed into anything, and is."""
    with served(tmp_path_factory.mktemp("fuzzed") / "data") as server:
        yield Management(server, new_key(server))

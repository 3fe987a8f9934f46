"""Requests that the API's description allows, and such that it does not: every answer is one that it tells of, no fault
is ours, and what it does not allow is refused."""

from collections.abc import Iterator
from copy import deepcopy

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.conformance.grammar.described import document
from tests.proof import count
from tests.scripted.server import ScriptedServer

pytestmark = pytest.mark.slow

# Of its own: what is sent is changed in place.
SCHEMA = schemathesis.openapi.from_dict(deepcopy(document()))
OPERATIONS = {one.label: one for one in (found.ok() for found in SCHEMA.get_all_operations())}
CHECKS = [
    *(not_a_server_error, status_code_conformance, content_type_conformance, response_headers_conformance),
    *(response_schema_conformance, negative_data_rejection),
]


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedServer]:
    data = tmp_path_factory.mktemp("schemathesis") / "data"
    data.mkdir()
    (data / "leadline.toml").write_text("[limits.default]\nrequests_per_minute = 0\ntokens_per_minute = 0\n")
    server = ScriptedServer(data, usd="1000000")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def session(rich: ScriptedServer) -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {rich.api_key}"
        yield session


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["allowed", "wrong"])
@pytest.mark.parametrize("label", OPERATIONS)
def test_answers_are_as_described(rich, session, label, mode):
    @settings(
        max_examples=count(5, 200),
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=OPERATIONS[label].as_strategy(generation_mode=mode))
    def answers_are_as_described(case: schemathesis.Case) -> None:
        model = case.body.get("model") if isinstance(case.body, dict) else None
        if isinstance(model, str) and 0 < len(model) <= 256:
            case.body["model"] = "embed" if "embeddings" in label else "echo"
        response = case.call(base_url=rich.base_url, session=session)
        case.validate_response(response, checks=CHECKS)

    answers_are_as_described()
    assert rich.balance().held_ticks == 0

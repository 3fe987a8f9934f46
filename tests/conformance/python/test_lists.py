"""Lists in pages, as the SDKs go through them."""

from collections.abc import Iterator

import anthropic
import openai
import pytest

from tests.raw import request
from tests.scripted.server import ScriptedServer


@pytest.fixture
def claude(server: ScriptedServer) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.base_url, api_key=server.api_key, max_retries=0) as client:
        yield client


def all_models(server: ScriptedServer) -> list[str]:
    return [model["id"] for model in get(server, "/v1/models")["data"]]


def get(server: ScriptedServer, path: str, **headers: str):
    answer = request(server.port, "GET", path, x_api_key=server.api_key, **headers)
    assert answer.status == 200, answer.body
    return answer.json


@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
def test_anthropics_sdk_goes_through_all_pages_of_models(server, claude, limit):
    names = all_models(server)
    page = claude.models.list(limit=limit)
    assert [model.id for model in page.data] == names[:limit]
    assert (page.has_more, page.first_id) == (limit < len(names), names[0])
    assert [model.id for model in page] == names


def test_anthropics_pages_go_backwards_too(server, claude):
    names = all_models(server)
    page = claude.models.list(limit=2, before_id=names[5])
    assert ([model.id for model in page.data], page.has_more) == (names[3:5], True)
    page = claude.models.list(limit=2, before_id=names[2])
    assert ([model.id for model in page.data], page.has_more) == (names[:2], False)
    assert claude.models.list(before_id=names[0]).data == []


def test_openais_list_is_one_page_unless_asked_otherwise(server):
    names = all_models(server)
    with openai.OpenAI(base_url=f"{server.base_url}/v1", api_key=server.api_key) as client:
        assert [model.id for model in client.models.list()] == names
    page = get(server, f"/v1/models?limit=2&after={names[0]}")
    assert ([model["id"] for model in page["data"]], page["has_more"]) == (names[1:3], True)


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("after_id=x", "after_id"),
        ("before_id=x", "before_id"),
    ],
)
def test_a_page_that_there_is_not_is_refused_by_name(server, query, name):
    path = f"/v1/models?{query}"
    answer = request(server.port, "GET", path, x_api_key=server.api_key, anthropic_version="2023-06-01")
    assert answer.status == 400
    assert name in answer.json["error"]["message"]

"""`/metrics`: figures for Prometheus, for whoever has the token."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from leadline.chat.events import Usage
from leadline.ledger.totals import MOST_MODELS, OTHERS, Totals
from leadline.ledger.usage import UsageRecord
from tests.raw import post
from tests.scripted.server import ScriptedServer

TOKEN = "a-token-for-prometheus"
CONFIGURATION = f"""
[metrics]
token = "{TOKEN}"
[[engines]]
name = 'the "large" one'
kind = "vllm"
url = "http://127.0.0.1:9/v1"
[[models]]
name = "large"
engine = 'the "large" one'
"""
_LINE = re.compile(r'[a-z_]+(\{([a-z]+="(\\.|[^"\\\n])*",?)+\})? -?[0-9.e+-]+')


def served(data: Path, configuration: str) -> ScriptedServer:
    data.mkdir(mode=0o700)
    (data / "leadline.toml").write_text(configuration, "utf-8")
    return ScriptedServer(data)


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[ScriptedServer]:
    server = served(tmp_path / "data", CONFIGURATION)
    yield server
    server.stop()


def read(server: ScriptedServer, token: str = TOKEN) -> httpx2.Response:
    return httpx2.get(f"{server.base_url}/metrics", headers={"authorization": f"Bearer {token}"})


def test_without_a_token_there_are_none(server: ScriptedServer) -> None:
    assert read(server).status_code == 404


@pytest.mark.parametrize("token", ["another-token-for-it", TOKEN[:-1], "ünglaublich"])
def test_only_who_has_the_token_reads_them(watched: ScriptedServer, token: str) -> None:
    answer = httpx2.get(f"{watched.base_url}/metrics", headers={"authorization": f"Bearer {token}".encode()})

    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert "leadline_" not in answer.text


def test_they_are_only_read(watched: ScriptedServer) -> None:
    headers = {"authorization": f"Bearer {TOKEN}"}

    assert httpx2.post(f"{watched.base_url}/metrics", headers=headers).status_code == 405


def test_requests_tokens_and_charges_are_counted_by_model(watched: ScriptedServer) -> None:
    body = b'{"model": "echo", "messages": [{"role": "user", "content": "Hello there"}], "max_tokens": 5}'
    post(watched.port, "/v1/chat/completions", watched.api_key, body)
    [charge] = watched.charges()
    lines = read(watched).text.splitlines()

    assert 'leadline_requests_total{model="echo",status="finished"} 1' in lines
    assert f'leadline_charged_ticks_total{{model="echo"}} {-charge.amount_ticks}' in lines
    assert 'leadline_running_requests{model="large",engine="the \\"large\\" one"} 0' in lines


def test_what_is_refused_is_counted_too(watched: ScriptedServer) -> None:
    watched.engine.ready = False
    body = b'{"model": "echo", "messages": [{"role": "user", "content": "Hello there"}]}'
    post(watched.port, "/v1/chat/completions", watched.api_key, body)

    assert 'leadline_requests_total{model="echo",status="refused"} 1' in read(watched).text.splitlines()


def test_every_line_is_as_prometheus_reads_it(watched: ScriptedServer) -> None:
    answer = read(watched)
    lines = [line for line in answer.text.splitlines() if not line.startswith("# ")]

    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.text.endswith("\n")
    assert [line for line in lines if not _LINE.fullmatch(line)] == []
    assert len(lines) > 10


def test_nothing_of_organisations_and_keys_is_in_them(watched: ScriptedServer) -> None:
    text = read(watched).text

    assert watched.organisation_id not in text
    assert "first-key" not in text


def test_however_many_models_are_named_there_are_never_too_many_series() -> None:
    totals = Totals()
    for number in range(MOST_MODELS + 50):
        record = UsageRecord("org", str(number), 0, 1, "key", f"model-{number}", "/v1", "finished", usage=Usage(2))
        totals.add(record, 7)

    assert len(totals.models) == MOST_MODELS + 1
    assert (totals.models[OTHERS].cost_ticks, totals.models[OTHERS].tokens["prompt"]) == (50 * 7, 50 * 2)

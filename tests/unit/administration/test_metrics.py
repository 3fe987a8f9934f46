"""`/metrics`: figures for Prometheus, for whoever has the token."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from leadline.administration.exposition import Exposition
from leadline.chat.events import Usage
from leadline.histogram import Histogram
from leadline.ledger.totals import MOST_ENDS, MOST_PLACES, OTHERS, Place, Totals
from leadline.ledger.usage import Status, UsageRecord
from leadline.storage.database import Database, DatabaseUnusable, Write
from tests.raw import Answer, open_post, post
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
upstream_model = "slow"
"""
_PATH = "/v1/chat/completions"
_OPEN = 'leadline_open_streams{model="large",engine="the \\"large\\" one"}'
_RECORDS = (
    "SELECT model, endpoint, status, error, prompt_tokens, output_tokens + reasoning_tokens, first_token_milliseconds,"
    " total_milliseconds, streamed FROM usage_records JOIN meters ON meters.id = meter_id"
)


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
    return httpx2.get(f"{server.base_url}/metrics", headers={"authorization": f"Bearer {token}"}, timeout=30)


def ask(server: ScriptedServer, model: str, question: str, path: str = _PATH, **more: Any) -> Answer:
    return post(server.port, path, server.api_key, json.dumps(asked(model, question, **more)).encode())


def asked(model: str, question: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": question}]} | more


def record_of(number: int, model: str, status: Status = "finished", error: str = "") -> UsageRecord:
    usage = Usage(0 if status == "refused" else 2)
    return UsageRecord("org", str(number), 0, 1, "key", model, _PATH, status, error, usage=usage)


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
    ask(watched, "echo", "Hello there")
    [charge] = watched.charges()
    lines = read(watched).text.splitlines()

    assert 'leadline_requests_total{model="echo",status="finished"} 1' in lines
    assert f'leadline_charged_ticks_total{{model="echo"}} {-charge.amount_ticks}' in lines
    assert 'leadline_running_requests{model="large",engine="the \\"large\\" one"} 0' in lines


def test_what_is_refused_is_counted_too(watched: ScriptedServer) -> None:
    watched.engine.ready = False
    ask(watched, "echo", "Hello there")
    lines = read(watched).text.splitlines()

    assert 'leadline_requests_total{model="echo",status="refused"} 1' in lines
    assert f'leadline_request_errors_total{{model="echo",endpoint="{_PATH}",error="unavailable"}} 1' in lines
    assert not any(line.startswith("gen_ai") for line in lines)


def test_it_is_text_as_prometheus_reads_it(watched: ScriptedServer) -> None:
    ask(watched, "echo", "Hello there", stream=True)
    answer = read(watched)
    families = {family.name: family.type for family in text_string_to_metric_families(answer.text)}

    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.text.endswith("\n")
    assert "unknown" not in families.values()
    assert families["leadline_database_commit_seconds"] == "histogram"
    assert {name for name, kind in families.items() if kind == "histogram" and name.startswith("gen_ai")} == {
        "gen_ai_client_token_usage",
        "gen_ai_server_request_duration_seconds",
        "gen_ai_server_time_to_first_token_seconds",
        "gen_ai_server_time_per_output_token_seconds",
    }


def test_histograms_and_counters_say_what_the_usage_records_say(watched: ScriptedServer) -> None:
    """Streams and whole answers that finish, fail and are refused, at several endpoints."""
    for question in ("One", "One two three four", "One two"):
        ask(watched, "echo", question, stream=True)
        ask(watched, "echo", question)
    ask(watched, "weather", "Hello there")
    ask(watched, "broken-before", "Hello there")
    ask(watched, "broken-after", "Hello there", stream=True)
    ask(watched, "echo", "Hello there", path="/v1/messages", max_tokens=1)
    watched.engine.ready = False
    ask(watched, "echo", "Hello there")
    watched.run(watched.instance.ledger.tick())
    rows = watched.run(watched.instance.database.rows(_RECORDS))
    ended = [row for row in rows if row[2] != "refused"]
    charged = [row for row in ended if row[4]]
    streams = [row for row in ended if row[8] and row[2] == "finished"]
    families = list(text_string_to_metric_families(read(watched).text))

    def summed(name: str, *labels: str, **only: str) -> Counter[tuple[str, ...]]:
        counted = Counter[tuple[str, ...]]()
        for sample in (sample for family in families for sample in family.samples):
            if sample.name == name and only.items() <= sample.labels.items():
                counted[tuple(sample.labels[label] for label in labels)] += sample.value
        return counted

    seconds, per_token = "gen_ai_server_request_duration_seconds", "gen_ai_server_time_per_output_token_seconds"
    first_token, places = "gen_ai_server_time_to_first_token_seconds", ("gen_ai_request_model", "endpoint")
    assert Counter(row[2] for row in rows) == {"finished": 8, "failed": 1, "interrupted": 1, "refused": 1}
    assert summed("leadline_requests_total", "model", "status") == Counter((row[0], row[2]) for row in rows)
    assert summed("leadline_request_errors_total", "error") == Counter((row[3],) for row in rows if row[3])
    assert summed(f"{seconds}_count", *places, "status") == Counter(row[:3] for row in ended)
    assert summed(f"{seconds}_sum")[()] == pytest.approx(sum(row[7] for row in ended) / 1000)
    for kind, tokens in (("input", 4), ("output", 5)):
        assert summed("gen_ai_client_token_usage_count", gen_ai_token_type=kind)[()] == len(charged)
        assert summed("gen_ai_client_token_usage_sum", gen_ai_token_type=kind)[()] == sum(
            row[tokens] for row in charged
        )
    assert summed(f"{first_token}_count")[()] == len(streams) == 3
    assert summed(f"{first_token}_sum")[()] == pytest.approx(sum(row[6] for row in streams) / 1000)
    assert summed(f"{per_token}_count")[()] == len([row for row in streams if row[5] > 1]) == 2


def test_a_stream_that_runs_is_an_open_one(watched: ScriptedServer) -> None:
    connection = open_post(watched.port, _PATH, watched.api_key, asked("large", "Hello", stream=True))
    connection.read_until(b"data: ")
    during = read(watched).text
    watched.loop.call_soon_threadsafe(watched.engine.release.set)
    connection.read_to_end()
    watched.wait_until(lambda: watched.instance.activity.running("large") == 0)

    assert _OPEN + " 1" in during.splitlines()
    assert _OPEN + " 0" in read(watched).text.splitlines()


async def test_a_commit_is_timed_and_what_wrote_nothing_or_was_refused_is_not(tmp_path: Path) -> None:
    database = Database(tmp_path / "a.db")
    counts = []
    try:
        for statement in (
            "UPDATE facts SET value = value",
            "UPDATE facts SET value = value WHERE 1 = 0",
            "UPDATE nothing SET a = 1",
        ):
            with suppress(DatabaseUnusable):
                await database.commit(Write(statement, rows=None))
            counts.append(sum(database.commits.counts))
    finally:
        await database.close()

    assert counts == [1, 1, 1]


def test_a_value_is_counted_at_the_first_bound_that_it_does_not_exceed() -> None:
    histogram = Histogram((10, 20))
    for value in (0, 10, 10.5, 20, 21):
        histogram.add(value)
    text = Exposition()
    text.histogram("a_seconds", histogram, {"b": "c"}, per_unit=10)

    assert text.lines == [
        'a_seconds_bucket{b="c",le="1"} 2',
        'a_seconds_bucket{b="c",le="2"} 4',
        'a_seconds_bucket{b="c",le="+Inf"} 5',
        'a_seconds_sum{b="c"} 6.15',
        'a_seconds_count{b="c"} 5',
    ]


def test_nothing_of_organisations_and_keys_is_in_them(watched: ScriptedServer) -> None:
    text = read(watched).text

    assert watched.organisation_id not in text
    assert "first-key" not in text


def test_however_many_models_and_errors_there_are_there_are_never_too_many_series() -> None:
    totals = Totals()
    for number in range(MOST_PLACES + 50):
        totals.add(record_of(number, f"model-{number}"), 7)
    for number in range(MOST_ENDS + 50):
        totals.add(record_of(number, "model-1", status="refused", error=f"error-{number}"), 0)

    others = totals.places[Place(OTHERS, OTHERS)]
    assert (len(totals.places), others.cost_ticks, others.tokens[0]) == (MOST_PLACES + 1, 50 * 7, 50 * 2)
    assert len(totals.ends) <= MOST_ENDS + 1
    assert sum(ended.requests for ended in totals.ends.values()) == MOST_PLACES + MOST_ENDS + 100

"""The pages of rate limits and of models: they say what the API says."""

import asyncio
import html
import json
import re
from collections.abc import Iterator
from dataclasses import replace

import httpx2
import pytest

from leadline.accounts.actor import COMMAND_LINE
from leadline.accounts.api_key import KeyOptions
from leadline.clock import MICROSECONDS_PER_DAY
from leadline.config import Limit
from leadline.console.model_view import state_of
from leadline.engines.engine import EngineStatus
from leadline.money import Ticks
from tests.console.history import MODELS, configured
from tests.console.organisation import People
from tests.console.visitor import Visitor, text_of
from tests.raw import post
from tests.scripted.server import ScriptedServer

# It uses all that it may, so that its headers, which leave before it ends, tell what was used.
BODY = b'{"model": "echo", "messages": [{"role": "user", "content": "one two three"}], "max_tokens": 3}'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedServer]:
    server = configured(tmp_path_factory.mktemp("models") / "data")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def people(server: ScriptedServer) -> Iterator[People]:
    people = People(server)
    yield people
    people.leave()


@pytest.fixture(scope="module")
def alice(people: People) -> Visitor:
    return people.owner()


@pytest.fixture
def still(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """No room comes back while a test looks."""
    now = server.pipeline.limiter.clock()
    monkeypatch.setattr(server.pipeline.limiter, "clock", lambda: now)


def new_key(server: ScriptedServer, name: str, limit: Limit) -> str:
    async def made() -> str:
        options = replace(KeyOptions(name), limit=limit)
        return (await server.instance.keys.create(server.organisation_id, options, COMMAND_LINE))[1]

    return server.run(made())


def meters(page: str, whose: str) -> dict[str, tuple[int, int]]:
    """Used of its limit, by the limit's name, as the page tells it of a model or a key."""
    found = re.findall(rf'aria-label="{re.escape(whose)}, ([^:"]+): (\d+) of (\d+)"', page)
    return {name: (int(used), int(limit)) for name, used, limit in found}


# ---- Rate limits ----


@pytest.mark.usefixtures("still")
def test_limits_stand_as_the_headers_of_an_answer_tell(server: ScriptedServer, alice: Visitor) -> None:
    for _ in range(3):
        headers = post(server.port, "/v1/chat/completions", server.api_key, BODY).headers
    page = alice.get("/limits").text
    shown = meters(page, "echo")

    for kind, name in (("requests", "Requests per Minute"), ("tokens", "Tokens per Minute")):
        used, limit = shown[name]
        assert limit == int(headers[f"x-ratelimit-limit-{kind}"])
        assert limit - used == int(headers[f"x-ratelimit-remaining-{kind}"])
        assert used > 0
    assert meters(page, "phi-4")["Requests per Minute"] == (0, 480)
    assert meters(alice.get("/limits").text, "echo") == shown


@pytest.mark.usefixtures("still")
def test_a_key_has_its_own_limits_beside_those_of_models(server: ScriptedServer, alice: Visitor) -> None:
    secret = new_key(server, "narrow", Limit(requests_per_minute=7, tokens_per_minute=0, concurrent_requests=3))
    before = meters(alice.get("/limits").text, "narrow")
    headers = post(server.port, "/v1/chat/completions", secret, BODY).headers
    after = meters(alice.get("/limits").text, "narrow")

    assert before == {"Requests per Minute": (0, 7), "Concurrent Requests": (0, 3)}
    assert after == {"Requests per Minute": (1, 7), "Concurrent Requests": (0, 3)}
    assert int(headers["x-ratelimit-remaining-requests"]) == 6


@pytest.mark.usefixtures("still")
def test_of_very_many_keys_those_nearest_to_a_limit_are_shown(
    server: ScriptedServer, alice: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leadline.console.pages.limits._MOST_KEYS", 1)
    new_key(server, "idle", Limit(requests_per_minute=100, tokens_per_minute=0))
    secret = new_key(server, "busy-one", Limit(requests_per_minute=1, tokens_per_minute=0))
    before = text_of(alice.get("/limits"))
    post(server.port, "/v1/chat/completions", secret, BODY)
    page = alice.get("/limits")

    assert "busy-one" not in before
    assert meters(page.text, "busy-one") == {"Requests per Minute": (1, 1)}
    assert meters(page.text, "idle") == {}
    assert "more keys are further from their limits" in text_of(page)


def test_what_was_refused_is_counted_by_the_hour_and_looks_as_the_page_says(
    server: ScriptedServer, alice: Visitor
) -> None:
    secret = new_key(server, "tiny", Limit(requests_per_minute=1, tokens_per_minute=0))
    answers = [post(server.port, "/v1/chat/completions", secret, BODY) for _ in range(3)]
    asyncio.run_coroutine_threadsafe(server.instance.ledger.write_noted(), server.loop).result(30)
    page = alice.get("/limits")

    assert [one.status for one in answers] == [200, 429, 429]
    hours = re.search(r"by hour: ([\d, ]+)\"", page.text)
    assert hours is not None
    counts = [int(count) for count in hours[1].split(", ")]
    assert (len(counts), sum(counts), sum(counts[-2:])) == (24, 2, 2)
    assert "rate limited" in text_of(alice.get("/log?status=rate+limited"))
    refusal = html.unescape(page.text.partition('aria-label="429"')[2].partition("<code>")[2].partition("</code>")[0])
    head, _, body = refusal.partition("\n\n")
    real = answers[-1]
    told = json.loads(real.body)
    assert json.loads(body).keys() == told.keys()
    assert json.loads(body)["error"] | {"message": ""} == told["error"] | {"message": ""}
    assert {line.partition(":")[0] for line in head.splitlines()[1:]} <= real.headers.keys()


# ---- Models ----


def test_the_page_lists_what_the_api_lists(server: ScriptedServer, alice: Visitor) -> None:
    answer = httpx2.get(f"{server.base_url}/v1/models", headers={"authorization": f"Bearer {server.api_key}"})
    listed = [one["id"] for one in answer.json()["data"]]
    page = alice.get("/models").text

    assert re.findall(r'<strong><a href="/models/[^"]+">([^<]+)</a></strong>', page) == listed
    assert set(MODELS) < set(listed)
    for name in listed:
        assert f"<h1>{name}</h1>" in alice.get(f"/models/{name}").text


def test_a_model_is_found_by_its_other_names(alice: Visitor) -> None:
    assert alice.get("/models/phi-4-latest").text == alice.get("/models/phi-4").text
    assert "phi-4-latest" in text_of(alice.get("/models"))
    assert alice.get("/models/never-was").status_code == 404


def test_prices_are_those_of_now_and_those_to_come(server: ScriptedServer, alice: Visitor) -> None:
    async def raise_price() -> None:
        book = server.instance.prices
        later = replace(book.at("llama-3.3-70b", book.clock()), output=Ticks(123_400))
        await book.record("llama-3.3-70b", later, book.clock() + 9 * MICROSECONDS_PER_DAY, "command", COMMAND_LINE)

    before = text_of(alice.get("/models/llama-3.3-70b"))
    server.run(raise_price())
    after, listed = text_of(alice.get("/models/llama-3.3-70b")), alice.get("/models").text

    assert "Output $8.00 $8.00" in before
    assert "Now, prompts of 900 tokens or more" in before
    assert "Input $3.25 $9.50 $3.25 $9.50" in after
    assert "Output $8.00 $8.00 $12.34 $12.34" in after
    assert listed.count("changes <time") == 1


@pytest.mark.parametrize(
    ("status", "word", "kind", "detail"),
    [
        (EngineStatus(ready=True, detail="answers at home"), "ready", "good", "Answers at home"),
        (EngineStatus(ready=False, detail="it does not answer"), "unavailable", "bad", "It does not answer"),
        (EngineStatus(ready=True, detail="runs", state="loaded"), "ready", "good", "Runs"),
        (EngineStatus(ready=True, detail="x", state="unloaded"), "asleep", "", "It loads with the next request."),
        (EngineStatus(ready=False, detail="no room", state="unloaded"), "asleep", "", "No room"),
        (EngineStatus(ready=False, detail="x", state="loading", loaded_percent=40), "loading, 40%", "warn", "X"),
        (EngineStatus(ready=False, detail="x", state="restarting"), "restarting", "warn", "X"),
        (
            EngineStatus(ready=False, detail="the file is damaged", state="failed"),
            "failed",
            "bad",
            "The file is damaged",
        ),
    ],
)
def test_what_an_engine_does_is_said_in_a_word_with_the_reason(
    status: EngineStatus, word: str, kind: str, detail: str
) -> None:
    state = state_of(status)

    assert (state.word, state.kind, state.detail) == (word, kind, detail)


def test_a_model_that_is_not_ready_says_so(
    server: ScriptedServer, alice: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.engine, "ready", False)

    assert "unavailable Loading" in text_of(alice.get("/models"))
    assert "unavailable Loading" in text_of(alice.get("/models/echo"))


def test_who_may_not_use_the_playground_is_not_sent_there(people: People, alice: Visitor) -> None:
    viewer = people.member("viewer")

    assert 'href="/playground?model=phi-4"' in alice.get("/models/phi-4").text
    assert 'href="/playground?model=nomic' not in alice.get("/models/nomic-embed-text").text
    assert "/playground?" not in viewer.get("/models").text + viewer.get("/models/phi-4").text
    assert "Pull a model" in text_of(alice.get("/models"))
    assert "Pull a model" not in text_of(viewer.get("/models"))


@pytest.mark.parametrize(("model", "found"), [("nomic-embed-text", '"embedding"'), ("phi-4", '"content":"Hello"')])
async def test_the_curl_of_a_model_s_page_runs(
    server: ScriptedServer, alice: Visitor, monkeypatch: pytest.MonkeyPatch, model: str, found: str
) -> None:
    monkeypatch.setattr(server.instance, "base_url", server.base_url)
    page = alice.get(f"/models/{model}").text
    curl = html.unescape(page.partition('aria-label="curl"')[2].partition("<code>")[2].partition("</code>")[0])
    process = await asyncio.create_subprocess_exec(
        *("bash", "-euc", curl),
        env={"XAI_API_KEY": server.api_key, "PATH": "/usr/bin:/bin"},
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, _ = await process.communicate()

    assert process.returncode == 0
    assert found in out.decode()

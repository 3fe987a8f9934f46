"""What was used, after a mix of requests of every kind over real HTTP: each has its record, all sums agree with what
the answers told, and nothing that was said is written down."""

import json
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from leadline.chat.request import ChatRequest
from leadline.errors import EngineFailed
from leadline.operations.logs import start_logging
from tests.raw import Answer, Raw, head, parse
from tests.scripted.engine import SCRIPTS, Stall, Step, echo
from tests.scripted.server import EMAIL, ScriptedServer

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
PROMPT, CACHED, OUTPUT = 10_000, 5_000, 20_000
BOB = "bob@southwind.example"
# Said in every prompt, and by the engine in every answer.
SAID = ("quagga", "okapi", "axolotl")
CONFIGURATION = """
[[engines]]
name = "scripted"
kind = "openai"
url = "http://127.0.0.1:9/v1"
[[models]]
name = "gift"
engine = "scripted"
upstream_model = "echo"
"""
TOKENS = ("prompt_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")
COUNTED = ("requests", "failed", "refused", *TOKENS, "image_tokens", "cost_ticks")


def says_all_and_stalls(request: ChatRequest) -> Iterable[Step]:
    *steps, last = echo(request)
    return *steps, Stall(), last


def says_all_and_breaks(request: ChatRequest) -> Iterable[Step]:
    *steps, _ = echo(request)
    return *steps, EngineFailed("The engine broke.")


@dataclass(frozen=True)
class Expected:
    """What the record of one request must hold. `tokens` in the order of TOKENS."""

    key: str
    model: str
    endpoint: str
    streamed: bool
    status: str
    error: str = ""
    tokens: tuple[int, int, int, int] = (0, 0, 0, 0)
    cost_ticks: int = 0
    has_first_token: bool = True


@dataclass
class Mix:
    """Sends the requests, and knows what must be on record of each and what the answers told."""

    server: ScriptedServer
    keys: dict[str, str]
    expected: list[Expected] = field(default_factory=list)
    ids: dict[str, Expected] = field(default_factory=dict)
    told: list[dict[str, int]] = field(default_factory=list)

    def open(self, key: str, path: str, body: dict[str, Any], **headers: str) -> Raw:
        raw, encoded = Raw(self.server.port), json.dumps(body).encode()
        headers = {"content_type": "application/json"} | headers
        raw.send(head(path, self.keys[key], len(encoded), **headers) + encoded)
        return raw

    def finished(self, key: str, path: str, body: dict[str, Any], *tokens: int, **headers: str) -> None:
        answer = parse(self.open(key, path, body, **headers).read_to_end())
        assert answer.status == 200, answer.body
        self.told.append(usage_told(answer, body))
        cost = 0 if body["model"] == "gift" else cost_of(*tokens)
        self._expect(answer, Expected(key, body["model"], path, body["stream"], "finished", "", tokens, cost))

    def interrupted(self, key: str, path: str, body: dict[str, Any], *tokens: int) -> None:
        """The client hangs up once it has all words of a stream, or while a whole answer is made."""
        raw = self.open(key, path, body)
        self.server.wait_until(lambda: self.server.engine.running == 1)
        answer = parse(raw.read_until(SAID[-1].encode())) if body["stream"] else None
        raw.hang_up()
        self.server.wait_until(lambda: not self.server.instance.ledger.running())
        expected = (key, body["model"], path, body["stream"], "interrupted", "", tokens, cost_of(*tokens))
        self._expect(answer, Expected(*expected))

    def failed(self, key: str, path: str, body: dict[str, Any], error: str, *tokens: int, first_token: bool) -> None:
        """What a stream has delivered before it failed is charged."""
        answer = parse(self.open(key, path, body).read_to_end())
        assert answer.status == (200 if tokens else 500 if error == "internal_error" else 502)
        self.server.wait_until(lambda: not self.server.instance.ledger.running())
        tokens, status = (tokens, "interrupted") if tokens else ((0, 0, 0, 0), "failed")
        expected = (key, body["model"], path, body["stream"], status, error, tokens, cost_of(*tokens), first_token)
        self._expect(answer, Expected(*expected))

    def refused(self, key: str, path: str, body: dict[str, Any], status: int, error: str) -> None:
        answer = parse(self.open(key, path, body).read_to_end())
        assert answer.status == status, answer.body
        self._expect(
            answer, Expected(key, body["model"], path, body["stream"], "refused", error, has_first_token=False)
        )

    def unrecorded(self, key: str, path: str, body: dict[str, Any], status: int) -> None:
        assert parse(self.open(key, path, body).read_to_end()).status == status

    def _expect(self, answer: Answer | None, expected: Expected) -> None:
        self.expected.append(expected)
        if answer is not None:
            self.ids[answer.headers["x-request-id"]] = expected

    def of(self, key_names: Iterable[str]) -> list[Expected]:
        return [expected for expected in self.expected if expected.key in key_names]


def cost_of(prompt: int, cached: int, output: int, reasoning: int) -> int:
    return (prompt - cached) * PROMPT + cached * CACHED + (output + reasoning) * OUTPUT


def ask(model: str, *, stream: bool = False, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": " ".join(SAID)}]
    return {"model": model, "max_tokens": 100, "stream": stream, "messages": messages} | more


def usage_told(answer: Answer, body: dict[str, Any]) -> dict[str, int]:
    """The usage that a whole answer or a stream told, in the words of a record."""
    if not body["stream"]:
        usage = answer.json["usage"]
    else:
        lines = [line for line in answer.body.splitlines() if line.startswith(b"data: {")]
        *_, usage = (told for line in lines if (told := json.loads(line.removeprefix(b"data: ")).get("usage")))
    if "input_tokens" not in usage:
        return {
            "prompt_tokens": usage["prompt_tokens"],
            "cached_tokens": usage["prompt_tokens_details"]["cached_tokens"],
            "output_tokens": usage["completion_tokens"],
            "reasoning_tokens": usage["completion_tokens_details"]["reasoning_tokens"],
            "cost_ticks": usage["cost_in_usd_ticks"],
        }
    cached = usage["cache_read_input_tokens"]
    return {
        "prompt_tokens": usage["input_tokens"] + cached,
        "cached_tokens": cached,
        "output_tokens": usage["output_tokens"],  # reasoning is inside
        "reasoning_tokens": 0,
        "cost_ticks": usage["cost_in_usd_ticks"],
    }


@pytest.fixture(scope="module")
def mix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mix]:
    """All requests, once for all tests, which only read."""
    data = tmp_path_factory.mktemp("usage") / "data"
    data.mkdir()
    (data / "leadline.toml").write_text(CONFIGURATION)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    listener = start_logging(data / "logs")
    scripts = {"stalls": says_all_and_stalls, "breaks": says_all_and_breaks}
    server = ScriptedServer(data, scripts=SCRIPTS | scripts)
    try:
        mix = Mix(server, _keys(server))
        for path in (CHAT, MESSAGES):
            for stream in (False, True):
                _send(mix, path, stream=stream)
        _send_to_chat_only(mix)
        server.run(server.pipeline.running.tick())  # refused ones are noted now and then
        yield mix
    finally:
        server.stop()
        listener.stop()
        for handler in listener.handlers:
            handler.close()
        root.handlers[:] = handlers
        root.setLevel(level)


def _keys(server: ScriptedServer) -> dict[str, str]:
    server.command("accounts create", email=BOB, org="Southwind", password="battery staple")
    keys = {"alice": server.api_key, "poor": server.command("keys create", name="poor", email=BOB)["api_key"]}
    scoped = {
        "busy": {"requests_per_minute": 1},
        "capped": {"cap": "0.0001/day"},
        "for models": {"endpoints": ["models"]},
        "for weather": {"models": ["weather"]},
    }
    for name, options in scoped.items():
        keys[name] = server.command("keys create", name=name, email=EMAIL, options=options)["api_key"]
    return keys


def _send(mix: Mix, path: str, *, stream: bool) -> None:
    mix.finished("alice", path, ask("echo", stream=stream), 3, 0, 3, 0)
    mix.finished("alice", path, ask("echo", stream=stream, max_tokens=2), 3, 0, 2, 0)
    mix.finished("for weather", path, ask("weather", stream=stream), 3, 2, 5, 2)
    mix.finished("alice", path, ask("gift", stream=stream), 3, 0, 3, 0)
    mix.interrupted("alice", path, ask("stalls", stream=stream), 3, 0, 3, 0)
    mix.failed("alice", path, ask("broken-before", stream=stream), "engine_failed", first_token=False)
    mix.failed("alice", path, ask("broken-in-prompt", stream=stream), "engine_failed", first_token=False)
    delivered = (3, 0, 3, 0) if stream else ()
    mix.failed("alice", path, ask("breaks", stream=stream), "engine_failed", *delivered, first_token=True)
    mix.failed("alice", path, ask("crash", stream=stream), "internal_error", first_token=False)
    mix.refused("poor", path, ask("echo", stream=stream), 429 if path == CHAT else 402, "insufficient_credits")
    mix.refused("capped", path, ask("echo", stream=stream), 429 if path == CHAT else 402, "key_cap_spent")
    mix.refused("for models", path, ask("echo", stream=stream), 403, "permission_denied")
    mix.refused("for weather", path, ask("echo", stream=stream), 403, "permission_denied")
    long = [{"role": "user", "content": " ".join(SAID) + " word" * 1000}]
    mix.refused("alice", path, ask("echo", stream=stream, messages=long), 400, "invalid_request")
    mix.unrecorded("alice", path, ask("no-such-model", stream=stream), 404)
    mix.unrecorded("alice", path, ask("echo", stream=stream, max_tokens=-1), 400)


def _send_to_chat_only(mix: Mix) -> None:
    mix.finished("alice", CHAT, ask("echo", n=3), 3, 0, 9, 0)
    mix.finished("alice", CHAT, ask("echo", n=2, stream=True), 3, 0, 6, 0)
    mix.finished("busy", CHAT, ask("echo"), 3, 0, 3, 0)
    mix.refused("busy", CHAT, ask("echo"), 429, "rate_limited")
    mix.server.engine.ready = False
    mix.refused("alice", CHAT, ask("echo"), 503, "unavailable")
    mix.server.engine.ready = True
    mix.finished("alice", CHAT, ask("echo", stream=True), 3, 0, 3, 0, idempotency_key="order-1")
    again = ask("echo", stream=True)
    assert b"idempotent-replayed: true" in mix.open("alice", CHAT, again, idempotency_key="order-1").read_to_end()


def records(mix: Mix, email: str = EMAIL) -> list[dict[str, Any]]:
    return list(mix.server.command("usage log", limit=1000, before=None, email=email)["records"])


def as_expected(mix: Mix, record: dict[str, Any]) -> Expected:
    key = next(name for name, text in mix.keys.items() if text[3:11] == record["key_id"])
    return Expected(
        *(key, record["model"], record["endpoint"], record["streamed"], record["status"], record["error"]),
        *(tuple(record[name] for name in TOKENS), record["cost_ticks"]),
        has_first_token=record["first_token_milliseconds"] is not None,
    )


def test_every_request_has_one_record_that_says_how_it_ended_and_what_it_used(mix):
    alices, bobs = records(mix), records(mix, BOB)
    assert Counter(as_expected(mix, record) for record in alices + bobs) == Counter(mix.expected)
    assert {record["request_id"] for record in alices + bobs} >= mix.ids.keys()
    for record in alices + bobs:
        if record["request_id"] in mix.ids:
            assert as_expected(mix, record) == mix.ids[record["request_id"]]


def test_an_organisations_log_holds_only_its_own_requests(mix):
    assert {record["key_name"] for record in records(mix, BOB)} == {"poor"}
    assert "poor" not in {record["key_name"] for record in records(mix)}


def test_the_times_of_a_record_are_in_order(mix):
    for record in records(mix):
        assert record["began_at"] <= record["at"]
        if record["status"] == "refused":
            assert record["total_milliseconds"] == 0
        if (first := record["first_token_milliseconds"]) is not None:
            assert 0 <= first <= record["total_milliseconds"]


def test_what_the_answers_told_is_what_is_on_record_and_in_the_ledger(mix):
    finished = [record for record in records(mix) if record["status"] == "finished"]
    assert len(finished) == len(mix.told)
    for name in ("prompt_tokens", "cached_tokens", "cost_ticks"):
        assert sum(told[name] for told in mix.told) == sum(record[name] for record in finished)
    for words in (mix.told, finished):
        assert sum(told["output_tokens"] + told["reasoning_tokens"] for told in words) == sum(
            expected.tokens[2] + expected.tokens[3] for expected in mix.expected if expected.status == "finished"
        )
    interrupted = sum(expected.cost_ticks for expected in mix.expected if expected.status == "interrupted")
    told = sum(told["cost_ticks"] for told in mix.told)
    assert told + interrupted == -sum(charge.amount_ticks for charge in mix.server.charges())


def test_every_request_that_was_used_has_one_charge_a_free_one_of_nothing_and_no_other_has(mix):
    charges = mix.server.charges()
    used = [record for record in records(mix) if record["status"] in ("finished", "interrupted")]
    assert sorted((charge.request_id, -charge.amount_ticks, charge.model) for charge in charges) == sorted(
        (record["request_id"], record["cost_ticks"], record["model"]) for record in used
    )
    assert [charge.amount_ticks for charge in charges if charge.model == "gift"] == [0] * 4
    balance = mix.server.balance()
    assert (balance.balance_ticks, balance.held_ticks) == (10**10 + sum(c.amount_ticks for c in charges), 0)


@pytest.mark.parametrize("by", ["key", "model", "endpoint", "day", "hour"])
def test_the_sums_by_whatever_are_those_of_the_records(mix, by):
    usage = mix.server.command("usage", by=by, since=None, until=None, email=EMAIL)
    sums: dict[str, Counter[str]] = defaultdict(Counter)
    for record in records(mix):
        group = {
            "key": record["key_id"],
            "model": record["model"],
            "endpoint": record["endpoint"],
            "day": record["at"][:10],
            "hour": f"{record['at'][:13]}:00:00.000Z",
        }[by]
        sums[group].update({name: record[name] for name in COUNTED if name in record})
        sums[group].update(requests=1, failed=record["status"] == "failed", refused=record["status"] == "refused")
    assert {row["group"]: {name: row[name] for name in COUNTED} for row in usage["rows"]} == {
        group: {name: counts[name] for name in COUNTED} for group, counts in sums.items()
    }
    assert usage["total"]["cost_ticks"] == -sum(charge.amount_ticks for charge in mix.server.charges())


@pytest.mark.parametrize("by", ["key", "model"])
def test_the_ledgers_entries_sum_to_the_same_by_key_and_model(mix, by):
    usage = mix.server.command("usage", by=by, since=None, until=None, email=EMAIL)
    spent: Counter[str] = Counter()
    for charge in mix.server.charges():
        spent[str(charge.key_id if by == "key" else charge.model)] -= charge.amount_ticks
    assert {row["group"]: row["cost_ticks"] for row in usage["rows"] if row["cost_ticks"]} == +spent


def test_the_books_add_up(mix):
    verified = mix.server.command("credits verify")
    assert (verified["ok"], verified["broken"]) == (True, [])
    assert verified["checked"] == len(mix.server.charges()) + 1


def test_nothing_that_was_said_is_in_the_books_the_records_or_the_log(mix):
    tables = ("entries", "usage_records", "usage_hours", "usage_days", "holds", "replays", "facts")
    rows = [
        row for table in tables for row in mix.server.run(mix.server.instance.database.rows(f"SELECT * FROM {table}"))
    ]
    written = {"rows": repr(rows).encode()}
    written |= {str(path): path.read_bytes() for path in mix.server.data.rglob("*") if path.is_file()}
    [log] = [content for path, content in written.items() if path.endswith("leadline.log")]
    assert log.count(b'"leadline.access"') >= len(mix.expected)
    assert b"a request failed" in log
    for where, content in written.items():
        for word in (*SAID, "order-1", *mix.keys.values()):
            assert word.encode() not in content, f"{word} is in {where}"

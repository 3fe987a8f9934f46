"""Thousands of requests with something wrong in them: each is taken or refused in its dialect's own words, none is a
fault of ours, and what is refused costs nothing and never reaches an engine."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from leadline.chat.request import ChatRequest
from leadline.engines.format.family import HERMES
from leadline.engines.format.grammar import call_grammar, schema_grammar
from leadline.errors import InvalidRequest
from tests.conformance.grammar.answers import check_refusal
from tests.faults.mutants import Mutant, mutant
from tests.proof import count, keep
from tests.raw import Answer, Raw, parse, request
from tests.scripted.engine import SCRIPTS, ScriptedEngine, Step, echo
from tests.scripted.server import ScriptedServer

pytestmark = pytest.mark.slow

# Words of libraries, and of our inside.
FOREIGN = re.compile(
    rb"msgspec|Traceback|Expected `|Object (missing|contains)|Invalid (enum )?value|JSONDecode|codec can't|\.py\b"
    rb"|line \d+, in|ValidationError|TypeError|KeyError|AttributeError|WireMessage|CountBody|<class|object at 0x"
    rb"|NoneType|starlette|uvicorn|apsw|SQLite|Errno|/home/|site-packages"
    rb"|(must be|, not|or) (str|int|float|bool|array|object)\b"
)
# What is wrong with no single field.
OF_THE_WHOLE = re.compile("The body has more than|The body is nested|This model's context is")
# Refusals that nothing here may meet: it has all credits, and no limits.
REFUSALS = (400, 401, 404, 405, 409, 413, 415)


def schema(request: ChatRequest) -> Iterable[Step]:
    """Builds the grammars that an embedded engine would build."""
    try:
        if request.json_format is not None and request.json_format.schema is not None:
            schema_grammar(request.json_format.schema)
        if request.tools:
            call_grammar(request.tools, HERMES.syntax, parallel=True)
    except InvalidRequest as error:
        yield error
        return
    yield from echo(request)


@pytest.fixture
def sturdy(tmp_path: Path) -> Iterator[ScriptedServer]:
    (tmp_path / "data").mkdir()
    limits = "[limits.default]\nrequests_per_minute = 0\ntokens_per_minute = 0\n"
    (tmp_path / "data" / "leadline.toml").write_text(limits)
    scripts, eyes = {"echo": SCRIPTS["echo"], "embed": SCRIPTS["embed"]}, ScriptedEngine({"eyes": echo})
    engines = {"eyes": eyes, "schema": ScriptedEngine({"schema": schema})}
    server = ScriptedServer(tmp_path / "data", usd="1000000", scripts=scripts, engines=engines, like_serve=True)
    yield server
    server.stop()


def test_whatever_is_wrong_with_a_request_is_refused_in_its_dialect_and_costs_nothing(sturdy):
    rounds = count(2_000, 20_000)
    found = run(sturdy, rounds)
    figures = {"wrong": len(found.wrong), "statuses": dict(sorted(found.statuses.items())), "kinds": dict(found.kinds)}
    keep("malformed", rounds=rounds, **figures)
    assert not found.wrong, "\n".join([f"{len(found.wrong)} of {rounds}", *found.wrong[:40]])
    assert {entry.request_id for entry in sturdy.charges()} == found.paid
    assert sturdy.balance().held_ticks == 0
    assert sturdy.command("credits verify")["ok"]
    assert request(sturdy.port, "GET", "/health/ready").status == 200
    # Some are rare.
    assert rounds < 2_000 or min(found.statuses[status] for status in (200, *REFUSALS)) > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "bug", "found"),
    [
        ("leadline.dialects.openai.decode.stops_of", lambda body: (body.stop or "").split(), "may not be: 500"),
        ("leadline.web.strict_json._object", dict, "should be refused: 200"),
        ("leadline.web.strict_json._words", lambda types: types, "foreign words"),
        ("leadline.web.strict_json._in_words", lambda *_: InvalidRequest("No."), "does not name"),
    ],
    ids=["a type that nobody checked", "a key that comes twice", "a library's words", "a refusal that names nothing"],
)
def test_a_planted_bug_is_found(sturdy, monkeypatch, where, bug, found):
    monkeypatch.setattr(where, bug)
    assert found in "\n".join(run(sturdy, 300).wrong)


@dataclass
class Found:
    """`paid` are the requests whose answers told a cost."""

    wrong: list[str] = field(default_factory=list)
    paid: set[str] = field(default_factory=set)
    statuses: Counter[int] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)


def run(server: ScriptedServer, rounds: int) -> Found:
    found = Found()
    for number in range(rounds):
        one = mutant(number)
        what = f"{number} {one.kind} {one.method} {one.path[:60]}"
        before = len(server.engine.requests)
        try:
            answer = send(server, one)
        except Exception as fault:
            found.wrong.append(f"{what} {one.headers}: no answer: {fault!r}")
            continue
        found.statuses[answer.status] += 1
        found.kinds[one.kind] += 1
        found.wrong += [f"{what}: {fault}" for fault in faults(one, answer)]
        if answer.status >= 400 and len(server.engine.requests) != before:
            found.wrong.append(f"{what}: the engine was asked, and then it was a {answer.status}")
        if answer.body.startswith(b'{"request_id"'):
            server.wait_until(lambda: not held(server))
            found.paid.add(answer.headers["x-request-id"])
        if answer.status < 300 and one.method == "POST" and b"cost_in_usd_ticks" in answer.body:
            found.paid.add(answer.headers["x-request-id"])
        if number % 500 == 499:
            server.listener.check()
    return found


def held(server: ScriptedServer) -> int:
    return server.instance.ledger.balance(server.organisation_id).held_ticks


def send(server: ScriptedServer, one: Mutant) -> Answer:
    raw = Raw(server.port)
    with suppress(BrokenPipeError, ConnectionResetError):  # it may be refused before all of it was sent
        raw.send(one.raw(server.api_key))
    return parse(raw.read_to_end())


def faults(one: Mutant, answer: Answer) -> Iterator[str]:
    """What is wrong with an answer."""
    told = f"{answer.status} {answer.body[:300]!r} to {(one.body or b'')[:1500]!r}"
    if answer.status >= 500 or (answer.status >= 400 and answer.status not in REFUSALS):
        yield f"may not be: {told}"
    if one.must == "refused" and answer.status < 400:
        yield f"should be refused: {told}"
    if one.must == "taken" and answer.status >= 400:
        yield f"should be taken: {told}"
    if answer.status < 400:
        return
    if answer.body == b"Invalid HTTP request received." and not one.path.isascii():
        return  # it is no HTTP, so no dialect has seen it
    if one.method != "HEAD":
        if foreign := FOREIGN.search(answer.body):
            yield f"foreign words {foreign[0]!r}: {told}"
        try:
            error = msgspec.json.decode(answer.body)
            # Whether that is the path's dialect, the server's listener knows.
            check_refusal(answer.status, answer.headers, answer.body, anthropic="request_id" in error)
        except Exception as fault:
            yield f"not in its dialect's shape ({fault!r}): {told}"
            return
        words = error["error"]["message"] + (error["error"].get("param") or "")
        knows = answer.status == 400 and one.fields and one.must is None and not OF_THE_WHOLE.search(words)
        if knows and not any(name in words for name in one.fields):
            yield f"does not name {set(one.fields)}: {told}"

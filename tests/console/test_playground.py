"""The playground's requests, as its script sends them: they go the way of all requests, and cost what all cost."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from leadline.accounts.actor import COMMAND_LINE
from leadline.accounts.api_key import PLAYGROUND
from leadline.chat.events import ChoiceFinished, Finished, ReasoningDelta, Started, TextDelta, Usage
from leadline.chat.request import Image, JsonFormat, Message, Text
from leadline.console.playground import stream
from leadline.ledger.usage import UsageBook, UsageRecord
from leadline.money import show_usd
from tests.console.organisation import People, user_id
from tests.console.playground_client import ask, asking, conversation, lines_of, refused, said, send
from tests.console.visitor import Visitor, text_of
from tests.pictures import data_url
from tests.raw import post
from tests.scripted.engine import ScriptedEngine, echo
from tests.scripted.server import ScriptedServer


@pytest.fixture
def people(server: ScriptedServer) -> Iterator[People]:
    everybody = People(server)
    yield everybody
    everybody.leave()


@pytest.fixture
def alice(people: People) -> Visitor:
    return people.owner()


def records(server: ScriptedServer) -> list[UsageRecord]:
    return server.run(UsageBook(server.instance.database).records(server.organisation_id))


def limited(data: Path, **limits: int) -> Path:
    data.mkdir()
    lines = "".join(f"{name} = {number}\n" for name, number in limits.items())
    (data / "leadline.toml").write_text(f"[limits.default]\n{lines}")
    return data


def test_an_answer_comes_piece_by_piece_and_says_what_it_cost(server: ScriptedServer, alice: Visitor) -> None:
    started, *pieces, last = ask(alice, "one two three")

    end = last["end"]
    assert [piece["text"] for piece in pieces] == ["one", " two", " three"]
    assert end["content"] == [["p", {}, "one two three"]]
    assert end["tokens"] == {"input": 3, "cached": 0, "output": 3, "reasoning": 0}
    assert end["finish"] == "stop"
    [charge] = server.charges()
    [record] = records(server)
    assert started["started"] == {"request": charge.id, "model": "echo"}
    assert end["cost"] == show_usd(-charge.amount_ticks) == show_usd(record.cost_ticks)
    assert end["first_token_milliseconds"] == record.first_token_milliseconds
    assert end["balance"] == {"available": "$0.99", "percent": 99}


def test_the_engine_hears_the_conversation_and_all_settings(server: ScriptedServer, alice: Visitor) -> None:
    settings = {"system": "Be brief.", "temperature": 0.3, "top_p": 0.5, "max_tokens": 7, "json": True}
    ask(alice, "Which sea?", "The North Sea.", "How deep?", **settings)

    [request] = server.engine.requests
    assert request.messages == (
        Message("system", (Text("Be brief."),)),
        Message("user", (Text("Which sea?"),)),
        Message("assistant", (Text("The North Sea."),)),
        Message("user", (Text("How deep?"),)),
    )
    assert (request.sampling.temperature, request.sampling.top_p) == (0.3, 0.5)
    assert request.max_output_tokens == 7
    assert request.json_format == JsonFormat()


@pytest.mark.parametrize("streamed", [True, False])
def test_a_whole_answer_is_the_streamed_one_at_once(server: ScriptedServer, alice: Visitor, streamed: bool) -> None:
    lines = ask(alice, "one two three", stream=streamed)

    assert said(lines) == "one two three"
    assert len(lines) == (5 if streamed else 3)
    assert records(server)[0].streamed == streamed


def test_a_json_answer_is_shown_as_code(alice: Visitor) -> None:
    lines = ask(alice, '{"a": "*b*"}', json=True)

    assert lines[-1]["end"]["content"] == [["pre", {"language": "json"}, '{"a": "*b*"}']]


def test_thoughts_are_told_apart_and_counted(tmp_path: Path) -> None:
    def thinks(_: Any) -> Any:
        yield (Started(1),)
        yield (ReasoningDelta("hm"), ReasoningDelta(", two"), TextDelta("Two."), TextDelta(" Yes."))
        usage = Usage(prompt_tokens=1, cached_tokens=1, output_tokens=2, reasoning_tokens=2)
        yield (ChoiceFinished("stop"), Finished(usage))

    server = ScriptedServer(tmp_path / "data", scripts={"thinks": thinks})
    visitor = People(server).owner()

    lines = ask(visitor, "hello", model="thinks")

    assert lines[1:3] == [{"thought": "hm, two"}, {"text": "Two. Yes."}]
    assert lines[-1]["end"]["tokens"] == {"input": 1, "cached": 1, "output": 2, "reasoning": 2}
    visitor.close()
    server.stop()


# ---- As whom ----


def test_it_is_a_key_of_the_visitor_that_no_list_shows(server: ScriptedServer, people: People, alice: Visitor) -> None:
    bob = people.member("developer")
    ask(alice, "one"), ask(alice, "two"), ask(bob, "three")

    key_ids = [record.key_id for record in reversed(records(server))]
    assert key_ids[0] == key_ids[1] != key_ids[2]
    callers = [server.instance.keys.find_caller(key_id) for key_id in key_ids]
    assert [caller.name for caller in callers if caller] == [PLAYGROUND] * 3
    assert [caller.created_by for caller in callers if caller][1:] == [
        user_id(server, "alice@northwind.example"),
        user_id(server, "developer@northwind.example"),
    ]
    page = alice.get("/keys?show=all")
    assert not any(key_id in page.text for key_id in key_ids)
    assert PLAYGROUND not in text_of(page).replace("Playground API keys Models", "")
    for path in ("", "/secret", "/first-request"):
        assert alice.get(f"/keys/{key_ids[0]}{path}").status_code == 404
    for path in ("", "/rotate", "/disable", "/enable", "/revoke"):
        assert alice.post(f"/keys/{key_ids[0]}{path}", name="mine").status_code == 404
    assert [key["name"] for key in server.command("keys list", email=None)["keys"]] == ["first-key"]


def test_nothing_opens_the_api_by_it(server: ScriptedServer, alice: Visitor) -> None:
    ask(alice, "one")
    [(digest, key_id)] = server.run(
        server.instance.database.rows("SELECT digest, id FROM api_keys WHERE purpose = 'playground'")
    )

    body = b'{"model": "echo", "messages": [{"role": "user", "content": "Hello"}]}'
    for text in (digest, key_id, f"ll_{key_id}", ""):
        assert post(server.port, "/v1/chat/completions", text, body).status == 401


def test_usage_and_log_call_it_the_playground(server: ScriptedServer, alice: Visitor) -> None:
    lines = ask(alice, "one")

    usage = server.command("usage", by="key", since=None, until=None, email=None)
    log = server.command("usage request", request=lines[0]["started"]["request"], email=None)
    assert f'"{PLAYGROUND}"' in json.dumps(usage)
    assert f'"{PLAYGROUND}"' in json.dumps(log)
    for path in ("/log", f"/log/{lines[0]['started']['request']}", "/usage?group=key", "/billing"):
        page = alice.get(path).text
        assert PLAYGROUND in page[page.index("<main") :], path


@pytest.mark.parametrize("role", ["viewer", "billing"])
def test_who_may_not_use_it_reads_why(server: ScriptedServer, people: People, role: Any) -> None:
    visitor = people.member(role)

    page = visitor.get("/playground")

    assert page.status_code == 403
    assert f"Your role here is {role}" in text_of(page)
    for path in ("/playground/chat", "/playground/code", "/playground/text"):
        assert send(visitor, path, conversation("one")).status_code == 403
    assert server.engine.requests == []


def test_who_is_signed_out_is_sent_to_sign_in(server: ScriptedServer, people: People) -> None:
    answer = send(people.guest(), "/playground/chat", conversation("one"))

    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert server.engine.requests == []


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "", "origin": "https://evil.example"},
    ],
)
def test_other_sites_cannot_ask_in_somebodys_name(
    server: ScriptedServer, alice: Visitor, headers: dict[str, str]
) -> None:
    assert send(alice, "/playground/chat", conversation("one"), **headers).status_code == 403
    assert server.engine.requests == []


def test_what_is_no_json_is_refused_as_a_plain_form_would_be(server: ScriptedServer, alice: Visitor) -> None:
    body = json.dumps(conversation("one")).encode()
    for content_type in ("text/plain", "application/x-www-form-urlencoded"):
        answer = alice.http.post("/playground/chat", content=body, headers={"content-type": content_type})
        assert answer.status_code == 415
    assert server.engine.requests == []


def test_who_leaves_the_organisation_asks_no_longer_and_his_running_answer_ends(
    server: ScriptedServer, people: People
) -> None:
    bob = people.member("developer")
    with asking(bob, "one", model="slow") as lines:
        heard = [next(lines) for _ in range(4)]
        server.run(
            server.instance.organisations.remove_member(
                server.organisation_id, user_id(server, "developer@northwind.example"), COMMAND_LINE
            )
        )
        last = list(lines)[-1]

    assert "started" in heard[0]
    assert last["error"]["title"] == "You may not ask"
    assert server.engine.aborted == ["slow"]
    assert send(bob, "/playground/chat", conversation("one")).status_code == 303


# ---- Stop ----


def test_who_stops_an_answer_frees_the_engine_and_pays_for_what_he_got(server: ScriptedServer, alice: Visitor) -> None:
    with asking(alice, "one", model="slow") as lines:
        started = next(lines)
        assert [next(lines)["text"] for _ in range(3)] == ["one", " two", " three"]
    server.wait_until(lambda: server.engine.running == 0)
    server.wait_until(lambda: not server.pipeline.running._generations)

    assert server.engine.aborted == ["slow"]
    [record] = records(server)
    assert record.status == "interrupted"
    # Of the last piece nobody knows whether it arrived.
    assert record.usage.output_tokens in (2, 3)
    assert record.cost_ticks > 0
    charge = alice.get(f"/playground/charges/{started['started']['request']}").json()["charge"]
    assert charge["cost"] == show_usd(record.cost_ticks)
    assert charge["tokens"]["output"] == record.usage.output_tokens
    assert server.balance().held_ticks == 0


def test_who_stops_before_the_first_token_frees_the_engine_too(server: ScriptedServer, alice: Visitor) -> None:
    with asking(alice, "one", model="stall") as lines:
        next(lines)
        server.wait_until(lambda: server.engine.running == 1)
    server.wait_until(lambda: server.engine.running == 0)
    assert server.engine.aborted == ["stall"]


def test_the_charge_of_another_organisations_request_is_not_there(
    server: ScriptedServer, people: People, alice: Visitor
) -> None:
    request_id = ask(alice, "one")[0]["started"]["request"]
    alice_sees, carol_sees = (
        visitor.get(f"/playground/charges/{request_id}").json()["charge"] for visitor in (alice, people.stranger())
    )
    assert alice_sees["request"] == request_id
    assert carol_sees is None


def test_a_silent_answer_is_kept_alive(server: ScriptedServer, alice: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "KEEP_ALIVE_SECONDS", 0.01)
    content = json.dumps(conversation("one", model="stall")).encode()
    with alice.http.stream(
        "POST", "/playground/chat", content=content, headers={"content-type": "application/json"}
    ) as answer:
        lines = answer.iter_lines()
        assert "started" in next(lines)
        assert [next(lines) for _ in range(3)] == ["", "", ""]
    server.wait_until(lambda: server.engine.running == 0)


# ---- Refusals ----


@pytest.mark.parametrize(
    ("model", "title"),
    [("broken-before", "The model broke off"), ("busy", "The model is not ready"), ("crash", "Something failed here")],
)
def test_an_answer_that_breaks_says_so(server: ScriptedServer, alice: Visitor, model: str, title: str) -> None:
    error = ask(alice, "one", model=model)[-1]["error"]

    assert error["title"] == title
    assert "inside" not in json.dumps(error)
    assert server.charges() == []


def test_an_answer_that_breaks_in_the_middle_keeps_what_came(server: ScriptedServer, alice: Visitor) -> None:
    lines = ask(alice, "one", model="broken-after")

    assert said(lines) == "one two"
    assert lines[-1]["error"]["title"] == "The model broke off"
    [charge] = server.charges()
    told = alice.get(f"/playground/charges/{charge.id}").json()["charge"]
    assert told["cost"] == show_usd(-charge.amount_ticks)


def test_without_credits_it_leads_to_billing(tmp_path: Path) -> None:
    server = ScriptedServer(tmp_path / "data", "0")
    people = People(server)

    status, owner = refused(people.owner(), conversation("one"))
    _, developer = refused(people.member("developer"), conversation("one"))

    assert status == 429
    assert (owner["title"], owner["link"]) == ("Not enough credits", ["/billing", "Add credits"])
    assert developer["link"] == ["/billing", "See billing"]
    people.leave()
    server.stop()


def test_beyond_a_limit_it_says_when_to_ask_again(tmp_path: Path) -> None:
    server = ScriptedServer(limited(tmp_path / "data", requests_per_minute=1, tokens_per_minute=2000))
    alice = People(server).owner()
    end = ask(alice, "one two")[-1]["end"]

    status, refusal = refused(alice, conversation("two"))

    requests, tokens = end["limits"]
    assert (requests["name"], requests["used"], requests["of"]) == ("Requests per minute", 1, 1)
    assert (tokens["name"], tokens["used"], tokens["of"]) == ("Tokens per minute", 4, 2000)
    assert status == 429
    assert (refusal["title"], refusal["link"]) == ("Too much at once", ["/limits", "See the limits"])
    assert 0 < refusal["retry_after"] <= 60
    assert "Try again in" not in refusal["text"]
    assert alice.get("/playground/standing?model=echo").json()["limits"][0]["used"] == 1
    # Each model has limits of its own.
    assert alice.get("/playground/standing?model=slow").json()["limits"][0]["used"] == 0
    alice.close()
    server.stop()


def test_a_suspended_organisation_is_refused(server: ScriptedServer, alice: Visitor) -> None:
    server.run(server.instance.organisations.suspend(server.organisation_id, COMMAND_LINE))

    status, refusal = refused(alice, conversation("one"))

    assert status == 403
    assert "suspended" in refusal["text"]
    assert server.engine.requests == []


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "model is missing"),
        (conversation("one") | {"model": "never-was"}, "does not exist"),
        (conversation(), "Write a message first"),
        (conversation("one", "two"), "has to be yours"),
        (conversation("one", temperature=3), "temperature must be"),
        (conversation("one", top_p="much"), "top_p must be"),
        (conversation("one", max_tokens=0), "max_tokens must be"),
        (conversation("one") | {"turns": [{"role": "system", "text": "x"}]}, "does not take the value"),
        (conversation("one", model="embed"), "does not support chat"),
        ([], "must be an object"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(alice: Visitor, body: Any, says: str) -> None:
    status, refusal = refused(alice, body)

    assert 400 <= status < 500
    assert says in refusal["text"]


def test_more_than_32_mib_is_refused(server: ScriptedServer, alice: Visitor) -> None:
    status, refusal = refused(alice, conversation("x" * (32 * 1024 * 1024)))

    assert (status, refusal["title"]) == (413, "That is too much")


# ---- Pictures ----


@pytest.fixture
def seeing(tmp_path: Path) -> Iterator[tuple[ScriptedServer, ScriptedEngine, Visitor]]:
    engine = ScriptedEngine({"sees": echo})
    server = ScriptedServer(tmp_path / "seeing", engines={"sees": engine})
    visitor = People(server).owner()
    yield server, engine, visitor
    visitor.close()
    server.stop()


def with_pictures(*urls: str, model: str = "sees") -> dict[str, Any]:
    return {"model": model, "turns": [{"role": "user", "text": "What is this?", "images": list(urls)}]}


def test_a_picture_reaches_a_model_that_sees(seeing: tuple[ScriptedServer, ScriptedEngine, Visitor]) -> None:
    _, engine, alice = seeing

    lines_of(send(alice, "/playground/chat", with_pictures(data_url("red"))))

    [image, text] = engine.requests[0].messages[0].content
    assert isinstance(image, Image)
    assert image.url.startswith("data:image/png;base64,")
    assert text == Text("What is this?")


def test_a_model_that_cannot_see_names_one_that_can(
    seeing: tuple[ScriptedServer, ScriptedEngine, Visitor], alice: Visitor
) -> None:
    _, _, visitor = seeing

    _, refusal = refused(visitor, with_pictures(data_url("red"), model="echo"))
    _, alone = refused(alice, with_pictures(data_url("red"), model="echo"))

    assert refusal["text"] == "echo cannot see pictures. Choose sees, or delete the picture."
    assert alone["text"] == "echo cannot see pictures. No model here can. Delete the picture."


@pytest.mark.parametrize(
    "url", ["https://example.com/a.png", "http://127.0.0.1/a.png", "file:///etc/passwd", "data:,a"]
)
def test_no_picture_is_fetched(seeing: tuple[ScriptedServer, ScriptedEngine, Visitor], url: str) -> None:
    _, engine, alice = seeing

    _, refusal = refused(alice, with_pictures(url))

    assert "attached, not linked" in refusal["text"]
    assert engine.requests == []


def test_more_than_twenty_pictures_are_refused(seeing: tuple[ScriptedServer, ScriptedEngine, Visitor]) -> None:
    _, engine, alice = seeing

    _, refusal = refused(alice, with_pictures(*[data_url("red")] * 21))

    assert "20 pictures at most" in refusal["text"]
    assert engine.requests == []


# ---- Code ----


def test_a_conversation_comes_as_five_programs(server: ScriptedServer, alice: Visitor) -> None:
    asked = conversation("one", "two", "three", system="Be brief.", max_tokens=64, json=True)

    programs = send(alice, "/playground/code", asked).json()["programs"]

    assert [one["name"] for one in programs] == ["curl", "Python", "JavaScript", "Anthropic", "xai-sdk"]
    for one in programs:
        assert all(text in one["code"] for text in ("one", "two", "three", "Be brief.", "64", "echo"))
    assert server.engine.requests == []


def test_before_the_first_message_the_programs_say_hello(alice: Visitor) -> None:
    programs = send(alice, "/playground/code", conversation()).json()["programs"]

    assert all("Hello" in one["code"] for one in programs)


def test_code_of_what_makes_no_sense_is_refused(alice: Visitor) -> None:
    assert send(alice, "/playground/code", {"model": 1}).status_code == 400


# ---- The page ----


def test_the_page_offers_the_models_that_chat_and_what_they_cost(alice: Visitor) -> None:
    page = alice.get("/playground?model=slow")

    assert page.status_code == 200
    assert '<option value="slow" selected>' in page.text
    assert '<option value="embed"' not in page.text
    assert "$1.00 in, $2.00 out per million tokens." in text_of(page)


def test_an_unknown_model_in_the_url_is_the_first_one(alice: Visitor) -> None:
    assert '<option value="echo" selected>' in alice.get('/playground?model="><script>').text


def test_without_scripts_the_page_has_the_same_request_for_a_terminal(alice: Visitor) -> None:
    page = text_of(alice.get("/playground"))

    assert "The playground needs JavaScript" in page
    assert "curl -s http" in page


def test_where_no_model_chats_the_page_says_so(tmp_path: Path) -> None:
    server = ScriptedServer(tmp_path / "data", scripts={"embed": echo})
    alice = People(server).owner()

    page = alice.get("/playground")

    assert page.status_code == 200
    assert "No model here chats" in text_of(page)
    alice.close()
    server.stop()


def test_nothing_of_a_conversation_is_kept(server: ScriptedServer, alice: Visitor, caplog: Any) -> None:
    secret = "the sunken treasure of 1715"
    ask(alice, secret)
    alice.get("/log")
    server.stop()

    for file in server.data.rglob("*"):
        if file.is_file():
            assert secret.encode() not in file.read_bytes(), file
    assert secret not in caplog.text
    server._start()

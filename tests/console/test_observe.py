"""Usage and the request log on their pages: every number there is the ledger's, by whatever it is asked."""

import csv
import html
import io
import json
import re
from collections.abc import Iterator

import httpx2
import pytest

from leadline.ledger.usage import UsageRecord
from leadline.money import TICKS_PER_USD
from tests.console.history import MODELS, Past, configured
from tests.console.organisation import People
from tests.console.visitor import Visitor, text_of
from tests.raw import post
from tests.scripted.server import ScriptedServer

_ASKED = re.compile(r'<a class="mono" href="/log/([0-9a-f-]{36})"')


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedServer]:
    server = configured(tmp_path_factory.mktemp("observe") / "data")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def past(server: ScriptedServer) -> list[UsageRecord]:
    return Past(server, days=9).make()


@pytest.fixture(scope="module")
def alice(server: ScriptedServer, past: list[UsageRecord]) -> Iterator[Visitor]:
    people = People(server)
    yield people.owner()
    people.leave()


@pytest.fixture(scope="module")
def carol(server: ScriptedServer) -> Iterator[Visitor]:
    """Of another organisation, which has used nothing."""
    people = People(server)
    yield people.stranger()
    people.leave()


def chart(answer: httpx2.Response) -> list[list[int]]:
    """What the page draws, series by series."""
    found = re.search(r'<script type="application/json" id="usage-numbers">(.*?)</script>', answer.text)
    assert found is not None, text_of(answer)
    return [one["numbers"] for one in json.loads(html.unescape(found[1]))["series"]]


def table(answer: httpx2.Response) -> tuple[list[dict[str, int]], dict[str, int]]:
    """The rows of the page's table and the last one, by the labels of their cells."""
    body = answer.text.partition("<tbody>")[2].partition("</tbody>")[0]
    rows = []
    for row in body.split("<tr")[1:]:
        cells = re.findall(r'data-label="([^"]+)">(?:<strong>)?<data value="(-?\d+)"', row)
        rows.append({name: int(value) for name, value in cells})
    return rows[:-1], rows[-1]


def rows_of(answer: httpx2.Response) -> list[dict[str, str]]:
    assert answer.headers["content-type"].startswith("text/csv")
    assert "attachment" in answer.headers["content-disposition"]
    return list(csv.DictReader(io.StringIO(answer.text)))


# ---- Usage ----


@pytest.mark.parametrize(
    "query",
    [
        "",
        "range=7d",
        "by=key&step=month",
        "by=endpoint&range=month",
        "by=class",
        "by=member&range=today",
        "by=model&step=hour&range=7d",
        "model=qwen3-4b-instruct&model=phi-4&by=key",
        "class=output",
        "class=cached&by=class",
        "since=2020-01-01&step=month",
    ],
)
def test_chart_table_file_and_ledger_are_one_sum(
    server: ScriptedServer, alice: Visitor, past: list[UsageRecord], query: str
) -> None:
    page, file = alice.get(f"/usage?{query}"), alice.get(f"/usage.csv?{query}")
    rows, total = table(page)
    written = rows_of(file)

    drawn = sum(map(sum, chart(page)))
    assert drawn == sum(row["Cost"] for row in rows) == total["Cost"] > 0
    assert drawn == sum(int(row["cost_ticks"]) for row in written)
    assert f"{sum(float(row['cost_usd']) for row in written):.6f}" == f"{drawn / TICKS_PER_USD:.6f}"
    if query in ("", "by=class", "by=key&step=month", "since=2020-01-01&step=month"):
        assert drawn == -sum(entry.amount_ticks for entry in server.charges())


@pytest.mark.parametrize("measure", ["tokens", "requests"])
@pytest.mark.parametrize("side", ["model", "key", "endpoint", "member"])
def test_tokens_and_requests_add_up_as_costs_do(
    alice: Visitor, past: list[UsageRecord], measure: str, side: str
) -> None:
    page = alice.get(f"/usage?measure={measure}&by={side}")
    _, total = table(page)
    usage = [record.usage for record in past]

    expected = len(past)
    if measure == "tokens":
        expected = sum(one.prompt_tokens + one.output_tokens + one.reasoning_tokens for one in usage)
    assert sum(map(sum, chart(page))) == expected
    assert total["Requests"] == len(past)
    assert (total["Input"], total["Output"]) == (
        sum(one.prompt_tokens for one in usage),
        sum(one.output_tokens for one in usage),
    )


def test_filters_are_chips_that_can_be_dropped_one_by_one(alice: Visitor, past: list[UsageRecord]) -> None:
    page = alice.get("/usage?model=phi-4&model=odd&endpoint=/v1/messages&by=model")

    assert {name for name in MODELS if f">{name}</" in page.text.partition("<tbody>")[2].partition("</tbody>")[0]} == {
        "phi-4",
        "odd",
    }
    assert 'href="/usage?model=odd&amp;endpoint=%2Fv1%2Fmessages&amp;by=model" aria-label="Without model phi-4"' in (
        page.text
    )
    assert 'href="/usage?by=model">Clear all' in page.text
    mine = [one for one in past if one.model in ("phi-4", "odd") and one.endpoint == "/v1/messages"]
    assert table(page)[1]["Cost"] == sum(one.cost_ticks for one in mine)
    drawer = page.text.partition('id="filters"')[2]
    assert re.search(r'name="model" value="phi-4" checked', drawer)
    assert '<input type="hidden" name="by" value="model">' in drawer


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("measure=weight", "'weight' is not known here."),
        ("by=colour", "'colour' is not known here."),
        ("step=second", "'second' is not known here."),
        ("class=gold", "'gold' is not known here."),
        ("by=class&measure=requests", "A request has tokens of several classes."),
        ("range=30d&step=hour", "Take longer steps or a shorter time."),
        ("since=2027-02-30", "is not a time."),
        ("since=2020-01-02&until=2020-01-01", "The time ends before it begins."),
        ("since=2999-01-01", "The time ends before it begins."),
        ("until=yesterday", "'yesterday' is not a time."),
        ("key=never", "There is no API key named"),
    ],
)
def test_a_question_that_has_no_answer_is_told_why(alice: Visitor, query: str, told: str) -> None:
    page = alice.get(f"/usage?{query}")

    assert page.status_code == 400
    assert told in text_of(page)
    assert 'href="/usage">Start again' in page.text
    assert alice.get(f"/usage.csv?{query}").status_code == 400


def test_odd_values_in_the_url_break_nothing(alice: Visitor) -> None:
    for query in (
        "range=ever",
        "model=",
        "model=%00%ff",
        "until=2020-01-01",
        "odd=1",
        f"model={'x' * 5000}",
        "by=none",
    ):
        assert alice.get(f"/usage?{query}").status_code == 200, query
    for query in ("text=%00'%25_", "status=finished&status=failed", "before=", "range=7d", "until=2020-01-01"):
        assert alice.get(f"/log?{query}").status_code == 200, query
    for query in ("status=odd", "before=x", "since=x", "key=never"):
        assert alice.get(f"/log?{query}").status_code == 400, query
        assert alice.get(f"/log.csv?{query}").status_code in (200, 400), query


def test_who_used_nothing_yet_sees_how_to_begin(alice: Visitor, carol: Visitor) -> None:
    new, idle = carol.get("/usage"), alice.get("/usage?since=2020-01-01&until=2020-01-31")

    assert "Nothing has been used yet" in text_of(new)
    assert "curl -s http" in text_of(new)
    assert "Nothing was used in this time" in text_of(idle)
    assert "1 to 31 Jan 2020" in text_of(idle)
    assert "curl -s http" not in text_of(idle)
    assert not any("chart.umd" in page.text for page in (new, idle))


# ---- The log ----


def answered(server: ScriptedServer, path: str = "/v1/chat/completions", words: str = "Hello there") -> str:
    """The id in the header of a request that was answered."""
    body = {"model": "qwen3-4b-instruct", "messages": [{"role": "user", "content": words}], "max_tokens": 5}
    answer = post(server.port, path, server.api_key, json.dumps(body).encode())
    assert answer.status == 200
    return answer.headers["x-request-id"]


def test_a_request_is_found_by_the_id_of_its_answer(server: ScriptedServer, alice: Visitor, carol: Visitor) -> None:
    name = answered(server)
    page = alice.get(f"/log/{name}")
    [entry] = [one for one in server.charges() if one.request_id == name]
    lines = [int(ticks) for ticks in re.findall(r'data-label="Cost"><data value="(\d+)"', page.text)]
    charged = re.search(r'<strong><data value="(\d+)"', page.text)
    bare = name.replace("-", "")

    assert charged is not None
    assert sum(lines) == int(charged[1]) == -entry.amount_ticks > 0
    assert name in text_of(page)
    for spelling in (f"resp_{bare}", f"msg_{bare}", bare, name.upper()):
        assert alice.get(f"/log/{spelling}").text == page.text
    assert name in alice.get("/log").text
    assert carol.get(f"/log/{name}").status_code == alice.get("/log/never").status_code == 404
    assert _ASKED.findall(alice.get(f"/log?text={name[9:]}").text) == [name]
    assert name not in carol.get("/log").text


def test_older_pages_go_on_until_each_request_was_seen_once(alice: Visitor, past: list[UsageRecord]) -> None:
    path, seen = "/log?until=2999-01-01", list[str]()
    while path:
        page = alice.get(path)
        seen += _ASKED.findall(page.text)
        older = re.search(r'rel="next" href="([^"]+)"', page.text)
        path = html.unescape(older[1]) if older else ""

    assert seen == sorted(seen, reverse=True)
    assert {one.request_id for one in past} <= set(seen)
    assert len(set(seen)) == len(seen)
    assert re.search(r'href="/log\?until=2999-01-01"[^>]*><svg.*?Newest', page.text)


@pytest.mark.parametrize(
    ("status", "error", "told"),
    [
        ("rate limited", "rate_limited", '<a href="/limits">Over a rate limit</a>'),
        ("failed", "engine_failed", '<a href="/models">The engine broke off</a>'),
        ("no credits", "insufficient_credits", '<a href="/billing">Not enough credits</a>'),
        ("refused", "permission_denied", "The key may not do that</a>"),
        ("interrupted", "client_gone", "The client closed its connection"),
    ],
)
def test_what_did_not_end_well_says_what_to_do(
    alice: Visitor, past: list[UsageRecord], status: str, error: str, told: str
) -> None:
    page = alice.get(f"/log?status={status}")
    names = _ASKED.findall(page.text)

    assert set(names) == {one.request_id for one in past if one.error == error}
    assert page.text.count(told) == len(names) > 0
    one = alice.get(f"/log/{names[0]}")
    assert error in text_of(one)
    assert 'class="note' in one.text
    assert rows_of(alice.get(f"/log.csv?status={status}"))[0]["request_id"] == names[0]


def test_the_file_of_the_log_has_what_the_page_has(alice: Visitor, past: list[UsageRecord]) -> None:
    rows = rows_of(alice.get("/log.csv?model=odd"))
    mine = {one.request_id: str(one.cost_ticks) for one in past if one.model == "odd"}

    assert {row["request_id"]: row["cost_ticks"] for row in rows} == mine
    assert _ASKED.findall(alice.get("/log?model=odd").text) == [row["request_id"] for row in rows]

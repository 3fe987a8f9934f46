"""`leadline usage` as its users see it: whatever it is grouped by, its rows sum to the ledger."""

import asyncio
import csv
import io
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from leadline.administration.commands.run import run
from leadline.administration.instance import Instance
from leadline.chat.events import Usage
from leadline.clock import MICROSECONDS_PER_DAY, rfc3339
from leadline.ids import first_uuid_at
from leadline.ledger.books import Hold, Outcome
from leadline.ledger.usage import COUNTS, UsageRecord
from leadline.money import Ticks
from tests.cli.in_process import CommandLine
from tests.cli.process import EMAIL

NOON = 1_800_014_400_000_000  # 15 January 2027, 12:00 UTC
DAY = MICROSECONDS_PER_DAY
FORMULA = "=cmd|'/c calc'!A1"


@pytest.fixture
def leadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """Alice's instance at noon, with a second key whose name a spreadsheet would run."""
    opened = Instance.open

    async def open_at_noon(data: Path) -> Instance:
        instance = await opened(data)
        instance.keys.clock = lambda: NOON
        return instance

    monkeypatch.setattr(Instance, "open", open_at_noon)
    leadline = CommandLine.with_alice(tmp_path / "data")
    assert leadline("keys", "create", "--name", FORMULA).code == 0
    return leadline


async def _ended(instance: Instance, record: UsageRecord) -> None:
    """The request of `record`, as the ledger sees it."""
    if record.status == "refused":
        instance.ledger.note(record)
        await instance.ledger.tick()
        return
    request = (record.request_id, record.organisation_id, record.key_id, record.model, record.endpoint)
    hold = Hold(*request, Ticks(10**6), record.began_at)
    instance.ledger.reserve(hold)
    await instance.ledger.settle(hold, lambda: Outcome(record))


def use(leadline: CommandLine, *, key: str = "first-key", at: int = NOON, number: int = 0, **more: Any) -> str:
    """A request that ended at `at`. Returns its id."""

    async def request() -> str:
        instance = await Instance.open(leadline.data)
        organisation_id = (await instance.organisations.of_email(None)).id
        request_id = str(first_uuid_at(at + number * 1000))
        fields = {"model": "tiny", "endpoint": "/v1/chat/completions", "status": "finished", "total_milliseconds": 5}
        key_id = instance.keys.find(organisation_id, key).id
        await _ended(instance, UsageRecord(organisation_id, request_id, at, at, key_id, **fields | more))
        await instance.close()
        return request_id

    return asyncio.run(request())


@pytest.fixture
def busy(leadline: CommandLine) -> CommandLine:
    """After two weeks of requests that finished, were interrupted, failed or were refused."""

    async def requests() -> None:
        chance = random.Random(7)
        instance = await Instance.open(leadline.data)
        organisation_id = (await instance.organisations.of_email(None)).id
        keys = instance.keys.of(organisation_id)
        for number in range(60):
            at = NOON - chance.randrange(14 * DAY)
            status = chance.choice(("finished", "finished", "interrupted", "failed", "refused"))
            charged = status in ("finished", "interrupted")
            record = UsageRecord(
                *(organisation_id, str(first_uuid_at(at + number * 1000)), at, at, chance.choice(keys).id),
                *(chance.choice(("tiny", "grok-4")), chance.choice(("/v1/chat/completions", "/v1/messages"))),
                status=status,
                usage=Usage(*(chance.randrange(1000) for _ in range(5))) if charged else Usage(),
                cost_ticks=chance.randrange(10**6) if charged else 0,
            )
            await _ended(instance, record)
        await instance.close()

    asyncio.run(requests())
    return leadline


def charged_ticks(leadline: CommandLine) -> int:
    entries = leadline.json("credits", "ledger", EMAIL)["entries"]
    return -sum(entry["amount_ticks"] for entry in entries if entry["kind"] == "charge")


@pytest.mark.parametrize("by", ["model", "key", "endpoint", "day", "hour"])
def test_whatever_it_is_grouped_by_the_rows_sum_to_the_ledger(busy: CommandLine, by: str) -> None:
    usage = busy.json("usage", "--by", by, "--since", "15d")
    rows = list(csv.DictReader(io.StringIO(busy("usage", "--by", by, "--since", "15d", "--csv").out)))

    assert usage["by"] == by
    assert usage["total"] == {name: sum(row[name] for row in usage["rows"]) for name in COUNTS}
    assert usage["total"]["cost_ticks"] == charged_ticks(busy) > 0
    assert (usage["total"]["requests"], len(usage["rows"]) > 1) == (60, True)
    assert [int(row["cost_ticks"]) for row in rows] == [row["cost_ticks"] for row in usage["rows"]]
    assert sum(Decimal(row["cost_usd"]) for row in rows) == Decimal(charged_ticks(busy)) / 10**10
    assert busy("usage", "--by", by, "--since", "15d").out.splitlines()[-1].split()[:2] == ["TOTAL", "60"]


def test_a_row_has_every_count(leadline: CommandLine) -> None:
    use(leadline, usage=Usage(70, 30, 10, 50, 20), cost_ticks=123_456)
    use(leadline, number=1, status="failed", error="engine_failed")
    use(leadline, number=2, status="refused", error="rate_limited")

    usage = leadline.json("usage")

    assert usage == {
        "since": "2027-01-08T00:00:00.000Z",
        "until": "2027-01-16T00:00:00.000Z",
        "by": "model",
        "rows": [
            {
                "group": "tiny",
                "requests": 3,
                "failed": 1,
                "refused": 1,
                "prompt_tokens": 70,
                "cached_tokens": 30,
                "image_tokens": 10,
                "output_tokens": 50,
                "reasoning_tokens": 20,
                "cost_ticks": 123_456,
            }
        ],
        "total": {name: usage["rows"][0][name] for name in COUNTS},
    }
    assert leadline("usage", "--csv").out == (
        "group,requests,failed,refused,prompt_tokens,cached_tokens,image_tokens,output_tokens,reasoning_tokens,"
        "cost_ticks,cost_usd\ntiny,3,1,1,70,30,10,50,20,123456,0.0000123456\n"
    )
    assert leadline("usage").out.splitlines()[2:] == [
        "MODEL  REQUESTS  FAILED  REFUSED  PROMPT  CACHED  IMAGE  OUTPUT  REASONING  COST",
        "tiny   3         1       1        70      30      10     50      20         $0.0000123456",
        "TOTAL  3         1       1        70      30      10     50      20         $0.0000123456",
    ]


def test_keys_are_shown_by_name_and_redacted_id_and_no_spreadsheet_runs_a_name(leadline: CommandLine) -> None:
    use(leadline, key="first-key", cost_ticks=2)
    use(leadline, key=FORMULA, number=1, cost_ticks=1)
    keys = {key["name"]: key["redacted"] for key in leadline.json("keys", "list")["keys"]}

    rows = leadline.json("usage", "--by", "key")["rows"]
    cells = list(csv.DictReader(io.StringIO(leadline("usage", "--by", "key", "--csv").out)))

    assert [(row["key_name"], row["key"]) for row in rows] == [(name, keys[name]) for name in ("first-key", FORMULA)]
    assert [cell["key_name"] for cell in cells] == ["first-key", f"'{FORMULA}"]
    assert f"first-key ({keys['first-key']})" in leadline("usage", "--by", "key").out


@pytest.mark.parametrize(
    ("options", "days"),
    [
        ((), [8, 9, 15]),
        (("--since", "7d"), [8, 9, 15]),
        (("--since", "6d"), [9, 15]),
        (("--since", "2027-01-09"), [9, 15]),
        (("--since", "2027-01-07", "--until", "2027-01-08"), [7, 8]),
        (("--since", "2027-01-08", "--until", "2027-01-08"), [8]),
        (("--since", "999999d", "--until", "2027-01-14"), [7, 8, 9]),
        (("--until", "9999-12-31"), [8, 9, 15]),
    ],
)
def test_days_count_whole_from_the_first_to_the_last(
    leadline: CommandLine, options: tuple[str, ...], days: list[int]
) -> None:
    for number, day in enumerate((7, 8, 9, 15)):
        use(leadline, at=NOON - (15 - day) * DAY + (DAY // 2 - 1) * (day == 8), number=number)

    rows = leadline.json("usage", "--by", "day", *options)["rows"]

    assert [row["group"] for row in rows] == [f"2027-01-{day:02}" for day in days]


def test_hours_count_whole_where_they_are_asked_for(leadline: CommandLine) -> None:
    hour = DAY // 24
    for number in range(4):
        use(leadline, at=NOON - number * hour + 1, number=number)

    usage = leadline.json("usage", "--by", "hour", "--since", "2h")

    assert (usage["since"], usage["until"]) == ("2027-01-15T10:00:00.000Z", "2027-01-15T13:00:00.000Z")
    assert [row["group"] for row in usage["rows"]] == [rfc3339(NOON - number * hour) for number in (2, 1, 0)]


def test_the_log_shows_the_newest_requests_and_goes_on_from_any(leadline: CommandLine) -> None:
    ids = [use(leadline, number=number, cost_ticks=number, usage=Usage(prompt_tokens=number)) for number in range(5)]
    key = leadline.json("keys", "show", "first-key")["redacted"]

    newest = leadline.json("usage", "--log", "--limit", "2")["records"]
    before = leadline.json("usage", "--log", "--before", newest[-1]["request_id"].upper())["records"]
    rows = list(csv.DictReader(io.StringIO(leadline("usage", "--log", "--csv").out)))

    assert [record["request_id"] for record in (*newest, *before)] == ids[::-1]
    assert newest[0] == {
        "request_id": ids[4],
        "began_at": rfc3339(NOON),
        "at": rfc3339(NOON),
        "key_id": key[3:11],
        "key_name": "first-key",
        "key": key,
        "model": "tiny",
        "endpoint": "/v1/chat/completions",
        "status": "finished",
        "error": "",
        "streamed": False,
        "prompt_tokens": 4,
        "cached_tokens": 0,
        "image_tokens": 0,
        "output_tokens": 0,
        "reasoning_tokens": 0,
        "cost_ticks": 4,
        "first_token_milliseconds": None,
        "total_milliseconds": 5,
    }
    assert [(row["request_id"], row["cost_usd"]) for row in rows[:1]] == [(ids[4], "0.0000000004")]
    assert ids[4] in leadline("usage", "--log").out.splitlines()[1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--since", "soon"), "'soon' is not a time. Write 7d, 24h or 2027-03-31."),
        (("--since", "2027-02-30"), "is not a time"),
        (("--until", "7d"), "'7d' is not a date. Write it as 2027-03-31."),
        (("--since", "2027-01-10", "--until", "2027-01-09"), "ends before it begins"),
        (("--since", "2027-01-16"), "ends before it begins"),
        (("--by", "colour"), "colour"),
        (("--csv", "--json"), "not both"),
        (("--limit", "5"), "belong to --log"),
        (("--before", "x"), "belong to --log"),
        (("--log", "--by", "key"), "single requests"),
        (("--log", "--before", "x"), "'x' is not a request's id"),
        (("--log", "--limit", "0"), "--limit"),
        (("--log", "--limit", "10001"), "--limit"),
    ],
)
def test_what_makes_no_sense_is_wrong_usage(leadline: CommandLine, options: tuple[str, ...], words: str) -> None:
    done = leadline("usage", *options)

    assert (done.code, done.out) == (2, "")
    assert words in done.err


@pytest.mark.parametrize("by", ["model", "key", "endpoint", "class", "member", "none"])
def test_the_explorers_chart_and_table_and_csv_sum_to_the_ledger(busy: CommandLine, by: str) -> None:
    explored = busy.json("usage", "explore", "--by", by, "--since", "15d")
    rows = list(csv.DictReader(io.StringIO(busy("usage", "explore", "--by", by, "--since", "15d", "--csv").out)))

    assert explored["total"]["cost_ticks"] == charged_ticks(busy) > 0
    assert sum(row["cost_ticks"] for row in explored["rows"]) == charged_ticks(busy)
    assert sum(sum(series["values"]) for series in explored["series"]) == charged_ticks(busy)
    assert all(len(series["values"]) == len(explored["steps"]) == 16 for series in explored["series"])
    assert [{name: str(row[name]) for name in COUNTS} for row in explored["rows"]] == [
        {name: row[name] for name in COUNTS} for row in rows
    ]
    assert sum(Decimal(row["cost_usd"]) for row in rows) == Decimal(charged_ticks(busy)) / 10**10
    assert busy("usage", "explore", "--by", by, "--since", "15d").out.splitlines()[-1].startswith("TOTAL")


def test_the_explorer_looks_at_what_is_chosen(leadline: CommandLine) -> None:
    use(leadline, cost_ticks=5, usage=Usage(9, 4, 1, 3, 2), total_milliseconds=40, first_token_milliseconds=20)
    use(leadline, key=FORMULA, number=1, cost_ticks=7, model="grok-4", endpoint="/v1/messages")
    use(leadline, number=2, status="failed", error="engine_failed")

    chosen = ("--key", "first-key", "--model", "tiny", "--endpoint", "/v1/chat/completions", "--class", "cached")
    explored = leadline.json("usage", "explore", *chosen, "--measure", "tokens", "--step", "hour", "--since", "1h")

    assert explored["rows"] == [
        {"group": "tiny", "requests": 2, "failed": 1, "refused": 0, "prompt_tokens": 4, "cached_tokens": 4}
        | {"image_tokens": 0, "output_tokens": 0, "reasoning_tokens": 0, "cost_ticks": 0}
    ]
    assert explored["steps"] == ["2027-01-15T11:00:00.000Z", "2027-01-15T12:00:00.000Z"]
    assert explored["series"] == [{"group": "tiny", "values": [0, 4]}]
    assert explored["total"]["succeeded_percent"] == 50.0
    assert explored["latency"] == {
        **{"requests": 1, "newest_only": False, "first_token_p50_milliseconds": 20},
        **{"first_token_p95_milliseconds": 20, "total_p50_milliseconds": 40, "total_p95_milliseconds": 40},
    }
    assert leadline("usage", "explore", "--key", "nobody").code == 2
    assert leadline("usage", "--by", "key", "explore").code == 2


def test_the_log_is_filtered_by_what_people_know(leadline: CommandLine) -> None:
    ids = [use(leadline, number=0), use(leadline, number=1, key=FORMULA)]
    ids.append(use(leadline, number=2, status="refused", error="rate_limited"))
    ids.append(use(leadline, number=3, status="failed", error="engine_failed", at=NOON - 2 * DAY))

    def found(*options: str) -> list[str]:
        rows = leadline.json("usage", "log", *options)["records"]
        cells = list(csv.DictReader(io.StringIO(leadline("usage", "log", *options, "--csv").out)))
        assert [row["request_id"] for row in cells] == [row["request_id"] for row in rows]
        return [row["request_id"] for row in rows]

    assert found() == [ids[2], ids[1], ids[0], ids[3]]
    assert found("--status", "rate limited", "--status", "failed") == [ids[2], ids[3]]
    assert found("--key", FORMULA) == [ids[1]]
    assert found("--id", f"resp_{ids[0].replace('-', '')}") == [ids[0]]
    assert found("--id", ids[3][:13]) == [ids[3]]
    assert found("--since", "1d", "--limit", "2") == [ids[2], ids[1]]
    assert found("--until", "2027-01-14") == [ids[3]]
    assert found("--model", "grok-4") == []


def test_a_request_is_shown_with_its_price_and_its_neighbours(leadline: CommandLine) -> None:
    older, one, newer = (use(leadline, number=number, cost_ticks=7, usage=Usage(9, 4, 1, 3, 2)) for number in range(3))

    shown = leadline.json("usage", "request", f"msg_{one.replace('-', '')}")
    text = leadline("usage", "request", one).out

    assert (shown["request_id"], shown["older"], shown["newer"]) == (one, older, newer)
    assert sum(line["ticks"] for line in shown["lines"]) == shown["cost_ticks"] == 7
    assert "first-key" in text
    assert "$0.0000000007" in text.splitlines()[-1]
    assert leadline("usage", "request", str(first_uuid_at(NOON - DAY))).code == 1
    assert leadline("usage", "request", "nothing").code == 2


def test_what_was_used_lately_is_told_at_a_glance(leadline: CommandLine) -> None:
    """As the console's pages ask for it."""
    use(leadline, cost_ticks=10**6, usage=Usage(9, 4, 1, 3, 2))

    async def glance() -> tuple[Any, Any]:
        instance = await Instance.open(leadline.data)
        answers = (
            await run(instance, "usage overview", {"email": None}),
            await run(instance, "usage keys", {"email": None}),
        )
        await instance.close()
        return answers

    overview, keys = asyncio.run(glance())

    assert overview == {
        "last_day": {"requests": 1, "tokens": 14, "cost_ticks": 10**6, "failed": 0, "refused": 0, "limited": 0},
        **{"available_ticks": 5 * 10**10 - 10**6, "ticks_per_day": 10**6, "days_left": 49_999},
    }
    by_name = {key["name"]: key for key in keys["keys"]}
    assert by_name["first-key"]["cost_ticks"] == [*[0] * 13, 10**6]
    assert by_name[FORMULA]["requests"] == [0] * 14

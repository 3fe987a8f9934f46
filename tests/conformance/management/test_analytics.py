"""Usage analytics over the management API: dense series that add up to the charges, and audit events."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadline.accounts.actor import Actor
from leadline.errors import InvalidRequest
from leadline.management.buckets import UNITS, Buckets, buckets_of
from tests.conformance.management.conftest import INPUT, OUTPUT, Management, chat, new_key, served

PATH = "/v1/billing/teams/{team}/usage"
ZONES = ("UTC", "Europe/Oslo", "America/St_Johns", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kolkata")
ORDERS = ("TIME_ASCENDING", "TIME_DESCENDING")


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Management]:
    """After six chats: four with the key `ci`, two with the first one."""
    with served(tmp_path_factory.mktemp("used") / "data") as server:
        ci = server.command("keys create", name="ci", email=None)["api_key"]
        for number, key in enumerate([ci, ci, ci, ci, server.api_key, server.api_key], 1):
            assert chat(server, key, "word " * number).status == 200
        yield Management(server, new_key(server))


def around_now(unit: str = "DAY", days: int = 1, **more: Any) -> Any:
    """From some days ago until tomorrow."""
    now = datetime.now(UTC)
    midnight = now.replace(hour=0, minute=0, second=0)
    written = [f"{moment:%Y-%m-%d %H:%M:%S}" for moment in (midnight - timedelta(days), midnight + timedelta(days=1))]
    return {
        "analyticsRequest": {
            "timeRange": dict(zip(("startTime", "endTime"), written, strict=True)),
            "timeUnit": f"TIME_UNIT_{unit}",
            **more,
        }
    }


def values(*names: str, aggregation: str = "SUM") -> list[dict[str, str]]:
    return [{"name": name, "aggregation": f"AGGREGATION_{aggregation}"} for name in names]


def totals(told: Any) -> dict[tuple[str, ...], list[float]]:
    """What each series has in all."""
    return {
        tuple(one["group"]): [sum(numbers) for numbers in zip(*(p["values"] for p in one["dataPoints"]), strict=True)]
        for one in told["timeSeries"]
    }


def charged(management: Management) -> int:
    return -sum(entry.amount_ticks for entry in management.server.charges())


def test_a_series_is_dense_and_adds_up_to_the_charges(used: Management):
    body = around_now(days=3, values=values("usd", "cost_in_usd_ticks", "tokens", "requests"))
    told = used.ask("POST", PATH, body)
    [series] = told["timeSeries"]
    assert (series["group"], told["limitReached"]) == ([], False)
    assert len(series["dataPoints"]) == 4
    starts = [datetime.fromisoformat(point["timestamp"]) for point in series["dataPoints"]]
    assert {later - earlier for earlier, later in pairwise(starts)} == {timedelta(days=1)}
    [usd, ticks, tokens, requests] = totals(told)[()]
    assert ticks == charged(used)
    assert usd == pytest.approx(charged(used) / 10**10)
    assert (tokens, requests) == (2 * (1 + 2 + 3 + 4 + 5 + 6), 6)


@pytest.mark.parametrize("unit", ["MONTH", "CALENDAR_WEEK", "DAY", "HOUR", "QUARTER_HOUR", "MINUTE", "NONE"])
def test_every_unit_tells_the_same_sum(used: Management, unit: str):
    asked = values("cost_in_usd_ticks", "output_tokens", "requests")
    assert totals(used.ask("POST", PATH, around_now(unit, values=asked)))[()] == [charged(used), 21, 6]


@pytest.mark.parametrize("zone", ["Europe/Oslo", "Asia/Kolkata", "America/St_Johns", "Etc/GMT+5", "UTC", ""])
def test_days_are_those_of_the_time_zone(used: Management, zone: str):
    body = around_now(days=2, values=values("cost_in_usd_ticks", "requests"))
    body["analyticsRequest"]["timeRange"]["timezone"] = zone
    told = used.ask("POST", PATH, body)
    # Whoever is far from UTC may have the last requests in a day that is not asked for.
    assert totals(told)[()] in ([charged(used), 6], [0, 0])
    assert len(told["timeSeries"][0]["dataPoints"]) == 3


def test_groups_and_their_labels(used: Management):
    keys = {key["name"]: key["apiKeyId"] for key in used.ask("GET", "/auth/teams/{team}/api-keys")["apiKeys"]}
    told = used.ask("POST", PATH, around_now(groupBy=["api_key_id"], values=values("requests", "output_tokens")))
    assert totals(told) == {(keys["first-key"],): [2, 11], (keys["ci"],): [4, 10]}
    assert {tuple(one["groupLabels"]) for one in told["timeSeries"]} == {("ci",), ("first-key",)}
    told = used.ask("POST", PATH, around_now(groupBy=["description"], values=values("requests")))
    assert totals(told) == {("Chat grok-beta",): [6]}
    told = used.ask("POST", PATH, around_now(groupBy=["model", "endpoint"], values=values("requests")))
    assert totals(told) == {("grok-beta", "/v1/chat/completions"): [6]}


def test_token_types_split_the_charges(used: Management):
    told = used.ask("POST", PATH, around_now(groupBy=["token_type"], values=values("cost_in_usd_ticks", "tokens")))
    assert totals(told) == {
        ("Prompt text tokens",): [21 * INPUT, 21],
        ("Completion text tokens",): [21 * OUTPUT, 21],
    }


@pytest.mark.parametrize(
    ("filters", "requests"),
    [
        (["model:grok-beta"], [6]),
        (["model=grok-beta", "endpoint:/v1/chat/completions"], [6]),
        (["model:grok-beta", "model:other"], [0]),
        (["description:Chat grok-beta"], [6]),
        (["api_key_id:nobody"], [0]),
    ],
)
def test_all_filters_hold(used: Management, filters: list[str], requests: list[int]):
    told = used.ask("POST", PATH, around_now(filters=filters, values=values("requests")))
    assert totals(told)[()] == requests


@pytest.mark.parametrize(
    ("aggregation", "wanted"),
    [
        ("NONE", 21),
        ("SUM", 21),
        ("COUNT", 6),
        ("AVG", 3.5),
        ("MIN", 1),
        ("MAX", 6),
        ("VAR", 35 / 12),
        ("STD", (35 / 12) ** 0.5),
        ("P50", 3),
        ("P90", 6),
        ("P999", 6),
        ("COUNT_DISTINCT", 6),
    ],
)
def test_aggregations_are_over_requests(used: Management, aggregation: str, wanted: float):
    told = used.ask("POST", PATH, around_now("NONE", values=values("output_tokens", aggregation=aggregation)))
    assert totals(told)[()] == [pytest.approx(wanted)]
    dollars = used.ask("POST", PATH, around_now("NONE", values=values("usd", aggregation=aggregation)))
    if aggregation in ("SUM", "NONE"):
        assert totals(dollars)[()] == [pytest.approx(charged(used) / 10**10)]


def test_what_nobody_used_is_zero_everywhere(shared: Management):
    told = shared.ask("POST", PATH, around_now(values=values("usd", "requests")))
    assert [point["values"] for point in told["timeSeries"][0]["dataPoints"]] == [[0, 0], [0, 0]]
    assert shared.ask("POST", PATH, around_now(groupBy=["model"]))["timeSeries"] == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"timeUnit": "TIME_UNIT_YEAR"}, "timeUnit"),
        ({"timeUnit": 5}, "timeUnit"),
        ({"timeRange": None}, "timeRange"),
        ({"timeRange": {"startTime": "2026-01-01", "endTime": "2026-02-01 00:00:00"}}, "timeRange.startTime"),
        ({"timeRange": {"startTime": "2026-02-30 00:00:00", "endTime": "x"}}, "timeRange.startTime"),
        ({"timeRange": {"startTime": "0001-01-01 00:00:00", "endTime": "9999-12-31 23:59:59"}}, "timeRange.startTime"),
        ({"timeRange": {"startTime": "2026-01-01 00:00:00", "endTime": "2026-01-01 00:00:00"}}, "timeRange.endTime"),
        ({"timeRange": {"startTime": "2026-01-01 00:00:00", "endTime": "9999-12-31 23:59:59"}}, "timeUnit"),
        (
            {"timeRange": {"startTime": "2026-01-01 00:00:00", "endTime": "2026-01-02 00:00:00", "timezone": "../x"}},
            "timeRange.timezone",
        ),
        ({"values": []}, "values"),
        ({"values": [{"name": "euro"}]}, "values"),
        ({"values": [{"name": "usd", "aggregation": "AGGREGATION_MODE"}]}, "values"),
        ({"groupBy": ["weather"]}, "groupBy"),
        ({"groupBy": ["model", "model"]}, "groupBy"),
        ({"filters": ["grok-beta"]}, "filters"),
        ({"timeUnit": "TIME_UNIT_MINUTE", "groupBy": ["token_type"]}, "timeUnit"),
    ],
)
def test_what_makes_no_sense_is_named(shared: Management, change: Any, field: str):
    body = around_now()
    body["analyticsRequest"] |= change
    status, message, param = shared.refused("POST", PATH, body)
    assert (status, param) == (400, f"analyticsRequest.{field}"), message


@given(
    start=st.integers(0, 4_000_000_000),
    seconds=st.integers(1, 4 * 366 * 86_400),
    unit=st.sampled_from(UNITS),
    zone=st.sampled_from(ZONES),
)
def test_buckets_hold_each_moment_once(start: int, seconds: int, unit: str, zone: str):
    if unit in ("SECOND", "MINUTE", "QUARTER_HOUR", "HOUR"):
        seconds = min(seconds, 9_000)
    since, until = (f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M:%S}" for moment in (start, start + seconds))
    # Where clocks are put forward, as on the day that Samoa left out, nothing lies between two times.
    with suppress(InvalidRequest):
        hold(buckets_of(since, until, zone, unit))


def hold(buckets: Buckets) -> None:
    assert list(buckets.starts) == sorted(set(buckets.starts))
    assert buckets.starts[0] <= buckets.since < buckets.until
    assert buckets.starts[-1] < buckets.until
    for moment in (buckets.since, buckets.until - 1, (buckets.since + buckets.until) // 2):
        place = buckets.place(moment)
        assert place is not None
        assert buckets.starts[place] <= moment
        assert place + 1 == len(buckets.starts) or moment < buckets.starts[place + 1]
    assert buckets.place(buckets.since - 1) is buckets.place(buckets.until) is None


def test_audit_events_have_pages_in_both_orders(management: Management):
    for number in range(5):
        management.create(name=f"key {number}")
    path = "/audit/teams/{team}/events"
    whole = {order: management.ask("GET", path, orderBy=order)["events"] for order in ORDERS}
    assert whole["TIME_ASCENDING"] == whole["TIME_DESCENDING"][::-1]
    for order, events in whole.items():
        pages: list[Any] = []
        query: dict[str, Any] = {}
        while True:
            page = management.ask("GET", path, orderBy=order, pageSize=2, **query)
            pages += page["events"]
            if "nextPageToken" not in page:
                break
            query = {"pageToken": page["nextPageToken"]}
        assert pages == events
    newest = whole["TIME_DESCENDING"][0]

    def found(**query: Any) -> list[Any]:
        return list(management.ask("GET", path, **query)["events"])

    assert found(**{"eventFilter.eventId": newest["eventId"]}) == [newest]
    assert found(eventTimeTo="2001-01-01T00:00:00Z") == []
    assert found(eventTimeFrom="2001-01-01T00:00:00Z") == whole["TIME_DESCENDING"]
    assert len(found(**{"eventFilter.query": ": KEYS create"})) == 6
    assert management.refused("GET", path, orderBy="SIZE")[2] == "orderBy"
    assert management.refused("GET", path, eventTimeFrom="yesterday")[2] == "eventTimeFrom"


def test_an_event_names_its_user(management: Management):
    server = management.server
    [user] = server.run(server.instance.users.all())
    actor = Actor(user.id, user.email)
    server.run(server.instance.organisations.rename(server.organisation_id, "Northwind AS", actor))
    [event] = management.ask("GET", "/audit/teams/{team}/events", **{"eventFilter.userId": user.id})["events"]
    assert event["user"] == {"userId": user.id, "email": user.email, "givenName": user.name}
    assert event["description"].endswith("(name: Northwind → Northwind AS)")

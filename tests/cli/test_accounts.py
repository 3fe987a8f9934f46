"""What the command line changes about organisations and their credits, and the audit log that tells it."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from leadline.administration.commands.run import run
from leadline.administration.instance import Instance
from leadline.clock import MICROSECONDS_PER_DAY, rfc3339
from leadline.errors import PermissionDenied
from leadline.storage.database import Database
from tests.cli.in_process import CommandLine
from tests.cli.process import EMAIL, PASSWORD
from tests.scripted.server import EMAIL as ALICE
from tests.scripted.server import ScriptedServer

NOON = 1_800_014_400_000_000  # 15 January 2027, 12:00 UTC
DAY = MICROSECONDS_PER_DAY


@pytest.fixture
def leadline(tmp_path: Path) -> CommandLine:
    return CommandLine.with_alice(tmp_path / "data")


async def logged(database: Database) -> list[tuple[Any, ...]]:
    """Without what made the organisations, their starter credit and their first keys."""
    rows = await database.rows(
        "SELECT actor, action, before, after FROM audit_log WHERE action NOT LIKE '% create'"
        " AND after NOT LIKE '%starter credit%' ORDER BY rowid"
    )
    return [(actor, action, json.loads(before), json.loads(after)) for actor, action, before, after in rows]


def audit_log(leadline: CommandLine) -> list[tuple[Any, ...]]:
    async def read() -> list[tuple[Any, ...]]:
        instance = await Instance.open(leadline.data)
        try:
            return await logged(instance.database)
        finally:
            await instance.close()

    return asyncio.run(read())


def test_an_organisation_is_suspended_and_resumed_by_any_of_its_users(leadline: CommandLine) -> None:
    suspended = leadline("accounts", "suspend", EMAIL)
    [listed] = leadline.json("accounts", "list")["accounts"]
    shown = leadline("accounts", "list").out
    resumed = leadline.json("accounts", "resume", EMAIL.upper())
    [again] = leadline.json("accounts", "list")["accounts"]

    assert suspended.out == "Northwind Labs is suspended: its keys are refused.\n"
    assert listed["suspended_at"].endswith("Z")
    assert shown.splitlines()[1].endswith("  suspended")
    assert resumed == {
        "organisation_id": listed["organisation_id"],
        "organisation": "Northwind Labs",
        "suspended": False,
    }
    assert again["suspended_at"] is None
    assert [action for _, action, _, _ in audit_log(leadline)] == ["accounts suspend", "accounts resume"]


def test_a_suspension_beside_a_running_server_holds_at_once(server: ScriptedServer) -> None:
    organisations = server.instance.organisations

    async def refused() -> bool:
        try:
            organisations.refuse_if_suspended(server.organisation_id)
        except PermissionDenied:
            return True
        return False

    server.command("accounts suspend", email=ALICE)
    assert server.run(refused()) is True
    server.command("accounts resume", email=ALICE)
    assert server.run(refused()) is False


def test_an_email_is_changed_and_the_old_one_is_nobodys(leadline: CommandLine) -> None:
    changed = leadline("accounts", "change-email", EMAIL, "Mara@South.example")

    assert changed.out == f"{EMAIL} is mara@south.example from now on.\n"
    assert leadline("credits", "balance", EMAIL).code == 1
    assert leadline("credits", "balance", "mara@south.example").code == 0
    assert audit_log(leadline) == [
        ("command line", "accounts change-email", {"email": EMAIL}, {"email": "mara@south.example"})
    ]


def test_an_email_that_is_taken_is_wrong_usage_and_nobody_is_an_error(leadline: CommandLine) -> None:
    person = ("--email", "bob@south.example", "--org", "South", "--password-stdin", "--yes")
    assert leadline("accounts", "create", *person, stdin=f"{PASSWORD}\n").code == 0

    taken = leadline("accounts", "change-email", EMAIL, "BOB@south.example")
    nobody = [
        leadline("accounts", *args)
        for args in (("change-email", "x@y.example", "z@y.example"), ("suspend", "x@y.example"))
    ]

    assert (taken.code, "already signed up" in taken.err) == (2, True)
    assert [(done.code, "Nobody here" in done.err) for done in nobody] == [(1, True)] * 2
    assert audit_log(leadline) == []


async def test_of_several_who_begin_at_once_one_makes_the_organisation(tmp_path: Path) -> None:
    instance = await Instance.open(tmp_path / "data")
    begins = {"org": "Northwind", "password": PASSWORD, "first": {"credit": "1", "key": None}}

    made = await asyncio.gather(*(run(instance, "init", {"email": f"u{n}@x.example", **begins}) for n in range(20)))
    actions = [row.action for row in await instance.audit_log.rows(None)]
    verified = await run(instance, "credits verify", {})
    await instance.close()

    assert sum("api_key" in one for one in made) == 1
    assert len({one["organisation_id"] for one in made}) == 1
    assert sorted(actions) == ["accounts create", "credits grant", "keys create"]
    assert (verified["ok"], verified["checked"]) == (True, 1)


def test_a_grant_is_logged_with_its_reason_and_end(leadline: CommandLine) -> None:
    for_ever = leadline("credits", "grant", EMAIL, "2.5", "--reason", "pilot")
    ending = leadline.json("credits", "grant", EMAIL, "1", "--reason", "trial", "--expires", "2999-03-31")

    assert for_ever.out == "Granted $2.50 to Northwind Labs. Balance $7.50.\n"
    assert ending["expires_at"] == "2999-03-31T23:59:59.999Z"
    assert audit_log(leadline) == [
        (
            *("command line", "credits grant", {}),
            {"granted_ticks": 25 * 10**9, "expires_at": None, "reason": "pilot"},
        ),
        (
            *("command line", "credits grant", {}),
            {"granted_ticks": 10**10, "expires_at": "2999-03-31T23:59:59.999Z", "reason": "trial"},
        ),
    ]


@pytest.mark.parametrize(
    ("expires", "words"),
    [
        ("2001-01-01", "over already"),
        ("0s", "over already"),
        ("soon", "90d, or a date such as 2027-03-31"),
        ("2027-02-30", "90d, or a date"),
        ("20270331", "90d, or a date"),
    ],
)
def test_a_grant_whose_end_makes_no_sense_is_not_given(leadline: CommandLine, expires: str, words: str) -> None:
    done = leadline("credits", "grant", EMAIL, "1", "--reason", "x", "--expires", expires)

    assert (done.code, done.out, words in done.err) == (2, "", True)
    assert leadline.json("credits", "balance", EMAIL)["balance_ticks"] == 5 * 10**10
    assert audit_log(leadline) == []


async def test_credits_last_until_the_end_of_their_day_in_utc(tmp_path: Path) -> None:
    now = NOON
    instance = await Instance.open(tmp_path / "data")
    instance.keys.clock = instance.ledger._clock = lambda: now
    first = {"credit": "0", "key": None}
    await run(instance, "init", {"email": EMAIL, "org": "Northwind", "password": PASSWORD, "first": first})

    async def grant(expires: str) -> str:
        arguments = {"email": EMAIL, "amount": "1", "reason": "x", "expires": expires}
        ends_at: str = (await run(instance, "credits grant", arguments))["expires_at"]
        return ends_at

    async def balance_at(moment: int) -> int:
        nonlocal now
        now = moment
        await instance.ledger.tick()
        balance: int = (await run(instance, "credits balance", {"email": EMAIL}))["balance_ticks"]
        return balance // 10**10

    ends = [await grant("2027-01-15"), await grant("2d")]
    midnight = NOON + DAY // 2
    balances = [await balance_at(at) for at in (midnight - 2, midnight, NOON + 2 * DAY - 1, NOON + 2 * DAY)]
    verified = await run(instance, "credits verify", {})
    await instance.close()

    assert ends == ["2027-01-15T23:59:59.999Z", rfc3339(NOON + 2 * DAY)]
    assert balances == [2, 1, 1, 0]
    assert verified["ok"]

"""Mails about money: to whom, when, and how often."""

import pytest

from leadline.accounts.actor import COMMAND_LINE
from leadline.billing.alerts import LowCredits
from leadline.errors import InvalidRequest
from leadline.ledger.spend_limits import SpendLimits, change_spend_limits
from leadline.money import usd
from leadline.storage.database import DatabaseUnusable, Write
from tests.unit.billing.conftest import BASE_URL, Office, join
from tests.unit.conftest import Commits
from tests.unit.ledger.scenes import DAY, at

PAYERS = ["admin@example.com", "billing@example.com", "owner@example.com"]


async def subjects(office: Office) -> list[str]:
    """Of the mails to the owner."""
    return [mail.subject for mail in await office.mails() if mail.to == "owner@example.com"]


def note(name: str) -> Write:
    return Write("INSERT INTO facts (name, value) VALUES ($1, 0)", (name,))


async def limit(office: Office, soft: str | None, hard: str | None = None) -> None:
    limits = SpendLimits(*(None if one is None else usd(one) for one in (soft, hard)))
    await change_spend_limits(office.ledger, office.organisation_id, limits)
    office.alerts.soft_limit_changed(office.organisation_id, limits.soft_ticks)


@pytest.mark.parametrize(
    ("balance", "full", "reached"),
    [(201, 1000, None), (200, 1000, 20), (51, 1000, 20), (50, 1000, 5), (10, 1000, 5), (9, 1000, 0), (0, 1000, 0)],
)
def test_the_lowest_threshold_counts(balance: int, full: int, reached: int | None) -> None:
    assert LowCredits().reached(balance, full) == reached


async def test_owners_admins_and_billing_are_told_at_each_threshold_once(office: Office) -> None:
    await office.grant("10")
    told = [await office.alerts.look(BASE_URL)]
    for dollars in ("7.99", "0.02", "0.01", "1.50", "0.40", "0.08"):
        await office.spend(dollars)
        told.append(await office.alerts.look(BASE_URL))

    assert told == [0, 0, 1, 0, 1, 1, 0]
    mails = await office.mails()
    assert sorted(mail.to for mail in mails[:3]) == PAYERS
    assert await subjects(office) == [
        *("Alice: $1.99 of credits left", "Alice: $0.48 of credits left", "Alice: $0.08 of credits left"),
    ]
    assert mails[0].text == (
        "Alice has $1.99 of credits left: 19 % of the $10.00 that there were after the last top-up. At the pace of the"
        " last seven days that is less than a day.\n\nWithout credits requests are refused. Add some:\n"
        "https://leadline.example/billing\n\nYou are told at 20 %, 5 %, 0 %, once each until the next top-up. Change"
        " that on the same page.\n"
    )
    assert "less than 1 % of the $10.00" in mails[-1].text


async def test_a_top_up_starts_anew(office: Office) -> None:
    await office.grant("10")
    await office.spend("9")
    await office.alerts.look(BASE_URL)
    await office.grant("9")
    refilled = await office.alerts.look(BASE_URL)
    await office.spend("8.50")

    assert (refilled, await office.alerts.look(BASE_URL)) == (0, 1)
    assert await subjects(office) == ["Alice: $1.00 of credits left", "Alice: $1.50 of credits left"]


async def test_days_left_are_told_by_what_was_spent_lately(office: Office) -> None:
    await office.grant("100")
    await office.spend("40")
    office.clock.step(4 * DAY)
    await office.spend("40")
    await office.alerts.look(BASE_URL)

    assert "At the pace of the last seven days that is about 1 day." in (await office.mails())[0].text


async def test_what_was_told_is_told_once_also_after_a_restart(office: Office) -> None:
    await office.grant("10")
    await office.spend("8")
    await office.alerts.look(BASE_URL)

    again = await office.again()
    looked = await again.alerts.look(BASE_URL)
    await again.spend("1.50")

    assert (looked, await again.alerts.look(BASE_URL)) == (0, 1)


async def test_what_fell_just_before_a_restart_is_told_after_it(office: Office) -> None:
    await office.grant("10")
    await office.spend("9")

    assert await (await office.again()).alerts.look(BASE_URL) == 1


async def test_what_running_requests_hold_is_not_gone_yet(office: Office) -> None:
    await office.grant("10")
    office.ledger.reserve(office.hold("9.99"))

    assert await office.alerts.look(BASE_URL) == 0


async def test_only_those_whose_balance_changed_are_looked_at(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    await office.grant("10")
    await office.alerts.look(BASE_URL)
    looked: list[str] = []
    monkeypatch.setattr(office.alerts, "_due", looked.append)

    await office.alerts.look(BASE_URL)
    quiet = list(looked)
    await office.spend("1")
    await office.alerts.look(BASE_URL)

    assert (quiet, looked) == ([], [office.organisation_id])


async def test_a_mail_that_does_not_reach_the_disk_is_told_next_time(office: Office, commits: Commits) -> None:
    await office.grant("10")
    await office.spend("9")
    commits.refusals = 1

    with pytest.raises(DatabaseUnusable):
        await office.alerts.look(BASE_URL)

    assert await office.alerts.look(BASE_URL) == 1
    assert len(await office.mails()) == 3


async def test_one_round_tells_no_more_than_it_may_and_the_next_goes_on(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leadline.billing.alerts._MOST_TOLD", 2)
    for name in ("bob", "carol"):
        organisation = await office.people.create(f"{name}@example.com", name.title())
        office.ledger.opened(organisation.id)
    office = await office.again()
    for one in await office.people.organisations.all():
        await office.ledger.grant(one.id, usd("10"), "welcome")
        await office.ledger.take_back(one.id, usd("9"), "test", note(one.id), lambda _: [])

    assert [await office.alerts.look(BASE_URL) for _ in range(3)] == [2, 1, 0]


async def test_an_organisation_chooses_its_thresholds(office: Office) -> None:
    await office.grant("10")
    await office.alerts.change_thresholds(office.organisation_id, (10, 50, 50))
    await office.spend("5")
    at_half = await office.alerts.look(BASE_URL)
    again = await office.again()
    await again.spend("3.50")

    assert (at_half, await again.alerts.look(BASE_URL)) == (1, 0)
    assert again.alerts.thresholds(office.organisation_id) == (50, 10)


async def test_an_organisation_may_want_no_mails(office: Office) -> None:
    await office.alerts.change_thresholds(office.organisation_id, ())
    await office.grant("10")
    await office.spend("10")

    assert await office.alerts.look(BASE_URL) == 0
    assert (await office.again()).alerts.thresholds(office.organisation_id) == ()


@pytest.mark.parametrize("thresholds", [(100,), (-1,), (1, 2, 3, 4)])
async def test_thresholds_that_make_no_sense_are_refused(office: Office, thresholds: tuple[int, ...]) -> None:
    with pytest.raises(InvalidRequest, match="percentages"):
        await office.alerts.change_thresholds(office.organisation_id, thresholds)


async def test_whoever_is_suspended_or_gone_is_not_told(office: Office) -> None:
    people = office.people
    await join(people, office.organisation_id, "second@example.com", "owner")
    await people.users.suspend(await people.user("admin@example.com"), COMMAND_LINE)
    billing = await people.user("billing@example.com")
    await people.organisations.remove_member(office.organisation_id, billing.id, COMMAND_LINE)
    await office.grant("10")
    await office.spend("9")

    await office.alerts.look(BASE_URL)

    assert sorted(mail.to for mail in await office.mails()) == ["owner@example.com", "second@example.com"]


async def test_at_a_soft_limit_people_are_told_once_a_month_and_requests_go_on(office: Office) -> None:
    office.clock.now = at(2027, 1, 30)
    await office.grant("100")
    await limit(office, "10", "30")
    steps = []
    for dollars in ("9.99", "0.01", "5"):
        await office.spend(dollars)
        steps.append(await office.alerts.look(BASE_URL))
    office.clock.now = at(2027, 2, 1)
    await office.spend("9")
    steps.append(await office.alerts.look(BASE_URL))
    again = await office.again()
    await again.spend("1")
    steps += [await again.alerts.look(BASE_URL), await (await again.again()).alerts.look(BASE_URL)]

    assert steps == [0, 1, 0, 0, 1, 0]
    assert await subjects(office) == ["Alice has spent $10.00 this month", "Alice has spent $10.00 this month"]
    assert (await office.mails())[0].text == (
        "Alice has spent $10.00 in January 2027 (UTC), which is at or above the $10.00 at which you wanted to be told."
        " Requests go on until $30.00 are spent, and are refused from there on.\n\n"
        "Usage: https://leadline.example/usage\nLimits: https://leadline.example/billing\n"
    )


async def test_a_new_soft_limit_is_told_of_in_the_same_month(office: Office) -> None:
    await office.grant("100")
    await limit(office, "10")
    await office.spend("11")
    steps = [await office.alerts.look(BASE_URL)]
    await limit(office, "20")
    steps.append(await office.alerts.look(BASE_URL))
    await office.spend("9")
    steps.append(await office.alerts.look(BASE_URL))
    await limit(office, None)
    await office.spend("30")

    assert [*steps, await office.alerts.look(BASE_URL)] == [1, 0, 1, 0]


@pytest.mark.parametrize(
    ("soft", "hard", "param"), [("-1", None, "soft_usd"), (None, "0", "hard_usd"), ("9", "8", "soft_usd")]
)
async def test_limits_that_make_no_sense_are_refused(
    office: Office, soft: str | None, hard: str | None, param: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await limit(office, soft, hard)

    assert refused.value.param == param

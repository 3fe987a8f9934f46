"""What is paid is credited once, and what is lost of it again is taken back as far as it is there."""

import asyncio
import itertools
from dataclasses import replace

import pytest

from leadline.accounts.audit_log import AuditLog
from leadline.billing.receipts import BillingDetails, changed_details
from leadline.billing.top_ups import Lost, Paid, PaymentMismatch, TopUp, cents_of
from leadline.errors import InvalidRequest, NotFound, RateLimited
from leadline.ledger.audit import audit
from leadline.ledger.books import Entry
from leadline.money import usd
from tests.unit.billing.conftest import ALICE, BASE_URL, Office
from tests.unit.conftest import Commits
from tests.unit.ledger.scenes import DAY, HOUR, at, finished

REFUND = Lost("ch_1", "pi_1", 2_000, "refund")


async def begun(office: Office, cents: int = 2_000) -> TopUp:
    top_up = await office.top_ups.begin(office.organisation_id, cents, ALICE)
    await office.top_ups.remember_session(top_up, f"cs_{top_up.id}")
    return await office.top_ups.get(office.organisation_id, top_up.id)


def paid(top_up: TopUp, payment: str = "pi_1") -> Paid:
    assert top_up.session_id is not None
    return Paid(top_up.id, top_up.organisation_id, top_up.session_id, payment, top_up.cents, "usd")


async def lines(office: Office) -> list[tuple[str, int]]:
    """Kinds and cents of the entries."""
    entries = await office.ledger.entries(office.organisation_id)
    return [(entry.kind, entry.amount_ticks // usd("0.01")) for entry in entries]


async def in_order(office: Office) -> None:
    assert (await audit(office.database, office.ledger)).broken == ()


async def test_a_payment_becomes_an_entry_a_receipt_a_mail_and_a_row_of_the_audit_log(office: Office) -> None:
    top_up = await begun(office)

    assert await office.top_ups.credit(paid(top_up), BASE_URL)

    [entry] = await office.ledger.entries(office.organisation_id)
    [receipt] = await office.receipts.newest(office.organisation_id, 10)
    [row, *_] = await AuditLog(office.database).rows(office.organisation_id)
    mails = await office.mails()
    assert entry == Entry(entry.id, office.clock.now, "grant", usd("20"), "top-up, payment pi_1")
    assert (receipt.number, receipt.cents, receipt.payment, receipt.organisation) == (
        "R-2027-000001",
        2000,
        "pi_1",
        "Alice",
    )
    assert (row.actor_name, row.action, row.subject) == ("Stripe", "credits top-up", top_up.id)
    assert row.after == {"granted_ticks": usd("20"), "payment": "pi_1"}
    assert sorted(mail.to for mail in mails) == ["admin@example.com", "billing@example.com", "owner@example.com"]
    assert (mails[0].subject, mails[0].because) == ("Payment received: $20.00", "receipt")
    assert "Receipt: https://leadline.example/billing/receipts/pi_1" in mails[0].text
    assert (await office.top_ups.get(office.organisation_id, top_up.id)).credited_at == office.clock.now
    await in_order(office)


async def test_a_payment_is_credited_once_however_often_it_is_told(office: Office) -> None:
    top_up = await begun(office)

    first = await asyncio.gather(*(office.top_ups.credit(paid(top_up), BASE_URL) for _ in range(50)))
    again = await office.again()
    later = [await one.top_ups.credit(paid(top_up), BASE_URL) for one in (office, again, office)]

    assert (sum(first), later) == (1, [False] * 3)
    assert await lines(office) == [("grant", 2_000)]
    assert len(await office.receipts.newest(office.organisation_id, 10)) == 1
    assert len(await office.mails()) == 3


async def test_one_payment_pays_for_one_top_up(office: Office) -> None:
    first, second = await begun(office), await begun(office)

    credited = [await office.top_ups.credit(paid(one), BASE_URL) for one in (first, second)]

    assert (credited, await lines(office)) == ([True, False], [("grant", 2_000)])


async def test_one_top_up_is_paid_for_by_one_payment(office: Office) -> None:
    top_up = await begun(office)

    credited = [await office.top_ups.credit(paid(top_up, payment), BASE_URL) for payment in ("pi_1", "pi_2")]

    assert (credited, await lines(office)) == ([True, False], [("grant", 2_000)])


async def test_what_the_disk_refuses_for_a_while_is_credited_once(office: Office, commits: Commits) -> None:
    top_up = await begun(office)
    commits.refusals = 3

    credited = await asyncio.gather(*(office.top_ups.credit(paid(top_up), BASE_URL) for _ in range(3)))

    assert sum(credited) == 1
    assert await lines(office) == [("grant", 2_000)]
    assert (await office.again()).ledger.balance(office.organisation_id).balance_ticks == usd("20")


@pytest.mark.parametrize(
    "changed",
    [
        {"cents": 200_000},
        {"cents": 1_999},
        {"currency": "jpy"},
        {"organisation_id": "org_mallory"},
        {"session_id": "cs_other"},
    ],
    ids=lambda changed: next(iter(changed)),
)
async def test_a_payment_that_is_not_what_was_asked_for_credits_nothing(
    office: Office, changed: dict[str, str]
) -> None:
    top_up = await begun(office)

    with pytest.raises(PaymentMismatch):
        await office.top_ups.credit(replace(paid(top_up), **changed), BASE_URL)

    assert await lines(office) == []
    assert await office.top_ups.credit(paid(top_up), BASE_URL)


async def test_a_crash_before_the_session_was_noted_loses_no_payment(office: Office) -> None:
    top_up = await office.top_ups.begin(office.organisation_id, 2_000, ALICE)

    assert await office.top_ups.credit(paid(replace(top_up, session_id="cs_1")), BASE_URL)


async def test_payments_for_others_on_the_same_account_are_none_of_ours(office: Office) -> None:
    top_up = await begun(office)

    assert not await office.top_ups.credit(replace(paid(top_up), top_up_id="top_elsewhere"), BASE_URL)
    await office.top_ups.lose(replace(REFUND, payment="pi_elsewhere"))

    assert await lines(office) == []


async def test_a_top_up_of_another_organisation_is_not_found(office: Office) -> None:
    top_up = await begun(office)

    for organisation_id, top_up_id in (("org_mallory", top_up.id), (office.organisation_id, "top_none")):
        with pytest.raises(NotFound):
            await office.top_ups.get(organisation_id, top_up_id)


async def test_payments_are_not_begun_without_end(office: Office) -> None:
    for _ in range(30):
        await office.top_ups.begin(office.organisation_id, 500, ALICE)
    with pytest.raises(RateLimited):
        await office.top_ups.begin(office.organisation_id, 500, ALICE)

    office.clock.step(HOUR)

    await office.top_ups.begin(office.organisation_id, 500, ALICE)


async def test_a_refund_takes_back_what_is_there_and_never_more(office: Office) -> None:
    top_up = await begun(office)
    await office.top_ups.credit(paid(top_up), BASE_URL)
    await office.spend("15")

    await office.top_ups.lose(REFUND)

    assert await lines(office) == [("grant", 2_000), ("charge", -1_500), ("adjustment", -500)]
    [row, *_] = await AuditLog(office.database).rows(office.organisation_id)
    assert (row.actor_name, row.action, row.subject) == ("Stripe", "credits take-back", top_up.id)
    assert row.after == {
        "lost_ticks": usd("20"),
        "taken_ticks": usd("5"),
        "reason": "refund of payment pi_1",
    }
    await in_order(office)


async def test_refunds_in_parts_are_taken_back_once_each_however_they_arrive(office: Office) -> None:
    """Each tells how much it is in all by now; a late one tells nothing new."""
    await office.top_ups.credit(paid(await begun(office)), BASE_URL)
    parts = [replace(REFUND, cents=cents) for cents in (500, 800, 500, 300, 800)]

    await office.top_ups.lose(parts[0])
    await asyncio.gather(*(office.top_ups.lose(part) for part in parts * 5))

    assert sum(cents for _, cents in await lines(office)) == 2_000 - 800
    await in_order(office)


async def test_what_running_requests_hold_is_taken_back_when_they_have_ended(office: Office) -> None:
    await office.top_ups.credit(paid(await begun(office)), BASE_URL)
    running = [office.hold("8"), office.hold("3.005")]
    for one in running:
        office.ledger.reserve(one)

    steps = []
    for ended in (None, *running):
        if ended is None:
            await office.top_ups.lose(REFUND)
        else:
            await office.ledger.settle(ended, finished(ended, usd("1"), at=office.clock.now))
        for _ in range(2):
            await office.top_ups.take_rest_back()
        steps.append(office.ledger.balance(office.organisation_id).available_ticks)

    assert steps == [usd("0.005"), usd("0.005"), 0]
    assert await lines(office) == [
        ("grant", 2_000),
        ("adjustment", -899),
        ("charge", -100),
        ("adjustment", -700),
        ("charge", -100),
        ("adjustment", -201),
    ]
    await office.grant("5")
    await office.top_ups.take_rest_back()
    assert office.ledger.balance(office.organisation_id).available_ticks == usd("5")
    await in_order(office)


async def test_refund_and_dispute_together_take_back_no_more_than_was_paid(office: Office) -> None:
    await office.grant("100")
    await office.top_ups.credit(paid(await begun(office)), BASE_URL)

    await office.top_ups.lose(replace(REFUND, cents=500))
    await office.top_ups.lose(Lost("dp_1", "pi_1", 2_000, "dispute"))
    await office.top_ups.lose(Lost("dp_1", "pi_1", 2_000, "dispute"))

    assert await lines(office) == [("grant", 10_000), ("grant", 2_000), ("adjustment", -500), ("adjustment", -1_500)]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_the_order_in_which_things_are_told_changes_nothing(office: Office, order: tuple[int, ...]) -> None:
    top_up = await begun(office)

    async def credit() -> None:
        await office.top_ups.credit(paid(top_up), BASE_URL)

    told = [credit, lambda: office.top_ups.lose(replace(REFUND, cents=500)), lambda: office.top_ups.lose(REFUND)]
    for number in order:
        await told[number]()

    assert sum(cents for _, cents in await lines(office)) == 0
    await in_order(office)


async def test_receipts_are_numbered_without_gaps_in_each_year(office: Office) -> None:
    numbers = []
    for year, payment in ((2027, "a"), (2027, "b"), (2028, "c"), (2028, "d")):
        office.clock.now = at(year, 12, 31, 23, 59, 59)
        top_up = await begun(office)
        with pytest.raises(PaymentMismatch):
            await office.top_ups.credit(replace(paid(top_up, payment), cents=1), BASE_URL)
        await asyncio.gather(*(office.top_ups.credit(paid(top_up, payment), BASE_URL) for _ in range(3)))
        numbers.append((await office.receipts.newest(office.organisation_id, 1))[0].number)

    assert numbers == ["R-2027-000001", "R-2027-000002", "R-2028-000001", "R-2028-000002"]
    assert [one.number for one in await office.receipts.newest(office.organisation_id, 9)] == numbers[::-1]


async def test_many_payments_at_once_have_a_receipt_each(office: Office) -> None:
    top_ups = [await begun(office) for _ in range(20)]

    await asyncio.gather(
        *(office.top_ups.credit(paid(one, f"pi_{number}"), BASE_URL) for number, one in enumerate(top_ups))
    )

    receipts = await office.receipts.newest(office.organisation_id, 50)
    assert [one.sequence for one in receipts] == list(range(20, 0, -1))
    assert office.ledger.balance(office.organisation_id).balance_ticks == usd("400")


async def test_a_receipt_says_what_was_true_when_it_was_written(office: Office) -> None:
    first = BillingDetails("Alice GmbH", ("Hafenstr. 1", "20457 Hamburg"), "DE123456789")
    await office.database.commit(changed_details(office.organisation_id, first))
    await office.top_ups.credit(paid(await begun(office)), BASE_URL)
    second = BillingDetails("Alice SE", (), "")
    await office.database.commit(changed_details(office.organisation_id, second))
    office.clock.step(DAY)

    by_number = await office.receipts.find(office.organisation_id, "R-2027-000001")

    assert by_number == await office.receipts.find(office.organisation_id, "pi_1")
    assert (by_number.details, await office.receipts.details(office.organisation_id)) == (first, second)


@pytest.mark.parametrize("number", ["R-2027-000002", "R-2027-1", "pi_2", "", "R-9999-999999999999"])
async def test_a_receipt_that_never_was_is_not_found(office: Office, number: str) -> None:
    await office.top_ups.credit(paid(await begun(office)), BASE_URL)

    for organisation_id, name in ((office.organisation_id, number), ("org_mallory", "R-2027-000001")):
        with pytest.raises(NotFound):
            await office.receipts.find(organisation_id, name)


@pytest.mark.parametrize(
    ("details", "param"),
    [
        (BillingDetails("x" * 201), "name"),
        (BillingDetails("a\nb"), "name"),
        (BillingDetails(tax_id="x" * 51), "tax_id"),
        (BillingDetails(lines=("x",) * 7), "address"),
        (BillingDetails(lines=("x\x00",)), "address"),
    ],
)
def test_details_that_no_receipt_can_have_are_refused(details: BillingDetails, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        changed_details("org_alice", details)

    assert refused.value.param == param


@pytest.mark.parametrize(
    ("text", "cents"), [("5", 500), ("20.50", 2050), (" $1,000 ", 100_000), ("10000.00", 1_000_000)]
)
def test_amounts_are_read_as_people_write_them(text: str, cents: int) -> None:
    assert cents_of(text) == cents


@pytest.mark.parametrize("text", ["", "4.99", "10000.01", "5.001", "-5", "nan", "five", "1e400", "1e-400", "Infinity"])
def test_other_amounts_are_refused(text: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        cents_of(text)

    assert refused.value.param == "amount"

"""Balance, top-ups, limits, invoices and billing details over the management API."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest

from leadline.money import usd
from tests.conformance.management.conftest import CACHED, INPUT, OUTPUT, Management, chat
from tests.raw import post
from tests.scripted.stripe import ScriptedStripe, event, signed

CENT = 10**8
TEAM = "/v1/billing/teams/{team}"
NO_ADDRESS = dict.fromkeys(("line1", "line2", "city", "state", "postalCode", "country"), "")


def spend(management: Management, requests: int = 3) -> int:
    """Chats, and what they cost together."""
    for number in range(requests):
        assert chat(management.server, management.server.api_key, "word " * (number + 1)).status == 200
    return -sum(entry.amount_ticks for entry in management.server.charges())


def test_the_balance_is_what_changed_it(management: Management):
    spent = spend(management)
    management.server.command("credits grant", email=None, amount="2.50", reason="thanks")
    told = management.ask("GET", f"{TEAM}/prepaid/balance")
    balance = management.server.balance().balance_ticks
    assert balance == usd("12.50") - spent
    # Credit is negative, and nobody is told of more than there is.
    assert told["total"] == {"val": str(-(balance // CENT))}
    assert told["totalTicks"] == str(-balance)
    assert sum(int(change["amount"]["val"]) for change in told["changes"]) == int(told["total"]["val"])
    assert sum(int(change["amountTicks"]) for change in told["changes"]) == -balance
    origins = [(change["changeOrigin"], change["amountTicks"]) for change in told["changes"]]
    now = datetime.now(UTC)
    assert origins == [
        ("MANUAL", str(-usd("10"))),
        ("MANUAL", str(-usd("2.50"))),
        ("SPEND", str(spent)),
    ]
    last = told["changes"][-1]
    assert (last["spendBpKeyYear"], last["spendBpKeyMonth"]) == (now.year, now.month)
    assert {change["teamId"] for change in told["changes"]} == {management.server.organisation_id}


def test_the_invoice_adds_up_to_the_charges(management: Management):
    spent = spend(management)
    post(management.server.port, "/v1/messages", management.server.api_key, messages_body())
    spent = -sum(entry.amount_ticks for entry in management.server.charges())
    told = management.ask("GET", f"{TEAM}/postpaid/invoice/preview")
    invoice = told["coreInvoice"]
    lines = {(line["description"], line["unitType"]): line for line in invoice["lines"]}
    assert sum(int(line["amountTicks"]) for line in invoice["lines"]) == int(invoice["totalTicks"]) == spent
    assert sum(int(line["amount"]) for line in invoice["lines"]) == int(invoice["amountAfterVat"]) == spent // CENT
    prompt = lines["Chat grok-beta", "Prompt text tokens"]
    answer = lines["Chat grok-beta", "Completion text tokens"]
    assert (prompt["unitPrice"], answer["unitPrice"]) == (str(INPUT), str(OUTPUT))
    assert int(prompt["amountTicks"]) == int(prompt["numUnits"]) * INPUT
    assert int(answer["amountTicks"]) == int(answer["numUnits"]) * OUTPUT
    assert CACHED not in {int(line["unitPrice"]) for line in invoice["lines"]}
    credits, used = (int(invoice[name]["val"]) for name in ("prepaidCredits", "prepaidCreditsUsed"))
    assert abs(credits) - abs(used) == management.server.balance().balance_ticks // CENT
    now = datetime.now(UTC)
    assert told["billingCycle"] == {"year": now.year, "month": now.month}


def messages_body() -> bytes:
    body = {"model": "grok-beta", "max_tokens": 9, "messages": [{"role": "user", "content": "a b c"}]}
    return json.dumps(body).encode()


def test_without_use_there_is_an_empty_invoice(shared: Management):
    invoice = shared.ask("GET", f"{TEAM}/postpaid/invoice/preview")["coreInvoice"]
    assert (invoice["lines"], invoice["totalTicks"], invoice["prepaidCreditsUsed"]) == ([], "0", {"val": "0"})


def test_a_spending_limit_stops_from_the_next_request_on(management: Management):
    path = f"{TEAM}/postpaid/spending-limits"
    zero = {"val": "0"}
    nothing = {"hardSlAuto": zero, "effectiveHardSl": zero, "effectiveSl": zero}
    assert management.ask("GET", path) == {"spendingLimits": nothing}
    spend(management)
    for _ in range(2):
        told = management.ask("POST", path, {"desiredSoftSpendingLimit": {"val": "1"}})
        assert told == {"thisBpSoftSpendingLimit": {"val": "1"}}
    limits = management.ask("GET", path)["spendingLimits"]
    assert (limits["softSl"], limits["effectiveSl"]) == ({"val": "1"}, {"val": "1"})
    # Each costs six tenths of a cent.
    first, second = (chat(management.server, management.server.api_key, "word " * 500, max_tokens=500) for _ in "12")
    assert (first.status, second.status) == (200, 429)
    assert b"Your organisation's limit is $0.01 a month" in second.body
    assert management.ask("POST", path, {"desiredSoftSpendingLimit": {"val": 0}})["thisBpSoftSpendingLimit"] == zero
    assert management.ask("GET", path) == {"spendingLimits": nothing}
    assert chat(management.server, management.server.api_key, "word " * 500, max_tokens=500).status == 200


def test_the_limit_for_mails_is_beside_it(management: Management):
    path = f"{TEAM}/postpaid/spending-limits"
    both = {"desiredSoftSpendingLimit": {"val": "2000"}, "desiredWarningLimit": {"val": "1500"}}
    assert management.ask("POST", path, both)["thisBpWarningLimit"] == {"val": "1500"}
    assert management.ask("GET", path)["spendingLimits"]["warningSl"] == {"val": "1500"}
    # Of which people are told cannot be above what stops them.
    management.ask("POST", path, {"desiredSoftSpendingLimit": {"val": "1000"}})
    assert management.ask("GET", path)["spendingLimits"]["warningSl"] == {"val": "1000"}
    assert management.refused("POST", path, {"desiredWarningLimit": {"val": "1001"}})[2] == "desiredWarningLimit"
    events = management.ask("GET", "/audit/teams/{team}/events", **{"eventFilter.query": "billing limits"})["events"]
    assert len(events) == 2


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "desiredSoftSpendingLimit"),
        ({"desiredSoftSpendingLimit": {}}, "desiredSoftSpendingLimit.val"),
        ({"desiredSoftSpendingLimit": {"val": "-1"}}, "desiredSoftSpendingLimit.val"),
        ({"desiredSoftSpendingLimit": {"val": "1.5"}}, "desiredSoftSpendingLimit.val"),
        ({"desiredSoftSpendingLimit": {"val": "9" * 18}}, "desiredSoftSpendingLimit.val"),
        ({"desiredSoftSpendingLimit": "5"}, "desiredSoftSpendingLimit"),
    ],
)
def test_what_is_no_limit_is_named(shared: Management, body: Any, field: str):
    status, message, param = shared.refused("POST", f"{TEAM}/postpaid/spending-limits", body)
    assert (status, param) == (400, field), message


def test_receipts_are_made_out_to_whom_is_told(management: Management):
    path = f"{TEAM}/billing-info"
    assert management.ask("GET", path) == {"billingInfo": {"name": "", "address": NO_ADDRESS, "taxNumber": ""}}
    address = {"line1": "1 Quay Street", "city": "Oslo", "postalCode": "0150", "country": "NO"}
    info = {"name": "Northwind AS", "address": address, "taxNumber": "NO 999 999 999"}
    assert management.ask("POST", path, {"billingInfo": info | {"email": "ignored@northwind.example"}}) == {}
    assert management.ask("GET", path) == {"billingInfo": info | {"address": NO_ADDRESS | address}}
    assert management.refused("POST", path, {"billingInfo": {"name": "x" * 300}})[0] == 400
    assert management.refused("POST", path, {"billingInfo": {"name": 5}})[2] == "billingInfo.name"
    events = management.ask("GET", "/audit/teams/{team}/events", **{"eventFilter.query": "billing details"})["events"]
    assert len(events) == 1


def test_no_payment_method_is_kept(shared: Management):
    told = shared.ask("GET", f"{TEAM}/payment-method")
    assert told == {"paymentMethods": [], "pendingPaymentMethod": None}
    assert shared.refused("POST", f"{TEAM}/payment-method/default", {"paymentMethodId": "pm_1"})[0] == 404


def test_without_payments_a_top_up_is_refused_in_words(shared: Management):
    status, message, _ = shared.refused("POST", f"{TEAM}/prepaid/top-up", {"amount": {"val": "1000"}})
    assert (status, "administrator" in message) == (400, True)


@pytest.fixture
def stripe(management: Management) -> Iterator[ScriptedStripe]:
    with ScriptedStripe().served() as scripted:
        management.server.instance.billing.checkout = scripted.checkout()
        yield scripted


def test_a_top_up_opens_one_payment_page_until_it_is_paid(management: Management, stripe: ScriptedStripe):
    path = f"{TEAM}/prepaid/top-up"
    first, again = (management.ask("POST", path, {"amount": {"val": val}})["change"] for val in ("-2000", "2000"))
    assert first == again
    assert first["checkoutUrl"].startswith(stripe.url)
    assert (first["changeOrigin"], first["topupStatus"], first["amount"]) == ("PURCHASE", "TO_CHARGE", {"val": "-2000"})
    assert len(stripe.sessions) == 1
    other = management.ask("POST", path, {"amount": {"val": 3000}})["change"]
    assert other["checkoutUrl"] != first["checkoutUrl"]
    # Only what was paid is credit.
    assert management.server.balance().balance_ticks == usd("10")


def test_top_ups_that_come_at_once_open_one_payment_page(management: Management, stripe: ScriptedStripe):
    def ask(_: int) -> str:
        return str(
            management.ask("POST", f"{TEAM}/prepaid/top-up", {"amount": {"val": "700"}})["change"]["checkoutUrl"]
        )

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(ask, range(8)))) == 1
    assert len(stripe.sessions) == 1


def test_a_payment_page_that_cannot_be_opened_again_is_opened_anew(management: Management, stripe: ScriptedStripe):
    def ask() -> Any:
        return management.answer("POST", f"{TEAM}/prepaid/top-up", {"amount": {"val": "700"}})

    first = ask().json()["change"]["checkoutUrl"]
    stripe.failures = 1
    second = ask().json()["change"]["checkoutUrl"]
    assert first != second
    stripe.failures = 2
    assert ask().status_code == 503


def test_what_is_no_amount_is_named(management: Management, stripe: ScriptedStripe):
    for val in ("0", "499", "1000001", "many", "", "--5", None, [], 1.5, "5e3"):
        status, message, param = management.refused("POST", f"{TEAM}/prepaid/top-up", {"amount": {"val": val}})
        assert (status, param) == (400, "amount.val"), (val, message)
    assert not stripe.asked


def test_what_was_paid_is_a_purchase_with_its_receipt(management: Management, stripe: ScriptedStripe):
    management.ask("POST", f"{TEAM}/prepaid/top-up", {"amount": {"val": "2000"}})
    paid(management, stripe)
    changes = management.ask("GET", f"{TEAM}/prepaid/balance")["changes"]
    [purchase] = [change for change in changes if change["changeOrigin"] == "PURCHASE"]
    assert (purchase["amount"], purchase["paymentProcessor"]) == ({"val": "-2000"}, {"kind": "STRIPE"})
    now = datetime.now(UTC)
    [invoice] = management.ask("GET", f"{TEAM}/invoices")["invoices"]
    assert (invoice["invoiceNumber"], invoice["total"], invoice["invoiceStatus"]) == (
        purchase["invoiceNumber"],
        "2000",
        "PAID",
    )

    def found(**query: Any) -> int:
        return len(management.ask("GET", f"{TEAM}/invoices", **query)["invoices"])

    assert found(**{"billingCycle.year": now.year, "billingCycle.month": now.month}) == 1
    assert found(**{"billingCycle.year": 2001, "billingCycle.month": 1}) == 0
    assert found(**{"since.year": 2001, "since.month": 1}) == 1
    assert found(**{"since.year": 2999, "since.month": 1}) == 0
    assert found(**{"invoiceIds.invoiceIds": [invoice["invoiceId"], "R-2001-000001"]}) == 1
    assert found(**{"invoiceIds.invoiceIds": "R-2001-000001"}) == 0
    assert management.refused("GET", f"{TEAM}/invoices", **{"since.year": 2001})[2] == "since.month"
    assert management.refused("GET", f"{TEAM}/invoices", **{"since.year": 2001, "since.month": 0})[0] == 400


def paid(management: Management, stripe: ScriptedStripe) -> None:
    """The page that was opened is paid, and Stripe tells so."""
    billing = management.server.instance.billing
    assert billing.checkout is not None
    body = event("checkout.session.completed", stripe.paid())
    told = billing.checkout.read(body, signed(body))
    management.server.run(billing.take(told, management.server.base_url))

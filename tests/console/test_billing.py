"""Billing as people see it, and Stripe's webhook as anybody can reach it."""

import asyncio
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from leadline.accounts.actor import COMMAND_LINE
from leadline.accounts.roles import Role
from leadline.accounts.users import NewUser
from leadline.clock import MICROSECONDS_PER_DAY
from leadline.ledger.expiring import expiring
from leadline.money import show_usd, usd
from tests.console.browser import Eyes
from tests.console.visitor import PASSWORD, Visitor, text_of
from tests.scripted.server import EMAIL, ScriptedServer
from tests.scripted.stripe import ScriptedStripe, event, signed

ALICE_S = "correct horse"
FORMS = {
    "/billing/add": {"amount": "20"},
    "/billing/alerts": {"thresholds": "10"},
    "/billing/limits": {"hard_usd": "10"},
    "/billing/details": {"name": "Mallory"},
}


@pytest.fixture
def visitor(server: ScriptedServer) -> Iterator[Visitor]:
    visitor = Visitor(server).sign_in(EMAIL, ALICE_S)
    yield visitor
    visitor.close()


@pytest.fixture
def stripe(server: ScriptedServer) -> Iterator[ScriptedStripe]:
    with ScriptedStripe().served() as scripted:
        server.instance.billing.checkout = scripted.checkout()
        server.instance.base_url = server.base_url
        yield scripted


def tell(server: ScriptedServer, body: bytes, signature: str | None = None) -> httpx2.Response:
    """As Stripe does: from elsewhere, without a cookie."""
    headers = {"content-type": "application/json", "stripe-signature": signature or signed(body)}
    return httpx2.post(f"{server.base_url}/stripe/webhook", content=body, headers=headers, timeout=30)


def completed(stripe: ScriptedStripe, **changed: Any) -> bytes:
    return event("checkout.session.completed", stripe.paid(**changed))


def begin(visitor: Visitor, amount: str = "20", other: str = "") -> str:
    """Sets out to pay, and gives the address to which the payment page leads back."""
    answer = visitor.post("/billing/add", amount=amount, other=other)
    assert answer.status_code == 303, text_of(answer)
    return httpx2.get(answer.headers["location"]).text.partition('href="')[2].partition('"')[0]


def amounts(answer: httpx2.Response) -> list[str]:
    ledger = answer.text[answer.text.index('id="ledger"') :]
    return re.findall(r'data-label="Amount" class="number">([^<]+)<', ledger)


def test_the_ledger_on_the_page_is_the_ledger(server: ScriptedServer, visitor: Visitor) -> None:
    for _ in range(3):
        body = {"model": "echo", "messages": [{"role": "user", "content": "hello"}]}
        headers = {"authorization": f"Bearer {server.api_key}"}
        assert httpx2.post(f"{server.base_url}/v1/chat/completions", json=body, headers=headers).status_code == 200

    page = visitor.get("/billing")

    entries = server.entries()
    shown = [f"{'+' if entry.amount_ticks > 0 else ''}{show_usd(entry.amount_ticks)}" for entry in reversed(entries)]
    assert amounts(page) == shown
    assert len(shown) == 4
    assert f"They sum to {show_usd(server.balance().balance_ticks)}." in text_of(page)
    assert f'href="/log/{entries[-1].request_id}"' in page.text


def test_older_entries_are_on_further_pages(server: ScriptedServer, visitor: Visitor) -> None:
    async def grant() -> None:
        for number in range(1, 61):
            await server.instance.ledger.grant(server.organisation_id, usd(f"{number}"), f"number {number}")

    server.run(grant())
    first = visitor.get("/billing")
    older = re.search(r'href="(/billing\?before=\d+)#ledger"', first.text)
    assert older is not None
    second = visitor.get(older.group(1))
    newer = re.search(r'href="(/billing\?after=\d+)#ledger"', second.text)
    assert newer is not None

    assert [*amounts(first), *amounts(second)] == [f"+${number}.00" for number in range(60, 0, -1)] + ["+$1.00"]
    assert amounts(visitor.get(newer.group(1))) == amounts(first)
    for odd in ("before=x&after=-1", "before=0", "after=999999", f"before={'9' * 18}", f"after={'9' * 40}"):
        assert visitor.get(f"/billing?{odd}").status_code == 200


def test_without_stripe_the_page_says_who_grants_credits(server: ScriptedServer, visitor: Visitor) -> None:
    page = visitor.get("/billing")

    assert "An administrator can grant credits" in text_of(page)
    assert "/billing/add" not in page.text
    assert visitor.post("/billing/add", amount="20").status_code == 400
    assert tell(server, b"{}").status_code == 404


def test_credits_are_added_by_the_webhook_alone(
    server: ScriptedServer, visitor: Visitor, stripe: ScriptedStripe
) -> None:
    back = begin(visitor)
    waiting = visitor.get(back)
    before = server.balance().balance_ticks
    told = tell(server, completed(stripe))
    after = visitor.get(back)

    assert "Waiting for Stripe to confirm the payment of $20.00" in text_of(waiting)
    assert (before, server.balance().balance_ticks) == (usd("1"), usd("21"))
    assert (told.status_code, told.json()) == (200, {"received": True})
    assert "Payment received" in text_of(after)
    assert "R-20" in text_of(visitor.get("/billing"))
    assert "Payment received: $20.00" in [mail.subject for mail in server.run(server.instance.outbox.newest())]


def test_a_webhook_that_is_replayed_late_and_at_once_credits_once(
    server: ScriptedServer, visitor: Visitor, stripe: ScriptedStripe
) -> None:
    begin(visitor)
    bodies = [completed(stripe), event("checkout.session.async_payment_succeeded", stripe.paid())]
    unpaid = event("checkout.session.completed", stripe.paid(payment_status="unpaid"))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda body: tell(server, body).status_code, [unpaid, *bodies * 12, unpaid]))
    server.restart()
    server.instance.billing.checkout = stripe.checkout()
    answers += [tell(server, body).status_code for body in bodies]

    assert set(answers) == {200}
    assert server.balance().balance_ticks == usd("21")
    assert server.command("credits verify")["broken"] == []


def test_a_crash_before_or_after_a_payment_was_credited_is_healed_by_the_next_webhook(
    server: ScriptedServer, visitor: Visitor, stripe: ScriptedStripe
) -> None:
    begin(visitor)
    balances = []
    for _ in range(3):
        server.crash()
        server.instance.billing.checkout = stripe.checkout()
        balances.append(server.balance().balance_ticks)
        assert tell(server, completed(stripe)).status_code == 200

    assert balances == [usd("1"), usd("21"), usd("21")]
    assert server.balance().balance_ticks == usd("21")
    assert server.command("credits verify")["broken"] == []


@pytest.mark.parametrize(
    ("signature", "changed"),
    [
        ("made up", {}),
        ("other secret", {}),
        ("too old", {}),
        ("none", {}),
        ("good", {"amount_total": 1}),
        ("good", {"currency": "eur"}),
    ],
)
def test_what_stripe_did_not_say_credits_nothing(
    server: ScriptedServer, visitor: Visitor, stripe: ScriptedStripe, signature: str, changed: dict[str, Any]
) -> None:
    begin(visitor)
    body = completed(stripe, **changed)
    made = {
        "made up": "t=1,v1=0",
        "other secret": signed(body, "whsec_other"),
        "too old": signed(body, seconds_ago=301),
        "none": "-",
        "good": signed(body),
    }

    assert tell(server, body, made[signature]).status_code == 400
    assert server.balance().balance_ticks == usd("1")


def test_a_webhook_needs_no_session_and_other_forms_of_strangers_stay_out(
    server: ScriptedServer, visitor: Visitor, stripe: ScriptedStripe
) -> None:
    begin(visitor)
    body = completed(stripe)
    foreign = {"sec-fetch-site": "cross-site", "stripe-signature": signed(body)}

    told = httpx2.post(f"{server.base_url}/stripe/webhook", content=body, headers=foreign)
    visitor.http.headers["sec-fetch-site"] = "cross-site"
    refused = {path: visitor.post(path, fields).status_code for path, fields in FORMS.items()}

    assert told.status_code == 200
    assert set(refused.values()) == {403}
    assert tell(server, b"x" * (512 * 1024 + 1)).status_code == 413
    assert visitor.get("/stripe/webhook").status_code == 405


def test_while_the_books_cannot_be_written_stripe_is_asked_to_come_again(
    server: ScriptedServer, visitor: Visitor, stripe: ScriptedStripe, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(visitor)
    never = asyncio.Event()
    with monkeypatch.context() as patch:
        patch.setattr("leadline.console.pages.billing._WEBHOOK_SECONDS", 0.05)
        patch.setattr(type(server.instance.billing), "take", lambda *_: never.wait())
        refused = tell(server, completed(stripe))

    assert (refused.status_code, tell(server, completed(stripe)).status_code) == (503, 200)
    assert server.balance().balance_ticks == usd("21")


def test_a_refund_shows_in_the_ledger_and_takes_no_more_than_there_is(
    server: ScriptedServer, visitor: Visitor, stripe: ScriptedStripe
) -> None:
    begin(visitor)
    tell(server, completed(stripe))
    metadata = stripe.paid()["metadata"]
    charge = {"id": "ch_1", "payment_intent": "pi_1", "amount_refunded": 2_000, "metadata": metadata}

    answers = [tell(server, event("charge.refunded", charge)).status_code for _ in range(3)]

    assert answers == [200] * 3
    assert amounts(visitor.get("/billing")) == ["-$20.00", "+$20.00", "+$1.00"]


@pytest.mark.parametrize(
    ("amount", "other", "says"),
    [
        ("other", "4.99", "Add $5 to $10,000"),
        ("other", "7.001", "whole cents"),
        ("other", "", "US dollars"),
        ("", "", "US dollars"),
    ],
)
def test_an_amount_that_cannot_be_is_told_beside_its_field(
    visitor: Visitor, stripe: ScriptedStripe, amount: str, other: str, says: str
) -> None:
    answer = visitor.post("/billing/add", amount=amount, other=other)

    assert answer.status_code == 400
    assert re.search(rf'id="field-other-error">.*?{re.escape(says)}', answer.text, re.DOTALL)
    assert stripe.asked == []


def test_a_payment_page_that_cannot_be_had_is_no_failure_of_ours(visitor: Visitor, stripe: ScriptedStripe) -> None:
    stripe.failures = 1

    assert visitor.post("/billing/add", amount="20").status_code == 503


def test_a_form_may_lead_to_stripe_only_where_it_takes_payments(visitor: Visitor, server: ScriptedServer) -> None:
    without = visitor.get("/billing").headers["content-security-policy"]
    with ScriptedStripe().served() as scripted:
        server.instance.billing.checkout = scripted.checkout()
        policy = visitor.get("/billing").headers["content-security-policy"]

    assert "form-action 'self';" in without
    assert f"form-action 'self' {scripted.url};" in policy


def test_limits_and_percentages_hold_and_are_in_the_audit_log(server: ScriptedServer, visitor: Visitor) -> None:
    visitor.post("/billing/limits", soft_usd="0.0000005", hard_usd="$0.000001")
    visitor.post("/billing/alerts", thresholds="50 %, 10")
    page = visitor.get("/billing")
    body = {"model": "echo", "messages": [{"role": "user", "content": "hello"}]}
    headers = {"authorization": f"Bearer {server.api_key}"}
    wrong = visitor.post("/billing/limits", soft_usd="2", hard_usd="x")

    refused = httpx2.post(f"{server.base_url}/v1/chat/completions", json=body, headers=headers)
    visitor.post("/billing/limits", soft_usd="", hard_usd="")
    served = httpx2.post(f"{server.base_url}/v1/chat/completions", json=body, headers=headers)

    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "insufficient_quota")
    assert "Your organisation's limit is $0.000001 a month" in refused.json()["error"]["message"]
    assert served.status_code == 200
    assert all(f'value="{text}"' in page.text for text in ("0.0000005", "0.000001", "50, 10"))
    assert (wrong.status_code, 'id="field-hard_usd-error"' in wrong.text) == (400, True)
    rows = server.run(server.instance.audit_log.rows(server.organisation_id))
    assert [row.action for row in rows[:3]] == ["billing limits", "billing alerts", "billing limits"]
    assert {row.actor_name for row in rows[:3]} == {EMAIL}


def test_a_receipt_has_the_details_of_its_time_and_is_nobody_elses(
    server: ScriptedServer, visitor: Visitor, stripe: ScriptedStripe
) -> None:
    visitor.post("/billing/details", name="Northwind GmbH", address="Hafenstr. 1\r\n\r\n20457 Hamburg", tax_id="DE1")
    begin(visitor, "other", "10000")
    tell(server, completed(stripe))
    visitor.post("/billing/details", name="<b>New</b>")
    receipt = visitor.get("/billing/receipts/pi_1")

    assert re.search(r"R-\d{4}-000001", text_of(receipt))
    assert all(text in text_of(receipt) for text in ("Northwind GmbH", "20457 Hamburg", "Tax number DE1", "$10,000.00"))
    assert "&lt;b&gt;New&lt;/b&gt;" in visitor.get("/billing").text
    [number] = set(re.findall(r"R-\d{4}-000001", receipt.text))
    top_up = stripe.paid()["metadata"]["leadline_top_up"]
    paths = [f"receipts/{number}", "receipts/pi_1", f"return?top_up={top_up}", f"top-ups/{top_up}"]
    assert [visitor.get(f"/billing/{path}").status_code for path in paths] == [200] * 4
    with somebody(server, "mallory@example.com", None) as mallory:
        assert [mallory.get(f"/billing/{path}").status_code for path in paths] == [404] * 4


@contextmanager
def somebody(server: ScriptedServer, email: str, role: Role | None) -> Iterator[Visitor]:
    """Somebody new, in Alice's organisation or in one of his own."""

    async def joined() -> None:
        instance = server.instance
        person = await NewUser.of(instance.passwords, email, PASSWORD)
        if role is not None:
            await instance.organisations.join(person, server.organisation_id, role, COMMAND_LINE)
            return
        made = await instance.organisations.create(person, "Other", instance.ledger.opening, COMMAND_LINE)
        instance.ledger.opened(made.id)

    server.run(joined())
    with closing(Visitor(server).sign_in(email)) as visitor:
        yield visitor


@pytest.mark.parametrize(("role", "may"), [("admin", True), ("billing", True), ("developer", False), ("viewer", False)])
def test_all_roles_see_billing_and_those_that_may_change_it(
    server: ScriptedServer, stripe: ScriptedStripe, role: Role, may: bool
) -> None:
    with somebody(server, f"{role}@example.com", role) as visitor:
        page = visitor.get("/billing")
        answers = {visitor.post(path, fields).status_code for path, fields in FORMS.items()}

    assert (page.status_code, 'action="/billing/limits"' in page.text) == (200, may)
    assert answers == ({303} if may else {403})


async def sign_in(page: Any) -> None:
    await page.goto("/login")
    await page.fill("[name=email]", EMAIL)
    await page.fill("[name=password]", ALICE_S)
    await page.click("main button.primary")
    await page.wait_for_url("**/home")


async def test_credits_are_bought_in_a_browser(browser: Eyes, server: ScriptedServer, stripe: ScriptedStripe) -> None:
    async with browser.page(server.base_url) as page:
        await sign_in(page)
        await page.goto("/billing")
        await page.click("label:has-text('$50')")
        await page.click("text=Continue to payment")
        await page.click("text=Pay")
        await page.wait_for_selector("text=Waiting for Stripe to confirm the payment of $50.00")
        await asyncio.to_thread(tell, server, completed(stripe))
        await page.wait_for_selector("text=Payment received")
        await page.click("main >> text=Receipt")
        await page.wait_for_selector("h1:has-text('Receipt R-')")


async def test_a_payment_and_its_receipt_are_for_all_eyes_and_printers(
    browser: Eyes, server: ScriptedServer, visitor: Visitor, stripe: ScriptedStripe
) -> None:
    visitor.post("/billing/details", name="Northwind GmbH", address="Hafenstr. 1\n20457 Hamburg", tax_id="DE1")
    back = await asyncio.to_thread(begin, visitor)
    async with browser.page(server.base_url) as page:
        await sign_in(page)
        await page.goto(back)
        await browser.look(page, "billing-waiting")
        await browser.tab_through(page)
        await asyncio.to_thread(tell, server, completed(stripe))
        await page.wait_for_selector("text=Payment received")
        await browser.look(page, "billing-paid")
        await page.click("main >> text=Receipt")
        await page.wait_for_selector("h1:has-text('Receipt R-')")
        await browser.look(page, "billing-receipt")
        await page.emulate_media(media="print")
        assert not await page.is_visible("aside.rail")
        assert await page.is_visible("article.receipt")


@pytest.mark.parametrize("pays", [True, False])
async def test_billing_is_for_all_eyes_and_keyboards(browser: Eyes, server: ScriptedServer, pays: bool) -> None:
    with ScriptedStripe().served() as scripted:
        server.instance.billing.checkout = scripted.checkout() if pays else None
        async with browser.page(server.base_url) as page:
            await sign_in(page)
            await page.goto("/billing")
            await browser.look(page, f"billing-{pays}")
            await browser.tab_through(page)
            await page.fill("[name=hard_usd]", "-1")
            await page.click("text=Save limits")
            await page.wait_for_selector(".wrong")
            await browser.look(page, f"billing-wrong-{pays}", refused=True)


def test_all_credits_end_after_the_days_of_the_configuration_and_the_page_says_when(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "leadline.toml").write_text("[credits]\nexpire_after_days = 30\n", "utf-8")
    server = ScriptedServer(tmp_path / "data")
    now = server.instance.keys.clock()
    alice = Visitor(server).sign_in(EMAIL, ALICE_S)
    with ScriptedStripe().served() as stripe:
        server.instance.billing.checkout = stripe.checkout()
        server.instance.base_url = server.base_url
        begin(alice)
        offered = text_of(alice.get("/billing"))
        assert tell(server, completed(stripe)).status_code == 200
    server.command("credits grant", email=EMAIL, amount="7", reason="for ever", expires="never")
    server.command("credits grant", email=EMAIL, amount="3", reason="its own", expires="2999-03-31")
    page = text_of(alice.get("/billing"))
    ends = [(one.at, one.ticks) for one in server.run(expiring(server.instance.database, server.organisation_id, 9))]
    alice.close()
    server.stop()

    assert "last for 30 days" in offered
    # A dollar at the start, 20 that were paid, and of the grants the one with a day of its own.
    assert [ticks for _, ticks in ends] == [usd("21"), usd("3")]
    assert (ends[0][0] + 1) % MICROSECONDS_PER_DAY == 0
    assert 30 <= (ends[0][0] - now) / MICROSECONDS_PER_DAY <= 31
    assert "$21.00 of it ends with" in page
    assert "$3.00 of it ends with 31 Mar 2999" in page


def test_where_credits_do_not_end_nothing_is_said_of_it(visitor: Visitor) -> None:
    assert "ends with" not in text_of(visitor.get("/billing"))

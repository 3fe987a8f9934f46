"""What is asked of Stripe, and what is believed of what it tells."""

import json
import subprocess
import sys
from typing import Any

import pytest

from leadline.billing.stripe_checkout import BadSignature, StripeCheckout
from leadline.billing.top_ups import Lost, Paid, TopUp
from leadline.config import ConfigurationError, StripeSection
from leadline.errors import InvalidRequest, Unavailable
from tests.scripted.stripe import ScriptedStripe, event, signed
from tests.unit.billing.conftest import BASE_URL

TOP_UP = TopUp("top_1", "org_alice", "usr_alice", 2_050, 1)
NAMES = {"leadline_top_up": "top_1", "leadline_organisation": "org_alice"}
SESSION = {
    "id": "cs_1",
    "object": "checkout.session",
    "payment_status": "paid",
    "payment_intent": "pi_1",
    "amount_total": 2_050,
    "currency": "usd",
    "metadata": NAMES,
    "more": {"that": ["nobody", "reads"]},
}


async def test_a_payment_page_knows_what_it_is_for(stripe: ScriptedStripe) -> None:
    session_id, url = await stripe.checkout().open(TOP_UP, "alice@example.com", BASE_URL)

    assert (session_id, url) == ("cs_test_1", f"{stripe.url}/pay/1")
    [asked] = stripe.asked
    assert (asked.path, asked.idempotency_key) == ("/v1/checkout/sessions", "top_1")
    assert asked.fields == {
        "mode": "payment",
        "line_items[0][quantity]": "1",
        "line_items[0][price_data][currency]": "usd",
        "line_items[0][price_data][unit_amount]": "2050",
        "line_items[0][price_data][product_data][name]": "Credits",
        "customer_email": "alice@example.com",
        "client_reference_id": "top_1",
        "metadata[leadline_top_up]": "top_1",
        "metadata[leadline_organisation]": "org_alice",
        "payment_intent_data[metadata][leadline_top_up]": "top_1",
        "payment_intent_data[metadata][leadline_organisation]": "org_alice",
        "success_url": "https://leadline.example/billing/return?top_up=top_1",
        "cancel_url": "https://leadline.example/billing",
    }


async def test_the_same_top_up_has_the_same_page(stripe: ScriptedStripe) -> None:
    checkout = stripe.checkout()

    assert await checkout.open(TOP_UP, "a@b.c", BASE_URL) == await checkout.open(TOP_UP, "a@b.c", BASE_URL)


@pytest.mark.parametrize("secret", ["sk_test_scripted", "sk_wrong"])
async def test_a_page_that_cannot_be_had_is_told_without_the_secret(
    stripe: ScriptedStripe, secret: str, caplog: pytest.LogCaptureFixture
) -> None:
    stripe.failures = 1

    with pytest.raises(Unavailable) as refused:
        await StripeCheckout(secret, "whsec", stripe.url).open(TOP_UP, "a@b.c", BASE_URL)

    told = str(refused.value) + "".join(str(record.__dict__) for record in caplog.records)
    assert "payment page could not be opened" in told
    assert secret not in told


def read(stripe: ScriptedStripe, kind: str, content: dict[str, Any]) -> Paid | Lost | None:
    body = event(kind, content)
    return stripe.checkout().read(body, signed(body))


@pytest.mark.parametrize("kind", ["checkout.session.completed", "checkout.session.async_payment_succeeded"])
def test_what_was_paid_is_read(stripe: ScriptedStripe, kind: str) -> None:
    assert read(stripe, kind, SESSION) == Paid("top_1", "org_alice", "cs_1", "pi_1", 2_050, "usd")


@pytest.mark.parametrize(
    "changed",
    [
        {"payment_status": "unpaid"},
        {"payment_status": "no_payment_required"},
        {"metadata": {}},
        {"metadata": None},
        {"payment_intent": None},
    ],
    ids=str,
)
def test_what_is_not_paid_or_not_for_us_is_nothing(stripe: ScriptedStripe, changed: dict[str, Any]) -> None:
    assert read(stripe, "checkout.session.completed", SESSION | changed) is None


def test_what_was_lost_is_read(stripe: ScriptedStripe) -> None:
    charge = {"id": "ch_1", "payment_intent": "pi_1", "amount_refunded": 500, "metadata": NAMES}
    dispute = {"id": "dp_1", "payment_intent": "pi_1", "amount": 2_050}

    assert read(stripe, "charge.refunded", charge) == Lost("ch_1", "pi_1", 500, "refund")
    assert read(stripe, "charge.dispute.created", dispute) == Lost("dp_1", "pi_1", 2_050, "dispute")
    assert read(stripe, "charge.refunded", charge | {"metadata": {}}) is None


def test_events_of_other_kinds_are_nothing(stripe: ScriptedStripe) -> None:
    for kind in ("checkout.session.expired", "checkout.session.async_payment_failed", "customer.created"):
        assert read(stripe, kind, SESSION) is None


BODY = event("checkout.session.completed", SESSION)


@pytest.mark.parametrize(
    ("body", "signature"),
    [
        (BODY, None),
        (BODY, ""),
        (BODY, "t=1,v1=abc"),
        (BODY, signed(BODY, "whsec_another")),
        (BODY, signed(BODY, seconds_ago=301)),
        (BODY.replace(b"2050", b"9050"), signed(BODY)),
        (BODY + b" ", signed(BODY)),
        (BODY, signed(BODY).replace("v1=", "v0=")),
        (b"\xff", signed(BODY)),
    ],
    ids=[
        "none",
        "empty",
        "made up",
        "other secret",
        "too old",
        "other amount",
        "other bytes",
        "other scheme",
        "no text",
    ],
)
def test_what_stripe_did_not_sign_just_now_is_not_read(
    stripe: ScriptedStripe, body: bytes, signature: str | None
) -> None:
    with pytest.raises(BadSignature):
        stripe.checkout().read(body, signature)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"type": 1}', b'{"type": "charge.refunded", "data": {"object": []}}'])
def test_what_is_signed_but_no_event_is_refused(stripe: ScriptedStripe, body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        stripe.checkout().read(body, signed(body))


def test_without_the_setting_nobody_takes_payments() -> None:
    assert StripeCheckout.of(StripeSection()) is None


def test_secrets_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    section = StripeSection(secret_key_env="A_KEY", webhook_secret_env="A_SECRET")
    with pytest.raises(ConfigurationError, match="A_KEY, which is not set"):
        StripeCheckout.of(section)
    monkeypatch.setenv("A_KEY", "sk_1")
    monkeypatch.setenv("A_SECRET", "whsec_1")

    assert StripeCheckout.of(section) is not None


def test_half_of_the_setting_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="both"):
        StripeCheckout.of(StripeSection(secret_key="sk_1"))


def test_without_the_library_the_setting_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "stripe", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)

    with pytest.raises(ConfigurationError, match=r"leadline\[billing\]"):
        StripeCheckout.of(StripeSection(secret_key="sk_1", webhook_secret="whsec_1"))


@pytest.mark.slow
def test_the_library_is_not_loaded_before_it_is_used() -> None:
    program = (
        "import sys, leadline.operations.serve as serve; from leadline.config import StripeSection;"
        "serve.StripeCheckout.of(StripeSection('sk', webhook_secret='wh')); print('stripe' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert json.loads(done.stdout.lower()) is False

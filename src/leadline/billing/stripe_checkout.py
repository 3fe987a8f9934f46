"""Stripe: payment pages that it is asked for, and the webhooks by which it tells what came of them.

Its library is loaded at the first use. What is read of an event are these few fields, whatever version of Stripe's API
the account has; that they are Stripe's, the signature over the raw body says.
"""

import asyncio
import importlib.util
import logging
import os
from typing import TYPE_CHECKING, Any

import msgspec

from leadline.billing.top_ups import CURRENCY, Lost, Paid, TopUp
from leadline.config import ConfigurationError, StripeSection
from leadline.errors import InvalidRequest, PermissionDenied, Unavailable

if TYPE_CHECKING:
    import stripe

SIGNATURE_TOLERANCE_SECONDS = 300
_PAGES = "https://checkout.stripe.com"
_TIMEOUT_SECONDS = (5, 20)
_AT_ONCE = 4
_TOP_UP, _ORGANISATION = "leadline_top_up", "leadline_organisation"
_log = logging.getLogger("leadline.billing")


class BadSignature(PermissionDenied):
    """This webhook is not signed by Stripe, or too old."""


class _Session(msgspec.Struct):
    id: str
    payment_status: str = ""
    payment_intent: str | None = None
    amount_total: int | None = None
    currency: str | None = None
    metadata: dict[str, str] | None = None


class _Charge(msgspec.Struct):
    id: str
    payment_intent: str | None = None
    amount_refunded: int = 0
    metadata: dict[str, str] | None = None


class _Dispute(msgspec.Struct):
    id: str
    payment_intent: str | None = None
    amount: int = 0


class _Data(msgspec.Struct):
    object: msgspec.Raw


class _Event(msgspec.Struct):
    type: str
    data: _Data


class StripeCheckout:
    """One account at Stripe."""

    def __init__(self, secret_key: str, webhook_secret: str, api_base: str | None) -> None:
        self._secret_key, self._webhook_secret, self._api_base = secret_key, webhook_secret, api_base
        self._client: stripe.StripeClient | None = None
        self._turns = asyncio.Semaphore(_AT_ONCE)

    @property
    def pages(self) -> str:
        """Where the payment pages are: a form of ours may lead there."""
        return self._api_base or _PAGES

    @classmethod
    def of(cls, section: StripeSection) -> "StripeCheckout | None":
        """None without `[stripe]`; ConfigurationError where something is missing."""
        secret_key = _secret("secret_key", section.secret_key, section.secret_key_env)
        webhook_secret = _secret("webhook_secret", section.webhook_secret, section.webhook_secret_env)
        if secret_key is None and webhook_secret is None:
            return None
        if secret_key is None or webhook_secret is None:
            raise ConfigurationError("[stripe] needs both of secret_key and webhook_secret, or neither.")
        if importlib.util.find_spec("stripe") is None:
            raise ConfigurationError("[stripe] needs Stripe's library: pip install 'leadline[billing]'.")
        return cls(secret_key, webhook_secret, section.api_base)

    async def open(self, top_up: TopUp, email: str, base_url: str) -> tuple[str, str]:
        """The id and the address of a new payment page. Asked again for the same top-up, Stripe answers the same."""
        parameters = {
            "mode": "payment",
            "line_items": [
                {
                    "quantity": 1,
                    "price_data": {
                        "currency": CURRENCY,
                        "unit_amount": top_up.cents,
                        "product_data": {"name": "Credits"},
                    },
                }
            ],
            "customer_email": email,
            "client_reference_id": top_up.id,
            "metadata": _names(top_up),
            # Charges inherit it, and so it is in what tells of refunds.
            "payment_intent_data": {"metadata": _names(top_up)},
            "success_url": f"{base_url}/billing/return?top_up={top_up.id}",
            "cancel_url": f"{base_url}/billing",
        }
        async with self._turns:
            return await asyncio.to_thread(self._create, parameters, top_up.id)

    def read(self, body: bytes, signature: str | None) -> Paid | Lost | None:
        """What a webhook tells; None where that changes nothing here. BadSignature; InvalidRequest where it cannot be
        read."""
        import stripe

        try:
            stripe.WebhookSignature.verify_header(
                body.decode("utf-8"), signature, self._webhook_secret, SIGNATURE_TOLERANCE_SECONDS
            )
        except (stripe.SignatureVerificationError, UnicodeDecodeError):
            raise BadSignature from None
        try:
            return _told(msgspec.json.decode(body, type=_Event))
        except msgspec.DecodeError:
            _log.error("a webhook of Stripe's cannot be read")
            raise InvalidRequest("This event cannot be read.") from None

    def _create(self, parameters: Any, idempotency_key: str) -> tuple[str, str]:
        import stripe

        if self._client is None:
            stripe.enable_telemetry = False
            self._client = stripe.StripeClient(
                self._secret_key,
                http_client=stripe.RequestsClient(timeout=_TIMEOUT_SECONDS),
                base_addresses={"api": self._api_base} if self._api_base is not None else {},
                max_network_retries=2,
            )
        try:
            session = self._client.v1.checkout.sessions.create(parameters, {"idempotency_key": idempotency_key})
        except stripe.StripeError as error:
            _log.error("Stripe opened no payment page", extra={"why": type(error).__name__, "code": error.code})
            raise Unavailable("The payment page could not be opened. Try again in a moment.") from None
        if session.url is None:
            raise Unavailable("The payment page could not be opened. Try again in a moment.")
        return session.id, session.url


def _told(event: _Event) -> Paid | Lost | None:
    content = event.data.object
    match event.type:
        case "checkout.session.completed" | "checkout.session.async_payment_succeeded":
            return _paid(msgspec.json.decode(content, type=_Session))
        case "charge.refunded":
            charge = msgspec.json.decode(content, type=_Charge)
            if charge.payment_intent is None or _TOP_UP not in (charge.metadata or {}):
                return None
            return Lost(charge.id, charge.payment_intent, charge.amount_refunded, "refund")
        case "charge.dispute.created":
            dispute = msgspec.json.decode(content, type=_Dispute)
            if dispute.payment_intent is None:
                return None
            return Lost(dispute.id, dispute.payment_intent, dispute.amount, "dispute")
        case _:
            return None


def _paid(session: _Session) -> Paid | None:
    """None of what is not paid yet, and of what another program sold with the same account."""
    metadata = session.metadata or {}
    if session.payment_status != "paid" or session.payment_intent is None or _TOP_UP not in metadata:
        return None
    return Paid(
        top_up_id=metadata[_TOP_UP],
        organisation_id=metadata.get(_ORGANISATION, ""),
        session_id=session.id,
        payment=session.payment_intent,
        cents=session.amount_total or 0,
        currency=session.currency or "",
    )


def _names(top_up: TopUp) -> dict[str, str]:
    return {_TOP_UP: top_up.id, _ORGANISATION: top_up.organisation_id}


def _secret(name: str, text: str | None, variable: str | None) -> str | None:
    if variable is None:
        return text or None
    found = os.environ.get(variable)
    if not found:
        raise ConfigurationError(f"stripe.{name}_env names the environment variable {variable}, which is not set.")
    return found

"""Billing: what is left, what is spent, how to add credits, limits and mails, receipts, and the ledger."""

import asyncio
from typing import Any

from starlette.responses import JSONResponse, RedirectResponse, Response

from leadline.administration import billing
from leadline.administration.commands.command import dollars
from leadline.billing.alerts import about_days
from leadline.billing.receipts import BillingDetails
from leadline.billing.stripe_checkout import BadSignature
from leadline.billing.top_ups import LEAST_CENTS, MOST_CENTS, cents_of, ticks_of
from leadline.clock import date_of, day_of
from leadline.console.forms import read_body
from leadline.console.page import Page
from leadline.console.visit import Guest, Visit
from leadline.errors import InvalidRequest, NotFound, Unavailable
from leadline.ledger.expiring import expiring
from leadline.ledger.spend_limits import SpendLimits, spend_limits
from leadline.ledger.statement import statement
from leadline.money import TICKS_PER_USD, Ticks

_AMOUNTS = ("5", "20", "50")
_OTHER = "other"
_RECEIPTS_SHOWN = 24
_ENDS_SHOWN = 6
_LARGEST_EVENT_BYTES = 512 * 1024
# Stripe waits longer than this for an answer, and sends again what got none.
_WEBHOOK_SECONDS = 15
_KINDS = {
    "grant": "Credit",
    "charge": "Request",
    "refund": "Refund",
    "expiry": "Expiry",
    "adjustment": "Adjustment",
}


async def show(visit: Visit) -> Response:
    return await _page(visit)


async def add(visit: Visit) -> Response:
    """On to the payment page."""
    form = visit.form
    amount = form[_OTHER] if form["amount"] == _OTHER else form["amount"]
    try:
        cents = cents_of(amount)
        url = await billing.begin_top_up(visit.instance, visit.actor, visit.organisation_id, cents, visit.user.email)
    except InvalidRequest as error:
        return await _page(visit, {"amount": form["amount"], _OTHER: form[_OTHER]}, {_OTHER: str(error)})
    return RedirectResponse(url, 303)


async def change_alerts(visit: Visit) -> Response:
    text = visit.form["thresholds"]
    try:
        await billing.change_thresholds(visit.instance, visit.actor, visit.organisation_id, _percentages(text))
    except InvalidRequest as error:
        return await _page(visit, {"thresholds": text}, {"thresholds": str(error)})
    return visit.redirect("/billing#alerts", "Saved. The next mail goes by these percentages.")


async def change_limits(visit: Visit) -> Response:
    texts = {name: visit.form[name] for name in ("soft_usd", "hard_usd")}
    try:
        limits = SpendLimits(*(_limit(name, text) for name, text in texts.items()))
        await billing.change_limits(visit.instance, visit.actor, visit.organisation_id, limits)
    except InvalidRequest as error:
        return await _page(visit, texts, {error.param or "hard_usd": str(error)})
    return visit.redirect("/billing#limits", "Saved. The limits hold from the next request on.")


async def change_details(visit: Visit) -> Response:
    texts = {name: visit.form[name] for name in ("name", "address", "tax_id")}
    lines = tuple(line.strip() for line in texts["address"].splitlines() if line.strip())
    try:
        details = BillingDetails(texts["name"], lines, texts["tax_id"])
        await billing.change_details(visit.instance, visit.actor, visit.organisation_id, details)
    except InvalidRequest as error:
        return await _page(visit, texts, {error.param or "name": str(error)})
    return visit.redirect("/billing#details", "Saved. Receipts from now on have these details.")


async def show_return(visit: Visit) -> Response:
    """Where the payment page leads back to. It credits nothing: it waits until Stripe told us of the payment."""
    top_up = await visit.instance.billing.top_ups.get(visit.organisation_id, visit.query("top_up"))
    return visit.render("billing_return.html", top_up=top_up, ticks=ticks_of(top_up.cents))


async def show_top_up(visit: Visit) -> Response:
    """As JSON: whether a payment was credited."""
    top_up = await visit.instance.billing.top_ups.get(visit.organisation_id, visit.request.path_params["top_up"])
    return JSONResponse({"credited": top_up.credited_at is not None})


async def show_receipt(visit: Visit) -> Response:
    receipt = await visit.instance.billing.receipts.find(visit.organisation_id, visit.request.path_params["number"])
    issuer = visit.instance.config.stripe.issuer or (visit.base_url,)
    return visit.render("billing_receipt.html", receipt=receipt, ticks=ticks_of(receipt.cents), issuer=issuer)


async def take_webhook(guest: Guest) -> Response:
    """What Stripe tells, which is believed for its signature alone."""
    checkout = guest.instance.billing.checkout
    if checkout is None:
        raise NotFound("There is no such page.")
    body = await read_body(guest.request, _LARGEST_EVENT_BYTES)
    try:
        told = checkout.read(body, guest.request.headers.get("stripe-signature"))
    except BadSignature as error:
        return JSONResponse({"error": str(error)}, 400)
    try:
        async with asyncio.timeout(_WEBHOOK_SECONDS):
            await guest.instance.billing.take(told, guest.base_url)
    except TimeoutError:
        raise Unavailable("The books cannot be written now. Send the event again.") from None
    return JSONResponse({"received": True})


PAGES = (
    Page("/billing", "billing", "see", show),
    Page("/billing/add", "billing", "billing", post=add),
    Page("/billing/alerts", "billing", "billing", post=change_alerts),
    Page("/billing/limits", "billing", "billing", post=change_limits),
    Page("/billing/details", "billing", "billing", post=change_details),
    Page("/billing/return", "billing", "see", show_return),
    Page("/billing/top-ups/{top_up}", "billing", "see", show_top_up),
    Page("/billing/receipts/{number}", "billing", "see", show_receipt),
    Page("/stripe/webhook", "", "everybody", post=take_webhook, reads_body=True, signed=True),
)


async def _page(visit: Visit, typed: dict[str, Any] | None = None, wrong: dict[str, str] | None = None) -> Response:
    instance, organisation_id = visit.instance, visit.organisation_id
    limits = await spend_limits(instance.database, organisation_id)
    details = await instance.billing.receipts.details(organisation_id)
    balance, spent = instance.ledger.balance(organisation_id), instance.ledger.spent_in_month(organisation_id)
    days, hard = visit.balance.days_left, limits.hard_ticks
    lines = await statement(instance.database, organisation_id, _number(visit, "before"), _number(visit, "after"))
    return visit.render(
        "billing.html",
        400 if wrong else 200,
        balance=balance,
        lasts="" if days is None else about_days(days),
        ends=await expiring(instance.database, organisation_id, _ENDS_SHOWN),
        expire_after_days=instance.config.credits.expire_after_days,
        month=f"{date_of(day_of(instance.keys.clock())):%B}",
        spent=spent,
        limits=limits,
        spent_percent=None if hard is None else min(100, spent * 100 // hard),
        pays=instance.billing.checkout is not None,
        amounts=[*((one, f"${one}") for one in _AMOUNTS), (_OTHER, "Another amount")],
        least=LEAST_CENTS // 100,
        most=MOST_CENTS // 100,
        form=_typed_of(visit, limits, details) | (typed or {}),
        wrong=wrong or {},
        receipts=[
            (one, ticks_of(one.cents))
            for one in await instance.billing.receipts.newest(organisation_id, _RECEIPTS_SHOWN)
        ],
        statement=lines,
        kinds=_KINDS,
        key_names=instance.keys.names(organisation_id),
    )


def _typed_of(visit: Visit, limits: SpendLimits, details: BillingDetails) -> dict[str, Any]:
    return {
        "amount": _AMOUNTS[1],
        _OTHER: "",
        "thresholds": ", ".join(map(str, visit.instance.billing.alerts.thresholds(visit.organisation_id))),
        "soft_usd": _dollars(limits.soft_ticks),
        "hard_usd": _dollars(limits.hard_ticks),
        "name": details.name,
        "address": "\n".join(details.lines),
        "tax_id": details.tax_id,
    }


def _dollars(ticks: Ticks | None) -> str:
    """As it is typed."""
    if ticks is None:
        return ""
    whole, rest = divmod(ticks, TICKS_PER_USD)
    return f"{whole}.{rest:010d}".rstrip("0").rstrip(".")


def _limit(name: str, text: str) -> Ticks | None:
    if not text:
        return None
    try:
        return dollars(text.removeprefix("$").replace(",", ""))
    except InvalidRequest as error:
        raise InvalidRequest(str(error), name) from None


def _percentages(text: str) -> tuple[int, ...]:
    pieces = [one.strip().removesuffix("%").strip() for one in text.replace(";", ",").split(",")]
    try:
        return tuple(int(one) for one in pieces if one)
    except ValueError:
        raise InvalidRequest("Write percentages such as 20, 5, 0.", "thresholds") from None


def _number(visit: Visit, name: str) -> int | None:
    """A cursor of the URL; None where it is none."""
    text = visit.query(name)
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None

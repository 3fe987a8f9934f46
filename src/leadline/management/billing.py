"""Billing over the management API: balance, top-ups, limits, the invoice as it stands, and receipts.

Amounts are cents, as xAI writes them: what is credit is negative. Where cents cannot say it, ticks stand beside them.
"""

import re
from calendar import monthrange
from datetime import UTC, date, datetime

from leadline.administration.billing import change_details, change_limits
from leadline.billing.receipts import BillingDetails, Receipt
from leadline.billing.stripe_checkout import StripeCheckout
from leadline.billing.top_ups import LEAST_CENTS, MOST_CENTS, TopUp
from leadline.clock import MICROSECONDS_PER_DAY, day_of, first_day, next_first_day
from leadline.errors import InvalidRequest, NotFound, Unavailable
from leadline.ledger.analytics import Analytics
from leadline.ledger.balance_changes import balance_changes
from leadline.ledger.books import Entry
from leadline.ledger.meter_filter import MeterFilter
from leadline.ledger.spend_limits import SpendLimits, spend_limits
from leadline.management.call import Body, Call, Routes
from leadline.management.lines import lines_of
from leadline.management.wire import TICKS_PER_CENT, Json, cents_down, cents_of_parts, integer_of, timestamp, val
from leadline.money import MOST_TICKS, Ticks

_MOST_RECEIPTS = 1000
_MOST_LIMIT_CENTS = MOST_TICKS // TICKS_PER_CENT
# In the order of the lines of an address.
_ADDRESS = ("line1", "line2", "city", "state", "postalCode", "country")


class _Val(Body, frozen=True):
    val: int | str


class _Address(Body, frozen=True):
    line1: str = ""
    line2: str = ""
    city: str = ""
    state: str = ""
    postal_code: str = ""
    country: str = ""


class _BillingInfo(Body, frozen=True):
    name: str = ""
    address: _Address = _Address()
    tax_number: str = ""


class _SetBillingInfo(Body, frozen=True):
    billing_info: _BillingInfo


class _SetLimit(Body, frozen=True):
    """`desired_warning_limit` is ours: at it people are told by mail, and nothing stops."""

    desired_soft_spending_limit: _Val | None = None
    desired_warning_limit: _Val | None = None


class _TopUp(Body, frozen=True):
    amount: _Val


class _PaymentMethod(Body, frozen=True):
    payment_method_id: str


async def show_billing_info(call: Call) -> Json:
    details = await call.instance.billing.receipts.details(call.organisation_id)
    return {"billingInfo": {"name": details.name, "address": _address(details), "taxNumber": details.tax_id}}


async def set_billing_info(call: Call) -> Json:
    wanted = (await call.body(_SetBillingInfo)).billing_info
    address = wanted.address
    lines = (address.line1, address.line2, address.city, address.state, address.postal_code, address.country)
    details = BillingDetails(wanted.name.strip(), _trimmed(lines), wanted.tax_number.strip())
    await change_details(call.instance, call.actor, call.organisation_id, details)
    return {}


async def list_invoices(call: Call) -> Json:
    """What was paid: one for each receipt, the newest first."""
    receipts = await call.instance.billing.receipts.newest(call.organisation_id, _MOST_RECEIPTS)
    cycle, since = _cycle(call, "billingCycle"), _cycle(call, "since")
    ids = {value for name, value in call.query() if name == "invoiceIds.invoiceIds" and value}
    months = {receipt.number: _month_of(receipt.at) for receipt in receipts}
    return {
        "invoices": [
            _invoice(receipt)
            for receipt in receipts
            if (cycle is None or months[receipt.number] == cycle)
            and (since is None or months[receipt.number] >= since)
            and (not ids or receipt.number in ids)
        ]
    }


async def list_payment_methods(_: Call) -> Json:
    """Cards are Stripe's matter: none is kept here."""
    return {"paymentMethods": [], "pendingPaymentMethod": None}


async def set_default_payment_method(call: Call) -> Json:
    await call.body(_PaymentMethod)
    raise NotFound("There is no such payment method: this server keeps none.")


async def preview_invoice(call: Call) -> Json:
    """What requests that ended in this month (UTC) cost. All of it was paid from credits."""
    today = day_of(call.instance.keys.clock())
    first, end = first_day("month", today), next_first_day("month", today)
    async with call.heavy:
        found = await Analytics(call.instance.database).cells(
            *(MeterFilter(call.organisation_id), first * MICROSECONDS_PER_DAY, end * MICROSECONDS_PER_DAY, "day")
        )
    if found.cut:
        raise InvalidRequest("This month has too many lines for an invoice. Ask for usage analytics by model.")
    lines = lines_of(found.cells)
    total = sum(line.ticks for line in lines)
    cents = cents_down(total)
    amounts = cents_of_parts([line.ticks for line in lines], cents)
    balance = call.instance.ledger.balance(call.organisation_id).balance_ticks
    limits = await spend_limits(call.instance.database, call.organisation_id)
    told_lines = [
        {
            "clusterName": "leadline",
            "description": line.description,
            "unitType": line.unit_type,
            "unitPrice": str(line.unit_ticks),
            "numUnits": str(line.units),
            "amount": str(amount),
            "amountTicks": str(line.ticks),
        }
        for line, amount in zip(lines, amounts, strict=True)
    ]
    month = _month_of(first * MICROSECONDS_PER_DAY)
    return {
        "coreInvoice": {
            "lines": told_lines,
            "amountBeforeVat": str(cents),
            "vatCost": "0",
            "amountAfterVat": str(cents),
            "autoCreditsIssued": "0",
            "defaultCreditsIssued": "0",
            "totalWithCorr": val(0),
            "prepaidCredits": val(-cents_down(balance + total)),
            "prepaidCreditsUsed": val(-(cents_down(balance + total) - cents_down(balance))),
            "totalTicks": str(total),
        },
        "effectiveSpendingLimit": str(cents_down(limits.hard_ticks or 0)),
        "defaultCredits": "0",
        "billingCycle": {"year": month[0], "month": month[1]},
    }


async def show_limits(call: Call) -> Json:
    """0: there is no limit but the credits."""
    limits = await spend_limits(call.instance.database, call.organisation_id)
    effective = val(cents_down(limits.hard_ticks or 0))
    told: Json = {"hardSlAuto": val(0), "effectiveHardSl": val(0), "effectiveSl": effective}
    if limits.hard_ticks is not None:
        told["softSl"] = effective
    if limits.soft_ticks is not None:
        told["warningSl"] = val(cents_down(limits.soft_ticks))
    return {"spendingLimits": told}


async def set_limits(call: Call) -> Json:
    """What xAI calls a soft limit stops requests: here that is the hard one, which users set themselves. Its mails are
    the limit `desiredWarningLimit`. 0 takes a limit away."""
    wanted = await call.body(_SetLimit)
    if wanted.desired_soft_spending_limit is None and wanted.desired_warning_limit is None:
        raise InvalidRequest("desiredSoftSpendingLimit is missing.", "desiredSoftSpendingLimit")
    before = await spend_limits(call.instance.database, call.organisation_id)
    hard = _limit(wanted.desired_soft_spending_limit, "desiredSoftSpendingLimit", before.hard_ticks)
    soft = _limit(wanted.desired_warning_limit, "desiredWarningLimit", before.soft_ticks)
    if hard is not None and soft is not None and soft > hard:
        if wanted.desired_warning_limit is not None:
            raise InvalidRequest("A limit for mails must not be above the one that stops.", "desiredWarningLimit")
        soft = hard
    await change_limits(call.instance, call.actor, call.organisation_id, SpendLimits(soft, hard))
    told: Json = {"thisBpSoftSpendingLimit": val(cents_down(hard or 0))}
    return told | {"thisBpWarningLimit": val(cents_down(soft))} if soft is not None else told


async def list_balance_changes(call: Call) -> Json:
    found = await balance_changes(call.instance.database, call.organisation_id)
    numbers = await call.instance.billing.receipts.numbers(call.organisation_id)
    changes = [(entry.at, _given(call, entry, numbers), entry.amount_ticks) for entry in found.given]
    now = call.instance.keys.clock()
    for spent in found.spent:
        last = date(spent.year, spent.month, monthrange(spent.year, spent.month)[1])
        at = min(now, (last.toordinal() - date(1970, 1, 1).toordinal() + 1) * MICROSECONDS_PER_DAY - 1)
        facts: Json = {"changeOrigin": "SPEND", "spendBpKeyYear": spent.year, "spendBpKeyMonth": spent.month}
        changes.append((at, _change(call, at, facts), -spent.ticks))
    told, running = [], 0
    # Each in cents so that, whatever is cut off, they add up to the total.
    for _, change, ticks in sorted(changes, key=lambda one: one[0]):
        cents = (running + ticks) // TICKS_PER_CENT - running // TICKS_PER_CENT
        running += ticks
        told.append(change | {"amount": val(-cents), "amountTicks": str(-ticks)})
    return {"changes": told, "total": val(-(running // TICKS_PER_CENT)), "totalTicks": str(-running)}


async def top_up(call: Call) -> Json:
    """Opens a payment page. Asked again for the same amount, before it was paid, it is the same one."""
    amount = (await call.body(_TopUp)).amount.val
    text = str(amount).removeprefix("-")
    cents = integer_of(text, "amount.val", MOST_CENTS)
    billing = call.instance.billing
    if billing.checkout is None:
        raise InvalidRequest("This server takes no payments: [stripe] is not set up. An administrator grants credits.")
    if cents < LEAST_CENTS:
        raise InvalidRequest(f"amount.val must be {LEAST_CENTS} to {MOST_CENTS} cents.", "amount.val")
    async with call.one_by_one:
        known = await billing.top_ups.pending(call.organisation_id, cents)
        begun = known or await billing.top_ups.begin(call.organisation_id, cents, call.actor)
    try:
        url = await _payment_page(call, billing.checkout, begun)
    except Unavailable:
        if known is None:
            raise
        # Something of it has changed since, such as the address of this server: another page is opened.
        begun = await billing.top_ups.begin(call.organisation_id, cents, call.actor)
        url = await _payment_page(call, billing.checkout, begun)
    return {"change": _pending(call, begun) | {"checkoutUrl": url}}


async def _payment_page(call: Call, checkout: StripeCheckout, begun: TopUp) -> str:
    payer = await call.instance.users.get(begun.user_id)
    email = payer.email if payer is not None else ""
    session_id, url = await checkout.open(begun, email, call.instance.base_url)
    await call.instance.billing.top_ups.remember_session(begun, session_id)
    return url


def _pending(call: Call, begun: TopUp) -> Json:
    facts: Json = {
        "changeOrigin": "PURCHASE",
        "topupStatus": "TO_CHARGE",
        "amount": val(-begun.cents),
        "paymentProcessor": {"kind": "STRIPE"},
    }
    return _change(call, begun.created_at, facts)


def _given(call: Call, entry: Entry, numbers: dict[str, str]) -> Json:
    facts: Json = {"changeOrigin": "REFUND" if entry.kind == "refund" else "MANUAL", "description": entry.reason}
    facts["paymentProcessor"] = {"kind": "MANUAL"}
    if entry.id in numbers:
        number = numbers[entry.id]
        facts |= {"changeOrigin": "PURCHASE", "invoiceId": number, "invoiceNumber": number}
        facts["paymentProcessor"] = {"kind": "STRIPE"}
    return _change(call, entry.at, facts)


def _change(call: Call, at: int, facts: Json) -> Json:
    return {"teamId": call.organisation_id, "topupStatus": "SUCCEEDED", "createTime": timestamp(at)} | facts


def _invoice(receipt: Receipt) -> Json:
    cents = str(receipt.cents)
    return {
        "teamId": receipt.organisation_id,
        "invoiceId": receipt.number,
        "invoiceNumber": receipt.number,
        "createTime": timestamp(receipt.at),
        "invoiceStatus": "PAID",
        "chargerAttempts": [],
        "lines": [],
        "subtotal": cents,
        "tax": "0",
        "total": cents,
        "prepaid": {},
    }


def _cycle(call: Call, name: str) -> tuple[int, int] | None:
    """A month of the query, as `name.year` and `name.month`."""
    year, month = call.parameter(f"{name}.year"), call.parameter(f"{name}.month")
    if year is None and month is None:
        return None
    cycle = integer_of(year or "", f"{name}.year", 9999), integer_of(month or "", f"{name}.month", 12)
    if not cycle[1]:
        raise InvalidRequest(f"{name}.month must be 1 to 12.", f"{name}.month")
    return cycle


def _month_of(at: int) -> tuple[int, int]:
    moment = datetime.fromtimestamp(at // 1_000_000, UTC)
    return moment.year, moment.month


def _limit(wanted: _Val | None, field: str, known: Ticks | None) -> Ticks | None:
    if wanted is None:
        return known
    cents = integer_of(wanted.val, f"{field}.val", _MOST_LIMIT_CENTS)
    return Ticks(cents * TICKS_PER_CENT) if cents else None


def _trimmed(lines: tuple[str, ...]) -> tuple[str, ...]:
    """All of them, also empty ones, so that they are known by their places; none where all are empty."""
    stripped = tuple(re.sub(r"\s+", " ", line).strip() for line in lines)
    return stripped if any(stripped) else ()


def _address(details: BillingDetails) -> Json:
    """Six lines are those that this API wrote. Others were written as free text."""
    if len(details.lines) == len(_ADDRESS):
        return dict(zip(_ADDRESS, details.lines, strict=True))
    first, *others = details.lines or ("",)
    return dict.fromkeys(_ADDRESS, "") | {"line1": first, "line2": ", ".join(others)}


_TEAM = "/v1/billing/teams/{team_id}"
ROUTES: Routes = {
    ("GET", f"{_TEAM}/billing-info"): ("GetBillingInfo", show_billing_info),
    ("POST", f"{_TEAM}/billing-info"): ("SetBillingInfo", set_billing_info),
    ("GET", f"{_TEAM}/invoices"): ("ListInvoices", list_invoices),
    ("GET", f"{_TEAM}/payment-method"): ("ListPaymentMethods", list_payment_methods),
    ("POST", f"{_TEAM}/payment-method/default"): ("SetDefaultPaymentMethod", set_default_payment_method),
    ("GET", f"{_TEAM}/postpaid/invoice/preview"): ("GetAmountToPay", preview_invoice),
    ("GET", f"{_TEAM}/postpaid/spending-limits"): ("GetSpendingLimits", show_limits),
    ("POST", f"{_TEAM}/postpaid/spending-limits"): ("SetSoftSpendingLimit", set_limits),
    ("GET", f"{_TEAM}/prepaid/balance"): ("ListPrepaidBalanceChanges", list_balance_changes),
    ("POST", f"{_TEAM}/prepaid/top-up"): ("TopUpOrGetExistingPendingChange", top_up),
}

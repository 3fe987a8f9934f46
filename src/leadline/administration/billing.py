"""What people change in their organisation's billing: limits, mails, whose name is on receipts; and how they pay."""

from leadline.accounts.actor import Actor
from leadline.accounts.audit_log import audited
from leadline.administration.instance import Instance
from leadline.billing.receipts import BillingDetails, changed_details
from leadline.errors import InvalidRequest
from leadline.ledger.spend_limits import SpendLimits, change_spend_limits, spend_limits
from leadline.storage.database import Value, Write


async def change_limits(instance: Instance, actor: Actor, organisation_id: str, limits: SpendLimits) -> None:
    """What the organisation may spend in a month, from the next request on."""
    known = await spend_limits(instance.database, organisation_id)
    row = _row(instance, actor, "billing limits", organisation_id, (_limits(known), _limits(limits)))
    await change_spend_limits(instance.ledger, organisation_id, limits, row)
    instance.billing.alerts.soft_limit_changed(organisation_id, limits.soft_ticks)


async def change_thresholds(
    instance: Instance, actor: Actor, organisation_id: str, thresholds: tuple[int, ...]
) -> None:
    """At which percentages of its credits an organisation is told that they run low; none: never."""
    alerts = instance.billing.alerts
    known = alerts.thresholds(organisation_id)
    row = _row(instance, actor, "billing alerts", organisation_id, (_percentages(known), _percentages(thresholds)))
    await alerts.change_thresholds(organisation_id, thresholds, row)


async def change_details(instance: Instance, actor: Actor, organisation_id: str, details: BillingDetails) -> None:
    """To whom receipts are made out from now on."""
    known = await instance.billing.receipts.details(organisation_id)
    row = _row(instance, actor, "billing details", organisation_id, (_details(known), _details(details)))
    await instance.database.commit(changed_details(organisation_id, details), row)


async def begin_top_up(instance: Instance, actor: Actor, organisation_id: str, cents: int, email: str) -> str:
    """The address of a payment page for so many cents. InvalidRequest where nobody takes payments."""
    checkout, top_ups = instance.billing.checkout, instance.billing.top_ups
    if checkout is None:
        raise InvalidRequest("No payments are taken here. An administrator of this server can grant credits.")
    top_up = await top_ups.begin(organisation_id, cents, actor)
    session_id, url = await checkout.open(top_up, email, instance.base_url)
    await top_ups.remember_session(top_up, session_id)
    return url


def _row(
    instance: Instance,
    actor: Actor,
    action: str,
    organisation_id: str,
    changes: tuple[dict[str, Value], dict[str, Value]],
) -> Write:
    return audited(instance.keys.clock(), actor, action, organisation_id, changes, organisation_id)


def _percentages(thresholds: tuple[int, ...]) -> dict[str, Value]:
    return {"percent": ", ".join(map(str, thresholds))}


def _limits(limits: SpendLimits) -> dict[str, Value]:
    return {"soft_ticks": limits.soft_ticks, "hard_ticks": limits.hard_ticks}


def _details(details: BillingDetails) -> dict[str, Value]:
    return {"name": details.name, "address": "\n".join(details.lines), "tax_id": details.tax_id}

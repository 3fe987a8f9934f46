"""Credits and the ledger."""

from leadline.accounts.actor import Actor
from leadline.accounts.audit_log import audited
from leadline.administration.commands import dates
from leadline.administration.commands.command import Command, Result, dollars
from leadline.administration.instance import Instance
from leadline.clock import rfc3339
from leadline.errors import InvalidRequest
from leadline.ledger.audit import audit
from leadline.ledger.books import Entry
from leadline.ledger.expiring import end_after
from leadline.money import NOTHING
from leadline.storage.database import Value

_LONGEST_REASON = 500


async def grant_credits(
    instance: Instance, actor: Actor, email: str, amount: str, reason: str, expires: str | None = None
) -> Result:
    """Until `expires`: a duration from now on, or a day in UTC, with which the credits end, or `never`. None: as the
    configuration says of all credits."""
    organisation = await instance.organisations.of_email(email)
    ticks = dollars(amount)
    if ticks <= NOTHING:
        raise InvalidRequest("Grant an amount above zero.", "amount")
    if not 1 <= len(reason) <= _LONGEST_REASON:
        raise InvalidRequest(f"Give a reason of 1 to {_LONGEST_REASON} characters.", "reason")
    now = instance.keys.clock()
    expires_at = _end(instance, expires, now)
    granted: dict[str, Value] = {
        "granted_ticks": ticks,
        "expires_at": None if expires_at is None else rfc3339(expires_at),
    }
    row = audited(now, actor, "credits grant", organisation.id, ({}, granted | {"reason": reason}), organisation.id)
    await instance.ledger.grant(organisation.id, ticks, reason, expires_at, (row,))
    return {"organisation": organisation.name} | granted | await show_balance(instance, email)


def _end(instance: Instance, expires: str | None, now: int) -> int | None:
    if expires is None:
        return end_after(instance.config.credits.expire_after_days, now)
    return None if expires == "never" else dates.expiry(expires, now)


async def show_balance(instance: Instance, email: str) -> Result:
    organisation = await instance.organisations.of_email(email)
    balance = instance.ledger.balance(organisation.id)
    return {
        "balance_ticks": balance.balance_ticks,
        "held_ticks": balance.held_ticks,
        "available_ticks": balance.available_ticks,
    }


async def show_ledger(instance: Instance, email: str, limit: int | None) -> Result:
    organisation = await instance.organisations.of_email(email)
    return {"entries": [_entry(entry) for entry in await instance.ledger.entries(organisation.id, limit)]}


async def verify_ledger(instance: Instance) -> Result:
    audited = await audit(instance.database, instance.ledger)
    return {"ok": not audited.broken, "checked": audited.checked, "broken": list(audited.broken)}


CHANGES: dict[str, Command] = {"credits grant": grant_credits}
READS: dict[str, Command] = {
    "credits balance": show_balance,
    "credits ledger": show_ledger,
    "credits verify": verify_ledger,
}


def _entry(entry: Entry) -> Result:
    return {
        "id": entry.id,
        "at": rfc3339(entry.at),
        "kind": entry.kind,
        "amount_ticks": entry.amount_ticks,
        "request_id": entry.request_id,
        "key_id": entry.key_id,
        "model": entry.model,
        "reason": entry.reason,
    }

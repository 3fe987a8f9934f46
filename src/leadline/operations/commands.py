"""What the command line can do to an instance: each command once, for a running server and for a closed folder alike.

Arguments and results are plain JSON values.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from leadline.accounts.keys import ApiKey
from leadline.errors import InvalidRequest, PermissionDenied
from leadline.ledger.audit import audit
from leadline.ledger.ledger import Entry
from leadline.money import NOTHING, Ticks, usd
from leadline.operations.instance import Instance

Result = dict[str, Any]
Command = Callable[..., Awaitable[Result]]

FIRST_KEY_NAME = "first-key"
_LONGEST_REASON = 500


async def run(instance: Instance, command: str, arguments: Mapping[str, Any]) -> Result:
    """Run the command of this name."""
    known = COMMANDS.get(command)
    if known is None:
        raise InvalidRequest(f"There is no command {command!r}. Is the running server an older Leadline?")
    return await known(instance, **arguments)


async def init(instance: Instance, email: str, org: str, password: str, first: Mapping[str, str | None]) -> Result:
    """The first organisation with its `credit` and `key`. A second run changes nothing and shows no key."""
    users = await instance.organisations.users()
    if users:
        return _identity(instance, users[0].organisation_id, users[0].id)
    credit, name = first["credit"], _name(first["key"] or FIRST_KEY_NAME)
    ticks = _amount(credit) if credit is not None else usd(instance.config.credits.starter_usd)
    user = await instance.organisations.create(email, org, password, instance.ledger.opening)
    instance.ledger.opened(user.organisation_id)
    if ticks > NOTHING:
        await instance.ledger.grant(user.organisation_id, ticks, "starter credit")
    _, text = await instance.keys.create(user.organisation_id, name)
    return _identity(instance, user.organisation_id, user.id) | {"api_key": text}


async def create_account(instance: Instance, email: str, org: str, password: str) -> Result:
    user = await instance.organisations.create(email, org, password, instance.ledger.opening)
    instance.ledger.opened(user.organisation_id)
    return {"organisation_id": user.organisation_id, "user_id": user.id}


async def list_accounts(instance: Instance) -> Result:
    users = await instance.organisations.users()
    return {
        "accounts": [
            {
                "email": user.email,
                "organisation": user.organisation,
                "organisation_id": user.organisation_id,
                "user_id": user.id,
            }
            for user in users
        ]
    }


async def create_key(instance: Instance, name: str, email: str | None) -> Result:
    user = await instance.organisations.user(email)
    key, text = await instance.keys.create(user.organisation_id, _name(name))
    return _key(key) | {"api_key": text}


async def list_keys(instance: Instance, email: str | None) -> Result:
    user = await instance.organisations.user(email)
    return {"keys": [_key(key) for key in instance.keys.of(user.organisation_id)]}


async def disable_key(instance: Instance, key: str, email: str | None) -> Result:
    return _key(await instance.keys.disable(await _find(instance, key, email)))


async def enable_key(instance: Instance, key: str, email: str | None) -> Result:
    found = await _find(instance, key, email)
    if found.revoked_at is not None:
        raise PermissionDenied(f"{found.name} was revoked, for good. Create a new key.")
    return _key(await instance.keys.enable(found))


async def revoke_key(instance: Instance, key: str, email: str | None) -> Result:
    return _key(await instance.keys.revoke(await _find(instance, key, email)))


async def grant_credits(instance: Instance, email: str, amount: str, reason: str) -> Result:
    user = await instance.organisations.user(email)
    ticks = _amount(amount)
    if ticks <= NOTHING:
        raise InvalidRequest("Grant an amount above zero.", "amount")
    if not 1 <= len(reason) <= _LONGEST_REASON:
        raise InvalidRequest(f"Give a reason of 1 to {_LONGEST_REASON} characters.", "reason")
    await instance.ledger.grant(user.organisation_id, ticks, reason)
    return {"organisation": user.organisation, "granted_ticks": ticks} | await show_balance(instance, email)


async def show_balance(instance: Instance, email: str) -> Result:
    user = await instance.organisations.user(email)
    balance = instance.ledger.balance(user.organisation_id)
    return {
        "balance_ticks": balance.balance_ticks,
        "held_ticks": balance.held_ticks,
        "available_ticks": balance.available_ticks,
    }


async def show_ledger(instance: Instance, email: str, limit: int | None) -> Result:
    user = await instance.organisations.user(email)
    return {"entries": [_entry(entry) for entry in await instance.ledger.entries(user.organisation_id, limit)]}


async def verify_ledger(instance: Instance) -> Result:
    audited = await audit(instance.database)
    return {"ok": not audited.broken, "checked": audited.checked, "broken": list(audited.broken)}


COMMANDS: dict[str, Command] = {
    "init": init,
    "accounts create": create_account,
    "accounts list": list_accounts,
    "keys create": create_key,
    "keys list": list_keys,
    "keys disable": disable_key,
    "keys enable": enable_key,
    "keys revoke": revoke_key,
    "credits grant": grant_credits,
    "credits balance": show_balance,
    "credits ledger": show_ledger,
    "credits verify": verify_ledger,
}


async def _find(instance: Instance, key: str, email: str | None) -> ApiKey:
    user = await instance.organisations.user(email)
    return instance.keys.find(user.organisation_id, key)


def _amount(text: str) -> Ticks:
    try:
        return usd(text)
    except ValueError as error:
        raise InvalidRequest(f"{error}. Write it as 20 or 0.50.", "amount") from None


def _name(name: str) -> str:
    name = name.strip()
    if not 1 <= len(name) <= 100 or not name.isprintable():
        raise InvalidRequest("A key's name must have 1 to 100 printable characters.", "name")
    return name


def _identity(instance: Instance, organisation_id: str, user_id: str) -> Result:
    return {
        "organisation_id": organisation_id,
        "user_id": user_id,
        "base_url": instance.base_url,
        "openai_base_url": f"{instance.base_url}/v1",
    }


def _key(key: ApiKey) -> Result:
    return {
        "id": key.id,
        "name": key.name,
        "redacted": key.redacted,
        "state": key.state,
        "created_at": _rfc3339(key.created_at),
    }


def _entry(entry: Entry) -> Result:
    return {
        "id": entry.id,
        "at": _rfc3339(entry.at),
        "kind": entry.kind,
        "amount_ticks": entry.amount_ticks,
        "request_id": entry.request_id,
        "key_id": entry.key_id,
        "model": entry.model,
        "reason": entry.reason,
    }


def _rfc3339(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / 1e6, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

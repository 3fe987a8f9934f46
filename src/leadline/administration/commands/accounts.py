"""Organisations and their users."""

from collections.abc import Mapping

from leadline.accounts.audit_log import COMMAND_LINE
from leadline.administration.commands.command import Command, Result, dollars
from leadline.administration.commands.keys import key_name
from leadline.administration.instance import Instance
from leadline.clock import rfc3339
from leadline.money import NOTHING, usd

FIRST_KEY_NAME = "first-key"


async def init(instance: Instance, email: str, org: str, password: str, first: Mapping[str, str | None]) -> Result:
    """The first organisation with its `credit` and `key`. A second run changes nothing and shows no key."""
    users = await instance.organisations.users()
    if users:
        return _identity(instance, users[0].organisation_id, users[0].id)
    credit, name = first["credit"], key_name(first["key"] or FIRST_KEY_NAME)
    ticks = dollars(credit) if credit is not None else usd(instance.config.credits.starter_usd)
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
                "suspended_at": None if user.suspended_at is None else rfc3339(user.suspended_at),
            }
            for user in users
        ]
    }


async def suspend_account(instance: Instance, email: str) -> Result:
    user = await instance.organisations.user(email)
    await instance.organisations.suspend(user.organisation_id, COMMAND_LINE)
    return {"organisation_id": user.organisation_id, "organisation": user.organisation, "suspended": True}


async def resume_account(instance: Instance, email: str) -> Result:
    user = await instance.organisations.user(email)
    await instance.organisations.resume(user.organisation_id, COMMAND_LINE)
    return {"organisation_id": user.organisation_id, "organisation": user.organisation, "suspended": False}


async def change_email(instance: Instance, old: str, new: str) -> Result:
    user = await instance.organisations.change_email(await instance.organisations.user(old), new, COMMAND_LINE)
    return {"user_id": user.id, "organisation_id": user.organisation_id, "email": user.email}


COMMANDS: dict[str, Command] = {
    "init": init,
    "accounts create": create_account,
    "accounts list": list_accounts,
    "accounts suspend": suspend_account,
    "accounts resume": resume_account,
    "accounts change-email": change_email,
}


def _identity(instance: Instance, organisation_id: str, user_id: str) -> Result:
    return {
        "organisation_id": organisation_id,
        "user_id": user_id,
        "base_url": instance.base_url,
        "openai_base_url": f"{instance.base_url}/v1",
    }

"""Organisations and their users."""

from collections.abc import Mapping
from typing import Any

from leadline.accounts.actor import Actor
from leadline.accounts.audit_log import Fields, audited
from leadline.accounts.organisations import Organisation
from leadline.accounts.passwords import SHORTEST_BY_COMMAND
from leadline.accounts.users import NewUser, User
from leadline.administration.commands.command import Command, Result, dollars
from leadline.administration.commands.keys import key_name
from leadline.administration.instance import Instance
from leadline.clock import rfc3339
from leadline.ledger.expiring import end_after
from leadline.money import NOTHING, Ticks, usd
from leadline.storage.database import Conflict

FIRST_KEY_NAME = "first-key"
_STARTER = "starter credit"


async def init(
    instance: Instance, actor: Actor, email: str, org: str, password: str, first: Mapping[str, str | None]
) -> Result:
    """The first organisation with its `credit` and `key`. A second run changes nothing and shows no key."""
    if await instance.users.any():
        return await _first_identity(instance)
    credit, name = first["credit"], key_name(first["key"] or FIRST_KEY_NAME)
    ticks = None if credit is None else dollars(credit)
    user = await NewUser.of(instance.passwords, email, password, shortest=SHORTEST_BY_COMMAND)
    try:
        organisation = await open_organisation(instance, actor, user, org, only_first=True)
    except Conflict:
        return await _first_identity(instance)
    await grant_starter(instance, actor, organisation.id, ticks)
    _, text = await instance.keys.create(organisation.id, name, actor)
    return _identity(instance, organisation.id, user.id) | {"api_key": text}


async def open_organisation(
    instance: Instance, actor: Actor, person: NewUser | User, name: str, **conditions: Any
) -> Organisation:
    """A new organisation with its account in the ledger. `conditions` are those of `Organisations.create`."""
    organisation = await instance.organisations.create(person, name, instance.ledger.opening, actor, **conditions)
    instance.ledger.opened(organisation.id)
    return organisation


async def grant_starter(instance: Instance, actor: Actor, organisation_id: str, ticks: Ticks | None = None) -> None:
    """What the first organisation begins with: `ticks`, or what the configuration says."""
    given = usd(instance.config.credits.starter_usd) if ticks is None else ticks
    if given > NOTHING:
        now = instance.keys.clock()
        expires_at = end_after(instance.config.credits.expire_after_days, now)
        until = {} if expires_at is None else {"expires_at": rfc3339(expires_at)}
        changes: tuple[Fields, Fields] = {}, {"granted_ticks": given, **until, "reason": _STARTER}
        row = audited(now, actor, "credits grant", organisation_id, changes, organisation_id)
        await instance.ledger.grant(organisation_id, given, _STARTER, expires_at, (row,))


async def create_account(instance: Instance, actor: Actor, email: str, org: str, password: str) -> Result:
    user = await NewUser.of(instance.passwords, email, password, shortest=SHORTEST_BY_COMMAND)
    organisation = await open_organisation(instance, actor, user, org)
    return {"organisation_id": organisation.id, "user_id": user.id}


async def list_accounts(instance: Instance) -> Result:
    """One row for each user of each organisation."""
    rows = []
    for organisation in await instance.organisations.all():
        suspended_at = None if organisation.suspended_at is None else rfc3339(organisation.suspended_at)
        for member in await instance.organisations.members(organisation.id):
            about = {"organisation": organisation.name, "organisation_id": organisation.id}
            state = {"role": member.role, "suspended_at": suspended_at}
            rows.append({"email": member.user.email, **about, "user_id": member.user.id, **state})
    return {"accounts": rows}


async def suspend_account(instance: Instance, actor: Actor, email: str) -> Result:
    """By the e-mail of one of its users, or its own id."""
    organisation = await instance.organisations.of_email(email)
    await instance.organisations.suspend(organisation.id, actor)
    return {"organisation_id": organisation.id, "organisation": organisation.name, "suspended": True}


async def resume_account(instance: Instance, actor: Actor, email: str) -> Result:
    organisation = await instance.organisations.of_email(email)
    await instance.organisations.resume(organisation.id, actor)
    return {"organisation_id": organisation.id, "organisation": organisation.name, "suspended": False}


async def change_email(instance: Instance, actor: Actor, old: str, new: str) -> Result:
    user = await instance.users.change_email(await instance.users.named(old), new, actor)
    organisation = await instance.organisations.of_email(user.email)
    return {"user_id": user.id, "organisation_id": organisation.id, "email": user.email}


READS: dict[str, Command] = {"accounts list": list_accounts}
CHANGES: dict[str, Command] = {
    "init": init,
    "accounts create": create_account,
    "accounts suspend": suspend_account,
    "accounts resume": resume_account,
    "accounts change-email": change_email,
}


async def _first_identity(instance: Instance) -> Result:
    [first, *_] = await instance.users.all()
    return _identity(instance, (await instance.organisations.of_email(first.email)).id, first.id)


def _identity(instance: Instance, organisation_id: str, user_id: str) -> Result:
    return {
        "organisation_id": organisation_id,
        "user_id": user_id,
        "base_url": instance.base_url,
        "openai_base_url": f"{instance.base_url}/v1",
    }

"""People: who is there, who is invited, what they may do, and links that are handed to them."""

from leadline.accounts.actor import Actor
from leadline.accounts.audit_log import audited
from leadline.accounts.links import Kind, link_url
from leadline.accounts.organisations import Membership
from leadline.accounts.roles import Role, role_of
from leadline.accounts.users import User, normal_email
from leadline.administration.commands.accounts import change_email
from leadline.administration.commands.command import Command, Result
from leadline.administration.instance import Instance
from leadline.administration.invitations import invite, withdraw
from leadline.clock import rfc3339
from leadline.errors import InvalidRequest


def link_to(instance: Instance, kind: Kind, token: str) -> str:
    """The URL of a link, on the host that the configuration names."""
    return link_url(instance.base_url, kind, token)


async def list_users(instance: Instance) -> Result:
    """Everybody, with their organisations and roles there."""
    users = []
    for user in await instance.users.all():
        organisations = [
            {"organisation_id": one.organisation_id, "organisation": one.organisation, "role": one.role}
            for one in await instance.organisations.of_user(user.id)
        ]
        users.append(_user(user) | {"organisations": organisations})
    return {"users": users}


async def invite_user(
    instance: Instance, actor: Actor, email: str, role: str, organisation: str | None = None, acting: Role = "owner"
) -> Result:
    """Mail a link with which the owner of `email` joins, and give it as well. `organisation` is an id, or a member's
    e-mail; `acting` is the actor's role there. A further invitation is in the place of the one before."""
    joined, chosen = await instance.organisations.of_email(organisation), role_of(role)
    url = await invite(instance, actor, Membership(joined.id, joined.name, acting), email, chosen)
    told = {"email": normal_email(email), "role": chosen, "organisation_id": joined.id, "organisation": joined.name}
    return told | {"link": url}


async def withdraw_invitation(
    instance: Instance, actor: Actor, link_id: str, organisation: str | None = None
) -> Result:
    """The link of this id, which is among the organisation's, does not work any more."""
    joined = await instance.organisations.of_email(organisation)
    email = await withdraw(instance, actor, Membership(joined.id, joined.name, "owner"), link_id)
    return {"email": email, "organisation_id": joined.id}


async def change_role(
    instance: Instance, actor: Actor, email: str, role: str, organisation: str | None = None, acting: Role = "owner"
) -> Result:
    """A member's role; `none`: he is a member no more. Without `organisation`: that to which he came first."""
    user = await instance.users.named(email)
    joined = await instance.organisations.of_email(organisation or user.email)
    if role == "none":
        await instance.organisations.remove_member(joined.id, user.id, actor, acting)
    else:
        await instance.organisations.change_role(joined.id, user.id, role_of(role), actor, acting)
    return {"email": user.email, "role": role, "organisation_id": joined.id, "organisation": joined.name}


async def suspend_user(instance: Instance, actor: Actor, email: str) -> Result:
    await instance.users.suspend(await instance.users.named(email), actor)
    return _user(await instance.users.named(email))


async def resume_user(instance: Instance, actor: Actor, email: str) -> Result:
    await instance.users.resume(await instance.users.named(email), actor)
    return _user(await instance.users.named(email))


async def make_admin(instance: Instance, actor: Actor, email: str, *, off: bool = False) -> Result:
    """An admin of the instance, or one no more."""
    await instance.users.set_admin(await instance.users.named(email), actor, is_admin=not off)
    return _user(await instance.users.named(email))


async def turn_off_two_factor(instance: Instance, actor: Actor, email: str) -> Result:
    """For somebody who lost phone and recovery codes."""
    await instance.two_factor.turn_off(await instance.users.named(email), actor)
    return _user(await instance.users.named(email))


async def make_reset_link(instance: Instance, actor: Actor, email: str) -> Result:
    """A link for a new password, to hand to the user."""
    user = await instance.users.named(email)
    token, writes = instance.links.making("reset", user.id)
    row = audited(instance.keys.clock(), actor, "users reset-link", user.id, ({}, {}))
    await instance.database.commit(*writes, row)
    return {"email": user.email, "link": link_to(instance, "reset", token)}


async def make_setup_link(instance: Instance, actor: Actor) -> Result:
    """A link with which the first user sets the instance up. It ends the one before."""
    if await instance.users.any():
        raise InvalidRequest("This server has a user already. `leadline users reset-link` lets him in again.")
    token, writes = instance.links.making("setup")
    await instance.database.commit(*writes, audited(instance.keys.clock(), actor, "setup-link", "", ({}, {})))
    return {"link": link_to(instance, "setup", token)}


READS: dict[str, Command] = {"users list": list_users}
CHANGES: dict[str, Command] = {
    "users invite": invite_user,
    "users withdraw": withdraw_invitation,
    "users role": change_role,
    "users suspend": suspend_user,
    "users resume": resume_user,
    "users admin": make_admin,
    "users two-factor-off": turn_off_two_factor,
    "users reset-link": make_reset_link,
    "users change-email": change_email,
    "setup-link": make_setup_link,
}


def _user(user: User) -> Result:
    return {
        "user_id": user.id,
        "email": user.email,
        "name": user.name,
        "is_admin": user.is_admin,
        "two_factor": user.two_factor,
        "created_at": rfc3339(user.created_at),
        "verified_at": _date(user.verified_at),
        "suspended_at": _date(user.suspended_at),
        "last_signed_in_at": _date(user.last_signed_in_at),
    }


def _date(microseconds: int | None) -> str | None:
    return None if microseconds is None else rfc3339(microseconds)

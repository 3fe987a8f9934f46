"""Invitations to an organisation: a link that works once, for a week and for one e-mail alone."""

from leadline.accounts.actor import Actor
from leadline.accounts.audit_log import AuditFilters, Fields, audited
from leadline.accounts.links import Link, link_url
from leadline.accounts.organisations import Membership
from leadline.accounts.roles import Role, role_of
from leadline.accounts.users import normal_email, refuse_email
from leadline.administration.instance import Instance
from leadline.clock import MICROSECONDS_PER_DAY
from leadline.errors import InvalidRequest, NotFound, PermissionDenied
from leadline.storage.database import Conflict

# Of one organisation: invitations go out as mails to people who did not ask for them.
MOST_WAITING = 100
MOST_A_DAY = 100
MOST_A_DAY_FOR_ONE = 5
_INVITE = "members invite"


async def invite(instance: Instance, actor: Actor, by: Membership, email: str, role: Role) -> str:
    """The link, which is never to be had again, and goes out by mail too. `by` is the membership of who invites: only
    owners invite owners. It is in the place of an earlier one for this e-mail."""
    email = normal_email(email)
    refuse_email(email)
    if role == "owner" and by.role != "owner":
        raise PermissionDenied("Only an owner makes somebody an owner.")
    members = await instance.organisations.members(by.organisation_id)
    if any(member.user.email == email for member in members):
        raise InvalidRequest(f"{email} is a member already.", "email")
    waiting = await instance.links.waiting("invite", by.organisation_id)
    if len([link for link in waiting if link.subject != email]) >= MOST_WAITING:
        raise InvalidRequest(f"{MOST_WAITING} invitations are waiting. Withdraw some of them first.", "email")
    # Whoever has the data folder needs no bounds.
    if actor.user_id:
        await _refuse_too_many(instance, by.organisation_id, email)
    return await _send(instance, actor, by, email, role)


async def renew(instance: Instance, actor: Actor, by: Membership, link_id: str) -> tuple[str, str]:
    """The e-mail of an invitation, and a new link in its place. The link before works no more."""
    link = await _waiting(instance, by.organisation_id, link_id)
    return link.subject, await invite(instance, actor, by, link.subject, role_of(link.facts["role"]))


async def withdraw(instance: Instance, actor: Actor, by: Membership, link_id: str) -> str:
    """The e-mail whose invitation works no more."""
    link = await _waiting(instance, by.organisation_id, link_id)
    changes = {"email": link.subject, "role": link.facts["role"]}, {"email": None, "role": None}
    row = audited(instance.keys.clock(), actor, "members withdraw", link.subject, changes, by.organisation_id)
    try:
        await instance.database.commit(instance.links.withdrawing(link.id, by.organisation_id), row)
    except Conflict:
        raise NotFound("There is no such invitation.") from None
    return link.subject


async def still_invites(instance: Instance, link: Link) -> bool:
    """Whether whoever made an invitation could still make it: no member goes on inviting after he left, or lost his
    role."""
    user = await instance.users.get(str(link.facts.get("invited_by_id", "")))
    if user is None:
        # The command line, or an invitation of before this was asked.
        return True
    roles = [
        one.role for one in await instance.organisations.of_user(user.id) if one.organisation_id == link.organisation_id
    ]
    needed: set[Role] = {"owner"} if link.facts["role"] == "owner" else {"owner", "admin"}
    return user.suspended_at is None and (user.is_admin or not needed.isdisjoint(roles))


async def _waiting(instance: Instance, organisation_id: str, link_id: str) -> Link:
    for link in await instance.links.waiting("invite", organisation_id):
        if link.id == link_id:
            return link
    raise NotFound("There is no such invitation.")


async def _refuse_too_many(instance: Instance, organisation_id: str, email: str) -> None:
    """Where the organisation invited so often in the last day that it must not do more of it."""
    lately = AuditFilters(action=_INVITE, since=instance.keys.clock() - MICROSECONDS_PER_DAY)
    rows = await instance.audit_log.rows(organisation_id, lately, limit=MOST_A_DAY)
    if len(rows) >= MOST_A_DAY:
        raise InvalidRequest(f"{MOST_A_DAY} invitations went out in the last 24 hours. Go on tomorrow.", "email")
    if sum(row.subject == email for row in rows) >= MOST_A_DAY_FOR_ONE:
        raise InvalidRequest(f"{email} was invited {MOST_A_DAY_FOR_ONE} times in the last 24 hours.", "email")


async def _send(instance: Instance, actor: Actor, by: Membership, email: str, role: Role) -> str:
    facts = {"role": role, "invited_by": actor.name, "invited_by_id": actor.id}
    token, writes = instance.links.making("invite", email, facts, by.organisation_id)
    inviter = f"{actor.name} invites you" if actor.user_id else "You are invited"
    url = link_url(instance.base_url, "invite", token)
    text = (
        f"{inviter} to join {by.organisation} at {instance.base_url}, as {role}.\n\n"
        f"Join with this link, within seven days:\n\n{url}\n\n"
        f"It works once, and for {email} alone. If you do not want to join, do nothing.\n"
    )
    mail = instance.outbox.putting(email, f"Join {by.organisation}", text, "invite")
    changes: tuple[Fields, Fields] = ({}, {"email": email, "role": role})
    row = audited(instance.keys.clock(), actor, _INVITE, email, changes, by.organisation_id)
    await instance.database.commit(*writes, mail, row)
    instance.outbox.look()
    return url

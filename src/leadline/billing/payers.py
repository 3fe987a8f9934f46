"""Who hears of an organisation's money: owners, admins, and whoever does its billing."""

from leadline.accounts.organisations import Organisations
from leadline.accounts.roles import PERMISSIONS


async def payers(organisations: Organisations, organisation_id: str) -> tuple[list[str], str]:
    """Their e-mails, of those that are theirs for sure, and the organisation's name."""
    organisation = await organisations.get(organisation_id)
    people = [
        member.user.email
        for member in await organisations.members(organisation_id)
        if "billing" in PERMISSIONS[member.role]
        and member.user.verified_at is not None
        and member.user.suspended_at is None
    ]
    return people, organisation.name if organisation is not None else ""

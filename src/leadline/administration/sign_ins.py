"""Sign-ins: each is in the audit log, and its user gets a mail where it is from a device that is new for him."""

from datetime import UTC, datetime

from leadline.accounts.actor import Actor
from leadline.accounts.audit_log import MOST_ROWS, AuditFilters
from leadline.accounts.devices import device_of
from leadline.accounts.guard import network_of
from leadline.accounts.users import SIGN_IN, User
from leadline.administration.instance import Instance
from leadline.clock import MICROSECONDS_PER_SECOND
from leadline.storage.database import Write


async def remember_sign_in(instance: Instance, user: User, actor: Actor, agent: str) -> None:
    """The user gave his password, and his code if he has one. Comes before his session is opened."""
    device = device_of(agent)
    known = await _known(instance, user)
    mails = [] if not known or (network_of(actor.address), device) in known else [_mail(instance, user, actor, device)]
    await instance.users.signed_in(user, device, actor, mails)
    if mails:
        instance.outbox.look()


async def _known(instance: Instance, user: User) -> set[tuple[str, str]]:
    """Networks and devices of the user's last sign-ins and of his sessions. Nothing, where this is his first."""
    rows = await instance.audit_log.rows("", AuditFilters(actor=user.id, action=SIGN_IN), limit=MOST_ROWS)
    known = {(network_of(row.address), str(row.after.get("device", ""))) for row in rows}
    sessions = instance.sessions.of_user(user.id)
    return known | {(network_of(session.address), device_of(session.agent)) for session in sessions}


def _mail(instance: Instance, user: User, actor: Actor, device: str) -> Write:
    at = datetime.fromtimestamp(instance.keys.clock() // MICROSECONDS_PER_SECOND, UTC)
    text = (
        f"Somebody signed in to {instance.base_url} as {user.email}, from where you did not sign in before:\n\n"
        f"When: {at.day} {at:%b %Y, %H:%M} UTC\nBrowser: {device}\nAddress: {actor.address or 'unknown'}\n\n"
        "If it was you, do nothing. If it was not, change your password, which ends all other sessions:\n"
        f"{instance.base_url}/settings\n"
    )
    return instance.outbox.putting(user.email, "A new sign-in to your account", text, "sign-in")

"""Letters about coming in. Whether an e-mail is known here shows in nothing that a stranger can ask for: the work is
the same, and one commit."""

from leadline.accounts.actor import Actor
from leadline.accounts.links import Links
from leadline.accounts.mail import Outbox
from leadline.accounts.organisations import Organisation
from leadline.accounts.users import NewUser, normal_email
from leadline.administration.commands.users import link_to
from leadline.administration.instance import Instance

_NOBODY = "nobody"
_LONGEST_EMAIL = 320


async def mail_reset(instance: Instance, email: str) -> None:
    """Mail a link for a new password to the user with this e-mail, if there is one who may sign in."""
    email = normal_email(email)[:_LONGEST_EMAIL]
    user = await instance.users.find(email)
    known = user is not None and user.suspended_at is None
    token, writes = instance.links.making("reset", user.id if user is not None and known else "")
    text = (
        f"Choose a new password for {instance.base_url} with this link, within an hour:\n\n"
        f"{link_to(instance, 'reset', token)}\n\nIf you did not ask for it, do nothing: your password stays."
    )
    mail = instance.outbox.putting(email, "Choose a new password", text, "reset" if known else _NOBODY)
    # What was written for nobody goes in the same commit.
    unsaid = () if known else (Links.ending("reset", ""), Outbox.dropping(_NOBODY))
    await instance.database.commit(*writes, mail, *unsaid)
    instance.outbox.look()


async def mail_sign_up(instance: Instance, person: NewUser, organisation: str) -> None:
    """Mail a link with which `person` becomes a user with an organisation of this name; whoever is one already gets a
    mail that says so."""
    known = await instance.users.find(person.email) is not None
    facts = {"id": person.id, "name": person.name, "password_hash": person.password_hash, "org": organisation}
    token, writes = instance.links.making("verify", "" if known else person.email, facts)
    if known:
        subject = "You have an account already"
        text = (
            f"Somebody, probably you, signed up at {instance.base_url} with this e-mail, which has an account"
            f" already.\n\nSign in: {instance.base_url}/login\nForgot your password? {instance.base_url}/forgot"
        )
    else:
        subject = "Finish your sign-up"
        url = link_to(instance, "verify", token)
        text = f"Finish your sign-up at {instance.base_url} with this link, within a day:\n\n{url}"
    unsaid = (Links.ending("verify", ""),) if known else ()
    mail = instance.outbox.putting(person.email, subject, text, "sign-up")
    await instance.database.commit(*writes, mail, *unsaid)
    instance.outbox.look()


async def mail_approval(instance: Instance, organisation: Organisation, actor: Actor) -> None:
    """Tell the administrators of this server of a new organisation that waits, suspended, for one of them."""
    url = f"{instance.base_url}/admin/organisations/{organisation.id}"
    text = f"{actor.name} signed up at {instance.base_url} and waits for you. Let the organisation in or not:\n\n{url}"
    for admin in await instance.users.all():
        if admin.is_admin and admin.suspended_at is None:
            await instance.outbox.put(admin.email, "Somebody waits for your approval", text, "approval")

"""The outbox: what waits, what was sent, and what could not be."""

from starlette.responses import Response

from leadline.accounts.audit_log import audited
from leadline.accounts.mail import Mail
from leadline.console.page import Page
from leadline.console.turning import turned
from leadline.console.visit import Visit
from leadline.errors import NotFound

PATH = "/admin/mail"


async def show(visit: Visit) -> Response:
    outbox = visit.instance.outbox

    async def fetch(cursor: str | None, limit: int, *, oldest_first: bool) -> list[Mail]:
        return await outbox.newest(limit, cursor, oldest_first=oldest_first)

    return visit.render(
        "admin/mail.html",
        page=await turned(fetch, visit.request.query_params, PATH, {}),
        counts=await outbox.counts(),
        sends=outbox.sends,
        sender=visit.instance.config.smtp.sender,
    )


async def show_one(visit: Visit) -> Response:
    """Links for passwords are in mails, so whoever reads one is told of in the audit log."""
    mail = await visit.instance.outbox.get(visit.request.path_params["mail"])
    if mail is None:
        raise NotFound("There is no such mail.")
    at, read = visit.instance.keys.clock(), {"to": mail.to, "because": mail.because}
    await visit.instance.database.commit(audited(at, visit.actor, "mails read", mail.id, ({}, read)))
    return visit.render("admin/mail_one.html", mail=mail, sends=visit.instance.outbox.sends)


async def send_test(visit: Visit) -> Response:
    instance, to = visit.instance, visit.user.email
    instance.guard.attempt("test mail", to, visit.address)
    text = f"This is a test of the mails of {instance.base_url}.\n\nIf you read it, mails arrive. That is all."
    await instance.database.commit(
        instance.outbox.putting(to, "A test of Leadline's mail", text, "test"),
        audited(instance.keys.clock(), visit.actor, "mails test", to, ({}, {})),
    )
    instance.outbox.look()
    if not instance.outbox.sends:
        return visit.redirect(PATH, "The test mail is in the outbox, where it stays: no mail server is set.", "warn")
    return visit.redirect(PATH, f"The test mail to {to} is on its way. Reload this page to see whether it was sent.")


PAGES = (
    Page(PATH, "admin-mail", "admin", show),
    Page(f"{PATH}/test", "admin-mail", "admin", post=send_test),
    Page(f"{PATH}/{{mail}}", "admin-mail", "admin", show_one),
)

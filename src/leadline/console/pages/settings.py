"""Settings: the visitor's own, with his password and his sessions, and those of the organisation."""

from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from leadline.accounts.audit_log import audited
from leadline.accounts.devices import device_of
from leadline.accounts.sessions import Session
from leadline.console.cookies import SESSION
from leadline.console.page import Page
from leadline.console.pages.access import may_found
from leadline.console.visit import Visit
from leadline.errors import InvalidRequest, NotFound

_PASSWORD = "password"  # noqa: S105 what is guarded, not one
WRONG_PASSWORD = "This is not your password."  # noqa: S105 a sentence


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session as the list shows it."""

    session: Session
    device: str
    is_this: bool


async def show(visit: Visit) -> Response:
    return await yours(visit)


async def change_name(visit: Visit) -> Response:
    try:
        await visit.instance.users.change_name(visit.user, visit.form["name"], visit.actor)
    except InvalidRequest as error:
        return await yours(visit, typed={"name": visit.form["name"]}, wrong={"name": str(error)})
    return visit.redirect("/settings", "Your name is changed.")


async def change_password(visit: Visit) -> Response:
    """Ends all sessions but this one."""
    instance, form = visit.instance, visit.form
    if not await is_own_password(visit, form.raw("present")):
        return await yours(visit, wrong={"present": WRONG_PASSWORD})
    try:
        await instance.users.change_password(
            *(visit.user, form.raw("password"), visit.actor), keep=visit.cookies.get(SESSION)
        )
    except InvalidRequest as error:
        return await yours(visit, wrong={"password": str(error)})
    return visit.redirect("/settings", "Your password is changed. You are signed out everywhere else.")


async def end_session(visit: Visit) -> Response:
    instance, session_id = visit.instance, visit.request.path_params["session"]
    if session_id == visit.session.id:
        return await _end_all(visit, only_this=True)
    if all(session.id != session_id for session in instance.sessions.of_user(visit.user.id)):
        raise NotFound("There is no such session.")
    row = audited(instance.keys.clock(), visit.actor, "users end-session", visit.user.id, ({}, {}))
    await instance.sessions.close_one(visit.user.id, session_id, row)
    return visit.redirect("/settings", "That session has ended.")


async def end_sessions(visit: Visit) -> Response:
    """Everywhere, here too."""
    return await _end_all(visit)


async def show_organisation(visit: Visit) -> Response:
    return await _organisation(visit)


async def rename(visit: Visit) -> Response:
    name = visit.form["org"]
    try:
        await visit.instance.organisations.rename(visit.organisation_id, name, visit.actor)
    except InvalidRequest as error:
        return await _organisation(visit, typed={"org": name}, wrong={"org": str(error)})
    return visit.redirect("/settings/organisation", "The organisation has its new name.")


async def yours(visit: Visit, typed: dict[str, str] | None = None, wrong: dict[str, str] | None = None) -> Response:
    """The visitor's own settings. `wrong` is by field: those of the password are `present` and `password`, that of the
    second factor is `two_factor`."""
    instance, user = visit.instance, visit.user
    sessions = instance.sessions.of_user(user.id)
    rows = [SessionRow(one, device_of(one.agent), one.id == visit.session.id) for one in sessions]
    context: dict[str, Any] = {
        "typed": {"name": user.name} | (typed or {}),
        "wrong": wrong or {},
        "sessions": sorted(rows, key=lambda row: not row.is_this),
        "codes_left": await instance.two_factor.recovery_codes_left(user.id) if user.two_factor else 0,
    }
    return visit.render("settings.html", 400 if wrong else 200, **context)


async def is_own_password(visit: Visit, password: str) -> bool:
    """Whether it is the visitor's. TooManyAttempts where he tries too often."""
    instance, email = visit.instance, visit.user.email
    instance.guard.attempt(_PASSWORD, email, visit.address)
    if await instance.users.check_password(email, password) is None:
        return False
    instance.guard.succeeded(_PASSWORD, email, visit.address)
    return True


PAGES = (
    Page("/settings", "settings", "member", show),
    Page("/settings/name", "settings", "member", post=change_name),
    Page("/settings/password", "settings", "member", post=change_password),
    Page("/settings/sessions/end", "settings", "member", post=end_sessions),
    Page("/settings/sessions/{session}/end", "settings", "member", post=end_session),
    Page("/settings/organisation", "settings", "see", show_organisation, rename, "settings"),
)


async def _end_all(visit: Visit, *, only_this: bool = False) -> Response:
    instance, user_id = visit.instance, visit.user.id
    action = "users end-session" if only_this else "users end-sessions"
    row = audited(instance.keys.clock(), visit.actor, action, user_id, ({}, {}))
    if only_this:
        await instance.sessions.close_one(user_id, visit.session.id, row)
    else:
        await instance.sessions.end(user_id, row)
    visit.cookies.forget(SESSION)
    return visit.redirect("/login", "You are signed out." if only_this else "You are signed out everywhere.")


async def _organisation(
    visit: Visit, typed: dict[str, str] | None = None, wrong: dict[str, str] | None = None
) -> Response:
    organisation = await visit.instance.organisations.get(visit.organisation_id)
    assert organisation is not None, "the visitor is a member of it"
    context: dict[str, Any] = {
        "organisation": organisation,
        "typed": {"org": organisation.name} | (typed or {}),
        "wrong": wrong or {},
        "founds": may_found(visit),
    }
    return visit.render("settings_organisation.html", 400 if wrong else 200, **context)

"""The visitor's second factor: turned on and off with the password, and codes for a lost phone."""

import msgspec
from starlette.responses import Response

from leadline.console.page import Page
from leadline.console.pages.settings import WRONG_PASSWORD, is_own_password, yours
from leadline.console.visit import Visit
from leadline.errors import InvalidRequest

# New recovery codes wait so long for their page.
_CODES, _CODES_SECONDS = "recovery", 300
_SETTINGS = "/settings#two-factor"


async def begin(visit: Visit) -> Response:
    """A secret for the visitor's phone. It changes nothing yet. Whoever found an open session does not lock its user
    out: he lacks the password."""
    if not await is_own_password(visit, visit.form.raw("password")):
        return await yours(visit, wrong={"two_factor": WRONG_PASSWORD})
    try:
        await visit.instance.two_factor.begin(visit.user)
    except InvalidRequest:
        # It is on already.
        return visit.redirect(_SETTINGS)
    return visit.redirect("/settings/two-factor")


async def show(visit: Visit) -> Response:
    return await _show(visit)


async def confirm(visit: Visit) -> Response:
    try:
        codes = await visit.instance.two_factor.confirm(visit.user, visit.form["code"], visit.actor)
    except InvalidRequest as error:
        return await _show(visit, wrong={"code": str(error)})
    return _show_once(visit, codes)


async def turn_off(visit: Visit) -> Response:
    if not await is_own_password(visit, visit.form.raw("password")):
        return await yours(visit, wrong={"two_factor": WRONG_PASSWORD})
    await visit.instance.two_factor.turn_off(visit.user, visit.actor)
    return visit.redirect(_SETTINGS, "Two-factor sign-in is off: your password alone is asked for.")


async def renew_codes(visit: Visit) -> Response:
    if not await is_own_password(visit, visit.form.raw("password")):
        return await yours(visit, wrong={"two_factor": WRONG_PASSWORD})
    try:
        codes = await visit.instance.two_factor.renew_recovery_codes(visit.user, visit.actor)
    except InvalidRequest:
        # It was turned off meanwhile.
        return visit.redirect(_SETTINGS)
    return _show_once(visit, codes)


async def show_codes(visit: Visit) -> Response:
    """Once: the codes are gone from the cookie with this answer."""
    kept = visit.cookies.open(_CODES)
    visit.cookies.forget(_CODES)
    user_id, codes = ("", []) if kept is None else msgspec.json.decode(kept, type=tuple[str, list[str]])
    if user_id != visit.user.id:
        return visit.redirect(_SETTINGS)
    return visit.render("two_factor_codes.html", codes=codes)


PAGES = (
    Page("/settings/two-factor", "settings", "member", show, confirm),
    Page("/settings/two-factor/begin", "settings", "member", post=begin),
    Page("/settings/two-factor/off", "settings", "member", post=turn_off),
    Page("/settings/two-factor/codes", "settings", "member", show_codes, renew_codes),
)


async def _show(visit: Visit, wrong: dict[str, str] | None = None) -> Response:
    enrolment = None if visit.user.two_factor else await visit.instance.two_factor.pending(visit.user)
    if enrolment is None:
        return visit.redirect(_SETTINGS)
    return visit.render("two_factor.html", 400 if wrong else 200, enrolment=enrolment, wrong=wrong or {})


def _show_once(visit: Visit, codes: list[str]) -> Response:
    visit.cookies.keep(_CODES, msgspec.json.encode([visit.user.id, codes]), _CODES_SECONDS)
    return visit.redirect("/settings/two-factor/codes")

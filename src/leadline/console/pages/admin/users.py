"""Everybody who can sign in here: search, suspension, administrators, and links for new passwords."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import msgspec
from starlette.responses import Response

from leadline.accounts.users import MOST_SHOWN, Shown, User
from leadline.administration.commands.users import (
    make_admin,
    make_reset_link,
    resume_user,
    suspend_user,
    turn_off_two_factor,
)
from leadline.clock import rfc3339
from leadline.console.csv_file import Cell, csv_file
from leadline.console.page import Page
from leadline.console.turning import path_of, turned
from leadline.console.visit import Visit
from leadline.errors import InvalidRequest, NotFound

PATH = "/admin/users"
COLUMNS = (
    *("id", "email", "name", "created_at", "verified_at", "suspended_at", "last_signed_in_at", "admin", "two_factor"),
    "organisations",
)
_SHOWN: tuple[tuple[Shown, str], ...] = (("all", "All"), ("admins", "Administrators"), ("suspended", "Suspended"))
# The link for a new password waits so long for its page.
_LINK, _LINK_SECONDS = "reset-link", 300


async def show(visit: Visit) -> Response:
    text, shown = visit.query("q"), _shown(visit)

    async def fetch(cursor: str | None, limit: int, *, oldest_first: bool) -> list[User]:
        return await visit.instance.users.page(text, shown, cursor, limit, oldest_first=oldest_first)

    kept = {"q": text, "show": "" if shown == "all" else shown}
    page = await turned(fetch, visit.request.query_params, PATH, kept)
    organisations = {user.id: await visit.instance.organisations.of_user(user.id) for user in page.rows}
    return visit.render(
        "admin/users.html",
        page=page,
        organisations=organisations,
        text=text,
        shown=shown,
        choices=[
            (path_of(PATH, {"q": text, "show": "" if name == "all" else name}), label, None) for name, label in _SHOWN
        ],
        here=path_of(PATH, kept),
        csv=path_of(f"{PATH}.csv", kept),
    )


async def download(visit: Visit) -> Response:
    return csv_file("users.csv", COLUMNS, _cells(visit, visit.query("q"), _shown(visit)))


async def show_one(visit: Visit) -> Response:
    return await _one(visit, await _found(visit))


async def suspend(visit: Visit) -> Response:
    user = await _found(visit)
    try:
        await suspend_user(visit.instance, visit.actor, user.email)
    except InvalidRequest as error:
        return await _one(visit, user, str(error))
    return visit.redirect(_path(user), f"{user.email} is suspended, and signed out everywhere.")


async def resume(visit: Visit) -> Response:
    user = await _found(visit)
    await resume_user(visit.instance, visit.actor, user.email)
    return visit.redirect(_path(user), f"{user.email} can sign in again.")


async def change_admin(visit: Visit) -> Response:
    user, off = await _found(visit), visit.form["admin"] != "yes"
    try:
        await make_admin(visit.instance, visit.actor, user.email, off=off)
    except InvalidRequest as error:
        return await _one(visit, user, str(error))
    if off and user.id == visit.user.id:
        return visit.redirect("/home", "You do not look after this server any more.")
    said = "does not look after this server any more" if off else "looks after this server now"
    return visit.redirect(_path(user), f"{user.email} {said}.")


async def two_factor_off(visit: Visit) -> Response:
    user = await _found(visit)
    await turn_off_two_factor(visit.instance, visit.actor, user.email)
    return visit.redirect(_path(user), f"{user.email} signs in by password alone, until it is turned on again.")


async def reset(visit: Visit) -> Response:
    """The link is shown on a page of its own, once."""
    user = await _found(visit)
    made = await make_reset_link(visit.instance, visit.actor, user.email)
    visit.cookies.keep(_LINK, msgspec.json.encode([user.id, made["link"]]), _LINK_SECONDS)
    return visit.redirect(f"{_path(user)}/link")


async def show_link(visit: Visit) -> Response:
    """Once: the link is gone from the cookie with this answer."""
    user = await _found(visit)
    kept = visit.cookies.open(_LINK)
    visit.cookies.forget(_LINK)
    user_id, url = ("", "") if kept is None else msgspec.json.decode(kept, type=tuple[str, str])
    if user_id != user.id:
        return visit.redirect(_path(user))
    return visit.render("admin/user_link.html", user=user, url=url)


PAGES = (
    Page(PATH, "admin-users", "admin", show),
    Page(f"{PATH}.csv", "admin-users", "admin", download),
    Page(f"{PATH}/{{user}}", "admin-users", "admin", show_one),
    Page(f"{PATH}/{{user}}/suspend", "admin-users", "admin", post=suspend),
    Page(f"{PATH}/{{user}}/resume", "admin-users", "admin", post=resume),
    Page(f"{PATH}/{{user}}/admin", "admin-users", "admin", post=change_admin),
    Page(f"{PATH}/{{user}}/two-factor-off", "admin-users", "admin", post=two_factor_off),
    Page(f"{PATH}/{{user}}/reset", "admin-users", "admin", post=reset),
    Page(f"{PATH}/{{user}}/link", "admin-users", "admin", show_link),
)


async def _one(visit: Visit, user: User, wrong: str = "") -> Response:
    return visit.render(
        "admin/user.html",
        400 if wrong else 200,
        user=user,
        organisations=await visit.instance.organisations.of_user(user.id),
        sessions=visit.instance.sessions.of_user(user.id),
        is_visitor=user.id == visit.user.id,
        wrong=wrong,
        here=_path(user),
    )


async def _found(visit: Visit) -> User:
    user = await visit.instance.users.get(visit.request.path_params["user"])
    if user is None:
        raise NotFound("There is no such user.")
    return user


async def _cells(visit: Visit, text: str, shown: Shown) -> AsyncIterator[list[Cell]]:
    before: str | None = None
    while True:
        users = await visit.instance.users.page(text, shown, before, MOST_SHOWN)
        for user in users:
            belongs = await visit.instance.organisations.of_user(user.id)
            times = (user.created_at, user.verified_at, user.suspended_at, user.last_signed_in_at)
            yield [
                *(user.id, user.email, user.name, *(None if at is None else rfc3339(at) for at in times)),
                *("yes" if is_so else "no" for is_so in (user.is_admin, user.two_factor)),
                "; ".join(f"{one.organisation} ({one.role})" for one in belongs),
            ]
        if len(users) < MOST_SHOWN:
            return
        before = users[-1].id


def _shown(visit: Visit) -> Shown:
    asked: Any = visit.query("show")
    found: Shown = asked if asked in dict(_SHOWN) else "all"
    return found


def _path(user: User) -> str:
    return f"{PATH}/{quote(user.id)}"
